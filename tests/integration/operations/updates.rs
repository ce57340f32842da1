//! `update_work_unit` by one who holds the unit, or who holds nothing: every cell of the table of
//! statuses. Who lost a lease is in fencing.rs.

use super::get_work::clock;
use test_support::{AVAILABLE, Client, FAILED, FINISHED, PENDING, Server, Value, diag, wait_until};

/// A daemon with a spec `ws`, whose finished units go on to `next`.
fn start() -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'then': 'next'}");
    client.set_spec("{'name': 'next', 'disabled': true}");
    (server, client)
}

/// Makes the unit `u` anew, with the data `{'own': 1}`, and brings it to a status. A unit that is or
/// was worked on is one of worker `w`, over `worker`'s connection; a completed one has that attempt's
/// data `{'done': 1}`.
fn bring_to(status: u64, admin: &mut Client, worker: &mut Client) {
    admin.call("del_work_units", "'ws', {'all': true}");
    admin.call("del_work_units", "'next', {'all': true}");
    admin.add("ws", "['u', {'own': 1}]");
    if status != AVAILABLE {
        worker.take_key("w", "u");
    }
    if status == FINISHED || status == FAILED {
        worker.updated(
            "ws",
            "u",
            &format!("{{'status': {status}, 'data': {{'done': 1}}}}"),
        );
    }
    assert_eq!(admin.state("ws", "u"), status);
}

/// What the unit is expected to be afterwards.
struct Row {
    now: u64,
    options: &'static str,
    status: u64,
    worker: Option<&'static str>,
    data: &'static str,
    /// How many units were made in the successor.
    chained: u64,
}

const OWN: &str = "{'own': 1}";
const DONE: &str = "{'done': 1}";
const NEW: &str = "{'new': 1, 'output': ['x', 'y']}";

const fn row(
    now: u64,
    options: &'static str,
    status: u64,
    worker: Option<&'static str>,
    data: &'static str,
    chained: u64,
) -> Row {
    Row {
        now,
        options,
        status,
        worker,
        data,
        chained,
    }
}

/// The table of section 8, and in each cell without data, with data, and with a worker's name.
const ROWS: &[Row] = &[
    // An available unit.
    row(AVAILABLE, "{'status': 1}", AVAILABLE, None, OWN, 0),
    row(
        AVAILABLE,
        "{'status': 1, 'lease_time': 0}",
        AVAILABLE,
        None,
        OWN,
        0,
    ),
    row(
        AVAILABLE,
        "{'status': 1, 'data': {'new': 1, 'output': ['x', 'y']}}",
        AVAILABLE,
        None,
        NEW,
        0,
    ),
    row(
        AVAILABLE,
        "{'status': 3, 'worker_id': 'wx'}",
        PENDING,
        Some("wx"),
        OWN,
        0,
    ),
    row(
        AVAILABLE,
        "{'status': 3, 'worker_id': 'wx', 'lease_time': 50}",
        PENDING,
        Some("wx"),
        OWN,
        0,
    ),
    row(
        AVAILABLE,
        "{'status': 3, 'lease_time': 50}",
        PENDING,
        None,
        OWN,
        0,
    ),
    row(AVAILABLE, "{'status': 4}", FINISHED, None, OWN, 0),
    row(
        AVAILABLE,
        "{'status': 4, 'data': {'new': 1, 'output': ['x', 'y']}}",
        FINISHED,
        None,
        NEW,
        2,
    ),
    row(
        AVAILABLE,
        "{'status': 4, 'worker_id': 'wx'}",
        FINISHED,
        Some("wx"),
        OWN,
        0,
    ),
    row(AVAILABLE, "{'status': 5}", FAILED, None, OWN, 0),
    row(
        AVAILABLE,
        "{'status': 5, 'data': {'new': 1, 'output': ['x', 'y']}}",
        FAILED,
        None,
        NEW,
        0,
    ),
    row(AVAILABLE, "{'lease_time': 50}", AVAILABLE, None, OWN, 0),
    row(
        AVAILABLE,
        "{'lease_time': 50, 'data': {'new': 1, 'output': ['x', 'y']}}",
        AVAILABLE,
        None,
        NEW,
        0,
    ),
    row(AVAILABLE, "{'lease_time': -1}", AVAILABLE, None, OWN, 0),
    // A pending unit.
    row(PENDING, "{'status': 1}", AVAILABLE, None, OWN, 0),
    row(
        PENDING,
        "{'status': 1, 'lease_time': 0}",
        AVAILABLE,
        None,
        OWN,
        0,
    ),
    row(PENDING, "{'status': 3}", PENDING, Some("w"), OWN, 0),
    row(
        PENDING,
        "{'status': 3, 'lease_time': 50}",
        PENDING,
        Some("w"),
        OWN,
        0,
    ),
    row(
        PENDING,
        "{'status': 3, 'data': {'new': 1, 'output': ['x', 'y']}}",
        PENDING,
        Some("w"),
        NEW,
        0,
    ),
    row(PENDING, "{'status': 4}", FINISHED, Some("w"), OWN, 0),
    row(
        PENDING,
        "{'status': 4, 'data': {'new': 1, 'output': ['x', 'y']}}",
        FINISHED,
        Some("w"),
        NEW,
        2,
    ),
    row(
        PENDING,
        "{'status': 4, 'data': null}",
        FINISHED,
        Some("w"),
        OWN,
        0,
    ),
    row(
        PENDING,
        "{\"status\": 4, \"lease_time\": null}",
        FINISHED,
        Some("w"),
        OWN,
        0,
    ),
    row(
        PENDING,
        "{'status': 4, 'lease_time': 50}",
        FINISHED,
        Some("w"),
        OWN,
        0,
    ),
    row(PENDING, "{'status': 5}", FAILED, Some("w"), OWN, 0),
    row(
        PENDING,
        "{'status': 5, 'data': {'new': 1, 'output': ['x', 'y']}}",
        FAILED,
        Some("w"),
        NEW,
        0,
    ),
    row(PENDING, "{'lease_time': 50}", PENDING, Some("w"), OWN, 0),
    row(
        PENDING,
        "{'lease_time': 50, 'status': 0}",
        PENDING,
        Some("w"),
        OWN,
        0,
    ),
    row(
        PENDING,
        "{'lease_time': 50, 'status': null}",
        PENDING,
        Some("w"),
        OWN,
        0,
    ),
    row(
        PENDING,
        "{'lease_time': 50, 'data': {'new': 1, 'output': ['x', 'y']}}",
        PENDING,
        Some("w"),
        NEW,
        0,
    ),
    row(PENDING, "{'lease_time': 0}", AVAILABLE, None, OWN, 0),
    row(PENDING, "{'lease_time': -1}", AVAILABLE, None, OWN, 0),
    row(PENDING, "{'lease_time': -1.5e300}", AVAILABLE, None, OWN, 0),
    // A finished unit.
    row(FINISHED, "{'status': 1}", AVAILABLE, None, OWN, 0),
    row(
        FINISHED,
        "{'status': 1, 'lease_time': 0}",
        AVAILABLE,
        None,
        OWN,
        0,
    ),
    row(
        FINISHED,
        "{'status': 3, 'lease_time': 50, 'worker_id': 'wx'}",
        PENDING,
        Some("wx"),
        OWN,
        0,
    ),
    row(FINISHED, "{'status': 4}", FINISHED, Some("w"), DONE, 0),
    row(
        FINISHED,
        "{'status': 4, 'data': {'new': 1, 'output': ['x', 'y']}}",
        FINISHED,
        Some("w"),
        NEW,
        0,
    ),
    row(FINISHED, "{'status': 5}", FINISHED, Some("w"), DONE, 0),
    row(
        FINISHED,
        "{'status': 5, 'data': {'new': 1, 'output': ['x', 'y']}}",
        FINISHED,
        Some("w"),
        DONE,
        0,
    ),
    row(FINISHED, "{'lease_time': 50}", FINISHED, Some("w"), DONE, 0),
    row(FINISHED, "{'lease_time': -1}", FINISHED, Some("w"), DONE, 0),
    // A failed unit.
    row(FAILED, "{'status': 1}", AVAILABLE, None, OWN, 0),
    row(
        FAILED,
        "{'status': 1, 'lease_time': 0}",
        AVAILABLE,
        None,
        OWN,
        0,
    ),
    row(
        FAILED,
        "{'status': 3, 'lease_time': 50, 'worker_id': 'wx'}",
        PENDING,
        Some("wx"),
        OWN,
        0,
    ),
    row(FAILED, "{'status': 4}", FINISHED, Some("w"), DONE, 0),
    row(
        FAILED,
        "{'status': 4, 'data': {'new': 1, 'output': ['x', 'y']}}",
        FINISHED,
        Some("w"),
        NEW,
        2,
    ),
    row(FAILED, "{'status': 5}", FAILED, Some("w"), DONE, 0),
    row(
        FAILED,
        "{'status': 5, 'data': {'new': 1, 'output': ['x', 'y']}}",
        FAILED,
        Some("w"),
        NEW,
        0,
    ),
    row(FAILED, "{'lease_time': 50}", FAILED, Some("w"), DONE, 0),
    row(FAILED, "{'lease_time': -1}", FAILED, Some("w"), DONE, 0),
];

fn check(row: &Row, admin: &mut Client, who: &str) {
    let what = format!("{} by {who}, when {}", row.options, row.now);
    let found = admin.status("ws", "u");
    assert_eq!(found.status, row.status, "the status after {what}");
    assert_eq!(
        found.worker.as_deref(),
        row.worker,
        "the worker after {what}"
    );
    assert_eq!(
        found.expiration.is_some(),
        row.status != AVAILABLE,
        "the expiration after {what}"
    );
    assert_eq!(
        admin.data("ws", "u"),
        diag(row.data),
        "the data after {what}"
    );
    assert_eq!(
        admin.counts("next").values().sum::<u64>(),
        row.chained,
        "the successors after {what}"
    );
    assert_eq!(
        admin.counts("ws"),
        [(row.status, 1)].into(),
        "the counts after {what}"
    );
}

#[test]
fn every_cell_of_the_table_for_one_who_holds_nothing() {
    let (server, mut admin) = start();
    for row in ROWS {
        let mut worker = server.connect();
        bring_to(row.now, &mut admin, &mut worker);
        admin.updated("ws", "u", row.options);
        check(row, &mut admin, "another");
    }
}

#[test]
fn every_cell_of_the_table_for_the_holder_of_the_active_attempt() {
    let (server, mut admin) = start();
    // By name it would be that worker's attempt, of which it has none.
    for row in ROWS
        .iter()
        .filter(|row| row.now != AVAILABLE && !row.options.contains("worker_id"))
    {
        let mut worker = server.connect();
        bring_to(row.now, &mut admin, &mut worker);
        worker.updated("ws", "u", row.options);
        check(row, &mut admin, "its worker");
        // What can be told from a new request is the same if it comes again.
        if row.options.contains("'status': 4") || row.options.contains("'status': 5") {
            worker.updated("ws", "u", row.options);
            check(row, &mut admin, "its worker, again");
        }
    }
}

#[test]
fn a_retry_starts_from_the_units_own_data() {
    let (server, mut admin) = start();
    for status in [PENDING, FINISHED, FAILED] {
        let mut worker = server.connect();
        bring_to(status, &mut admin, &mut worker);
        if status == PENDING {
            worker.updated("ws", "u", "{'lease_time': 60, 'data': {'progress': 1}}");
        }
        admin.updated("ws", "u", "{'status': 1, 'lease_time': 0}");
        assert_eq!(admin.take_key("w2", "u").data, diag(OWN), "after {status}");
        admin.updated("ws", "u", "{'status': 4}");
    }
}

#[test]
fn data_given_with_a_failure_is_visible_until_the_retry() {
    let (server, mut admin) = start();
    let mut worker = server.connect();
    bring_to(PENDING, &mut admin, &mut worker);
    worker.updated(
        "ws",
        "u",
        "{'status': 5, 'data': {'traceback': 'tb', 'why': 'broke'}}",
    );
    assert_eq!(
        admin.data("ws", "u"),
        diag("{'traceback': 'tb', 'why': 'broke'}")
    );
    assert_eq!(admin.status("ws", "u").traceback, Some(diag("'tb'")));
    admin.updated("ws", "u", "{'status': 1}");
    assert_eq!(admin.data("ws", "u"), diag(OWN));
    assert_eq!(admin.status("ws", "u").traceback, None);
}

#[test]
fn the_lease_is_renewed_from_now() {
    let (server, mut admin) = start();
    let rows = [
        ("{'lease_time': 1000}", 1000.0),
        ("{'lease_time': 20}", 20.0),
        ("{'lease_time': 20.5, 'status': 3}", 20.5),
        ("{'lease_time': 86400}", 86400.0),
        ("{'lease_time': 86401}", 300.0),
        ("{'lease_time': 1e300}", 300.0),
    ];
    let mut worker = server.connect();
    bring_to(PENDING, &mut admin, &mut worker);
    for (options, seconds) in rows {
        let before = clock();
        worker.updated("ws", "u", options);
        let expiration = admin.status("ws", "u").expiration.expect("a lease");
        assert!(
            (before + seconds - 2.0..=clock() + seconds + 2.0).contains(&expiration),
            "{options}: {expiration} at {before}"
        );
    }
    let before = admin.status("ws", "u").expiration;
    worker.updated("ws", "u", "{'status': 3}");
    assert_eq!(
        admin.status("ws", "u").expiration,
        before,
        "without lease_time it stays"
    );
}

#[test]
fn an_attempt_made_by_an_update_has_a_lease_of_300_seconds_unless_it_says_otherwise() {
    let (server, mut admin) = start();
    for status in [AVAILABLE, FINISHED, FAILED] {
        let mut worker = server.connect();
        bring_to(status, &mut admin, &mut worker);
        let before = clock();
        admin.updated("ws", "u", "{'status': 3, 'worker_id': 'wx'}");
        let found = admin.status("ws", "u");
        let expiration = found.expiration.expect("a lease");
        assert!(
            (before + 298.0..=clock() + 302.0).contains(&expiration),
            "from {status}: {expiration} at {before}"
        );
        admin.updated("ws", "u", "{'lease_time': -1}");
        assert_eq!(admin.state("ws", "u"), AVAILABLE, "from {status}");
    }
}

#[test]
fn a_lease_of_a_fraction_of_a_second_ends_after_it() {
    let (server, mut admin) = start();
    let mut worker = server.connect();
    bring_to(PENDING, &mut admin, &mut worker);
    worker.updated("ws", "u", "{'lease_time': 0.2}");
    wait_until("the lease has passed", || {
        admin.state("ws", "u") == AVAILABLE
    });
    assert!(admin.status("ws", "u").worker.is_none());
}

#[test]
fn the_time_of_completion_does_not_change_afterwards() {
    let (server, mut admin) = start();
    for status in [FINISHED, FAILED] {
        let mut worker = server.connect();
        bring_to(PENDING, &mut admin, &mut worker);
        let before = clock();
        worker.updated("ws", "u", &format!("{{'status': {status}}}"));
        let completed = admin.status("ws", "u").expiration.expect("a time");
        assert!(
            (before - 2.0..=clock() + 2.0).contains(&completed),
            "{completed}, not {before}"
        );
        for options in [
            "{'lease_time': 500}",
            "{'status': 4, 'lease_time': 500}",
            "{'status': 4}",
            "{'status': 5}",
        ] {
            if status == FINISHED {
                worker.updated("ws", "u", options);
                assert_eq!(
                    admin.status("ws", "u").expiration,
                    Some(completed),
                    "{options}"
                );
            }
        }
        worker.updated("ws", "u", "{'lease_time': 500}");
        assert!(admin.status("ws", "u").expiration.expect("a time") < clock() + 2.0);
    }
}

#[test]
fn a_renewal_may_name_another_worker() {
    let (server, mut admin) = start();
    let mut worker = server.connect();
    bring_to(PENDING, &mut admin, &mut worker);
    admin.updated(
        "ws",
        "u",
        "{'status': 3, 'lease_time': 60, 'worker_id': 'wx'}",
    );
    let found = admin.status("ws", "u");
    assert_eq!(
        (found.status, found.worker.as_deref()),
        (PENDING, Some("wx"))
    );
}

#[test]
fn without_a_status_or_a_lease_there_is_nothing_to_do() {
    let (server, mut admin) = start();
    for status in [AVAILABLE, PENDING, FINISHED, FAILED] {
        let mut worker = server.connect();
        bring_to(status, &mut admin, &mut worker);
        let before = (admin.status("ws", "u"), admin.data("ws", "u"));
        let rows = [
            "{}",
            "{'data': {'n': 2}}",
            "{'worker_id': 'w'}",
            "{'status': null}",
            "{'status': 0}",
            "{'lease_time': null, 'status': null, 'data': {'n': 2}}",
        ];
        for options in rows {
            worker.not_updated("ws", "u", options);
            admin.not_updated("ws", "u", options);
            assert_eq!(
                (admin.status("ws", "u"), admin.data("ws", "u")),
                before,
                "{options} when {status}"
            );
        }
    }
}

#[test]
fn a_status_that_cannot_be_asked_for_changes_nothing() {
    let (server, mut admin) = start();
    for status in [AVAILABLE, PENDING, FINISHED, FAILED] {
        let mut worker = server.connect();
        bring_to(status, &mut admin, &mut worker);
        let before = (admin.status("ws", "u"), admin.data("ws", "u"));
        for asked in ["2", "6", "-1", "18446744073709551616"] {
            let params = diag(&format!("['ws', 'u', {{'status': {asked}, 'data': {{}}}}]"));
            let refused = match admin.request("update_work_unit", params) {
                test_support::Reply::Error(_) => true,
                test_support::Reply::Result(result) => *result.item(0) == Value::Bool(false),
            };
            assert!(refused, "status {asked}");
            assert_eq!(
                (admin.status("ws", "u"), admin.data("ws", "u")),
                before,
                "{asked} when {status}"
            );
        }
    }
}

#[test]
fn an_unknown_unit_is_not_updated_and_not_made() {
    let (_server, mut admin) = start();
    for options in [
        "{'status': 1}",
        "{'status': 3}",
        "{'status': 4}",
        "{'status': 5}",
        "{'lease_time': 9}",
    ] {
        let message = admin.not_updated("ws", "nope", options);
        assert!(message.contains("nope"), "{options}: {message}");
    }
    assert_eq!(admin.counts("ws"), [].into());
}

#[test]
fn a_failure_followed_by_a_finish_is_a_finish_and_the_other_way_round_too() {
    let (server, mut admin) = start();
    for order in [[5, 4, 4, 5], [4, 5, 4, 5], [5, 5, 4, 5]] {
        // The worker and its parent, on connections of their own.
        let mut worker = server.connect();
        bring_to(PENDING, &mut admin, &mut worker);
        for (i, status) in order.into_iter().enumerate() {
            let options = format!("{{'status': {status}}}");
            if i % 2 == 0 {
                worker.updated("ws", "u", &options)
            } else {
                admin.updated("ws", "u", &options)
            }
        }
        assert_eq!(admin.state("ws", "u"), FINISHED, "{order:?}");
    }
}
