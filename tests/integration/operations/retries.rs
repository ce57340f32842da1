//! Failed units that are tried again, and units that cost workers their leases.

use super::get_work::clock;
use test_support::{AVAILABLE, Client, FAILED, FINISHED, PENDING, Server, Value, diag};

/// A daemon with the unit `u` of `ws`, which says this in addition.
fn server_with(entries: &str) -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec(&format!("{{'name': 'ws', {entries}}}"));
    client.add("ws", "['u', {'n': 1}]");
    (server, client)
}

/// What `get_work_unit_status` tells of the unit.
fn unit(client: &mut Client) -> Value {
    let answer = client.value("get_work_unit_status", "'ws', ['u']");
    answer.item(0).clone()
}

fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::number)
}

/// Takes the unit and reports that it failed, with more options.
fn fail(client: &mut Client, options: &str) {
    client.take_key("w", "u");
    let failed = "'status': 5, 'worker_id': 'w', 'data': {'traceback': 'Traceback:\\nboom'}";
    client.updated("ws", "u", &format!("{{{failed}, {options}}}"));
}

#[test]
fn a_failed_unit_is_tried_again_and_its_failures_stay_in_its_history() {
    let (_server, mut client) = server_with("'retries': 2");
    fail(&mut client, "");
    let waiting = unit(&mut client);
    assert_eq!(number(&waiting, "status"), Some(1.0));
    assert_eq!(
        (number(&waiting, "failures"), number(&waiting, "retries")),
        (Some(1.0), Some(2.0))
    );
    assert!(waiting.get("traceback").is_none(), "{waiting}");
    // It starts from its own data.
    assert_eq!(client.data("ws", "u"), diag("{'n': 1}"));
    fail(&mut client, "");
    assert_eq!(client.state("ws", "u"), AVAILABLE);
    let summary = client.value("summary", "");
    assert_eq!(number(summary.item(0), "retrying"), Some(1.0), "{summary}");
    fail(&mut client, "");
    let failed = unit(&mut client);
    assert_eq!(
        (number(&failed, "status"), number(&failed, "failures")),
        (Some(5.0), Some(3.0))
    );
    assert_eq!(client.take("w"), None);
    let attempts = client.value("get_attempts", "'ws', 'u', {}");
    for attempt in attempts.items() {
        assert_eq!(number(attempt, "status"), Some(5.0), "{attempt}");
        let traceback = attempt.at("data").at("traceback").name();
        assert_eq!(traceback.as_deref(), Some("Traceback:\nboom"));
    }
    assert_eq!(attempts.items().len(), 3);
    let summary = client.value("summary", "");
    assert!(summary.item(0).get("retrying").is_none(), "{summary}");
    let failures = client.value("list_failures", "'ws', {}");
    assert_eq!(number(failures.item(0), "count"), Some(1.0));
}

#[test]
fn a_worker_can_say_that_a_failure_is_final_or_when_to_try_again() {
    let (_server, mut client) = server_with("'retries': 5, 'retry_delay': 1000");
    fail(&mut client, "'delay': 3600");
    let waiting = unit(&mut client);
    let left = number(&waiting, "retry_at").expect("a time") - clock();
    assert!((3500.0..=3601.0).contains(&left), "{left}");
    client.updated("ws", "u", "{'status': 1, 'delay': 0}");
    fail(&mut client, "'delay': 0");
    assert!(unit(&mut client).get("retry_at").is_none());
    fail(&mut client, "'final': true");
    assert_eq!(client.state("ws", "u"), FAILED);
    // Retried, it begins anew, by its work spec.
    client.updated("ws", "u", "{'status': 1}");
    assert!(unit(&mut client).get("failures").is_none());
    fail(&mut client, "'final': false");
    let waiting = unit(&mut client);
    assert_eq!(number(&waiting, "failures"), Some(1.0));
    let left = number(&waiting, "retry_at").expect("a time") - clock();
    assert!((900.0..=1001.0).contains(&left), "{left}");
}

#[test]
fn a_delay_or_final_changes_nothing_where_the_first_failure_is_final() {
    let (_server, mut client) = server_with("'retries': 0, 'retry_delay': 5");
    fail(&mut client, "'delay': 1");
    assert_eq!(client.state("ws", "u"), FAILED);
    assert!(unit(&mut client).get("failures").is_none());
}

/// A repeat comes from a client that has reconnected, or from the parent of a Python worker.
#[test]
fn a_failure_that_is_reported_again_is_counted_once() {
    let (server, mut client) = server_with("'retries': 5, 'retry_delay': 1000");
    fail(&mut client, "");
    let before = unit(&mut client);
    let mut other = server.connect();
    for options in ["{'status': 5, 'worker_id': 'w'}", "{'status': 5}"] {
        client.updated("ws", "u", options);
        other.updated("ws", "u", options);
        assert_eq!(unit(&mut client), before, "{options}");
    }
    let attempts = client.value("get_attempts", "'ws', 'u', {}");
    assert_eq!(attempts.items().len(), 1);
    // Unless it is to fail for good.
    other.updated("ws", "u", "{'status': 5, 'final': true}");
    assert_eq!(client.state("ws", "u"), FAILED);
}

#[test]
fn a_finish_after_the_failure_counts_until_somebody_else_has_the_unit() {
    let (server, mut client) = server_with("'retries': 5, 'then': 'ws'");
    let finish = "{'status': 4, 'worker_id': 'w', 'data': {'output': ['made']}}";
    fail(&mut client, "");
    client.updated("ws", "u", finish);
    assert_eq!(client.state("ws", "u"), FINISHED);
    assert_eq!(client.keys("ws", "{}"), ["made", "u"]);
    client.add("ws", "['u', {}]");
    client.value("del_work_units", "'ws', {'work_unit_keys': ['made']}");
    fail(&mut client, "");
    let mut other = server.connect();
    other.take_key("other", "u");
    client.updated("ws", "u", finish);
    assert_eq!(client.state("ws", "u"), PENDING);
    assert_eq!(client.keys("ws", "{}"), ["u"]);
}

#[test]
fn a_finish_after_the_failure_changes_nothing_once_another_attempt_has_finished_the_unit() {
    let (_server, mut client) = server_with("'retries': 1");
    let first = client.take_attempt("one", "u");
    // The first worker loses the unit, and the second one fails.
    client.updated(
        "ws",
        "u",
        &format!("{{'lease_time': 0, 'attempt': {first}}}"),
    );
    let second = client.take_attempt("two", "u");
    client.updated("ws", "u", &format!("{{'status': 5, 'attempt': {second}}}"));
    let finish = |attempt: u64, n: u64| {
        format!("{{'status': 4, 'attempt': {attempt}, 'data': {{'n': {n}}}}}")
    };
    client.updated("ws", "u", &finish(first, 10));
    assert_eq!(client.state("ws", "u"), FINISHED);
    client.updated("ws", "u", &finish(second, 20));
    assert_eq!(client.data("ws", "u"), diag("{'n': 10}"));
}

#[test]
fn why_a_unit_waits_for_its_next_try_or_failed_for_lost_leases_is_told() {
    let (_server, mut client) = server_with("'retries': 5, 'retry_delay': 100, 'max_lost': 1");
    fail(&mut client, "");
    let reason = |client: &mut Client| {
        let reasons = client.value("explain_work", "'ws', 'u'");
        let reason = reasons.item(0).clone();
        let part = |key: &str| reason.at(key).name().expect("a text");
        (part("code"), part("text"))
    };
    let (code, text) = reason(&mut client);
    assert_eq!(code, "retry");
    assert!(
        text.starts_with("it has failed once and is tried again in 1m"),
        "{text}"
    );
    client.updated("ws", "u", "{'status': 1, 'delay': 0}");
    client.take_key("w2", "u");
    client.updated("ws", "u", "{'lease_time': 0.01, 'worker_id': 'w2'}");
    test_support::wait_until("the lease is lost", || client.state("ws", "u") == FAILED);
    let (code, text) = reason(&mut client);
    assert_eq!(code, "failed");
    assert!(
        text.contains("1 of its leases were lost, the last one by worker \"w2\""),
        "{text}"
    );
    let lost = unit(&mut client);
    assert_eq!(number(&lost, "lost"), Some(1.0));
    assert_eq!(client.data("ws", "u").at("n"), &diag("1"));
    let failures = client.value("list_failures", "'ws', {}");
    let message = failures.item(0).at("message").name();
    assert_eq!(message.as_deref(), Some("lost 1 lease"));
}

#[test]
fn the_views_tell_what_will_be_retried_from_what_has_failed_for_good() {
    let (mut server, mut client) = server_with("'retries': 1, 'retry_delay': 0.5, 'max_lost': 4");
    client.add("ws", "['v', {}]");
    client.take_key("w", "u");
    client.updated("ws", "u", "{'status': 5, 'final': true}");
    client.take_key("w", "v");
    client.updated("ws", "v", "{'status': 5, 'delay': 1000}");
    server.stop();
    let connection = rusqlite::Connection::open(server.db()).expect("open");
    for (sql, expected) in [
        (
            "SELECT retries || ' ' || retry_delay_s || ' ' || retry_backoff || ' ' || retry_delay_max_s || ' '
                    || retry_jitter || ' ' || max_lost || ' ' || retrying || ' ' || failed FROM work_specs",
            "1 0.5 1.0 3600.0 0.0 4 1 1",
        ),
        (
            "SELECT group_concat(unit || ' ' || status || ' ' || failures || ' ' || lost, ', ')
               FROM (SELECT * FROM units ORDER BY unit)",
            "u failed 1 0, v delayed 1 0",
        ),
        (
            "SELECT group_concat(unit || ' ' || failures || ' ' || lost) FROM failures",
            "u 1 0",
        ),
    ] {
        let found: String = connection
            .query_row(sql, [], |row| row.get(0))
            .expect("a row");
        assert_eq!(found, expected);
    }
}
