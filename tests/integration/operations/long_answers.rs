//! Answers that are too long to be made.

use test_support::{Client, Reply, Server, Value, diag, server_with_spec};

/// Of these, eight are more than an answer may have (64 MiB), and seven are not.
fn eighth() -> Value {
    Value::Map(vec![(Value::bytes("x"), Value::Bytes(vec![0; 8 << 20]))])
}

/// A work spec with eight units that are too long together, `u0` to `u7`.
fn server_with_large_units() -> (Server, Client) {
    let (server, mut client) = server_with_spec();
    for key in keys(8) {
        let unit = Value::Array(vec![Value::bytes(key), eighth()]);
        let units = vec![Value::bytes("ws"), Value::Array(vec![unit])];
        client.call_with("add_work_units", units);
    }
    (server, client)
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("u{number}")).collect()
}

/// Parameters that ask for units by their names.
fn by_keys(count: usize) -> String {
    let keys: Vec<String> = keys(count).iter().map(|key| format!("'{key}'")).collect();
    format!("'ws', {{'work_unit_keys': [{}]}}", keys.join(", "))
}

fn assert_too_long(client: &mut Client, method: &str, params: &str) {
    let message = client.refused(method, params);
    let expected = "longer than 67108864 bytes; ask for less at a time";
    assert!(message.contains(expected), "{method}({params}): {message}");
}

#[test]
fn a_list_of_units_has_at_most_64_mib() {
    let (_server, mut client) = server_with_large_units();
    assert_too_long(&mut client, "get_work_units", "'ws', {}");
    assert_too_long(&mut client, "get_work_units", &by_keys(8));
    for params in ["'ws', {'limit': 7}", &by_keys(7)] {
        let units = client.value("get_work_units", params);
        let names: Vec<String> = units
            .items()
            .iter()
            .filter_map(|unit| unit.item(0).name())
            .collect();
        assert_eq!(names, keys(7), "{params}");
    }
}

#[test]
fn a_list_of_units_that_children_have_has_at_most_64_mib() {
    let (_server, mut client) = server_with_large_units();
    client.call("worker_heartbeat", "'child', null, 60, {}, 'parent'");
    for key in keys(7) {
        client.take_key("child", &key);
    }
    let held = client.value("get_child_work_units", "'parent'");
    assert_eq!(held.at("child").items().len(), 7);
    client.take_key("child", "u7");
    assert_too_long(&mut client, "get_child_work_units", "'parent'");
}

#[test]
fn a_list_of_work_specs_has_at_most_64_mib() {
    let server = Server::start();
    let mut client = server.connect();
    for name in keys(8) {
        let Value::Map(mut definition) = eighth() else {
            unreachable!("it is a map")
        };
        definition.push((Value::bytes("name"), Value::bytes(name)));
        client.call_with("set_work_spec", vec![Value::Map(definition)]);
    }
    assert_too_long(&mut client, "list_work_specs", "{}");
    let page = client.call("list_work_specs", "{'limit': 7}");
    assert_eq!(page.item(0).items().len(), 7);
}

/// What the requests of a list are answered is sent in one message.
#[test]
fn requests_behind_more_than_64_mib_of_answers_are_not_run() {
    let (_server, mut client) = server_with_large_units();
    let request = |id: u64, method: &str, params: &str| {
        diag(&format!(
            "{{'id': {id}, 'method': '{method}', 'params': [{params}]}}"
        ))
    };
    let answers = client.exchange(&Value::Array(vec![
        request(1, "get_work_units", &by_keys(5)),
        request(2, "get_work_units", &by_keys(5)),
        request(3, "add_work_units", "'ws', ['late']"),
    ]));
    for answer in &answers.items()[..2] {
        let Reply::Result(units) = test_support::reply(answer) else {
            panic!("no units")
        };
        assert_eq!(units.item(0).items().len(), 5);
    }
    let Reply::Error(message) = test_support::reply(answers.item(2)) else {
        panic!("it was run")
    };
    assert!(message.contains("not run"), "{message}");
    assert_eq!(client.counts("ws"), [(test_support::AVAILABLE, 8)].into());
}
