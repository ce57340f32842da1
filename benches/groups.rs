//! What the order of adding and groups cost: get_work and finish in work specs that queue their units in different ways.
//!
//! `cargo bench --bench groups`. Each operation is a transaction of its own, which is on disk when it ends. The work specs take turns in short rounds, so that what else the machine does hits all alike.
//! Figures are in docs/performance.md.

use coordinated::coordinate::{IfExists, LEASE_DEFAULT, NewUnit, ReportKind};
use coordinated_client::cbor::Item;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_support::world::{START, World, cbor, name, nobody, report_of};

const UNITS: usize = 200_000;
const ROUNDS: usize = 9;
const CYCLES: usize = 200;

/// A way to queue units.
struct Way {
    shown: &'static str,
    keys: Value,
    groups: usize,
}

fn ways() -> [Way; 6] {
    let way = |shown, keys, groups| Way {
        shown,
        keys,
        groups,
    };
    [
        way("by name", json!({}), 0),
        way("order: added", json!({"order": "added"}), 0),
        way("fair, 1 group", json!({"fair": true}), 1),
        way("fair, 1,000 groups", json!({"fair": true}), 1_000),
        way("fair, 100,000 groups", json!({"fair": true}), 100_000),
        way(
            "max_running_per_group, 100,000 groups",
            json!({"max_running_per_group": 2, "order": "added"}),
            100_000,
        ),
    ]
}

/// A queue in a file, and how long each round on it took.
struct Queue {
    world: World,
    _folder: TempDir,
    adding: Duration,
    get_work: Vec<Duration>,
    finish: Vec<Duration>,
}

impl Queue {
    fn new(way: &Way) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut world = World::open(&folder.path().join("db"), START);
        let mut definition = way.keys.clone();
        definition["name"] = json!("spec");
        world.set_spec(&definition);
        let begin = Instant::now();
        for first in (0..UNITS).step_by(1_000) {
            let units: Vec<Vec<u8>> = (first..first + 1_000)
                .map(|number| cbor(&unit(way, number)))
                .collect();
            let limits = world.limits;
            world
                .run(|operation| {
                    let units = units.iter();
                    let units =
                        units.map(|unit| NewUnit::from_item(Item::from_checked(unit), &limits));
                    let units: Vec<NewUnit<'_>> = units.collect::<Result<_, _>>()?;
                    operation.add_work_units(&name("spec"), &units, IfExists::Reset)
                })
                .expect("units are added");
        }
        Self {
            world,
            _folder: folder,
            adding: begin.elapsed(),
            get_work: Vec::new(),
            finish: Vec::new(),
        }
    }

    fn play_round(&mut self) {
        let finished = report_of(ReportKind::Finished);
        let (mut get_work, mut finish) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..CYCLES {
            let begin = Instant::now();
            let given = self.world.get_work("worker", 1, LEASE_DEFAULT);
            get_work += begin.elapsed();
            let unit = given.first().expect("a unit");
            let mut handed_out = nobody();
            handed_out.remember(unit.unit, unit.attempt, &unit.work_spec, &unit.name);
            let begin = Instant::now();
            let reported = self.world.run(|operation| {
                operation.report(&handed_out, &unit.work_spec, &unit.name, &finished)
            });
            finish += begin.elapsed();
            reported.expect("it is finished");
        }
        self.get_work.push(get_work);
        self.finish.push(finish);
    }
}

fn median(rounds: &mut [Duration]) -> f64 {
    rounds.sort();
    rounds[rounds.len() / 2].as_secs_f64()
}

/// A unit with 100 bytes of data. Consecutive units are of groups that are far from each other.
fn unit(way: &Way, number: usize) -> Value {
    let key = format!("unit{number:012}");
    let data = json!({"text": "x".repeat(92)});
    match way.groups {
        0 => json!([key, data]),
        groups => {
            let group = format!("customer{:06}", number * 7_919 % groups);
            json!([key, data, {"group": group}])
        }
    }
}

fn main() {
    let ways = ways();
    let mut queues: Vec<Queue> = ways.iter().map(Queue::new).collect();
    for _ in 0..ROUNDS {
        for queue in &mut queues {
            queue.play_round();
        }
    }
    println!("{UNITS} units, medians of {ROUNDS} rounds of {CYCLES} units\n");
    println!("| ratio to by name | get_work | finish | adding |");
    println!("| --- | --- | --- | --- |");
    let times = |queue: &mut Queue| {
        let adding = queue.adding.as_secs_f64();
        [
            median(&mut queue.get_work),
            median(&mut queue.finish),
            adding,
        ]
    };
    let by_name = times(&mut queues[0]);
    for (way, queue) in ways.iter().zip(&mut queues) {
        let [get_work, finish, adding] = times(queue);
        println!(
            "| {} | {:.2} | {:.2} | {:.2} |",
            way.shown,
            get_work / by_name[0],
            finish / by_name[1],
            adding / by_name[2]
        );
    }
}
