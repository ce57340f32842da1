//! The audit: what is in it, and what is not.

use super::{create, run};
use crate::http::{Client as Http, start};
use serde_json::{Value as Json, json};
use test_support::Server;

/// The audit, the newest entry first.
fn audit(server: &Server, arguments: &[&str]) -> Vec<Json> {
    let exit = run(server, &[&["audit", "--json"], arguments].concat(), &[]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}", exit.stdout))
}

/// What was done, to what, how often, with which detail, the oldest first.
fn changes(server: &Server) -> Vec<Json> {
    let mut entries = audit(server, &[]);
    entries.reverse();
    let parts = |entry: Json| {
        json!([
            entry["action"],
            entry["work_spec"],
            entry["count"],
            entry["detail"]
        ])
    };
    entries.into_iter().map(parts).collect()
}

#[test]
fn each_change_by_a_call_that_controls_is_in_the_audit_and_work_is_not() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 's', 'min_gb': 1}");
    client.add("s", "['a', {'secret': 1}], ['b', {}], ['c', {}]");
    client.take_key("w", "a");
    client.updated("s", "a", "{'status': 5, 'data': {'traceback': 'secret'}}");
    client.take_key("w", "b");
    client.updated("s", "b", "{'status': 1}");
    client.call("worker_heartbeat", "'w', 'RUN', 60, {}, null");
    client.call("lock", "'w', 60, [['x']]");
    client.done("control_work_spec", "'s', {'status': 2, 'reason': 'disk'}");
    client.done(
        "control_work_spec",
        "'s', {'status': 1, 'weight': 3, 'max_running': 2}",
    );
    client.done(
        "prioritize_work_units",
        "'s', {'work_unit_keys': ['a', 'b', 'x'], 'priority': 7}",
    );
    client.updated("s", "a", "{'status': 1}");
    client.value(
        "cancel_work_units",
        "'s', {'work_unit_keys': ['c', 'x'], 'reason': 'no disk'}",
    );
    client.value("cancel_work_units", "'s', {'state': [2]}");
    client.value("del_work_units", "'s', {'work_unit_keys': ['b']}");
    client.value("del_work_units", "'s', {'state': [1]}");
    client.call("delete_namespace", "'x'");
    create(&mut client, "t", "'read', 'work'", "");
    client.done("revoke_token", "'t'");
    client.done("del_work_spec", "'s'");
    client.call("clear", "");
    assert_eq!(
        changes(&server),
        [
            json!(["set_work_spec", "s", 1, ""]),
            json!(["control_work_spec", "s", 1, "paused: disk"]),
            json!([
                "control_work_spec",
                "s",
                1,
                "resumed, weight 3, max_running 2"
            ]),
            json!(["prioritize_work_units", "s", 2, "priority 7"]),
            json!(["retry", "s", 1, ""]),
            json!(["cancel_work_units", "s", 1, "no disk"]),
            json!(["cancel_work_units", "s", 0, ""]),
            json!(["delete_work_units", "s", 1, "by name"]),
            json!(["delete_work_units", "s", 1, "available, delayed"]),
            json!(["delete_locks", null, 1, "x"]),
            json!(["create_token", null, 1, "t: read work"]),
            json!(["revoke_token", null, 1, "t"]),
            json!(["delete_work_spec", "s", 1, ""]),
            json!(["clear", null, 0, "all work specs"]),
        ]
    );
    let table = run(&server, &["audit"], &[]).stdout;
    assert!(
        table.contains("paused: disk") && !table.contains("secret"),
        "{table}"
    );
}

#[test]
fn an_entry_says_who_it_was_and_from_where() {
    let server = start(&[]);
    let mut client = server.connect();
    let token = create(&mut client, "carla", "'operate'", "");
    let http = Http::of(&server);
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", &*authorization)];
    assert_eq!(
        http.post_with("/rpc/set_work_spec", r#"[{"name": "s"}]"#, &headers)
            .status,
        200
    );
    let mut named = server.connect();
    named.value("authenticate", &format!("'{token}'"));
    named.done("del_work_spec", "'s'");
    let who = |entry: &Json| json!([entry["token"], entry["interface"], entry["address"]]);
    let entries: Vec<Json> = audit(&server, &[]).iter().map(who).collect();
    assert_eq!(
        entries,
        [
            json!(["carla", "cborrpc", "127.0.0.1"]),
            json!(["carla", "http", "127.0.0.1"]),
            json!([null, "cborrpc", "127.0.0.1"]),
        ]
    );
}

#[test]
fn what_was_refused_or_failed_is_not_in_the_audit() {
    let server = Server::start();
    let mut client = server.connect();
    client.denied("del_work_spec", "'s'");
    client.denied("control_work_spec", "'s', {'status': 2}");
    client.refused("set_work_spec", "{'name': ''}");
    let reader = create(&mut client, "reader", "'read'", "");
    let mut named = server.connect();
    named.value("authenticate", &format!("'{reader}'"));
    named.refused("clear", "");
    assert_eq!(
        changes(&server),
        [json!(["create_token", null, 1, "reader: read"])]
    );
}

#[test]
fn a_call_in_many_steps_has_one_entry_that_counts_all_of_them() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    let units: Vec<String> = (0..1_000).map(|n| format!("['u{n}', {{}}]")).collect();
    client.add("s", &units.join(", "));
    let keys: Vec<String> = (0..700).map(|n| format!("'u{n}'")).collect();
    let keys = format!("'s', {{'work_unit_keys': [{}]}}", keys.join(", "));
    client.value("del_work_units", &keys);
    client.value("del_work_units", "'s', {'state': [1, 4]}");
    let expected = [
        json!(["set_work_spec", "s", 1, ""]),
        json!(["delete_work_units", "s", 700, "by name"]),
        json!([
            "delete_work_units",
            "s",
            300,
            "available, delayed, finished"
        ]),
    ];
    assert_eq!(changes(&server), expected);
    server.restart();
    assert_eq!(changes(&server), expected);
}

#[test]
fn the_audit_is_listed_by_pages_and_kept_for_as_long_as_is_said() {
    let mut server = Server::start();
    let mut client = server.connect();
    for n in 0..5 {
        client.set_spec(&format!("{{'name': 's{n}'}}"));
    }
    let newest = audit(&server, &["--limit", "2"]);
    let names: Vec<&Json> = newest.iter().map(|entry| &entry["work_spec"]).collect();
    assert_eq!(names, ["s4", "s3"]);
    let id = newest[1]["id"].as_u64().expect("an id");
    let older = client.value("list_audit", &format!("{{'before': {id}, 'limit': 2}}"));
    let older = older.to_string();
    assert!(
        older.contains("\"s2\"") || older.contains("'s2'"),
        "{older}"
    );
    assert!(!older.contains("s3") && !older.contains("s0"), "{older}");
    assert_eq!(audit(&server, &["--limit", "0"]).len(), 0);
    server.stop();
    server.start_again_with(&["--audit-days", "1"]);
    assert_eq!(audit(&server, &[]).len(), 5);
}

#[test]
fn archiving_by_a_call_is_in_the_audit_and_what_the_daemon_archives_by_itself_is_not() {
    let mut server = Server::start();
    server.stop();
    server.start_again_with(&["--limit-completed-count", "0"]);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    client.add("s", "['a', {}]");
    client.take_key("w", "a");
    client.updated("s", "a", "{'status': 4}");
    client.call("archive", "{}");
    client.call("archive", "{}");
    let actions: Vec<Json> = changes(&server)
        .iter()
        .map(|entry| entry[0].clone())
        .collect();
    assert_eq!(actions, ["set_work_spec", "archive", "archive"]);
}

#[test]
fn what_rest_clients_change_is_in_the_audit_with_its_namespace_and_one_entry_for_all_steps() {
    let server = start(&[]);
    let http = Http::of(&server);
    let token = create(&mut server.connect(), "gopher", "'admin'", "");
    let authorization = format!("Bearer {token}");
    let headers = [
        ("Authorization", &*authorization),
        ("Content-Type", "application/json"),
    ];
    let send = |method: &str, path: &str, body: &str| {
        let answer = http.send(method, &format!("/namespace/{path}"), &headers, body);
        assert!(answer.status < 300, "{method} {path}: {answer:?}");
    };
    send("POST", "n/work_spec", r#"{"data": {"name": "s"}}"#);
    for name in 0..1_200 {
        let unit = format!(r#"{{"name": "u{name}", "data": {{"secret": 1}}}}"#);
        send("POST", "n/work_spec/s/work_unit", &unit);
    }
    send("POST", "n/worker/w/request_attempts", "{}");
    let in_two = r#"{"meta": {"priority": 2, "not_before": "2000-01-01T00:00:00Z"}, "active_attempt_url": "-"}"#;
    send("PUT", "n/work_spec/s/work_unit/u0", in_two);
    send(
        "POST",
        "n/work_spec/s/change",
        r#"{"meta": {"priority": 3}}"#,
    );
    send(
        "PUT",
        "n/work_spec/s/meta",
        r#"{"priority": 1, "paused": true}"#,
    );
    send("DELETE", "n/work_spec/s/work_unit?status=available", "");
    send("DELETE", "n/work_spec/s", "");
    send("DELETE", "n", "");
    let mut entries = audit(&server, &[]);
    entries.reverse();
    let entries: Vec<Json> = entries
        .iter()
        .map(|entry| {
            json!([
                entry["namespace"],
                entry["action"],
                entry["count"],
                entry["detail"]
            ])
        })
        .collect();
    assert_eq!(
        entries,
        [
            json!(["", "create_token", 1, "gopher: admin"]),
            json!(["n", "set_work_spec", 1, ""]),
            json!([
                "n",
                "change_work_unit",
                1,
                "attempt cleared, priority 2, delayed"
            ]),
            json!(["n", "prioritize_work_units", 1_200, "priority 3"]),
            json!([
                "n",
                "control_work_spec",
                1,
                "priority 1, weight 0, paused true, continuous false, interval 0 s, max_running none"
            ]),
            json!(["n", "delete_work_units", 1_200, ""]),
            json!(["n", "delete_work_spec", 1, ""]),
            json!(["n", "destroy_namespace", 1, "work specs: 0"]),
        ]
    );
    let who = &audit(&server, &["--limit", "1"])[0];
    assert_eq!(who["token"], "gopher");
    assert_eq!(who["interface"], "http");
    assert_eq!(who["address"], "127.0.0.1");
}

#[test]
fn a_token_of_a_namespace_sees_only_the_audit_of_that_one() {
    let server = start(&["--namespace", "here"]);
    let http = Http::of(&server);
    let made = http.send(
        "POST",
        "/namespace/there/work_spec",
        &[("Content-Type", "application/json")],
        r#"{"data": {"name": "s"}}"#,
    );
    assert_eq!(made.status, 201, "{made:?}");
    let mut client = server.connect();
    let token = create(&mut client, "t", "'admin'", "'namespace': 'here'");
    let namespaces = |entries: Vec<Json>| -> Vec<Json> {
        entries
            .iter()
            .map(|entry| entry["namespace"].clone())
            .collect()
    };
    assert_eq!(namespaces(audit(&server, &[])), ["here", "there"]);
    let own = run(
        &server,
        &["audit", "--json"],
        &[("COORDINATED_TOKEN", &token)],
    );
    assert_eq!(own.code, Some(0), "{}", own.stderr);
    let own = serde_json::from_str(&own.stdout).expect("a list");
    assert_eq!(namespaces(own), ["here"]);
}
