//! Tries to break a promise: a database made by each earlier schema opens with its content, a newer one is
//! refused by name, and a migration that fails leaves the file as it was.
//!
//! `tests/data/schemas/` has a file for each schema that was released, named by its number. What is in them
//! is what [`furnish`] makes. When a schema is to be released, the file for it is made by
//! `COORDINATED_KEEP_SCHEMA=tests/data/schemas/0002.db cargo test --test store upgrades`.

use coordinated::coordinate::storage::WorkSpecStore;
use coordinated::coordinate::{AttemptId, Heartbeat, LockPath, Name, Outcome, Report, ReportKind};
use coordinated::limits::RequestLimits;
use coordinated::store::{OpenError, Options, SqliteStore};
use coordinated_client::cbor::Item;
use rusqlite::Connection;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use test_support::state;
use test_support::world::{START, World, cbor, name, nobody, report_of};

/// The files of the earlier schemas, with their numbers.
fn kept_files() -> Vec<(i64, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schemas");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "db"))
        .map(|path| {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            (number.expect("a number"), path)
        })
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// A copy of a file in a folder of its own.
fn copy(file: &Path) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    std::fs::copy(file, &path).unwrap();
    (folder, path)
}

/// Makes a database with something of everything in it: names that are text and bytes, units of each
/// status, attempts that ended in each way, a worker, a lock, a deleted spec.
fn furnish(path: &Path) {
    let mut world = World::open(path, START);
    world.set_spec(&json!({"name": "spec", "then": "next", "priority": 2, "max_retries": 4}));
    world.set_spec(&json!({"name": "next", "weight": 7, "disabled": true}));
    world.set_spec(&json!({"name": "gone"}));
    world.add("gone", &[json!(["a", {}])]);
    // {'name': b'bytes'}
    let in_bytes = Item::from_checked(b"\xa1\x64name\x45bytes");
    world.run(|op| op.set_work_spec(in_bytes)).unwrap();
    let units: Vec<_> = (0..9)
        .map(|n| json!([format!("u{n}"), {"n": n, "text": "x".repeat(n * 10)}]))
        .chain([json!(["late", {}, {"delay": 100_000}])])
        .collect();
    world.add("spec", &units);
    let mut handed_out = nobody();
    let traceback = cbor(&json!({"traceback": "Traceback:\nValueError: no", "n": 3}));
    let output = cbor(&json!({"output": {"made": {"from": "u1"}}}));
    for (kind, data) in [
        (ReportKind::Finished, None),
        (ReportKind::Finished, Some(&output)),
        (ReportKind::Failed, Some(&traceback)),
        (ReportKind::Available, None),
    ] {
        world.pass(1.0);
        let unit = world.get_one("worker", &mut handed_out).unwrap();
        let report = Report {
            data: data.map(Vec::as_slice),
            ..self::report_of(kind)
        };
        world.report(&handed_out, "spec", &unit, &report).unwrap();
    }
    // One lease that runs out, and two that don't.
    world.get_work("slow", 1, Duration::from_secs(5));
    world.pass(6.0);
    world.get_work("worker", 2, Duration::from_secs(50_000));
    world
        .run(|op| {
            op.heartbeat(Heartbeat {
                worker: &name("worker"),
                mode: Some(Name::from_bytes("RUN")),
                lifetime: Duration::from_secs(50_000),
                environment: None,
                parent: Some(name("parent")),
            })
        })
        .unwrap();
    let path = cbor(&json!(["a", "b"]));
    let path = LockPath::from_item(Item::from_checked(&path), &RequestLimits::default());
    let paths = [path.unwrap()];
    world
        .run(|op| op.lock(&name("me"), Duration::from_secs(50_000), &paths))
        .unwrap();
    world.run(|op| op.delete_work_spec(&name("gone"))).unwrap();
    world.store.close().unwrap();
}

/// The files in a folder, with what is in them.
fn bytes_in(folder: &TempDir) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect()
}

fn refused(path: &Path) -> OpenError {
    match SqliteStore::open(path, &Options::default(), START) {
        Ok(_) => panic!("{} opens", path.display()),
        Err(error) => error,
    }
}

fn set_version(path: &Path, version: i64) {
    let connection = Connection::open(path).unwrap();
    connection
        .pragma_update(None, "user_version", version)
        .unwrap();
}

#[test]
fn a_database_of_each_earlier_schema_opens_with_its_content_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let made_today = folder.path().join("today.db");
    furnish(&made_today);
    if let Some(path) = std::env::var_os("COORDINATED_KEEP_SCHEMA") {
        std::fs::copy(&made_today, path).unwrap();
    }
    for (number, file) in kept_files() {
        let (_folder, path) = copy(&file);
        let version: i64 = Connection::open(&path)
            .unwrap()
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(version, number);
        let mut world = World::open(&path, START.plus(Duration::from_secs(20)));
        assert_eq!(
            state::look_at(&path),
            state::look_at(&made_today),
            "schema {number}"
        );
        // The next unit; and the report of a lease that still runs.
        assert_eq!(world.get_one("new", &mut nobody()).as_deref(), Some("u5"));
        let outcome = world.report(&nobody(), "spec", "u4", &report_of(ReportKind::Finished));
        assert!(matches!(outcome, Ok(Outcome::Accepted)), "{outcome:?}");
        world.store.close().unwrap();
        state::look_at(&path);
    }
}

/// Schema 7 knows a superseded attempt by its number, and a slice of an output by the attempt that left it.
#[test]
fn superseded_attempts_and_slices_of_outputs_outlive_the_change_to_schema_7() {
    let file = kept_files().into_iter().find(|(number, _)| *number == 6);
    let (_folder, path) = copy(&file.expect("schema 6").1);
    let connection = Connection::open(&path).unwrap();
    let units = cbor(&json!(["kept"]));
    // The worker "slow" has lost u4, which then was added again.
    let changed = connection.execute(
        "UPDATE work_unit SET superseded_attempt_id = last_attempt_id WHERE name = 'u4'",
        [],
    );
    assert_eq!(changed.unwrap(), 1);
    connection
        .execute(
            "INSERT INTO output_slice (work_spec_id, priority, units)
             SELECT id, 0, ?1 FROM work_spec WHERE name = 'next'",
            [units],
        )
        .unwrap();
    let holder: (String, u64) = connection
        .query_row(
            "SELECT attempt.worker, number FROM work_unit JOIN attempt ON attempt.id = last_attempt_id
              WHERE name = 'u4'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    drop(connection);
    let mut world = World::open(&path, START.plus(Duration::from_secs(20)));
    let superseded = |path: &Path| -> Vec<(String, u64)> {
        let connection = Connection::open(path).unwrap();
        let mut statement = connection
            .prepare("SELECT name, superseded_number FROM work_unit WHERE superseded_number > 0")
            .unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(superseded(&path), [("u4".to_owned(), holder.1)]);
    assert!(world.run(|op| op.chain_slice()).unwrap());
    assert_eq!(world.counts("next").available, 2);
    world.store.close().unwrap();
}

/// Schema 8 keeps the largest id of removed attempts.
#[test]
fn ids_of_attempts_go_on_after_an_upgrade_and_are_not_used_again_from_then_on() {
    for (number, file) in kept_files() {
        let (_folder, path) = copy(&file);
        let largest: i64 = Connection::open(&path)
            .unwrap()
            .query_row("SELECT max(id) FROM attempt", [], |row| row.get(0))
            .unwrap();
        let now = START.plus(Duration::from_secs(20));
        let mut world = World::open(&path, now);
        let given = world.get_work("new", 1, Duration::from_secs(100));
        assert_eq!(given[0].attempt, AttemptId(largest + 1), "schema {number}");
        world.run(|op| op.delete_work_spec(&name("spec"))).unwrap();
        while world.store.has_deleted() {
            world.run(|op| Ok(op.store.purge(100)?)).unwrap();
        }
        world.store.close().unwrap();
        let mut world = World::open(&path, now);
        world.set_spec(&json!({"name": "spec"}));
        world.add("spec", &[json!(["a", {}])]);
        let given = world.get_work("new", 1, Duration::from_secs(100));
        assert_eq!(given[0].attempt, AttemptId(largest + 2), "schema {number}");
    }
}

#[test]
fn a_database_of_a_newer_schema_is_refused_by_its_number_and_left_as_it_is() {
    let (_, file) = kept_files().pop().unwrap();
    let (folder, path) = copy(&file);
    set_version(&path, 9_999);
    let before = bytes_in(&folder);
    let error = refused(&path);
    assert!(matches!(error, OpenError::SchemaTooNew { .. }), "{error}");
    for word in ["9999", "jobs.db", "upgrade"] {
        assert!(error.to_string().contains(word), "{word} in {error}");
    }
    assert!(bytes_in(&folder) == before, "something was written");
}

#[test]
fn a_migration_that_fails_leaves_the_file_as_it_was() {
    for (number, file) in kept_files() {
        let (folder, path) = copy(&file);
        // The last two migrations that made this schema find in the way what they make.
        set_version(&path, (number - 2).max(0));
        let before = bytes_in(&folder);
        let error = refused(&path);
        assert!(matches!(error, OpenError::Migration { .. }), "{error}");
        assert!(error.to_string().contains("jobs.db"), "{error}");
        assert!(bytes_in(&folder) == before, "something was written");
        // And it opens once nothing is in the way.
        set_version(&path, number);
        World::open(&path, START);
    }
}

#[test]
fn a_migration_that_fails_in_its_middle_undoes_its_beginning() {
    let (_, file) = kept_files().remove(0);
    let (folder, path) = copy(&file);
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "foreign_keys", false)
        .unwrap();
    // An empty database of ours, but for one of the last things that the first migration makes.
    let objects: Vec<(String, String)> = connection
        .prepare("SELECT type, name FROM sqlite_schema WHERE type IN ('view', 'table')")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .filter(|(_, name)| !name.starts_with("sqlite_"))
        .collect();
    for (kind, name) in objects {
        connection
            .execute_batch(&format!("DROP {kind} {name}"))
            .unwrap();
    }
    connection
        .execute_batch("CREATE VIEW locks AS SELECT 1; PRAGMA user_version = 0")
        .unwrap();
    drop(connection);
    let before = bytes_in(&folder);
    let error = refused(&path);
    assert!(matches!(error, OpenError::Migration { .. }), "{error}");
    assert!(bytes_in(&folder) == before, "something was written");
}
