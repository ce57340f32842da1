//! Every operation, in rounds.

use super::{
    Meter, Queue, SHORT, SPEC, STRIDE, add, data, delete_named, encoded, hand_out, new_units,
    numbered, report, worker,
};
use coordinated::coordinate::storage::{Access, Lister, Storage, UnitQuery};
use coordinated::coordinate::{
    Heartbeat, LEASE_DEFAULT, Lease, LockPath, Name, PriorityChange, Report, ReportKind,
};
use coordinated_client::cbor::Item;
use serde_json::json;
use std::time::Duration;
use test_support::world::{World, cbor, name, report_of};

const DAY: Duration = Duration::from_secs(86_400);

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
        let listed = queue.measure(meter, |world, _| {
            let namespace = world.namespace;
            let mut count = 0;
            let mut visit = |_: &Name, _: &[u8]| {
                count += 1;
                Ok(())
            };
            let listed = world.operation_that(Access::Read, |operation| {
                let store = &mut *operation.store;
                store.list_work_specs(namespace, None, usize::MAX, &mut visit)
            });
            listed.map(|()| count)
        });
        assert_eq!(listed.expect("the work specs"), 1);
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
                .operation(|operation| operation.heartbeat(heartbeat.clone()))
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
    report_each(queue, meter, calls, &report_of(ReportKind::Finished));
}

fn finish_with_data(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let data = cbor(&data());
    let report = Report {
        data: Some(&data),
        ..report_of(ReportKind::Finished)
    };
    report_each(queue, meter, calls, &report);
}

fn fail(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let data = cbor(&json!({"traceback": "x".repeat(1_000)}));
    let report = Report {
        data: Some(&data),
        ..report_of(ReportKind::Failed)
    };
    report_each(queue, meter, calls, &report);
}

fn renew(queue: &mut Queue, meter: &mut dyn Meter, calls: u64) {
    let report = Report {
        lease: Some(Lease::For(LEASE_DEFAULT)),
        ..report_of(ReportKind::Renew)
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
