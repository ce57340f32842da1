//! No HTTP client takes more than its share, whatever it sends.

use super::{Client, Raw, start};
use serde_json::json;
use std::thread;
use std::time::Duration;
use test_support::wait_until;

const NOW: &str = "POST /rpc/now HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";

#[test]
fn a_body_beyond_the_limit_is_refused_whether_its_length_is_told_or_not() {
    let server = start(&["--max-message", "10KiB"]);
    let http = Client::of(&server);
    let long = format!("[{}]", " ".repeat(20 << 10));
    let answer = http.post("/rpc/now", &long);
    assert_eq!((answer.status, &*answer.problem()), (413, "too-large"));
    assert!(answer.body.contains("max-message"), "{answer:?}");
    let mut raw = Raw::connect(&server);
    raw.send("POST /rpc/now HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        raw.send(format!("400\r\n{}\r\n", " ".repeat(1024)));
    }
    assert!(raw.some().starts_with("HTTP/1.1 413 "));
    assert!(http.call("now", "").is_u64());
}

#[test]
fn a_chunked_body_in_many_small_pieces_is_read() {
    let server = start(&[]);
    let mut raw = Raw::connect(&server);
    raw.send("POST /rpc/clear HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for byte in ["[", "\"", "\"", "]"] {
        raw.send(format!("1\r\n{byte}\r\n"));
        thread::sleep(Duration::from_millis(5));
    }
    raw.send("0\r\n\r\n");
    // One parameter too many, which shows that all of it was read.
    let answer = raw.some();
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("too many parameters"),
        "{answer}"
    );
}

#[test]
fn slow_heads_slow_bodies_and_idle_connections_are_ended() {
    let server = start(&["--http-head-timeout", "1s", "--http-body-timeout", "1s"]);
    let mut half_a_head = Raw::connect(&server);
    half_a_head.send("POST /rpc/now HTT");
    let mut half_a_body = Raw::connect(&server);
    half_a_body.send(NOW.replace("Length: 0", "Length: 10") + "[");
    let mut silent = Raw::connect(&server);
    let mut idle = Raw::connect(&server);
    idle.send(NOW);
    assert!(idle.some().starts_with("HTTP/1.1 200 "));
    let answer = half_a_body.until_closed();
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.contains("http-body-timeout"),
        "{answer}"
    );
    for raw in [&mut half_a_head, &mut silent, &mut idle] {
        raw.until_closed();
    }
    assert!(Client::of(&server).call("now", "").is_u64());
}

#[test]
fn requests_beyond_the_limit_are_told_to_come_back() {
    let server = start(&["--http-max-requests", "2"]);
    let http = Client::of(&server);
    let mut cborrpc = server.connect();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let http = http.clone();
            thread::spawn(move || http.call("get_work", r#"["w", {"wait": 60}]"#))
        })
        .collect();
    wait_until("both wait", || {
        let info = cborrpc.call("server_info", "");
        info.at("calls")
            .get("get_work")
            .and_then(test_support::Value::number)
            == Some(2.0)
    });
    let answer = http.post("/rpc/now", "");
    assert_eq!((answer.status, &*answer.problem()), (503, "busy"));
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    assert!(answer.body.contains("http-max-requests"), "{answer:?}");
    // Health is told all the same.
    assert_eq!(http.get("/healthz").status, 200);
    cborrpc.set_spec("{'name': 's'}");
    cborrpc.add("s", "['a', {}], ['b', {}]");
    let mut keys: Vec<_> = waiting
        .into_iter()
        .map(|it| it.join().unwrap()[1].clone())
        .collect();
    keys.sort_by_key(ToString::to_string);
    assert_eq!(keys, [json!("a"), json!("b")]);
    assert!(http.call("now", "").is_u64());
}

#[test]
fn connections_beyond_the_limit_are_closed_and_leave_the_others_alone() {
    let server = start(&["--http-max-connections", "2"]);
    let mut first = Raw::connect(&server);
    let mut second = Raw::connect(&server);
    for raw in [&mut first, &mut second] {
        raw.send(NOW);
        assert!(raw.some().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(Raw::connect(&server).until_closed(), "");
    drop(second);
    wait_until("there is a place again", || {
        let mut third = Raw::connect(&server);
        let _ = std::io::Write::write_all(&mut third.0, NOW.as_bytes());
        let mut answer = [0; 12];
        std::io::Read::read_exact(&mut third.0, &mut answer).is_ok() && &answer == b"HTTP/1.1 200"
    });
    first.send(NOW);
    assert!(first.some().starts_with("HTTP/1.1 200 "));
}

#[test]
fn what_is_no_http_or_could_be_read_in_two_ways_is_refused_and_runs_nothing() {
    let server = start(&[]);
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's'}");
    let smuggled = "POST /rpc/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    for request in [
        "\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n".to_owned(),
        "NONSENSE\r\n\r\n".to_owned(),
        "POST /rpc/clear HTTP/9.9\r\nHost: localhost\r\n\r\n".to_owned(),
        format!("POST /rpc/clear HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(200_000)),
        "POST /rpc/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2, 3\r\n\r\n[]".to_owned(),
        "POST /rpc/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 2\r\n\r\n[]".to_owned(),
        "POST /rpc/clear HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_owned(),
        "POST /rpc/clear HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n".to_owned(),
        "POST /rpc/clear HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Both lengths: only the chunks count, and the connection ends after it.
        format!(
            "POST /rpc/now HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            smuggled.len() + 5
        ),
    ] {
        let mut raw = Raw::connect(&server);
        // It may be refused before all of it was sent.
        let _ = std::io::Write::write_all(&mut raw.0, request.as_bytes());
        let _ = raw.0.shutdown(std::net::Shutdown::Write);
        let answer = raw.until_closed();
        assert!(!answer.contains("\r\n\r\n0"), "{request:.60?}: {answer}");
        assert_eq!(cborrpc.spec_names(), ["s"], "{request:.60?}");
    }
    assert!(Client::of(&server).call("now", "").is_u64());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start(&[]);
    let mut raw = Raw::connect(&server);
    let mut requests = String::new();
    for n in 0..50 {
        let body = format!(r#"[{{"name": "s{n:02}"}}]"#);
        requests += &format!(
            "POST /rpc/set_work_spec HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    requests += "POST /rpc/nonesuch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    raw.send(requests);
    let answers = raw.until_closed();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 50, "{answers}");
    assert!(answers.contains("HTTP/1.1 404"), "{answers}");
    assert_eq!(server.connect().spec_names().len(), 50);
}

#[test]
fn a_client_that_pipelines_and_reads_nothing_is_not_read_from_and_keeps_nobody_waiting() {
    let server = start(&[]);
    let mut raw = Raw::connect(&server);
    let timeout = Some(Duration::from_millis(500));
    raw.0.set_write_timeout(timeout).expect("a timeout");
    let requests = "GET /rpc HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1_000);
    let http = Client::of(&server);
    let mut sent = 0;
    // Their answers are a hundred times as long, and nobody reads them.
    while std::io::Write::write_all(&mut raw.0, requests.as_bytes()).is_ok() {
        sent += requests.len();
        assert!(sent < 64 << 20, "it is still read from");
        assert!(http.call("now", "").is_u64());
    }
    assert!(http.call("now", "").is_u64());
    server.connect().call("now", "");
}

#[test]
fn a_head_of_very_many_lines_is_refused() {
    let server = start(&[]);
    let mut raw = Raw::connect(&server);
    let lines: String = (0..2_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let request = format!("POST /rpc/now HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
    let _ = std::io::Write::write_all(&mut raw.0, request.as_bytes());
    let answer = raw.until_closed();
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
        "{answer}"
    );
    assert!(Client::of(&server).call("now", "").is_u64());
}

#[test]
fn hundreds_of_half_requests_do_not_keep_others_waiting() {
    let server = start(&[]);
    let half: Vec<Raw> = (0..500)
        .map(|n| {
            let mut raw = Raw::connect(&server);
            raw.send(&NOW[..n % NOW.len()]);
            raw
        })
        .collect();
    let http = Client::of(&server);
    let mut cborrpc = server.connect();
    for _ in 0..20 {
        assert!(http.call("now", "").is_u64());
        cborrpc.call("now", "");
    }
    drop(half);
}

#[test]
fn an_answer_to_a_request_whose_body_was_not_read_says_that_the_connection_is_closed() {
    let server = start(&[]);
    let begin = |line: &str| {
        let mut raw = Raw::connect(&server);
        raw.send(format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n"
        ));
        raw
    };
    for (line, status) in [
        ("POST /units/none", 404),
        ("POST /nowhere", 404),
        ("DELETE /rpc", 405),
        ("PATCH /namespace", 405),
        ("POST /ui/sign-out", 400),
    ] {
        let answer = begin(line).until_closed();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(
            answer.contains("\r\nconnection: close\r\n"),
            "{line}: {answer}"
        );
    }
    // Where it is read, another request may follow.
    let mut raw = begin("POST /rpc/now");
    raw.send("0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answers = raw.until_closed();
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
}
