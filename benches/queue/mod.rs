//! A queue on a file, and every operation on it, each committed for itself: what is measured is chosen by
//! a [`Meter`].
//!
//! Operations ([`operations`]) come in rounds, which leave the queue as long as it was: what restores it
//! is not measured.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub mod operations;

use coordinated::clock::Timestamp;
use coordinated::coordinate::storage::Storage;
use coordinated::coordinate::{
    Deletion, HandedOut, IfExists, LEASE_DEFAULT, Name, NewUnit, Report, ReportKind, WorkRequest,
};
use coordinated_client::cbor::Item;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::ops::Range;
use std::path::Path;
use test_support::world::{self, World, cbor, name, report_of};

/// The shorter of the two queues whose ratio counts.
pub const SHORT: u64 = 1_000;
/// The longer one.
pub const LONG: u64 = 1_000_000;

const SPEC: &str = "spec";
const ADDED_AT_A_TIME: u64 = 1_000;

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

    /// The same with all units finished, by a thousand workers.
    pub fn make_finished(path: &Path, units: u64, with_data: bool) {
        let mut queue = Self::filled(path, units, numbered);
        let data = cbor(&data());
        let finished = Report {
            data: with_data.then_some(&data),
            ..report_of(ReportKind::Finished)
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
                report(world, handed_out, unit, &report_of(ReportKind::Finished));
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
        .operation(|operation| operation.add_work_units(&name(SPEC), units, IfExists::Reset))
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
