//! What one get_work and one finish cost, each committed for itself, on a short and a long queue.
//!
//! `cargo bench --bench operations`. The ratio of the two sizes is what matters: nothing on the hot
//! path may grow with the queue. Figures are in docs/performance.md.

#[path = "../tests/world/mod.rs"]
mod world;

use coordinated::coordinate::storage::Storage;
use coordinated::coordinate::{HandedOut, Wish};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use world::{World, wish};

const ADDED_AT_A_TIME: usize = 1_000;

/// A file with so many available units, with names in order and 100 bytes of data.
fn world_with_units(path: &Path, units: usize) -> World {
    let mut world = World::open(path, world::START);
    world.set_spec(&json!({"name": "spec"}));
    let data = json!({"text": "x".repeat(90)});
    for first in (0..units).step_by(ADDED_AT_A_TIME) {
        let last = units.min(first + ADDED_AT_A_TIME);
        let added: Vec<_> = (first..last)
            .map(|n| json!([format!("unit{n:012}"), data]))
            .collect();
        world.add("spec", &added);
    }
    world
}

/// Runs get_work and finish so often. The units are made available again in between, which is not
/// measured, so that the queue stays as long as it was.
fn run_cycles(world: &mut World, units: usize, cycles: u64) -> Duration {
    let mut spent = Duration::ZERO;
    let mut handed_out = HandedOut::new(1_000);
    let mut finished = Vec::new();
    for _ in 0..cycles {
        let start = Instant::now();
        let unit = world
            .get_one("worker", &mut handed_out)
            .expect("there is work");
        world
            .report(&handed_out, "spec", &unit, &wish(Wish::Finished))
            .expect("it is finished");
        spent += start.elapsed();
        finished.push(unit);
        if finished.len() * 2 >= units {
            make_available(world, &handed_out, &mut finished);
        }
    }
    make_available(world, &handed_out, &mut finished);
    spent
}

fn make_available(world: &mut World, handed_out: &HandedOut, units: &mut Vec<String>) {
    let spec = world::name("spec");
    for unit in units.drain(..) {
        let retry = wish(Wish::Available);
        world
            .operation(|op| {
                op.report(handed_out, &spec, &world::name(&unit), &retry)
                    .map(|_| ())
            })
            .expect("it is available again");
    }
    world.store.commit().expect("commit");
}

fn cycle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("get_work and finish");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for units in [1_000, 1_000_000] {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut world = world_with_units(&dir.path().join("jobs.db"), units);
        group.bench_function(BenchmarkId::from_parameter(units), |bencher| {
            bencher.iter_custom(|cycles| run_cycles(&mut world, units, cycles));
        });
    }
}

criterion_group!(benches, cycle);
criterion_main!(benches);
