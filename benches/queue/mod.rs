//! A queue on a file, and every operation on it, each committed for itself: what is measured is chosen by
//! a [`Meter`].
//!
//! Operations come in rounds, which leave the queue as long as it was: what restores it is not measured.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

#[path = "../../tests/world/mod.rs"]
pub mod world;

use coordinated::cbor::Item;
use coordinated::clock::Timestamp;
use coordinated::coordinate::storage::{Access, Storage, UnitLister, UnitQuery};
use coordinated::coordinate::{
    Deletion, HandedOut, Heartbeat, LEASE_DEFAULT, Lease, LockPath, Name, NewUnit, PriorityChange,
    Report, Wish, WorkRequest,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use world::{World, cbor, name, wish};

/// The shorter of the two queues whose ratio counts.
pub const SHORT: u64 = 1_000;
/// The longer one.
pub const LONG: u64 = 1_000_000;
const SPEC: &str = "spec";
const ADDED_AT_A_TIME: u64 = 1_000;
const DAY: Duration = Duration::from_secs(86_400);

/// What is measured of one operation with its commit.
pub trait Meter {
    /// The operation begins.
    fn start(&mut self, world: &mut World);
    /// It has been committed.
    fn stop(&mut self, world: &mut World);
    /// What was done is about to be undone, and pages may be used for something else.
    fn before_restoring(&mut self) {}
}

/// A function of [`World`] that opens a file.
pub type Open = fn(&Path, Timestamp) -> World;

/// An operation, as often as it is asked for.
pub struct Operation {
    /// By what it is known to clients.
    pub name: &'static str,
    /// Calls in a round at the most: a short queue is to stay about as long as it was within one, too.
    pub calls_max: u64,
    /// Runs a round.
    pub round: fn(&mut Queue, &mut dyn Meter, u64),
}

const fn single(name: &'static str, round: fn(&mut Queue, &mut dyn Meter, u64)) -> Operation {
    Operation {
        name,
        calls_max: 250,
        round,
    }
}

/// Of a thousand units in each call.
const fn thousand(name: &'static str, round: fn(&mut Queue, &mut dyn Meter, u64)) -> Operation {
    Operation {
        name,
        calls_max: 10,
        round,
    }
}

/// All operations. The last ones leave the queue changed somewhat: units are queued that were in name
/// order, rows are elsewhere.
pub const OPERATIONS: &[Operation] = &[
    single("count_work_units", count_work_units),
    single("list_work_specs", list_work_specs),
    single("status of 100 keys in a row", status_in_a_row),
    single("status of 100 keys all over", status_all_over),
    thousand("page of 1,000 from the middle", page),
    single("worker_heartbeat", heartbeat),
    single("lock", lock),
    single("unlock", unlock),
    single("get_work", get_work),
    single("finish", finish),
    single("finish with data", finish_with_data),
    single("fail with a traceback", fail),
    single("renew a lease", renew),
    single("add 1 new", add_one),
    thousand("add 1,000 new, names in order", add_in_order),
    thousand("add 1,000 new, names all over", add_all_over),
    single("add 1 again", add_again),
    single("prioritize 1", prioritize),
    single("delete 1", delete),
];

/// A work spec with a number of available units. Their names are in order, 16 bytes long and numbered
/// without gaps; each has 100 bytes of data.
pub struct Queue {
    world: World,
    handed_out: HandedOut,
    numbers: Range<u64>,
    /// Where [`Queue::all_over`] goes on.
    steps: u64,
}

impl Queue {
    /// Makes a file with so many units, a multiple of 1,000.
    pub fn make(path: &Path, units: u64) {
        Self::filled(path, units, numbered).close();
    }

    /// The same with names of the same length in no order.
    pub fn make_random(path: &Path, units: u64) {
        let mut random = SmallRng::seed_from_u64(1);
        let random_name = |_| name(&format!("{:016x}", random.random::<u64>()));
        Self::filled(path, units, random_name).close();
    }

    /// The same with all units finished, by one worker.
    pub fn make_finished(path: &Path, units: u64, with_data: bool) {
        let mut queue = Self::filled(path, units, numbered);
        let data = cbor(&data());
        let finished = Report {
            data: with_data.then_some(&data),
            ..wish(Wish::Finished)
        };
        for _ in 0..units / ADDED_AT_A_TIME {
            queue.world.pass(1.0);
            for unit in queue.take(ADDED_AT_A_TIME) {
                report(&mut queue.world, &queue.handed_out, &unit, &finished);
            }
        }
        queue.close();
    }

    fn filled(path: &Path, units: u64, mut name_of: impl FnMut(u64) -> Name) -> Self {
        let mut queue = Self::of(World::open_unsynced(path, world::START), units);
        queue.world.set_spec(&json!({"name": SPEC}));
        for first in (0..units).step_by(ADDED_AT_A_TIME as usize) {
            let names: Vec<Name> = (first..first + ADDED_AT_A_TIME).map(&mut name_of).collect();
            queue.add(&names);
        }
        queue
    }

    fn close(mut self) {
        self.world.store.commit().expect("a commit");
        self.world.store.close().expect("the store is closed");
    }

    /// Opens a file that [`Queue::make`] made.
    pub fn open(path: &Path, units: u64, open: Open) -> Self {
        Self::of(open(path, world::START), units)
    }

    fn of(world: World, units: u64) -> Self {
        Self {
            world,
            handed_out: world::nobody(),
            numbers: 0..units,
            steps: 0,
        }
    }

    fn len(&self) -> u64 {
        self.numbers.end - self.numbers.start
    }

    fn measure<T>(
        &mut self,
        meter: &mut dyn Meter,
        call: impl FnOnce(&mut World, &mut HandedOut) -> T,
    ) -> T {
        self.world.pass(0.001);
        meter.start(&mut self.world);
        let result = call(&mut self.world, &mut self.handed_out);
        self.world.store.commit().expect("a commit");
        meter.stop(&mut self.world);
        result
    }

    /// Adds so many units at the end.
    fn append(&mut self, count: u64) {
        let names = self.new_names(count);
        self.numbers.end += count;
        self.add(&names);
    }

    /// The names of units that come behind all that are there.
    fn new_names(&self, count: u64) -> Vec<Name> {
        let end = self.numbers.end;
        (end..end + count).map(numbered).collect()
    }

    fn add(&mut self, names: &[Name]) {
        let encoded = encoded(names);
        add(&mut self.world, &new_units(&encoded));
        self.world.store.commit().expect("a commit");
    }

    fn delete(&mut self, names: &[Name]) {
        for names in names.chunks(1_000) {
            delete_named(&mut self.world, names);
        }
        self.world.store.commit().expect("a commit");
    }

    /// Hands out so many units, each to another worker, in one commit.
    fn take(&mut self, count: u64) -> Vec<Name> {
        let units = (0..count).map(|n| hand_out(&mut self.world, &mut self.handed_out, &worker(n)));
        let units = units.collect();
        self.world.store.commit().expect("a commit");
        units
    }

    /// Puts as many units at the end as have been handed out, and removes those.
    fn replace(&mut self, handed_out: &[Name]) {
        self.delete(handed_out);
        let count = handed_out.len() as u64;
        self.numbers.start += count;
        self.append(count);
    }

    /// Names of units that are far from each other: each is on other pages than the one before.
    fn all_over(&mut self, count: u64) -> Vec<Name> {
        let (start, len) = (self.numbers.start, self.len());
        let first = self.steps;
        self.steps += count;
        (first..self.steps)
            .map(|step| numbered(start + step * STRIDE % len))
            .collect()
    }

    /// Hands out so many units in one commit, each to another worker, and finishes them in another.
    pub fn cycles(&mut self, meter: &mut dyn Meter, count: u64) {
        let workers: Vec<Name> = (0..count).map(worker).collect();
        let units: Vec<Name> = self.measure(meter, |world, handed_out| {
            let units = workers.iter().map(|name| hand_out(world, handed_out, name));
            units.collect()
        });
        self.measure(meter, |world, handed_out| {
            for unit in &units {
                report(world, handed_out, unit, &wish(Wish::Finished));
            }
        });
        self.replace(&units);
    }
}

/// A prime, so that each unit has its turn before one has a second.
const STRIDE: u64 = 7_368_787;

fn numbered(number: u64) -> Name {
    name(&format!("unit{number:012}"))
}

fn worker(number: u64) -> Name {
    name(&format!("worker{number}"))
}

/// A dictionary of 100 bytes.
fn data() -> serde_json::Value {
    json!({"text": "x".repeat(92)})
}

fn encoded(names: &[Name]) -> Vec<Vec<u8>> {
    let data = data();
    let text = |name: &Name| String::from_utf8_lossy(name.bytes()).into_owned();
    let unit = |name: &Name| cbor(&json!([text(name), data]));
    names.iter().map(unit).collect()
}

fn new_units(encoded: &[Vec<u8>]) -> Vec<NewUnit<'_>> {
    let limits = Default::default();
    encoded
        .iter()
        .map(|unit| NewUnit::from_item(Item::from_checked(unit), &limits).expect("a unit"))
        .collect()
}

fn add(world: &mut World, units: &[NewUnit<'_>]) {
    world
        .operation(|operation| operation.add_work_units(&name(SPEC), units))
        .expect("units are added");
}

fn delete_named(world: &mut World, names: &[Name]) {
    let deleted = world
        .operation(|operation| {
            operation.delete_work_units(&name(SPEC), &Deletion::Named(names, None))
        })
        .expect("units are deleted");
    assert_eq!(deleted, names.len() as u64);
}

fn hand_out(world: &mut World, handed_out: &mut HandedOut, worker: &Name) -> Name {
    let runtimes = [String::new()];
    let request = WorkRequest {
        max_units: 1,
        lease: LEASE_DEFAULT,
        work_specs: &[],
        runtimes: &runtimes,
    };
    let given = world
        .operation(|operation| operation.get_work(worker, &request))
        .expect("work is handed out")
        .and_then(|mut given| given.pop())
        .expect("there is work");
    handed_out.remember(given.unit, given.attempt, &given.work_spec, &given.name);
    given.name
}

fn report(world: &mut World, handed_out: &HandedOut, unit: &Name, report: &Report<'_>) {
    world
        .operation(|operation| operation.report(handed_out, &name(SPEC), unit, report))
        .expect("a report is taken");
}

fn count_work_units(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    for _ in 0..calls {
        let counts = queue.measure(meter, |world, _| {
            world.operation_that(Access::Read, |operation| {
                operation.work_spec(&name(SPEC)).map(|spec| spec.counts)
            })
        });
        assert_eq!(counts.expect("the work spec").total(), queue.len());
    }
}

fn list_work_specs(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    for _ in 0..calls {
        let names = queue.measure(meter, |world, _| {
            world.operation_that(
                Access::Read,
                |operation| Ok(operation.work_spec_names(None)),
            )
        });
        assert_eq!(names.expect("the names").len(), 1);
    }
}

fn status_in_a_row(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    for _ in 0..calls {
        queue.steps += 1;
        let first = queue.numbers.start + queue.steps * STRIDE % (queue.len() - 100);
        let names: Vec<Name> = (first..first + 100).map(numbered).collect();
        status(queue, meter, &names);
    }
}

fn status_all_over(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    for _ in 0..calls {
        let names = queue.all_over(100);
        status(queue, meter, &names);
    }
}

fn status(queue: &mut Queue, meter: &mut dyn Meter, names: &[Name]) {
    queue.measure(meter, |world, _| {
        world
            .operation_that(Access::Read, |operation| {
                let spec = operation.work_spec(&name(SPEC))?.id;
                for name in names {
                    assert!(operation.work_unit_report(spec, name)?.is_some());
                }
                Ok(())
            })
            .expect("the reports");
    });
}

/// On a connection that only reads, as the daemon has it. The short queue is one page.
fn page(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let limit = SHORT;
    let query = UnitQuery {
        statuses: None,
        start: Some(numbered(queue.numbers.start + (queue.len() - limit) / 2)),
        limit: limit as usize,
    };
    for _ in 0..calls {
        let mut listed = 0;
        queue.measure(meter, |world, _| {
            let mut reader = world.store.reader().expect("a reader");
            reader
                .list_work_units(world.namespace, &name(SPEC), &query, &mut |_, _| {
                    listed += 1;
                    Ok(())
                })
                .expect("a page");
        });
        assert_eq!(listed, limit);
    }
}

fn heartbeat(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let environment = cbor(&data());
    for n in 0..calls {
        let worker = worker(n);
        let heartbeat = Heartbeat {
            worker: &worker,
            mode: Some(name("RUN")),
            lifetime: DAY,
            environment: Some(&environment),
            parent: None,
        };
        queue.measure(meter, |world, _| {
            world
                .operation(|operation| operation.heartbeat(heartbeat))
                .expect("a heartbeat");
        });
    }
}

fn lock(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    lock_and_unlock(queue, meter, &mut Unmeasured, calls);
}

fn unlock(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    lock_and_unlock(queue, &mut Unmeasured, meter, calls);
}

fn lock_and_unlock(
    queue: &mut Queue,
    of_lock: &mut dyn Meter,
    of_unlock: &mut dyn Meter,
    calls: u64,
) {
    let owner = name("owner");
    for n in 0..calls {
        let path = cbor(&json!(["locks", format!("lock{n}")]));
        let path = LockPath::from_item(Item::from_checked(&path), &queue.world.limits);
        let paths = [path.expect("a path")];
        queue.measure(of_lock, |world, _| {
            world
                .operation(|operation| operation.lock(&owner, DAY, &paths))
                .expect("a lock");
        });
        queue.measure(of_unlock, |world, _| {
            world
                .operation(|operation| operation.unlock(&owner, &paths))
                .expect("the lock is given up");
        });
    }
}

struct Unmeasured;

impl Meter for Unmeasured {
    fn start(&mut self, _: &mut World) {}
    fn stop(&mut self, _: &mut World) {}
}

fn get_work(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let units: Vec<Name> = (0..calls)
        .map(|n| {
            let worker = worker(n);
            queue.measure(meter, |world, handed_out| {
                hand_out(world, handed_out, &worker)
            })
        })
        .collect();
    meter.before_restoring();
    queue.replace(&units);
}

fn finish(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    report_each(queue, meter, calls, &wish(Wish::Finished));
}

fn finish_with_data(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let data = cbor(&data());
    let report = Report {
        data: Some(&data),
        ..wish(Wish::Finished)
    };
    report_each(queue, meter, calls, &report);
}

fn fail(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let data = cbor(&json!({"traceback": "x".repeat(1_000)}));
    let report = Report {
        data: Some(&data),
        ..wish(Wish::Failed)
    };
    report_each(queue, meter, calls, &report);
}

fn renew(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let report = Report {
        lease: Some(Lease::For(LEASE_DEFAULT)),
        ..wish(Wish::Renew)
    };
    report_each(queue, meter, calls, &report);
}

/// Reports the same on so many units, each of another worker.
fn report_each(queue: &mut Queue, meter: &mut dyn Meter, calls: u64, what: &Report<'_>) {
    let units = queue.take(calls);
    for unit in &units {
        queue.measure(meter, |world, handed_out| {
            report(world, handed_out, unit, what);
        });
    }
    meter.before_restoring();
    queue.replace(&units);
}

fn add_one(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let names = queue.new_names(calls);
    add_each(queue, meter, &names);
    meter.before_restoring();
    queue.delete(&names);
}

fn add_again(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let names = queue.all_over(calls);
    add_each(queue, meter, &names);
}

fn add_each(queue: &mut Queue, meter: &mut dyn Meter, names: &[Name]) {
    for unit in encoded(names) {
        let unit = [unit];
        let unit = new_units(&unit);
        queue.measure(meter, |world, _| add(world, &unit));
    }
}

fn add_in_order(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    for _ in 0..calls {
        let names = queue.new_names(1_000);
        add_many(queue, meter, &names);
    }
}

fn add_all_over(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    for _ in 0..calls {
        // Between the names that are there.
        let names: Vec<Name> = queue
            .all_over(1_000)
            .iter()
            .map(|name| Name::from_bytes([name.bytes(), b"+"].concat()))
            .collect();
        add_many(queue, meter, &names);
    }
}

fn add_many(queue: &mut Queue, meter: &mut dyn Meter, names: &[Name]) {
    let encoded = encoded(names);
    let units = new_units(&encoded);
    queue.measure(meter, |world, _| add(world, &units));
    meter.before_restoring();
    queue.delete(names);
}

fn prioritize(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    for unit in queue.all_over(calls) {
        let unit = [unit];
        queue.measure(meter, |world, _| {
            let change = PriorityChange::Adjust(1.0);
            world
                .operation(|operation| operation.prioritize_work_units(&name(SPEC), &unit, change))
                .expect("the priority is changed");
        });
    }
}

fn delete(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let names = queue.all_over(calls);
    for unit in &names {
        queue.measure(meter, |world, _| {
            delete_named(world, std::slice::from_ref(unit));
        });
    }
    queue.add(&names);
}
