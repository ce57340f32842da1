//! What the number of work specs costs: 100,000 of them, of which ten or all have work.
//!
//! `cargo bench --bench specs`. Nothing waits for the disk. Figures are in benches/README.md.

use coordinated::coordinate::storage::{Access, Storage};
use coordinated::coordinate::{
    Assignment, IfExists, LEASE_DEFAULT, Name, NewUnit, ReportKind, WorkRequest,
};
use coordinated_client::cbor::Item;
use criterion::{Criterion, criterion_group, criterion_main};
use rusqlite::Connection;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use test_support::world::{self, World, cbor, name, report_of};

const SPECS: usize = 100_000;

/// Units of each spec that has work.
const UNITS: usize = 3;

fn spec(number: usize) -> Name {
    name(&format!("spec{number:06}"))
}

/// A file with [`SPECS`] work specs, of which so many have work.
fn make(path: &Path, with_work: usize) -> World {
    let mut world = World::open_unsynced(path, world::START);
    let units: Vec<Vec<u8>> = (0..UNITS)
        .map(|unit| cbor(&json!([format!("{unit:03}"), {}])))
        .collect();
    for number in 0..SPECS {
        let definition =
            cbor(&json!({"name": format!("spec{number:06}"), "text": "x".repeat(200)}));
        let limits = world.limits;
        world
            .operation(|operation| {
                operation.set_work_spec(Item::from_checked(&definition))?;
                // Those with work are all over.
                if number % (SPECS / with_work) == 0 {
                    let units = units.iter();
                    let units =
                        units.map(|unit| NewUnit::from_item(Item::from_checked(unit), &limits));
                    let units: Vec<NewUnit<'_>> = units.collect::<Result<_, _>>()?;
                    operation.add_work_units(&spec(number), &units, IfExists::Reset)?;
                }
                Ok(())
            })
            .expect("a work spec with units");
        if number % 1_000 == 999 {
            world.store.commit().expect("a commit");
        }
    }
    world.store.commit().expect("a commit");
    world
}

/// Takes a unit and gives it back. Gives how long it took to take it.
fn get_work(world: &mut World, work_specs: &[Name]) -> Duration {
    let (worker, runtimes) = (name("worker"), [String::new()]);
    let request = WorkRequest {
        max_units: 1,
        lease: LEASE_DEFAULT,
        work_specs,
        runtimes: &runtimes,
    };
    world.pass(0.001);
    let begin = Instant::now();
    let given = world.operation(|operation| operation.get_work(&worker, &request));
    let spent = begin.elapsed();
    let given = given.expect("work").expect("all of it");
    let mut handed_out = world::nobody();
    for Assignment {
        unit,
        attempt,
        work_spec,
        name,
        ..
    } in &given
    {
        handed_out.remember(*unit, *attempt, work_spec, name);
        let back = report_of(ReportKind::Available);
        let back =
            world.operation(|operation| operation.report(&handed_out, work_spec, name, &back));
        back.expect("it is given back");
    }
    assert_eq!(given.len(), 1);
    world.store.commit().expect("a commit");
    spent
}

/// How long an operation takes that comes after another program's commit.
fn after_foreign_write(world: &mut World, other: &Connection) -> Duration {
    other
        .execute("UPDATE work_spec SET weight = weight + 1 WHERE id = 7", [])
        .expect("a foreign write");
    let begin = Instant::now();
    let found = world.operation_that(Access::Read, |operation| {
        Ok(operation.work_spec(&spec(0))?.id)
    });
    let spent = begin.elapsed();
    found.expect("the work spec is there");
    world.store.commit().expect("a commit");
    spent
}

fn total(calls: u64, mut call: impl FnMut() -> Duration) -> Duration {
    (0..calls).map(|_| call()).sum()
}

fn specs(criterion: &mut Criterion, with_work: usize) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("db");
    let mut world = make(&path, with_work);
    let mut group = criterion.benchmark_group(format!("{SPECS} work specs, {with_work} with work"));
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    group.bench_function("get_work", |bencher| {
        bencher.iter_custom(|calls| total(calls, || get_work(&mut world, &[])));
    });
    group.bench_function("get_work of one", |bencher| {
        bencher.iter_custom(|calls| total(calls, || get_work(&mut world, &[spec(0)])));
    });
    group.bench_function("explain_work", |bencher| {
        world.memory.asked_for_work = Some(world.now);
        bencher.iter(|| world.operation(|operation| operation.explain_work(&spec(0), None)));
        world.store.commit().expect("a commit");
    });
    let other = Connection::open(&path).expect("another connection");
    group.bench_function("an operation after another program's write", |bencher| {
        bencher.iter_custom(|calls| total(calls, || after_foreign_write(&mut world, &other)));
    });
}

criterion_group!(benches, all);
criterion_main!(benches);

fn all(criterion: &mut Criterion) {
    for with_work in [10, SPECS] {
        specs(criterion, with_work);
    }
}
