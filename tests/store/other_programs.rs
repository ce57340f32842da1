//! Tries to break a promise: a program that reads the database or holds it locked makes the daemon wait or
//! answer an error, and never lose anything. Here it is a second connection, as `sqlite3` has one.

use coordinated::coordinate::storage::Storage;
use coordinated::coordinate::{Error, IfExists, NewUnit, StorageError};
use rusqlite::Connection;
use serde_json::json;
use std::sync::mpsc::channel;
use std::time::Duration;
use tempfile::TempDir;
use test_support::state;
use test_support::world::{self, World, cbor, name};

fn open() -> (TempDir, World, Connection) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    world.set_spec(&json!({"name": "spec"}));
    let other = Connection::open(&path).unwrap();
    (folder, world, other)
}

/// Adds a unit in a batch of its own.
fn add(world: &mut World, unit: &str) -> Result<(), StorageError> {
    let data = cbor(&json!({}));
    let units = [NewUnit {
        name: name(unit),
        data: coordinated_client::cbor::Item::from_checked(&data),
        priority: None,
        delay: None,
        group: None,
    }];
    let result = world.operation(|op| op.add_work_units(&name("spec"), &units, IfExists::Reset));
    let outcome = world.store.commit();
    match result {
        Err(Error::Storage(error)) => {
            outcome.expect("what the batch has read stands");
            Err(error)
        }
        result => {
            result.expect("the unit is added");
            outcome
        }
    }
}

#[test]
fn a_lock_held_for_two_seconds_is_waited_for() {
    let (folder, mut world, other) = open();
    let (locked, is_locked) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            other.execute_batch("BEGIN IMMEDIATE").unwrap();
            other
                .execute("UPDATE work_spec SET weight = 99", [])
                .unwrap();
            locked.send(()).unwrap();
            std::thread::sleep(Duration::from_secs(2));
            other.execute_batch("COMMIT").unwrap();
        });
        is_locked.recv().unwrap();
        add(&mut world, "a").expect("it waits");
    });
    assert_eq!(world.counts("spec").available, 1);
    let weight = world.run(|op| Ok(op.work_spec(&name("spec"))?.meta.weight));
    assert_eq!(weight.unwrap(), 99, "what the other program wrote counts");
    state::look_at(&folder.path().join("jobs.db"));
}

#[test]
fn a_lock_that_stays_is_answered_with_an_error_and_does_not_hinder_reading() {
    let (folder, mut world, other) = open();
    add(&mut world, "a").unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = add(&mut world, "b").expect_err("it can't be written");
    assert!(matches!(error, StorageError::Busy(_)), "{error}");
    assert!(error.to_string().contains("another program"), "{error}");
    let counts = world
        .store
        .operation(coordinated::coordinate::storage::Access::Read, |store| {
            use coordinated::coordinate::storage::WorkSpecStore;
            let spec = store.find_work_spec(world.namespace, &name("spec"));
            Ok(spec.expect("the work spec is there").counts)
        });
    assert_eq!(
        counts.unwrap().available,
        1,
        "the refused unit is not there"
    );
    world.store.commit().unwrap();
    other.execute_batch("ROLLBACK").unwrap();
    add(&mut world, "b").expect("it goes on");
    assert_eq!(world.counts("spec").available, 2);
    state::look_at(&folder.path().join("jobs.db"));
}

#[test]
fn a_reader_that_stays_sees_one_state_and_hinders_neither_work_nor_the_end() {
    let (folder, mut world, other) = open();
    let path = folder.path().join("jobs.db");
    let count = |connection: &Connection| -> i64 {
        connection
            .query_row("SELECT count(*) FROM units", [], |row| row.get(0))
            .unwrap()
    };
    add(&mut world, "before").unwrap();
    other.execute_batch("BEGIN").unwrap();
    assert_eq!(count(&other), 1);
    // Enough that the WAL is moved into the file meanwhile, as far as the reader allows.
    let data = json!({"text": "x".repeat(1 << 20)});
    for n in 0..40 {
        world.add("spec", &[json!([format!("large{n}"), data])]);
    }
    assert_eq!(count(&other), 1);
    world
        .store
        .close()
        .expect("it ends, and leaves the WAL to the reader");
    assert_eq!(count(&other), 1);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&other), 41);
    drop(other);
    let mut world = World::open(&path, world::START);
    assert_eq!(world.counts("spec").available, 41);
    state::look_at(&path);
}

#[test]
fn others_see_no_change_when_units_that_exist_are_skipped() {
    let (_folder, mut world, other) = open();
    add(&mut world, "unit").unwrap();
    let version = || -> i64 {
        other
            .query_row("PRAGMA data_version", [], |row| row.get(0))
            .unwrap()
    };
    let data = cbor(&json!({"new": 1}));
    let units = [NewUnit {
        name: name("unit"),
        data: coordinated_client::cbor::Item::from_checked(&data),
        priority: Some(1.0),
        delay: None,
        group: None,
    }];
    for (if_exists, is_written) in [(IfExists::Skip, false), (IfExists::Reset, true)] {
        let before = version();
        world
            .operation(|op| op.add_work_units(&name("spec"), &units, if_exists))
            .unwrap();
        world.store.commit().unwrap();
        assert_eq!(version() != before, is_written, "{if_exists:?}");
    }
}
