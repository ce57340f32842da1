//! A call that is done in steps, when a batch between them is lost.

use super::disk::{Call, Disk, Failure, Fault};
use super::script::open_world;
use coordinated::clock::Timestamp;
use coordinated::engine::{self, Engine};
use coordinated::jobserver::{Anonymous, JobServer, Session, Settings};
use coordinated::limits::Pace;
use coordinated::server::{BatchError, Handled, Service};
use coordinated::store::SqliteStore;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::sync::Arc;
use std::time::Duration;
use test_support::{Value, diag, unframe};

/// No room for what a commit writes.
pub const FULL: Fault = Fault {
    call: Call::Write,
    of: "",
    nth: 0,
    failure: Failure::Full,
    lasting: true,
};

/// A daemon without sockets, on a disk that fails at will.
pub struct Daemon {
    pub disk: Arc<Disk>,
    pub service: JobServer<SqliteStore>,
    pub session: Session<SqliteStore>,
    pub now: Timestamp,
}

impl Daemon {
    fn start() -> Self {
        let disk = Disk::new();
        let world = open_world(&disk);
        let settings = engine::Settings {
            // What is in a step does not depend on how busy the machine is.
            pace: Pace {
                list_step: Duration::MAX,
                batch: Duration::MAX,
            },
            ..engine::Settings::default()
        };
        let random = Box::new(SmallRng::seed_from_u64(1));
        let engine = Engine::new(world.store, settings, random, world.now);
        let settings = Settings {
            anonymous: Anonymous::default(),
            config: vec![0xa0],
            depth_max: 100,
        };
        let mut service = JobServer::new(engine.expect("it starts"), settings);
        let session = service.open_session(None);
        Self {
            disk,
            service,
            session,
            now: world.now,
        }
    }

    /// Lets it have a message, each step of which is committed; the disk is full at the commit of the step of
    /// this number. Gives the answer.
    pub fn ask(&mut self, message: &Value, full_at: Option<usize>) -> Value {
        let bytes = message.encode();
        for step in 0.. {
            let handled = self.service.handle(&mut self.session, &bytes, self.now);
            if full_at == Some(step) {
                self.disk.break_by(FULL);
            }
            let outcome = self.service.commit();
            self.disk.repair();
            match (handled, &outcome) {
                (Handled::Again { .. }, Ok(())) => {}
                (Handled::Again { .. }, Err(error)) => {
                    self.service.rolled_back(&mut self.session, error)
                }
                (Handled::Answer(answer), _) => {
                    assert!(matches!(outcome, Ok(()) | Err(BatchError::RolledBack(_))));
                    let mut frame = Vec::new();
                    self.service.write_answer(answer, &outcome, &mut frame);
                    return unframe(&frame);
                }
                _ => panic!("neither an answer nor another step"),
            }
        }
        unreachable!()
    }

    pub fn call(&mut self, method: &str, params: &str, full_at: Option<usize>) -> Value {
        let request = format!("{{'id': 7, 'method': '{method}', 'params': [{params}]}}");
        self.ask(&diag(&request), full_at)
    }

    pub fn with_units(count: usize) -> Self {
        let mut daemon = Self::start();
        daemon.call("set_work_spec", "{'name': 'ws'}", None);
        let units: Vec<String> = (0..count).map(|n| format!("'u{n:04}'")).collect();
        daemon.call(
            "add_work_units",
            &format!("'ws', [{}]", units.join(",")),
            None,
        );
        daemon
    }

    pub fn counts(&mut self) -> Value {
        let answer = self.call("count_work_units", "'ws'", None);
        answer.at("result").item(0).clone()
    }
}

pub fn problem(answer: &Value) -> String {
    assert_eq!(answer.get("result"), None);
    answer.at("error").at("message").to_string()
}

#[test]
fn a_call_whose_step_was_lost_says_so_and_what_it_did_before_stands() {
    // Of 250 units 100 are deleted in a step; the last step of the three is answered at once.
    for (full_at, left, said) in [
        (0, 250, "nothing was changed: the disk is full"),
        (1, 150, "its earlier steps are committed"),
        (2, 50, "its earlier steps are committed"),
    ] {
        let mut daemon = Daemon::with_units(250);
        let answer = daemon.call("del_work_units", "'ws', {'state': 1}", Some(full_at));
        assert!(problem(&answer).contains(said), "{answer}");
        assert_eq!(answer.at("id"), &Value::Unsigned(7));
        assert_eq!(daemon.counts(), diag(&format!("{{1: {left}}}")));
        let again = daemon.call("del_work_units", "'ws', {'state': 1}", None);
        assert_eq!(again.at("result"), &diag(&format!("[{left}, null]")));
    }
}

/// What docs/protocol.md says of `add_work_units`.
#[test]
fn all_or_none_are_added_of_what_makes_one_step_and_whole_steps_of_more() {
    let few_but_large = format!("{{'x': '{}'}}", "x".repeat(1 << 20));
    // Longer lists are looked through in a step before, which writes nothing.
    for (count, data, full_at, added) in [
        (1_000, "{}", 0, 0),
        (2_500, "{}", 1, 0),
        (2_500, "{}", 2, 1_000),
        (2_500, "{}", 3, 2_000),
        (3, &*few_but_large, 0, 0),
        (5, &*few_but_large, 1, 0),
        (5, &*few_but_large, 2, 4),
    ] {
        let mut daemon = Daemon::with_units(0);
        let units: Vec<String> = (0..count).map(|n| format!("['v{n}', {data}]")).collect();
        let params = format!("'ws', [{}]", units.join(","));
        let answer = daemon.call("add_work_units", &params, Some(full_at));
        let said = match full_at {
            0 => "nothing was changed",
            _ => "its earlier steps are committed",
        };
        let problem = problem(&answer);
        assert!(problem.contains(said), "{count}, {full_at}: {problem}");
        let expected = match added {
            0 => "{}".to_owned(),
            added => format!("{{1: {added}}}"),
        };
        assert_eq!(daemon.counts(), diag(&expected), "{count}, {full_at}");
    }
}

impl Daemon {
    /// A unit of `ws` whose successor is `next`, and a finish of it that names so many units.
    fn with_long_output(count: usize) -> (Self, String) {
        let mut daemon = Self::with_units(1);
        daemon.call("set_work_spec", "{'name': 'ws', 'then': 'next'}", None);
        daemon.call("set_work_spec", "{'name': 'next'}", None);
        let output: Vec<String> = (0..count).map(|n| format!("'v{n:04}'")).collect();
        let data = format!("{{'output': [{}]}}", output.join(", "));
        let finish = format!("'ws', 'u0000', {{'status': 4, 'data': {data}}}");
        (daemon, finish)
    }

    fn chained(&mut self) -> Value {
        let counts = self.call("count_work_units", "'next'", None);
        counts.at("result").item(0).clone()
    }

    fn tick(&mut self, is_full: bool) {
        if is_full {
            self.disk.break_by(FULL);
        }
        let ticked = self.service.tick(self.now);
        self.disk.repair();
        assert_eq!(ticked.is_err(), is_full);
    }
}

#[test]
fn a_long_output_is_there_with_the_answer_or_comes_later_if_a_step_was_lost() {
    let (mut daemon, finish) = Daemon::with_long_output(2_500);
    let answer = daemon.call("update_work_unit", &finish, None);
    assert_eq!(answer.at("result"), &diag("[true, null]"));
    assert_eq!(daemon.chained(), diag("{1: 2500}"));

    // If that of the finish is lost, nothing stands.
    let (mut daemon, finish) = Daemon::with_long_output(2_500);
    let answer = daemon.call("update_work_unit", &finish, Some(0));
    problem(&answer);
    assert_eq!(daemon.counts(), diag("{1: 1}"));
    daemon.tick(false);
    assert_eq!(daemon.chained(), diag("{}"));

    // The second slice, and the last one, with which it is answered. The daemon adds them by itself.
    for (full_at, added) in [(1, 1_000), (2, 2_000)] {
        let (mut daemon, finish) = Daemon::with_long_output(2_500);
        let answer = daemon.call("update_work_unit", &finish, Some(full_at));
        let problem = problem(&answer);
        assert!(
            problem.contains("its earlier steps are committed"),
            "{problem}"
        );
        assert_eq!(daemon.counts(), diag("{4: 1}"));
        daemon.tick(true);
        assert_eq!(daemon.chained(), diag(&format!("{{1: {added}}}")));
        for _ in 0..3 {
            daemon.tick(false);
        }
        assert_eq!(daemon.chained(), diag("{1: 2500}"));
        assert!(daemon.service.due().is_none_or(|due| due > daemon.now));
    }
}

#[test]
fn a_step_that_stands_is_answered_whatever_is_lost_behind_it() {
    let (mut daemon, finish) = Daemon::with_long_output(2_500);
    // Something for the daemon to do by itself.
    daemon.call("update_work_unit", &finish, Some(1));
    daemon.call("set_work_spec", "{'name': 'many'}", None);
    let units: Vec<String> = (0..150).map(|n| format!("'w{n:04}'")).collect();
    let add = format!("'many', [{}]", units.join(", "));
    daemon.call("add_work_units", &add, None);
    let list = diag(
        "[{'id': 'a', 'method': 'get_work', 'params': ['w', {'work_spec_names': ['many']}]},
          {'id': 'all', 'method': 'del_work_units', 'params': ['many', {'state': 1}]}]",
    );
    let bytes = list.encode();
    let handled = daemon
        .service
        .handle(&mut daemon.session, &bytes, daemon.now);
    assert!(matches!(handled, Handled::Again { .. }));
    daemon.service.commit().expect("the step stands");
    daemon.tick(true);
    let answers = daemon.ask(&list, None);
    assert_eq!(
        answers.item(0).at("result"),
        &diag("[128(['many', 'w0000', {}]), null]")
    );
    assert_eq!(answers.item(1).at("result"), &diag("[149, null]"));
}

#[test]
fn of_a_list_of_requests_those_whose_step_was_lost_are_answered_by_errors() {
    let add = |unit: &str| {
        format!("{{'id': '{unit}', 'method': 'add_work_units', 'params': ['ws', ['{unit}']]}}")
    };
    let delete = "{'id': 'all', 'method': 'del_work_units', 'params': ['ws', {'state': 1}]}";
    let list = diag(&format!("[{}, {delete}, {}]", add("a"), add("b")));
    // The first step adds a unit and deletes 100 of 151, the second one deletes the rest and adds another one.
    for (full_at, failed, left) in [
        (0, vec!["a", "all"], 151),
        (1, vec!["all", "b"], 51),
        (2, vec![], 1),
    ] {
        let mut daemon = Daemon::with_units(150);
        let answers = daemon.ask(&list, Some(full_at));
        let found: Vec<String> = answers
            .items()
            .iter()
            .filter(|answer| answer.get("error").is_some())
            .map(|answer| answer.at("id").name().expect("a name"))
            .collect();
        assert_eq!(answers.items().len(), 3);
        assert_eq!(found, failed, "{answers}");
        assert_eq!(daemon.counts(), diag(&format!("{{1: {left}}}")));
    }
}
