//! Tries to break a promise: the history tells what has happened in each work spec, by minute and by hour, also after a
//! restart, and says of which time something may be missing.

use coordinated::clock::Timestamp;
use coordinated::coordinate::storage::{Access, Lister};
use coordinated::coordinate::{
    IfExists, NewUnit, Operation, Period, ReportKind, Result, Tally, WorkRequest,
};
use coordinated::engine::{Engine, Settings};
use coordinated::limits::RequestLimits;
use coordinated::store::{Options, SqliteStore};
use coordinated_client::cbor::Item;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rusqlite::Connection;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use test_support::world::{START, cbor, name, nobody, report_of};

/// An engine with a clock that is set by hand. It begins at the start of an hour.
struct Daemon {
    engine: Engine<SqliteStore>,
    now: Timestamp,
}

/// The start of the hour in which everything begins.
fn first_hour() -> Timestamp {
    Period::Hour.start(START.plus(Duration::from_hours(1)))
}

impl Daemon {
    fn start(path: &Path, now: Timestamp) -> Self {
        let store = SqliteStore::open(path, &Options::default(), now).expect("it opens");
        let random = Box::new(SmallRng::seed_from_u64(1));
        let engine = Engine::new(store, Settings::default(), random, now).expect("it starts");
        Self { engine, now }
    }

    fn run<T>(
        &mut self,
        mut run: impl FnMut(&mut Operation<'_, SqliteStore>) -> Result<T>,
    ) -> Result<T> {
        let result = self
            .engine
            .run(Access::Write, self.now, |mut operation| run(&mut operation));
        self.engine.commit().expect("it commits");
        result
    }

    /// Lets time pass, and does what is due meanwhile.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus(Duration::from_secs(1));
            while self.engine.due().is_some_and(|due| due <= self.now) {
                self.engine.tick(self.now).expect("it ticks");
                self.now = self.now.plus(Duration::from_millis(1));
            }
        }
    }

    fn stop(mut self) -> Timestamp {
        self.engine.finish(self.now).expect("it finishes");
        self.engine.into_store().close().expect("it closes");
        self.now
    }

    fn kill(self) -> Timestamp {
        self.engine.into_store().abandon();
        self.now
    }

    fn set_spec(&mut self, spec: &str) {
        let definition = cbor(&json!({"name": spec}));
        self.run(|operation| operation.set_work_spec(Item::from_checked(&definition)))
            .expect("it is set");
    }

    fn add(&mut self, spec: &str, units: std::ops::Range<usize>) {
        let encoded: Vec<_> = units.map(|n| cbor(&json!([format!("u{n}"), {}]))).collect();
        let limits = RequestLimits::default();
        let units: Vec<_> = encoded
            .iter()
            .map(|unit| NewUnit::from_item(Item::from_checked(unit), &limits).expect("a unit"))
            .collect();
        self.run(|operation| operation.add_work_units(&name(spec), &units, IfExists::Reset))
            .expect("they are added");
    }

    /// Hands out a unit, and returns its name.
    fn get_work(&mut self, lease: Duration) -> String {
        let runtimes = [String::new()];
        let request = WorkRequest {
            max_units: 1,
            lease,
            work_specs: &[],
            runtimes: &runtimes,
        };
        let given = self
            .run(|operation| operation.get_work(&name("w"), &request))
            .expect("work is handed out");
        let given = given.expect("it is not to be asked again");
        String::from_utf8_lossy(given[0].name.bytes()).into_owned()
    }

    fn end(&mut self, spec: &str, unit: &str, kind: ReportKind) {
        self.run(|operation| {
            operation.report(&nobody(), &name(spec), &name(unit), &report_of(kind))
        })
        .expect("it is reported");
    }

    /// What the history tells of a work spec, with the seconds since the first hour.
    fn history(&mut self, spec: &str, period: Period) -> Vec<(i64, Tally)> {
        let mut found = Vec::new();
        self.run(|operation| {
            found.clear();
            operation.store.list_history(
                operation.namespace,
                &[name("nonesuch"), name(spec)],
                period,
                Timestamp(0),
                &mut |index, start, tally| {
                    assert_eq!(index, 1);
                    found.push(((start.0 - first_hour().0) / 1_000_000, *tally));
                    Ok(())
                },
            )
        })
        .expect("it is listed");
        found
    }

    /// The gaps, in seconds since the first hour.
    fn gaps(&mut self) -> Vec<(i64, i64)> {
        let seconds = |at: Timestamp| (at.0 - first_hour().0) / 1_000_000;
        let gaps = self
            .run(|operation| operation.store.history_gaps(first_hour()))
            .expect("they are listed");
        let gaps = gaps.into_iter();
        gaps.map(|(start, end)| (seconds(start), seconds(end)))
            .collect()
    }
}

#[test]
fn what_has_happened_is_told_by_minute_and_by_hour_and_outlives_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let mut daemon = Daemon::start(&path, first_hour());
    daemon.set_spec("s");
    daemon.set_spec("quiet");
    daemon.add("s", 0..5);
    let unit = daemon.get_work(Duration::from_secs(500));
    daemon.pass(30);
    daemon.end("s", &unit, ReportKind::Finished);
    daemon.pass(40);
    let unit = daemon.get_work(Duration::from_secs(500));
    daemon.pass(10);
    daemon.end("s", &unit, ReportKind::Failed);
    let unit = daemon.get_work(Duration::from_secs(500));
    daemon.end("s", &unit, ReportKind::Available);
    daemon.get_work(Duration::from_secs(5));
    daemon.pass(10);
    // Not written yet when the daemon stops.
    daemon.add("s", 5..7);
    let now = daemon.stop();

    let mut daemon = Daemon::start(&path, now);
    let first = Tally {
        added: 5,
        started: 1,
        finished: 1,
        ..Tally::default()
    };
    let second = Tally {
        added: 2,
        started: 3,
        failed: 1,
        expired: 1,
        ..Tally::default()
    };
    let mut hour = first;
    hour.add(&second);
    let without_times = |mut told: Vec<(i64, Tally)>| {
        let times: Vec<_> = told
            .iter_mut()
            .map(|(_, tally)| std::mem::take(&mut tally.run).as_secs())
            .collect();
        (told, times)
    };
    let (minutes, times) = without_times(daemon.history("s", Period::Minute));
    assert_eq!(minutes, [(0, first), (60, second)]);
    assert_eq!(times, [30, 10]);
    let (hours, times) = without_times(daemon.history("s", Period::Hour));
    assert_eq!(hours, [(0, hour)]);
    assert_eq!(times, [40]);
    assert_eq!(daemon.history("quiet", Period::Minute), []);
    assert_eq!(daemon.gaps(), []);
    // It goes on in the same minute.
    daemon.add("s", 7..8);
    daemon.pass(10);
    let minutes = daemon.history("s", Period::Minute);
    assert_eq!(minutes[1].1.added, 3);
}

#[test]
fn after_a_kill_it_is_known_of_which_time_something_may_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let mut daemon = Daemon::start(&path, first_hour());
    daemon.set_spec("s");
    daemon.add("s", 0..5);
    daemon.pass(100);
    // Nothing has happened since the history was written.
    let now = daemon.kill();
    let mut daemon = Daemon::start(&path, now);
    assert_eq!(daemon.gaps(), []);
    let before = daemon.history("s", Period::Minute);
    daemon.pass(100);
    let unit = daemon.get_work(Duration::from_secs(500));
    daemon.pass(10);
    daemon.end("s", &unit, ReportKind::Finished);
    let now = daemon.kill().plus(Duration::from_secs(1_000));

    let mut daemon = Daemon::start(&path, now);
    let gaps = daemon.gaps();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let (start, end) = gaps[0];
    assert!(
        (200..=210).contains(&start) && (1_200..=1_220).contains(&end),
        "{gaps:?}"
    );
    let told = daemon.history("s", Period::Minute);
    let finished: u64 = told.iter().map(|(_, tally)| tally.finished).sum();
    assert_eq!((finished, told.len()), (0, before.len() + 1));
    let now = daemon.stop().plus(Duration::from_hours(24 * 91));
    let mut daemon = Daemon::start(&path, now);
    assert_eq!(daemon.gaps(), gaps, "it stays until there is another one");
    daemon.add("s", 5..6);
    let now = daemon.kill();
    let mut daemon = Daemon::start(&path, now);
    assert_eq!(daemon.gaps().len(), 1);
    assert_ne!(daemon.gaps(), gaps);
}

#[test]
fn minutes_are_kept_for_a_day_and_hours_for_ninety_days() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let mut daemon = Daemon::start(&path, first_hour());
    daemon.set_spec("s");
    daemon.set_spec("gone");
    daemon.add("gone", 0..1);
    for unit in 0..4 {
        daemon.add("s", unit..unit + 1);
        daemon.pass(10);
        let wait = if unit == 2 { 24 * 89 } else { 12 };
        daemon.now = daemon.now.plus(Duration::from_hours(wait));
    }
    let starts = |told: Vec<(i64, Tally)>| -> Vec<i64> {
        told.iter().map(|(start, _)| start / 3_600).collect()
    };
    assert_eq!(starts(daemon.history("s", Period::Minute)), [24 * 90]);
    assert_eq!(
        starts(daemon.history("s", Period::Hour)),
        [0, 12, 24, 24 * 90]
    );
    daemon.now = daemon.now.plus(Duration::from_hours(2));
    daemon.add("s", 9..10);
    daemon.pass(10);
    let hours = starts(daemon.history("s", Period::Hour));
    assert_eq!(hours, [24, 24 * 90, 24 * 90 + 14]);

    daemon
        .run(|operation| operation.delete_work_spec(&name("gone")))
        .expect("it is deleted");
    daemon.pass(10);
    daemon.stop();
    let file = Connection::open(&path).expect("it opens");
    let specs: i64 = file
        .query_row(
            "SELECT count(DISTINCT work_spec_id) FROM history",
            [],
            |row| row.get(0),
        )
        .expect("a count");
    assert_eq!(specs, 1);
}

#[test]
fn what_a_batch_that_failed_did_is_not_told_and_nothing_is_told_twice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let mut daemon = Daemon::start(&path, first_hour());
    for spec in 0..120 {
        daemon.set_spec(&format!("s{spec}"));
        daemon.add(&format!("s{spec}"), 0..3);
    }
    // Another program keeps the file from being written for a while.
    let other = Connection::open(&path).expect("it opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("it locks");
    daemon.now = daemon.now.plus(Duration::from_secs(7));
    assert!(daemon.engine.tick(daemon.now).is_err());
    let again = daemon.engine.due().expect("it is tried again");
    assert!(
        again >= daemon.now.plus(Duration::from_secs(1)),
        "not at once"
    );
    other.execute_batch("ROLLBACK").expect("it unlocks");
    daemon.pass(6);
    for spec in 0..120 {
        let told = daemon.history(&format!("s{spec}"), Period::Hour);
        assert_eq!(told.len(), 1, "{spec}");
        assert_eq!(told[0].1.added, 3, "{spec}");
    }
}
