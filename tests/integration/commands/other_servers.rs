//! Servers that have all additions, and originals that have none.

use super::pretender::Pretender;
use super::{bad, run};
use test_support::Exit;

/// A daemon with every addition, whatever the one of this build has.
const WITH_ALL: &[(&str, &str)] = &[
    (
        "server_info",
        "{'server': 'coordinated', 'version': '9', 'protocol': 1, 'started': 1.0, 'now': 2.0, \
         'features': ['summary', 'get_attempts', 'list_failures', 'explain_work', 'list_locks']}",
    ),
    (
        "list_work_specs",
        "[[{'name': 'a'}, {'name': 'empty'}], null]",
    ),
    (
        "summary",
        "[[{'work_spec': 'a', 'status': 1, 'count': 5, 'delayed': 2, 'waiting': 75.0}, \
         {'work_spec': 'a', 'status': 4, 'count': 3}], null]",
    ),
    ("count_work_units", "[{1: 5, 4: 3}, null]"),
    (
        "get_work_spec_meta",
        "[{'status': 1, 'continuous': false, 'interval': null, 'max_running': null, 'weight': 20}, null]",
    ),
    (
        "get_work_unit_status",
        "[[{'status': 4, 'expiration': 100.0, 'worker_id': 'w'}], null]",
    ),
    ("get_work_units", "[[128(['k', {'n': 1}])], null]"),
    ("get_worker_info", "[null, null]"),
    (
        "get_attempts",
        "[[{'number': 2, 'worker_id': 'w', 'status': 4, 'start': 40.0, 'end': 100.0, \
         'expiration': 200.0, 'data': {'n': 1}}, \
         {'number': 1, 'worker_id': 'v', 'status': 6, 'start': 10.0, 'end': 20.0, \
         'expiration': 20.0, 'data': null}], null]",
    ),
    (
        "list_failures",
        "[[{'message': 'KeyError', 'count': 7, 'first_key': 'k', 'last_failed': 86400.0}], null]",
    ),
    (
        "explain_work",
        "[[{'code': 'share', 'text': 'it has had\u{1b}[2J its share'}], null]",
    ),
    (
        "list_locks",
        "[[{'path': ['x', h'ff', 1], 'owner': 'me', 'expires': 1.0}], null]",
    ),
];

fn good(server: &Pretender, arguments: &[&str]) -> String {
    let exit = run(&server.address, arguments);
    assert_eq!(
        (exit.code, exit.stderr.as_str()),
        (Some(0), ""),
        "{arguments:?}"
    );
    exit.stdout
}

#[test]
fn what_is_delayed_and_how_long_the_oldest_waits_is_shown() {
    let server = Pretender::start(WITH_ALL);
    let printed = good(&server, &["summary"]);
    let table = super::words(&printed);
    assert_eq!(table[0][7..], ["Delayed", "Waiting"]);
    assert_eq!(table[1], ["a", "5", "0", "0", "3", "8", "2", "1m", "15s"]);
    assert_eq!(table[2], ["empty", "0", "0", "0", "0", "0", "0"]);
    assert!(good(&server, &["status", "a"]).contains("2 of them delayed"));
    let status: serde_json::Value =
        serde_json::from_str(&good(&server, &["status", "a", "--json"])).expect("JSON");
    assert_eq!(
        (&status["num_delayed"], &status["waiting_seconds"]),
        (&2.into(), &75.0.into())
    );
}

#[test]
fn attempts_are_shown_with_the_unit() {
    let server = Pretender::start(WITH_ALL);
    let printed = good(&server, &["work_unit", "a", "k"]);
    let table: Vec<Vec<&str>> = super::words(&printed).split_off(4);
    assert_eq!(table[0], ["Attempt", "Worker", "Status", "Started", "Took"]);
    assert_eq!(
        table[1],
        ["2", "w", "finished", "1970-01-01", "00:00:40", "UTC", "1m"]
    );
    assert_eq!(
        table[2],
        ["1", "v", "expired", "1970-01-01", "00:00:10", "UTC", "10s"]
    );
    let json = good(&server, &["work_unit", "a", "k", "--json"]);
    let units: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(units[0]["attempts"][1]["status"], "expired");
}

#[test]
fn failures_reasons_and_locks_are_shown_as_the_daemon_has_them() {
    let server = Pretender::start(WITH_ALL);
    let failures = good(&server, &["failed", "a"]);
    assert_eq!(
        super::words(&failures)[1],
        ["7", "1970-01-02", "00:00:00", "UTC", "k", "KeyError"]
    );
    assert_eq!(
        good(&server, &["why", "a"]),
        "it has had\\u{1b}[2J its share\n"
    );
    let locks = good(&server, &["locks"]);
    assert_eq!(super::words(&locks)[1], [r"/x/\xff/1", "me", "0s"]);
    let json = good(&server, &["locks", "x", "--json"]);
    let locks: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        locks[0]["path"],
        serde_json::json!(["x", {"$bytes": "\\xff"}, 1])
    );
}

/// A server without any addition.
const ORIGINAL: &[(&str, &str)] = &[
    ("list_work_specs", "128([[{'name': 'a'}], null])"),
    ("count_work_units", "128([{1: 2, 3: 4, 5: 3}, null])"),
    (
        "get_work_spec_meta",
        "128([{'status': 2, 'continuous': false, 'interval': null, 'max_running': 4, 'weight': null}, null])",
    ),
    (
        "get_work_unit_status",
        "128([[{'status': 1, 'expiration': null}], null])",
    ),
    (
        "get_work_units",
        "128([[128(['k', {'traceback': 'x\\nKeyError'}]), 128(['l', {'traceback': 'ValueError'}]), \
         128(['m', {'traceback': 'y\\nKeyError\\n'}])], null])",
    ),
    ("add_work_units", "128([true, null])"),
    ("update_work_unit", "128([true, null])"),
    (
        "worker_stats",
        "{'num_workers': 0, 'num_children': 0, 'num_expirable': 0}",
    ),
];

fn of_original(arguments: &[&str]) -> Exit {
    let exit = run(&Pretender::start(ORIGINAL).address, arguments);
    assert_eq!(exit.code, Some(0), "{arguments:?}: {}", exit.stderr);
    exit
}

#[test]
fn an_original_is_asked_what_it_can_do_and_the_rest_is_said_to_be_missing() {
    let summary = of_original(&["summary"]);
    assert_eq!(
        super::words(&summary.stdout)[1],
        ["a", "2", "4", "3", "0", "9"]
    );
    assert!(
        summary.stderr.contains("this server does not report"),
        "{}",
        summary.stderr
    );

    let status = of_original(&["status", "a"]);
    assert!(
        status.stderr.contains("does not report"),
        "{}",
        status.stderr
    );

    let failures = of_original(&["failed", "a"]);
    assert!(failures.stderr.contains("when"), "{}", failures.stderr);
    let table = super::words(&failures.stdout);
    assert_eq!(
        table[1..],
        [
            vec!["2", "-", "k", "KeyError"],
            vec!["1", "-", "l", "ValueError"]
        ]
    );

    let reasons = of_original(&["why", "a", "k", "--json"]);
    let codes: serde_json::Value = serde_json::from_str(&reasons.stdout).expect("JSON");
    let codes: Vec<&str> = codes
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|reason| reason["code"].as_str())
        .collect();
    assert_eq!(codes, ["paused", "max_running", "no_worker"]);
    assert!(reasons.stderr.contains("this server"), "{}", reasons.stderr);

    let unit = of_original(&["work_unit", "a", "k"]);
    assert!(
        unit.stdout.contains("KeyError") && unit.stderr.contains("attempts"),
        "{}",
        unit.stdout
    );
    assert_eq!(
        of_original(&["retry", "a", "--matching", "Key"]).stdout,
        "Retried 2 work units.\n"
    );
    let added = of_original(&["add", "a", "k", "--delay", "1h"]);
    assert!(added.stderr.contains("--delay"), "{}", added.stderr);
    let added = of_original(&["add", "a", "k"]);
    assert!(!added.stderr.contains("--delay"), "{}", added.stderr);
    let note = "this server can't skip existing units";
    assert!(added.stderr.contains(note), "{}", added.stderr);
    assert_eq!(added.stdout, "Added 1 work unit.\n");
    let added = of_original(&["add", "a", "k", "--reset"]);
    assert!(!added.stderr.contains(note), "{}", added.stderr);
    let locks = bad(&Pretender::start(ORIGINAL).address, &["locks"]);
    assert!(locks.contains("this server can't list locks"), "{locks}");
}

#[test]
fn an_error_with_a_traceback_is_told_in_one_line() {
    let exit = run(&Pretender::start(ORIGINAL).address, &["rpc", "nothing"]);
    assert_eq!(exit.code, Some(1));
    assert_eq!(exit.stderr, "coordinated: nothing: no method nothing\n");
}
