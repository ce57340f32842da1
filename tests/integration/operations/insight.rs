//! What people ask: how much there is, what failed and why, why a unit is not handed out.

use super::get_work::clock;
use test_support::{
    AVAILABLE, Client, FAILED, FINISHED, PENDING, Server, Value, diag, server_with_spec,
};

/// A field of each entry of a list.
fn fields(list: &Value, field: &str) -> Vec<Value> {
    let entries = list.items().iter();
    entries.map(|entry| entry.at(field).clone()).collect()
}

fn texts(list: &Value, field: &str) -> Vec<String> {
    let values = fields(list, field);
    values.iter().map(|value| value.name().unwrap()).collect()
}

fn numbers(list: &Value, field: &str) -> Vec<f64> {
    let values = fields(list, field);
    values.iter().map(|value| value.number().unwrap()).collect()
}

/// The codes of the reasons why something is not handed out; each has a text.
fn codes(client: &mut Client, params: &str) -> Vec<String> {
    let reasons = client.value("explain_work", params);
    assert!(
        texts(&reasons, "text").iter().all(|text| !text.is_empty()),
        "{reasons}"
    );
    texts(&reasons, "code")
}

/// The first reason in words.
fn text(client: &mut Client, params: &str) -> String {
    let reasons = client.value("explain_work", params);
    texts(&reasons, "text").remove(0)
}

#[test]
fn an_unknown_work_spec_is_answered_in_band() {
    let server = Server::start();
    let mut client = server.connect();
    for (method, params) in [
        ("get_attempts", "'nope', 'a', {}"),
        ("get_attempts", "'nope', 'a', {'limit': 1}"),
        ("list_failures", "'nope', {}"),
        ("explain_work", "'nope', null"),
        ("explain_work", "'nope', 'a'"),
    ] {
        let (value, message) = client.denied(method, params);
        assert!(value.is_null() && message.contains("nope"), "{message}");
    }
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    let (_server, mut client) = server_with_spec();
    for (method, params) in [
        ("get_attempts", "'ws', 5, {}"),
        ("get_attempts", "'ws', 'a', []"),
        ("get_attempts", "'ws', 'a', {'limit': []}"),
        ("list_failures", "'ws', 'many'"),
        ("list_failures", "'ws', {'limit': {}}"),
        ("explain_work", "'ws', []"),
        ("list_locks", "'a', {}"),
        ("list_locks", "null, {'start': 'a'}"),
        ("list_locks", "[], {'limit': 'x'}"),
        ("summary", "{}"),
    ] {
        client.refused(method, params);
    }
}

// --- summary ---

#[test]
fn the_summary_counts_what_there_is_by_work_spec_and_status() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.value("summary", ""), Value::Array(vec![]));
    for spec in ["two", "one", "empty"] {
        client.set_spec(&format!("{{'name': '{spec}'}}"));
    }
    client.add(
        "one",
        "['a', {}], ['b', {}], ['c', {}], ['d', {}], ['e', {}, {'delay': 3600}]",
    );
    client.add("two", "['x', {}, {'delay': 3600}]");
    let named = "{'work_spec_names': ['one'], 'max_jobs': 3}";
    client.take_many("w", named);
    client.updated("one", "a", "{'status': 4}");
    client.updated("one", "b", "{'status': 5}");
    let summary = client.value("summary", "");
    assert_eq!(
        texts(&summary, "work_spec"),
        ["one", "one", "one", "one", "two"]
    );
    let statuses = [AVAILABLE, PENDING, FINISHED, FAILED, AVAILABLE];
    assert_eq!(
        fields(&summary, "status"),
        statuses.map(Value::Unsigned).to_vec()
    );
    assert_eq!(numbers(&summary, "count"), [2.0, 1.0, 1.0, 1.0, 1.0]);
    let (one, two) = (summary.item(0), summary.item(4));
    assert_eq!(*one.at("delayed"), Value::Unsigned(1));
    assert!((0.0..30.0).contains(&one.at("waiting").number().unwrap()));
    assert_eq!(*two.at("delayed"), Value::Unsigned(1));
    assert!(two.at("waiting").is_null(), "nothing waits: {two}");
    assert!(summary.item(1).get("waiting").is_none(), "{summary}");
}

/// Beyond 200 of them the answers are made beside the loop.
#[test]
fn many_work_specs_are_summed_up_and_listed_like_few() {
    let server = Server::start();
    let mut client = server.connect();
    for number in 0..250 {
        client.set_spec(&format!("{{'name': 'ws{number:03}', 'n': {number}}}"));
    }
    client.add("ws007", "['a', {}], ['b', {}]");
    client.add("ws249", "['a', {}]");
    client
        .take_with("w", "{'work_spec_names': ['ws249']}")
        .expect("a unit");
    let summary = client.value("summary", "");
    assert_eq!(texts(&summary, "work_spec"), ["ws007", "ws249"]);
    let statuses = [AVAILABLE, PENDING].map(Value::Unsigned);
    assert_eq!(fields(&summary, "status"), statuses.to_vec());
    assert_eq!(numbers(&summary, "count"), [2.0, 1.0]);
    assert!((0.0..30.0).contains(&summary.item(0).at("waiting").number().unwrap()));

    let all = client.call("list_work_specs", "{}");
    let numbered = |list: &Value| numbers(list, "n");
    let expected: Vec<f64> = (0..250).map(f64::from).collect();
    assert_eq!(numbered(all.item(0)), expected);
    assert!(all.item(1).is_null(), "{all}");
    let page = client.call("list_work_specs", "{'start': 'ws010', 'limit': 220}");
    assert_eq!(numbered(page.item(0)), expected[10..230]);
    assert_eq!(page.item(1).name().as_deref(), Some("ws230"));
    let last = client.call("list_work_specs", "{'start': 'ws230', 'limit': 220}");
    assert_eq!(numbered(last.item(0)), expected[230..]);
    assert!(last.item(1).is_null(), "{last}");
    // Those that were deleted are gone at once.
    client.done("del_work_spec", "'ws000'");
    assert_eq!(
        client.call("list_work_specs", "{}").item(0).items().len(),
        249
    );
}

// --- attempts ---

#[test]
fn the_attempts_at_a_unit_are_told_the_newest_first() {
    let (server, mut client) = server_with_spec();
    let (mut before, begin) = (Vec::new(), clock());
    client.add("ws", "['a', {'n': 0}]");
    assert_eq!(
        client.value("get_attempts", "'ws', 'a', {}"),
        Value::Array(before.clone())
    );
    for (worker, options, status) in [
        ("w1", "{'lease_time': -1, 'data': {'n': 1}}", 6),
        ("w2", "{'status': 1, 'delay': 0}", 7),
        ("w3", "{'status': 5, 'data': {'traceback': 'x'}}", 5),
    ] {
        client.take_key(worker, "a");
        let running = client.value("get_attempts", "'ws', 'a', {}");
        assert_eq!(*running.item(0).at("status"), Value::Unsigned(PENDING));
        assert!(running.item(0).at("end").is_null(), "{running}");
        client.updated("ws", "a", options);
        let attempts = client.value("get_attempts", "'ws', 'a', {}");
        let newest = attempts.item(0);
        assert_eq!(newest.at("worker_id").name().as_deref(), Some(worker));
        assert_eq!(*newest.at("status"), Value::Unsigned(status), "{newest}");
        let time = |field: &str| newest.at(field).number().unwrap();
        assert!(begin - 1.0 <= time("start") && time("start") <= time("end"));
        assert!(
            (time("expiration") - time("start") - 300.0).abs() < 1e-3,
            "{newest}"
        );
        assert_eq!(attempts.items()[1..], before, "the older ones stay");
        before = attempts.items().to_vec();
    }
    client.updated("ws", "a", "{'status': 1}");
    // By somebody who has no attempt, and says no name.
    server.connect().updated("ws", "a", "{'status': 4}");
    let attempts = client.value("get_attempts", "'ws', 'a', {}");
    assert_eq!(numbers(&attempts, "number"), [4.0, 3.0, 2.0, 1.0]);
    assert!(attempts.item(0).at("worker_id").is_null(), "{attempts}");
    let data = ["null", "{'traceback': 'x'}", "null", "{'n': 1}"];
    assert_eq!(fields(&attempts, "data"), data.map(diag).to_vec());
    for (limit, count) in [(2, 2), (9, 4), (0, 0), (-1, 0)] {
        let options = format!("'ws', 'a', {{'limit': {limit}}}");
        let some = client.value("get_attempts", &options);
        assert_eq!(some.items(), &attempts.items()[..count], "{options}");
    }
    let (value, message) = client.denied("get_attempts", "'ws', 'x', {}");
    assert!(value.is_null() && message.contains('x'), "{message}");
}

// --- failures ---

/// Fails units, each with data.
fn fail(client: &mut Client, units: &[(&str, &str)]) {
    let items: Vec<_> = units
        .iter()
        .map(|(key, _)| format!("['{key}', {{}}]"))
        .collect();
    client.add("ws", &items.join(", "));
    for (key, data) in units {
        client.updated("ws", key, &format!("{{'status': 5, 'data': {data}}}"));
    }
}

#[test]
fn failures_are_grouped_by_the_last_line_of_their_tracebacks() {
    let (_server, mut client) = server_with_spec();
    assert_eq!(
        client.value("list_failures", "'ws', {}"),
        Value::Array(vec![])
    );
    fail(
        &mut client,
        &[
            (
                "d",
                r"{'traceback': 'Traceback:\n  line 1\nValueError: no\n'}",
            ),
            (
                "c",
                r"{'traceback': 'Traceback:\n  line 2\nValueError: no'}",
            ),
            ("b", r#"{'traceback': "MemoryError"}"#),
            ("a", "{}"),
            ("e", "{'traceback': 7}"),
            ("f", "{'traceback': 'retried'}"),
        ],
    );
    client.updated("ws", "f", "{'status': 1}");
    let failures = client.value("list_failures", "'ws', {}");
    assert_eq!(
        texts(&failures, "message"),
        ["(no traceback)", "ValueError: no", "MemoryError"]
    );
    assert_eq!(numbers(&failures, "count"), [2.0, 2.0, 1.0]);
    assert_eq!(texts(&failures, "first_key"), ["a", "c", "b"]);
    // The units failed in the order of the list.
    let failed = client.status("ws", "c").expiration;
    assert_eq!(failures.item(1).at("last_failed").number(), failed);
    let first = client.value("list_failures", "'ws', {'limit': 1}");
    assert_eq!(first.items(), &failures.items()[..1]);
}

#[test]
fn very_many_failures_are_grouped_beside_the_loop_and_refused_within_a_list_of_requests() {
    let (_server, mut client) = server_with_spec();
    let units: Vec<_> = (0..1_500).map(|n| format!("u{n:04}")).collect();
    let items: Vec<_> = units.iter().map(|key| format!("['{key}', {{}}]")).collect();
    client.add("ws", &items.join(", "));
    let updates: Vec<_> = units
        .iter()
        .enumerate()
        .map(|(n, key)| {
            let message = if n < 200 { 0 } else { n };
            format!("['{key}', {{'status': 5, 'data': {{'traceback': 'KeyError: {message:04}'}}}}]")
        })
        .collect();
    client.value(
        "update_work_units",
        &format!("'ws', [{}]", updates.join(", ")),
    );
    let failures = client.value("list_failures", "'ws', {'limit': 10000}");
    let messages = texts(&failures, "message");
    assert_eq!(messages.len(), 1_000);
    assert_eq!(
        (&*messages[0], numbers(&failures, "count")[0]),
        ("KeyError: 0000", 200.0)
    );
    assert_eq!(messages[1], "KeyError: 0200");
    assert_eq!(messages[999], "(other messages)");
    assert_eq!(numbers(&failures, "count").iter().sum::<f64>(), 1_500.0);
    let request = client.envelope("list_failures", diag("['ws', {}]"));
    let answers = client.exchange(&Value::Array(vec![request]));
    let message = answers.item(0).at("error").at("message").name().unwrap();
    assert!(message.contains("1500"), "{message}");
}

// --- why ---

#[test]
fn a_unit_that_somebody_has_or_has_done_is_explained_by_that() {
    let (_server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['a', {}], ['b', {}], ['c', {}], ['d', {}, {'delay': 3600}]",
    );
    client.take_many("worker", "{'max_jobs': 3, 'lease_time': 100}");
    client.updated("ws", "a", "{'status': 4}");
    client.updated(
        "ws",
        "b",
        "{'status': 5, 'data': {'traceback': 'x\nOSError: gone'}}",
    );
    client.done("control_work_spec", "'ws', {'status': 2}");
    for (key, expected) in [
        ("a", &["finished"][..]),
        ("b", &["failed"]),
        ("c", &["running"]),
        ("d", &["delayed", "paused"]),
        ("x", &["no_such_work_unit"]),
    ] {
        assert_eq!(codes(&mut client, &format!("'ws', '{key}'")), expected);
    }
    let failed = text(&mut client, "'ws', 'b'");
    assert!(
        failed.contains("OSError: gone") && failed.contains("\"worker\""),
        "{failed}"
    );
    let running = text(&mut client, "'ws', 'c'");
    assert!(
        running.contains("\"worker\"") && running.contains("1m"),
        "{running}"
    );
    let delayed = text(&mut client, "'ws', 'd'");
    assert!(
        delayed.contains("1h") || delayed.contains("59m"),
        "{delayed}"
    );
}

#[test]
fn what_keeps_a_work_spec_from_giving_units_is_told() {
    let (_server, mut client) = server_with_spec();
    assert_eq!(codes(&mut client, "'ws', null"), ["no_work", "no_worker"]);
    client.add("ws", "['a', {}], ['b', {}], ['c', {}, null, -1]");
    assert_eq!(codes(&mut client, "'ws', null"), ["no_worker"]);
    assert_eq!(
        codes(&mut client, "'ws', 'b'"),
        ["no_worker", "units_ahead"]
    );
    client.take_key("w", "a");
    assert_eq!(codes(&mut client, "'ws', null"), ["next"]);
    assert_eq!(codes(&mut client, "'ws', 'b'"), ["next"]);
    let behind = text(&mut client, "'ws', 'c'");
    assert!(behind.starts_with("1 unit"), "{behind}");
    for (options, expected) in [
        ("{'status': 2}", &["paused"][..]),
        ("{'weight': 0}", &["paused", "no_weight"]),
        (
            "{'max_running': 1}",
            &["paused", "no_weight", "max_running"],
        ),
        ("{'status': 1, 'weight': 1, 'max_running': 2}", &["next"]),
    ] {
        client.done("control_work_spec", &format!("'ws', {options}"));
        for params in ["'ws', null", "'ws', 'b'"] {
            assert_eq!(codes(&mut client, params), expected, "{options}, {params}");
        }
        // And so it is.
        let took = client.take("w").is_some();
        assert_eq!(took, expected == ["next"], "{options}");
    }
}

#[test]
fn work_specs_that_come_first_and_conditions_of_a_unit_are_told() {
    let server = Server::start();
    let mut client = server.connect();
    assert!(client.take("w").is_none());
    client.set_spec("{'name': 'low', 'max_retries': 1}");
    client.set_spec("{'name': 'high', 'priority': 1}");
    client.add("low", "['a', {}], ['b', {}]");
    assert_eq!(codes(&mut client, "'low', null"), ["next"]);
    client.add("high", "['x', {}]");
    for params in ["'low', null", "'low', 'a'"] {
        assert_eq!(codes(&mut client, params), ["lower_priority"]);
    }
    assert!(text(&mut client, "'low', null").contains("\"high\""));
    assert_eq!(codes(&mut client, "'high', 'x'"), ["next"]);
    client.take_key("w", "x");
    client.take_key("w", "a");
    client.updated("low", "a", "{'lease_time': -1}");
    assert_eq!(codes(&mut client, "'low', 'a'"), ["max_retries"]);
    // Now 'a' is out of the way for good.
    client.take_key("w", "b");
    assert_eq!(codes(&mut client, "'low', 'a'"), ["failed"]);
    assert!(text(&mut client, "'low', 'a'").contains("too many retries"));
    // With as much weight and one unit pending more, another spec is drawn.
    client.set_spec("{'name': 'peer', 'weight': 20}");
    client.add("peer", "['y', {}]");
    client.add("low", "['c', {}]");
    assert_eq!(codes(&mut client, "'low', null"), ["share"]);
    assert_eq!(codes(&mut client, "'peer', null"), ["next"]);
    client.set_spec("{'name': 'go', 'runtime': 'go', 'priority': -1}");
    client.add("go", "['z', {}]");
    assert_eq!(codes(&mut client, "'go', 'z'"), ["runtime"]);
    assert!(text(&mut client, "'go', 'z'").contains("\"go\""));
}

#[test]
fn a_continuous_work_spec_is_explained_by_what_it_waits_for() {
    let server = Server::start();
    let mut client = server.connect();
    assert!(client.take("w").is_none());
    client.set_spec("{'name': 'ws', 'continuous': true, 'interval': 3600}");
    assert_eq!(codes(&mut client, "'ws', null"), ["next"]);
    let key = client.take("w").expect("a unit").key.name().unwrap();
    assert_eq!(codes(&mut client, "'ws', null"), ["continuous_running"]);
    client.updated("ws", &key, "{'status': 4}");
    assert_eq!(codes(&mut client, "'ws', null"), ["interval"]);
}

#[test]
fn units_ahead_are_counted_up_to_a_limit() {
    let (_server, mut client) = server_with_spec();
    let items: Vec<_> = (0..2_500).map(|n| format!("['u{n:04}', {{}}]")).collect();
    client.add("ws", &items.join(", "));
    client.add(
        "ws",
        "['first', {}, {'priority': 2}], ['last', {}, {'priority': -1}]",
    );
    client.take_key("w", "first");
    let mut ahead = |key: &str| text(&mut client, &format!("'ws', '{key}'"));
    assert!(ahead("u0000").starts_with("ready"));
    assert!(ahead("u0500").starts_with("500 units"));
    assert!(ahead("u1001").starts_with("at least "));
    assert!(ahead("last").starts_with("at least "));
}

// --- locks ---

#[test]
fn locks_are_listed_with_their_paths_owners_and_expiries() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.value("list_locks", "null, {}"), Value::Array(vec![]));
    client.done(
        "lock",
        "'me', 60, [['a', 'b'], [\"a\", 'c', 1.5], ['b', h'00ff', [1, null]]]",
    );
    client.done("lock", "\"you\", 600, [['ab']]");
    let locks = client.value("list_locks", "null, {}");
    let paths = [
        "['a', 'b']",
        "['a', 'c', 1.5]",
        "['ab']",
        "['b', h'00ff', [1, null]]",
    ];
    assert_eq!(fields(&locks, "path"), paths.map(diag).to_vec());
    let owners = ["'me'", "'me'", "\"you\"", "'me'"];
    assert_eq!(fields(&locks, "owner"), owners.map(diag).to_vec());
    let left = numbers(&locks, "expires")[2] - clock();
    assert!((590.0..=601.0).contains(&left), "{left}");
    // What is listed can be given back.
    let given_back = fields(&locks, "path");
    let owners = client.call_with("readlock", vec![Value::Array(given_back)]);
    assert_eq!(owners.items(), fields(&locks, "owner"));
    for (params, expected) in [
        ("[], {}", 0..4),
        ("['a'], {}", 0..2),
        ("[\"a\", 'b'], {}", 0..1),
        ("['a', 'x'], {}", 0..0),
        ("null, {'limit': 3}", 0..3),
        ("null, {'limit': 0}", 0..0),
        ("null, {'start': ['ab'], 'limit': 1}", 2..3),
        ("['a'], {'start': ['a', 'bb']}", 1..2),
        ("['b'], {'start': ['a']}", 3..4),
        ("['a'], {'start': ['b']}", 0..0),
    ] {
        let some = client.value("list_locks", params);
        assert_eq!(some.items(), &locks.items()[expected], "{params}");
    }
    client.done("lock", "'me', 60, [['z']]");
    client.call("delete_namespace", "'a'");
    assert_eq!(client.value("list_locks", "null, {}").items().len(), 3);
}
