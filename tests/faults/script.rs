//! What the tests let the store do: a script whose every step leads from one known state to the next,
//! whatever fails on the way.
//!
//! A step that is refused is tried again, as a client would; after one whose outcome is not known the
//! store is opened anew, as the daemon is. So each file that the tests look at must be in the state before
//! the step that was interrupted, or in the one after it: what was answered is there, and nothing is
//! there by halves.

use super::disk::{Disk, Image};
use coordinated::coordinate::storage::{Access, Storage, WorkSpecStore};
use coordinated::coordinate::{
    Deletion, Error, Heartbeat, IfExists, LockPath, Memory, NewUnit, PriorityChange, Report,
    ReportKind, Retention, StorageError, WorkRequest,
};
use coordinated::limits::RequestLimits;
use coordinated::store::{Options, SqliteStore};
use coordinated_client::cbor::Item;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use std::time::Duration;
use test_support::state::State;
use test_support::world::{START, World, cbor, name, nobody, report_of};

/// One step.
pub enum Step {
    /// Operations in one batch.
    Batch(Vec<Do>),
    /// A clean stop and a start.
    Restart,
    /// An end without a clean stop, and a start.
    Crash,
}

/// One operation.
pub enum Do {
    SetSpec(Value),
    DeleteSpec(&'static str),
    Add(&'static str, Vec<Value>),
    /// A worker takes so many units of a spec.
    Take(&'static str, &'static str, usize),
    Report(&'static str, String, ReportKind, Option<Value>),
    Prioritize(&'static str, &'static str),
    DeleteUnits(&'static str, Vec<String>),
    Heartbeat(&'static str),
    Lock(&'static str),
    /// Ends what is over.
    Expire,
    /// Removes some units of deleted specs.
    Purge,
    /// Archives all but so many units of each status in each spec.
    Archive(u64),
    /// Only looks.
    Count(&'static str),
}

use Do::*;

/// Units with data of lengths of their own.
pub fn units(names: &str, count: usize, bytes: usize) -> Vec<Value> {
    (0..count)
        .map(|n| json!([format!("{names}{n:02}"), {"text": "x".repeat(bytes + n)}]))
        .collect()
}

fn report(spec: &'static str, unit: &str, kind: ReportKind, data: Option<Value>) -> Do {
    Report(spec, unit.to_owned(), kind, data)
}

/// Something of everything that the store can do, in small.
pub fn script() -> Vec<Step> {
    let output = json!({"output": {"made00": {"from": "a00"}, "made01": {}}});
    let traceback = json!({"traceback": "Traceback:\nValueError: no"});
    vec![
        Step::Batch(vec![
            SetSpec(json!({"name": "one", "then": "two", "max_retries": 3})),
            SetSpec(json!({"name": "two", "weight": 7})),
            Add("one", units("a", 12, 100)),
        ]),
        Step::Batch(vec![
            Count("one"),
            Take("w1", "one", 4),
            Heartbeat("w1"),
            Add("two", units("b", 3, 5_000)),
        ]),
        Step::Batch(vec![
            report("one", "a00", ReportKind::Finished, Some(output)),
            report("one", "a01", ReportKind::Failed, Some(traceback)),
            DeleteUnits("two", vec!["b01".to_owned()]),
            Lock("me"),
        ]),
        Step::Restart,
        // The leases of a02 and a03 run out.
        Step::Batch(vec![Expire, Take("w2", "one", 2), Prioritize("one", "a07")]),
        Step::Batch(vec![
            SetSpec(json!({"name": "two", "weight": 3, "description": "x".repeat(6_000)})),
            report("one", "a02", ReportKind::Finished, None),
            Add("two", units("c", 20, 1_000)),
        ]),
        Step::Crash,
        Step::Batch(vec![
            SetSpec(json!({"name": "three"})),
            Add("three", units("d", 4, 300)),
            Take("w3", "three", 2),
            report("three", "d00", ReportKind::Available, None),
        ]),
        Step::Batch(vec![
            DeleteSpec("two"),
            report("three", "d01", ReportKind::Finished, None),
        ]),
        Step::Batch(vec![Purge, Expire]),
        Step::Crash,
        Step::Restart,
        Step::Batch(vec![Purge, Add("one", units("a", 3, 50)), Heartbeat("w2")]),
        Step::Batch(vec![Archive(0), Add("one", units("a", 2, 80))]),
        Step::Crash,
    ]
}

/// Batches so large that SQLite writes pages before their commit, and that the WAL is moved into the file
/// beside them, each with smaller ones behind it.
pub fn large_script() -> Vec<Step> {
    let mut steps = vec![Step::Batch(vec![SetSpec(json!({"name": "large"}))])];
    for large in ["first", "second"] {
        steps.push(Step::Batch(vec![Add("large", units(large, 18, 1 << 20))]));
        steps.extend((0..20).map(|_| Step::Batch(vec![Add("large", units("small", 3, 100))])));
        steps.push(Step::Batch(vec![Take("w", "large", 2)]));
    }
    steps.push(Step::Restart);
    steps
}

/// A disk with a database of the first schema.
pub fn old_database() -> Image {
    let file = include_bytes!("../data/schemas/0001.db");
    Image::from([("jobs.db".to_owned(), file.to_vec())])
}

impl Do {
    pub fn run(&self, world: &mut World) -> Result<(), Error> {
        match self {
            SetSpec(definition) => {
                let definition = cbor(definition);
                world.operation(|op| op.set_work_spec(Item::from_checked(&definition)))
            }
            DeleteSpec(spec) => world.operation(|op| op.delete_work_spec(&name(spec))),
            Add(spec, units) => {
                let units: Vec<Vec<u8>> = units.iter().map(cbor).collect();
                let limits = RequestLimits::default();
                let units = units
                    .iter()
                    .map(|unit| NewUnit::from_item(Item::from_checked(unit), &limits))
                    .collect::<Result<Vec<_>, _>>()?;
                world.operation(|op| op.add_work_units(&name(spec), &units, IfExists::Reset))?;
                Ok(())
            }
            Take(worker, spec, max_units) => {
                let runtimes = [String::new()];
                let request = WorkRequest {
                    max_units: *max_units,
                    lease: Duration::from_secs(15),
                    work_specs: &[name(spec)],
                    runtimes: &runtimes,
                };
                let taken = world.operation(|op| op.get_work(&name(worker), &request))?;
                assert_eq!(taken.map(|units| units.len()), Some(*max_units));
                Ok(())
            }
            Report(spec, unit, kind, data) => {
                let data = data.as_ref().map(cbor);
                let report = Report {
                    data: data.as_deref(),
                    ..self::report_of(*kind)
                };
                world
                    .operation(|op| op.report(&nobody(), &name(spec), &name(unit), &report))
                    .map(|_| ())
            }
            Prioritize(spec, unit) => world.operation(|op| {
                op.prioritize_work_units(&name(spec), &[name(unit)], PriorityChange::Set(5.0))
                    .map(|_| ())
            }),
            DeleteUnits(spec, units) => {
                let units: Vec<_> = units.iter().map(|unit| name(unit)).collect();
                world
                    .operation(|op| {
                        op.delete_work_units(&name(spec), &Deletion::Named(&units, None))
                    })
                    .map(|_| ())
            }
            Heartbeat(worker) => world.operation(|op| {
                op.heartbeat(self::Heartbeat {
                    worker: &name(worker),
                    mode: Some(name("RUN")),
                    lifetime: Duration::from_secs(3_600),
                    environment: None,
                    parent: Some(name("parent")),
                })
            }),
            Lock(owner) => {
                let paths = [LockPath::top_level(&name("path"))];
                world.operation(|op| op.lock(&name(owner), Duration::from_secs(3_600), &paths))
            }
            Expire => world.operation(|op| op.expire()).map(|_| ()),
            Purge => world.operation(|op| Ok(op.store.purge(3)?)),
            Archive(count) => {
                let limits = Retention {
                    count: Some(*count),
                    age: None,
                };
                world.operation(|op| {
                    let mut pass = op.begin_archive_pass(None);
                    while !pass.is_over() {
                        pass = op.archive_some(&limits, &pass, 3)?;
                    }
                    Ok(())
                })
            }
            Count(spec) => {
                let namespace = world.namespace;
                world.store.operation(Access::Read, |store| {
                    let spec = store.find_work_spec(namespace, &name(spec));
                    assert!(spec.is_some());
                    Ok(())
                })
            }
        }
    }
}

/// The disk's time when each step was answered.
pub type Answered = Vec<usize>;

/// A script that is run on a disk.
pub struct Run<'a> {
    disk: &'a Disk,
    script: &'a [Step],
    /// The states before the first step, after it, after the second one, ...; empty if they are to be
    /// found out.
    known: &'a [State],
    world: World,
    /// The states that were seen, if they are to be found out.
    seen: Vec<State>,
    answered: Answered,
    /// What was answered instead.
    errors: Vec<StorageError>,
    random: SmallRng,
}

/// Failures after which the disk is mended: one more than the first, since an error may come again.
const FAILURES_MAX: usize = 2;

/// Steps after the first failure that show whether it goes on: a start is among them, mostly.
const STEPS_AFTER_FAILURE: usize = 3;

impl<'a> Run<'a> {
    /// Runs a script from its beginning on an empty disk where nothing fails. Gives the states, and
    /// when each step was answered.
    pub fn undisturbed(disk: &'a Disk, script: &'a [Step]) -> (Vec<State>, Answered) {
        let mut run = Self::begin(disk, script, &[], 0);
        run.seen.push(disk.look());
        run.go_on(0);
        (run.seen, run.answered)
    }

    /// Runs a script on a disk where something may fail, until some steps after the first failure, and
    /// checks each state on the way. Gives what was answered with an error.
    pub fn disturbed(disk: &'a Disk, script: &'a [Step], known: &'a [State]) -> Vec<StorageError> {
        let mut run = Self::begin(disk, script, known, 0);
        let mut steps_after = 0;
        let mut next = 0;
        while next < script.len() && steps_after < STEPS_AFTER_FAILURE {
            steps_after += usize::from(disk.failed() > 0);
            run.step(next);
            next += 1;
        }
        disk.repair();
        assert_eq!(disk.look(), known[next], "before step {next}");
        run.world.store.close().expect("a clean stop");
        run.errors
    }

    /// Opens what a power cut has left when that many steps were answered, and checks it. Gives the
    /// script's run, and the step that comes next.
    pub fn after_power_cut(
        disk: &'a Disk,
        script: &'a [Step],
        known: &'a [State],
        answered: usize,
    ) -> (Self, usize) {
        let run = Self::begin(disk, script, known, answered);
        let state = disk.look();
        let at = (answered..=script.len().min(answered + 1)).find(|at| known[*at] == state);
        let Some(at) = at else {
            panic!(
                "{answered} steps were answered:\n{}\nbut there is:\n{state}",
                known[answered]
            );
        };
        (run, at)
    }

    /// Runs the rest of the script, and checks its last state.
    pub fn finish(mut self, from: usize) {
        self.go_on(from);
        self.disk.repair();
        assert_eq!(
            self.disk.look(),
            self.known[self.script.len()],
            "at the end"
        );
        self.world.store.close().expect("a clean stop");
    }

    fn begin(disk: &'a Disk, script: &'a [Step], known: &'a [State], from: usize) -> Self {
        Self {
            disk,
            script,
            known,
            world: open(disk, from),
            seen: Vec::new(),
            answered: Answered::new(),
            errors: Vec::new(),
            random: SmallRng::seed_from_u64(1),
        }
    }

    fn go_on(&mut self, from: usize) {
        for at in from..self.script.len() {
            self.step(at);
        }
    }

    fn step(&mut self, at: usize) {
        match &self.script[at] {
            Step::Batch(operations) => self.batch(at, operations),
            Step::Restart => self.reopen(at, |store| {
                // If it can't, what is in the WAL stays there.
                let _ = store.close();
            }),
            Step::Crash => self.reopen(at, SqliteStore::abandon),
        }
        self.answered.push(self.disk.time());
        if self.known.is_empty() {
            self.seen.push(self.disk.look());
        }
    }

    fn reopen(&mut self, at: usize, end: impl FnOnce(SqliteStore)) {
        // A database in memory stands in for the moment in which there is none.
        let world = std::mem::replace(&mut self.world, World::in_memory());
        end(world.store);
        self.world = open(self.disk, at);
    }

    fn batch(&mut self, at: usize, operations: &[Do]) {
        self.world.now = time_of(at);
        // Answered in batches before; more than none only if one operation was refused alone.
        let mut answered = 0;
        let mut failures = 0;
        while answered < operations.len() {
            self.world.random = SmallRng::seed_from_u64(at as u64);
            let mut done = answered;
            let mut refused = None;
            for operation in &operations[answered..] {
                match operation.run(&mut self.world) {
                    Ok(()) => done += 1,
                    Err(Error::Storage(error)) => {
                        refused = Some(error);
                        break;
                    }
                    Err(error) => panic!("step {at}: {error}"),
                }
            }
            let outcome = self.world.store.commit();
            failures += usize::from(refused.is_some() || outcome.is_err());
            let error = match (&outcome, refused) {
                (Ok(()), None) => return,
                (Ok(()), Some(error)) => error,
                (Err(error), _) => error.clone(),
            };
            assert!(
                self.disk.failed() > 0,
                "step {at}, without a reason: {error}"
            );
            self.errors.push(error.clone());
            match (outcome, error) {
                (Ok(()), _) => answered = done,
                (Err(_), StorageError::Unknown(_)) => {
                    if self.find_out(at) {
                        return;
                    }
                    answered = 0;
                }
                (Err(_), error) if answered == 0 => {
                    assert_eq!(self.disk.look(), self.known[at], "step {at}: {error}");
                }
                (Err(_), _) => {}
            }
            if failures == FAILURES_MAX {
                self.disk.repair();
            }
            assert!(failures <= FAILURES_MAX, "step {at} can't be done");
        }
    }

    /// Opens the file anew after a step whose outcome is not known. True if it stands.
    fn find_out(&mut self, at: usize) -> bool {
        let possible = &self.known[at..=at + 1];
        // The power may be cut, too.
        let image = self
            .disk
            .after_power_cut(self.disk.time(), &mut self.random);
        self.reopen(at, SqliteStore::abandon);
        let state = self.disk.look();
        assert!(possible.contains(&state), "step {at}:\n{state}");
        let cut = Disk::with(&image);
        drop(open(&cut, at));
        let world = open(&cut, at);
        let state_of_cut = cut.look();
        assert!(
            possible.contains(&state_of_cut),
            "step {at}, power cut:\n{state_of_cut}"
        );
        drop(world);
        state == self.known[at + 1]
    }
}

fn time_of(step: usize) -> coordinated::clock::Timestamp {
    START.plus(Duration::from_secs(10 * step as u64))
}

/// Opens the database as the script does at its beginning.
pub fn open_world(disk: &Disk) -> World {
    open(disk, 0)
}

/// Opens the database, again if that fails because the disk does, which is mended in the end.
fn open(disk: &Disk, step: usize) -> World {
    for failures in 0.. {
        match try_to_open(disk, step) {
            Ok(world) => return world,
            Err(error) if failures < FAILURES_MAX && disk.failed() > 0 => {
                if failures + 1 == FAILURES_MAX {
                    disk.repair();
                }
                drop(error);
            }
            Err(error) => panic!("step {step}: {error}"),
        }
    }
    unreachable!("there is an end to the failures");
}

/// Opens the database at a step's time.
pub fn try_to_open(disk: &Disk, step: usize) -> Result<World, Box<dyn std::error::Error>> {
    let options = Options {
        lease_grace: Duration::ZERO,
        ..Options::default()
    };
    let now = time_of(step);
    let mut store = SqliteStore::open(&disk.database(), &options, now)?;
    let namespace = store.operation(Access::Write, |store| Ok(store.namespace("")?))?;
    store.commit()?;
    Ok(World {
        store,
        now,
        namespace,
        random: SmallRng::seed_from_u64(0),
        limits: RequestLimits::default(),
        memory: Memory::new(now),
    })
}
