//! Web pages of others must not be able to do anything; and where HTTP is reached.

use super::{Client, Raw, start};
use crate::tokens::create;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use test_support::Server;

/// A POST to /rpc/clear, which would delete everything, with these header lines.
fn clear(headers: &str) -> String {
    format!("POST /rpc/clear HTTP/1.1\r\n{headers}Content-Length: 2\r\nConnection: close\r\n\r\n[]")
}

fn status_of(server: &Server, request: &str) -> u16 {
    let mut raw = Raw::connect(server);
    raw.send(request);
    let answer = raw.until_closed();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("{request:?}: {answer:?}"))
}

#[test]
fn a_host_name_that_the_daemon_does_not_know_is_refused() {
    let server = start(&["--http-host", "jobs.example.org,other.example.org"]);
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's'}");
    for host in [
        "evil.example.org",
        "localhost.evil.example.org",
        "127.0.0.1.evil.example.org:80",
        "jobs.example.org.evil.example.org",
        "user@localhost",
        "",
        "\u{e9}",
    ] {
        let status = status_of(&server, &clear(&format!("Host: {host}\r\n")));
        assert!(status == 421 || status == 400, "{host}: {status}");
    }
    assert_eq!(status_of(&server, &clear("")), 400);
    // The name in the target counts as much as the header.
    let target = clear("Host: localhost\r\n").replace("/rpc", "http://evil.example.org/rpc");
    assert_eq!(status_of(&server, &target), 421);
    let twice = "Host: localhost\r\nHost: evil.example.org\r\n";
    assert_ne!(status_of(&server, &clear(twice)), 200);
    assert_eq!(cborrpc.spec_names(), ["s"]);

    for host in [
        "localhost",
        "127.0.0.1:5980",
        "[::1]:80",
        "jobs.example.org:80",
        "OTHER.example.org",
    ] {
        let request = clear(&format!("Host: {host}\r\n")).replace("clear", "now");
        assert_eq!(status_of(&server, &request), 200, "{host}");
    }
}

#[test]
fn a_request_that_a_page_of_another_site_sends_changes_nothing() {
    let server = start(&[]);
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's'}");
    for headers in [
        "Origin: http://evil.example.org\r\n",
        "Origin: null\r\n",
        "Origin: http://localhost:8080\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: http://localhost\r\nSec-Fetch-Site: cross-site\r\n",
    ] {
        let request = clear(&format!(
            "Host: localhost\r\nContent-Type: text/plain\r\n{headers}"
        ));
        assert_eq!(status_of(&server, &request), 403, "{headers}");
    }
    // What a browser asks before it sends a request with a special header.
    let preflight = "OPTIONS /rpc/clear HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example.org\r\n\
         Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n";
    let mut raw = Raw::connect(&server);
    raw.send(preflight);
    let answer = raw.until_closed().to_lowercase();
    assert!(!answer.contains("access-control-allow"), "{answer}");
    assert_eq!(cborrpc.spec_names(), ["s"]);

    let own =
        "Host: localhost:5980\r\nOrigin: http://localhost:5980\r\nSec-Fetch-Site: same-origin\r\n";
    assert_eq!(status_of(&server, &clear(own)), 200);
    assert!(cborrpc.spec_names().is_empty());
}

/// The answer to a request, in small letters.
fn answer_to(server: &Server, request: &str) -> String {
    let mut raw = Raw::connect(server);
    raw.send(request);
    raw.until_closed().to_lowercase()
}

/// What a browser asks before it sends a request with a special header.
fn preflight(host: &str, origin: &str) -> String {
    format!(
        "OPTIONS /units/s HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: authorization,upload-id\r\nConnection: close\r\n\r\n"
    )
}

const TOOLS: &str = "https://tools.example.org";

#[test]
fn the_pages_of_an_origin_that_was_named_may_do_everything_and_read_the_answers() {
    let origins = format!("{TOOLS},http://localhost:8080");
    let server = start(&["--http-cors", &origins]);
    let mut cborrpc = server.connect();
    for origin in [TOOLS, "http://localhost:8080"] {
        let allowed = format!("\r\naccess-control-allow-origin: {origin}\r\n");
        let answer = answer_to(&server, &preflight("localhost", origin));
        assert!(answer.starts_with("http/1.1 200 "), "{answer}");
        assert!(answer.contains(&allowed), "{answer}");
        let line = |name: &str| {
            let line = answer.lines().find(|line| line.starts_with(name));
            line.unwrap_or_else(|| panic!("no {name} in {answer}"))
        };
        assert!(line("access-control-allow-methods").contains("post"));
        let headers = line("access-control-allow-headers");
        for name in ["authorization", "content-type", "upload-id"] {
            assert!(headers.contains(name), "{headers}");
        }
        assert!(!answer.contains("allow-credentials"), "{answer}");

        cborrpc.set_spec("{'name': 's'}");
        let headers =
            format!("Host: localhost\r\nOrigin: {origin}\r\nSec-Fetch-Site: cross-site\r\n");
        let answer = answer_to(&server, &clear(&headers));
        assert!(answer.starts_with("http/1.1 200 "), "{answer}");
        assert!(answer.contains(&allowed), "{answer}");
        assert!(cborrpc.spec_names().is_empty());
        // Also by REST, and answers that are problems.
        for path in ["/namespace/n", "/nowhere"] {
            let get = format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
            let answer = answer_to(&server, &get);
            let status = if path == "/nowhere" { "404" } else { "200" };
            assert!(
                answer.starts_with(&format!("http/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains(&allowed), "{answer}");
        }
    }
}

#[test]
fn the_forms_for_people_are_not_for_the_pages_of_an_origin_that_was_named() {
    let server = start(&["--http-cors", TOOLS]);
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's'}");
    let post = |path: &str, headers: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let mut raw = Raw::connect(&server);
        raw.send(request);
        raw.until_closed()
    };
    let is = |status: u16, answer: &str| {
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    };
    let token = create(&mut cborrpc, "t", "'operate'", "");
    let answer = post("/ui/sign-in", "", &format!("token={token}"));
    let cookie = answer.split("set-cookie: ").nth(1).expect("a session");
    let cookie = cookie.split(';').next().expect("a cookie");
    let is_paused = |client: &mut test_support::Client| {
        let meta = client.value("get_work_spec_meta", "'s'");
        meta.at("status") == &test_support::diag("2")
    };
    let own = format!("Cookie: {cookie}\r\nOrigin: http://localhost\r\n");
    let foreign = format!("Cookie: {cookie}\r\nOrigin: {TOOLS}\r\nSec-Fetch-Site: same-site\r\n");
    is(403, &post("/ui/spec/s/pause", &foreign, ""));
    assert!(!is_paused(&mut cborrpc));
    is(303, &post("/ui/spec/s/pause", &own, ""));
    assert!(is_paused(&mut cborrpc));
    // Elsewhere, a session counts for nothing.
    is(401, &post("/rpc/now", &foreign, "[]"));
}

#[test]
fn the_pages_of_other_origins_than_those_that_were_named_can_do_and_read_nothing() {
    let server = start(&["--http-cors", TOOLS]);
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's'}");
    for origin in [
        "http://tools.example.org",
        "https://tools.example.org:8443",
        "https://tools.example.org.evil.org",
        "https://evil.tools.example.org",
        "https://TOOLS.example.org",
        "https://tools.example.org/",
        "null",
    ] {
        let headers =
            format!("Host: localhost\r\nOrigin: {origin}\r\nSec-Fetch-Site: cross-site\r\n");
        let get = format!("GET /rpc HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        for request in [preflight("localhost", origin), clear(&headers), get] {
            let answer = answer_to(&server, &request);
            assert!(!answer.contains("allow-origin"), "{origin}: {answer}");
        }
        assert_eq!(status_of(&server, &clear(&headers)), 403, "{origin}");
        let get = format!("GET /namespace/evil HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        assert_eq!(status_of(&server, &get), 403, "{origin}");
    }
    // A name that was made to point to this machine does not become known by that.
    let answer = answer_to(&server, &preflight("evil.example.org", TOOLS));
    assert!(answer.starts_with("http/1.1 421 "), "{answer}");
    assert_eq!(cborrpc.spec_names(), ["s"]);
}

#[test]
fn the_pages_of_an_origin_that_was_named_need_a_token_once_there_is_one_and_can_read_that() {
    let server = start(&["--http-cors", TOOLS]);
    let token = create(&mut server.connect(), "page", "'read'", "");
    let call = |authorization: &str| {
        let headers = format!(
            "Host: localhost\r\nOrigin: {TOOLS}\r\nSec-Fetch-Site: cross-site\r\n{authorization}"
        );
        answer_to(&server, &clear(&headers).replace("clear", "now"))
    };
    let preflight = answer_to(&server, &preflight("localhost", TOOLS));
    assert!(preflight.starts_with("http/1.1 200 "), "{preflight}");
    let with_token = format!("Authorization: Bearer {token}\r\n");
    for (authorization, status) in [("", "401"), (&*with_token, "200")] {
        let answer = call(authorization);
        assert!(
            answer.starts_with(&format!("http/1.1 {status} ")),
            "{answer}"
        );
        let allowed = format!("\r\naccess-control-allow-origin: {TOOLS}\r\n");
        assert!(answer.contains(&allowed), "{answer}");
    }
}

#[test]
fn a_request_over_http_at_the_port_of_cbor_rpc_is_told_where_it_is_and_runs_nothing() {
    let server = Server::start();
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's'}");
    // {'id': 1, 'method': 'clear', 'params': []}
    let body = b"\xa3\x42id\x01\x46method\x45clear\x46params\x80";
    for method in [
        "POST", "GET", "PUT", "OPTIONS", "DELETE", "HEAD", "PATCH", "CONNECT",
    ] {
        let mut client = server.connect();
        let head = format!(
            "{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.send(&[head.as_bytes(), body].concat());
        let answer = String::from_utf8(client.bytes_until_closed()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 421 "), "{method}: {answer:?}");
        assert!(
            answer.contains("CBOR-RPC") && answer.contains("--http"),
            "{answer:?}"
        );
    }
    // The beginning of a TLS handshake.
    let mut client = server.connect();
    client.send(
        &[
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(),
            body,
        ]
        .concat(),
    );
    let answer = String::from_utf8(client.bytes_until_closed()).unwrap();
    assert!(answer.contains("TLS"), "{answer:?}");
    assert_eq!(cborrpc.spec_names(), ["s"]);
}

#[test]
fn http_over_a_unix_socket_takes_any_host_and_under_a_base_path_only_that() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let address = format!("unix:{}", path.display());
    let mut server = Server::start_with(&["--http", &address, "--http-base-path", "/jobs"]);
    let exchange = |request: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let request = clear("Host: anything\r\n").replace("/rpc", "/jobs/rpc");
    let answer = exchange(&request);
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n0"),
        "{answer:?}"
    );
    let answer = exchange(&clear("Host: anything\r\n"));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer:?}");
    server.stop();
    assert!(!path.exists());
}

#[test]
fn every_answer_says_not_to_keep_it_and_not_to_guess_its_type() {
    let server = start(&[]);
    for path in ["/rpc", "/nowhere", "/healthz"] {
        let mut raw = Raw::connect(&server);
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ));
        let answer = raw.until_closed().to_lowercase();
        for header in ["cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(answer.contains(header), "{path}: {answer}");
        }
    }
    let answer = Client::of(&server).get("/nowhere");
    assert_eq!((answer.status, &*answer.problem()), (404, "not-found"));
    let answer = Client::of(&server).get("/rpc/now");
    assert_eq!(
        (answer.status, &*answer.problem()),
        (405, "method-not-allowed")
    );
    assert_eq!(Client::of(&server).post("/rpc/clear", "").json(), json!(0));
}
