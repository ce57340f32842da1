//! What only this server has: an old client never asks for it.

use super::get_work::clock;
use test_support::{
    AVAILABLE, FAILED, FINISHED, PENDING, Server, Value, diag, server_with_spec, wait_until,
};

#[test]
fn the_server_says_what_it_is_and_can() {
    let server = Server::start();
    let mut client = server.connect();
    let info = client.call("server_info", "");
    assert_eq!(
        info.at("server").name().as_deref(),
        Some("coordinated"),
        "{info}"
    );
    assert_eq!(
        info.at("version").name().as_deref(),
        Some(env!("CARGO_PKG_VERSION")),
        "{info}"
    );
    assert_eq!(*info.at("protocol"), Value::Unsigned(1), "{info}");
    let features: Vec<String> = info
        .at("features")
        .items()
        .iter()
        .map(|name| name.name().unwrap())
        .collect();
    for feature in [
        "server_info",
        "runtimes",
        "delay",
        "worker_id",
        "update_work_units",
        "summary",
        "get_attempts",
        "list_failures",
        "explain_work",
        "list_locks",
        "attempts",
    ] {
        assert!(
            features.iter().any(|name| name == feature),
            "{feature} in {features:?}"
        );
    }
    let (started, now) = (
        info.at("started").number().unwrap(),
        info.at("now").number().unwrap(),
    );
    assert!(started <= now && (now - clock()).abs() < 5.0, "{info}");
    assert_eq!(
        client.call("server_info", "").at("started"),
        info.at("started")
    );
}

#[test]
fn work_of_a_runtime_is_for_those_who_ask_for_it() {
    let server = Server::start();
    let mut client = server.connect();
    for (spec, runtime) in [
        ("go", "'go'"),
        ("lua", "\"lua\""),
        ("any", "''"),
        ("none", "null"),
    ] {
        client.set_spec(&format!("{{'name': '{spec}', 'runtime': {runtime}}}"));
        client.add(spec, &format!("['{spec}', {{}}]"));
    }
    let mut all = |runtimes: &str| {
        let mut specs = Vec::new();
        while let Some(work) = client.take_with("w", &format!("{{{runtimes}}}")) {
            specs.push(work.spec);
        }
        specs.sort();
        specs
    };
    assert_eq!(all("'runtimes': ['python']"), [""; 0]);
    assert_eq!(all("'runtimes': [\"go\", 'python']"), ["go"]);
    assert_eq!(all(""), ["any", "none"]);
    assert_eq!(all("'runtimes': ['', 'lua']"), ["lua"]);
}

#[test]
fn a_unit_can_be_given_back_with_a_delay() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {'n': 1}], ['b', {}, null, -1]");
    client.take_key("w", "a");
    client.updated(
        "ws",
        "a",
        "{'status': 1, 'delay': 1.5, 'data': {'progress': 1}}",
    );
    assert_eq!(client.counts("ws"), [(AVAILABLE, 2)].into());
    let status = client.status("ws", "a");
    assert_eq!((status.status, status.worker), (AVAILABLE, None));
    let mut other = server.connect();
    other.take_key("w2", "b");
    let mut work = None;
    wait_until("the delay has passed", || {
        work = other.take("w2");
        work.is_some()
    });
    assert_eq!(work.unwrap().data, diag("{'n': 1}"), "its own data");
    client.not_updated("ws", "a", "{'status': 4}");
}

#[test]
fn many_updates_go_in_one_call_and_each_has_its_answer() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'then': 'next'}");
    client.set_spec("{'name': 'next'}");
    client.add("ws", "['a', {}], [\"b\", {}], ['c', {}], ['d', {}]");
    client.take_many("w", "{'max_jobs': 3}");
    let updates = "[['a', {'status': 4, 'data': {'output': ['x']}}], 128([\"b\", {'status': 5, 'data': {'n': 1}}]),
        ['nope', {'status': 4}], ['c', {'lease_time': 60}], ['d', {}]]";
    let answer = client.value("update_work_units", &format!("'ws', {updates}"));
    let outcomes: Vec<(bool, bool)> = answer
        .items()
        .iter()
        .map(|pair| (*pair.item(0) == Value::Bool(true), !pair.item(1).is_null()))
        .collect();
    assert_eq!(
        outcomes,
        [
            (true, false),
            (true, false),
            (false, true),
            (true, false),
            (false, true)
        ],
        "{answer}"
    );
    assert_eq!(
        client.counts("ws"),
        [(AVAILABLE, 1), (PENDING, 1), (FINISHED, 1), (FAILED, 1)].into()
    );
    assert_eq!(client.data("ws", "b"), diag("{'n': 1}"));
    assert_eq!(client.keys("next", "{}"), ["x"]);
    assert_eq!(
        client.value("update_work_units", "'ws', []"),
        Value::Array(vec![])
    );
}

#[test]
fn of_many_updates_with_one_malformed_none_is_done() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    for item in [
        "5",
        "['b']",
        "['b', 5]",
        "['b', {'status': []}]",
        "[7, {'status': 4}]",
        "['b', {'status': 4}, 1]",
    ] {
        client.refused(
            "update_work_units",
            &format!("'ws', [['a', {{'status': 4}}], {item}]"),
        );
        assert_eq!(client.counts("ws"), [(AVAILABLE, 2)].into(), "{item}");
    }
}

#[test]
fn a_unit_given_back_by_a_lease_of_zero_may_wait_too() {
    let (_server, mut client) = server_with_spec();
    for zero in ["0", "0.0", "-0.0", "-1", "false"] {
        client.add("ws", "['a', {}]");
        client.take_key("w", "a");
        client.updated(
            "ws",
            "a",
            &format!("{{'lease_time': {zero}, 'delay': 1000}}"),
        );
        let attempts = client.value("get_attempts", "'ws', 'a', {'limit': 1}");
        let status = attempts.item(0).at("status");
        assert_eq!(status, &Value::Unsigned(7), "lease_time {zero}");
        assert_eq!(client.take("w"), None, "lease_time {zero}");
    }
}

#[test]
fn many_updates_are_fenced_like_single_ones() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    client.take_many("w1", "{'max_jobs': 2}");
    client.updated("ws", "a", "{'lease_time': -1}");
    let mut other = server.connect();
    other.take_key("w2", "a");
    let answer = client.value(
        "update_work_units",
        "'ws', [['a', {'status': 4}], ['b', {'status': 4}]]",
    );
    assert_eq!(*answer.item(0).item(0), Value::Bool(false), "{answer}");
    assert_eq!(*answer.item(1).item(0), Value::Bool(true), "{answer}");
    assert_eq!(client.status("ws", "a").worker.as_deref(), Some("w2"));
    assert_eq!(client.state("ws", "b"), FINISHED);
}
