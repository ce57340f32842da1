//! The limit: what SQLite alone can do, in one thread, with the daemon's pragmas, on the least schema
//! that could do the job. The daemon's overhead is a ratio to it.
//!
//! `cargo bench --bench limit`. This schema stays as it is, whatever becomes of the daemon's: a unit
//! table with a unique name and one partial index for the queue, an attempt table without further
//! index. A call is either half of a cycle: pick the best unit, insert an attempt and mark the unit; or
//! find the unit by name and end both.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rusqlite::{Connection, params};
use std::path::Path;
use std::time::{Duration, Instant};

const UNITS: usize = 20_000;
const CALLS_PER_COMMIT: [usize; 4] = [1, 10, 50, 200];

fn open(path: &Path) -> Connection {
    let connection = Connection::open(path).expect("a database");
    connection.set_prepared_statement_cache_capacity(32);
    for (pragma, value) in [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("foreign_keys", "OFF"),
        ("cache_size", "-16384"),
        ("temp_store", "MEMORY"),
        ("wal_autocheckpoint", "4000"),
    ] {
        connection
            .pragma_update(None, pragma, value)
            .expect("a pragma");
    }
    connection
        .execute_batch(
            "CREATE TABLE unit (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, status INTEGER NOT NULL,
                                priority REAL NOT NULL, attempt_id INTEGER, data BLOB NOT NULL) STRICT;
             CREATE INDEX queue ON unit (priority DESC, name) WHERE status = 1;
             CREATE TABLE attempt (id INTEGER PRIMARY KEY, unit_id INTEGER NOT NULL, worker TEXT NOT NULL,
                                   status INTEGER NOT NULL, start_us INTEGER NOT NULL, end_us INTEGER,
                                   expiration_us INTEGER NOT NULL) STRICT;",
        )
        .expect("the schema");
    connection
}

fn fill(connection: &mut Connection) {
    let transaction = connection.transaction().expect("a transaction");
    transaction
        .execute("DELETE FROM attempt", [])
        .expect("no attempts");
    transaction
        .execute("DELETE FROM unit", [])
        .expect("no units");
    for n in 0..UNITS {
        transaction
            .prepare_cached(
                "INSERT INTO unit (name, status, priority, data) VALUES (?1, 1, 0, zeroblob(100))",
            )
            .and_then(|mut insert| insert.execute([format!("unit{n:012}")]))
            .expect("a unit");
    }
    transaction.commit().expect("a commit");
}

fn get_work(connection: &Connection) -> rusqlite::Result<String> {
    let (id, name, _data): (i64, String, Vec<u8>) = connection
        .prepare_cached(
            "SELECT id, name, data FROM unit WHERE status = 1 ORDER BY priority DESC, name LIMIT 1",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let attempt = connection
        .prepare_cached(
            "INSERT INTO attempt (unit_id, worker, status, start_us, expiration_us) VALUES (?1, ?2, 3, ?3, ?4)",
        )?
        .insert(params![id, "worker", 1_700_000_000_000_000_i64, 1_700_000_900_000_000_i64])?;
    connection
        .prepare_cached("UPDATE unit SET status = 3, attempt_id = ?2 WHERE id = ?1")?
        .execute([id, attempt])?;
    Ok(name)
}

fn finish(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let (id, attempt): (i64, i64) = connection
        .prepare_cached("SELECT id, attempt_id FROM unit WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    connection
        .prepare_cached("UPDATE attempt SET status = 4, end_us = ?2 WHERE id = ?1")?
        .execute([attempt, 1_700_000_001_000_000])?;
    connection
        .prepare_cached("UPDATE unit SET status = 4 WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

/// Runs so many cycles with so many calls in each transaction. What fills the table again is not
/// measured.
fn run_cycles(connection: &mut Connection, cycles: u64, calls_per_commit: usize) -> Duration {
    let mut spent = Duration::ZERO;
    let mut left = 0;
    let mut taken = Vec::new();
    let mut calls_in_batch = 0;
    let mut done = 0;
    while done < cycles {
        if left == 0 && taken.is_empty() {
            if calls_in_batch > 0 {
                connection.execute_batch("COMMIT").expect("a commit");
                calls_in_batch = 0;
            }
            fill(connection);
            left = UNITS;
        }
        let start = Instant::now();
        if calls_in_batch == 0 {
            connection
                .execute_batch("BEGIN IMMEDIATE")
                .expect("a transaction");
        }
        // As many workers as there are calls in a batch: each asks for a unit, then finishes it.
        if left > 0 && taken.len() < calls_per_commit.div_ceil(2) {
            taken.push(get_work(connection).expect("a unit"));
            left -= 1;
        } else if let Some(name) = taken.pop() {
            finish(connection, &name).expect("it is finished");
            done += 1;
        }
        calls_in_batch += 1;
        if calls_in_batch == calls_per_commit {
            connection.execute_batch("COMMIT").expect("a commit");
            calls_in_batch = 0;
        }
        spent += start.elapsed();
    }
    if calls_in_batch > 0 {
        connection.execute_batch("COMMIT").expect("a commit");
    }
    // What was taken and not finished is left for nobody: the next run begins with a full table.
    fill(connection);
    spent
}

fn cycles(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cycles of bare SQLite, by calls a commit");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for calls_per_commit in CALLS_PER_COMMIT {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut connection = open(&dir.path().join("limit.db"));
        group.bench_function(BenchmarkId::from_parameter(calls_per_commit), |bencher| {
            bencher.iter_custom(|cycles| run_cycles(&mut connection, cycles, calls_per_commit));
        });
    }
}

criterion_group!(benches, cycles);
criterion_main!(benches);
