//! Tries to break the promise that `coordinated` runs unwatched as a service: that its manager knows how
//! it fares, and that its log says who did what, without a word of anybody's data.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use tempfile::TempDir;
use test_support::{Client, PENDING, Server, run_to_end, wait_until};

const ARGUMENTS: [&str; 5] = ["serve", "--db", "test.db", "--listen", "127.0.0.1:0"];

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

// --- the service manager ---

/// What a service manager hears.
struct Manager(UnixDatagram);

impl Manager {
    fn at(address: &SocketAddr) -> Manager {
        let socket = UnixDatagram::bind_addr(address).expect("a socket");
        socket
            .set_read_timeout(Some(test_support::PATIENCE))
            .expect("timeout");
        Manager(socket)
    }

    fn at_path(path: &Path) -> Manager {
        Manager::at(&SocketAddr::from_pathname(path).expect("an address"))
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.0.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// Waits for a message with this line, and gives it with all that came before.
    fn until(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.next());
            if heard
                .last()
                .is_some_and(|last| last.lines().any(|l| l == line))
            {
                return heard;
            }
        }
    }
}

#[test]
fn a_service_manager_is_told_of_the_start_and_of_the_stop() {
    let folder = folder();
    let path = folder.path().join("notify");
    let manager = Manager::at_path(&path);
    let environment = [("NOTIFY_SOCKET", path.to_str().expect("a path"))];
    let mut server = Server::start_in(folder, &ARGUMENTS, &environment);
    let ready = manager.until("READY=1").pop().expect("a message");
    let status = ready
        .lines()
        .find_map(|line| line.strip_prefix("STATUS=listening on "));
    assert_eq!(status, Some(server.address()));
    server.connect().call("list_work_specs", "{}");
    assert_eq!(server.stop().code, Some(0));
    assert!(manager.until("STOPPING=1").len() == 1, "nothing in between");
}

#[test]
fn a_service_manager_may_have_an_abstract_socket() {
    let name = format!("coordinated-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let manager = Manager::at(&address);
    let name = format!("@{name}");
    let mut server = Server::start_in(folder(), &ARGUMENTS, &[("NOTIFY_SOCKET", &name)]);
    manager.until("READY=1");
    assert_eq!(server.stop().code, Some(0));
    manager.until("STOPPING=1");
}

#[test]
fn a_service_manager_that_watches_hears_from_an_idle_daemon_in_time() {
    let folder = folder();
    let path = folder.path().join("notify");
    let manager = Manager::at_path(&path);
    let environment = [
        ("NOTIFY_SOCKET", path.to_str().expect("a path")),
        ("WATCHDOG_USEC", "200000"),
    ];
    let mut server = Server::start_in(folder, &ARGUMENTS, &environment);
    manager.until("READY=1");
    for _ in 0..5 {
        assert_eq!(manager.next(), "WATCHDOG=1\n");
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn watching_that_is_meant_for_another_process_is_disregarded() {
    let folder = folder();
    let path = folder.path().join("notify");
    let manager = Manager::at_path(&path);
    let environment = [
        ("NOTIFY_SOCKET", path.to_str().expect("a path")),
        ("WATCHDOG_USEC", "1000"),
        ("WATCHDOG_PID", "1"),
    ];
    let mut server = Server::start_in(folder, &ARGUMENTS, &environment);
    server.connect().call("list_work_specs", "{}");
    assert_eq!(server.stop().code, Some(0));
    let heard = manager.until("STOPPING=1");
    assert!(
        heard.iter().all(|message| !message.contains("WATCHDOG")),
        "{heard:?}"
    );
}

#[test]
fn a_service_manager_that_is_gone_is_no_reason_not_to_serve() {
    for address in ["/no/such/socket", "@nobody-listens-here", "nonsense", ""] {
        let mut server = Server::start_in(folder(), &ARGUMENTS, &[("NOTIFY_SOCKET", address)]);
        server.connect().call("list_work_specs", "{}");
        assert_eq!(server.stop().code, Some(0), "{address}");
    }
}

#[test]
fn the_command_of_the_systemd_unit_serves() {
    let unit = include_str!("../../docs/coordinated.service");
    let command = unit
        .replace("\\\n", " ")
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=").map(str::to_owned))
        .expect("a command");
    let folder = folder();
    let here = folder.path().display().to_string();
    let command = command
        .replace("${STATE_DIRECTORY}", &here)
        .replace("${RUNTIME_DIRECTORY}", &here)
        .replace(":5932", ":0");
    let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
    let mut server = Server::start_in(folder, &arguments, &[]);
    assert_eq!(server.addresses().len(), 2);
    for address in server.addresses() {
        Client::connect(address).call("list_work_specs", "{}");
    }
    assert_eq!(server.stop().code, Some(0));
}

// --- the file with the process id ---

#[test]
fn the_pid_file_is_there_while_clients_are_served() {
    let folder = folder();
    let path = folder.path().join("pid");
    std::fs::write(&path, "1\n").expect("one of an earlier daemon");
    let mut arguments = ARGUMENTS.to_vec();
    arguments.extend(["--pid-file", "pid"]);
    let mut server = Server::start_in(folder, &arguments, &[]);
    let read = || std::fs::read_to_string(&path).expect("the file");
    assert_eq!(read(), format!("{}\n", server.pid()));
    server.kill();
    assert!(path.exists(), "a crash leaves it");
    server.start_again();
    assert_eq!(read(), format!("{}\n", server.pid()));
    assert_eq!(server.stop().code, Some(0));
    assert!(!path.exists(), "a clean stop does not");
}

#[test]
fn the_pid_file_of_another_daemon_is_left_there() {
    let folder = folder();
    let path = folder.path().join("pid");
    let mut arguments = ARGUMENTS.to_vec();
    arguments.extend(["--pid-file", "pid"]);
    let mut server = Server::start_in(folder, &arguments, &[]);
    std::fs::write(&path, "1\n").expect("that of a later daemon");
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "1\n");
}

#[test]
fn a_pid_file_that_cannot_be_written_is_said_in_one_line() {
    let folder = folder();
    let mut arguments = ARGUMENTS.to_vec();
    arguments.extend(["--pid-file", "no/such/folder/pid"]);
    let exit = run_to_end(folder.path(), &arguments, &[]);
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    assert!(exit.stderr.contains("--pid-file"), "{}", exit.stderr);
}

// --- the log ---

#[test]
fn sigusr1_writes_statistics_to_the_log() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'one'}");
    client.set_spec("{'name': 'two', 'disabled': true}");
    client.add("one", "['a', {}], ['b', {}], ['c', {}]");
    client.add("two", "['d', {}]");
    let work = client.take("w").expect("a unit");
    client.updated("one", &work.key.name().expect("a name"), "{'status': 4}");
    client.take("w").expect("a unit");
    assert_eq!(client.counts("one").get(&PENDING), Some(&1));
    server.signal(libc::SIGUSR1);
    wait_until("the statistics are in the log", || {
        server.log().contains("method=\"update_work_unit\"")
    });
    let log = server.log();
    for words in [
        "connections=1 accepted=1 refused=0 messages=8",
        "memory_kib=",
        "uptime=",
        "operations=8",
        "operations_per_commit=1.0",
        "work_specs=2 available=2 delayed=0 pending=1 finished=1 failed=0 archived_finished=0 archived_failed=0 wal_pages=",
        "method=\"set_work_spec\" count=2",
        "method=\"get_work\" count=2",
    ] {
        assert!(log.contains(words), "{words} in {log}");
    }
    // It goes on, and so it does without a log to look at.
    client.call("list_work_specs", "{}");
    let arguments = ["serve", "--db", ":memory:", "--listen", "127.0.0.1:0"];
    let server = Server::start_in(folder(), &arguments, &[]);
    server.signal(libc::SIGUSR1);
    wait_until("the statistics are in the log", || {
        server.log().contains("work_specs=0")
    });
    server.connect().call("list_work_specs", "{}");
}

/// Asks for all kinds of things, rightly and wrongly, with data that say that they are secret.
fn do_what_is_secret(client: &mut Client) {
    client.set_spec("{'name': 'ws', 'config': 'SECRET'}");
    client.add("ws", "['a', {'password': 'SECRET'}], ['b', {}]");
    client.call(
        "worker_heartbeat",
        "'w', 'RUN', 60, {'env': 'SECRET'}, null",
    );
    let work = client.take("w").expect("a unit");
    let key = work.key.name().expect("a name");
    client.updated("ws", &key, "{'status': 5, 'data': {'traceback': 'SECRET'}}");
    let wrong = [
        ("add_work_units", "'ws', [['c', 'SECRET']]"),
        ("add_work_units", "'ws', 'SECRET'"),
        ("set_work_spec", "{'name': 'ws', 'weight': 'SECRET'}"),
        (
            "update_work_unit",
            "'ws', 'b', {'lease_time': 'SECRET', 'status': 4}",
        ),
        ("get_work", "'w', {'max_jobs': 'SECRET'}"),
        ("worker_heartbeat", "'w', 'RUN', 'SECRET', {}, null"),
        ("worker_heartbeat", "'w', 'RUN', 60, 'SECRET', null"),
        ("lock", "'w', 'SECRET', [['a']]"),
        ("prioritize_work_units", "'ws', {'priority': 'SECRET'}"),
    ];
    for (method, params) in wrong {
        let params = test_support::diag(&format!("[{params}]"));
        let _ = client.request(method, params);
    }
}

#[test]
fn the_log_names_peer_method_and_work_spec_and_no_data() {
    let server = Server::start_with(&["--log", "trace"]);
    let mut client = server.connect();
    do_what_is_secret(&mut client);
    client.request("juggle", test_support::diag("['SECRET']"));
    // By name, too.
    let by_name = test_support::diag("{'work_spec_name': 'by-name'}");
    client.request("count_work_units", by_name);
    wait_until("the last request is in the log", || {
        server.log().contains("by-name")
    });
    let log = server.log();
    assert!(!log.contains("SECRET"), "{log}");
    let line = |words: &[&str]| {
        log.lines()
            .find(|line| words.iter().all(|word| line.contains(word)))
            .unwrap_or_else(|| panic!("{words:?} in {log}"))
    };
    let peer = "peer=127.0.0.1:";
    line(&[
        peer,
        "method=\"add_work_units\" spec=\"ws\"",
        "outcome=\"ok\"",
    ]);
    line(&[
        peer,
        "method=\"set_work_spec\" spec=\"ws\"",
        "outcome=\"ok\"",
    ]);
    line(&[
        peer,
        "method=\"get_work\"",
        "duration_us=",
        "outcome=\"ok\"",
    ]);
    line(&[peer, "method=\"count_work_units\" spec=\"by-name\""]);
    line(&[
        peer,
        "method=\"update_work_unit\" spec=\"ws\"",
        "outcome=\"failed\"",
        "lease_time",
    ]);
    line(&[peer, "outcome=\"failed\"", "unknown method juggle"]);
}

#[test]
fn the_json_log_names_the_same() {
    let server = Server::start_with(&["--log", "debug", "--log-format", "json"]);
    let mut client = server.connect();
    do_what_is_secret(&mut client);
    wait_until("the last request is in the log", || {
        server.log().contains("prioritize_work_units")
    });
    let log = server.log();
    assert!(!log.contains("SECRET"), "{log}");
    let request = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .find(|line| line["fields"]["method"] == "add_work_units")
        .expect("a request");
    assert_eq!(request["fields"]["spec"], "ws");
    assert_eq!(request["fields"]["outcome"], "ok");
    let peer = request["span"]["peer"].as_str().expect("a peer");
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
}

#[test]
fn requests_are_not_logged_unless_that_is_asked_for() {
    let server = Server::start();
    let mut client = server.connect();
    do_what_is_secret(&mut client);
    assert_eq!(server.log().lines().count(), 1, "{}", server.log());
}
