//! Dictionaries come back equal and of the same types, wherever they are kept.

use test_support::{Server, Value, diag};

/// Values that some server or other has lost.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "undefined",
    "0",
    "23",
    "24",
    "2147483648",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1180591620717411303424",
    "10000000000000000000000000000000000000000",
    "-1",
    "-9223372036854775808",
    "-9223372036854775809",
    "-18446744073709551616",
    "-18446744073709551617",
    "3(h'7fffffffffffffff')",
    "2(h'00')",
    "2.0",
    "1.5",
    "-0.0",
    "0.1",
    "5e-324",
    "1e300",
    "NaN",
    "Infinity",
    "-Infinity",
    "''",
    "\"\"",
    "'abc'",
    "\"abc\"",
    "h'00fffe'",
    "'f\u{fc}'",
    "\"f\u{fc}\"",
    "\"\u{2603}\u{1f600}\"",
    "[]",
    "{}",
    "128([])",
    "[1, [2, [3]], []]",
    "128([4, 128([5, [6]])])",
    "[1, 128([2, [3, 4]])]",
    "{'a': {'b': {\"c\": 128([null])}}}",
    "{'bytes': 1, \"text\": 2, h'fffe': 3, \"\u{fc}\": 4}",
    "{1: 't', -2: 'two', null: 'n', true: 'b', 1.5: 'f', 128([1]): 'tuple', h'': 'e'}",
    "37(h'0123456789abcdef0123456789abcdef')",
    "37(h'00000000000000000000000000000000')",
    "24(h'01')",
    "0(\"2013-03-21T20:04:00Z\")",
    "1(1363896240.5)",
    "55799(55799([1]))",
    "65536({'x': 258([1, 2])})",
];

fn all_values() -> Value {
    let entries = VALUES
        .iter()
        .enumerate()
        .map(|(i, text)| (Value::bytes(format!("v{i:02}")), diag(text)));
    Value::Map(entries.collect())
}

#[test]
fn work_unit_data_comes_back_as_it_was() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    for (i, text) in VALUES.iter().enumerate() {
        let data = Value::Map(vec![(Value::bytes("v"), diag(text))]);
        let key = format!("u{i:02}");
        let unit = Value::tuple(vec![Value::bytes(&key), data.clone()]);
        client.call_with(
            "add_work_units",
            vec![Value::bytes("ws"), Value::Array(vec![unit])],
        );
        assert_eq!(client.data("ws", &key), data, "listed: {text}");
        assert_eq!(client.take_key("w", &key).data, data, "handed out: {text}");
        let options = Value::Map(vec![
            (Value::bytes("status"), Value::Unsigned(4)),
            (
                Value::bytes("data"),
                Value::Map(vec![(Value::bytes("new"), diag(text))]),
            ),
        ]);
        client.call_with(
            "update_work_unit",
            vec![Value::bytes("ws"), Value::bytes(&key), options],
        );
        assert_eq!(
            *client.data("ws", &key).at("new"),
            diag(text),
            "updated: {text}"
        );
    }
}

#[test]
fn a_definition_and_an_environment_come_back_as_they_were() {
    let server = Server::start();
    let mut client = server.connect();
    let Value::Map(mut definition) = all_values() else {
        unreachable!()
    };
    definition.push((Value::bytes("name"), Value::bytes("ws")));
    let definition = Value::Map(definition);
    client.call_with("set_work_spec", vec![definition.clone()]);
    assert_eq!(client.call("get_work_spec", "'ws'"), definition);
    assert_eq!(
        *client.call("list_work_specs", "{}").item(0).item(0),
        definition
    );
    let heartbeat = vec![
        Value::bytes("w"),
        Value::Null,
        Value::Unsigned(60),
        all_values(),
        Value::Null,
    ];
    client.call_with("worker_heartbeat", heartbeat);
    let Value::Map(mut environment) = client.value("get_worker_info", "'w'") else {
        panic!("not a map")
    };
    environment.retain(|(key, _)| key.name().as_deref() != Some("age_seconds"));
    assert_eq!(Value::Map(environment), all_values());
}

#[test]
fn data_is_the_same_after_a_restart() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let unit = Value::tuple(vec![Value::bytes("u"), all_values()]);
    client.call_with(
        "add_work_units",
        vec![Value::bytes("ws"), Value::Array(vec![unit])],
    );
    server.restart();
    let mut client = server.connect();
    assert_eq!(client.data("ws", "u"), all_values());
    assert_eq!(client.take_key("w", "u").data, all_values());
}

#[test]
fn a_traceback_comes_back_as_it_was() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    for traceback in [
        "'tb'",
        "\"tb\\n\u{2603}\"",
        "h'ff'",
        "null",
        "5",
        "['list']",
    ] {
        client.add("ws", &format!("['u', {{'traceback': {traceback}}}]"));
        assert_eq!(
            client.status("ws", "u").traceback,
            Some(diag(traceback)),
            "{traceback}"
        );
        client.take_key("w", "u");
        client.updated(
            "ws",
            "u",
            &format!("{{'status': 5, 'data': {{\"traceback\": {traceback}}}}}"),
        );
        assert_eq!(
            client.status("ws", "u").traceback,
            Some(diag(traceback)),
            "{traceback}"
        );
    }
}
