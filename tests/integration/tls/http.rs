//! HTTPS, with curl.

use super::{Authority, Identity, start_as, text};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};
use test_support::{PATIENCE, Server, run_to_end, wait_until};

/// A daemon that serves HTTPS, and has no CBOR-RPC with TLS.
fn start(arguments: &[&str]) -> (Server, Authority) {
    let authority = Authority::new();
    let identity = authority.server("server", &["127.0.0.1", "localhost"]);
    (start_with(&identity, arguments), authority)
}

fn start_with(identity: &Identity, arguments: &[&str]) -> Server {
    let https = ["--http", "tls:127.0.0.1:0"];
    start_as(identity, &[&https, arguments].concat())
}

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl")
        .args(["-sS", "--max-time", "30"])
        .args(arguments)
        .output()
        .expect("curl")
}

fn good(arguments: &[&str]) -> String {
    let output = curl(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn port(server: &Server) -> TcpStream {
    let address = server.http();
    let address = address.strip_prefix("https://").expect("https");
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream
}

#[test]
fn curl_calls_methods_over_https_and_http_beside_each_other() {
    let (server, authority) = start(&["--http", "127.0.0.1:0"]);
    let root = server.http();
    assert!(root.starts_with("https://127.0.0.1:"), "{root}");
    let ca = authority.path();
    let url = format!("{root}/rpc/set_work_spec");
    let body = r#"{"work_spec": {"name": "ws"}}"#;
    let made = good(&[
        "--cacert",
        text(&ca),
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
        &url,
    ]);
    assert_eq!(made.trim(), "true");
    let by_name = root.replace("127.0.0.1", "localhost");
    let listed = good(&["--cacert", text(&ca), &format!("{by_name}/rpc")]);
    assert!(listed.contains("set_work_spec"), "{listed}");
    let log = server.log();
    let plain = log
        .split("serving HTTP at ")
        .find(|rest| rest.starts_with("http://"));
    let plain = plain
        .expect("an address")
        .split_whitespace()
        .next()
        .expect("an address");
    assert_eq!(
        good(&[&format!("{plain}/healthz")]),
        good(&["--cacert", text(&ca), &format!("{root}/healthz")])
    );
}

#[test]
fn curl_refuses_a_daemon_that_it_does_not_trust() {
    let (server, _authority) = start(&[]);
    let output = curl(&["--cacert", text(&Authority::new().path()), &server.http()]);
    // The server's certificate could not be verified.
    assert_eq!(output.status.code(), Some(60), "{output:?}");
}

#[test]
fn https_takes_only_clients_with_certificates_if_told_so() {
    let clients = Authority::new();
    let (server, authority) = start(&["--tls-client-ca", text(&clients.path())]);
    let (ca, alice) = (authority.path(), clients.client("alice"));
    let url = format!("{}/healthz", server.http());
    let certificate = [
        "--cert",
        text(&alice.certificate),
        "--key",
        text(&alice.key),
    ];
    good(&[&["--cacert", text(&ca), &url], &certificate[..]].concat());
    let output = curl(&["--cacert", text(&ca), &url]);
    assert!(!output.status.success(), "{output:?}");
    let mallory = Authority::new().client("mallory");
    let certificate = [
        "--cert",
        text(&mallory.certificate),
        "--key",
        text(&mallory.key),
    ];
    let output = curl(&[&["--cacert", text(&ca), &url], &certificate[..]].concat());
    assert!(!output.status.success(), "{output:?}");
    let metrics = good(&[
        "--cacert",
        text(&ca),
        "--cert",
        text(&alice.certificate),
        "--key",
        text(&alice.key),
        &format!("{}/metrics", server.http()),
    ]);
    let refused = r#"coordinated_connections_refused_total{interface="http",reason="tls"} 2"#;
    assert!(metrics.contains(refused), "{metrics}");
}

#[test]
fn http_without_tls_on_a_port_with_tls_is_told_so() {
    let (server, _authority) = start(&[]);
    let answer = good(&[&server.http().replace("https:", "http:")]);
    assert!(
        answer.contains("use https:// instead of http://"),
        "{answer}"
    );
    // The announced length is that of the text.
    assert_eq!(answer.len(), 60, "{answer}");
}

#[test]
fn a_half_handshake_holds_up_no_other_request() {
    let (server, authority) = start(&["--http-max-connections", "4"]);
    let mut half: Vec<TcpStream> = (0..3).map(|_| port(&server)).collect();
    for stream in &mut half {
        stream.write_all(&[22, 3, 1, 1, 0]).expect("write");
    }
    let url = format!("{}/healthz", server.http());
    let ca = authority.path();
    good(&["--cacert", text(&ca), &url]);
    drop(half);
    // Places are free again once those have gone.
    wait_until("three more can connect", || {
        let mut streams: Vec<TcpStream> = (0..3).map(|_| port(&server)).collect();
        let is_served = curl(&["--cacert", text(&ca), &url]).status.success();
        streams
            .iter_mut()
            .for_each(|stream| drop(stream.write_all(&[22])));
        is_served
    });
}

#[test]
fn a_daemon_that_stops_closes_the_session() {
    let (mut server, authority) = start(&[]);
    let mut stream = port(&server);
    let mut session = authority.tls().session("127.0.0.1").expect("a session");
    session.complete_io(&mut stream).expect("the handshake");
    session
        .writer()
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("write");
    session.complete_io(&mut stream).expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") && !answer.ends_with(b"\n") {
        assert!(session.read_tls(&mut stream).expect("read") > 0);
        session.process_new_packets().expect("records");
        let _ = session.reader().read_to_end(&mut answer);
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    server.signal(libc::SIGTERM);
    while session.read_tls(&mut stream).expect("read") > 0 {
        session.process_new_packets().expect("records");
    }
    assert!(
        session
            .process_new_packets()
            .expect("records")
            .peer_has_closed()
    );
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn off_loopback_http_needs_tls_and_checked_clients_or_the_flag() {
    let authority = Authority::new();
    let identity = authority.server("server", &["127.0.0.1"]);
    let ca = authority.path();
    let files = [
        "--tls-cert",
        text(&identity.certificate),
        "--tls-key",
        text(&identity.key),
    ];
    let base = [
        "serve",
        "--db",
        ":memory:",
        "--listen",
        "127.0.0.1:0",
        "--allow",
        "127.0.0.0/8",
    ];
    let fails = |arguments: &[&str]| {
        let exit = run_to_end(Path::new("."), &[&base, arguments].concat(), &[]);
        assert_eq!(exit.code, Some(1), "{}", exit.stderr);
        exit.stderr
    };
    let plain = fails(&["--http", "0.0.0.0:0"]);
    assert!(
        plain.contains("tls:HOST:PORT") && plain.contains("--http-insecure"),
        "{plain}"
    );
    let open = fails(&[&["--http", "tls:0.0.0.0:0"], &files[..]].concat());
    assert!(
        open.contains("--tls-client-ca") && open.contains("--http-insecure"),
        "{open}"
    );
    for more in [&["--tls-client-ca", text(&ca)][..], &["--http-insecure"]] {
        let tls = ["--http", "tls:0.0.0.0:0", "--allow", "127.0.0.0/8"];
        let server = start_as(&identity, &[&tls, more].concat());
        assert!(server.http().starts_with("https://0.0.0.0:"));
    }
}

#[test]
fn off_loopback_tokens_over_tls_need_no_flag() {
    let authority = Authority::new();
    let identity = authority.server("server", &["127.0.0.1"]);
    let mut server = start_as(&identity, &["--allow", "127.0.0.0/8"]);
    let make = ["token", "create", "alice", "--scope", "read"];
    let plain = [("COORDINATED_SERVER", server.addresses()[1].as_str())];
    let made = run_to_end(Path::new("."), &make, &plain);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let secret = made
        .stdout
        .split_whitespace()
        .find(|word| word.starts_with("cdt_"));
    let secret = secret.unwrap_or_else(|| panic!("a secret: {}", made.stdout));
    assert_eq!(server.stop().code, Some(0));
    server.start_again_with(&["--http", "tls:0.0.0.0:0"]);
    let url = format!(
        "{}/rpc/summary",
        server.http().replace("0.0.0.0", "127.0.0.1")
    );
    let (ca, bearer) = (authority.path(), format!("Authorization: Bearer {secret}"));
    let status = ["-o", "/dev/null", "-w", "%{http_code}", "-d", "", &url];
    let with_ca = [&["--cacert", text(&ca)], &status[..]].concat();
    assert_eq!(good(&with_ca), "401");
    assert_eq!(good(&[&with_ca[..], &["-H", &bearer]].concat()), "200");
    let environment = [
        ("COORDINATED_SERVER", server.address()),
        ("COORDINATED_TLS_CA", text(&ca)),
        ("COORDINATED_TOKEN", secret),
    ];
    let summary = run_to_end(Path::new("."), &["summary"], &environment);
    assert_eq!(summary.code, Some(0), "{}", summary.stderr);
}

#[test]
fn bytes_that_are_no_handshake_end_the_connection() {
    let (server, _authority) = start(&[]);
    let mut stream = port(&server);
    stream
        .write_all(&[22, 3, 1, 0, 5, 9, 9, 9, 9, 9])
        .expect("write");
    let mut rest = Vec::new();
    // An alert, and the end.
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty() || rest[0] == 21, "{rest:x?}");
}

#[test]
fn the_benchmark_works_over_https() {
    let (server, authority) = start(&[]);
    let ca = authority.path();
    let http = server.http().replace("https://", "--http=tls:");
    let mut arguments = vec!["bench", "--server", server.address(), "--tls-ca", text(&ca)];
    arguments.extend([
        "--json",
        "work",
        &http,
        "--prepare",
        "100",
        "--connections",
        "2",
    ]);
    let exit = run_to_end(Path::new("."), &arguments, &[]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert!(exit.stdout.contains("\"finished\":100,"), "{}", exit.stdout);
}
