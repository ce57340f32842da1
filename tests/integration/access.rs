//! Tries to break the promise that only those get in who may: other machines only if `--allow` names
//! them, and other users of this one neither by a socket's file nor by the database's.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;
use test_support::{Client, Server, Value, diag, frame, run_to_end, wait_until};

fn mode_of(path: &Path) -> u32 {
    let metadata = std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    metadata.permissions().mode() & 0o7777
}

/// Asks for the time from one of this machine's addresses: the kind of failure, if it was not answered.
fn ask_from(source: &str, server: &str) -> Result<(), ErrorKind> {
    let source: SocketAddr = format!("{source}:0").parse().expect("an address");
    let server: SocketAddr = server.parse().expect("an address");
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    socket.bind(&SockAddr::from(source)).expect("bind");
    let connected = socket.connect(&SockAddr::from(server));
    let mut stream = TcpStream::from(socket);
    stream
        .set_read_timeout(Some(test_support::PATIENCE))
        .expect("timeout");
    let mut answer = [0; 1];
    connected
        .and_then(|()| stream.write_all(&frame(&diag("{'id': 1, 'method': 'now', 'params': []}"))))
        .and_then(|()| stream.read_exact(&mut answer))
        .map_err(|error| error.kind())
}

fn is_refused(outcome: Result<(), ErrorKind>) -> bool {
    matches!(
        outcome,
        Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
    )
}

// --- networks ---

#[test]
fn an_address_that_others_can_reach_needs_a_list_of_networks() {
    let folder = TempDir::new().expect("a folder");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let exit = run_to_end(folder.path(), &["serve", "--listen", address], &[]);
        assert_eq!(exit.code, Some(1), "{}", exit.stderr);
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
        for words in [address, "--allow 127.0.0.0/8,10.0.0.0/8"] {
            assert!(exit.stderr.contains(words), "{words} in {}", exit.stderr);
        }
    }
    // One that needs it is enough.
    let both = ["serve", "--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0"];
    let exit = run_to_end(folder.path(), &both, &[]);
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
}

#[test]
fn networks_that_are_none_are_wrong_usage() {
    let folder = TempDir::new().expect("a folder");
    for networks in ["", "localhost", "10.0.0.0/33", "10.0.0.5/8", "10.0.0.0/8,"] {
        let exit = run_to_end(folder.path(), &["serve", "--allow", networks], &[]);
        assert_eq!(exit.code, Some(2), "{networks}: {}", exit.stderr);
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        0
    );
}

#[test]
fn the_list_says_all_about_who_may_connect() {
    let server = Server::start_with(&["--allow", "127.0.0.2,10.0.0.0/8"]);
    assert_eq!(ask_from("127.0.0.2", server.address()), Ok(()));
    for refused in ["127.0.0.1", "127.0.0.3"] {
        let outcome = ask_from(refused, server.address());
        assert!(is_refused(outcome), "{refused}: {outcome:?}");
    }
    assert_eq!(ask_from("127.0.0.2", server.address()), Ok(()));
    wait_until("the refusal is in the log", || {
        let log = server.log();
        log.contains("its network is not allowed") && log.contains("peer=127.0.0.1:")
    });
}

#[test]
fn the_list_can_come_from_the_environment() {
    let arguments = ["serve", "--db", "test.db", "--listen", "127.0.0.1:0"];
    let environment = [("COORDINATED_ALLOW", "10.0.0.0/8,127.0.0.8/29")];
    let folder = TempDir::new().expect("a folder");
    let server = Server::start_in(folder, &arguments, &environment);
    assert_eq!(ask_from("127.0.0.9", server.address()), Ok(()));
    assert!(is_refused(ask_from("127.0.0.1", server.address())));
}

#[test]
fn ipv4_peers_of_an_ipv6_listener_are_known_by_their_ipv4_address() {
    let listen = "[::ffff:127.0.0.1]:0";
    if let Err(error) = std::net::TcpListener::bind(listen) {
        eprintln!("SKIPPED: this machine has no IPv6 sockets for IPv4: {error}");
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let arguments = ["serve", "--listen", listen, "--allow", "127.0.0.2"];
    let server = Server::start_in(folder, &arguments, &[]);
    let (_, port) = server.address().rsplit_once(':').expect("a port");
    let address = format!("127.0.0.1:{port}");
    assert_eq!(ask_from("127.0.0.2", &address), Ok(()));
    assert!(is_refused(ask_from("127.0.0.1", &address)));
}

#[test]
fn a_flood_of_refused_peers_neither_fills_the_log_nor_stops_the_others() {
    const FLOOD: usize = 300;
    let server = Server::start_with(&["--allow", "127.0.0.2"]);
    for _ in 0..FLOOD {
        assert!(is_refused(ask_from("127.0.0.1", server.address())));
    }
    assert_eq!(ask_from("127.0.0.2", server.address()), Ok(()));
    let lines = server.log().matches("refused a connection").count();
    // One in five seconds.
    assert!((1..FLOOD / 10).contains(&lines), "{lines} lines");
}

// --- Unix sockets ---

#[test]
fn a_unix_socket_is_private_unless_a_mode_is_given() {
    for (given, mode) in [(None, 0o600), (Some("0660"), 0o660), (Some("666"), 0o666)] {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("socket");
        let address = format!("unix:{}", path.display());
        let mut arguments = vec!["serve", "--db", "test.db", "--listen", &address];
        if let Some(given) = given {
            arguments.extend(["--socket-mode", given]);
        }
        let mut server = Server::start_in(folder, &arguments, &[]);
        assert_eq!(mode_of(&path), mode, "{given:?}");
        server.connect().call("list_work_specs", "{}");
        // Nor does one that a crash left behind give others more.
        server.kill();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).expect("chmod");
        server.start_again();
        assert_eq!(mode_of(&path), mode, "{given:?}");
        assert_eq!(server.stop().code, Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn socket_modes_that_are_none_are_wrong_usage() {
    let folder = TempDir::new().expect("a folder");
    for mode in ["", "rw", "0680", "1777", "-1"] {
        let exit = run_to_end(folder.path(), &["serve", "--socket-mode", mode], &[]);
        assert_eq!(exit.code, Some(2), "{mode}: {}", exit.stderr);
    }
}

#[test]
fn the_list_of_networks_is_not_about_unix_sockets() {
    let folder = TempDir::new().expect("a folder");
    let address = format!("unix:{}", folder.path().join("socket").display());
    let arguments = ["serve", "--listen", &address, "--allow", "10.0.0.0/8"];
    let server = Server::start_in(folder, &arguments, &[]);
    Client::connect(server.address()).call("list_work_specs", "{}");
}

// --- files ---

#[test]
fn all_that_it_makes_is_private_whatever_the_umask() {
    for umask in [0o000, 0o022, 0o077, 0o277] {
        let mut server = Server::start_under_umask(umask);
        let mut client = server.connect();
        client.set_spec("{'name': 'ws'}");
        client.add("ws", "['a', {}]");
        // A listing opens a connection of its own to the file.
        client.value("get_work_units", "'ws', {'limit': 10000}");
        for name in ["test.db", "test.db-wal", "test.db-shm", "test.db-lock"] {
            let mode = mode_of(&server.folder().join(name));
            assert_eq!(mode, 0o600, "{name} under {umask:o}: {mode:o}");
        }
        assert_eq!(server.stop().code, Some(0));
        assert_eq!(mode_of(&server.db()), 0o600);
    }
}

#[test]
fn the_mode_of_a_file_that_is_there_is_left_alone() {
    let mut server = Server::start();
    server.connect().set_spec("{'name': 'ws'}");
    server.stop();
    std::fs::set_permissions(server.db(), PermissionsExt::from_mode(0o640)).expect("chmod");
    server.start_again();
    let mut client = server.connect();
    assert_eq!(client.spec_names(), ["ws"]);
    client.set_spec("{'name': 'another'}");
    for name in ["test.db", "test.db-wal", "test.db-shm"] {
        assert_eq!(mode_of(&server.folder().join(name)), 0o640, "{name}");
    }
    server.kill();
    server.start_again();
    assert_eq!(mode_of(&server.db()), 0o640);
}

#[test]
fn a_link_to_a_place_where_no_file_is_yet_gives_a_private_file_there() {
    let folder = TempDir::new().expect("a folder");
    let real = folder.path().join("real.db");
    std::os::unix::fs::symlink(&real, folder.path().join("link.db")).expect("a link");
    let arguments = ["serve", "--db", "link.db", "--listen", "127.0.0.1:0"];
    let server = Server::start_in(folder, &arguments, &[]);
    server.connect().set_spec("{'name': 'ws'}");
    assert_eq!(mode_of(&real), 0o600);
    let specs = server.connect().value("list_work_specs", "{}");
    assert!(!matches!(specs, Value::Null));
}
