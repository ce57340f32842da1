//! Uploads of units as JSON lines.

use super::{Answer, Client, Raw, answer_of, start};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value as Json, json};
use std::io::Write;
use test_support::{Server, wait_until};

fn upload(http: &Client, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = http.agent.post(format!("{}{path}", http.root));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer_of(request.send(body).expect("an answer"))
}

fn start_with_spec(arguments: &[&str]) -> (Server, Client) {
    let server = start(arguments);
    let http = Client::of(&server);
    http.call("set_work_spec", r#"[{"name": "s"}]"#);
    (server, http)
}

fn available(http: &Client) -> Json {
    http.call("count_work_units", r#"["s"]"#)["1"].clone()
}

/// How far an upload has come, without the line at fault.
fn done(answer: &Json) -> [u64; 4] {
    ["lines", "new", "reset", "skipped"].map(|key| answer[key].as_u64().expect("a count"))
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    let line = |number| format!("{{\"u{number:06}\": {{\"n\": {number}}}}}\n");
    numbers.map(line).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

/// Begins an upload whose body comes in chunks.
fn begin(server: &Server, path: &str, id: &str) -> Raw {
    let mut raw = Raw::connect(server);
    raw.send(format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nUpload-Id: {id}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    raw
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[test]
fn a_line_is_a_key_a_list_or_an_object_and_blank_lines_and_comments_are_passed_over() {
    let (_server, http) = start_with_spec(&[]);
    let body = concat!(
        "\"bare\"\n",
        "# a comment\r\n",
        "\n",
        "[\"listed\", {\"n\": 1}, {\"priority\": 5}]\r\n",
        "{\"x\": {\"n\": 2}, \"y\": null}\n",
        "{\"last\": {}}"
    );
    let answer = upload(&http, "/units/s", &[], body.as_bytes());
    assert_eq!((answer.status, done(&answer.json())), (200, [6, 5, 0, 0]));
    assert_eq!(
        http.call("get_work_units", r#"["s", {}]"#),
        json!([["bare", {}], ["last", {}], ["listed", {"n": 1}], ["x", {"n": 2}], ["y", {}]])
    );
    let first = http.call("get_work", r#"["w", {}]"#);
    assert_eq!(first[1], "listed", "it has a priority");
}

#[test]
fn units_that_exist_are_reset_skipped_or_refused() {
    let (_server, http) = start_with_spec(&[]);
    let add = |query: &str, body: &str| {
        let answer = upload(&http, &format!("/units/s{query}"), &[], body.as_bytes());
        (answer.status, answer.json())
    };
    assert_eq!(done(&add("", "\"a\"\n").1), [1, 1, 0, 0]);
    assert_eq!(done(&add("", "\"a\"\n\"b\"\n").1), [2, 1, 1, 0]);
    assert_eq!(
        done(&add("?if_exists=skip", "\"a\"\n\"c\"\n").1),
        [2, 1, 0, 1]
    );
    let (status, problem) = add("?if_exists=error", "\"d\"\n\"a\"\n");
    assert_eq!((status, done(&problem)), (409, [0; 4]), "{problem}");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(
        detail.starts_with("lines 1 to 2: work unit \"a\" exists already"),
        "{detail}"
    );
    for query in ["?if_exists=no", "?if_exist=skip", "?from_line=0"] {
        assert_eq!(add(query, "\"e\"\n").0, 400, "{query}");
    }
    assert_eq!(available(&http), 3);
}

#[test]
fn units_go_to_the_namespace_and_to_the_work_spec_of_any_name() {
    let (_server, http) = start_with_spec(&[]);
    let made = http.post_with(
        "/namespace/other/work_spec",
        r#"{"data": {"name": "a/b ü"}}"#,
        &[("Content-Type", "application/json")],
    );
    assert_eq!(made.status, 201);
    let path = "/units/a%2Fb%20%C3%BC";
    let answer = upload(&http, &format!("{path}?namespace=other"), &[], b"\"u\"\n");
    assert_eq!((answer.status, done(&answer.json())), (200, [1, 1, 0, 0]));
    let answer = upload(&http, path, &[], b"\"u\"\n");
    assert_eq!(
        (answer.status, &*answer.problem()),
        (404, "no-such-work-spec")
    );
}

#[test]
fn units_are_added_while_others_are_still_to_come() {
    let (server, http) = start_with_spec(&[]);
    let mut raw = begin(&server, "/units/s", "u");
    // Half a line is no line.
    raw.send(chunk("\"a\"\n\"b\"\n\"half"));
    wait_until("the whole lines are added", || available(&http) == 2);
    raw.send(chunk(" and half\"\n"));
    wait_until("the other half has come", || available(&http) == 3);
    raw.send("0\r\n\r\n");
    let answer = raw.some();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.ends_with("{\"lines\":3,\"new\":3,\"reset\":0,\"skipped\":0}"),
        "{answer}"
    );
}

#[test]
fn many_units_are_added_compressed_or_not() {
    let (_server, http) = start_with_spec(&[]);
    let (first, second) = (lines(0..4_500), lines(4_500..9_000));
    let answer = upload(&http, "/units/s", &[], first.as_bytes());
    assert_eq!(done(&answer.json()), [4_500, 4_500, 0, 0]);
    // In two members, as pigz and concatenated files have them.
    let (half, rest) = second.as_bytes().split_at(100_000);
    let compressed = [gzip(half), gzip(rest)].concat();
    let answer = upload(
        &http,
        "/units/s",
        &[("Content-Encoding", "gzip")],
        &compressed,
    );
    assert_eq!(done(&answer.json()), [4_500, 4_500, 0, 0]);
    assert_eq!(available(&http), 9_000);
}

#[test]
fn a_bad_line_is_named_and_what_is_before_it_is_added() {
    let (_server, http) = start_with_spec(&[]);
    let deep = format!(
        "[\"k\", {{\"a\": {}1{}}}]",
        "[".repeat(110),
        "]".repeat(110)
    );
    let units = (0..1_001).map(|n| format!("\"{n}\": {{}}"));
    let many = format!("{{{}}}", units.collect::<Vec<_>>().join(","));
    for (index, bad) in [
        "[",
        "17",
        "[\"k\"]",
        "{\"k\": 5}",
        "\"\\xff\"",
        &deep,
        &many,
        "{} {}",
    ]
    .iter()
    .enumerate()
    {
        let before = format!("\"a{index}\"\n\n\"b{index}\"\n");
        let body = format!("{before}{bad}\n\"never\"\n");
        let answer = upload(&http, "/units/s", &[], body.as_bytes());
        assert_eq!(
            (answer.status, &*answer.problem()),
            (400, "invalid"),
            "{bad:.20}"
        );
        let problem = answer.json();
        assert_eq!(problem["line"], 4, "{bad:.20}");
        assert_eq!(done(&problem), [3, 2, 0, 0], "{bad:.20}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.starts_with("line 4: "), "{detail}");
    }
    assert_eq!(available(&http), 16);
    let never = http.call("get_work_units", r#"["s", {"work_unit_keys": ["never"]}]"#);
    assert_eq!(never, json!([["never", null]]));
}

#[test]
fn bombs_and_what_is_not_gzip_are_refused() {
    let (_server, http) = start_with_spec(&[]);
    let send = |encoding: &str, body: &[u8]| {
        let headers = [("Content-Encoding", encoding)];
        let answer = upload(&http, "/units/s", &headers, body);
        (answer.status, answer.problem())
    };
    let bomb = gzip(&b"\n".repeat(64 << 20));
    assert_eq!(send("gzip", &bomb), (413, "too-large".to_owned()));
    let long_line = gzip(&b" ".repeat(5 << 20));
    assert_eq!(send("gzip", &long_line), (413, "too-large".to_owned()));
    assert_eq!(send("gzip", b"\"a\"\n"), (400, "invalid".to_owned()));
    let text = lines(0..3_000);
    let whole = gzip(text.as_bytes());
    let (status, problem) = send("gzip", &whole[..whole.len() - 4]);
    assert_eq!((status, &*problem), (400, "invalid"));
    assert_eq!(send("br", &whole), (415, "unknown-encoding".to_owned()));
    assert_eq!(available(&http), 3_000, "what came before the cut is added");
}

#[test]
fn an_upload_goes_on_after_its_connection_broke_and_after_the_daemon_was_killed() {
    let (mut server, http) = start_with_spec(&[]);
    let id = [("Upload-Id", "import 1")];
    let state = |http: &Client| {
        let answer = http.send("GET", "/units/s", &id, "");
        assert_eq!(answer.status, 200);
        done(&answer.json())
    };
    assert_eq!(state(&http), [0; 4], "it is not known yet");
    let mut raw = begin(&server, "/units/s?if_exists=error", "import 1");
    raw.send(chunk(&lines(0..3)));
    wait_until("its lines are added", || state(&http)[0] == 3);
    raw.send(chunk("{\"u9999"));
    drop(raw);

    server.kill();
    server.start_again();
    let http = Client::of(&server);
    assert_eq!(state(&http), [3, 3, 0, 0]);

    // Only what is missing, or everything: with `error`, a unit that is added twice is noticed.
    let path = "/units/s?if_exists=error&from_line=4";
    let answer = upload(&http, path, &id, lines(3..5).as_bytes());
    assert_eq!((answer.status, done(&answer.json())), (200, [5, 5, 0, 0]));
    for _ in 0..2 {
        let all = lines(0..7);
        let answer = upload(&http, "/units/s?if_exists=error", &id, all.as_bytes());
        assert_eq!((answer.status, done(&answer.json())), (200, [7, 7, 0, 0]));
    }
    let answer = upload(&http, "/units/s?from_line=9", &id, b"\"z\"\n");
    assert_eq!((answer.status, &*answer.problem()), (409, "refused"));
    let problem = answer.json();
    assert_eq!(done(&problem), [7, 7, 0, 0]);
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("go on from line 8"), "{detail}");
    assert_eq!(available(&http), 7);

    // A work spec that is made anew has no uploads yet.
    http.call("del_work_spec", r#"["s"]"#);
    http.call("set_work_spec", r#"[{"name": "s"}]"#);
    assert_eq!(state(&http), [0; 4]);
}

#[test]
fn of_two_requests_of_one_upload_only_one_adds_its_lines() {
    let (server, http) = start_with_spec(&[]);
    let mut old = begin(&server, "/units/s?if_exists=error", "u");
    old.send(chunk("\"a\"\n"));
    wait_until("its line is added", || available(&http) == 1);
    let body = b"\"a\"\n\"b\"\n\"c\"\n";
    let id = [("Upload-Id", "u")];
    let answer = upload(&http, "/units/s?if_exists=error", &id, body);
    assert_eq!((answer.status, done(&answer.json())), (200, [3, 3, 0, 0]));
    old.send(chunk("\"late\"\n") + "0\r\n\r\n");
    let answer = old.some();
    assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
    assert!(
        answer.contains("another request has changed the upload"),
        "{answer}"
    );
    assert_eq!(available(&http), 3);
}

#[test]
fn an_upload_names_itself_in_ascii_or_not_at_all() {
    let (_server, http) = start_with_spec(&[]);
    for id in ["", &"x".repeat(129)] {
        let answer = upload(&http, "/units/s", &[("Upload-Id", id)], b"\"a\"\n");
        assert_eq!((answer.status, &*answer.problem()), (400, "invalid"));
    }
    assert_eq!(http.get("/units/s").status, 400, "which upload?");
}

#[test]
fn slow_uploads_are_ended_and_only_a_few_are_received_at_a_time() {
    let (server, http) = start_with_spec(&["--http-body-timeout", "1s"]);
    let mut slow: Vec<Raw> = (0..16)
        .map(|number| {
            let mut raw = begin(&server, "/units/s", &number.to_string());
            raw.send(chunk(&format!("\"{number}\"\n\"half")));
            raw
        })
        .collect();
    wait_until("all are received", || available(&http) == 16);
    let answer = upload(&http, "/units/s", &[], b"\"more\"\n");
    assert_eq!((answer.status, &*answer.problem()), (503, "busy"));
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    for raw in &mut slow {
        let answer = raw.until_closed();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("\"lines\":1,\"new\":1"), "{answer}");
    }
    let answer = upload(&http, "/units/s", &[], b"\"more\"\n");
    assert_eq!(answer.status, 200);
}

#[test]
fn a_connection_whose_upload_failed_is_closed_and_the_answer_says_so() {
    let (server, _http) = start_with_spec(&[]);
    // Refused before the body, and within it.
    for (path, body, status) in [
        ("/units/none", chunk("\"a\"\n"), 404),
        ("/units/s", chunk("nonsense\n"), 400),
    ] {
        let mut raw = begin(&server, path, "u");
        raw.send(body);
        let answer = raw.until_closed();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    }
}
