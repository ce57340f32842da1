//! Another program has the file locked: what has to write waits, what only reads does not.

use super::steps::{Daemon, problem};
use coordinated::server::{BatchError, Handled, Service};
use rusqlite::Connection;
use std::time::Duration;
use test_support::{Value, diag};

/// Another program that keeps the daemon from writing.
pub struct Lock(Connection);

impl Lock {
    pub fn take(daemon: &Daemon) -> Self {
        let other = Connection::open(daemon.disk.database()).expect("the file");
        let begin = "BEGIN IMMEDIATE; UPDATE work_spec SET weight = weight";
        other.execute_batch(begin).expect("a write lock");
        Self(other)
    }

    pub fn release(self) {
        self.0.execute_batch("ROLLBACK").expect("the end");
    }
}

/// Lets a daemon have a message that has to wait.
fn begin_to_wait(daemon: &mut Daemon, message: &Value) {
    let handled = daemon
        .service
        .handle(&mut daemon.session, &message.encode(), daemon.now);
    daemon.service.commit().expect("nothing was written");
    assert!(matches!(handled, Handled::Wait { .. }));
    assert!(!daemon.service.can_write());
}

fn request(id: usize, method: &str, params: &str) -> String {
    format!("{{'id': {id}, 'method': '{method}', 'params': [{params}]}}")
}

#[test]
fn what_is_over_stays_as_it_is_for_readers_and_ends_when_the_file_is_unlocked() {
    let mut daemon = Daemon::with_units(2);
    daemon.call("get_work", "'w', {'lease_time': 10}", None);
    assert_eq!(daemon.counts(), diag("{1: 1, 3: 1}"));
    daemon.now = daemon.now.plus(Duration::from_secs(11));
    let lock = Lock::take(&daemon);
    assert_eq!(daemon.counts(), diag("{1: 1, 3: 1}"));
    let locked = daemon.service.tick(daemon.now);
    assert!(
        matches!(&locked, Err(BatchError::RolledBack(reason)) if reason.contains("locked")),
        "{locked:?}"
    );
    lock.release();
    assert_eq!(daemon.counts(), diag("{1: 2}"));
}

#[test]
fn a_call_waits_before_any_of_its_steps_and_goes_on_where_it_was() {
    let delete = request(7, "del_work_units", "'ws', {'state': 1}");
    for steps_before in [0, 1, 2] {
        let mut daemon = Daemon::with_units(250);
        let message = diag(&delete);
        for _ in 0..steps_before {
            let handled = daemon
                .service
                .handle(&mut daemon.session, &message.encode(), daemon.now);
            assert!(matches!(handled, Handled::Again { .. }));
            daemon.service.commit().expect("the step stands");
        }
        let lock = Lock::take(&daemon);
        begin_to_wait(&mut daemon, &message);
        begin_to_wait(&mut daemon, &message);
        lock.release();
        assert!(daemon.service.can_write());
        let answer = daemon.ask(&message, None);
        assert_eq!(answer.at("result"), &diag("[250, null]"));
        assert_eq!(daemon.counts(), diag("{}"));
    }
}

#[test]
fn a_call_that_has_waited_for_too_long_fails_and_its_steps_before_stand() {
    for (steps_before, said, left) in [
        (0, "nothing was changed", 250),
        (1, "its earlier steps are committed", 150),
    ] {
        let mut daemon = Daemon::with_units(250);
        let message = diag(&request(7, "del_work_units", "'ws', {'state': 1}"));
        for _ in 0..steps_before {
            daemon
                .service
                .handle(&mut daemon.session, &message.encode(), daemon.now);
            daemon.service.commit().expect("the step stands");
        }
        let lock = Lock::take(&daemon);
        begin_to_wait(&mut daemon, &message);
        daemon.service.end_waiting(&mut daemon.session);
        let problem = problem(&daemon.ask(&message, None));
        for words in ["another program has the database locked", said] {
            assert!(problem.contains(words), "{words} in {problem}");
        }
        assert_eq!(daemon.counts(), diag(&format!("{{1: {left}}}")));
        // The next message has time of its own.
        begin_to_wait(&mut daemon, &message);
        lock.release();
        let answer = daemon.ask(&message, None);
        assert_eq!(answer.at("result"), &diag(&format!("[{left}, null]")));
    }
}

#[test]
fn a_list_of_requests_waits_at_its_first_one_that_writes() {
    let count = |id| request(id, "count_work_units", "'ws'");
    let add = |id| request(id, "add_work_units", "'ws', ['new']");
    let list = diag(&format!(
        "[{}, {}, {}, {}]",
        count(1),
        add(2),
        add(3),
        count(4)
    ));
    for is_unlocked_in_time in [true, false] {
        let mut daemon = Daemon::with_units(1);
        let lock = Lock::take(&daemon);
        begin_to_wait(&mut daemon, &list);
        if is_unlocked_in_time {
            lock.release();
        } else {
            daemon.service.end_waiting(&mut daemon.session);
        }
        let answers = daemon.ask(&list, None);
        let failed: Vec<bool> = answers
            .items()
            .iter()
            .map(|answer| answer.get("error").is_some())
            .collect();
        let fails = !is_unlocked_in_time;
        assert_eq!(failed, [false, fails, fails, false], "{answers}");
        assert_eq!(answers.item(0).at("result"), &diag("[{1: 1}, null]"));
        let units = if is_unlocked_in_time { 2 } else { 1 };
        let last = diag(&format!("[{{1: {units}}}, null]"));
        assert_eq!(answers.item(3).at("result"), &last);
    }
}
