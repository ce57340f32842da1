//! Work units: add, count, list, look at, put in order, delete.

use test_support::{
    AVAILABLE, Client, FAILED, FINISHED, PENDING, Reply, Server, Value, diag, server_with_spec,
    wait_until,
};

fn order(client: &mut Client) -> Vec<String> {
    client
        .take_many("w", "{'max_jobs': 100}")
        .iter()
        .map(|work| work.key.name().expect("a UTF-8 key"))
        .collect()
}

// --- add ---

#[test]
fn units_are_added_in_every_form() {
    // The item, and the key, data and priority that it makes.
    let rows = [
        ("['k', {'n': 1}]", "{'n': 1}", 0.0),
        ("128(['k', {'n': 1}])", "{'n': 1}", 0.0),
        ("['k', {}, null]", "{}", 0.0),
        ("['k', {}, {}]", "{}", 0.0),
        ("['k', {}, {'priority': 5}]", "{}", 5.0),
        ("['k', {}, {\"priority\": 7.5}]", "{}", 7.5),
        ("['k', {}, {'priority': -3}]", "{}", -3.0),
        ("['k', {}, {'priority': null}]", "{}", 0.0),
        ("128(['k', {}, {}, 9])", "{}", 9.0),
        ("['k', {}, null, 9.5]", "{}", 9.5),
        ("['k', {}, {'priority': 1}, 8]", "{}", 8.0),
        ("['k', {}, {'priority': 1}, null]", "{}", 1.0),
        ("['k', null]", "{}", 0.0),
        ("'k'", "{}", 0.0),
        ("\"k\"", "{}", 0.0),
    ];
    let (_server, mut client) = server_with_spec();
    for (item, data, priority) in rows {
        // A unit just above and one just below show the priority.
        client.add(
            "ws",
            &format!("['above', {{}}, null, {:?}], {item}", priority + 0.1),
        );
        client.add(
            "ws",
            &format!("['below', {{}}, null, {:?}]", priority - 0.1),
        );
        assert_eq!(client.data("ws", "k"), diag(data), "{item}");
        assert_eq!(order(&mut client), ["above", "k", "below"], "{item}");
        client.value("del_work_units", "'ws', {'all': true}");
    }
}

#[test]
fn the_units_may_come_in_a_tuple_and_may_be_none() {
    let (_server, mut client) = server_with_spec();
    client.done("add_work_units", "'ws', 128([128(['a', {}]), ['b', {}]])");
    client.done("add_work_units", "'ws', []");
    assert_eq!(client.keys("ws", "{}"), ["a", "b"]);
}

#[test]
fn one_malformed_unit_refuses_all_of_them() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['old', {'n': 1}]");
    let rows = [
        "5",
        "null",
        "[]",
        "128([])",
        "['only-a-key']",
        "[17, {}]",
        "[null, {}]",
        "[['k'], {}]",
        "['k', 5]",
        "['k', 'data']",
        "['k', {}, 5]",
        "['k', {}, []]",
        "['k', {}, {'priority': 'high'}]",
        "['k', {}, {'priority': []}]",
        "['k', {}, {'delay': 'long'}]",
        "['k', {}, {}, 'high']",
        "['k', {}, {}, []]",
        "['k', {}, {}, 1, 2]",
        "{'k': {}}",
        "37(h'0123456789abcdef0123456789abcdef')",
    ];
    for item in rows {
        let message = client.refused(
            "add_work_units",
            &format!("'ws', [['new', {{}}], ['old', {{'n': 2}}], {item}]"),
        );
        assert!(message.contains("work_unit_key_vals"), "{item}: {message}");
        assert_eq!(client.keys("ws", "{}"), ["old"], "after {item}");
        assert_eq!(client.data("ws", "old"), diag("{'n': 1}"), "after {item}");
    }
}

#[test]
fn of_few_but_large_units_with_a_malformed_one_none_is_added() {
    let (_server, mut client) = server_with_spec();
    let data = "x".repeat(1_200_000);
    let units = (0..5).map(|n| format!("['u{n}', {{'data': '{data}'}}]"));
    let units = units.collect::<Vec<_>>().join(", ");
    let message = client.refused("add_work_units", &format!("'ws', [{units}, ['k', 5]]"));
    assert!(message.contains("item 5"), "{message}");
    assert_eq!(client.counts("ws"), [].into());
    client.add("ws", &units);
    assert_eq!(client.counts("ws"), [(AVAILABLE, 5)].into());
}

#[test]
fn of_ten_thousand_units_with_one_malformed_none_is_added_and_the_error_says_which() {
    let (_server, mut client) = server_with_spec();
    let mut units: Vec<Value> = (0..10_000)
        .map(|i| diag(&format!("['u{i:05}', {{}}]")))
        .collect();
    units[7777] = diag("['u07777']");
    let reply = client.request(
        "add_work_units",
        Value::Array(vec![Value::bytes("ws"), Value::Array(units.clone())]),
    );
    let Reply::Error(message) = reply else {
        panic!("{reply:?}")
    };
    assert!(message.contains("7777"), "{message}");
    assert_eq!(client.counts("ws"), [].into());
    units[7777] = diag("['u07777', {}]");
    client.call_with(
        "add_work_units",
        vec![Value::bytes("ws"), Value::Array(units)],
    );
    assert_eq!(client.counts("ws"), [(AVAILABLE, 10_000)].into());
}

#[test]
fn of_the_same_key_twice_in_one_call_the_last_wins() {
    let (_server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['a', {'n': 1}, null, 9], ['b', {}, null, 5], ['a', {'n': 2}], [\"b\", {'n': 3}, null, 5]",
    );
    assert_eq!(client.counts("ws"), [(AVAILABLE, 2)].into());
    assert_eq!(client.data("ws", "a"), diag("{'n': 2}"));
    assert_eq!(client.data("ws", "b"), diag("{'n': 3}"));
    assert_eq!(order(&mut client), ["b", "a"], "its priority, too");
}

#[test]
fn any_bytes_are_a_key() {
    let (_server, mut client) = server_with_spec();
    let keys = [
        "''", "h'00'", "h'0001'", "'\u{fc}'", "h'66fc'", "h'c3'", "h'f00f'", "h'ff'", "h'ff80'",
    ];
    let mut sorted: Vec<Value> = keys.iter().map(|key| diag(key)).collect();
    sorted.sort_by_key(|key| match key {
        Value::Bytes(bytes) => bytes.clone(),
        other => panic!("{other}"),
    });
    for key in keys {
        client.done(
            "add_work_units",
            &format!("'ws', [[{key}, {{'k': {key}}}]]"),
        );
    }
    let units = client.units("ws", "{}");
    assert_eq!(
        units.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(),
        sorted
    );
    for key in &sorted {
        let work = client.take("w").expect("a unit");
        assert_eq!((&work.key, work.data.at("k")), (key, key));
        client.done(
            "update_work_unit",
            &format!("'ws', {}, {{'status': 4}}", hex(key)),
        );
        let status = client.value("get_work_unit_status", &format!("'ws', [{}]", hex(key)));
        assert_eq!(
            *status.item(0).at("status"),
            Value::Unsigned(FINISHED),
            "{key}"
        );
    }
    assert_eq!(
        client.value(
            "del_work_units",
            "'ws', {'work_unit_keys': [h'ff', h'c3', '']}"
        ),
        Value::Unsigned(3)
    );
}

/// A byte string in diagnostic notation, whatever its bytes are.
fn hex(key: &Value) -> String {
    let Value::Bytes(bytes) = key else {
        panic!("{key}")
    };
    format!(
        "h'{}'",
        bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
    )
}

#[test]
fn a_very_long_key_is_kept_up_to_a_limit() {
    let (_server, mut client) = server_with_spec();
    let key = "k".repeat(64 << 10);
    client.add("ws", &format!("['{key}', {{'n': 1}}]"));
    client.take_key("w", &key);
    client.updated("ws", &key, "{'status': 4}");
    assert_eq!(client.state("ws", &key), FINISHED);
    client.refused(
        "add_work_units",
        &format!("'ws', [['a', {{}}], ['{key}k', {{}}]]"),
    );
    assert_eq!(client.counts("ws"), [(FINISHED, 1)].into());
}

#[test]
fn priorities_beyond_the_numbers_lose_no_unit() {
    for priority in [
        "NaN",
        "Infinity",
        "-Infinity",
        "18446744073709551616",
        "-1180591620717411303424",
        "1e300",
    ] {
        let (_server, mut client) = server_with_spec();
        client.add("ws", "['a', {}], ['z', {}]");
        let units = format!("['ws', [['m', {{}}, null, {priority}]]]");
        let expected = match client.request("add_work_units", diag(&units)) {
            Reply::Error(message) => {
                assert!(message.contains("priority"), "{priority}: {message}");
                2
            }
            Reply::Result(_) => 3,
        };
        assert_eq!(order(&mut client).len(), expected, "{priority}");
        client.call(
            "prioritize_work_units",
            "'ws', {'work_unit_keys': ['a'], 'priority': 1}",
        );
        let item = diag(&format!(
            "['ws', {{'work_unit_keys': ['a'], 'adjustment': {priority}}}]"
        ));
        client.request("prioritize_work_units", item);
        client.updated("ws", "a", "{'status': 1}");
        client.take_key("w", "a");
    }
}

// --- add again ---

#[test]
fn adding_an_available_unit_again_replaces_its_data_and_priority() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {'n': 1}, null, 5], ['b', {}, null, 1]");
    client.add("ws", "['a', {'n': 2}]");
    assert_eq!(client.counts("ws"), [(AVAILABLE, 2)].into());
    assert_eq!(client.data("ws", "a"), diag("{'n': 2}"));
    assert_eq!(order(&mut client), ["b", "a"]);
}

#[test]
fn adding_a_completed_unit_again_makes_it_available_with_the_new_data() {
    let (_server, mut client) = server_with_spec();
    for (n, status) in [(1, FINISHED), (2, FAILED)] {
        client.add("ws", &format!("['a', {{'n': {n}}}]"));
        client.take_key("w", "a");
        client.updated(
            "ws",
            "a",
            &format!("{{'status': {status}, 'data': {{'done': {n}}}}}"),
        );
        client.add("ws", "['a', {'again': 1}]");
        let found = client.status("ws", "a");
        assert_eq!(
            (found.status, found.expiration, found.worker),
            (AVAILABLE, None, None)
        );
        assert_eq!(client.data("ws", "a"), diag("{'again': 1}"));
        assert_eq!(client.take_key("w", "a").data, diag("{'again': 1}"));
        client.updated("ws", "a", "{'status': 4}");
    }
}

#[test]
fn adding_a_pending_unit_again_makes_it_available_to_another_worker() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {'n': 1}]");
    client.take_key("w1", "a");
    client.add("ws", "['a', {'n': 2}]");
    let found = client.status("ws", "a");
    assert_eq!((found.status, found.worker), (AVAILABLE, None));
    let mut other = server.connect();
    assert_eq!(other.take_key("w2", "a").data, diag("{'n': 2}"));
}

// --- units that exist ---

/// A finished unit, a pending one and an available one.
fn with_units_that_exist() -> (Server, Client) {
    let (server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['done', {'n': 1}, null, 3], ['busy', {'n': 1}, null, 2], ['free', {'n': 1}]",
    );
    client.take_key("w", "done");
    client.updated("ws", "done", "{'status': 4, 'data': {'out': 1}}");
    client.take_key("w", "busy");
    (server, client)
}

#[test]
fn units_that_are_skipped_stay_as_they_are() {
    let (_server, mut client) = with_units_that_exist();
    let items = "['done', {'n': 2}, null, 9], ['busy', {'n': 2}], ['free', {'n': 2}, null, 9], ['new', {'n': 2}]";
    let added = client.value(
        "add_work_units",
        &format!("'ws', [{items}], {{'if_exists': 'skip', 'counts': true}}"),
    );
    assert_eq!(added, diag("{'new': 1, 'reset': 0, 'skipped': 3}"));
    let counts = [(AVAILABLE, 2), (PENDING, 1), (FINISHED, 1)];
    assert_eq!(client.counts("ws"), counts.into());
    assert_eq!(client.data("ws", "done"), diag("{'out': 1}"));
    assert_eq!(client.data("ws", "free"), diag("{'n': 1}"));
    // The lease goes on, and priorities are the old ones.
    client.updated("ws", "busy", "{'status': 4}");
    assert_eq!(order(&mut client), ["free", "new"]);
}

#[test]
fn with_error_nothing_is_added_if_one_of_the_units_exists() {
    let (_server, mut client) = with_units_that_exist();
    let before = client.counts("ws");
    for (items, problem) in [
        ("'new', 'done'", "work unit \"done\" exists already"),
        (
            "'new', 'busy', 'other'",
            "work unit \"busy\" exists already",
        ),
        (
            "'new', 'other', 'new'",
            "work unit \"new\" is in the list twice",
        ),
    ] {
        let params = format!("'ws', [{items}], {{'if_exists': 'error'}}");
        let (value, message) = client.denied("add_work_units", &params);
        assert_eq!(value, diag("false"));
        assert!(message.contains(problem), "{message}");
        assert_eq!(client.counts("ws"), before);
    }
    client.done(
        "add_work_units",
        "'ws', ['new', 'other'], {'if_exists': 'error'}",
    );
    assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&3));
}

#[test]
fn counts_of_new_and_reset_units_are_answered_if_they_are_asked_for() {
    let (_server, mut client) = with_units_that_exist();
    for options in ["null", "{}", "{'counts': false}", "{'if_exists': null}"] {
        client.done("add_work_units", &format!("'ws', ['free'], {options}"));
    }
    let counted = |client: &mut Client, params: &str| client.value("add_work_units", params);
    let options = "{\"counts\": 1, \"if_exists\": \"reset\"}";
    let added = counted(
        &mut client,
        &format!("'ws', ['done', 'x', 'x', 'y'], {options}"),
    );
    assert_eq!(added, diag("{'new': 2, 'reset': 1, 'skipped': 0}"));
    assert_eq!(client.state("ws", "done"), AVAILABLE);
    // Those that are skipped are taken in their order.
    let items = "['z', {'n': 1}], ['z', {'n': 2}]";
    let options = "{'if_exists': 'skip', 'counts': true}";
    let added = counted(&mut client, &format!("'ws', [{items}], {options}"));
    assert_eq!(added, diag("{'new': 1, 'reset': 0, 'skipped': 1}"));
    assert_eq!(client.data("ws", "z"), diag("{'n': 1}"));
    for (params, problem) in [
        (
            "'ws', ['a'], {'if_exists': 'replace'}",
            "option if_exists: expected reset, skip or error, got \"replace\"",
        ),
        (
            "'ws', ['a'], {'if_exists': 1}",
            "option if_exists: expected a string",
        ),
        ("'ws', ['a'], 'skip'", "parameter options: expected a map"),
    ] {
        let message = client.refused("add_work_units", params);
        assert!(message.contains(problem), "{message}");
    }
    let (value, message) = client.denied("add_work_units", "'none', ['a'], {'counts': true}");
    assert_eq!((value, message.contains("none")), (diag("false"), true));
}

// --- delay ---

#[test]
fn a_delayed_unit_counts_as_available_and_is_handed_out_when_its_time_has_come() {
    let (_server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['far', {}, {'delay': 3600, 'priority': 9}], ['soon', {}, {'delay': 0.3}], ['now', {}]",
    );
    assert_eq!(client.counts("ws"), [(AVAILABLE, 3)].into());
    assert_eq!(client.state("ws", "far"), AVAILABLE);
    assert_eq!(client.keys("ws", "{'state': 1}"), ["far", "now", "soon"]);
    client.take_key("w", "now");
    wait_until("the delay has passed", || {
        client
            .take("w")
            .is_some_and(|work| work.key == Value::bytes("soon"))
    });
    assert_eq!(client.take("w"), None);
    client.add("ws", "['far', {}]");
    client.take_key("w", "far");
}

#[test]
fn a_delay_that_is_over_or_without_end_is_taken_as_such() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}, {'delay': -5}], ['b', {}, {'delay': 0}], ['c', {}, {'delay': null}], ['d', {}, {'delay': 1e300}]");
    assert_eq!(order(&mut client), ["a", "b", "c"]);
    assert_eq!(client.counts("ws"), [(AVAILABLE, 1), (PENDING, 3)].into());
}

// --- list ---

#[test]
fn units_asked_for_by_key_come_in_the_order_of_the_question() {
    let (_server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['a', {'k': 'a'}], ['b', {'k': 'b'}], ['c', {'k': 'c'}]",
    );
    let options =
        "{'work_unit_keys': ['c', 'nope', \"a\", 'c'], 'state': 5, 'limit': 1, 'start': 'z'}";
    assert_eq!(
        client.value("get_work_units", &format!("'ws', {options}")),
        diag(
            "[128(['c', {'k': 'c'}]), 128(['nope', null]), 128([\"a\", {'k': 'a'}]), 128(['c', {'k': 'c'}])]"
        )
    );
    assert_eq!(
        client.keys("ws", "{'work_unit_keys': [], 'limit': 2}"),
        ["a", "b"],
        "an empty list asks for none"
    );
    assert_eq!(
        client.keys("ws", "{'work_unit_keys': null, 'limit': 2}"),
        ["a", "b"]
    );
    assert_eq!(client.keys("ws", "{'work_unit_keys': 128(['b'])}"), ["b"]);
}

#[test]
fn units_are_listed_by_state_start_and_limit_in_the_order_of_their_keys() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['f', {}, null, 1], ['e', {}, null, 2], ['d', {}], ['c', {}, null, 4], ['b', {}], ['a', {}, null, 6]");
    client.updated("ws", "a", "{'status': 4}");
    client.updated("ws", "b", "{'status': 5}");
    client.take_key("w", "c");
    let rows: [(&str, &[&str]); 21] = [
        ("{}", &["a", "b", "c", "d", "e", "f"]),
        (
            "{'state': null, 'start': null}",
            &["a", "b", "c", "d", "e", "f"],
        ),
        ("{'state': 1}", &["d", "e", "f"]),
        ("{'state': 2}", &[]),
        ("{'state': 3}", &["c"]),
        ("{'state': 4}", &["a"]),
        ("{\"state\": 5}", &["b"]),
        ("{'state': [4, 3]}", &["a", "c"]),
        ("{'state': 128([1, 5])}", &["b", "d", "e", "f"]),
        ("{'state': [2, 1]}", &["d", "e", "f"]),
        ("{'state': []}", &[]),
        ("{'start': 'c'}", &["c", "d", "e", "f"]),
        ("{'start': \"c\"}", &["c", "d", "e", "f"]),
        ("{'start': 'cc'}", &["d", "e", "f"]),
        ("{'start': ''}", &["a", "b", "c", "d", "e", "f"]),
        ("{'start': 'zz'}", &[]),
        ("{'start': h'ff'}", &[]),
        ("{'limit': 2}", &["a", "b"]),
        ("{'start': 'b', 'limit': 2}", &["b", "c"]),
        ("{'state': 1, 'limit': 1}", &["d"]),
        ("{'state': [1, 4], 'start': 'b', 'limit': 2}", &["d", "e"]),
    ];
    for (options, keys) in rows {
        assert_eq!(client.keys("ws", options), keys, "{options}");
    }
    assert_eq!(
        client.value("get_work_units", "'ws', {'state': 2}"),
        Value::Array(vec![]),
        "empty, not null"
    );
}

#[test]
fn a_list_of_units_has_at_most_a_thousand_and_on_demand_ten_thousand() {
    let (_server, mut client) = server_with_spec();
    let units = (0..10_050)
        .map(|i| diag(&format!("['u{i:05}', {{}}]")))
        .collect();
    client.call_with(
        "add_work_units",
        vec![Value::bytes("ws"), Value::Array(units)],
    );
    for (options, count) in [
        ("{}", 1000),
        ("{'limit': 5000}", 5000),
        ("{'limit': 20000}", 10_000),
        ("{'state': 1}", 1000),
    ] {
        assert_eq!(client.keys("ws", options).len(), count, "{options}");
    }
    assert_eq!(
        client
            .keys("ws", "{'start': 'u10040', 'limit': 20000}")
            .len(),
        10
    );
}

#[test]
fn pages_of_units_have_every_unit_once() {
    let (_server, mut client) = server_with_spec();
    let mut expected: Vec<String> = (0..25).map(|i| format!("u{:02}", (i * 7) % 25)).collect();
    for (i, key) in expected.iter().enumerate() {
        client.add("ws", &format!("['{key}', {{}}, null, {i}]"));
    }
    expected.sort();
    let mut found = Vec::new();
    let mut start = String::new();
    loop {
        // One more than the page: it is where the next one starts.
        let mut page = client.keys(
            "ws",
            &format!("{{'state': [1], 'start': '{start}', 'limit': 5}}"),
        );
        if page.len() < 5 {
            found.append(&mut page);
            break;
        }
        start = page.pop().expect("the next page's first");
        found.append(&mut page);
    }
    assert_eq!(found, expected);
}

#[test]
fn the_data_listed_is_that_of_the_active_attempt_if_it_changed_it() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {'n': 0}]");
    client.take_key("w", "a");
    assert_eq!(client.data("ws", "a"), diag("{'n': 0}"));
    client.updated(
        "ws",
        "a",
        "{'lease_time': 100, 'data': {'n': 0, 'progress': 50}}",
    );
    assert_eq!(client.data("ws", "a"), diag("{'n': 0, 'progress': 50}"));
    client.updated("ws", "a", "{'status': 4}");
    assert_eq!(
        client.units("ws", "{'state': 4}")[0].1,
        diag("{'n': 0, 'progress': 50}")
    );
}

// --- statuses ---

#[test]
fn a_status_has_the_entries_that_belong_to_it() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['available', {}], ['failed', {}], ['finished', {}], ['pending', {}], ['trace', {'traceback': 'tb'}]");
    for (worker, key) in [
        ("w0", "available"),
        ("w1", "failed"),
        ("w2", "finished"),
        ("w3", "pending"),
    ] {
        client.take_key(worker, key);
    }
    client.updated("ws", "available", "{'status': 1, 'lease_time': 0}");
    client.updated(
        "ws",
        "failed",
        "{'status': 5, 'data': {'traceback': \"Traceback\\nBoom\"}}",
    );
    client.updated("ws", "finished", "{'status': 4}");
    let keys = "['pending', 'nope', 'available', 'finished', 'failed', 'trace', \"pending\"]";
    let answer = client.value("get_work_unit_status", &format!("'ws', {keys}"));
    let rows: [(u64, Option<&str>, &[&str]); 7] = [
        (PENDING, Some("w3"), &["expiration", "status", "worker_id"]),
        (0, None, &[]),
        (AVAILABLE, None, &["expiration", "status"]),
        (FINISHED, Some("w2"), &["expiration", "status", "worker_id"]),
        (
            FAILED,
            Some("w1"),
            &["expiration", "status", "traceback", "worker_id"],
        ),
        (AVAILABLE, None, &["expiration", "status", "traceback"]),
        (PENDING, Some("w3"), &["expiration", "status", "worker_id"]),
    ];
    assert_eq!(answer.items().len(), rows.len());
    for (found, (status, worker, names)) in answer.items().iter().zip(rows) {
        if names.is_empty() {
            assert_eq!(*found, Value::Null, "an unknown key");
            continue;
        }
        let Value::Map(entries) = found else {
            panic!("{found}")
        };
        let mut found_names: Vec<String> =
            entries.iter().map(|(key, _)| key.name().unwrap()).collect();
        found_names.sort();
        assert_eq!(found_names, names, "{found}");
        assert_eq!(*found.at("status"), Value::Unsigned(status), "{found}");
        assert_eq!(
            found.get("worker_id").and_then(Value::name).as_deref(),
            worker,
            "{found}"
        );
        match status {
            AVAILABLE => assert_eq!(*found.at("expiration"), Value::Null, "{found}"),
            _ => assert!(
                matches!(found.at("expiration"), Value::Float(_)),
                "a float: {found}"
            ),
        }
    }
    assert_eq!(
        *answer.item(4).at("traceback"),
        diag("\"Traceback\\nBoom\""),
        "as it came in"
    );
    assert_eq!(
        client.value("get_work_unit_status", "'ws', []"),
        Value::Array(vec![])
    );
}

// --- order ---

#[test]
fn priorities_are_set_and_adjusted() {
    let (_server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['a', {}], ['b', {}], ['c', {}], ['d', {}], ['e', {}], ['f', {}]",
    );
    let calls = [
        "{'work_unit_keys': ['e'], 'priority': 1, 'adjustment': null}",
        "{'work_unit_keys': ['d', 'nope'], 'priority': 10, 'adjustment': null}",
        "{'work_unit_keys': ['c'], 'priority': null, 'adjustment': 3}",
        "{'work_unit_keys': [\"c\"], 'adjustment': 1.5}",
        "{'work_unit_keys': 128(['b']), 'priority': 0.5}",
        "{'work_unit_keys': ['a'], 'priority': -1, 'adjustment': 100}",
        "{'work_unit_keys': ['f'], 'priority': null, 'adjustment': null}",
        "{'work_unit_keys': ['f']}",
        "{'work_unit_keys': []}",
    ];
    for options in calls {
        client.done("prioritize_work_units", &format!("'ws', {options}"));
    }
    assert_eq!(order(&mut client), ["d", "c", "e", "b", "f", "a"]);
}

#[test]
fn priorities_can_be_changed_in_any_status_and_count_after_a_retry() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}], ['c', {}], ['d', {}]");
    client.take_key("w", "a");
    client.updated("ws", "b", "{'status': 4}");
    client.updated("ws", "c", "{'status': 5}");
    for (key, priority) in [("a", 1), ("b", 2), ("c", 3)] {
        client.done(
            "prioritize_work_units",
            &format!("'ws', {{'work_unit_keys': ['{key}'], 'priority': {priority}}}"),
        );
        client.updated("ws", key, "{'status': 1, 'lease_time': 0}");
    }
    assert_eq!(order(&mut client), ["c", "b", "a", "d"]);
}

#[test]
fn prioritize_without_keys_says_so() {
    let (_server, mut client) = server_with_spec();
    for options in ["{}", "{'priority': 5}"] {
        let (value, message) = client.denied("prioritize_work_units", &format!("'ws', {options}"));
        assert_eq!(value, Value::Bool(false), "{options}");
        assert!(message.contains("work_unit_keys"), "{options}: {message}");
    }
}

// --- delete ---

#[test]
fn units_are_deleted_by_key_by_state_by_both_or_all() {
    let rows: [(&str, u64, &[&str]); 12] = [
        (
            "{'work_unit_keys': ['a', 'e', 'nope', \"a\"]}",
            2,
            &["b", "c", "d", "f"],
        ),
        (
            "{'work_unit_keys': 128(['b'])}",
            1,
            &["a", "c", "d", "e", "f"],
        ),
        ("{'work_unit_keys': []}", 0, &["a", "b", "c", "d", "e", "f"]),
        ("{'state': 1}", 3, &["a", "b", "c"]),
        ("{'state': 2}", 0, &["a", "b", "c", "d", "e", "f"]),
        ("{'state': 3}", 1, &["a", "b", "d", "e", "f"]),
        ("{'state': 4}", 1, &["b", "c", "d", "e", "f"]),
        ("{'state': 5}", 1, &["a", "c", "d", "e", "f"]),
        (
            "{'work_unit_keys': ['a', 'b', 'c', 'd'], 'state': 5}",
            1,
            &["a", "c", "d", "e", "f"],
        ),
        (
            "{'work_unit_keys': ['a'], 'state': 5}",
            0,
            &["a", "b", "c", "d", "e", "f"],
        ),
        ("{'all': true}", 6, &[]),
        ("{'all': true, 'state': 5, 'work_unit_keys': ['a']}", 6, &[]),
    ];
    let (_server, mut client) = server_with_spec();
    for (options, count, left) in rows {
        client.value("del_work_units", "'ws', {'all': true}");
        client.add(
            "ws",
            "['a', {}], ['b', {}], ['c', {}], ['d', {}], ['e', {}], ['f', {}]",
        );
        client.updated("ws", "a", "{'status': 4}");
        client.updated("ws", "b", "{'status': 5}");
        client.take_key("w", "c");
        assert_eq!(
            client.value("del_work_units", &format!("'ws', {options}")),
            Value::Unsigned(count),
            "{options}"
        );
        assert_eq!(client.keys("ws", "{}"), left, "{options}");
        assert_eq!(
            client.counts("ws").values().sum::<u64>(),
            left.len() as u64,
            "{options}"
        );
    }
}

#[test]
fn without_an_option_nothing_is_deleted() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    for options in [
        "{}",
        "{'all': false}",
        "{'all': null, 'state': null, 'work_unit_keys': null}",
        "{'al': true}",
    ] {
        let (value, _) = client.denied("del_work_units", &format!("'ws', {options}"));
        assert_eq!(value, Value::Unsigned(0), "{options}");
        assert_eq!(client.keys("ws", "{}"), ["a"], "{options}");
    }
}

#[test]
fn the_worker_of_a_deleted_unit_is_told() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    client.take_key("w", "a");
    assert_eq!(
        client.value("del_work_units", "'ws', {'work_unit_keys': ['a']}"),
        Value::Unsigned(1)
    );
    for options in [
        "{'status': 4}",
        "{'status': 5}",
        "{'lease_time': 60}",
        "{'status': 1}",
    ] {
        client.not_updated("ws", "a", options);
    }
    assert_eq!(client.counts("ws"), [].into());
}
