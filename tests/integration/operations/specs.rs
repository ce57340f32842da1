//! Work specs: set, get, list, control, delete.

use std::time::{SystemTime, UNIX_EPOCH};
use test_support::{AVAILABLE, Client, Server, Value, diag, server_with_spec};

/// The meta of `ws` with numbers as floats, since an integer and a float are the same to a client.
fn meta(client: &mut Client, key: &str) -> Value {
    let meta = client.value("get_work_spec_meta", "'ws'");
    let Value::Map(entries) = &meta else {
        panic!("{meta}")
    };
    assert_eq!(entries.len(), 5, "exactly five entries: {meta}");
    let value = meta.at(key);
    value.number().map_or_else(|| value.clone(), Value::Float)
}

#[test]
fn a_spec_comes_back_as_it_was_set() {
    let server = Server::start();
    let mut client = server.connect();
    let definition = "{'name': 'ws', \"text\": \"\u{fc}\", 'min_gb': 0.5, 'nested': {'t': 128([1, [2.0]]), 3: null},
        'module': 'm', 'run_function': 'f', 'run_params': {'a': 128([])}, 'config': {}, 'then_preempts': false}";
    client.set_spec(definition);
    assert_eq!(client.call("get_work_spec", "'ws'"), diag(definition));
    assert_eq!(
        *client.call("list_work_specs", "{}").item(0),
        Value::Array(vec![diag(definition)])
    );
}

#[test]
fn module_and_run_function_go_out_as_byte_strings() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{\"name\": \"ws\", \"module\": \"m\", \"run_function\": \"f\", \"terminate_function\": \"t\"}");
    let expected = diag(
        "{\"name\": \"ws\", \"module\": 'm', \"run_function\": 'f', \"terminate_function\": \"t\"}",
    );
    assert_eq!(client.call("get_work_spec", "'ws'"), expected);
    assert_eq!(
        *client.call("list_work_specs", "{}").item(0).item(0),
        expected
    );
}

#[test]
fn an_unknown_spec_is_null() {
    let server = Server::start();
    assert_eq!(
        server.connect().call("get_work_spec", "'nope'"),
        Value::Null
    );
}

#[test]
fn calls_on_an_unknown_spec_say_so_in_the_pair() {
    let server = Server::start();
    let mut client = server.connect();
    // count_work_units may answer either, as the originals do.
    let rows = [
        ("control_work_spec", "'nope', {'status': 2}", "false"),
        ("get_work_spec_meta", "'nope'", "null"),
        ("del_work_spec", "'nope'", "false"),
        ("add_work_units", "'nope', [['a', {}]]", "false"),
        ("get_work_units", "'nope', {}", "null"),
        ("get_work_unit_status", "'nope', ['a']", "null"),
        (
            "prioritize_work_units",
            "'nope', {'work_unit_keys': ['a'], 'priority': 1}",
            "false",
        ),
        ("del_work_units", "'nope', {'all': true}", "0"),
        ("update_work_unit", "'nope', 'a', {'status': 4}", "false"),
    ];
    for (method, params, value) in rows {
        let (found, message) = client.denied(method, params);
        assert_eq!(found, diag(value), "{method}");
        assert!(message.contains("nope"), "{method}: {message}");
    }
    let (found, message) = client.denied("count_work_units", "'nope'");
    assert!(matches!(found, Value::Bool(false) | Value::Null), "{found}");
    assert!(message.contains("nope"), "{message}");
    assert_eq!(client.spec_names(), [""; 0], "none was created");
}

// --- listing ---

#[test]
fn without_specs_the_list_is_empty_and_not_null() {
    let server = Server::start();
    assert_eq!(
        server.connect().call("list_work_specs", "{}"),
        diag("[[], null]")
    );
}

#[test]
fn specs_are_listed_by_the_bytes_of_their_names() {
    let server = Server::start();
    let mut client = server.connect();
    for name in ["b", "a\u{fc}", "ab", "B", "a", "\u{2603}", "aa"] {
        client.set_spec(&format!("{{\"name\": \"{name}\"}}"));
    }
    assert_eq!(
        client.spec_names(),
        ["B", "a", "aa", "ab", "a\u{fc}", "b", "\u{2603}"]
    );
}

#[test]
fn pages_of_specs_follow_each_other() {
    let server = Server::start();
    let mut client = server.connect();
    for i in 0..7 {
        client.set_spec(&format!("{{'name': 's{i}'}}"));
    }
    let mut page = |options: &str| {
        let answer = client.call("list_work_specs", options);
        let names: Vec<String> = answer
            .item(0)
            .items()
            .iter()
            .map(|s| s.at("name").name().unwrap())
            .collect();
        (names, answer.item(1).name())
    };
    let rows: [(&str, &[&str], Option<&str>); 9] = [
        ("{'limit': 3}", &["s0", "s1", "s2"], Some("s3")),
        (
            "{'limit': 3, 'start': 's3'}",
            &["s3", "s4", "s5"],
            Some("s6"),
        ),
        ("{'limit': 3, 'start': 's6'}", &["s6"], None),
        (
            "{'limit': 7}",
            &["s0", "s1", "s2", "s3", "s4", "s5", "s6"],
            None,
        ),
        (
            "{'limit': 100}",
            &["s0", "s1", "s2", "s3", "s4", "s5", "s6"],
            None,
        ),
        (
            "{'limit': null, 'start': null}",
            &["s0", "s1", "s2", "s3", "s4", "s5", "s6"],
            None,
        ),
        ("{'start': 's45'}", &["s5", "s6"], None),
        ("{\"start\": \"s5\", 'limit': 1}", &["s5"], Some("s6")),
        ("{'start': 'z'}", &[], None),
    ];
    for (options, names, next) in rows {
        let (found, found_next) = page(options);
        assert_eq!(found, names, "{options}");
        assert_eq!(found_next.as_deref(), next, "{options}");
    }
}

// --- what is derived from the dictionary ---

#[test]
fn meta_is_derived_from_the_dictionary() {
    let server = Server::start();
    let mut client = server.connect();
    let rows = [
        ("", "status", "1.0"),
        ("", "weight", "20.0"),
        ("", "continuous", "false"),
        ("", "interval", "null"),
        ("", "max_running", "null"),
        ("'weight': 7", "weight", "7.0"),
        ("'weight': '9'", "weight", "9.0"),
        ("'weight': \"9\"", "weight", "9.0"),
        ("'weight': 3, 'nice': 10", "weight", "3.0"),
        ("'weight': null, 'nice': 5", "weight", "15.0"),
        ("'weight': 0", "weight", "1.0"),
        ("'nice': 0", "weight", "20.0"),
        ("'nice': 5", "weight", "15.0"),
        ("'nice': -5", "weight", "25.0"),
        ("'nice': 19", "weight", "1.0"),
        ("'nice': 40", "weight", "1.0"),
        ("'nice': null", "weight", "20.0"),
        ("'disabled': true", "status", "2.0"),
        ("\"disabled\": true", "status", "2.0"),
        ("'disabled': false", "status", "1.0"),
        ("'disabled': null", "status", "1.0"),
        ("'continuous': true", "continuous", "true"),
        ("'continuous': null", "continuous", "false"),
        ("'continuous': true, 'interval': 60", "interval", "60.0"),
        ("'continuous': true, 'interval': 0.5", "interval", "0.5"),
        ("'continuous': true, 'interval': '2.5'", "interval", "2.5"),
        ("'interval': null", "interval", "null"),
        ("'max_running': 4", "max_running", "4.0"),
        ("'max_running': '3'", "max_running", "3.0"),
        ("'max_running': null", "max_running", "null"),
    ];
    for (entries, key, value) in rows {
        client.set_spec(&format!("{{'name': 'ws', {entries}}}"));
        assert_eq!(
            meta(&mut client, key),
            diag(value),
            "{key} of {{{entries}}}"
        );
    }
}

#[test]
fn a_spec_without_a_proper_name_is_refused() {
    let server = Server::start();
    let mut client = server.connect();
    let rows = [
        "{}",
        "{'min_gb': 1}",
        "{'name': null}",
        "{'name': ''}",
        "{\"name\": \"\"}",
        "{'name': 5}",
        "{'name': ['ws']}",
        "{'name': h'ff'}",
        "{'name': h'66fc'}",
        "{7: 'ws'}",
    ];
    for definition in rows {
        let message = client.refused("set_work_spec", definition);
        assert!(message.contains("name"), "{definition}: {message}");
        assert_eq!(client.spec_names(), [""; 0], "after {definition}");
    }
}

#[test]
fn a_spec_name_is_kept_up_to_a_limit() {
    let server = Server::start();
    let mut client = server.connect();
    let name = "n".repeat(1024);
    client.set_spec(&format!("{{'name': '{name}'}}"));
    assert_eq!(client.spec_names(), [name]);
    client.refused(
        "set_work_spec",
        &format!("{{'name': '{}'}}", "n".repeat(1025)),
    );
    assert_eq!(client.spec_names().len(), 1);
}

#[test]
fn a_spec_with_a_value_of_the_wrong_type_is_refused_by_its_name_and_changes_nothing() {
    let (_server, mut client) = server_with_spec();
    client.done("control_work_spec", "'ws', {'weight': 99}");
    let rows = [
        ("weight", "[]"),
        ("weight", "'heavy'"),
        ("weight", "{}"),
        ("weight", "-1"),
        ("weight", "2.5"),
        ("nice", "[]"),
        ("nice", "'very'"),
        ("interval", "[]"),
        ("interval", "'often'"),
        ("max_running", "{}"),
        ("max_running", "'many'"),
        ("max_running", "2.5"),
        ("max_getwork", "[]"),
        ("max_retries", "[]"),
        ("priority", "[]"),
        ("priority", "'high'"),
        ("then", "[]"),
        ("then", "5"),
        ("runtime", "5"),
        ("retries", "-1"),
        ("retries", "1.5"),
        ("retries", "true"),
        ("retries", "'often'"),
        ("retry_delay", "-1"),
        ("retry_delay", "Infinity"),
        ("retry_delay", "true"),
        ("retry_delay_max", "'long'"),
        ("retry_backoff", "0.5"),
        ("retry_backoff", "NaN"),
        ("retry_jitter", "1.5"),
        ("retry_jitter", "-0.1"),
        ("max_lost", "-1"),
        ("max_lost", "[]"),
    ];
    for (key, value) in rows {
        let message = client.refused(
            "set_work_spec",
            &format!("{{'name': 'ws', 'x': 1, '{key}': {value}}}"),
        );
        assert!(message.contains(key), "{key}: {value}: {message}");
        client.refused(
            "set_work_spec",
            &format!("{{'name': 'new', '{key}': {value}}}"),
        );
    }
    assert_eq!(client.call("get_work_spec", "'ws'"), diag("{'name': 'ws'}"));
    assert_eq!(meta(&mut client, "weight"), Value::Float(99.0));
    assert_eq!(client.spec_names(), ["ws"]);
}

#[test]
fn a_refusal_of_a_number_has_the_number_and_what_is_allowed() {
    let (_server, mut client) = server_with_spec();
    for (entry, problem) in [
        (
            "'max_running': 2.5",
            "\"max_running\": expected an integer, got 2.5",
        ),
        ("'weight': -1", "\"weight\": expected at least 1, got -1"),
        (
            "'retries': -1",
            "\"retries\": expected an integer of at least 0, got -1",
        ),
        (
            "'retry_backoff': 0",
            "\"retry_backoff\": expected a number of at least 1, got 0",
        ),
        (
            "'retry_jitter': 2",
            "\"retry_jitter\": expected a number from 0 to 1, got 2",
        ),
        (
            "'retry_delay': 'soon'",
            "\"retry_delay\": expected a number of seconds, at least 0, got a byte string",
        ),
    ] {
        let message = client.refused("set_work_spec", &format!("{{'name': 'ws', {entry}}}"));
        assert!(message.contains(problem), "{message}");
    }
    // Numerals are taken, as for the keys of the originals.
    client.set_spec("{'name': 'ws', 'retries': '3', 'retry_delay': \"1.5\", 'max_lost': 2.0}");
}

#[test]
fn setting_a_spec_again_replaces_it_resets_its_controls_and_keeps_its_units() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    client.take_key("w", "a");
    client.done(
        "control_work_spec",
        "'ws', {'status': 2, 'weight': 99, 'max_running': 1, 'interval': 7}",
    );
    client.set_spec("{'name': 'ws', 'desc': 'second'}");
    assert_eq!(
        client.call("get_work_spec", "'ws'"),
        diag("{'name': 'ws', 'desc': 'second'}")
    );
    for (key, value) in [
        ("status", "1.0"),
        ("weight", "20.0"),
        ("max_running", "null"),
        ("interval", "null"),
    ] {
        assert_eq!(meta(&mut client, key), diag(value), "{key}");
    }
    assert_eq!(client.counts("ws"), [(1, 1), (3, 1)].into());
    client.take_key("w", "b");
    client.set_spec("{'name': 'ws', 'disabled': true}");
    assert_eq!(meta(&mut client, "status"), Value::Float(2.0));
}

#[test]
fn the_same_set_call_again_ends_in_the_same_state() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    client.set_spec("{'name': 'ws'}");
    client.set_spec("{'name': 'ws'}");
    assert_eq!(client.spec_names(), ["ws"]);
    assert_eq!(client.counts("ws"), [(1, 1)].into());
}

// --- control ---

#[test]
fn control_changes_what_it_names_and_nothing_else() {
    let (_server, mut client) = server_with_spec();
    let rows = [
        ("{'status': 2}", "status", "2.0"),
        ("{'weight': 99}", "weight", "99.0"),
        ("{'interval': 12.5, 'max_running': 3}", "interval", "12.5"),
        ("{}", "max_running", "3.0"),
        ("{\"status\": 1}", "status", "1.0"),
        ("{'max_running': null}", "weight", "99.0"),
        ("{'interval': 12}", "interval", "12.0"),
        ("{'continuous': false}", "continuous", "false"),
    ];
    for (options, key, value) in rows {
        client.done("control_work_spec", &format!("'ws', {options}"));
        client.done("control_work_spec", &format!("'ws', {options}"));
        assert_eq!(meta(&mut client, key), diag(value), "{key} after {options}");
    }
    assert_eq!(
        client.call("get_work_spec", "'ws'"),
        diag("{'name': 'ws'}"),
        "the dictionary stays"
    );
}

#[test]
fn a_spec_can_be_made_continuous_only_if_its_dictionary_says_so() {
    let (_server, mut client) = server_with_spec();
    let (value, _) = client.denied(
        "control_work_spec",
        "'ws', {'continuous': true, 'weight': 5, 'status': 2}",
    );
    assert_eq!(value, Value::Bool(false));
    for (key, unchanged) in [
        ("continuous", "false"),
        ("weight", "20.0"),
        ("status", "1.0"),
    ] {
        assert_eq!(meta(&mut client, key), diag(unchanged), "{key}");
    }
    client.set_spec("{'name': 'ws', 'continuous': true}");
    client.done("control_work_spec", "'ws', {'continuous': false}");
    assert_eq!(meta(&mut client, "continuous"), Value::Bool(false));
    client.done("control_work_spec", "'ws', {'continuous': true}");
    assert_eq!(meta(&mut client, "continuous"), Value::Bool(true));
}

#[test]
fn a_status_that_a_spec_does_not_have_is_refused() {
    let (_server, mut client) = server_with_spec();
    for status in ["0", "3", "7", "-1"] {
        let reply = client.request(
            "control_work_spec",
            diag(&format!("['ws', {{'status': {status}}}]")),
        );
        let refused = match reply {
            test_support::Reply::Error(_) => true,
            test_support::Reply::Result(result) => *result.item(0) == Value::Bool(false),
        };
        assert!(refused, "status {status}");
        assert_eq!(
            meta(&mut client, "status"),
            Value::Float(1.0),
            "status {status}"
        );
    }
}

fn pause_of(client: &mut Client, spec: &str) -> Value {
    let meta = client.value(
        "get_work_spec_meta",
        &format!("'{spec}', {{'pause': true}}"),
    );
    meta.at("pause").clone()
}

#[test]
fn a_pause_is_kept_with_who_when_and_why_until_the_spec_is_resumed() {
    let (mut server, mut client) = server_with_spec();
    assert_eq!(pause_of(&mut client, "ws"), Value::Null);
    let began = client.call("server_info", "").at("now").number();
    let options = "{'status': 2, 'reason': \"disk full\", 'by': 'me@host', 'weight': 7}";
    client.done("control_work_spec", &format!("'ws', {options}"));
    let pause = pause_of(&mut client, "ws");
    assert_eq!(pause.at("reason"), &Value::bytes("disk full"));
    assert_eq!(pause.at("by"), &Value::bytes("me@host"));
    let since = pause.at("since").number();
    assert!(
        since >= began && since < began.map(|began| began + 60.0),
        "{since:?}"
    );

    // The pause of an old client changes nothing, and neither does a restart.
    client.done("control_work_spec", "'ws', {'status': 2}");
    client.done("control_work_spec", "'ws', {'status': 2, 'by': 'you@host'}");
    client.done("control_work_spec", "'ws', {'weight': 9}");
    assert_eq!(pause_of(&mut client, "ws"), pause);
    server.kill();
    server.start_again();
    let mut client = server.connect();
    assert_eq!(pause_of(&mut client, "ws"), pause);
    // Who does not ask for it sees what there was before.
    assert_eq!(
        client.value("get_work_spec_meta", "'ws'"),
        diag(
            "{'status': 2, 'continuous': false, 'interval': null, 'max_running': null, 'weight': 9}"
        )
    );
    let reasons = client.value("explain_work", "'ws', null");
    let text = reasons.item(0).at("text").name().expect("a text");
    assert!(text.ends_with(" ago by me@host: disk full"), "{text}");

    // A new reason replaces all of it.
    client.done(
        "control_work_spec",
        "'ws', {'status': 2, 'reason': 'other', 'since': 1e9}",
    );
    let other = diag("{'reason': 'other', 'by': null, 'since': 1000000000.0}");
    assert_eq!(pause_of(&mut client, "ws"), other);
    client.done("control_work_spec", "'ws', {'status': 1}");
    assert_eq!(pause_of(&mut client, "ws"), Value::Null);
    client.done(
        "control_work_spec",
        "'ws', {'status': 2, 'reason': '', 'by': null, 'since': 1e300}",
    );
    let pause = pause_of(&mut client, "ws");
    assert_eq!(
        (pause.at("reason"), pause.at("by")),
        (&Value::Null, &Value::Null)
    );
    let now = client.call("server_info", "").at("now").number();
    assert!(pause.at("since").number() <= now, "{pause}");
}

#[test]
fn a_spec_that_is_set_again_keeps_its_pause_only_if_it_stays_paused() {
    let (_server, mut client) = server_with_spec();
    client.done(
        "control_work_spec",
        "'ws', {'status': 2, 'reason': 'why', 'since': 5}",
    );
    let pause = pause_of(&mut client, "ws");
    client.set_spec("{'name': 'ws', 'disabled': true}");
    assert_eq!(pause_of(&mut client, "ws"), pause);
    client.set_spec("{'name': 'ws'}");
    client.set_spec("{'name': 'ws', 'disabled': true}");
    let unknown = diag("{'reason': null, 'by': null, 'since': null}");
    assert_eq!(pause_of(&mut client, "ws"), unknown);
}

#[test]
fn a_pause_with_a_reason_that_can_t_be_kept_is_refused_and_changes_nothing() {
    let (_server, mut client) = server_with_spec();
    let long = "x".repeat(1_025);
    for (options, problem) in [
        (
            "'status': 1, 'reason': 'x'",
            "options reason, by and since: only allowed with status 2",
        ),
        ("'by': 'x'", "only allowed with status 2"),
        ("'since': 5", "only allowed with status 2"),
        (
            "'status': 2, 'reason': 5",
            "option reason: expected a string",
        ),
        (
            "'status': 2, 'by': h'ff'",
            "option by: expected a text in UTF-8",
        ),
        (
            "'status': 2, 'since': 'now'",
            "option since: expected a number",
        ),
        (
            &format!("'status': 2, 'reason': '{long}'"),
            "option reason: 1025 bytes long, at most 1024",
        ),
    ] {
        let message = client.refused("control_work_spec", &format!("'ws', {{{options}}}"));
        assert!(message.contains(problem), "{message}");
        assert_eq!(pause_of(&mut client, "ws"), Value::Null);
    }
}

#[test]
fn a_paused_spec_gives_no_work_until_it_is_resumed() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    client.done("control_work_spec", "'ws', {'status': 2}");
    assert_eq!(client.take("w"), None);
    client.done("control_work_spec", "'ws', {'status': 1}");
    client.take_key("w", "a");
}

// --- the end of specs ---

#[test]
fn deleting_a_spec_deletes_its_units_and_its_workers_are_told() {
    let (_server, mut client) = server_with_spec();
    client.set_spec("{'name': 'other'}");
    client.add("ws", "['a', {}], ['b', {}]");
    client.add("other", "['a', {}]");
    client
        .take_with("w", "{'work_spec_names': ['ws']}")
        .expect("a unit");
    client.done("del_work_spec", "'ws'");
    assert_eq!(client.spec_names(), ["other"]);
    client.not_updated("ws", "a", "{'status': 4}");
    client.set_spec("{'name': 'ws'}");
    assert_eq!(
        client.counts("ws"),
        [].into(),
        "a new spec of the name starts empty"
    );
    client.not_updated("ws", "a", "{'status': 4}");
    assert_eq!(client.counts("other"), [(AVAILABLE, 1)].into());
}

#[test]
fn clear_deletes_all_specs_and_says_how_many() {
    let (_server, mut client) = server_with_spec();
    client.set_spec("{'name': 'other'}");
    client.add("ws", "['a', {}]");
    client.take_key("w", "a");
    client.done("worker_heartbeat", "'w', 'RUN', 60, {}, null");
    client.done("lock", "'me', 60, [['p']]");
    assert_eq!(client.call("clear", ""), Value::Unsigned(2));
    assert_eq!(client.spec_names(), [""; 0]);
    assert_eq!(client.call("clear", ""), Value::Unsigned(0));
    assert!(
        client.value("list_worker_modes", "").get("w").is_some(),
        "workers stay"
    );
    assert_eq!(
        client.call("readlock", "[['p']]").item(0).name().as_deref(),
        Some("me"),
        "locks stay"
    );
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['b', {}]");
    client.take_key("w", "b");
}

// --- the rest ---

#[test]
fn without_a_configuration_file_the_configuration_is_empty() {
    let server = Server::start();
    assert_eq!(server.connect().call("get_config", ""), diag("[{}, null]"));
}

#[test]
fn now_is_the_time_in_whole_seconds() {
    let server = Server::start();
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time after 1970")
            .as_secs()
    };
    let before = clock();
    let Value::Unsigned(now) = server.connect().call("now", "") else {
        panic!("not an integer")
    };
    assert!(
        (before - 2..=clock() + 2).contains(&now),
        "{now}, not {before}"
    );
}
