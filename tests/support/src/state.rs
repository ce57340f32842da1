//! What a person sees in a database file, and whether it is whole.

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// All that the views show but ids, and when leases and lives end, which is put off by a start.
pub type State = String;

const VIEWS: [&str; 6] = [
    "SELECT * FROM work_specs",
    "SELECT work_spec, unit, status, priority, not_before, worker, attempts, data_bytes FROM units
      ORDER BY work_spec, unit",
    "SELECT work_spec, unit, number, worker, status, started, ended, traceback FROM attempts_log
      ORDER BY work_spec, unit, number",
    "SELECT * FROM failures ORDER BY work_spec, unit",
    "SELECT worker, parent, mode, last_heartbeat, units_held FROM active_workers",
    "SELECT path, owner FROM locks",
];

/// What is wrong with the counts that are kept.
const WRONG_COUNTS: &str = "
    SELECT work_spec, available, delayed, pending, finished - archived_finished, failed - archived_failed
      FROM work_specs
    EXCEPT
    SELECT work_spec,
           (SELECT count(*) FROM units WHERE status = 'available' AND units.work_spec = specs.work_spec),
           (SELECT count(*) FROM units WHERE status = 'delayed' AND units.work_spec = specs.work_spec),
           (SELECT count(*) FROM units WHERE status = 'pending' AND units.work_spec = specs.work_spec),
           (SELECT count(*) FROM units WHERE status = 'finished' AND units.work_spec = specs.work_spec),
           (SELECT count(*) FROM units WHERE status = 'failed' AND units.work_spec = specs.work_spec)
      FROM work_specs AS specs";

/// What is wrong with the counts that are kept of groups.
const WRONG_GROUPS: &str = "
    WITH kept AS (
        SELECT work_spec_id, unit_group.name, available, pending
          FROM unit_group JOIN work_spec ON work_spec.id = work_spec_id AND deleted = 0),
    counted AS (
        SELECT work_spec_id, coalesce(group_name, ''), count(*) FILTER (WHERE status = 1),
               count(*) FILTER (WHERE status = 3)
          FROM work_unit JOIN work_spec ON work_spec.id = work_spec_id AND deleted = 0
         WHERE in_turn = 1 AND (status = 1 OR status = 3)
         GROUP BY 1, 2)
    SELECT * FROM (SELECT * FROM kept EXCEPT SELECT * FROM counted)
    UNION ALL
    SELECT * FROM (SELECT * FROM counted EXCEPT SELECT * FROM kept)";

/// Reads a database, which may be open, and checks it.
pub fn look_at(database: &Path) -> State {
    // A connection that only reads leaves the WAL alone when it is closed.
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .expect("the database can be read");
    assert_eq!(rows(&connection, "PRAGMA integrity_check"), "ok\n");
    assert_eq!(rows(&connection, "PRAGMA foreign_key_check"), "");
    assert_eq!(
        rows(&connection, WRONG_COUNTS),
        "",
        "kept counts and a recount"
    );
    assert_eq!(
        rows(&connection, WRONG_GROUPS),
        "",
        "kept counts of groups and a recount"
    );
    VIEWS.map(|view| rows(&connection, view)).join("\n")
}

/// The rows of a query, a line each.
fn rows(connection: &Connection, sql: &str) -> String {
    let mut statement = connection.prepare(sql).expect("a statement");
    let columns = statement.column_count();
    let mut lines = String::new();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().expect("a row") {
        let values: Vec<String> = (0..columns)
            .map(|column| match row.get(column).expect("a value") {
                Value::Null => String::new(),
                Value::Integer(number) => number.to_string(),
                Value::Real(number) => number.to_string(),
                Value::Text(text) => text,
                Value::Blob(bytes) => bytes.escape_ascii().to_string(),
            })
            .collect();
        lines += &values.join("|");
        lines += "\n";
    }
    lines
}
