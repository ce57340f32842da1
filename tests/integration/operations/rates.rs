//! Rates of work specs, work specs that pause when their units fail, and failures that tell if their unit is tried again.

use std::time::{Duration, Instant};
use test_support::{Client, Server, Value, diag};

fn server_with(entries: &str) -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec(&format!("{{'name': 'ws', {entries}}}"));
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    (server, client)
}

fn fail(client: &mut Client, key: &str) {
    client.take_key("w", key);
    client.updated("ws", key, "{'status': 5, 'data': {'traceback': 'boom'}}");
}

#[test]
fn a_request_that_waits_is_answered_when_the_rate_allows_another_unit() {
    let (_server, mut client) = server_with("'max_rate': '2/s', 'max_rate_burst': 1");
    client.take_key("w", "a");
    assert!(client.take("w").is_none());
    let begin = Instant::now();
    let unit = client.take_with("w", "{'wait': 50}").expect("a unit");
    assert_eq!(unit.key.name().as_deref(), Some("b"));
    let waited = begin.elapsed();
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    // The units are half a second apart, which the clock of this test has seen less of.
    let meta = client.value("get_work_spec_meta", "'ws', {'limits': true}");
    let until = meta.at("rate_until").number().expect("a time");
    let left = until - super::get_work::clock();
    assert!((0.0..=0.5).contains(&left), "{left}");
}

#[test]
fn rates_and_halts_are_shown_to_those_who_ask_for_them() {
    let halt = "{'failures': 3, 'rate': 0.5}";
    let (_server, mut client) = server_with(&format!(
        "'max_rate': '2/hour', 'max_rate_burst': 2, 'halt_after': {halt}, 'retries': 4, 'retry_delay': 1000"
    ));
    fail(&mut client, "a");
    let before = client.value("get_work_spec_meta", "'ws'");
    assert!(before.get("max_rate").is_none(), "{before}");
    let meta = client.value("get_work_spec_meta", "'ws', {'limits': true}");
    let number = |key: &str| meta.get(key).and_then(Value::number);
    assert_eq!(meta.at("max_rate").name().as_deref(), Some("2/h"));
    assert_eq!(number("max_rate_burst"), Some(2.0));
    assert_eq!(number("rate_until"), None, "there is a token left");
    assert_eq!(number("failed_in_a_row"), Some(1.0));
    assert_eq!(
        (number("retries"), number("retrying")),
        (Some(4.0), Some(1.0))
    );
    let expected = diag("{h'6661696c75726573': 3, h'72617465': 0.5, h'6d696e': 20}");
    assert_eq!(meta.at("halt_after"), &expected);
}

#[test]
fn a_work_spec_whose_units_fail_is_paused_and_resumed_by_hand() {
    let (_server, mut client) = server_with("'halt_after': {'failures': 2}");
    fail(&mut client, "a");
    fail(&mut client, "b");
    assert!(client.take("w").is_none());
    let reasons = client.value("explain_work", "'ws', 'c'");
    let text = reasons.item(0).at("text").name().expect("a text");
    assert!(
        text.starts_with("the work spec was paused")
            && text.ends_with(
                "ago by halt_after: 2 attempts in a row have failed; the last one: boom"
            ),
        "{text}"
    );
    client.done("control_work_spec", "'ws', {'status': 1}");
    client.take_key("w", "c");
}

#[test]
fn wrong_rates_and_halts_are_refused_with_the_key_and_what_is_allowed() {
    let server = Server::start();
    let mut client = server.connect();
    for (entry, problem) in [
        (
            "'max_rate': '100/w'",
            r#"work spec key "max_rate": expected a rate such as 100/m (a whole number of units per s, m, h or d), got a byte string"#,
        ),
        ("'max_rate': 0", "per s, m, h or d), got 0"),
        ("'max_rate': 0.5", "per s, m, h or d), got 0.5"),
        ("'max_rate': true", "per s, m, h or d), got a boolean"),
        (
            "'max_rate': 5, 'max_rate_burst': 0",
            r#"work spec key "max_rate_burst": expected an integer of at least 1, got 0"#,
        ),
        (
            "'halt_after': 10",
            r#"work spec key "halt_after": expected a map such as {failures: 10} or {rate: 0.5, min: 20}, got an integer"#,
        ),
        ("'halt_after': {}", "has neither failures nor rate"),
        (
            "'halt_after': {'failures': 0}",
            r#"work spec key "halt_after": failures: expected an integer of at least 1, got 0"#,
        ),
        (
            "'halt_after': {'rate': 1.5}",
            "rate: expected a number above 0, at most 1, got 1.5",
        ),
        (
            "'halt_after': {'rate': 0}",
            "rate: expected a number above 0",
        ),
        (
            "'halt_after': {'rate': NaN}",
            "rate: expected a number above 0",
        ),
        (
            "'halt_after': {'failures': 1, 'min': 2}",
            "min is only of use with rate",
        ),
        (
            "'halt_after': {'failure': 1}",
            "expected only failures, rate and min",
        ),
    ] {
        let message = client.refused("set_work_spec", &format!("{{'name': 'ws', {entry}}}"));
        assert!(message.contains(problem), "{entry}: {message}");
    }
    assert_eq!(client.spec_names(), [""; 0]);
}

#[test]
fn the_answer_to_a_failure_tells_if_the_unit_will_be_retried_when_it_is_asked_to() {
    let (_server, mut client) = server_with("'retries': 1, 'retry_delay': 1000");
    let failed = "{'status': 5, 'worker_id': 'w', 'tell_retry': true}";
    client.take_key("w", "a");
    let answer = client.call("update_work_unit", &format!("'ws', 'a', {failed}"));
    assert_eq!(answer.item(0), &Value::Bool(true));
    let told = answer.item(1);
    let number = |key: &str| told.get(key).and_then(Value::number);
    assert_eq!(
        (number("failures"), number("retries")),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(number("delay"), Some(1000.0));
    // Who does not ask is told nothing, nor is there anything to tell of other ends.
    client.take_key("w", "b");
    client.take_key("w", "c");
    let updates = format!(
        "'ws', [['b', {{'status': 5, 'worker_id': 'w'}}], ['b', {failed}], ['a', {{'status': 1, 'delay': 0}}],
                ['c', {{'status': 4, 'worker_id': 'w', 'tell_retry': true}}]]"
    );
    let answers = client.value("update_work_units", &updates);
    let told: Vec<bool> = answers
        .items()
        .iter()
        .map(|answer| *answer.item(1) != Value::Null)
        .collect();
    assert_eq!(told, [false, true, false, false]);
    client.take_key("w", "a");
    let answer = client.call("update_work_unit", &format!("'ws', 'a', {failed}"));
    assert_eq!(answer, diag("[true, null]"), "this failure is final");
}

#[test]
fn the_view_of_work_specs_has_rates_and_halts() {
    let (mut server, mut client) =
        server_with("'max_rate': '2/h', 'halt_after': {'failures': 3, 'rate': 0.5, 'min': 7}");
    fail(&mut client, "a");
    server.stop();
    let connection = rusqlite::Connection::open(server.db()).expect("open");
    let found: String = connection
        .query_row(
            "SELECT max_rate || ' ' || max_rate_burst || ' ' || halt_failures || ' ' || halt_rate || ' ' || halt_min || ' '
                    || failed_in_a_row || ' ' || (rate_full_at > strftime('%Y-%m-%d %H:%M:%f', 'now')) FROM work_specs",
            [],
            |row| row.get(0),
        )
        .expect("a row");
    assert_eq!(found, "2/h 1 3 0.5 7 1 1");
}
