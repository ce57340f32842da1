//! Deleting units in steps, on a store with a hand-set clock.

use coordinated::coordinate::storage::{OutputStore, WorkSpecStore};
use coordinated::coordinate::{
    AttemptId, Counts, Deletion, LEASE_DEFAULT, Report, ReportKind, Retention, UnitStatus,
};
use coordinated::store::check;
use rusqlite::OptionalExtension;
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

/// What a daemon, or another program while there is none, does with the unit `a`, the newest attempt at which has this id.
type Removal = fn(World, &Path, AttemptId) -> World;

#[test]
fn ids_of_removed_attempts_are_not_used_again_when_the_file_is_opened_anew() {
    let ways: [(&str, Removal); 5] = [
        ("a unit", |mut world, _, _| {
            let which = Deletion::Named(&[name("a")], None);
            let deleted = world.run(|op| op.delete_work_units(&name("spec"), &which));
            assert_eq!(deleted.unwrap(), 1);
            world
        }),
        ("a spec", |mut world, _, _| {
            world.run(|op| op.delete_work_spec(&name("spec"))).unwrap();
            while world.store.has_deleted() {
                world.run(|op| Ok(op.store.purge(1)?)).unwrap();
            }
            world
        }),
        ("archived", |mut world, _, _| {
            let finish = report_of(ReportKind::Finished);
            world.report(&nobody(), "spec", "a", &finish).unwrap();
            let none = Retention {
                count: Some(0),
                age: None,
            };
            assert_eq!(world.archive(&none).iter().sum::<u64>(), 1);
            world
        }),
        (
            "older than others that are there",
            |mut world, _, newest| {
                world.add("spec", &[json!(["b", {}])]);
                let given = world.get_work("w", 1, LEASE_DEFAULT);
                assert!(given[0].attempt > newest);
                for unit in ["a", "b"] {
                    let which = Deletion::Named(&[name(unit)], None);
                    let deleted = world.run(|op| op.delete_work_units(&name("spec"), &which));
                    assert_eq!(deleted.unwrap(), 1);
                }
                world
            },
        ),
        ("by another program", |world, path, _| {
            world.store.close().unwrap();
            let file = rusqlite::Connection::open(path).unwrap();
            file.execute_batch(
                "PRAGMA foreign_keys = 0; DELETE FROM attempt; DELETE FROM work_unit",
            )
            .unwrap();
            World::open(path, START)
        }),
    ];
    for (way, remove) in ways {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs.db");
        let mut world = World::open_unsynced(&path, START);
        let mut last = AttemptId(0);
        for _ in 0..3 {
            world.set_spec(&json!({"name": "spec"}));
            for _ in 0..2 {
                world.add("spec", &[json!(["a", {}])]);
                let given = world.get_work("w", 1, LEASE_DEFAULT);
                assert!(given[0].attempt > last, "{way}: {last:?}");
                last = given[0].attempt;
            }
            world = remove(world, &path, last);
            let file = rusqlite::Connection::open(&path).unwrap();
            let left: u64 = file
                .query_row("SELECT count(*) FROM attempt", [], |row| row.get(0))
                .unwrap();
            assert_eq!(left, 0, "{way}");
            world.store.close().unwrap();
            world = World::open_unsynced(&path, START);
        }
    }
}

/// It costs nothing as long as nothing is removed, and then one write for all attempts that are there.
#[test]
fn the_largest_id_of_removed_attempts_is_written_only_when_one_beyond_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open_unsynced(&path, START);
    world.set_spec(&json!({"name": "spec"}));
    let units: Vec<_> = (0..20).map(|n| json!([format!("{n:02}"), {}])).collect();
    world.add("spec", &units);
    let given = world.get_work("w", 10, LEASE_DEFAULT);
    for unit in &given {
        let unit = String::from_utf8_lossy(unit.name.bytes());
        let finish = report_of(ReportKind::Finished);
        world.report(&nobody(), "spec", &unit, &finish).unwrap();
    }
    let file = rusqlite::Connection::open(&path).unwrap();
    let floor = || -> Option<i64> {
        let floor = file.query_row("SELECT id FROM attempt_floor", [], |row| row.get(0));
        floor.optional().unwrap()
    };
    assert_eq!(floor(), None);
    let delete = |world: &mut World, unit: usize| {
        let unit = [name(&format!("{unit:02}"))];
        let which = Deletion::Named(&unit, None);
        world
            .run(|op| op.delete_work_units(&name("spec"), &which))
            .unwrap();
    };
    delete(&mut world, 3);
    assert_eq!(floor(), Some(10));
    world.get_work("w", 10, LEASE_DEFAULT);
    delete(&mut world, 9);
    assert_eq!(floor(), Some(10));
    delete(&mut world, 10);
    assert_eq!(floor(), Some(20));
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
