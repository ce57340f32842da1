//! Requests that wait for work, when a batch is lost or the file is locked.

use super::locked::Lock;
use super::steps::{Daemon, FULL, problem};
use coordinated::jobserver::{Answer, Session};
use coordinated::server::{BatchError, Handled, Service, Ticket};
use coordinated::store::SqliteStore;
use std::time::Duration;
use test_support::{Value, diag, unframe};

const WAIT: &str = "'w', {'wait': 60}";

fn request(method: &str, params: &str) -> Vec<u8> {
    diag(&format!(
        "{{'id': 7, 'method': '{method}', 'params': [{params}]}}"
    ))
    .encode()
}

impl Daemon {
    fn handle(
        &mut self,
        session: &mut Session<SqliteStore>,
        method: &str,
        params: &str,
    ) -> Handled<Answer> {
        let message = request(method, params);
        self.service.handle(session, &message, self.now)
    }

    fn answer(&mut self, handled: Handled<Answer>, outcome: &Result<(), BatchError>) -> Value {
        let Handled::Answer(answer) = handled else {
            panic!("no answer")
        };
        let mut frame = Vec::new();
        self.service.write_answer(answer, outcome, &mut frame);
        unframe(&frame)
    }

    /// Lets a request for work wait, on a connection of its own.
    fn wait(&mut self) -> (Session<SqliteStore>, Ticket) {
        let mut session = self.service.open_session(None);
        let Handled::Sleep { ticket, .. } = self.handle(&mut session, "get_work", WAIT) else {
            panic!("it does not wait")
        };
        (session, ticket)
    }

    /// The outcome of a commit for which the disk has no room.
    fn commit_in_vain(&mut self) -> Result<(), BatchError> {
        self.disk.break_by(FULL);
        let outcome = self.service.commit();
        self.disk.repair();
        assert!(matches!(outcome, Err(BatchError::RolledBack(_))));
        outcome
    }
}

#[test]
fn a_unit_that_a_lost_batch_had_given_to_another_one_goes_to_the_request_that_waits() {
    let mut daemon = Daemon::with_units(1);
    let mut other = daemon.service.open_session(None);
    let given = daemon.handle(&mut other, "get_work", "'other', {}");
    let (mut session, ticket) = daemon.wait();
    assert_eq!(daemon.service.next_awake(daemon.now), None);
    let outcome = daemon.commit_in_vain();
    let answer = daemon.answer(given, &outcome);
    assert!(problem(&answer).contains("nothing was changed"), "{answer}");
    assert_eq!(daemon.service.next_awake(daemon.now), Some(ticket));
    let handled = daemon.handle(&mut session, "get_work", WAIT);
    let outcome = daemon.service.commit();
    let answer = daemon.answer(handled, &outcome);
    assert_eq!(*answer.at("result").item(0).item(1), diag("'u0000'"));
    assert_eq!(daemon.counts(), diag("{3: 1}"));
}

#[test]
fn a_request_that_a_lost_batch_woke_fails_with_it_and_the_next_one_waits_on() {
    let mut daemon = Daemon::with_units(0);
    let (mut first, ticket) = daemon.wait();
    let (mut second, next) = daemon.wait();
    let mut other = daemon.service.open_session(None);
    daemon.service.commit().expect("nothing was written");
    daemon.handle(&mut other, "add_work_units", "'ws', ['a']");
    assert_eq!(daemon.service.next_awake(daemon.now), Some(ticket));
    let handled = daemon.handle(&mut first, "get_work", WAIT);
    assert_eq!(daemon.service.next_awake(daemon.now), None);
    let outcome = daemon.commit_in_vain();
    let answer = daemon.answer(handled, &outcome);
    assert!(
        problem(&answer).contains("nothing was changed: the disk is full"),
        "{answer}"
    );
    assert_eq!(daemon.service.next_awake(daemon.now), None);
    daemon.handle(&mut other, "add_work_units", "'ws', ['a']");
    assert_eq!(daemon.service.next_awake(daemon.now), Some(next));
    let handled = daemon.handle(&mut second, "get_work", WAIT);
    let outcome = daemon.service.commit();
    let answer = daemon.answer(handled, &outcome);
    assert_eq!(*answer.at("result").item(0).item(1), diag("'a'"));
}

#[test]
fn the_end_of_a_wait_is_put_off_while_another_program_has_the_file_locked() {
    let mut daemon = Daemon::with_units(0);
    let (mut session, ticket) = daemon.wait();
    daemon.service.commit().expect("nothing was written");
    let end = daemon.service.wake_at().expect("an end");
    assert_eq!(end, daemon.now.plus(Duration::from_secs(60)));
    assert_eq!(daemon.service.next_awake(daemon.now), None);
    let lock = Lock::take(&daemon);
    daemon.now = end;
    assert_eq!(daemon.service.next_awake(daemon.now), Some(ticket));
    let handled = daemon.handle(&mut session, "get_work", WAIT);
    assert!(matches!(handled, Handled::Wait { .. }));
    lock.release();
    assert!(daemon.service.can_write());
    let handled = daemon.handle(&mut session, "get_work", WAIT);
    let outcome = daemon.service.commit();
    let answer = daemon.answer(handled, &outcome);
    assert_eq!(*answer.at("result").item(0).item(1), Value::Null);
    assert_eq!(daemon.service.wake_at(), None);
}

#[test]
fn a_clock_that_is_set_does_not_change_how_long_a_request_waits() {
    let mut daemon = Daemon::with_units(0);
    let (_session, _) = daemon.wait();
    daemon.service.commit().expect("nothing was written");
    let step = coordinated::clock::ClockStep(-3_600_000_000);
    let now = daemon.now.moved(step);
    daemon
        .service
        .move_times(step, now)
        .expect("they are moved");
    let end = daemon.now.plus(Duration::from_secs(60)).moved(step);
    assert_eq!(daemon.service.wake_at(), Some(end));
}
