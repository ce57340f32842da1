//! Several namespaces in one store.

use coordinated::coordinate::storage::WorkSpecStore;
use coordinated::coordinate::{
    AttemptChange, NamespaceId, Operation, Result, Retention, UnitSelection, UnitStatus,
};
use coordinated::store::SqliteStore;
use coordinated_client::cbor::Item;
use rusqlite::Connection;
use serde_json::json;
use std::time::Duration;
use test_support::world::{START, World, cbor, name};

/// Runs an operation in another namespace.
fn run_in<T>(
    world: &mut World,
    namespace: &str,
    mut run: impl FnMut(&mut Operation<'_, SqliteStore>) -> Result<T>,
) -> T {
    let result = world.run(|operation| {
        operation.namespace = operation.store.namespace(namespace)?;
        run(operation)
    });
    result.expect("it succeeds")
}

fn set_spec(world: &mut World, namespace: &str) {
    let definition = cbor(&json!({"name": "s"}));
    run_in(world, namespace, |operation| {
        operation.set_work_spec(Item::from_checked(&definition))
    });
}

fn add(world: &mut World, namespace: &str, unit: &str) {
    let unit = cbor(&json!([unit, {}]));
    run_in(world, namespace, |operation| {
        let unit = coordinated::coordinate::NewUnit::from_item(
            Item::from_checked(&unit),
            operation.limits,
        )?;
        operation.put_work_unit(&name("s"), &unit)
    });
}

#[test]
fn a_destroyed_namespace_leaves_nothing_and_its_name_makes_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let mut world = World::open(&path, START);
    for namespace in ["", "a", "b"] {
        set_spec(&mut world, namespace);
        add(&mut world, namespace, "u");
        run_in(&mut world, namespace, |operation| {
            operation.known_or_new_worker(&name("w"))
        });
    }
    run_in(&mut world, "a", |operation| operation.destroy_namespace());
    let there = |operation: &mut Operation<'_, SqliteStore>| {
        Ok((operation.work_specs().count(), operation.workers()?.len()))
    };
    assert_eq!(run_in(&mut world, "a", there), (0, 0));
    assert_eq!(run_in(&mut world, "b", there), (1, 1));
    // That of CBOR-RPC clients is emptied, and keeps its id.
    run_in(&mut world, "", |operation| operation.destroy_namespace());
    assert_eq!(run_in(&mut world, "", there), (0, 0));
    let id: NamespaceId = run_in(&mut world, "", |operation| Ok(operation.namespace));
    assert_eq!(id, world.namespace);
    world.store.close().expect("it is closed");
    let connection = Connection::open(&path).unwrap();
    let bad_keys: i64 = connection
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(bad_keys, 0);
}

#[test]
fn leases_end_and_completed_units_are_archived_in_every_namespace() {
    let mut world = World::in_memory();
    set_spec(&mut world, "other");
    add(&mut world, "other", "u");
    let minute = Duration::from_secs(60);
    run_in(&mut world, "other", |operation| {
        operation.make_attempt(&name("w"), &name("s"), &name("u"), minute)
    });
    let status = |world: &mut World| {
        let details = run_in(world, "other", |operation| {
            operation.unit_details(&name("s"), &name("u"))
        });
        details.unit.status
    };
    assert_eq!(status(&mut world), UnitStatus::Pending);
    world.pass(61.0);
    assert_eq!(status(&mut world), UnitStatus::Available);
    run_in(&mut world, "other", |operation| {
        let made = operation.make_attempt(&name("w"), &name("s"), &name("u"), minute)?;
        let (id, finish) = (made.attempt.id, AttemptChange::Finish);
        operation.change_attempt(&name("s"), &name("u"), id, finish, None)
    });
    let retention = Retention {
        count: Some(0),
        ..Retention::default()
    };
    let archived = world.run(|operation| {
        let pass = operation.begin_archive_pass_everywhere();
        Ok(operation.archive_some(&retention, &pass, 100)?.archived())
    });
    assert_eq!(archived.expect("it is archived"), 1);
    let counts = run_in(&mut world, "other", |operation| {
        Ok(operation.work_spec(&name("s"))?.counts)
    });
    assert_eq!((counts.finished, counts.archived_finished), (0, 1));
}

#[test]
fn a_pass_over_units_ends_though_others_are_added_behind() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "s"}));
    let units: Vec<_> = (0..250).map(|n| json!([format!("{n:03}"), {}])).collect();
    world.add("s", &units);
    let selection = UnitSelection::default();
    let begun = world.run(|operation| operation.begin_unit_pass(&name("s"), &selection));
    let mut pass = begun.expect("it begins");
    let mut steps = 0;
    while !pass.is_over() {
        let delete = coordinated::coordinate::UnitAction::Delete;
        let step = world.run(|operation| operation.take_some_units(&pass, delete));
        pass = step.expect("it goes on");
        world.add("s", &[json!([format!("9{steps}"), {}])]);
        steps += 1;
    }
    assert_eq!((pass.taken(), world.counts("s").available), (250, steps));
    assert!(steps > 2);
}
