//! Reports of a worker that may have lost its unit. A connection is known by the attempts that were
//! handed out on it: `first` takes the unit `u` as worker `w1`, `second` takes it afterwards as `w2`.

use test_support::{
    AVAILABLE, Client, FAILED, FINISHED, PENDING, Server, UnitStatus, Value, diag, wait_until,
};

struct Scene {
    server: Server,
    first: Client,
    second: Client,
    /// Holds nothing, and looks.
    admin: Client,
    /// The attempt of `first`.
    attempt: u64,
}

/// A unit `u` with the data `{'own': 1}` that `first` has.
fn scene() -> Scene {
    let server = Server::start();
    let mut admin = server.connect();
    admin.set_spec("{'name': 'ws'}");
    admin.add("ws", "['u', {'own': 1}]");
    let mut first = server.connect();
    let attempt = first.take_attempt("w1", "u");
    let second = server.connect();
    Scene {
        server,
        first,
        second,
        admin,
        attempt,
    }
}

/// Something that happens to the unit.
type Change = fn(&mut Scene);

impl Scene {
    fn seen(&mut self) -> (UnitStatus, Value) {
        (self.admin.status("ws", "u"), self.admin.data("ws", "u"))
    }

    /// A report on the attempt of `first` by the connection and in the name of another worker.
    fn of_attempt(&self, options: &str) -> String {
        let attempt = self.attempt;
        options.replacen(
            '{',
            &format!("{{'attempt': {attempt}, 'worker_id': 'w2', "),
            1,
        )
    }

    /// Reports on the attempt of `first`, on the connections of two others: both must be refused, and change nothing. Gives
    /// the message.
    fn attempt_is_refused(&mut self, options: &str) -> String {
        let (before, report) = (self.seen(), self.of_attempt(options));
        let message = self.admin.not_updated("ws", "u", &report);
        assert_eq!(self.second.not_updated("ws", "u", &report), message);
        assert_eq!(self.seen(), before, "after {report}");
        message
    }

    /// The same of reports that succeed and change nothing.
    fn attempt_changes_nothing(&mut self, options: &str) {
        let (before, report) = (self.seen(), self.of_attempt(options));
        self.admin.updated("ws", "u", &report);
        self.second.updated("ws", "u", &report);
        assert_eq!(self.seen(), before, "after {report}");
    }

    /// A report of `first` that succeeds and changes nothing.
    fn changes_nothing(&mut self, options: &str) {
        let before = self.seen();
        self.first.updated("ws", "u", options);
        assert_eq!(self.seen(), before, "after {options}");
    }

    /// A report of `first` that is refused and changes nothing; gives the message.
    fn is_refused(&mut self, options: &str) -> String {
        let before = self.seen();
        let message = self.first.not_updated("ws", "u", options);
        assert_eq!(self.seen(), before, "after {options}");
        message
    }
}

/// The ways in which an attempt ends without a report of its worker.
const LOSSES: [(&str, Change); 4] = [
    ("its lease ran out", |scene| {
        scene.first.updated("ws", "u", "{'lease_time': 0.05}");
        wait_until("the lease has passed", || {
            scene.admin.state("ws", "u") == AVAILABLE
        });
    }),
    ("it was released", |scene| {
        scene.first.updated("ws", "u", "{'lease_time': -1}")
    }),
    ("somebody released it", |scene| {
        scene.admin.updated("ws", "u", "{'lease_time': 0}")
    }),
    ("somebody retried it", |scene| {
        scene
            .admin
            .updated("ws", "u", "{'status': 1, 'lease_time': 0}")
    }),
];

const REPORTS: [&str; 4] = [
    "{'status': 4, 'data': {'late': 1}}",
    "{'status': 5, 'data': {'late': 1}}",
    "{'status': 3, 'lease_time': 60, 'data': {'late': 1}}",
    "{'lease_time': 60, 'data': {'late': 1}}",
];

// --- ended without a report, and the unit is available ---

#[test]
fn a_late_finish_or_failure_counts_while_nobody_has_the_unit() {
    for (loss, lose) in LOSSES {
        for status in [FINISHED, FAILED] {
            let mut scene = scene();
            lose(&mut scene);
            scene.first.updated(
                "ws",
                "u",
                &format!("{{'status': {status}, 'data': {{'late': 1}}}}"),
            );
            let (found, data) = scene.seen();
            assert_eq!(
                (found.status, found.worker.as_deref()),
                (status, Some("w1")),
                "{loss}"
            );
            assert_eq!(data, diag("{'late': 1}"), "{loss}");
            assert_eq!(scene.second.take("w2"), None, "{loss}");
        }
    }
}

#[test]
fn a_renewal_takes_the_unit_back_while_nobody_has_it() {
    for (loss, lose) in LOSSES {
        for options in ["{'lease_time': 60}", "{'status': 3, 'lease_time': 60}"] {
            let mut scene = scene();
            lose(&mut scene);
            scene.first.updated("ws", "u", options);
            let (found, _) = scene.seen();
            assert_eq!(
                (found.status, found.worker.as_deref()),
                (PENDING, Some("w1")),
                "{loss}, {options}"
            );
            assert_eq!(scene.second.take("w2"), None, "{loss}, {options}");
            scene.first.updated("ws", "u", "{'status': 4}");
        }
    }
}

#[test]
fn a_unit_taken_back_without_a_lease_time_has_a_lease_that_lasts() {
    for (loss, lose) in LOSSES {
        let mut scene = scene();
        lose(&mut scene);
        let before = super::get_work::clock();
        scene.first.updated("ws", "u", "{'status': 3}");
        let (found, _) = scene.seen();
        assert_eq!(found.status, PENDING, "{loss}");
        assert!(
            found.expiration.expect("a lease") > before + 200.0,
            "{loss}"
        );
    }
}

#[test]
fn the_wish_to_make_an_available_unit_available_changes_nothing() {
    for (_, lose) in LOSSES {
        let mut scene = scene();
        lose(&mut scene);
        scene.changes_nothing("{'status': 1, 'lease_time': 0}");
        scene.second.take_key("w2", "u");
    }
}

// --- ended without a report, and another has the unit ---

#[test]
fn no_report_of_a_worker_that_lost_its_lease_touches_the_attempt_of_another() {
    for (loss, lose) in LOSSES {
        let mut scene = scene();
        lose(&mut scene);
        scene.second.take_key("w2", "u");
        for options in REPORTS
            .iter()
            .chain(&["{'status': 1, 'lease_time': 0}", "{'lease_time': -1}"])
        {
            let message = scene.is_refused(options);
            assert!(
                message.contains("w2"),
                "it says who has the unit ({loss}, {options}): {message}"
            );
        }
        assert_eq!(
            scene.admin.status("ws", "u").worker.as_deref(),
            Some("w2"),
            "{loss}"
        );
        scene
            .second
            .updated("ws", "u", "{'status': 4, 'data': {'right': 1}}");
        let (found, data) = scene.seen();
        assert_eq!(
            (found.status, found.worker.as_deref()),
            (FINISHED, Some("w2")),
            "{loss}"
        );
        assert_eq!(data, diag("{'right': 1}"), "{loss}");
    }
}

#[test]
fn the_same_worker_name_on_two_connections_has_two_attempts() {
    let mut scene = scene();
    scene.admin.updated("ws", "u", "{'lease_time': -1}");
    scene.second.take_key("w1", "u");
    scene.is_refused("{'status': 4, 'data': {'late': 1}}");
    scene.second.updated("ws", "u", "{'status': 4}");
}

#[test]
fn a_worker_that_gets_the_unit_again_reports_on_its_new_attempt() {
    let mut scene = scene();
    scene.admin.updated("ws", "u", "{'lease_time': -1}");
    scene.first.take_key("w1", "u");
    scene
        .first
        .updated("ws", "u", "{'status': 4, 'data': {'done': 1}}");
    assert_eq!(scene.seen().0.status, FINISHED);
}

#[test]
fn what_a_refused_report_said_is_its_attempts_data_if_that_becomes_active_again() {
    let mut scene = scene();
    scene.admin.updated("ws", "u", "{'lease_time': -1}");
    scene.second.take_key("w2", "u");
    scene.is_refused("{'status': 4, 'data': {'late': 1}}");
    scene.second.updated("ws", "u", "{'lease_time': -1}");
    assert_eq!(scene.seen().1, diag("{'own': 1}"));
    scene.first.updated("ws", "u", "{'status': 4}");
    let (found, data) = scene.seen();
    assert_eq!(
        (found.status, found.worker.as_deref()),
        (FINISHED, Some("w1"))
    );
    assert_eq!(data, diag("{'late': 1}"));
}

// --- ended without a report, and another has completed the unit ---

#[test]
fn a_late_report_on_a_unit_that_another_completed_succeeds_and_changes_nothing() {
    for (loss, lose) in LOSSES {
        for status in [FINISHED, FAILED] {
            let mut scene = scene();
            lose(&mut scene);
            scene.second.take_key("w2", "u");
            scene.second.updated(
                "ws",
                "u",
                &format!("{{'status': {status}, 'data': {{'right': 1}}}}"),
            );
            for late in [FINISHED, FAILED] {
                scene.changes_nothing(&format!("{{'status': {late}, 'data': {{'late': 1}}}}"));
            }
            assert_eq!(scene.seen().1, diag("{'right': 1}"), "{loss}");
        }
    }
}

#[test]
fn anybody_may_retry_a_completed_unit() {
    for status in [FINISHED, FAILED] {
        let mut scene = scene();
        scene.admin.updated("ws", "u", "{'lease_time': -1}");
        scene.second.take_key("w2", "u");
        scene
            .second
            .updated("ws", "u", &format!("{{'status': {status}}}"));
        scene
            .first
            .updated("ws", "u", "{'status': 1, 'lease_time': 0}");
        assert_eq!(scene.seen().0.status, AVAILABLE);
        scene.second.take_key("w2", "u");
    }
}

// --- ended by a report ---

#[test]
fn a_report_that_comes_again_after_the_unit_has_moved_on_changes_nothing() {
    let moves: [(&str, Change); 4] = [
        ("it is to be done again", |scene| {
            scene.admin.updated("ws", "u", "{'status': 1}")
        }),
        ("it was added again", |scene| {
            scene.admin.add("ws", "['u', {'own': 2}]")
        }),
        ("another has it", |scene| {
            scene.admin.updated("ws", "u", "{'status': 1}");
            scene.second.take_key("w2", "u");
        }),
        ("another failed at it", |scene| {
            scene.admin.add("ws", "['u', {'own': 2}]");
            scene.second.take_key("w2", "u");
            scene.second.updated("ws", "u", "{'status': 5}");
        }),
    ];
    for (what, go_on) in moves {
        for reported in [FINISHED, FAILED] {
            let mut scene = scene();
            scene
                .first
                .updated("ws", "u", &format!("{{'status': {reported}}}"));
            go_on(&mut scene);
            for options in [
                "{'status': 4}",
                "{'status': 4, 'data': {'late': 1}}",
                "{'status': 5, 'data': {'late': 1}}",
            ] {
                println!("{what}, after {reported}: {options}");
                scene.changes_nothing(options);
            }
        }
    }
}

#[test]
fn the_second_of_two_finishes_does_not_finish_what_the_first_one_chained() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'then': 'ws'}");
    client.add("ws", "['u', {'n': 0}]");
    for n in 0..3 {
        assert_eq!(client.take_key("w", "u").data.at("n"), &Value::Unsigned(n));
        let output = format!("{{'n': {n}, 'output': {{'u': {{'n': {}}}}}}}", n + 1);
        client.updated("ws", "u", &format!("{{'status': 4, 'data': {output}}}"));
        client.updated("ws", "u", "{'status': 4}");
        assert_eq!(client.state("ws", "u"), AVAILABLE);
        assert_eq!(client.data("ws", "u").at("n"), &Value::Unsigned(n + 1));
    }
}

// --- superseded ---

#[test]
fn an_attempt_at_a_unit_that_was_added_again_is_superseded() {
    let ways: [(&str, Change); 4] = [
        ("nobody has it", |_| {}),
        ("another has it", |scene| {
            assert_eq!(scene.second.take_key("w2", "u").data, diag("{'own': 2}"));
        }),
        ("another finished it", |scene| {
            scene.second.take_key("w2", "u");
            scene.second.updated("ws", "u", "{'status': 4}");
        }),
        ("another failed at it", |scene| {
            scene.second.take_key("w2", "u");
            scene.second.updated("ws", "u", "{'status': 5}");
        }),
    ];
    for (what, go_on) in ways {
        for lost_before in [false, true] {
            let mut scene = scene();
            if lost_before {
                scene.admin.updated("ws", "u", "{'lease_time': -1}");
            }
            scene.admin.add("ws", "['u', {'own': 2}]");
            go_on(&mut scene);
            for options in REPORTS {
                println!("{what}, lost before: {lost_before}: {options}");
                scene.is_refused(options);
            }
        }
    }
}

#[test]
fn the_end_of_a_superseded_lease_is_no_end_of_the_new_one() {
    for status in [AVAILABLE, PENDING, FINISHED] {
        let mut scene = scene();
        scene.first.updated("ws", "u", "{'lease_time': 0.3}");
        let end = scene.seen().0.expiration.expect("a lease");
        scene.admin.add("ws", "['u', {'own': 2}]");
        if status != AVAILABLE {
            scene.second.take_key("w2", "u");
        }
        if status == FINISHED {
            scene.second.updated("ws", "u", "{'status': 4}");
        }
        let before = scene.seen();
        assert_eq!(before.0.status, status);
        wait_until("the old lease has passed", || {
            super::get_work::clock() > end + 0.2
        });
        assert_eq!(scene.seen(), before);
        assert_eq!(scene.admin.counts("ws"), [(status, 1)].into());
        assert_eq!(
            scene.admin.value("del_work_units", "'ws', {'all': true}"),
            Value::Unsigned(1)
        );
        assert_eq!(scene.admin.counts("ws"), [].into());
    }
}

#[test]
fn the_holder_of_a_superseded_attempt_gets_the_new_data_by_asking_for_work() {
    let mut scene = scene();
    scene.admin.add("ws", "['u', {'own': 2}]");
    scene.is_refused("{'status': 4}");
    assert_eq!(scene.first.take_key("w1", "u").data, diag("{'own': 2}"));
    scene.first.updated("ws", "u", "{'status': 4}");
    assert_eq!(scene.seen().0.status, FINISHED);
}

// --- connections that hold nothing ---

#[test]
fn a_connection_that_holds_nothing_reports_on_the_active_attempt() {
    let mut scene = scene();
    scene.admin.updated("ws", "u", "{'lease_time': -1}");
    scene.second.take_key("w2", "u");
    scene
        .admin
        .updated("ws", "u", "{'status': 5, 'data': {'traceback': 'killed'}}");
    let (found, _) = scene.seen();
    assert_eq!(
        (found.status, found.worker.as_deref()),
        (FAILED, Some("w2"))
    );
}

#[test]
fn a_client_that_connects_anew_holds_nothing() {
    let mut scene = scene();
    drop(std::mem::replace(&mut scene.first, scene.server.connect()));
    scene
        .first
        .updated("ws", "u", "{'status': 4, 'data': {'done': 1}}");
    let (found, data) = scene.seen();
    assert_eq!(
        (found.status, found.worker.as_deref()),
        (FINISHED, Some("w1"))
    );
    assert_eq!(data, diag("{'done': 1}"));
}

#[test]
fn who_had_a_deleted_unit_can_report_on_its_namesake_unless_another_worker_has_that() {
    let mut scene = scene();
    scene.admin.value("del_work_units", "'ws', {'all': true}");
    scene.first.not_updated("ws", "u", "{'status': 4}");
    scene.admin.add("ws", "['u', {'own': 2}]");
    scene.second.take_key("w2", "u");
    let before = scene.seen();
    scene.first.not_updated("ws", "u", "{'status': 4}");
    assert_eq!(scene.seen(), before);
    scene.second.updated("ws", "u", "{'status': 1}");
    // As anybody who holds nothing.
    scene.first.updated("ws", "u", "{'status': 4}");
    assert_eq!(scene.seen().0.status, FINISHED);
}

// --- by name ---

#[test]
fn a_worker_that_says_who_it_is_is_fenced_by_its_name() {
    let mut scene = scene();
    scene.admin.updated("ws", "u", "{'lease_time': -1}");
    scene.second.take_key("w2", "u");
    // From a connection that holds nothing.
    let before = scene.seen();
    let message = scene.admin.not_updated(
        "ws",
        "u",
        "{'status': 4, 'worker_id': 'w1', 'data': {'late': 1}}",
    );
    assert!(message.contains("w2"), "{message}");
    assert_eq!(scene.seen(), before);
    scene.admin.updated(
        "ws",
        "u",
        "{'status': 4, \"worker_id\": \"w2\", 'data': {'right': 1}}",
    );
    let (found, data) = scene.seen();
    assert_eq!(
        (found.status, found.worker.as_deref(), data),
        (FINISHED, Some("w2"), diag("{'right': 1}"))
    );
    let before = scene.seen();
    scene.admin.updated(
        "ws",
        "u",
        "{'status': 5, 'worker_id': 'w1', 'data': {'late': 1}}",
    );
    assert_eq!(scene.seen(), before);
}

#[test]
fn a_worker_that_had_a_deleted_unit_is_known_by_its_name_on_any_connection() {
    let ways = [
        "del_work_units('ws', {'all': true})",
        "del_work_units('ws', {'work_unit_keys': ['u']})",
        "del_work_spec('ws')",
    ];
    for way in ways {
        let mut scene = scene();
        let (method, params) = way.split_once('(').expect("a call");
        scene.admin.call(method, params.trim_end_matches(')'));
        scene.admin.set_spec("{'name': 'ws'}");
        scene.admin.add("ws", "['u', {'own': 2}]");
        scene.second.take_key("w2", "u");
        let before = scene.seen();
        for (report, worker) in REPORTS.iter().zip(["'w1'", "\"w1\"", "'w1'", "'w1'"]) {
            let named = report.replacen('{', &format!("{{'worker_id': {worker}, "), 1);
            // From a connection that holds nothing, and from its own.
            for client in [&mut scene.admin, &mut scene.first] {
                let message = client.not_updated("ws", "u", &named);
                assert!(message.contains("deleted"), "{way}, {report}: {message}");
            }
        }
        assert_eq!(scene.seen(), before, "{way}");
        // Who never had it is taken at its word, and so is who had it once nobody has its namesake.
        scene.second.updated("ws", "u", "{'status': 1}");
        let finish = "{'status': 4, 'worker_id': 'w1', 'data': {'late': 1}}";
        scene.admin.updated("ws", "u", finish);
        assert_eq!(scene.seen().1, diag("{'late': 1}"), "{way}");
    }
}

#[test]
fn who_never_had_a_unit_is_taken_at_its_word_whatever_was_deleted() {
    let mut scene = scene();
    scene.admin.value("del_work_units", "'ws', {'all': true}");
    scene.admin.add("ws", "['u', {'own': 2}]");
    scene.second.take_key("w2", "u");
    // `first` had the namesake, but speaks for somebody who had not.
    let finish = "{'status': 4, 'worker_id': 'w3', 'data': {'done': 1}}";
    scene.first.updated("ws", "u", finish);
    assert_eq!(scene.seen().0.status, FINISHED);
}

#[test]
fn a_name_goes_before_the_connection() {
    let mut scene = scene();
    scene.admin.updated("ws", "u", "{'lease_time': -1}");
    scene.second.take_key("w2", "u");
    // `first` lost its lease, but speaks for `w2` now; `second` has one, but speaks for `w1`.
    let before = scene.seen();
    scene
        .second
        .not_updated("ws", "u", "{'status': 4, 'worker_id': 'w1'}");
    assert_eq!(scene.seen(), before);
    scene
        .first
        .updated("ws", "u", "{'status': 4, 'worker_id': 'w2'}");
    assert_eq!(scene.seen().0.status, FINISHED);
}

#[test]
fn of_too_many_attempts_a_connection_is_known_by_the_latest() {
    let server = Server::start_with(&["--max-remembered", "2"]);
    let mut admin = server.connect();
    admin.set_spec("{'name': 'ws'}");
    admin.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    let mut first = server.connect();
    for key in ["a", "b", "c"] {
        first.take_key("w1", key);
        admin.updated("ws", key, "{'lease_time': -1}");
        admin.done(
            "prioritize_work_units",
            &format!("'ws', {{'work_unit_keys': ['{key}'], 'priority': -1}}"),
        );
    }
    let mut second = server.connect();
    assert_eq!(second.take_many("w2", "{'max_jobs': 3}").len(), 3);
    first.not_updated("ws", "b", "{'status': 4}");
    first.not_updated("ws", "c", "{'status': 4}");
    // The oldest is forgotten: it reports as one who holds nothing.
    first.updated("ws", "a", "{'status': 4}");
}

// --- by attempt ---

const GIVE_BACKS: [&str; 2] = ["{'status': 1}", "{'lease_time': -1}"];

#[test]
fn a_report_for_the_active_attempt_counts_on_any_connection_and_whatever_worker_it_names() {
    for (options, status) in [
        ("{'status': 4, 'data': {'new': 1}}", FINISHED),
        ("{'status': 5, 'data': {'new': 1}}", FAILED),
        ("{'status': 3, 'data': {'new': 1}}", PENDING),
    ] {
        let mut scene = scene();
        let report = format!("{{'attempt': {}, {}", scene.attempt, &options[1..]);
        scene.second.updated("ws", "u", &report);
        let (found, data) = scene.seen();
        assert_eq!(
            (found.status, found.worker.as_deref(), data),
            (status, Some("w1"), diag("{'new': 1}")),
            "{report}"
        );
    }
    for options in GIVE_BACKS {
        let mut scene = scene();
        let report = scene.of_attempt(options);
        scene.admin.updated("ws", "u", &report);
        scene.second.take_key("w2", "u");
    }
}

#[test]
fn an_attempt_that_lost_its_unit_is_refused_as_lost_on_any_connection() {
    for (loss, lose) in LOSSES {
        let mut scene = scene();
        lose(&mut scene);
        let second = scene.second.take_attempt("w2", "u");
        assert!(second > scene.attempt);
        for options in REPORTS.iter().chain(&GIVE_BACKS) {
            let message = scene.attempt_is_refused(options);
            assert!(
                message.contains("lost") && message.contains("w2"),
                "{loss}, {options}: {message}"
            );
        }
        // `first` has lost the unit, but speaks for the attempt that has it.
        let report = format!("{{'attempt': {second}, 'worker_id': 'w1', 'status': 4}}");
        scene.first.updated("ws", "u", &report);
        let (found, data) = scene.seen();
        assert_eq!(
            (found.status, found.worker.as_deref(), data),
            (FINISHED, Some("w2"), diag("{'own': 1}"))
        );
    }
}

#[test]
fn an_attempt_that_lost_its_lease_takes_the_unit_back_while_nobody_has_it() {
    for (loss, lose) in LOSSES {
        for (options, status) in REPORTS.iter().zip([FINISHED, FAILED, PENDING, PENDING]) {
            let mut scene = scene();
            lose(&mut scene);
            let report = format!("{{'attempt': {}, {}", scene.attempt, &options[1..]);
            scene.admin.updated("ws", "u", &report);
            let (found, data) = scene.seen();
            assert_eq!(
                (found.status, found.worker.as_deref(), data),
                (status, Some("w1"), diag("{'late': 1}")),
                "{loss}, {report}"
            );
        }
        let mut scene = scene();
        lose(&mut scene);
        for options in GIVE_BACKS {
            scene.attempt_changes_nothing(options);
        }
        let report = scene.of_attempt("{'status': 1, 'delay': 1000}");
        scene.admin.updated("ws", "u", &report);
        assert_eq!(scene.second.take("w2"), None, "{loss}");
    }
}

#[test]
fn an_attempt_at_a_unit_that_another_completed_changes_nothing_but_may_retry_it() {
    for status in [FINISHED, FAILED] {
        let mut scene = scene();
        scene.admin.updated("ws", "u", "{'lease_time': -1}");
        scene.second.take_key("w2", "u");
        let completed = format!("{{'status': {status}, 'data': {{'right': 1}}}}");
        scene.second.updated("ws", "u", &completed);
        for options in &REPORTS[..2] {
            scene.attempt_changes_nothing(options);
        }
        for options in REPORTS[2..].iter().chain(&GIVE_BACKS[1..]) {
            scene.attempt_is_refused(options);
        }
        let retry = scene.of_attempt("{'status': 1}");
        scene.admin.updated("ws", "u", &retry);
        assert_eq!(scene.seen().0.status, AVAILABLE);
    }
}

#[test]
fn a_result_of_an_attempt_that_comes_again_is_accepted_and_changes_nothing() {
    for status in [FINISHED, FAILED] {
        let mut scene = scene();
        let result = scene.of_attempt(&format!("{{'status': {status}, 'data': {{'done': 1}}}}"));
        scene.admin.updated("ws", "u", &result);
        let before = scene.seen();
        assert_eq!((before.0.status, &before.1), (status, &diag("{'done': 1}")));
        scene.second.updated("ws", "u", &result);
        assert_eq!(scene.seen(), before);
        // Also when the unit has moved on.
        scene.admin.updated("ws", "u", "{'status': 1}");
        for options in REPORTS.iter().chain(&GIVE_BACKS) {
            scene.attempt_changes_nothing(options);
        }
        scene.second.take_key("w2", "u");
        for options in REPORTS.iter().chain(&GIVE_BACKS) {
            scene.attempt_changes_nothing(options);
        }
    }
}

#[test]
fn an_attempt_from_before_its_unit_was_added_again_is_refused() {
    let mut scene = scene();
    scene.admin.add("ws", "['u', {'own': 2}]");
    for taken in [false, true] {
        if taken {
            scene.second.take_key("w2", "u");
        }
        for options in REPORTS.iter().chain(&GIVE_BACKS) {
            let message = scene.attempt_is_refused(options);
            assert!(message.contains("added again"), "{message}");
        }
    }
    scene.second.updated("ws", "u", "{'status': 4}");
    for options in REPORTS.iter().chain(&GIVE_BACKS[1..]) {
        scene.attempt_is_refused(options);
    }
}

#[test]
fn an_attempt_at_a_unit_that_was_deleted_is_refused_also_if_nobody_has_its_namesake() {
    for way in ["del_work_units('ws', {'all': true})", "del_work_spec('ws')"] {
        let mut scene = scene();
        let (method, params) = way.split_once('(').expect("a call");
        scene.admin.call(method, params.trim_end_matches(')'));
        let gone = scene.of_attempt("{'status': 4}");
        scene.admin.not_updated("ws", "u", &gone);
        scene.admin.set_spec("{'name': 'ws'}");
        scene.admin.add("ws", "['u', {'own': 2}]");
        for status in [AVAILABLE, PENDING, FINISHED] {
            match status {
                PENDING => drop(scene.second.take_key("w2", "u")),
                FINISHED => scene.second.updated("ws", "u", "{'status': 4}"),
                _ => {}
            }
            for options in REPORTS.iter().chain(&GIVE_BACKS) {
                let message = scene.attempt_is_refused(options);
                assert!(message.contains("deleted"), "{way}, {options}: {message}");
            }
        }
    }
}

#[test]
fn an_id_that_is_not_an_attempt_at_the_unit_is_refused_by_its_number() {
    let mut scene = scene();
    scene.admin.add("ws", "['other', {}]");
    let other = scene.first.take_attempt("w1", "other").to_string();
    for id in [other.as_str(), "0", "-1", "999", "9223372036854775807"] {
        let before = scene.seen();
        for options in REPORTS.iter().chain(&GIVE_BACKS) {
            let report = options.replacen('{', &format!("{{'attempt': {id}, "), 1);
            let message = scene.first.not_updated("ws", "u", &report);
            let says = format!("attempt {id} is not an attempt at work unit \"u\"");
            assert!(message.contains(&says), "{report}: {message}");
        }
        assert_eq!(scene.seen(), before);
    }
    for id in ["'x'", "[1]", "9223372036854775808"] {
        let params = format!("'ws', 'u', {{'attempt': {id}, 'status': 4}}");
        let message = scene.first.refused("update_work_unit", &params);
        assert!(
            message.contains("option attempt: expected an integer"),
            "{message}"
        );
    }
    // Null says nothing.
    scene
        .first
        .updated("ws", "u", "{'attempt': null, 'status': 4}");
}

#[test]
fn two_attempts_of_the_same_worker_on_the_same_connection_are_told_from_each_other() {
    let mut scene = scene();
    scene.admin.updated("ws", "u", "{'lease_time': -1}");
    let second = scene.first.take_attempt("w1", "u");
    let finish = |attempt: u64| format!("{{'status': 4, 'worker_id': 'w1', 'attempt': {attempt}}}");
    scene.is_refused(&finish(scene.attempt));
    scene.first.updated("ws", "u", &finish(second));
    assert_eq!(scene.seen().0.status, FINISHED);
}

#[test]
fn each_of_many_updates_counts_for_its_attempt() {
    let mut scene = scene();
    scene.admin.add("ws", "['v', {}]");
    let other = scene.first.take_attempt("w1", "v");
    scene.admin.updated("ws", "u", "{'lease_time': -1}");
    scene.second.take_key("w2", "u");
    let (lost, good) = (scene.attempt, other);
    let updates = format!(
        "'ws', [['u', {{'attempt': {lost}, 'status': 4}}], ['v', {{'attempt': {lost}, 'status': 4}}],
                ['v', {{'attempt': {good}, 'status': 4}}]]"
    );
    let answers = scene.admin.value("update_work_units", &updates);
    let accepted: Vec<&Value> = answers
        .items()
        .iter()
        .map(|answer| answer.item(0))
        .collect();
    let expected = [false, false, true].map(Value::Bool);
    assert_eq!(accepted, expected.iter().collect::<Vec<_>>(), "{answers}");
    assert_eq!(
        scene.admin.counts("ws"),
        [(PENDING, 1), (FINISHED, 1)].into()
    );
}

#[test]
fn attempts_are_known_after_a_crash() {
    let mut scene = scene();
    scene.admin.updated("ws", "u", "{'lease_time': -1}");
    let second = scene.second.take_attempt("w2", "u");
    scene.server.kill();
    scene.server.start_again();
    let mut client = scene.server.connect();
    let finish = |attempt: u64| format!("{{'status': 4, 'attempt': {attempt}}}");
    let message = client.not_updated("ws", "u", &finish(scene.attempt));
    assert!(message.contains("lost"), "{message}");
    client.updated("ws", "u", &finish(second));
}

/// What removes the unit `u` of `ws`, or its active attempt.
type Removal = fn(&mut Client);

#[test]
fn ids_of_attempts_grow_and_are_not_used_again_after_deletions_and_restarts() {
    let mut server = Server::start_with(&["--limit-completed-count", "0"]);
    let mut last = 0;
    let ways: [(&str, Removal); 5] = [
        ("deleted by name", |client| {
            client.value("del_work_units", "'ws', {'work_unit_keys': ['u']}");
        }),
        ("all deleted", |client| {
            client.value("del_work_units", "'ws', {'all': true}");
        }),
        ("the spec deleted", |client| {
            client.done("del_work_spec", "'ws'");
        }),
        ("archived", |client| {
            client.updated("ws", "u", "{'status': 4}");
            client.call("archive", "");
        }),
        ("kept", |client| client.updated("ws", "u", "{'status': 1}")),
    ];
    for (way, remove) in ways {
        for kill in [false, true] {
            let mut client = server.connect();
            client.set_spec("{'name': 'ws'}");
            client.add("ws", "['u', {}]");
            for _ in 0..2 {
                let id = client.take_attempt("w", "u");
                assert!(id > last, "{way}: {id} after {last}");
                last = id;
                client.updated("ws", "u", "{'status': 1}");
            }
            last = client.take_attempt("w", "u");
            remove(&mut client);
            match kill {
                true => {
                    server.kill();
                    server.start_again();
                }
                false => server.restart(),
            }
            let mut client = server.connect();
            client.set_spec("{'name': 'ws'}");
            client.add("ws", "['u', {}]");
            let id = client.take_attempt("w", "u");
            assert!(id > last, "{way}, then a restart: {id} after {last}");
            let late = format!("{{'status': 4, 'attempt': {last}}}");
            client.not_updated("ws", "u", &late);
            last = id;
            client.value("del_work_units", "'ws', {'all': true}");
        }
    }
}

// --- the unit was cancelled ---

/// Cancels the unit while `first` has it; with a grace of 0 its lease is taken at once.
fn cancelled(grace: u32) -> Scene {
    let mut scene = scene();
    let options = format!("'ws', {{'all': true, 'reason': 'no more', 'grace': {grace}}}");
    let counts = scene.admin.value("cancel_work_units", &options);
    let running = if grace == 0 { 0 } else { 1 };
    assert_eq!(counts.at("running"), &Value::Unsigned(running), "{counts}");
    scene
}

impl Scene {
    /// What `get_work_unit_status` tells in addition, with the reason.
    fn shows_cancelled(&mut self) -> bool {
        let shown = self.admin.value("get_work_unit_status", "'ws', ['u']");
        let reason = shown.item(0).get("cancelled").map(|c| c.at("reason"));
        reason.is_some_and(|reason| reason.name().as_deref() == Some("no more"))
    }
}

/// How a reporter is known as the worker that has the unit.
fn ways_to_be_known(scene: &Scene) -> [(&'static str, String); 3] {
    [
        ("by its connection", String::new()),
        ("by its name", "'worker_id': 'w1', ".to_owned()),
        ("by its attempt", format!("'attempt': {}, ", scene.attempt)),
    ]
}

#[test]
fn the_worker_of_a_cancelled_unit_gets_no_new_lease_and_is_told_why() {
    let mut scene = cancelled(60);
    let until = scene.admin.status("ws", "u").expiration;
    for (known, told) in ways_to_be_known(&scene) {
        for renewal in [
            "'lease_time': 900",
            "'status': 3, 'lease_time': 900",
            "'status': 3",
        ] {
            let options = format!("{{{told}{renewal}}}");
            let reporter = match told.is_empty() {
                true => &mut scene.first,
                false => &mut scene.second,
            };
            let message = reporter.not_updated("ws", "u", &options);
            assert_eq!(message, "cancelled: no more", "{known}, {renewal}");
        }
    }
    let status = scene.admin.status("ws", "u");
    assert_eq!((status.status, status.expiration), (PENDING, until));
}

#[test]
fn a_finish_before_the_lease_is_taken_counts_and_afterwards_it_does_not() {
    for number in 0..3 {
        let mut scene = cancelled(60);
        let (known, told) = ways_to_be_known(&scene)[number].clone();
        let finish = format!("{{{told}'status': 4, 'data': {{'late': 1}}}}");
        scene.first.updated("ws", "u", &finish);
        let seen = scene.seen();
        assert_eq!(
            (seen.0.status, &seen.1),
            (FINISHED, &diag("{'late': 1}")),
            "{known}"
        );
        assert!(!scene.shows_cancelled(), "{known}");

        let mut scene = cancelled(0);
        let (known, told) = ways_to_be_known(&scene)[number].clone();
        for report in REPORTS {
            let report = report.replacen('{', &format!("{{{told}"), 1);
            assert_eq!(scene.is_refused(&report), "cancelled: no more", "{known}");
        }
        assert!(scene.shows_cancelled(), "{known}");
    }
}

#[test]
fn a_worker_that_fails_or_gives_back_a_cancelled_unit_leaves_it_failed() {
    for report in [
        "{'status': 5, 'data': {'traceback': 'ended'}}",
        "{'lease_time': -1}",
        "{'status': 1, 'delay': 5, 'worker_id': 'w1'}",
        "{'status': 1, 'data': {'traceback': 'ended'}}",
    ] {
        let mut scene = cancelled(60);
        scene.admin.set_spec("{'name': 'ws', 'retries': 9}");
        scene.first.updated("ws", "u", report);
        assert_eq!(scene.admin.state("ws", "u"), FAILED, "{report}");
        let message = scene.admin.data("ws", "u").at("traceback").name();
        let expected = match report.contains("ended") {
            true => "ended\ncancelled: no more",
            false => "cancelled: no more",
        };
        assert_eq!(message.as_deref(), Some(expected), "{report}");
        // It is not counted as a failure that is retried.
        assert_eq!(scene.second.take("w2"), None, "{report}");
    }
}

#[test]
fn a_late_give_back_of_a_cancelled_unit_does_not_lift_the_cancellation_and_a_retry_does() {
    let mut scene = cancelled(0);
    for options in [
        "{'status': 1, 'delay': 5, 'worker_id': 'w1'}",
        "{'lease_time': -1}",
    ] {
        assert_eq!(scene.is_refused(options), "cancelled: no more");
    }
    scene.attempt_is_refused("{'status': 1}");
    scene
        .admin
        .updated("ws", "u", "{'status': 1, 'lease_time': 0}");
    assert_eq!(scene.admin.state("ws", "u"), AVAILABLE);
    assert!(!scene.shows_cancelled());
    // From now on its attempt is one that has failed, and the table of late reports applies.
    scene.second.take_key("w2", "u");
    for report in REPORTS {
        scene.changes_nothing(report);
    }
}

#[test]
fn somebody_else_can_lift_the_cancellation_of_a_running_unit() {
    let mut scene = cancelled(60);
    scene
        .admin
        .updated("ws", "u", "{'status': 1, 'lease_time': 0}");
    assert_eq!(scene.admin.state("ws", "u"), AVAILABLE);
    assert!(!scene.shows_cancelled());
    scene.second.take_key("w2", "u");
    scene.second.updated("ws", "u", "{'lease_time': 60}");
}

#[test]
fn a_worker_that_lost_a_unit_before_it_was_cancelled_is_refused_like_any_other() {
    let mut scene = scene();
    scene.first.updated("ws", "u", "{'lease_time': -1}");
    scene.second.take_key("w2", "u");
    let cancel = "'ws', {'all': true, 'reason': 'no more', 'grace': 60}";
    scene.admin.value("cancel_work_units", cancel);
    assert!(scene.is_refused(REPORTS[0]).contains("w2"));
    scene.second.updated("ws", "u", "{'status': 5}");
    assert_eq!(scene.is_refused(REPORTS[0]), "cancelled: no more");
}
