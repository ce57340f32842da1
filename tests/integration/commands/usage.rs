//! What is the same for all commands: no daemon, closed output, where the daemon is said to be.

use super::{bad, good, run, server_with_units};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use test_support::{Server, run_to_end};

#[test]
fn without_a_daemon_one_line_says_how_to_start_one() {
    let folder = tempfile::TempDir::new().expect("folder");
    let nobody = format!("unix:{}", folder.path().join("none").display());
    for arguments in [
        &["summary"][..],
        &["status", "ws"],
        &["work_units", "ws"],
        &["add", "ws", "a"],
        &["retry", "ws", "--all"],
        &["delete", "--all", "--yes"],
        &["workers"],
        &["rpc", "now"],
    ] {
        let exit = run(&nobody, arguments);
        assert_eq!(exit.code, Some(1), "{arguments:?}");
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
        let advice = format!("start one with `coordinated --listen {nobody}`");
        assert!(
            exit.stderr.contains(&advice) && exit.stderr.contains("--server"),
            "{}",
            exit.stderr
        );
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_with_a_message() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let (server, _client) = server_with_units();
    server.signal(libc::SIGSTOP);
    for silent in [address.as_str(), server.address()] {
        let message = bad(silent, &["summary", "--timeout", "200ms"]);
        assert!(
            message.contains(&format!("{silent} accepts connections")) && message.contains("200ms"),
            "{message}"
        );
    }
    server.signal(libc::SIGCONT);
    assert_eq!(run(&address, &["summary", "--timeout", "0s"]).code, Some(2));
}

#[test]
fn a_server_of_another_protocol_is_shown_with_what_it_says() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.read_exact(&mut [0]).expect("a request");
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .expect("send");
        // Until the client has gone.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let message = bad(&address, &["summary"]);
    assert!(
        message.contains("does not speak CBOR-RPC") && message.contains("HTTP/1.1 400"),
        "{message}"
    );
    server.join().expect("server");
}

#[test]
fn the_daemon_is_named_by_flag_or_by_environment_and_the_flag_wins() {
    let server = Server::start();
    let flag = ["work_specs", "--server", server.address()];
    let exit = run_to_end(
        Path::new("."),
        &flag,
        &[("COORDINATED_SERVER", "127.0.0.1:1")],
    );
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    let exit = run("nonsense", &["work_specs"]);
    assert_eq!(exit.code, Some(2));
    assert!(exit.stderr.contains("127.0.0.1:5932"), "{}", exit.stderr);
}

#[test]
fn output_that_is_closed_early_ends_it_quietly() {
    let (server, mut client) = server_with_units();
    let many: Vec<String> = (0..20_000).map(|n| format!("'{n:060}'")).collect();
    client.add("ws", &many.join(", "));
    let mut child = Command::new(env!("CARGO_BIN_EXE_coordinated"))
        .args(["work_units", "ws", "--server", server.address()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
    stdout.read_line(&mut line).expect("a line");
    assert_eq!(line.len(), 61);
    drop(stdout);
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .expect("stderr")
        .read_to_string(&mut stderr)
        .expect("text");
    assert_eq!(
        (child.wait().expect("end").code(), stderr.as_str()),
        (Some(0), "")
    );
}

#[test]
fn broken_yaml_is_named_with_file_and_line() {
    let (server, _client) = server_with_units();
    let path = server.folder().join("spec.yaml");
    let file = path.display().to_string();
    std::fs::write(&path, "name: ws\nlist: [1, 2\nother: 3\n").expect("write");
    let message = bad(server.address(), &["status", "-w", &file]);
    assert!(
        message.contains(&file) && message.contains("line"),
        "{message}"
    );
    for (spec, problem) in [
        (
            "min_gb: 1\nname: 3\n",
            ", line 2: the name must be a non-empty string",
        ),
        ("name: a\nname: b\n", ", line 2: invalid YAML"),
        ("# nothing\n\n- ws\n", ", line 3: expected a work spec"),
    ] {
        std::fs::write(&path, spec).expect("write");
        let message = bad(server.address(), &["status", "-w", &file]);
        assert!(message.contains(&format!("{file}{problem}")), "{message}");
    }
    std::fs::write(&path, "min_gb: 1\n").expect("write");
    assert!(bad(server.address(), &["status", "-w", &file]).contains("has no name"));
    assert!(bad(server.address(), &["status", "-w", "/none"]).contains("/none"));
}

#[test]
fn words_that_are_missing_or_too_many_are_wrong_usage() {
    let server = Server::start();
    for arguments in [
        &["status"][..],
        &["work_units"],
        &["retry"],
        &["clear", "--yes"],
        &["delete", "--yes"],
        &["delete", "ws", "--all"],
        &["retry", "ws"],
        &["retry", "-W", "ws", "--yes"],
        &["retry", "ws", "--matching", ""],
        &["clear", "ws", "--yes"],
        &["clear", "-W", "ws", "--yes"],
        &["clear", "ws", "a", "--all", "--yes"],
        &["clear", "ws", "--all", "--status", "failed", "--yes"],
        &["work_unit", "ws"],
        &["why", "ws", "a", "b"],
        &["retry", "ws", "a", "--all"],
        &["retry", "ws", "--all", "--matching", "x"],
        &["addwork", "-u", "-"],
        &["addwork", "ws"],
        &["addwork", "ws", "-u", "-", "--batch", "0"],
        &["addwork", "ws", "-u", "-", "--from-line", "0"],
        &["load", "-u", "-"],
        &["load", "-w", "file"],
        &["load", "-w", "file", "-u", "-", "--no-work"],
        &["flow"],
        &["status", "ws", "-W", "ws"],
        &["status", "-W", "ws", "-w", "file"],
    ] {
        assert_eq!(
            run(server.address(), arguments).code,
            Some(2),
            "{arguments:?}"
        );
    }
}

/// As `SPEC=; coordinated delete "$SPEC"` gives it.
#[test]
fn an_empty_name_of_a_work_spec_is_wrong_usage() {
    let (server, mut client) = server_with_units();
    let before = client.counts("ws");
    for arguments in [
        &["delete", "", "--yes"][..],
        &["delete", "ws", "", "--yes"],
        &["clear", "", "--all", "--yes"],
        &["clear", "-W", "", "--all", "--yes"],
        &["retry", "", "--all"],
        &["retry", "", "a"],
        &["pause", ""],
        &["control", "", "--weight", "1"],
        &["prioritize", "", "a"],
        &["add", "", "a"],
        &["addwork", "", "-u", "/dev/null"],
        &["status", ""],
        &["why", ""],
    ] {
        let exit = run(server.address(), arguments);
        assert_eq!(exit.code, Some(2), "{arguments:?}: {}", exit.stderr);
        assert!(exit.stderr.contains("is empty"), "{}", exit.stderr);
    }
    assert_eq!(client.counts("ws"), before);
}

#[test]
fn a_unix_socket_does_as_well() {
    let folder = tempfile::TempDir::new().expect("folder");
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let _server = Server::start_with(&["--listen", &socket]);
    assert_eq!(run(&socket, &["summary"]).code, Some(0));
}

#[test]
fn there_is_nothing_on_standard_error_where_all_is_well() {
    let (server, _client) = server_with_units();
    for arguments in [
        &["work_specs"][..],
        &["work_spec", "ws"],
        &["work_units", "ws", "--details"],
        &["clear", "ws", "a", "--yes"],
        &["retry", "ws", "--all"],
        &["config"],
    ] {
        assert_eq!(run(server.address(), arguments).stderr, "", "{arguments:?}");
    }
    assert_eq!(good(&server, &["work_units", "ws", "-s", "failed"]), "");
}
