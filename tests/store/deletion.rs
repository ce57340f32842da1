//! Deleting units in steps, on a store with a hand-set clock.

use coordinated::coordinate::storage::{OutputStore, WorkSpecStore};
use coordinated::coordinate::{Counts, Deletion, LEASE_DEFAULT, Report, ReportKind, UnitStatus};
use coordinated::store::check;
use serde_json::json;
use std::path::Path;
use test_support::state;
use test_support::world::{START, World, cbor, name, nobody, report_of};

#[test]
fn units_in_a_status_are_deleted_in_steps_and_those_added_behind_them_meanwhile_stay() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let units: Vec<_> = (0..250).map(|n| json!([format!("{n:05}"), {}])).collect();
    world.add("spec", &units);
    world.get_work("w", 50, LEASE_DEFAULT);
    let statuses = [UnitStatus::Available];
    let begun = world.run(|op| op.begin_deletion(&name("spec"), &statuses));
    let mut deletion = begun.unwrap();
    let mut left = Vec::new();
    loop {
        deletion = world.run(|op| op.delete_some(&deletion, 90)).unwrap();
        if deletion.is_over() {
            break;
        }
        left.push(world.counts("spec").available);
        world.add("spec", &[json!([format!("later{}", left.len()), {}])]);
    }
    assert_eq!(left, [110, 21], "of which one was added");
    assert_eq!(deletion.deleted(), 200);
    let counts = world.counts("spec");
    assert_eq!((counts.available, counts.pending), (2, 50));
}

/// All attempts at a unit were deleted by one statement, however many they were.
#[test]
fn a_unit_of_very_many_attempts_is_gone_at_once_and_its_attempts_go_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open_unsynced(&path, START);
    world.set_spec(&json!({"name": "spec"}));
    let attempt_often = |world: &mut World, times| {
        world.add("spec", &[json!(["a", {}])]);
        for _ in 0..times {
            world.get_work("w", 1, LEASE_DEFAULT);
            let retry = report_of(ReportKind::Available);
            world.report(&nobody(), "spec", "a", &retry).unwrap();
        }
        world.get_work("w", 1, LEASE_DEFAULT);
        // From now on what came before does not count, which only matters while the unit is there.
        world.add("spec", &[json!(["a", {}])]);
        world.get_work("w", 1, LEASE_DEFAULT);
    };
    // Also a second unit of the name, before the rest of the first one has gone.
    for _ in 0..2 {
        attempt_often(&mut world, 349);
        let deleted = world
            .run(|op| op.delete_work_units(&name("spec"), &Deletion::Named(&[name("a")], None)));
        assert_eq!(deleted.unwrap(), 1);
        assert_eq!(world.counts("spec"), Counts::default());
        let spec = world.run(|op| op.work_spec(&name("spec")).map(|spec| spec.id));
        let spec = spec.unwrap();
        let found = world.run(|op| op.find_work_unit_data(spec, &name("a")));
        assert_eq!(found.unwrap(), None);
        assert!(
            world
                .run(|op| op.held_units(&name("w")))
                .unwrap()
                .is_empty()
        );
    }
    // And one in a spec that is deleted whole.
    attempt_often(&mut world, 349);
    world.run(|op| op.delete_work_spec(&name("spec"))).unwrap();
    let file = rusqlite::Connection::open(&path).unwrap();
    let count = |table| {
        let sql = format!("SELECT count(*) FROM {table}");
        file.query_row(&sql, [], |row| row.get::<_, usize>(0))
            .unwrap()
    };
    let mut left = vec![count("attempt")];
    assert_eq!(left, [251 + 251 + 351]);
    while world.store.has_deleted() {
        world.run(|op| Ok(op.store.purge(100)?)).unwrap();
        state::look_at(&path);
        let report = check::check(&path, &|_| {}).unwrap();
        assert!(report.faults.is_empty(), "{:?}", report.faults);
        left.push(count("attempt"));
    }
    assert!(
        left.windows(2).all(|two| two[0] - two[1] <= 100),
        "{left:?}"
    );
    assert_eq!(
        [count("attempt"), count("work_unit"), count("work_spec")],
        [0; 3]
    );
}

/// A world in which a unit of `spec` is finished, whose output names so many units of `next`. The first thousand of
/// them are there.
fn with_long_output(path: &Path, count: usize) -> World {
    let mut world = World::open_unsynced(path, START);
    world.set_spec(&json!({"name": "spec", "then": "next"}));
    world.set_spec(&json!({"name": "next"}));
    world.add("spec", &[json!(["a", {}])]);
    let output: Vec<_> = (0..count).map(|n| format!("{n:05}")).collect();
    let data = cbor(&json!({"output": output}));
    let finish = Report {
        data: Some(&data),
        ..report_of(ReportKind::Finished)
    };
    world.report(&nobody(), "spec", "a", &finish).unwrap();
    assert_eq!(world.counts("next").available, 1_000);
    world
}

#[test]
fn what_an_output_still_names_is_added_when_the_file_is_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    with_long_output(&path, 2_500).store.close().unwrap();
    let mut world = World::open(&path, START);
    assert!(world.store.has_output_slices());
    let mut added = Vec::new();
    while world.run(|op| op.chain_slice()).unwrap() {
        added.push(world.counts("next").available);
    }
    assert_eq!(added, [2_000, 2_500]);
    assert!(!world.store.has_output_slices());
}

#[test]
fn what_an_output_still_names_of_a_deleted_spec_goes_with_it() {
    for chains in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs.db");
        let mut world = with_long_output(&path, 2_500);
        world.run(|op| op.delete_work_spec(&name("next"))).unwrap();
        world.set_spec(&json!({"name": "next"}));
        // Whoever comes first to the slices.
        while world.store.has_deleted() {
            world.run(|op| Ok(op.store.purge(1_000)?)).unwrap();
            if chains {
                world.run(|op| op.chain_slice()).unwrap();
            }
            state::look_at(&path);
        }
        assert_eq!(world.counts("next"), Counts::default());
        let file = rusqlite::Connection::open(&path).unwrap();
        let left = "SELECT (SELECT count(*) FROM work_spec) + (SELECT count(*) FROM work_unit)
                         + (SELECT count(*) FROM output_slice)";
        let left: u64 = file.query_row(left, [], |row| row.get(0)).unwrap();
        assert_eq!(left, 3, "two specs and the finished unit");
    }
}

#[test]
fn deleted_specs_go_though_outputs_of_others_are_still_to_be_added() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = with_long_output(&path, 2_500);
    for spec in ["gone", "gone too"] {
        world.set_spec(&json!({"name": spec}));
        world.add(spec, &[json!(["a", {}])]);
        world.run(|op| op.delete_work_spec(&name(spec))).unwrap();
    }
    while world.store.has_deleted() {
        world.run(|op| Ok(op.store.purge(100)?)).unwrap();
    }
    let file = rusqlite::Connection::open(&path).unwrap();
    let specs: u64 = file
        .query_row("SELECT count(*) FROM work_spec", [], |row| row.get(0))
        .unwrap();
    assert_eq!(specs, 2);
    while world.run(|op| op.chain_slice()).unwrap() {}
    assert_eq!(world.counts("next").available, 2_500);
}
