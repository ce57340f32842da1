//! What each operation costs, committed for itself, on a short and a long queue; and what they cost if
//! many share a commit.
//!
//! `cargo bench --bench operations`. The ratio of the two sizes is what matters: nothing on the hot path
//! may grow with the queue. Most of a commit is the wait for the disk, which would hide much of that, so
//! there is a group of its own without it. Figures are in docs/performance.md.

mod queue;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use criterion::{criterion_group, criterion_main};
use queue::operations::{OPERATIONS, Operation};
use queue::{LONG, Meter, Open, Queue, SHORT};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_support::world::World;

const BATCHES: [u64; 4] = [1, 10, 100, 800];

/// Files with a short and a long queue, made once. Each group has its own copy.
struct Files {
    dir: TempDir,
}

impl Files {
    fn make() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for units in [SHORT, LONG] {
            Queue::make(&dir.path().join(units.to_string()), units);
        }
        Self { dir }
    }

    fn copy(&self, units: u64, name: &str) -> PathBuf {
        let copy = self.dir.path().join(format!("{units}-{name}"));
        std::fs::copy(self.dir.path().join(units.to_string()), &copy).expect("a copy");
        // Otherwise the commits that are measured wait for these pages, too.
        File::open(&copy)
            .and_then(|file| file.sync_all())
            .expect("the copy is on disk");
        copy
    }
}

struct Stopwatch {
    started: Instant,
    spent: Duration,
}

impl Meter for Stopwatch {
    fn start(&mut self, _: &mut World) {
        self.started = Instant::now();
    }

    fn stop(&mut self, _: &mut World) {
        self.spent += self.started.elapsed();
    }
}

/// How long rounds take that have so many calls together.
fn time(calls: u64, in_a_round: u64, mut round: impl FnMut(&mut Stopwatch, u64)) -> Duration {
    let mut stopwatch = Stopwatch {
        started: Instant::now(),
        spent: Duration::ZERO,
    };
    let mut left = calls;
    while left > 0 {
        let now = left.min(in_a_round);
        round(&mut stopwatch, now);
        left -= now;
    }
    stopwatch.spent
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    group
}

fn operations(criterion: &mut Criterion, name: &str, files: &Files, open: Open) {
    let mut queues = [SHORT, LONG].map(|units| {
        let queue = Queue::open(&files.copy(units, name), units, open);
        (units, queue)
    });
    let mut group = group(criterion, name);
    for Operation {
        name,
        calls_max,
        round,
    } in OPERATIONS
    {
        for (units, queue) in &mut queues {
            group.bench_function(BenchmarkId::new(*name, *units), |bencher| {
                bencher.iter_custom(|calls| {
                    time(calls, *calls_max, |stopwatch, now| {
                        round(queue, stopwatch, now)
                    })
                });
            });
        }
    }
}

fn batches(criterion: &mut Criterion, files: &Files) {
    let path = files.copy(LONG, "batches");
    let mut queue = Queue::open(&path, LONG, World::open);
    let mut group = group(criterion, "get_work and finish, by operations in a commit");
    for operations in BATCHES {
        group.throughput(Throughput::Elements(2 * operations));
        group.bench_function(BenchmarkId::from_parameter(operations), |bencher| {
            bencher.iter_custom(|calls| {
                time(calls, 1, |stopwatch, _| queue.cycles(stopwatch, operations))
            });
        });
    }
}

fn all(criterion: &mut Criterion) {
    let files = Files::make();
    operations(criterion, "each on disk", &files, World::open);
    operations(
        criterion,
        "not waiting for the disk",
        &files,
        World::open_unsynced,
    );
    batches(criterion, &files);
}

criterion_group!(benches, all);
criterion_main!(benches);
