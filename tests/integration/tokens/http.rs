//! Over HTTP.

use super::create;
use crate::http::{Answer, Client, Raw, start};
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use test_support::{Server, Value, wait_until};

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Calls `now` with a header Authorization.
fn now_with(http: &Client, authorization: &str) -> Answer {
    http.post_with("/rpc/now", "", &[("Authorization", authorization)])
}

fn status_with(http: &Client, token: &str) -> u16 {
    now_with(http, &bearer(token)).status
}

#[test]
fn http_is_open_until_the_first_token_and_then_each_request_but_those_for_health_needs_one() {
    for base in ["", "/jobs"] {
        let server = start(&["--http-base-path", base]);
        let http = Client::of(&server);
        assert_eq!(http.call("now", "").as_u64().map(|_| ()), Some(()));
        // Nobody looks at what a client sends without need.
        assert_eq!(status_with(&http, "nonsense"), 200);
        let token = create(&mut server.connect(), "all", "'admin'", "");

        for path in [
            "/rpc",
            "/metrics",
            "/nowhere",
            "/rpc/now",
            "/namespace/n",
            "/",
        ] {
            let answer = http.get(path);
            assert_eq!(
                (answer.status, &*answer.problem()),
                (401, "unauthenticated"),
                "{path}"
            );
        }
        for path in ["/rpc", "/rpc/now", "/rpc/nonesuch", "/rpc/authenticate"] {
            let answer = http.post(path, "[]");
            assert_eq!(
                (answer.status, &*answer.problem()),
                (401, "unauthenticated"),
                "{path}"
            );
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(http.get(path).status, 200, "{path}");
            // A wrong token does not matter there.
            let wrong = [("Authorization", "Bearer nonsense")];
            assert_eq!(http.get_with(path, &wrong).status, 200, "{path}");
        }

        let with_token = [("Authorization", &*bearer(&token))];
        for path in ["/rpc", "/metrics", "/namespace", "/namespace/n"] {
            assert_eq!(http.get_with(path, &with_token).status, 200, "{path}");
        }
        assert_eq!(http.get_with("/nowhere", &with_token).status, 404);
        assert_eq!(http.post_with("/rpc/nonesuch", "", &with_token).status, 404);
        let calls = r#"[{"method": "now", "params": []}]"#;
        assert_eq!(http.post_with("/rpc", calls, &with_token).status, 200);
    }
}

#[test]
fn a_request_without_a_token_is_told_which_ways_to_send_one() {
    let server = start(&[]);
    create(&mut server.connect(), "all", "'admin'", "");
    let mut raw = Raw::connect(&server);
    raw.send("GET /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = raw.until_closed();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let header = "\r\nwww-authenticate: Bearer, Basic realm=\"coordinated\"\r\n";
    assert!(answer.contains(header), "{answer}");
    assert!(answer.contains("header Authorization"), "{answer}");
}

#[test]
fn a_token_is_a_bearer_or_the_password_of_basic_and_never_in_the_address() {
    let server = start(&[]);
    let http = Client::of(&server);
    let token = create(&mut server.connect(), "t", "'read'", "");
    assert_eq!(status_with(&http, &token), 200);
    assert_eq!(now_with(&http, &format!("bearer {token}")).status, 200);
    let root = server.http();
    let with_password = root.replace("http://", &format!("http://anybody:{token}@"));
    assert_eq!(Client::at(&with_password).post("/rpc/now", "").status, 200);
    let as_user = root.replace("http://", &format!("http://{token}:x@"));
    assert_eq!(Client::at(&as_user).post("/rpc/now", "").status, 401);
    for query in ["token", "access_token", "Authorization"] {
        let path = format!("/rpc/now?{query}={token}");
        assert_eq!(http.post(&path, "").status, 401, "{query}");
    }
    assert_eq!(status_with(&http, &token[..39]), 401);
    assert_eq!(now_with(&http, &token).status, 401);
}

#[test]
fn a_token_that_was_revoked_replaced_or_has_expired_is_refused_from_then_on() {
    let server = start(&[]);
    let http = Client::of(&server);
    let mut client = server.connect();
    let revoked = create(&mut client, "revoked", "'read'", "");
    let replaced = create(&mut client, "replaced", "'read'", "");
    assert_eq!(status_with(&http, &revoked), 200);
    client.done("revoke_token", "'revoked'");
    let answer = now_with(&http, &bearer(&revoked));
    assert_eq!(answer.status, 401);
    assert!(answer.body.contains("was revoked"), "{answer:?}");

    let new = client.value("rotate_token", "'replaced'");
    assert_eq!(status_with(&http, &replaced), 401);
    let new = match new.at("token") {
        Value::Text(text) => text.clone(),
        other => panic!("{other}"),
    };
    assert_eq!(status_with(&http, &new), 200);

    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let soon = since.as_secs_f64() + 2.0;
    let expiring = create(
        &mut client,
        "expiring",
        "'read'",
        &format!("'expires': {soon}"),
    );
    assert_eq!(status_with(&http, &expiring), 200);
    wait_until("the token has expired", || {
        status_with(&http, &expiring) == 401
    });
    let answer = now_with(&http, &bearer(&expiring));
    assert!(answer.body.contains("has expired"), "{answer:?}");
    // When no token is valid any more, HTTP is not open again.
    client.done("revoke_token", "'replaced'");
    assert_eq!(http.post("/rpc/now", "").status, 401);
}

#[test]
fn tokens_outlive_a_restart_and_tell_when_they_were_used() {
    let mut server = start(&[]);
    let token = create(&mut server.connect(), "t", "'read'", "");
    let last_used = |server: &Server| super::list(server, &[])[0]["last_used"].clone();
    assert_eq!(last_used(&server), json!(null));
    server.restart();
    let http = Client::of(&server);
    assert_eq!(http.post("/rpc/now", "").status, 401);
    assert_eq!(status_with(&http, &token), 200);
    wait_until("the use is noted", || last_used(&server).is_number());
    let first = last_used(&server);
    assert_eq!(status_with(&http, &token), 200);
    // It is written at most once a minute.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(last_used(&server), first);
}

#[test]
fn a_token_of_a_namespace_counts_only_there() {
    let server = start(&["--namespace", "here"]);
    let http = Client::of(&server);
    let mut client = server.connect();
    let here = create(&mut client, "here", "'admin'", "'namespace': 'here'");
    let there = create(&mut client, "there", "'admin'", "'namespace': 'there'");
    assert_eq!(status_with(&http, &here), 200);
    let answer = now_with(&http, &bearer(&there));
    assert_eq!((answer.status, &*answer.problem()), (403, "forbidden"));
    assert!(answer.body.contains(r#"namespace \"there\""#), "{answer:?}");

    // It can't make itself more.
    let with_token = [("Authorization", &*bearer(&here))];
    let create = |name: &str, namespace: &str| {
        let params = format!(r#"["{name}", {{"scopes": ["read"] {namespace}}}]"#);
        http.post_with("/rpc/create_token", &params, &with_token)
    };
    assert_eq!(create("everywhere", "").problem(), "forbidden");
    assert_eq!(
        create("away", r#", "namespace": "there""#).problem(),
        "forbidden"
    );
    assert_eq!(create("more", r#", "namespace": "here""#).status, 200);
    let answer = http.post_with("/rpc/revoke_token", r#"["there"]"#, &with_token);
    assert_eq!(answer.problem(), "forbidden");
    let listed = http.post_with("/rpc/list_tokens", "", &with_token).json();
    let names: Vec<_> = listed.as_array().expect("a list").iter().collect();
    assert!(
        names.iter().all(|token| token["namespace"] == "here"),
        "{names:?}"
    );
}

#[test]
fn a_client_behind_a_proxy_that_is_named_has_its_own_address_in_the_audit_and_for_wrong_tokens() {
    let server = start(&["--http-trusted-proxy", "127.0.0.0/8"]);
    let http = Client::of(&server);
    let token = create(&mut server.connect(), "t", "'operate'", "");
    let call = |token: &str, forwarded: &str| {
        let authorization = bearer(token);
        let headers = [
            ("Authorization", &*authorization),
            ("X-Forwarded-For", forwarded),
        ];
        http.post_with("/rpc/set_work_spec", r#"[{"name": "s"}]"#, &headers)
    };
    for _ in 0..10 {
        assert_eq!(call("cdt_wrong", "192.0.2.1").status, 401);
    }
    // What the client sent itself does not help it.
    assert_eq!(call("cdt_wrong", "203.0.113.7, 192.0.2.1").status, 429);
    assert_eq!(call("cdt_wrong", "192.0.2.2").status, 401);
    assert_eq!(call(&token, "203.0.113.7, 192.0.2.2").status, 200);
    let entry = server.connect().value("list_audit", "{'limit': 1}");
    assert!(entry.to_string().contains("192.0.2.2"), "{entry}");
}

#[test]
fn nobody_else_says_from_where_a_request_comes() {
    let server = start(&[]);
    let http = Client::of(&server);
    let headers = [("X-Forwarded-For", "192.0.2.1")];
    let answer = http.post_with("/rpc/set_work_spec", r#"[{"name": "s"}]"#, &headers);
    assert_eq!(answer.status, 200, "{answer:?}");
    let entry = server.connect().value("list_audit", "{'limit': 1}");
    let entry = entry.to_string();
    assert!(
        entry.contains("127.0.0.1") && !entry.contains("192.0.2.1"),
        "{entry}"
    );
}

#[test]
fn wrong_tokens_are_slowed_down_and_right_ones_pass() {
    let server = start(&[]);
    let http = Client::of(&server);
    let token = create(&mut server.connect(), "t", "'read'", "");
    for _ in 0..10 {
        assert_eq!(status_with(&http, "cdt_wrong"), 401);
    }
    let answer = now_with(&http, "Bearer cdt_wrong");
    assert_eq!((answer.status, &*answer.problem()), (429, "too-many-tries"));
    let wait: u64 = answer
        .retry_after
        .as_ref()
        .expect("a time")
        .parse()
        .unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    // Those who show none are not guessing, and a right token is never locked out.
    assert_eq!(http.post("/rpc/now", "").status, 401);
    assert_eq!(status_with(&http, &token), 200);
    // It is the address that counts, not the interface.
    let message = server.connect().refused("authenticate", "'cdt_wrong'");
    assert!(message.contains("too many tries"), "{message}");
    let lines = server.log().matches("a token was not accepted").count();
    assert!((1..=3).contains(&lines), "{lines} lines");
}

#[test]
fn an_upload_ends_once_its_token_is_revoked_and_says_how_far_it_has_come() {
    let server = start(&[]);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    let token = create(&mut client, "loader", "'submit'", "");
    let mut raw = Raw::connect(&server);
    raw.send(format!(
        "POST /units/s HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        bearer(&token)
    ));
    raw.send("4\r\n\"a\"\n\r\n");
    wait_until("its line is added", || {
        client.counts("s").get(&1) == Some(&1)
    });
    client.done("revoke_token", "'loader'");
    raw.send("4\r\n\"b\"\n\r\n0\r\n\r\n");
    let answer = raw.until_closed();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("was revoked"), "{answer}");
    assert!(answer.contains("\"lines\":1,\"new\":1,"), "{answer}");
    assert_eq!(client.counts("s").get(&1), Some(&1));
}
