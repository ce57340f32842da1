//! The daemon as a process: start, stop, the command line, the environment, the file.

use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use test_support::{
    AVAILABLE, Client, Exit, FAILED, FINISHED, PENDING, Reply, Server, Value, diag, frame, reply,
    run_to_end, unframe, wait_until,
};

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

/// The names of what is in a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    names.sort();
    names
}

fn clock() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time after 1970")
        .as_secs_f64()
}

/// A start that fails: exit code 1, and one line on stderr that has these words in it.
fn fails_with_one_line(exit: &Exit, words: &[&str]) {
    assert_eq!(exit.code, Some(1), "{}", exit.stderr);
    let lines: Vec<&str> = exit
        .stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(lines.len(), 1, "{}", exit.stderr);
    for word in words {
        assert!(lines[0].contains(word), "{word:?} in {:?}", lines[0]);
    }
}

/// Waits for the end of a connection: true if it was a reset.
fn ends_by_a_reset(client: &mut Client) -> bool {
    loop {
        match client.receive() {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

// --- start ---

#[test]
fn without_arguments_it_makes_its_file_and_listens() {
    for arguments in [&[][..], &["serve"]] {
        let mut server = Server::start_in(
            folder(),
            arguments,
            &[("COORDINATED_LISTEN", "127.0.0.1:0")],
        );
        assert!(
            server.address().starts_with("127.0.0.1:"),
            "{}",
            server.address()
        );
        server.connect().set_spec("{'name': 'ws'}");
        assert_eq!(server.stop().code, Some(0));
        assert_eq!(files(server.folder()), ["coordinate.db"]);
    }
}

#[test]
fn it_says_where_it_listens_in_one_line_for_each_address() {
    let server = Server::start_with(&["--listen", "127.0.0.1:0"]);
    let addresses = server.addresses().to_vec();
    assert_eq!(addresses.len(), 2);
    assert_ne!(addresses[0], addresses[1]);
    assert_eq!(
        server.log().matches("listening on").count(),
        2,
        "{}",
        server.log()
    );
    Client::connect(&addresses[0]).set_spec("{'name': 'ws'}");
    assert_eq!(Client::connect(&addresses[1]).spec_names(), ["ws"]);
}

#[test]
fn a_database_in_memory_leaves_no_file() {
    let mut server = Server::start_in(
        folder(),
        &["serve", "--db", ":memory:", "--listen", "127.0.0.1:0"],
        &[],
    );
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['a', {}]");
    client.take_key("w", "a");
    client.updated("ws", "a", "{'status': 4}");
    assert_eq!(client.counts("ws"), [(FINISHED, 1)].into());
    assert_eq!(files(server.folder()), [""; 0]);
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(files(server.folder()), [""; 0]);
}

#[test]
fn it_listens_on_ipv6() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        eprintln!("SKIPPED: this machine has no IPv6 loopback: {error}");
        return;
    }
    let server = Server::start_with(&["--listen", "[::1]:0"]);
    let address = server
        .addresses()
        .iter()
        .find(|address| address.starts_with("[::1]:"))
        .expect("an IPv6 address");
    Client::connect(address).set_spec("{'name': 'ws'}");
    assert_eq!(server.connect().spec_names(), ["ws"]);
}

#[test]
fn it_listens_on_a_unix_socket() {
    let folder = folder();
    let path = folder.path().join("socket").display().to_string();
    let address = format!("unix:{path}");
    let db = folder.path().join("test.db").display().to_string();
    let mut server = Server::start_in(folder, &["serve", "--db", &db, "--listen", &address], &[]);
    assert_eq!(server.address(), address);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    // In pieces, with an end, and several at once, as over TCP.
    let request = frame(&diag(
        "{'id': 1, 'method': 'get_work_spec', 'params': ['ws']}",
    ));
    client.send(&request[..5]);
    client.send(&request[5..]);
    client.send(&request.repeat(10));
    client.end_sending();
    assert_eq!(client.answers_until_closed().len(), 11);
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(files(server.folder()), ["test.db"], "the socket is gone");
    server.start_again();
    assert_eq!(server.connect().spec_names(), ["ws"]);
    // What a crash leaves does not hinder the next start.
    server.kill();
    assert!(files(server.folder()).contains(&"socket".to_owned()));
    server.start_again();
    assert_eq!(server.connect().spec_names(), ["ws"]);
    // But a socket where somebody answers does.
    let exit = run_to_end(
        server.folder(),
        &["serve", "--db", "other.db", "--listen", &address],
        &[],
    );
    fails_with_one_line(&exit, &[&path]);
    assert_eq!(server.connect().spec_names(), ["ws"]);
}

#[test]
fn the_namespace_is_a_world_of_its_own() {
    let folder = folder();
    let db = folder.path().join("test.db").display().to_string();
    let start = |folder, namespace: &str| {
        Server::start_in(
            folder,
            &[
                "serve",
                "--db",
                &db,
                "--listen",
                "127.0.0.1:0",
                "--namespace",
                namespace,
            ],
            &[],
        )
    };
    // One folder for all, which the last one removes.
    let mut server = start(folder, "one");
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'n': 1}");
    client.add("ws", "['a', {}]");
    client.done("worker_heartbeat", "'w', 'RUN', 6000, {}, null");
    client.done("lock", "'me', 600, [['l']]");
    server.stop();
    for namespace in ["two", ""] {
        let mut other = start(TempDir::new().unwrap(), namespace);
        let mut client = other.connect();
        assert_eq!(client.spec_names(), [""; 0], "in {namespace:?}");
        assert_eq!(client.take("w"), None, "in {namespace:?}");
        assert_eq!(
            client.value("list_worker_modes", ""),
            diag("{}"),
            "in {namespace:?}"
        );
        client.set_spec("{'name': 'ws', 'n': 2}");
        assert_eq!(client.counts("ws"), [].into(), "in {namespace:?}");
        assert_eq!(
            client.call("readlock", "[['l']]").item(0).name().as_deref(),
            Some("me"),
            "locks have no namespace"
        );
        assert_eq!(
            client.call("clear", ""),
            Value::Unsigned(1),
            "in {namespace:?}"
        );
        other.stop();
    }
    server.start_again();
    let mut client = server.connect();
    assert_eq!(
        *client.call("get_work_spec", "'ws'").at("n"),
        Value::Unsigned(1)
    );
    client.take_key("w", "a");
}

#[test]
fn the_configuration_file_is_given_back() {
    let folder = folder();
    let yaml = "coordinate:\n  job_queue:\n    limit: 5\n    ratio: 1.5\n    \"on\": true\n    none: null\n    list: [a, 2]\n  text: \"\u{fc}\"\n";
    std::fs::write(folder.path().join("config.yaml"), yaml).expect("write");
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--config",
        "config.yaml",
    ];
    let server = Server::start_in(folder, &arguments, &[]);
    let config = server.connect().value("get_config", "");
    let queue = config.at("coordinate").at("job_queue");
    assert_eq!(*queue.at("limit"), Value::Unsigned(5), "{config}");
    assert_eq!(*queue.at("ratio"), Value::Float(1.5), "{config}");
    assert_eq!(*queue.at("on"), Value::Bool(true), "{config}");
    assert_eq!(*queue.at("none"), Value::Null, "{config}");
    assert_eq!(
        queue.at("list").item(0).name().as_deref(),
        Some("a"),
        "{config}"
    );
    assert_eq!(*queue.at("list").item(1), Value::Unsigned(2), "{config}");
    assert_eq!(
        config.at("coordinate").at("text").name().as_deref(),
        Some("\u{fc}"),
        "{config}"
    );
}

// --- the environment ---

#[test]
fn every_option_can_be_given_in_the_environment() {
    let folder = folder();
    std::fs::write(folder.path().join("config.yaml"), "answer: 42\n").expect("write");
    let environment = [
        ("COORDINATED_DB", "env.db"),
        ("COORDINATED_LISTEN", "127.0.0.1:0"),
        ("COORDINATED_NAMESPACE", "space"),
        ("COORDINATED_CONFIG", "config.yaml"),
        ("COORDINATED_LOG", "debug"),
        ("COORDINATED_LOG_FORMAT", "json"),
        ("COORDINATED_MAX_MESSAGE", "1MiB"),
    ];
    let mut server = Server::start_in(folder, &["serve"], &environment);
    let mut client = server.connect();
    assert_eq!(
        *client.value("get_config", "").at("answer"),
        Value::Unsigned(42)
    );
    client.set_spec("{'name': 'ws'}");
    wait_until("a line below the level info", || {
        server.log().contains("DEBUG")
    });
    for line in server.log().lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(line.is_object());
    }
    let large = Value::Map(vec![(Value::bytes("x"), Value::Bytes(vec![0; 2 << 20]))]);
    let _ = client.try_send(&frame(&large));
    client.answers_until_closed();
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(files(server.folder()), ["config.yaml", "env.db"]);
    // The last one is the former name of COORDINATED_MAX_WAL.
    for name in [
        "COORDINATED_LOG_FORMAT",
        "COORDINATED_MAX_WAL",
        "COORDINATED_MAX_LOG",
    ] {
        let arguments = ["serve", "--db", "env.db"];
        let exit = run_to_end(server.folder(), &arguments, &[(name, "xml")]);
        assert_eq!(exit.code, Some(2), "{name}: {}", exit.stderr);
    }
    // The namespace was another than the default one.
    let copy = self::folder();
    std::fs::copy(server.folder().join("env.db"), copy.path().join("env.db")).expect("copy");
    let again = Server::start_in(
        copy,
        &["serve", "--db", "env.db", "--listen", "127.0.0.1:0"],
        &[],
    );
    assert_eq!(again.connect().spec_names(), [""; 0]);
}

#[test]
fn a_flag_goes_before_the_environment() {
    let environment = [
        ("COORDINATED_DB", "env.db"),
        ("COORDINATED_LISTEN", "unix:env.socket"),
    ];
    for arguments in [
        &["serve", "--db", "flag.db", "--listen", "127.0.0.1:0"][..],
        &["--db", "flag.db", "--listen", "127.0.0.1:0"],
    ] {
        let mut server = Server::start_in(folder(), arguments, &environment);
        assert!(
            server.address().starts_with("127.0.0.1:"),
            "{arguments:?}: {}",
            server.address()
        );
        server.connect().set_spec("{'name': 'ws'}");
        server.stop();
        assert_eq!(files(server.folder()), ["flag.db"], "{arguments:?}");
    }
}

#[test]
fn every_environment_variable_that_the_help_names_is_of_this_program() {
    let exit = run_to_end(folder().path(), &["serve", "--help"], &[]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    for name in ["DB", "LISTEN", "NAMESPACE", "CONFIG", "LOG", "LOG_FORMAT"] {
        assert!(
            exit.stdout.contains(&format!("COORDINATED_{name}")),
            "{name} in {}",
            exit.stdout
        );
    }
    for name in exit.stdout.split("[env: ").skip(1) {
        assert!(name.starts_with("COORDINATED_"), "{name}");
    }
}

// --- starts that fail ---

#[test]
fn a_port_in_use_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let folder = folder();
    let exit = run_to_end(folder.path(), &["serve", "--listen", &address], &[]);
    fails_with_one_line(&exit, &[&address]);
    let server = Server::start();
    let exit = run_to_end(folder.path(), &["serve", "--listen", server.address()], &[]);
    fails_with_one_line(&exit, &[server.address()]);
    server.connect().call("list_work_specs", "{}");
}

#[test]
fn a_folder_that_cannot_be_written_is_said_in_one_line() {
    let folder = folder();
    std::fs::write(folder.path().join("file"), "no folder").expect("write");
    for db in ["file/test.db", "no/such/folder/test.db"] {
        let exit = run_to_end(
            folder.path(),
            &["serve", "--db", db, "--listen", "127.0.0.1:0"],
            &[],
        );
        fails_with_one_line(&exit, &[db]);
    }
    assert_eq!(files(folder.path()), ["file"]);
}

#[test]
fn a_file_that_is_no_database_is_said_in_one_line_and_left_alone() {
    let folder = folder();
    let text = "this is a letter to my grandmother\n".repeat(300);
    std::fs::write(folder.path().join("letter.txt"), &text).expect("write");
    let exit = run_to_end(
        folder.path(),
        &["serve", "--db", "letter.txt", "--listen", "127.0.0.1:0"],
        &[],
    );
    fails_with_one_line(&exit, &["letter.txt"]);
    assert_eq!(
        std::fs::read_to_string(folder.path().join("letter.txt")).expect("read"),
        text
    );
    assert_eq!(files(folder.path()), ["letter.txt"]);
}

#[test]
fn a_database_of_a_newer_version_is_said_in_one_line_and_left_alone() {
    let mut server = Server::start();
    server.connect().set_spec("{'name': 'ws'}");
    server.stop();
    let db = server.db();
    let version = |set: Option<i64>| {
        let connection = rusqlite::Connection::open(&db).expect("open");
        if let Some(version) = set {
            connection
                .pragma_update(None, "user_version", version)
                .expect("set the version");
        }
        connection
            .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
            .expect("the version")
    };
    let real = version(None);
    assert_eq!(version(Some(9999)), 9999);
    let path = db.display().to_string();
    let exit = run_to_end(
        server.folder(),
        &["serve", "--db", &path, "--listen", "127.0.0.1:0"],
        &[],
    );
    fails_with_one_line(&exit, &[&path, "9999"]);
    assert_eq!(version(None), 9999);
    version(Some(real));
    server.start_again();
    assert_eq!(server.connect().spec_names(), ["ws"]);
}

#[test]
fn a_second_daemon_on_the_same_file_is_said_in_one_line() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let path = server.db().display().to_string();
    let exit = run_to_end(
        server.folder(),
        &["serve", "--db", &path, "--listen", "127.0.0.1:0"],
        &[],
    );
    fails_with_one_line(&exit, &[&path]);
    // By another way to the same file, too.
    std::fs::create_dir(server.folder().join("sub")).expect("a folder");
    let way = server.folder().join("sub/../test.db").display().to_string();
    let exit = run_to_end(
        server.folder(),
        &["serve", "--db", &way, "--listen", "127.0.0.1:0"],
        &[],
    );
    fails_with_one_line(&exit, &["test.db"]);
    client.add("ws", "['a', {}]");
    assert_eq!(client.counts("ws"), [(AVAILABLE, 1)].into());
}

#[test]
fn the_file_of_a_daemon_that_crashed_can_be_opened() {
    let mut server = Server::start();
    server.connect().set_spec("{'name': 'ws'}");
    server.kill();
    server.start_again();
    assert_eq!(server.connect().spec_names(), ["ws"]);
}

#[test]
fn a_configuration_that_cannot_be_read_is_said_in_one_line() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.yaml"), "a: [1, 2\nb: }\n").expect("write");
    for file in ["bad.yaml", "missing.yaml"] {
        let exit = run_to_end(
            folder.path(),
            &["serve", "--listen", "127.0.0.1:0", "--config", file],
            &[],
        );
        fails_with_one_line(&exit, &[file]);
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let rows: [&[&str]; 12] = [
        &["serve", "--nonsense"],
        &["nonsense"],
        &["serve", "nonsense"],
        &["serve", "--listen"],
        &["serve", "--db"],
        &["serve", "--log-format", "xml"],
        &["serve", "--log", "deafening"],
        &["serve", "--synchronous", "maybe"],
        &["serve", "--lease-grace", "soon"],
        &["serve", "--max-message", "many"],
        &["serve", "--max-connections", "-1"],
        &["serve", "--listen", "127.0.0.1:99999"],
    ];
    let folder = folder();
    for arguments in rows {
        let exit = run_to_end(folder.path(), arguments, &[]);
        assert_eq!(exit.code, Some(2), "{arguments:?}: {}", exit.stderr);
        assert!(!exit.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(files(folder.path()), [""; 0], "nothing was begun");
}

#[test]
fn help_and_version_go_to_stdout() {
    for arguments in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let exit = run_to_end(folder().path(), arguments, &[]);
        assert_eq!(exit.code, Some(0), "{arguments:?}: {}", exit.stderr);
        assert!(
            exit.stdout.contains("coordinated"),
            "{arguments:?}: {}",
            exit.stdout
        );
    }
}

// --- logs ---

#[test]
fn logs_are_text_or_json() {
    let server = Server::start_with(&["--log-format", "json", "--log", "info"]);
    server.connect().call("list_work_specs", "{}");
    let log = server.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(line.is_object());
    }
    let server = Server::start_with(&["--log-format", "text"]);
    assert!(
        server.log().lines().all(|line| !line.starts_with('{')),
        "{}",
        server.log()
    );
}

// --- stop ---

#[test]
fn sigterm_and_sigint_stop_it_cleanly_and_leave_one_file() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut server = Server::start();
        let mut client = server.connect();
        client.set_spec("{'name': 'ws'}");
        client.add("ws", "['a', {}], ['b', {}]");
        client.take_key("w", "a");
        server.signal(signal);
        let exit = server.wait();
        assert_eq!(exit.code, Some(0), "{}", exit.stderr);
        assert_eq!(files(server.folder()), ["test.db"]);
        // The file alone is a backup.
        let copy = folder();
        std::fs::copy(server.db(), copy.path().join("copy.db")).expect("copy");
        let copied = Server::start_in(
            copy,
            &["serve", "--db", "copy.db", "--listen", "127.0.0.1:0"],
            &[],
        );
        assert_eq!(
            copied.connect().counts("ws"),
            [(AVAILABLE, 1), (PENDING, 1)].into()
        );
    }
}

#[test]
fn a_hangup_signal_does_not_stop_it() {
    let server = Server::start();
    server.signal(libc::SIGHUP);
    server.connect().set_spec("{'name': 'ws'}");
    server.connect().call("list_work_specs", "{}");
}

#[test]
fn idle_connections_are_reset_at_a_clean_stop() {
    let mut server = Server::start();
    let mut used = server.connect();
    let mut unused = server.connect();
    let mut halfway = server.connect();
    used.call("list_work_specs", "{}");
    halfway.send(&frame(&diag("{'id': 1, 'method': 'now', 'params': []}"))[..9]);
    // All have been accepted once a later one is answered.
    server.connect().call("list_work_specs", "{}");
    assert_eq!(server.stop().code, Some(0));
    assert!(ends_by_a_reset(&mut used));
    assert!(ends_by_a_reset(&mut unused));
    assert!(ends_by_a_reset(&mut halfway));
}

#[test]
fn what_was_received_whole_is_answered_before_the_stop() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let mut bytes = Vec::new();
    for i in 0..300 {
        let params = format!("['ws', [['u{i:03}', {{}}]]]");
        bytes.extend(frame(&diag(&format!(
            "{{'id': {i}, 'method': 'add_work_units', 'params': {params}}}"
        ))));
    }
    client.send(&bytes);
    assert_eq!(*client.next_answer().at("id"), Value::Unsigned(0));
    server.signal(libc::SIGTERM);
    let answers = client.answers_until_closed();
    assert_eq!(server.wait().code, Some(0));
    assert_eq!(answers.len(), 299);
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(*answer.at("id"), Value::Unsigned(i as u64 + 1));
        assert!(answer.get("result").is_some(), "{answer}");
    }
    server.start_again();
    assert_eq!(server.connect().counts("ws"), [(AVAILABLE, 300)].into());
}

#[test]
fn the_port_is_free_for_the_next_daemon_at_once() {
    let mut server = Server::start();
    let mut client = server.connect();
    for _ in 0..3 {
        client.call("list_work_specs", "{}");
        server.restart();
        client = server.connect();
    }
}

// --- what stays ---

#[test]
fn everything_outlives_a_restart() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'weight': 7, 'max_running': 5}");
    client.done("control_work_spec", "'ws', {'weight': 9}");
    client.add(
        "ws",
        "['a', {'n': 1}], ['b', {}], ['c', {}], ['d', {}, {'delay': 3600}, 5], ['e', {}, null, 2]",
    );
    client.updated("ws", "b", "{'status': 4, 'data': {'done': 1}}");
    client.updated("ws", "c", "{'status': 5, 'data': {'traceback': 'tb'}}");
    client.take_key("w", "e");
    let seen = |client: &mut Client| {
        let keys = "'ws', ['a', 'b', 'c', 'd', 'e']";
        [
            client.call("get_work_units", "'ws', {}"),
            client.call("get_work_unit_status", keys),
            client.call("get_work_spec_meta", "'ws'"),
            client.call("count_work_units", "'ws'"),
            client.call("list_work_specs", "{}"),
        ]
    };
    let before = seen(&mut client);
    server.restart();
    let mut client = server.connect();
    assert_eq!(seen(&mut client), before);
    server.kill();
    server.start_again();
    let mut client = server.connect();
    assert_eq!(seen(&mut client), before);
    client.updated("ws", "e", "{'status': 4}");
    client.take_key("w", "a");
    assert_eq!(client.take("w"), None, "the delayed unit waits on");
}

/// Clients that add units to `ws` and finish them with an output, each as fast as it can, until `end`
/// is called (when much has been done) and ends them. Gives the keys whose finish was answered.
fn busy_until(server: &Server, end: impl FnOnce()) -> Vec<String> {
    let finished = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let finished = &finished;
            scope.spawn(move || {
                let mut client = server.connect();
                let request = |method: &str, params: String| {
                    frame(&diag(&format!(
                        "{{'id': 1, 'method': '{method}', 'params': [{params}]}}"
                    )))
                };
                for i in 0.. {
                    let key = format!("u{thread}-{i:05}");
                    let output = format!("{{'output': ['{key}']}}");
                    let add = request("add_work_units", format!("'ws', [['{key}', {{'n': {i}}}]]"));
                    let done = request(
                        "update_work_unit",
                        format!("'ws', '{key}', {{'status': 4, 'data': {output}}}"),
                    );
                    for bytes in [add, done] {
                        if client.try_send(&bytes).is_err() {
                            return;
                        }
                        match client.next_frame() {
                            Ok(Some(frame)) => {
                                assert!(matches!(reply(&unframe(&frame)), Reply::Result(_)))
                            }
                            _ => return,
                        }
                    }
                    finished.lock().unwrap().push(key);
                }
            });
        }
        wait_until("much was done", || finished.lock().unwrap().len() >= 200);
        end();
    });
    finished.into_inner().unwrap()
}

/// Checks that all these units are finished, and that each finish made its unit in `next`, even one
/// that was not answered.
fn all_there(server: &Server, finished: &[String]) {
    let mut client = server.connect();
    for keys in finished.chunks(500) {
        let list: Vec<Value> = keys.iter().map(Value::bytes).collect();
        let params = vec![Value::bytes("ws"), Value::Array(list)];
        let answer = client.call_with("get_work_unit_status", params);
        for (key, status) in keys.iter().zip(answer.item(0).items()) {
            assert!(!status.is_null(), "{key} is lost");
            assert_eq!(*status.at("status"), Value::Unsigned(FINISHED), "{key}");
        }
    }
    let counts = client.counts("ws");
    // What was not answered is at most one operation for each of the four.
    assert!(
        counts[&FINISHED] <= finished.len() as u64 + 4,
        "{counts:?} for {}",
        finished.len()
    );
    assert!(
        counts.get(&AVAILABLE).is_none_or(|count| *count <= 4),
        "{counts:?}"
    );
    assert_eq!(
        client.counts("next"),
        [(AVAILABLE, counts[&FINISHED])].into(),
        "a finish and its output go together"
    );
}

#[test]
fn what_was_answered_outlives_a_crash() {
    for synchronous in ["full", "normal", "off"] {
        let mut server = Server::start_with(&["--synchronous", synchronous]);
        let mut client = server.connect();
        client.set_spec("{'name': 'ws', 'then': 'next'}");
        client.set_spec("{'name': 'next'}");
        let finished = busy_until(&server, || server.signal(libc::SIGKILL));
        server.wait();
        server.start_again();
        all_there(&server, &finished);
        assert_eq!(server.stop().code, Some(0));
        assert_eq!(ask(&server.db(), "PRAGMA integrity_check;"), ["ok"]);
    }
}

#[test]
fn a_stop_in_the_middle_of_much_work_loses_nothing() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'then': 'next'}");
    client.set_spec("{'name': 'next'}");
    let finished = busy_until(&server, || server.signal(libc::SIGTERM));
    let exit = server.wait();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(files(server.folder()), ["test.db"]);
    server.start_again();
    all_there(&server, &finished);
}

#[test]
fn leases_that_ran_out_while_it_was_down_have_a_grace() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['a', {}], ['b', {}]");
    client.take_key("w", "a");
    client.take_key("w", "b");
    client.updated("ws", "a", "{'lease_time': 2}");
    client.updated("ws", "b", "{'lease_time': 2}");
    server.kill();
    let end = clock() + 2.1;
    wait_until("the leases have run out", || clock() > end);
    server.start_again();
    let mut client = server.connect();
    assert_eq!(client.counts("ws"), [(PENDING, 2)].into());
    assert_eq!(client.status("ws", "a").worker.as_deref(), Some("w"));
    client.updated("ws", "a", "{'status': 4}");
    client.updated("ws", "b", "{'lease_time': 60}");
    assert_eq!(client.take("w2"), None);
}

#[test]
fn the_grace_can_be_chosen() {
    let mut server = Server::start_with(&["--lease-grace", "0s"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['a', {}]");
    client.take_key("w", "a");
    client.updated("ws", "a", "{'lease_time': 0.5}");
    server.kill();
    let end = clock() + 0.6;
    wait_until("the lease has run out", || clock() > end);
    server.start_again();
    assert_eq!(server.connect().state("ws", "a"), AVAILABLE);
}

// --- limits ---

#[test]
fn connections_beyond_the_limit_are_closed_and_the_others_served() {
    let server = Server::start_with(&["--max-connections", "2"]);
    let mut first = server.connect();
    let mut second = server.connect();
    first.call("list_work_specs", "{}");
    second.call("list_work_specs", "{}");
    let mut third = server.connect();
    assert!(ends_by_a_reset(&mut third));
    first.call("list_work_specs", "{}");
    drop(second);
    wait_until("there is room again", || {
        let mut client = server.connect();
        client
            .try_send(&frame(&diag("{'id': 1, 'method': 'now', 'params': []}")))
            .is_ok()
            && matches!(client.next_frame(), Ok(Some(_)))
    });
}

#[test]
fn the_limits_of_depth_and_names_can_be_chosen() {
    let server = Server::start_with(&["--max-depth", "20", "--max-unit-name", "10"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['0123456789', {'d': [[[[1]]]]}]");
    client.refused("add_work_units", "'ws', [['0123456789a', {}]]");
    assert_eq!(client.keys("ws", "{}"), ["0123456789"]);
    let deep = format!("{}1{}", "[".repeat(30), "]".repeat(30));
    let mut other = server.connect();
    other.send(&frame(&diag(&format!(
        "{{'id': 1, 'method': 'set_work_spec', 'params': [{deep}]}}"
    ))));
    other.answers_until_closed();
    client.call("list_work_specs", "{}");
}

// --- the file, for people ---

/// Asks a question of the file with the program `sqlite3`, or if the machine has none with the library.
/// Gives the rows, each with its values separated by `|`.
fn ask(db: &Path, sql: &str) -> Vec<String> {
    let program = Command::new("sqlite3")
        .args(["-readonly", "-batch"])
        .arg(db)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    if let Ok(mut program) = program {
        program
            .stdin
            .take()
            .expect("stdin")
            .write_all(sql.as_bytes())
            .expect("write");
        let output = program.wait_with_output().expect("sqlite3");
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success() && err.is_empty(), "{sql}: {err}");
        return out.lines().map(str::to_owned).collect();
    }
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(db, flags).expect("open");
    let mut statement = connection
        .prepare(sql)
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| {
        let values = (0..columns).map(|i| {
            row.get_ref(i).map(|value| match value {
                rusqlite::types::ValueRef::Null => String::new(),
                rusqlite::types::ValueRef::Integer(n) => n.to_string(),
                rusqlite::types::ValueRef::Real(x) => x.to_string(),
                rusqlite::types::ValueRef::Text(bytes) | rusqlite::types::ValueRef::Blob(bytes) => {
                    String::from_utf8_lossy(bytes).into_owned()
                }
            })
        });
        Ok(values.collect::<Result<Vec<_>, _>>()?.join("|"))
    });
    rows.expect("rows").map(|row| row.expect("a row")).collect()
}

#[test]
fn the_views_can_be_read_while_it_runs_and_afterwards() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'spec-one'}");
    client.add("spec-one", "['avail', {}], ['done', {}], ['broken', {}], ['busy', {}], [h'ff', {}], [\"text\", {}], ['late', {}, {'delay': 900}]");
    client.done(
        "worker_heartbeat",
        "'worker-one', 'RUN', 6000, {'pid': 42}, 'parent-one'",
    );
    client.done(
        "prioritize_work_units",
        "'spec-one', {'work_unit_keys': ['done', 'broken', 'busy'], 'priority': 9}",
    );
    for (key, options) in [
        (
            "broken",
            "{'status': 5, 'data': {'traceback': \"line 1\\nBoom: it broke\"}}",
        ),
        ("busy", "{'lease_time': 600}"),
        ("done", "{'status': 4}"),
    ] {
        client.take_key("worker-one", key);
        client.updated("spec-one", key, options);
    }
    let db = server.db();
    let count = |sql: &str| ask(&db, sql)[0].parse::<u64>().expect("a number");
    let check = || {
        assert_eq!(count("SELECT count(*) FROM units;"), 7);
        assert_eq!(count("SELECT count(*) FROM attempts_log;"), 3);
        assert_eq!(count("SELECT count(*) FROM active_workers;"), 1);
        assert_eq!(count("SELECT count(*) FROM failures;"), 1);
        let all = |view: &str| ask(&db, &format!("SELECT * FROM {view};")).join("\n");
        // Plain names and texts, without a second table to look them up in.
        let rows: [(&str, &[&str]); 5] = [
            (
                "summary",
                &[
                    "spec-one",
                    "available",
                    "delayed",
                    "pending",
                    "finished",
                    "failed",
                ],
            ),
            (
                "units",
                &["spec-one", "avail", "busy", "text", "pending", "delayed"],
            ),
            (
                "attempts_log",
                &[
                    "spec-one",
                    "worker-one",
                    "done",
                    "broken",
                    "pending",
                    "finished",
                    "failed",
                ],
            ),
            ("active_workers", &["worker-one", "RUN", "parent-one"]),
            ("failures", &["spec-one", "broken", "Boom: it broke"]),
        ];
        for (view, words) in rows {
            let found = all(view);
            let columns = ask(
                &db,
                &format!("SELECT group_concat(name) FROM pragma_table_info('{view}');"),
            )
            .join("");
            for word in words {
                assert!(
                    found.contains(word) || columns.contains(word),
                    "{word} in {view} ({columns}):\n{found}"
                );
            }
        }
        assert_eq!(ask(&db, "PRAGMA integrity_check;"), ["ok"]);
    };
    check();
    assert_eq!(client.state("spec-one", "broken"), FAILED, "it still runs");
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(files(server.folder()), ["test.db"]);
    check();
}

#[test]
fn the_log_of_attempts_tells_how_each_ended() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['u', {}]");
    type End = fn(&mut Client);
    let ends: [(&str, End); 5] = [
        ("released", |client| {
            client.updated("ws", "u", "{'lease_time': -1}")
        }),
        ("added-again", |client| client.add("ws", "['u', {}]")),
        ("failed-it", |client| {
            client.updated("ws", "u", "{'status': 5}");
            client.updated("ws", "u", "{'status': 1}");
        }),
        ("finished-it", |client| {
            client.updated("ws", "u", "{'status': 4}");
            client.updated("ws", "u", "{'status': 1}");
        }),
        ("has-it", |_| {}),
    ];
    for (worker, end) in ends {
        client.take_key(worker, "u");
        end(&mut client);
    }
    let log = ask(
        &server.db(),
        "SELECT worker, status FROM attempts_log ORDER BY worker;",
    );
    assert_eq!(
        log,
        [
            "added-again|expired",
            "failed-it|failed",
            "finished-it|finished",
            "has-it|pending",
            "released|expired"
        ]
    );
}

#[test]
fn a_reader_that_stays_holds_nobody_up() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['a', {}]");
    let reader = rusqlite::Connection::open_with_flags(
        server.db(),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .expect("open");
    reader.execute_batch("BEGIN").expect("begin");
    let count = || {
        reader
            .query_row("SELECT count(*) FROM units", [], |row| row.get::<_, i64>(0))
            .expect("a count")
    };
    assert_eq!(count(), 1);
    for i in 0..50 {
        client.add("ws", &format!("['u{i}', {{}}]"));
    }
    assert_eq!(count(), 1, "its view of the file stays as it was");
    reader.execute_batch("COMMIT").expect("commit");
    assert_eq!(count(), 51);
}

#[test]
fn a_connection_that_says_nothing_costs_nothing_to_the_others() {
    let server = Server::start();
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(server.address()).expect("connect"))
        .collect();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    assert_eq!(client.spec_names(), ["ws"]);
    drop(silent);
    assert_eq!(client.spec_names(), ["ws"]);
}

#[test]
fn a_log_that_can_not_be_written_does_not_stop_it() {
    let folder = folder();
    let socket = folder.path().join("socket");
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("a device that is always full");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_coordinated"))
        .args(["--db", ":memory:", "--log", "debug", "--listen"])
        .arg(format!("unix:{}", socket.display()))
        .stderr(full)
        .spawn()
        .expect("the daemon starts");
    let mut answers = false;
    wait_until("it answers", || {
        let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&socket) else {
            return false;
        };
        // A request that is logged: there is no such method.
        stream
            .write_all(b"\xa1\x66method\x64nope")
            .expect("a request");
        let mut tag = [0; 2];
        answers = std::io::Read::read_exact(&mut stream, &mut tag).is_ok();
        true
    });
    let goes_on = daemon.try_wait().expect("a state").is_none();
    daemon.kill().expect("it is ours to end");
    daemon.wait().expect("an end");
    assert!(answers && goes_on);
}

#[test]
fn a_lease_that_runs_out_frees_its_unit_without_anyone_asking() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['u', {}]");
    client.value("get_work", "'w', {'lease_time': 1}");
    let file = rusqlite::Connection::open(server.folder().join("test.db")).expect("the file");
    wait_until("the unit is available in the file", || {
        file.query_row("SELECT status FROM units", [], |row| {
            row.get::<_, String>(0)
        })
        .expect("a unit")
            == "available"
    });
}
