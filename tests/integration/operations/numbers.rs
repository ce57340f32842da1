//! Values that calls refuse wherever they stand: numbers that are none, and lists that are too long.

use test_support::{Server, Value, diag, server_with_spec};

#[test]
fn nan_is_refused_wherever_a_number_is_asked_for() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['u', {}]");
    let before = client.call("get_work_spec_meta", "'ws'");
    for (method, params) in [
        ("add_work_units", "'ws', [['n', {}, {'priority': NaN}]]"),
        ("add_work_units", "'ws', [['n', {}, {'delay': NaN}]]"),
        ("add_work_units", "'ws', [['n', {}, null, NaN]]"),
        ("get_work", "'w', {'lease_time': NaN}"),
        ("get_work", "'w', {'max_jobs': NaN}"),
        ("update_work_unit", "'ws', 'u', {'status': NaN}"),
        ("update_work_unit", "'ws', 'u', {'lease_time': NaN}"),
        ("update_work_unit", "'ws', 'u', {'status': 1, 'delay': NaN}"),
        ("update_work_units", "'ws', [['u', {'lease_time': NaN}]]"),
        (
            "prioritize_work_units",
            "'ws', {'work_unit_keys': ['u'], 'priority': NaN}",
        ),
        (
            "prioritize_work_units",
            "'ws', {'work_unit_keys': ['u'], 'adjustment': NaN}",
        ),
        ("del_work_units", "'ws', {'state': NaN}"),
        ("del_work_units", "'ws', {'state': [1, NaN]}"),
        ("get_work_units", "'ws', {'limit': NaN}"),
        ("get_work_units", "'ws', {'state': NaN}"),
        ("list_work_specs", "{'limit': NaN}"),
        ("get_attempts", "'ws', 'u', {'limit': NaN}"),
        ("list_failures", "'ws', {'limit': NaN}"),
        ("list_locks", "null, {'limit': NaN}"),
        ("control_work_spec", "'ws', {'status': NaN}"),
        ("control_work_spec", "'ws', {'weight': NaN}"),
        ("control_work_spec", "'ws', {'interval': NaN}"),
        ("control_work_spec", "'ws', {'max_running': NaN}"),
        ("worker_heartbeat", "'w', null, NaN, null, null"),
        ("lock", "'me', NaN, [['a']]"),
        ("locksome", "'me', NaN, [['a']]"),
        ("renew", "'me', NaN, [['a']]"),
    ] {
        let message = client.refused(method, params);
        let expected = ["NaN", "a number", "an integer", "a status number"];
        let is_told = expected.iter().any(|words| message.contains(words));
        assert!(is_told, "{method}({params}): {message}");
    }
    assert_eq!(client.call("get_work_spec_meta", "'ws'"), before);
    assert_eq!(client.keys("ws", "{}"), ["u"]);
    assert_eq!(client.call("readlock", "[['a']]"), diag("[null]"));
    assert_eq!(client.value("list_worker_modes", ""), diag("{}"));
    client.take_key("w", "u");
}

#[test]
fn nan_is_refused_in_every_number_of_a_work_spec_also_as_a_numeral() {
    let (_server, mut client) = server_with_spec();
    let before = client.call("get_work_spec_meta", "'ws'");
    for key in [
        "weight",
        "nice",
        "priority",
        "interval",
        "max_running",
        "max_getwork",
        "max_retries",
        "min_gb",
    ] {
        for nan in ["NaN", "'nan'", "\"NaN\""] {
            let definition = format!("{{'name': 'ws', '{key}': {nan}}}");
            let message = client.refused("set_work_spec", &definition);
            assert!(message.contains(key), "{definition}: {message}");
        }
    }
    assert_eq!(client.call("get_work_spec_meta", "'ws'"), before);
}

#[test]
fn every_list_within_a_request_has_at_most_so_many_items() {
    let server = Server::start_with(&["--max-items", "3"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(", "));
    for (method, before, item, behind) in [
        ("add_work_units", "'ws', ", "['u', {}]", ""),
        (
            "update_work_units",
            "'ws', ",
            "['u', {'lease_time': 9}]",
            "",
        ),
        ("get_work_unit_status", "'ws', ", "'u'", ""),
        ("get_work_units", "'ws', {'work_unit_keys': ", "'u'", "}"),
        ("get_work_units", "'ws', {'state': ", "1", "}"),
        (
            "prioritize_work_units",
            "'ws', {'priority': 1, 'work_unit_keys': ",
            "'u'",
            "}",
        ),
        ("del_work_units", "'ws', {'work_unit_keys': ", "'v'", "}"),
        ("del_work_units", "'ws', {'state': ", "4", "}"),
        ("get_work", "'w', {'work_spec_names': ", "'none'", "}"),
        ("get_work", "'w', {'runtimes': ", "'none'", "}"),
        ("archive", "{'work_spec_names': ", "'ws'", "}"),
        ("lock", "'me', 60, ", "['a']", ""),
        ("locksome", "'me', 60, ", "['a']", ""),
        ("renew", "'me', 60, ", "['a']", ""),
        ("readlock", "", "['a']", ""),
        ("unlock", "'me', ", "['a']", ""),
    ] {
        let message = client.refused(method, &format!("{before}{}{behind}", list(item, 4)));
        assert!(message.contains("max-items"), "{method}: {message}");
        // A tuple is a list as well.
        let tuple = format!("128({})", list(item, 4));
        let message = client.refused(method, &format!("{before}{tuple}{behind}"));
        assert!(message.contains("max-items"), "{method}: {message}");
        client.call(method, &format!("{before}{}{behind}", list(item, 3)));
    }
    assert_eq!(client.call("readlock", "[]"), Value::Array(Vec::new()));
}
