//! The order in which units are handed out, however they came to be available: random sequences
//! against what a plain sort of the available units says.

use coordinated::coordinate::storage::Storage;
use coordinated::coordinate::{
    Deletion, Error, HandedOut, LEASE_DEFAULT, PriorityChange, ReportKind, UnitStatus, WorkRequest,
};
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use test_support::world::{START, World, name, nobody, report_of};

#[derive(Clone, Debug)]
enum Step {
    /// Units of these numbers, with a priority, delayed or not.
    Add(Vec<u16>, i8, bool),
    GetWork(u8),
    Report(u16, ReportKind),
    Prioritize(u16, i8),
    Delete(u16),
    DeleteFinished,
    DeleteAll,
    /// Lets leases and delays pass.
    Pass,
    /// Hands out units in an operation that fails, within a batch that goes on.
    GetWorkInVain(u8),
    /// The daemon stops and starts.
    Reopen,
}

/// Units that there may be: enough for several to lie before, between and behind any two.
const UNITS: u16 = 40;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let priority = prop_oneof![6 => Just(0_i8), 1 => -2..3_i8];
    let kind = prop_oneof![
        4 => Just(ReportKind::Finished),
        2 => Just(ReportKind::Available),
        1 => Just(ReportKind::Failed),
        1 => Just(ReportKind::Pending),
    ];
    let step = prop_oneof![
        6 => (prop::collection::vec(0..UNITS, 1..12), priority.clone(), prop::bool::weighted(0.1))
            .prop_map(|(units, priority, delayed)| Step::Add(units, priority, delayed)),
        8 => (1..6_u8).prop_map(Step::GetWork),
        6 => (0..UNITS, kind).prop_map(|(unit, kind)| Step::Report(unit, kind)),
        1 => (0..UNITS, priority).prop_map(|(unit, priority)| Step::Prioritize(unit, priority)),
        1 => (0..UNITS).prop_map(Step::Delete),
        1 => Just(Step::DeleteFinished),
        1 => prop::bool::weighted(0.2).prop_map(|all| if all { Step::DeleteAll } else { Step::Pass }),
        1 => (1..6_u8).prop_map(Step::GetWorkInVain),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..80)
}

fn unit_name(unit: u16) -> String {
    format!("u{unit:03}")
}

/// The available units in the order in which they are due.
fn sorted_available(connection: &Connection) -> Vec<String> {
    connection
        .prepare(
            "SELECT CAST(work_unit.name AS TEXT) FROM work_unit JOIN work_spec ON work_spec.id = work_spec_id
              WHERE status = 1 AND deleted = 0 ORDER BY work_unit.priority DESC, CAST(work_unit.name AS BLOB)",
        )
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn add(world: &mut World, units: &[u16], priority: i8, delayed: bool) {
    let delay = if delayed { 60 } else { 0 };
    let units: Vec<Value> = units
        .iter()
        .map(|unit| json!([unit_name(*unit), {}, {"priority": priority, "delay": delay}]))
        .collect();
    world.add("spec", &units);
}

fn names_of(
    world: &mut World,
    worker: &str,
    max_units: u8,
    handed_out: &mut HandedOut,
) -> Vec<String> {
    world
        .get_work(worker, usize::from(max_units), LEASE_DEFAULT)
        .into_iter()
        .map(|given| {
            handed_out.remember(given.unit, given.attempt, &given.work_spec, &given.name);
            String::from_utf8(given.name.bytes().to_vec()).unwrap()
        })
        .collect()
}

fn get_work_in_vain(world: &mut World, max_units: u8) {
    let runtimes = [String::new()];
    let request = WorkRequest {
        max_units: usize::from(max_units),
        lease: LEASE_DEFAULT,
        work_specs: &[],
        runtimes: &runtimes,
    };
    // The first operation of a batch is undone with all of it, a later one with its savepoint.
    for _ in 0..2 {
        world
            .operation(|operation| {
                operation.prioritize_work_units(&name("spec"), &[], PriorityChange::Set(0.0))
            })
            .unwrap();
        let failed = world.operation(|operation| {
            operation.get_work(&name("vain"), &request)?;
            Err::<(), _>(Error::Refused("for a test".to_owned()))
        });
        assert!(failed.is_err());
    }
    world.store.commit().unwrap();
}

fn play(path: &Path, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::open_unsynced(path, START);
    world.set_spec(&json!({"name": "spec"}));
    let file = Connection::open(path).unwrap();
    let mut handed_out = HandedOut::new(100);
    for step in steps {
        match step {
            Step::Add(units, priority, delayed) => add(&mut world, units, *priority, *delayed),
            Step::GetWork(max_units) => {
                // What is over passes first.
                world.run(|_| Ok(())).unwrap();
                let mut expected = sorted_available(&file);
                expected.truncate(usize::from(*max_units));
                let given = names_of(&mut world, "w", *max_units, &mut handed_out);
                prop_assert_eq!(given, expected);
            }
            Step::Report(unit, kind) => {
                let report = report_of(*kind);
                match world.report(&handed_out, "spec", &unit_name(*unit), &report) {
                    Ok(_) | Err(Error::NoSuchWorkUnit { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Prioritize(unit, priority) => {
                let change = PriorityChange::Set(f64::from(*priority));
                let names = [name(&unit_name(*unit))];
                world
                    .run(|op| op.prioritize_work_units(&name("spec"), &names, change))
                    .unwrap();
            }
            Step::Delete(unit) => {
                let names = [name(&unit_name(*unit))];
                let which = Deletion::Named(&names, None);
                world
                    .run(|op| op.delete_work_units(&name("spec"), &which))
                    .unwrap();
            }
            Step::DeleteFinished => {
                world
                    .delete_in_status("spec", &[UnitStatus::Finished])
                    .unwrap();
            }
            Step::DeleteAll => {
                world
                    .run(|op| op.delete_work_units(&name("spec"), &Deletion::All))
                    .unwrap();
            }
            Step::Pass => world.pass(400.0),
            Step::GetWorkInVain(max_units) => get_work_in_vain(&mut world, *max_units),
            Step::Reopen => {
                let now = world.now;
                world.store.close().unwrap();
                world = World::open_unsynced(path, now);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn units_are_handed_out_by_priority_and_name_whatever_happened_to_them(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        play(&dir.path().join("jobs.db"), &steps)?;
    }
}

#[test]
fn the_search_for_a_unit_behind_very_many_others_is_gone_on_with_in_steps() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let units: Vec<Value> = (0..12_000)
        .map(|unit| json!([format!("u{unit:05}"), {}]))
        .collect();
    world.add("spec", &units);
    // Finished by somebody who never asked for them.
    world
        .operation(|operation| {
            for unit in 0..11_999 {
                let name_of_unit = name(&format!("u{unit:05}"));
                operation.report(
                    &nobody(),
                    &name("spec"),
                    &name_of_unit,
                    &report_of(ReportKind::Finished),
                )?;
            }
            Ok(())
        })
        .unwrap();
    world.store.commit().unwrap();
    let runtimes = [String::new()];
    let request = WorkRequest {
        max_units: 1,
        lease: Duration::from_secs(9),
        work_specs: &[],
        runtimes: &runtimes,
    };
    let mut looks = 1;
    let given = loop {
        match world
            .run(|operation| operation.get_work(&name("w"), &request))
            .unwrap()
        {
            Some(given) => break given,
            None => looks += 1,
        }
    };
    assert_eq!(given[0].name, name("u11999"));
    assert!((2..10).contains(&looks), "{looks} looks");
}

/// A look that had passed as many names as it may gave all queued units that it had found, also those
/// behind names that it had not come to: they overtook the units there.
#[test]
fn a_queued_unit_does_not_overtake_units_that_a_look_did_not_come_to() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    // As many as one look passes.
    let came_back: Vec<Value> = (0..5_000)
        .map(|unit| json!([format!("u{unit:05}"), {}]))
        .collect();
    world.add("spec", &came_back);
    let lease = Duration::from_secs(1);
    assert_eq!(
        world.get_work("w", came_back.len(), lease).len(),
        came_back.len()
    );
    world.add(
        "spec",
        &[
            json!(["v1", {}]),
            json!(["v2", {}, {"delay": 1}]),
            json!(["v3", {}]),
        ],
    );
    world.pass(1.0);
    // Their leases end in steps.
    while world.counts("spec").pending > 0 {}
    let mut given = Vec::new();
    while given.len() < came_back.len() + 3 {
        let more = world.get_work("w", 10_000, LEASE_DEFAULT);
        assert!(!more.is_empty(), "only {} units came", given.len());
        given.extend(more.into_iter().map(|assignment| assignment.name));
    }
    assert!(
        given.is_sorted(),
        "the last ones are {:?}",
        given.last_chunk::<5>()
    );
}

#[test]
fn a_unit_that_somebody_makes_available_by_hand_is_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, START);
    world.set_spec(&json!({"name": "spec"}));
    add(&mut world, &[1, 2, 3], 0, false);
    let mut handed_out = HandedOut::new(9);
    for unit in names_of(&mut world, "w", 2, &mut handed_out) {
        world
            .report(&handed_out, "spec", &unit, &report_of(ReportKind::Finished))
            .unwrap();
    }
    let by_hand = "UPDATE work_unit SET status = 1, active_attempt_id = NULL WHERE name = 'u001'";
    Connection::open(&path)
        .unwrap()
        .execute(by_hand, [])
        .unwrap();
    assert_eq!(
        names_of(&mut world, "w", 9, &mut handed_out),
        ["u001", "u003"]
    );
}
