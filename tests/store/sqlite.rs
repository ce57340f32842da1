//! The SQLite store: its statements, its views, and the counts that it keeps.

use coordinated::coordinate::storage::{
    Access, AuditQuery, AuditStore, HistoryStore, Lister, Storage,
};
use coordinated::coordinate::{
    Author, Cancellation, Change, Counts, Deletion, Error, HandedOut, IfExists, LEASE_DEFAULT,
    Lease, Name, NewToken, NewUnit, PriorityChange, Report, ReportKind, Retention, Scope, Scopes,
    Tally, TokenManager, UnitStatus, WorkRequest, WorkSpec,
};
use coordinated::store::{SqliteStore, all_statements};
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use test_support::world::{self, World, name, nobody, report_of};

/// Tables that grow with the queue. Work specs, namespaces and locks are few.
const LARGE_TABLES: [&str; 7] = [
    "work_unit",
    "attempt",
    "worker",
    "cancellation",
    "unit_group",
    "upload",
    "history",
];

/// Steps that go through a whole index on purpose: one that holds only the attempts which run now, or the units
/// that are delayed, however large the queue is; or, at the start and when the clock is set, the workers that are alive.
const MAY_SCAN: [(&str, &str); 10] = [
    // Its first row.
    ("FIND_CANCELLATION", "SCAN cancellation"),
    ("LIST_PENDING", "SCAN attempt USING INDEX attempt_pending"),
    (
        "LIST_STANDINGS_PENDING",
        "SCAN attempt USING INDEX attempt_pending",
    ),
    ("BOUND_LEASES", "SCAN attempt USING INDEX attempt_pending"),
    ("BOUND_LIFETIMES", "SCAN worker"),
    ("LAST_HEARTBEAT", "SCAN worker"),
    (
        "MOVE_DELAYS",
        "SCAN work_unit USING INDEX work_unit_delayed",
    ),
    (
        "MOVE_DELAYS_OF_PENDING",
        "SCAN attempt USING INDEX attempt_pending",
    ),
    ("MOVE_LEASES", "SCAN attempt USING INDEX attempt_pending"),
    ("MOVE_WORKERS", "SCAN worker"),
];

/// A new database, without foreign keys enforced, as the daemon has it.
fn empty_database() -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    World::open(&path, world::START).store.close().unwrap();
    let connection = Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "foreign_keys", false)
        .unwrap();
    (dir, connection)
}

#[test]
fn no_statement_scans_a_table_that_grows_with_the_queue() {
    let (_dir, connection) = empty_database();
    let statements = all_statements();
    assert!(statements.len() > 40, "the store lists its statements");
    for (statement, sql) in statements {
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        // Its parameters are left unbound: they don't matter for the plan.
        let steps: Vec<String> = plan
            .raw_query()
            .mapped(|row| row.get("detail"))
            .map(Result::unwrap)
            .collect();
        for step in &steps {
            let scans = LARGE_TABLES.iter().any(|table| {
                // An index that is scanned counts too, but for its first entry (min and max).
                step.starts_with(&format!("SCAN {table}")) && !sql.contains("max(id)")
            });
            let allowed = MAY_SCAN.contains(&(statement, step.as_str()));
            assert!(!scans || allowed, "{statement} scans: {steps:?}\n{sql}");
            let sorts = step.contains("TEMP B-TREE");
            assert!(
                !sorts || SORTS_FEW.contains(&statement),
                "{statement} sorts: {steps:?}\n{sql}"
            );
        }
    }
}

/// Statements that sort what they found: only what workers are busy with now, or one worker's.
const SORTS_FEW: [&str; 5] = [
    "LIST_PENDING",
    "LIST_STANDINGS_PENDING",
    "HELD_UNITS",
    "LIST_CHILDREN",
    "LIST_CHILDREN_FROM",
];

/// Statements that may open a temporary table: none of them is on the way of get_work, a report or
/// an added unit.
const MAY_OPEN_TEMPORARY: [&str; 20] = [
    "BOUND_LEASES",
    "BOUND_LIFETIMES",
    "BOUND_LOCKS",
    "DELETE_ATTEMPTS",
    "DELETE_EXPIRED_LOCKS",
    "DELETE_GROUPS",
    "DELETE_LOCKS_UNDER",
    "HELD_UNITS",
    "LIST_CHILDREN_FROM",
    "LIST_PENDING",
    "LIST_ROOTS_FROM",
    "LIST_STANDINGS_PENDING",
    "MOVE_DELAYS",
    "MOVE_DELAYS_OF_PENDING",
    "MOVE_LEASES",
    "MOVE_LOCKS",
    "MOVE_WORKERS",
    "PRUNE_ENTRIES",
    "TAKE_OUTPUT_SLICE",
    "TAKE_OUTPUT_SLICE_OF",
];

#[test]
fn no_statement_of_the_hot_path_opens_a_temporary_table() {
    let (_dir, connection) = empty_database();
    for (statement, sql) in all_statements() {
        let mut program = connection.prepare(&format!("EXPLAIN {sql}")).unwrap();
        let opens_temporary = program
            .raw_query()
            .mapped(|row| row.get::<_, String>("opcode"))
            .map(Result::unwrap)
            .any(|opcode| matches!(opcode.as_str(), "OpenEphemeral" | "SorterOpen"));
        assert!(
            !opens_temporary || MAY_OPEN_TEMPORARY.contains(&statement),
            "{statement} opens a temporary table\n{sql}"
        );
    }
}

/// Statements that look for few among many, and how they search the index that has just the few.
const FIND_FEW: [(&str, &str); 13] = [
    ("FIND_LOST", "attempt_held (<expr>=? AND status>?"),
    ("LIST_FAILURES", "work_unit_failed (work_spec_id=?"),
    (
        "LIST_STANDINGS_FAILED",
        "work_unit_failed (work_spec_id=? AND <expr>>?)",
    ),
    (
        "QUEUED_WITH_HIGHER_PRIORITY",
        "work_unit_queued (work_spec_id=?",
    ),
    ("QUEUED_WITH_LOWER_NAME", "work_unit_queued (work_spec_id=?"),
    (
        "QUEUED_BY_NAME",
        "work_unit_queued (work_spec_id=? AND priority=? AND place=?)",
    ),
    (
        "QUEUED_WITH_LOWER_PLACE",
        "work_unit_queued (work_spec_id=? AND priority=? AND place",
    ),
    ("QUEUED_OUT_OF_TURN", "work_unit_queued (work_spec_id=?"),
    ("NEXT_GROUP", "unit_group_next (work_spec_id=?"),
    (
        "GROUPS_WITH_EARLIER_TURN",
        "unit_group_next (work_spec_id=? AND pending=? AND turn<?)",
    ),
    (
        "BEST_OF_GROUP",
        "work_unit_in_turn (work_spec_id=? AND <expr>=?)",
    ),
    (
        "GROUP_IN_ORDER",
        "work_unit_in_turn (work_spec_id=? AND <expr>=?)",
    ),
    ("IN_TURN", "work_unit_in_turn (work_spec_id=?"),
];

#[test]
fn what_looks_for_few_among_many_uses_the_index_that_has_just_these() {
    let (_dir, connection) = empty_database();
    let statements = all_statements();
    for (statement, index) in FIND_FEW {
        let of_name = |(name, _): &&(&str, &str)| *name == statement;
        let (_, sql) = statements.iter().find(of_name).expect(statement);
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let steps: Vec<String> = plan
            .raw_query()
            .mapped(|row| row.get("detail"))
            .map(Result::unwrap)
            .collect();
        let search = format!("INDEX {index}");
        assert!(
            steps.iter().any(|step| step.contains(&search)),
            "{statement}: {steps:?}"
        );
    }
}

const VIEWS: [&str; 12] = [
    "summary",
    "work_specs",
    "units",
    "attempts_log",
    "failures",
    "cancellations",
    "active_workers",
    "locks",
    "unit_groups",
    "tokens",
    "audit_log",
    "history_log",
];

/// A database in which every view has something to show.
fn furnished_database(path: &Path) {
    let mut world = World::open(path, world::START);
    world.set_spec(&json!({"name": "spec", "then": "next", "interval": 1.5, "fair": true}));
    world.add(
        "spec",
        &[
            json!(["a", {"n": 1}]),
            json!(["b", {}]),
            json!(["c", {}, {"delay": 5}]),
        ],
    );
    let mut handed_out = nobody();
    world.get_one("worker", &mut handed_out);
    let data = world::cbor(&json!({"traceback": "Traceback:\nValueError: no"}));
    let failed = Report {
        data: Some(&data),
        ..report_of(ReportKind::Failed)
    };
    world.report(&handed_out, "spec", "a", &failed).unwrap();
    world.get_one("worker", &mut handed_out);
    world
        .run(|op| {
            op.heartbeat(coordinated::coordinate::Heartbeat {
                worker: &name("worker"),
                mode: None,
                lifetime: Duration::from_secs(9),
                environment: None,
                parent: Some(Name::from_bytes("parent")),
            })
        })
        .unwrap();
    let cancellation = Cancellation {
        reason: None,
        by: None,
        at: world.now,
    };
    let (units, grace) = ([name("b")], Duration::from_secs(9));
    world
        .run(|op| op.cancel_work_units(&name("spec"), &units, None, &cancellation, grace))
        .unwrap();
    let lock = world::cbor(&json!(["a", "b"]));
    let limits = world.limits;
    let item = coordinated_client::cbor::Item::from_checked(&lock);
    let lock = coordinated::coordinate::LockPath::from_item(item, &limits);
    let locks = [lock.unwrap()];
    world
        .run(|op| op.lock(&name("me"), Duration::from_secs(9), &locks))
        .unwrap();
    let token = NewToken {
        name: "reader".to_owned(),
        scopes: Scopes::of(&[Scope::Read]),
        namespace: None,
        expires: None,
    };
    let by = TokenManager::default();
    world.run(|op| op.create_token(&by, token.clone())).unwrap();
    let author = Author {
        interface: "http",
        ..Author::default()
    };
    world.run(|op| audited(op, &author, 1)).unwrap();
    let tally = Tally {
        added: 3,
        ..Tally::default()
    };
    world
        .run(|op| {
            let spec = op.work_spec(&name("spec"))?.id;
            Ok(op.store.add_to_history(spec, op.now, &tally)?)
        })
        .unwrap();
    world.store.close().unwrap();
}

/// Deletes all work specs, and adds an entry about it to the audit.
fn audited(
    op: &mut coordinated::coordinate::Operation<'_, SqliteStore>,
    author: &Author,
    count: u64,
) -> Result<(), Error> {
    let change = Change {
        action: "test",
        work_spec: None,
        detail: String::new(),
        count,
    };
    op.store.insert_audit_entry("", op.now, author, &change)?;
    Ok(())
}

/// How often each kept entry of the audit counts, the newest first.
fn audited_counts(world: &mut World) -> Vec<u64> {
    let query = AuditQuery {
        namespace: None,
        before: None,
        limit: 100,
    };
    let mut counts = Vec::new();
    world
        .run(|op| {
            counts.clear();
            op.store.list_audit(&query, &mut |entry| {
                counts.push(entry.count);
                Ok(())
            })
        })
        .unwrap();
    counts
}

#[test]
fn entries_of_the_audit_that_are_too_old_are_removed_the_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::open(&dir.path().join("jobs.db"), world::START);
    let author = Author {
        interface: "cborrpc",
        ..Author::default()
    };
    for count in 1..=5 {
        world.run(|op| audited(op, &author, count)).unwrap();
        world.pass(10.0);
    }
    let before = world::START.plus(Duration::from_secs(25));
    let mut prune = |limit| {
        world
            .run(|op| Ok(op.store.prune_audit(before, limit)?))
            .unwrap()
    };
    assert_eq!(prune(2), 2);
    assert_eq!(prune(2), 1);
    assert_eq!(prune(2), 0);
    assert_eq!(audited_counts(&mut world), [5, 4]);
}

#[test]
fn every_view_shows_something_in_the_bundled_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    furnished_database(&path);
    let connection = Connection::open(&path).unwrap();
    for view in VIEWS {
        let rows: i64 = connection
            .query_row(&format!("SELECT count(*) FROM {view}"), [], |row| {
                row.get(0)
            })
            .unwrap_or_else(|error| panic!("{view}: {error}"));
        assert!(rows > 0, "{view} is empty");
    }
    let views: i64 = connection
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE type = 'view'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(
        usize::try_from(views).unwrap(),
        VIEWS.len(),
        "every view is tested"
    );
    let summary: Vec<(String, i64)> = connection
        .prepare("SELECT status, count FROM summary")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let expected = [("delayed", 1), ("pending", 1), ("failed", 1)];
    assert_eq!(
        summary,
        expected.map(|(status, count)| (status.to_owned(), count))
    );
}

/// The stock sqlite3 of a Debian 12 is 3.40, and many newer systems have an older one than ours. CI
/// has it; elsewhere the test says that it could not run.
#[test]
fn every_view_works_in_the_stock_sqlite3() {
    let Ok(version) = Command::new("sqlite3").arg("--version").output() else {
        assert!(
            std::env::var_os("COORDINATED_TEST_REQUIRES_SQLITE3").is_none(),
            "sqlite3 is required here, and is not on the PATH"
        );
        eprintln!("not run: there is no sqlite3 on the PATH");
        return;
    };
    eprintln!("sqlite3 {}", String::from_utf8_lossy(&version.stdout));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    furnished_database(&path);
    for view in VIEWS {
        let output = Command::new("sqlite3")
            .arg(&path)
            .arg(format!("SELECT * FROM {view}"))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && stderr.is_empty(),
            "{view}: {stderr}"
        );
        assert!(!output.stdout.is_empty(), "{view} is empty");
    }
}

/// What a random step does.
#[derive(Clone, Debug)]
enum Step {
    Pass(u32),
    Set(u8),
    Delete(u8),
    Clear,
    Add(u8, Vec<(u8, u8)>),
    GetWork(u8, u8, u32),
    Report(u8, u8, u8, Option<i8>, bool),
    Prioritize(u8, u8, Option<bool>),
    DeleteUnits(u8, u8, u8),
    Purge,
    Archive(Option<u64>, Option<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let spec = 0..3_u8;
    let unit = 0..6_u8;
    let step = prop_oneof![
        2 => (0..100_u32).prop_map(Step::Pass),
        2 => spec.clone().prop_map(Step::Set),
        1 => spec.clone().prop_map(Step::Delete),
        1 => Just(Step::Clear),
        6 => (spec.clone(), prop::collection::vec((unit.clone(), 0..4_u8), 0..6))
            .prop_map(|(spec, units)| Step::Add(spec, units)),
        8 => (0..3_u8, 1..4_u8, 1..60_u32).prop_map(|(w, n, lease)| Step::GetWork(w, n, lease)),
        9 => (spec.clone(), unit.clone(), 0..5_u8, prop::option::of(-1..60_i8), any::<bool>())
            .prop_map(|(s, u, kind, lease, data)| Step::Report(s, u, kind, lease, data)),
        2 => (spec.clone(), unit.clone(), prop::option::of(any::<bool>()))
            .prop_map(|(s, u, change)| Step::Prioritize(s, u, change)),
        2 => (spec, unit, 0..5_u8).prop_map(|(s, u, how)| Step::DeleteUnits(s, u, how)),
        1 => Just(Step::Purge),
        3 => (prop::option::of(0..4_u64), prop::option::of(0..20_u64))
            .prop_map(|(count, age)| Step::Archive(count, age)),
    ];
    prop::collection::vec(step, 1..60)
}

fn spec_name(spec: u8) -> String {
    format!("spec{spec}")
}

/// Runs a step; what it fails with is part of the game.
fn take(world: &mut World, handed_out: &mut HandedOut, step: &Step) -> Result<(), Error> {
    match step {
        Step::Pass(tenths) => world.pass(f64::from(*tenths) / 10.0),
        Step::Set(spec) => {
            let then = spec_name((spec + 1) % 3);
            world.set_spec(&json!({
                "name": spec_name(*spec), "then": then, "max_retries": 3, "weight": spec + 1,
                "continuous": *spec == 2, "interval": 2, "retries": 2 - spec, "max_lost": *spec,
            }));
        }
        Step::Delete(spec) => world.run(|op| op.delete_work_spec(&name(&spec_name(*spec))))?,
        Step::Clear => world.run(|op| op.clear().map(|_| ()))?,
        Step::Add(spec, units) => {
            let units: Vec<Vec<u8>> = units
                .iter()
                .map(|(unit, kind)| {
                    let priority = [0.0, 1.0, -1.0, f64::INFINITY][usize::from(*kind)];
                    let mut item =
                        world::cbor(&json!([format!("u{unit}"), {}, {"delay": kind % 2}]));
                    item[0] += 1;
                    item.push(0xfb);
                    item.extend(priority.to_be_bytes());
                    item
                })
                .collect();
            let limits = world.limits;
            let units: Vec<NewUnit<'_>> = units
                .iter()
                .map(|unit| {
                    NewUnit::from_item(coordinated_client::cbor::Item::from_checked(unit), &limits)
                })
                .collect::<Result<_, _>>()?;
            world.run(|op| op.add_work_units(&name(&spec_name(*spec)), &units, IfExists::Reset))?;
        }
        Step::GetWork(worker, count, lease) => {
            let worker = format!("w{worker}");
            let lease = Duration::from_secs(u64::from(*lease));
            for given in world.get_work(&worker, usize::from(*count), lease) {
                handed_out.remember(given.unit, given.attempt, &given.work_spec, &given.name);
            }
        }
        Step::Report(spec, unit, kind, lease, with_data) => {
            let kind = [
                ReportKind::Available,
                ReportKind::Pending,
                ReportKind::Finished,
                ReportKind::Failed,
                ReportKind::Renew,
            ][usize::from(*kind)];
            let data = world::cbor(&json!({"output": {"u0": {}, "u5": {}}, "traceback": "x"}));
            let report = Report {
                kind,
                lease: lease.map(|seconds| match u64::try_from(seconds) {
                    Ok(seconds @ 1..) => Lease::For(Duration::from_secs(seconds)),
                    _ => Lease::Over,
                }),
                data: with_data.then_some(&data),
                attempt: None,
                worker: None,
                delay: None,
                is_final: false,
            };
            world.report(handed_out, &spec_name(*spec), &format!("u{unit}"), &report)?;
        }
        Step::Prioritize(spec, unit, change) => {
            // Taking infinity from infinity fails in the middle: what was changed before is undone.
            let change = match change {
                None => PriorityChange::Adjust(f64::NEG_INFINITY),
                Some(true) => PriorityChange::Adjust(1.0),
                Some(false) => PriorityChange::Set(2.0),
            };
            let names = [name("u0"), name(&format!("u{unit}")), name("u2")];
            world.run(|op| op.prioritize_work_units(&name(&spec_name(*spec)), &names, change))?;
        }
        Step::DeleteUnits(spec, unit, how) => {
            let names = [name(&format!("u{unit}"))];
            let which = match how {
                0 => Deletion::All,
                1 => {
                    let statuses = [UnitStatus::Finished, UnitStatus::Available];
                    return world
                        .delete_in_status(&spec_name(*spec), &statuses)
                        .map(|_| ());
                }
                2 => Deletion::Named(&names, Some(&[UnitStatus::Pending])),
                _ => Deletion::Named(&names, None),
            };
            world.run(|op| op.delete_work_units(&name(&spec_name(*spec)), &which))?;
        }
        Step::Purge => {
            use coordinated::coordinate::storage::WorkSpecStore;
            while world.store.has_deleted() {
                world.run(|op| Ok(op.store.purge(2)?))?;
            }
        }
        Step::Archive(count, age) => {
            world.archive(&Retention {
                count: *count,
                age: age.map(Duration::from_secs),
            });
        }
    }
    Ok(())
}

/// Counts the units of each work spec anew, and checks what must always hold.
fn recount(path: &Path) -> Vec<(String, Counts)> {
    let connection = Connection::open(path).unwrap();
    for pragma in ["foreign_key_check", "integrity_check"] {
        let problems: Vec<String> = connection
            .prepare(&format!("PRAGMA {pragma}"))
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .filter(|problem| problem != "ok")
            .collect();
        assert!(problems.is_empty(), "{pragma}: {problems:?}");
    }
    for (broken, invariant) in [
        (
            "SELECT count(*) FROM work_unit LEFT JOIN attempt ON attempt.id = active_attempt_id
              WHERE active_attempt_id IS NOT NULL
                AND (attempt.status IS NOT work_unit.status OR attempt.work_unit_id <> work_unit.id)",
            "the active attempt has its unit's status",
        ),
        (
            "SELECT count(*) FROM attempt JOIN work_unit ON work_unit.id = attempt.work_unit_id
              WHERE attempt.status = 3 AND work_unit.active_attempt_id IS NOT attempt.id",
            "a pending attempt is its unit's active one",
        ),
        (
            "SELECT count(*) FROM attempt
              WHERE number <> 1 + coalesce((SELECT number FROM attempt AS previous
                                             WHERE previous.id = attempt.previous_attempt_id), 0)",
            "attempts are numbered along their chain",
        ),
        (
            "SELECT count(*) FROM work_unit JOIN work_unit_count USING (work_spec_id)
              WHERE in_name_order = 1
                AND (status <> 1 OR priority <> 0 OR CAST(name AS BLOB) <= passed_name)",
            "what is in name order is available, without a priority, and was not passed",
        ),
        (
            "SELECT count(*) FROM work_unit JOIN work_unit_count USING (work_spec_id)
              WHERE (status = 4 AND active_attempt_id <= finished_after_id)
                 OR (status = 5 AND active_attempt_id <= failed_after_id)",
            "completed units have attempts behind those that were passed",
        ),
        (
            "SELECT count(*) FROM attempt WHERE work_unit_id NOT IN (SELECT id FROM work_unit)",
            "no attempt outlives its unit",
        ),
    ] {
        let count: i64 = connection.query_row(broken, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "not so: {invariant}");
    }
    read_counts(
        &connection,
        "SELECT CAST(name AS TEXT),
                    (SELECT count(*) FROM work_unit WHERE work_spec_id = work_spec.id AND status = 1),
                    (SELECT count(*) FROM work_unit WHERE work_spec_id = work_spec.id AND status = 2),
                    (SELECT count(*) FROM work_unit WHERE work_spec_id = work_spec.id AND status = 3),
                    (SELECT count(*) FROM work_unit WHERE work_spec_id = work_spec.id AND status = 4),
                    (SELECT count(*) FROM work_unit WHERE work_spec_id = work_spec.id AND status = 5),
                    archived_finished, archived_failed,
                    (SELECT count(*) FROM work_unit
                      WHERE work_spec_id = work_spec.id AND status < 3 AND failures > 0)
               FROM work_spec JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
              WHERE deleted = 0 ORDER BY 1",
    )
}

/// The counts that the file has, as the views show them.
fn kept(path: &Path) -> Vec<(String, Counts)> {
    read_counts(
        &Connection::open(path).unwrap(),
        "SELECT work_spec, available, delayed, pending, finished - archived_finished,
                failed - archived_failed, archived_finished, archived_failed, retrying
           FROM work_specs",
    )
}

/// Since when each work spec has had available units, as the file has it.
fn read_waiting(path: &Path) -> Vec<(String, Option<i64>)> {
    Connection::open(path)
        .unwrap()
        .prepare(
            "SELECT CAST(name AS TEXT), waiting_since_us
               FROM work_spec JOIN work_unit_count ON work_spec_id = work_spec.id WHERE deleted = 0",
        )
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn read_counts(connection: &Connection, sql: &str) -> Vec<(String, Counts)> {
    connection
        .prepare(sql)
        .unwrap()
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                Counts {
                    available: row.get(1)?,
                    delayed: row.get(2)?,
                    pending: row.get(3)?,
                    finished: row.get(4)?,
                    failed: row.get(5)?,
                    archived_finished: row.get(6)?,
                    archived_failed: row.get(7)?,
                    retrying: row.get(8)?,
                },
            ))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn kept_counts_equal_a_recount_after_any_operations(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs.db");
        let mut world = World::open(&path, world::START);
        for spec in 0..3 {
            take(&mut world, &mut nobody(), &Step::Set(spec)).unwrap();
        }
        let mut handed_out = HandedOut::new(8);
        for step in &steps {
            match take(&mut world, &mut handed_out, step) {
                Ok(())
                | Err(Error::NoSuchWorkSpec(_) | Error::NoSuchWorkUnit { .. } | Error::Invalid(_)) => {}
                Err(error) => panic!("{step:?}: {error}"),
            }
        }
        let recounted = recount(&path);
        prop_assert_eq!(&kept(&path), &recounted);
        let waiting = read_waiting(&path);
        for (spec, counts) in recounted {
            // Without letting time pass: what is kept in memory is what is in the file.
            let in_memory = world.operation(|op| op.work_spec(&name(&spec)).map(|spec| spec.counts));
            prop_assert_eq!(in_memory.unwrap(), counts);
            let since = world.operation(|op| op.work_spec(&name(&spec)).map(|spec| spec.waiting_since));
            let since = since.unwrap().map(|since| since.0);
            prop_assert_eq!(since.is_some(), counts.available > 0);
            prop_assert!(waiting.contains(&(spec, since)), "{:?}, not {:?}", waiting, since);
        }
        world.store.commit().unwrap();
    }
}

#[test]
fn what_another_program_writes_to_the_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &[json!(["a", {}])]);
    let other = Connection::open(&path).unwrap();
    other
        .execute("UPDATE work_spec SET paused = 1", [])
        .unwrap();
    assert_eq!(world.get_one("w", &mut nobody()), None);
    other
        .execute("UPDATE work_spec SET paused = 0", [])
        .unwrap();
    assert!(world.get_one("w", &mut nobody()).is_some());
}

#[test]
fn units_that_another_program_removed_are_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    // The emptied one comes first, so the other is found only by going on.
    for (spec, priority) in [("emptied", 1), ("other", 0)] {
        world.set_spec(&json!({"name": spec, "priority": priority}));
        world.add(spec, &[json!(["a", {}])]);
    }
    let other = Connection::open(&path).unwrap();
    let delete = "DELETE FROM work_unit WHERE work_spec_id = (SELECT id FROM work_spec WHERE name = 'emptied')";
    other.execute(delete, []).unwrap();
    assert_eq!(world.get_work("w", 1, Duration::from_secs(9)).len(), 1);
    assert!(world.get_work("w", 1, Duration::from_secs(9)).is_empty());
    assert_eq!(kept(&path), recount(&path));
}

#[test]
fn work_specs_are_as_another_program_has_made_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    for spec in ["a", "b", "c", "paused"] {
        world.set_spec(&json!({"name": spec, "disabled": spec == "paused"}));
        world.add(spec, &[json!([format!("unit of {spec}"), {}])]);
    }
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "BEGIN;
             UPDATE work_spec SET name = 'x' WHERE name = 'a';
             UPDATE work_spec SET name = 'a' WHERE name = 'b';
             UPDATE work_spec SET name = CAST('b' AS BLOB) WHERE name = 'x';
             UPDATE work_spec SET deleted = 1 WHERE name = 'c';
             UPDATE work_spec SET paused = 0, weight = 7 WHERE name = 'paused';
             INSERT INTO work_spec (namespace_id, name, definition, paused, weight, priority, continuous,
                                    can_be_continuous, runtime, min_gb)
             SELECT namespace_id, 'c', x'a0', 0, 20, 0, 0, 0, '', 0 FROM work_spec WHERE name = 'a';
             INSERT INTO work_unit_count (work_spec_id, available, delayed, pending, finished, failed)
             VALUES (last_insert_rowid(), 0, 0, 0, 0, 0);
             COMMIT;",
        )
        .unwrap();
    let specs = world.run(|op| {
        let shown = |spec: &WorkSpec| (format!("{:?}", spec.name), spec.counts.available);
        Ok(op.work_specs().map(shown).collect::<Vec<_>>())
    });
    let expected = [("\"a\"", 1), ("b\"b\"", 1), ("\"c\"", 0), ("\"paused\"", 1)];
    assert_eq!(
        specs.unwrap(),
        expected.map(|(name, count)| (name.to_owned(), count))
    );
    let weight = world.run(|op| Ok(op.work_spec(&name("paused"))?.meta.weight));
    assert_eq!(weight.unwrap(), 7);
    let mut given = world.get_work("w", 1, Duration::from_secs(9));
    given.extend(world.get_work("w", 1, Duration::from_secs(9)));
    given.extend(world.get_work("w", 1, Duration::from_secs(9)));
    let mut given: Vec<(Name, Name)> = given
        .into_iter()
        .map(|unit| (unit.work_spec, unit.name))
        .collect();
    given.sort();
    let expected = [
        ("a", "unit of b"),
        ("b", "unit of a"),
        ("paused", "unit of paused"),
    ];
    assert_eq!(given, expected.map(|(spec, unit)| (name(spec), name(unit))));
    assert!(world.get_work("w", 1, Duration::from_secs(9)).is_empty());
}

#[test]
fn what_a_failed_operation_has_added_or_taken_does_not_count_for_the_scheduler() {
    let mut world = World::in_memory();
    for spec in ["empty", "full"] {
        world.set_spec(&json!({"name": spec}));
    }
    world.add("full", &[json!(["unit", {}])]);
    let data = world::cbor(&json!({}));
    let failed = world.run(|op| {
        let unit = NewUnit {
            name: name("undone"),
            data: coordinated_client::cbor::Item::from_checked(&data),
            priority: None,
            delay: None,
            group: None,
        };
        op.add_work_units(&name("empty"), &[unit], IfExists::Reset)?;
        let runtimes = [String::new()];
        let request = WorkRequest {
            max_units: 1,
            lease: LEASE_DEFAULT,
            work_specs: &[],
            runtimes: &runtimes,
        };
        for _ in 0..2 {
            assert_eq!(
                op.get_work(&name("w"), &request)?.map(|given| given.len()),
                Some(1)
            );
        }
        Err::<(), _>(Error::Refused("for a test".to_owned()))
    });
    assert!(failed.is_err());
    assert_eq!(world.get_one("w", &mut nobody()).as_deref(), Some("unit"));
    assert_eq!(world.get_one("w", &mut nobody()), None);
}

#[test]
fn an_operation_that_fails_leaves_the_rest_of_its_batch_standing() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let (data, spec) = (world::cbor(&json!({})), name("spec"));
    let unit = |text: &str| NewUnit {
        name: name(text),
        data: coordinated_client::cbor::Item::from_checked(&data),
        priority: None,
        delay: None,
        group: None,
    };
    world
        .operation(|op| op.add_work_units(&spec, &[unit("a")], IfExists::Reset))
        .unwrap();
    let failed = world.operation(|op| {
        op.add_work_units(&spec, &[unit("b"), unit("c")], IfExists::Reset)?;
        op.delete_work_spec(&spec)?;
        Err::<(), _>(Error::Refused("for a test".to_owned()))
    });
    assert!(failed.is_err());
    world
        .operation(|op| op.add_work_units(&spec, &[unit("d")], IfExists::Reset))
        .unwrap();
    world.store.commit().unwrap();
    assert_eq!(
        world.counts("spec"),
        Counts {
            available: 2,
            ..Counts::default()
        }
    );
    assert_eq!(world.get_one("w", &mut nobody()).as_deref(), Some("a"));
    assert_eq!(world.get_one("w", &mut nobody()).as_deref(), Some("d"));
}

/// The file has a trigger that no update of unit "bad" passes, so that handing it out fails after the first write.
#[test]
fn an_operation_without_a_savepoint_takes_its_batch_with_it_once_and_is_then_undone_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &[json!(["bad", {}])]);
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER spoil BEFORE UPDATE ON work_unit WHEN new.name = 'bad'
             BEGIN SELECT RAISE(ABORT, 'spoiled'); END",
        )
        .unwrap();
    let (data, spec) = (world::cbor(&json!({})), name("spec"));
    let try_to_get = |world: &mut World, unit: &str| {
        let new = NewUnit {
            name: name(unit),
            data: coordinated_client::cbor::Item::from_checked(&data),
            priority: None,
            delay: None,
            group: None,
        };
        world
            .operation(|op| op.add_work_units(&spec, std::slice::from_ref(&new), IfExists::Reset))
            .unwrap();
        let failed = world.operation_that(Access::WriteWithBatch, |op| {
            let runtimes = [String::new()];
            let request = WorkRequest {
                max_units: 1,
                lease: Duration::from_secs(9),
                work_specs: &[],
                runtimes: &runtimes,
            };
            op.get_work(&name("w"), &request)
        });
        let message = failed.unwrap_err().to_string();
        assert!(message.contains("spoiled"), "{message}");
        world.store.commit()
    };
    let lost = try_to_get(&mut world, "c").unwrap_err().to_string();
    assert!(lost.contains("the batch was undone"), "{lost}");
    assert_eq!(world.counts("spec").available, 1);
    // It is tried again at once, as workers do.
    for unit in ["d", "e"] {
        try_to_get(&mut world, unit).unwrap();
    }
    assert_eq!(world.counts("spec").available, 3);
    other.execute_batch("DROP TRIGGER spoil").unwrap();
    let given = world.get_work("w", 9, Duration::from_secs(9));
    let numbers: Vec<(String, u64)> = given
        .iter()
        .map(|given| (format!("{:?}", given.name), given.number))
        .collect();
    let expected = ["\"bad\"", "\"d\"", "\"e\""].map(|name| (name.to_owned(), 1));
    assert_eq!(numbers, expected);
    drop(world);
    test_support::state::look_at(&path);
}

#[test]
fn reads_see_what_the_same_batch_has_written() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let definition = world::cbor(&json!({"name": "other"}));
    world
        .operation(|op| op.set_work_spec(coordinated_client::cbor::Item::from_checked(&definition)))
        .unwrap();
    let found = world.store.operation(Access::Read, |store| {
        use coordinated::coordinate::storage::WorkSpecStore;
        Ok(store.work_specs(world.namespace).count())
    });
    assert_eq!(found.unwrap(), 2);
    world.store.commit().unwrap();
}

#[test]
fn a_wal_that_has_become_large_is_reset() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    world.set_spec(&json!({"name": "spec"}));
    let other = Connection::open(&path).unwrap();
    let pages_in_log = || -> i64 {
        other
            .query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get("log"))
            .unwrap()
    };
    let mut largest = 0;
    // 512 MiB, eight times what makes a log large.
    let began_anew = (0..2_000).any(|n| {
        let data = json!({"text": format!("{n:08}").repeat(32 * 1024)});
        world.add("spec", &[json!([format!("unit{}", n % 100), data])]);
        let pages = pages_in_log();
        largest = largest.max(pages);
        pages < largest / 2
    });
    assert!(began_anew, "{largest} pages, and it goes on");
}
