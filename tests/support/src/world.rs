//! A store with a clock that is set by hand and a seeded source of chance, for tests of operations.
use coordinated::clock::{ClockStep, Timestamp};
use coordinated::coordinate::storage::{Access, Storage, WorkSpecStore};
use coordinated::coordinate::{
    Assignment, Chained, Counts, Effects, HandedOut, IfExists, LEASE_DEFAULT, Memory, Name,
    NamespaceId, NewUnit, Operation, Outcome, Report, ReportKind, Result, Retention, UnitStatus,
    WorkRequest,
};
use coordinated::limits::RequestLimits;
use coordinated::store::{Options, SqliteStore, Synchronous};
use coordinated_client::cbor::Item;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

pub const START: Timestamp = Timestamp(1_700_000_000_000_000);

/// Rows that are archived, or units that are deleted, in one step.
pub const ROWS_A_STEP: usize = 100;

pub struct World {
    pub store: SqliteStore,
    pub now: Timestamp,
    pub namespace: NamespaceId,
    pub random: SmallRng,
    pub limits: RequestLimits,
    pub memory: Memory,
}

/// The encoding of a JSON value; its strings are text.
pub fn cbor(value: &Value) -> Vec<u8> {
    serde_cbor::to_vec(value).expect("JSON can be encoded")
}

pub fn name(text: &str) -> Name {
    Name::from_text(text)
}

/// A report of a kind that says nothing else.
pub fn report_of(kind: ReportKind) -> Report<'static> {
    Report {
        kind,
        lease: None,
        data: None,
        attempt: None,
        worker: None,
        delay: None,
        is_final: false,
    }
}

impl World {
    pub fn in_memory() -> Self {
        Self::open(Path::new(":memory:"), START)
    }

    pub fn open(path: &Path, now: Timestamp) -> Self {
        Self::open_with(path, now, &Options::default())
    }

    /// A store that does not wait for the disk, for tests that don't turn the power off.
    pub fn open_unsynced(path: &Path, now: Timestamp) -> Self {
        let options = Options {
            synchronous: Synchronous::Off,
            ..Options::default()
        };
        Self::open_with(path, now, &options)
    }

    fn open_with(path: &Path, now: Timestamp, options: &Options) -> Self {
        let mut store = SqliteStore::open(path, options, now).expect("the database opens");
        let namespace = store
            .operation(Access::Write, |store| Ok(store.namespace("")?))
            .expect("the namespace is made");
        store.commit().expect("commit");
        let random = SmallRng::seed_from_u64(1);
        Self {
            store,
            now,
            namespace,
            random,
            limits: RequestLimits::default(),
            memory: Memory::new(now),
        }
    }

    /// The earliest time at which something may be due.
    pub fn store_due(&self) -> Option<Timestamp> {
        self.store.due()
    }

    pub fn pass(&mut self, seconds: f64) {
        self.now = self.now.plus(Duration::from_secs_f64(seconds));
    }

    /// Sets the clock, as the daemon does: all times that are measured by it move with it.
    pub fn set_clock(&mut self, seconds: i64) {
        let step = ClockStep(seconds * 1_000_000);
        let now = self.now.moved(step);
        self.store
            .operation(Access::Write, |store| Ok(store.move_times(step, now)?))
            .expect("times are moved");
        self.store.commit().expect("commit");
        self.now = now;
        self.memory.move_times(step);
    }

    /// Runs an operation as the daemon does: first what is over passes, then it runs in a batch of
    /// its own.
    pub fn run<T>(
        &mut self,
        run: impl FnMut(&mut Operation<'_, SqliteStore>) -> Result<T>,
    ) -> Result<T> {
        if self.store.due().is_some_and(|due| due <= self.now) {
            self.operation(|operation| operation.expire())?;
        }
        let result = self.operation(run);
        self.store.commit()?;
        result
    }

    /// Runs an operation within the present batch.
    pub fn operation<T>(
        &mut self,
        run: impl FnMut(&mut Operation<'_, SqliteStore>) -> Result<T>,
    ) -> Result<T> {
        self.operation_that(Access::Write, run)
    }

    /// Runs an operation that may do just so much within the present batch.
    pub fn operation_that<T>(
        &mut self,
        access: Access,
        mut run: impl FnMut(&mut Operation<'_, SqliteStore>) -> Result<T>,
    ) -> Result<T> {
        let (namespace, now) = (self.namespace, self.now);
        let (limits, random) = (&self.limits, &mut self.random);
        let memory = &self.memory;
        let mut effects = Effects::default();
        let result = self.store.operation(access, |store| {
            effects = Effects::default();
            run(&mut Operation {
                store,
                namespace,
                home: namespace,
                now,
                limits,
                chained: Chained::default(),
                memory,
                effects: &mut effects,
                random,
            })
        })?;
        self.memory.apply(&mut effects);
        Ok(result)
    }

    pub fn set_spec(&mut self, definition: &Value) {
        let definition = cbor(definition);
        self.run(|operation| operation.set_work_spec(Item::from_checked(&definition)))
            .expect("the work spec is set");
    }

    /// Adds units; each is what `add_work_units` takes.
    pub fn add(&mut self, spec: &str, units: &[Value]) {
        let encoded: Vec<Vec<u8>> = units.iter().map(cbor).collect();
        let limits = self.limits;
        let units: Vec<NewUnit<'_>> = encoded
            .iter()
            .map(|unit| NewUnit::from_item(Item::from_checked(unit), &limits).expect("a unit"))
            .collect();
        self.run(|operation| operation.add_work_units(&name(spec), &units, IfExists::Reset))
            .expect("units are added");
    }

    pub fn get_work(&mut self, worker: &str, max_units: usize, lease: Duration) -> Vec<Assignment> {
        let runtimes = [String::new()];
        let request = WorkRequest {
            max_units,
            lease,
            work_specs: &[],
            runtimes: &runtimes,
        };
        loop {
            let given = self.run(|operation| operation.get_work(&name(worker), &request));
            if let Some(given) = given.expect("work is handed out") {
                return given;
            }
        }
    }

    /// One unit for the default lease, of which the name is given; `None` if there is none.
    pub fn get_one(&mut self, worker: &str, handed_out: &mut HandedOut) -> Option<String> {
        let given = self.get_work(worker, 1, LEASE_DEFAULT);
        given.first().map(|assignment| {
            handed_out.remember(
                assignment.unit,
                assignment.attempt,
                &assignment.work_spec,
                &assignment.name,
            );
            String::from_utf8_lossy(assignment.name.bytes()).into_owned()
        })
    }

    pub fn report(
        &mut self,
        handed_out: &HandedOut,
        spec: &str,
        unit: &str,
        report: &Report<'_>,
    ) -> Result<Outcome> {
        self.run(|operation| operation.report(handed_out, &name(spec), &name(unit), report))
    }

    /// Deletes the units in some statuses, each step of so many in a batch of its own. Gives how many they were.
    pub fn delete_in_status(&mut self, spec: &str, statuses: &[UnitStatus]) -> Result<u64> {
        let mut deletion = self.run(|operation| operation.begin_deletion(&name(spec), statuses))?;
        while !deletion.is_over() {
            deletion = self.run(|operation| operation.delete_some(&deletion, ROWS_A_STEP))?;
        }
        Ok(deletion.deleted())
    }

    /// Archives what is beyond the limits, each step of so many rows in a batch of its own. Gives how many
    /// units each step archived.
    pub fn archive(&mut self, retention: &Retention) -> Vec<u64> {
        let begun = self.run(|operation| Ok(operation.begin_archive_pass(None)));
        let mut pass = begun.expect("archiving begins");
        let mut steps = Vec::new();
        while !pass.is_over() {
            let rest = self.run(|operation| operation.archive_some(retention, &pass, ROWS_A_STEP));
            let rest = rest.expect("units are archived");
            steps.push(rest.archived() - pass.archived());
            pass = rest;
        }
        steps
    }

    pub fn counts(&mut self, spec: &str) -> Counts {
        self.run(|operation| operation.work_spec(&name(spec)).map(|spec| spec.counts))
            .expect("the work spec is there")
    }
}

pub fn nobody() -> HandedOut {
    HandedOut::new(RequestLimits::default().session_attempts_max)
}
