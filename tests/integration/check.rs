//! Promise: `coordinated check` finds whatever is wrong with a database, and says so in words; it finds
//! nothing in one that is in order, also while a daemon writes to it; `--repair` mends the counts and
//! spoils nothing. Each kind of fault is made on purpose here.

use coordinated::store::all_invariants;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use test_support::{Exit, Server, run_to_end};

/// A database with units in every status, of a daemon that was stopped. Kept as long as the folder.
fn furnished_database() -> (Server, PathBuf) {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'other'}");
    client.add("other", "['x', {}]");
    client.take_key("w", "x");
    client.updated("other", "x", "{'status': 4}");
    client.set_spec("{'name': 'ws'}");
    client.add(
        "ws",
        "['a', {}], ['b', {}], ['c', {}], ['d', {}], ['e', {}, {'delay': 1000}]",
    );
    // Two attempts, the first of which was given back.
    client.take_key("w", "a");
    client.updated("ws", "a", "{'status': 1}");
    client.take_key("w", "a");
    client.updated("ws", "a", "{'status': 4}");
    client.take_key("w", "b");
    client.updated("ws", "b", "{'status': 5, 'data': {'traceback': 'oh'}}");
    client.take_key("w", "c");
    assert_eq!(server.stop().code, Some(0));
    let db = server.db();
    (server, db)
}

/// Changes a database as no daemon would.
fn spoil(db: &Path, sql: &str) {
    let connection = Connection::open(db).expect("open");
    connection
        .execute_batch(&format!(
            "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON; {sql}"
        ))
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(connection.changes() > 0, "{sql} changes nothing");
}

fn run_check(db: &Path, more: &[&str]) -> Exit {
    let folder = db.parent().expect("a folder");
    let db = db.display().to_string();
    run_to_end(folder, &[&["check", &db], more].concat(), &[])
}

/// True if a line tells a violation in this sentence, whatever its values are.
fn is_in(line: &str, sentence: &str) -> bool {
    let mut rest = line.trim_start();
    sentence
        .split('{')
        .map(|piece| piece.split_once('}').map_or(piece, |(_, text)| text))
        .all(|text| match rest.find(text) {
            Some(at) => {
                rest = &rest[at + text.len()..];
                true
            }
            None => false,
        })
}

/// What is done to a good database, and a piece of the line that must tell it.
const SPOILED: &[(&str, &str)] = &[
    (
        "UPDATE work_spec SET paused_reason = 'x', paused_us = 5 WHERE CAST(name AS TEXT) = 'ws'",
        r#"work spec "ws" is not paused, but has who paused it, when or why"#,
    ),
    (
        "UPDATE work_spec SET schedule = '@daily' WHERE CAST(name AS TEXT) = 'ws'",
        r#"work spec "ws" has a schedule, but no next run: set the work spec again"#,
    ),
    (
        "UPDATE work_spec SET last_run_us = 5 WHERE CAST(name AS TEXT) = 'ws'",
        r#"work spec "ws" has no schedule, but runs of one"#,
    ),
    (
        "INSERT INTO cancellation (work_unit_id, cancelled_us)
          SELECT id, 5 FROM work_unit WHERE CAST(name AS TEXT) = 'a'",
        r#"work unit "a" of "ws" is finished, but is marked as cancelled"#,
    ),
    (
        "UPDATE work_unit_count SET rate_full_us = 5 WHERE available = 1",
        r#"work spec "ws" has no max_rate, but a time at which its bucket is full"#,
    ),
    (
        "UPDATE work_spec SET max_rate = '5/s' WHERE CAST(name AS TEXT) = 'ws'",
        r#"work spec "ws" has one of max_rate and max_rate_burst without the other"#,
    ),
    (
        "UPDATE work_unit_count SET failed_in_a_row = 1 WHERE available = 1",
        r#"work spec "ws" has no halt_after, but a count of failed attempts"#,
    ),
    (
        "UPDATE work_unit_count SET available = available + 5 WHERE available = 1",
        r#"work spec "ws" keeps a count of 6 available units, and has 1"#,
    ),
    (
        "DELETE FROM work_unit_count WHERE available = 1",
        r#"work spec "ws" has no kept counts"#,
    ),
    (
        "UPDATE work_unit SET last_attempt_id = 999 WHERE CAST(name AS TEXT) = 'd'",
        r#"work unit "d" of "ws": its last_attempt_id is 999, but there is no such attempt"#,
    ),
    (
        "UPDATE attempt SET previous_attempt_id = 0 WHERE number = 2",
        r#"of work unit "a" of "ws": its previous_attempt_id is 0, but there is no such attempt"#,
    ),
    (
        "UPDATE attempt SET work_unit_id = 99 WHERE status = 3",
        "of work unit id 99: its work_unit_id is 99, but there is no such work_unit",
    ),
    (
        "UPDATE work_spec SET namespace_id = 77 WHERE CAST(name AS TEXT) = 'other'",
        "row 1 of table work_spec: its namespace_id has no row in table namespace",
    ),
    (
        "UPDATE work_unit SET priority = 5 WHERE CAST(name AS TEXT) = 'd'",
        r#"work unit "d" of "ws" is available, but will not be found in the queue"#,
    ),
    (
        "UPDATE work_spec SET fair = 1 WHERE CAST(name AS TEXT) = 'ws'",
        r#"work unit "d" of "ws" is available, but is not queued as its work spec says"#,
    ),
    (
        "UPDATE work_unit SET place = 9 WHERE CAST(name AS TEXT) = 'd'",
        r#"work unit "d" of "ws" has the place 9, but the last one given in its work spec is 0"#,
    ),
    (
        "UPDATE work_unit SET in_turn = 1, group_name = 'g' WHERE CAST(name AS TEXT) = 'd'",
        r#"work spec "ws" keeps counts of 0 available and 0 pending units for its group "g", and has 1 available and 0 pending"#,
    ),
    (
        "INSERT INTO unit_group VALUES (1, 'gone', 1, 0, 1)",
        r#"keeps counts for its group "gone", which has no available or pending unit"#,
    ),
    (
        "UPDATE work_unit_count SET failed_after_id = 999",
        r#"work unit "b" of "ws" is failed, but will not be archived: the search has already passed its attempt 4"#,
    ),
    (
        "UPDATE work_unit SET active_attempt_id = NULL WHERE CAST(name AS TEXT) = 'a'",
        r#"work unit "a" of "ws" is finished, but has no active attempt"#,
    ),
    (
        "UPDATE work_unit SET status = 1 WHERE CAST(name AS TEXT) = 'a'",
        r#"work unit "a" of "ws" is available, but attempt"#,
    ),
    (
        "UPDATE attempt SET status = 5 WHERE number = 2",
        r#"work unit "a" of "ws" is finished, but its active attempt 3 is failed"#,
    ),
    (
        "UPDATE work_unit SET last_attempt_id = 1 WHERE CAST(name AS TEXT) = 'd'",
        r#"work unit "d" of "ws": its last attempt 1 is one of work unit id 1"#,
    ),
    (
        "UPDATE work_unit SET last_attempt_id = 1 WHERE CAST(name AS TEXT) = 'c'",
        r#"work unit "c" of "ws": its active attempt 5 is newer than its last one, 1"#,
    ),
    (
        "UPDATE work_unit SET active_attempt_id = NULL, status = 1 WHERE CAST(name AS TEXT) = 'c'",
        r#"of work unit "c" of "ws" is pending, but the unit is available and its active attempt is none"#,
    ),
    (
        "UPDATE attempt SET worker = NULL WHERE held = 1",
        r#"of work unit "c" of "ws" is marked as held, but has no worker"#,
    ),
    (
        "UPDATE attempt SET held = 1 WHERE status = 5",
        r#"of work unit "b" of "ws" is marked as held, but its worker has reported it as failed"#,
    ),
    (
        "UPDATE attempt SET end_us = 5 WHERE status = 3",
        r#"of work unit "c" of "ws" is pending, but its end is 5"#,
    ),
    (
        "UPDATE attempt SET number = 3 WHERE status = 5",
        r#"of work unit "b" of "ws" is the first one, but has number 3"#,
    ),
    (
        "UPDATE attempt SET number = 7 WHERE number = 2",
        r#"attempt 3 of work unit "a" of "ws" has number 7, and the one before it, 2, has number 1"#,
    ),
    (
        "UPDATE attempt SET previous_attempt_id = 1 WHERE number = 2",
        r#"of work unit "a" of "ws": the one before it, 1, is one of work unit id 1"#,
    ),
    (
        "UPDATE attempt SET previous_attempt_id = id WHERE number = 2",
        r#"of work unit "a" of "ws": the one before it, 3, is not older"#,
    ),
    (
        "UPDATE work_unit SET last_attempt_id = 2 WHERE CAST(name AS TEXT) = 'a'",
        r#"work unit "a" of "ws" has 2 attempts, but the last one of its history has number 1"#,
    ),
    (
        "UPDATE work_unit SET attempts_before = 9 WHERE CAST(name AS TEXT) = 'd'",
        r#"work unit "d" of "ws" had 9 attempts when it was added again or retried"#,
    ),
    (
        "UPDATE work_unit SET superseded_number = 99 WHERE CAST(name AS TEXT) = 'd'",
        r#"work unit "d" of "ws" was added again after attempt number 99, but its last one has number 0"#,
    ),
    (
        "UPDATE work_unit SET failures = 1, lost = 2 WHERE CAST(name AS TEXT) = 'a'",
        r#"work unit "a" of "ws": failures 1, lost leases 2, but only 2 attempts since"#,
    ),
    (
        "UPDATE work_unit_count SET retrying = 3",
        r#"work spec "ws" keeps a count of 3 units to be retried, and has 0"#,
    ),
    (
        "UPDATE work_unit SET not_before_us = NULL WHERE CAST(name AS TEXT) = 'e'",
        r#"work unit "e" of "ws" is delayed but has no not_before time"#,
    ),
    (
        "UPDATE work_spec SET definition = substr(definition, 1, 3) WHERE CAST(name AS TEXT) = 'ws'",
        r#"work spec "ws": its definition can't be decoded: longer than 3 bytes"#,
    ),
    (
        "UPDATE work_unit SET data = x'a161ff01' WHERE CAST(name AS TEXT) = 'd'",
        r#"work unit "d" of "ws": its data can't be decoded: the text string that begins at byte 1 is not UTF-8"#,
    ),
    (
        "UPDATE attempt SET data = x'a1616bff' WHERE status = 5",
        r#"attempt 4 of work unit "b" of "ws": its data can't be decoded: byte 3 (0xff) can't stand here"#,
    ),
    (
        "INSERT INTO worker (namespace_id, name, heartbeat_us, expiration_us, environment)
         VALUES (1, 'w', 0, 0, x'80')",
        "worker w: its environment can't be decoded: expected a map, found a list",
    ),
    (
        "INSERT INTO output_slice (work_spec_id, priority, units) VALUES (1, 0, x'8201')",
        r#"work spec "other": units that are yet to be added can't be decoded: expected one item of"#,
    ),
    (
        "INSERT INTO token (name, hash, prefix, scopes, created_us, created_by)
         VALUES ('t', zeroblob(32), 'cdt_', 'read root', 0, 'me')",
        r#"token t: its scopes are "read root", which are not all known"#,
    ),
];

#[test]
fn every_kind_of_fault_is_found_and_told_in_words() {
    let (_server, good) = furnished_database();
    let exit = run_check(&good, &[]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let mut untried = all_invariants();
    let db = good.with_file_name("spoiled.db");
    for (sql, words) in SPOILED {
        std::fs::copy(&good, &db).expect("copy");
        spoil(&db, sql);
        let exit = run_check(&db, &[]);
        assert_eq!(exit.code, Some(1), "after {sql}: {exit:?}");
        assert!(exit.stdout.contains(words), "after {sql}: {}", exit.stdout);
        untried.retain(|sentence| !exit.stdout.lines().any(|line| is_in(line, sentence)));
    }
    assert_eq!(untried, [""; 0], "no fault of these kinds is made here");
}

#[test]
fn a_namespace_that_is_not_the_usual_one_is_named() {
    let (_server, db) = furnished_database();
    spoil(&db, "UPDATE namespace SET name = 'far'");
    spoil(&db, "UPDATE work_unit_count SET failed = 4");
    let exit = run_check(&db, &[]);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let words = r#"work spec "ws" in namespace "far" keeps a count of 4 failed units"#;
    assert!(exit.stdout.contains(words), "{}", exit.stdout);
}

#[test]
fn many_faults_of_a_kind_are_counted_and_only_some_are_told() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let units: Vec<String> = (0..500).map(|n| format!("['u{n:03}', {{}}]")).collect();
    client.add("ws", &units.join(", "));
    server.stop();
    spoil(&server.db(), "UPDATE work_unit SET attempts_before = 1");
    let exit = run_check(&server.db(), &[]);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(
        exit.stdout.contains("retries: 500 found"),
        "{}",
        exit.stdout
    );
    assert!(exit.stdout.contains("and 490 more"), "{}", exit.stdout);
    assert_eq!(exit.stdout.matches("work unit \"u").count(), 10);
}

#[test]
fn what_is_left_of_a_deleted_work_spec_is_no_fault() {
    let (_server, db) = furnished_database();
    // As after a crash between the deletion and the removal of the last unit: its counts stand still.
    spoil(
        &db,
        "UPDATE work_spec SET deleted = 1 WHERE CAST(name AS TEXT) = 'ws'",
    );
    spoil(&db, "DELETE FROM work_unit WHERE CAST(name AS TEXT) = 'd'");
    let exit = run_check(&db, &[]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[test]
fn a_check_leaves_the_file_as_it_is_and_nothing_beside_it() {
    let (server, db) = furnished_database();
    let before = std::fs::read(&db).expect("read");
    for arguments in [&["check"][..], &["check", "--repair"]] {
        let db = db.display().to_string();
        let exit = run_to_end(server.folder(), &[arguments, &["--db", &db]].concat(), &[]);
        assert_eq!(exit.code, Some(0), "{exit:?}");
        assert!(exit.stdout.contains("no errors"), "{}", exit.stdout);
        assert!(
            exit.stdout.contains("work units: 6, attempts: 5"),
            "{}",
            exit.stdout
        );
    }
    assert!(before == std::fs::read(&db).expect("read"));
    assert_eq!(server.folder().read_dir().expect("folder").count(), 1);
}

#[test]
fn a_database_in_use_is_checked_in_the_state_of_one_moment() {
    let server = Server::start();
    server.connect().set_spec("{'name': 'ws'}");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (server, done) = (&server, &done);
            scope.spawn(move || {
                let mut client = server.connect();
                for n in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    client.add(
                        "ws",
                        &format!("['u{thread}-{n}', {{}}], ['v{thread}-{n}', {{}}]"),
                    );
                    let work = client.take("w").expect("a unit");
                    let key = work.key.name().expect("a key");
                    let status = if n % 3 == 0 { 5 } else { 4 };
                    client.updated("ws", &key, &format!("{{'status': {status}}}"));
                }
            });
        }
        for _ in 0..10 {
            let exit = run_check(&server.db(), &[]);
            assert_eq!(exit.code, Some(0), "{exit:?}");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(server.connect().counts("ws")[&4] > 0, "there was load");
}

#[test]
fn repair_mends_counts_and_marks_and_a_daemon_goes_on_with_them() {
    let (mut server, db) = furnished_database();
    spoil(&db, "UPDATE work_unit_count SET available = 0, pending = 7");
    spoil(&db, "DELETE FROM work_unit_count WHERE work_spec_id = 1");
    spoil(&db, "UPDATE attempt SET held = 1 WHERE status = 4");
    spoil(&db, "UPDATE work_unit_count SET failed_after_id = 999");
    // These are known from nowhere else, so a recount must leave them.
    spoil(
        &db,
        "UPDATE work_unit_count SET archived_finished = 40, archived_failed = 50",
    );
    let exit = run_check(&db, &[]);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let offer = "stop the daemon and run with --repair to repair kept counts and archiving and held attempts";
    assert!(exit.stdout.contains(offer), "{}", exit.stdout);
    let exit = run_check(&db, &["--repair"]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(
        exit.stdout
            .contains("repaired kept counts, archiving, held attempts"),
        "{}",
        exit.stdout
    );
    assert_eq!(run_check(&db, &[]).code, Some(0));
    server.start_again();
    let mut client = server.connect();
    assert_eq!(
        client.counts("ws"),
        [(1, 2), (3, 1), (4, 41), (5, 51)].into(),
        "on the wire, a delayed unit counts as available, and an archived one in its status"
    );
    assert_eq!(client.counts("other"), [(4, 1)].into());
}

#[test]
fn repair_says_what_it_leaves_and_does_not_touch_it() {
    let (_server, db) = furnished_database();
    spoil(
        &db,
        "UPDATE work_unit SET attempts_before = 9 WHERE CAST(name AS TEXT) = 'd'",
    );
    spoil(&db, "UPDATE work_unit_count SET finished = 8");
    let exit = run_check(&db, &["--repair"]);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(
        exit.stdout.contains("repaired kept counts"),
        "{}",
        exit.stdout
    );
    assert!(exit.stdout.contains("retries: 1 found"), "{}", exit.stdout);
    assert!(!exit.stdout.contains("keeps a count"), "{}", exit.stdout);
    let before: i64 = Connection::open(&db)
        .and_then(|db| {
            let sql = "SELECT attempts_before FROM work_unit WHERE CAST(name AS TEXT) = 'd'";
            db.query_row(sql, [], |row| row.get(0))
        })
        .expect("the unit");
    assert_eq!(before, 9);
}

#[test]
fn repair_refuses_a_database_that_a_daemon_owns() {
    let server = Server::start();
    let exit = run_check(&server.db(), &["--repair"]);
    assert_eq!(exit.code, Some(2), "{exit:?}");
    let owner = format!("process {}", server.pid());
    assert!(exit.stderr.contains(&owner), "{}", exit.stderr);
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
}

/// Pages that hold rows or index entries, so that garbage there is damage.
fn damage_a_page(db: &Path) {
    let page: usize = Connection::open(db)
        .and_then(|db| {
            let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'work_unit_by_name'";
            db.query_row(sql, [], |row| row.get(0))
        })
        .expect("a page");
    let mut bytes = std::fs::read(db).expect("read");
    for byte in &mut bytes[(page - 1) * 4096..][..200] {
        *byte ^= 0x5a;
    }
    std::fs::write(db, bytes).expect("write");
}

#[test]
fn flipped_bytes_are_found_and_repair_leaves_a_damaged_file_alone() {
    let (_server, db) = furnished_database();
    spoil(&db, "UPDATE work_unit_count SET finished = 8");
    damage_a_page(&db);
    let before = std::fs::read(&db).expect("read");
    for more in [&[][..], &["--repair"]] {
        let exit = run_check(&db, more);
        assert_eq!(exit.code, Some(1), "{exit:?}");
        assert!(exit.stdout.contains("the file: "), "{}", exit.stdout);
        assert!(exit.stdout.contains("restore a backup"), "{}", exit.stdout);
        assert!(!exit.stdout.contains("repaired"), "{}", exit.stdout);
    }
    assert!(before == std::fs::read(&db).expect("read"));
}

#[test]
fn an_index_that_lacks_an_entry_is_found() {
    let (_server, db) = furnished_database();
    {
        let connection = Connection::open(&db).expect("open");
        connection
            .execute_batch(
                "PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET sql = replace(sql, 'status = 5', 'status = 4')
                  WHERE name = 'work_unit_failed'",
            )
            .expect("the index is of other rows now");
    }
    let exit = run_check(&db, &[]);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(
        exit.stdout.contains("missing from index work_unit_failed"),
        "{}",
        exit.stdout
    );
}

#[test]
fn what_can_not_be_checked_is_told_from_what_is_wrong() {
    let folder = TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(
        at("text.db"),
        "not a database, but a text that is long enough to be one".repeat(99),
    )
    .expect("write");
    std::fs::write(at("empty.db"), "").expect("write");
    Connection::open(at("other.db"))
        .and_then(|db| db.execute_batch("CREATE TABLE t (x)"))
        .expect("another program's database");
    let (_server, good) = furnished_database();
    std::fs::copy(&good, at("newer.db")).expect("copy");
    Connection::open(at("newer.db"))
        .and_then(|db| db.pragma_update(None, "user_version", 1_000))
        .expect("a newer database");
    for (name, words) in [
        (
            "text.db",
            "not a coordinated database (not an SQLite database)",
        ),
        (
            "empty.db",
            "not a coordinated database (an empty SQLite database)",
        ),
        ("other.db", "an SQLite database of another program"),
        ("newer.db", "schema version 1000"),
        ("missing.db", "there is no such file"),
    ] {
        let exit = run_check(&at(name), &[]);
        assert_eq!(exit.code, Some(2), "{name}: {exit:?}");
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
        assert!(exit.stderr.contains(words), "{name}: {}", exit.stderr);
        assert!(exit.stderr.contains(name), "{name}: {}", exit.stderr);
    }
    assert!(!at("missing.db").exists(), "a check makes no file");
}
