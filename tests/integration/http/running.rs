//! Starting, health, stopping; and that what was answered is on disk.

use super::{Client, Raw, start};
use rusqlite::Connection;
use serde_json::json;
use std::net::TcpListener;
use std::thread;
use test_support::{Server, run_to_end, wait_until};

#[test]
fn a_default_address_that_is_taken_is_a_warning_and_one_that_was_asked_for_an_error() {
    let folder = tempfile::tempdir().unwrap();
    // Another daemon may have it already.
    let _taken = TcpListener::bind("127.0.0.1:5980");
    let arguments = ["serve", "--db", "test.db", "--listen", "127.0.0.1:0"];
    let mut server = Server::start_in_default_environment(tempfile::tempdir().unwrap(), &arguments);
    let log = server.log();
    assert!(
        log.contains("running without HTTP") && log.contains("127.0.0.1:5980"),
        "{log}"
    );
    assert_eq!(server.stop().code, Some(0));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (http, says) in [
        (&[&*address][..], "in use"),
        (&["0.0.0.0:0"], "--allow"),
        (&["0.0.0.0:0", "--allow", "127.0.0.0/8"], "--http-insecure"),
        (&["off,127.0.0.1:0"], "off"),
        (&["nonsense"], "HOST:PORT"),
        (&["127.0.0.1:0", "--http-base-path", "jobs"], "slash"),
        (&["127.0.0.1:0", "--http-host", "a:80"], "without a port"),
        (&["127.0.0.1:0", "--http-cors", "*"], "is no origin"),
    ] {
        let all: Vec<&str> = arguments
            .iter()
            .chain(&["--http"])
            .chain(http)
            .copied()
            .collect();
        let exit = run_to_end(folder.path(), &all, &[]);
        assert_ne!(exit.code, Some(0), "{http:?}");
        assert!(exit.stderr.contains(says), "{http:?}: {}", exit.stderr);
    }
}

#[test]
fn other_machines_are_let_in_only_with_a_flag_and_a_list() {
    let server = Server::start_with(&[
        "--http",
        "0.0.0.0:0",
        "--http-insecure",
        "--allow",
        "127.0.0.0/8",
    ]);
    let http = Client::at(&server.http().replace("0.0.0.0", "127.0.0.1"));
    assert!(http.call("now", "").is_u64());
    let elsewhere = Server::start_with(&[
        "--http",
        "0.0.0.0:0",
        "--http-insecure",
        "--allow",
        "192.0.2.0/24",
        "--listen",
        "unix:socket",
    ]);
    let address = elsewhere.http().replace("0.0.0.0", "127.0.0.1");
    let mut stream =
        std::net::TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
    let _ = std::io::Write::write_all(
        &mut stream,
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    assert!(answer.is_empty());
}

#[test]
fn the_daemon_is_ready_while_it_can_write() {
    let server = start(&[]);
    let http = Client::of(&server);
    assert_eq!(
        (http.get("/healthz").status, &*http.get("/healthz").body),
        (200, "ok\n")
    );
    assert_eq!(
        (http.get("/readyz").status, &*http.get("/readyz").body),
        (200, "ready\n")
    );
    let other = Connection::open(server.db()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = http.get("/readyz");
    assert_eq!((answer.status, &*answer.problem()), (503, "not-ready"));
    assert!(answer.body.contains("locked"), "{answer:?}");
    assert_eq!(http.get("/healthz").status, 200);
    let answer = http.post("/rpc/set_work_spec", r#"[{"name": "s"}]"#);
    assert_eq!(
        (answer.status, &*answer.problem()),
        (503, "rolled-back"),
        "{answer:?}"
    );
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(http.get("/readyz").status, 200);
    assert_eq!(
        http.call("set_work_spec", r#"[{"name": "s"}]"#),
        json!(true)
    );
}

#[test]
fn a_stop_answers_what_waits_and_closes_idle_connections() {
    let mut server = start(&[]);
    let http = Client::of(&server);
    let mut idle = Raw::connect(&server);
    idle.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(idle.some().contains("ok"));
    let waiting = {
        let http = http.clone();
        thread::spawn(move || http.call("get_work", r#"["w", {"wait": 60}]"#))
    };
    let mut cborrpc = server.connect();
    wait_until("it waits", || {
        cborrpc
            .call("server_info", "")
            .at("calls")
            .get("get_work")
            .is_some()
    });
    let exit = server.stop();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(waiting.join().unwrap(), json!([null, null, null]));
    assert_eq!(idle.until_closed(), "");
}

#[test]
fn what_was_answered_over_http_outlives_a_kill() {
    let mut server = start(&[]);
    let http = Client::of(&server);
    http.call("set_work_spec", r#"[{"name": "s"}]"#);
    let adders: Vec<_> = (0..4)
        .map(|adder| {
            let http = http.clone();
            thread::spawn(move || {
                let mut added = Vec::new();
                for n in 0.. {
                    let key = format!("{adder}-{n}");
                    let body = json!(["s", [[key, {}]]]).to_string();
                    let url = format!("{}/rpc/add_work_units", http.root);
                    match http.agent.post(url).send(&body) {
                        Ok(answer) if answer.status() == 200 => added.push(key),
                        _ => break,
                    }
                }
                added
            })
        })
        .collect();
    wait_until("some were added", || {
        server
            .connect()
            .counts("s")
            .get(&1)
            .is_some_and(|count| *count > 100)
    });
    server.kill();
    let added: Vec<String> = adders
        .into_iter()
        .flat_map(|it| it.join().unwrap())
        .collect();
    assert!(added.len() > 50);
    server.start_again();
    let there = server.connect().keys("s", "{'limit': 1000000}");
    for key in &added {
        assert!(there.contains(key), "{key} was answered and is not there");
    }
}
