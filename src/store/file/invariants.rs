//! The invariants of a database, and how to find what violates them. To add one, add a line to the list.

use super::cbor_fault;
use rusqlite::Connection;

/// Something that must be true of a database.
pub(super) struct Invariant {
    /// The schema version from which on it can be checked.
    pub(super) since: usize,
    /// What it concerns, in a few words.
    pub(super) name: &'static str,
    /// Returns a row for each violation. It reads tables in the order of the file, which is faster than any index if they
    /// are large, and may use what [`define_functions`] defines.
    pub(super) sql: &'static str,
    /// Says what is wrong with a row; `{column}` stands for the value of that column. Ids in the columns `spec` and `unit`
    /// are shown as names, and so are the numbers in `status` and `attempt_status`.
    pub(super) sentence: &'static str,
    /// Repairs all violations, if that needs no guessing.
    pub(super) repair: Option<&'static str>,
}

const fn invariant(
    since: usize,
    name: &'static str,
    sql: &'static str,
    sentence: &'static str,
) -> Invariant {
    Invariant {
        since,
        name,
        sql,
        sentence,
        repair: None,
    }
}

impl Invariant {
    const fn repaired_by(self, sql: &'static str) -> Self {
        Self {
            repair: Some(sql),
            ..self
        }
    }
}

/// Defines the SQL functions that the list uses.
///
/// # Errors
/// If SQLite refuses.
pub(super) fn define_functions(connection: &Connection) -> rusqlite::Result<()> {
    cbor_fault::define(connection)
}

/// All invariants, in the order in which they are checked. Deleted work specs have no counts any more, but their units
/// are like all others until they are removed.
#[rustfmt::skip]
pub(super) const INVARIANTS: &[Invariant] = &[
    invariant(1, KEPT_COUNTS, WRONG_COUNTS, "work spec {spec} keeps a count of {kept} {status} units, and has {counted}").repaired_by(RECOUNT_ALL),
    invariant(1, KEPT_COUNTS, MISSING_COUNTS, "work spec {spec} has no kept counts").repaired_by(ADD_COUNTS),
    invariant(9, KEPT_COUNTS, WRONG_RETRYING, "work spec {spec} keeps a count of {kept} units to be retried, and has {counted}").repaired_by(RECOUNT_RETRYING),
    invariant(1, "foreign keys", BAD_KEYS_OF_UNITS, "work unit {unit}: its {column} is {value}, but there is no such {parent}"),
    invariant(1, "foreign keys", BAD_KEYS_OF_ATTEMPTS, "attempt {attempt} of work unit {unit}: its {column} is {value}, but there is no such {parent}"),
    invariant(1, "foreign keys", OTHER_BAD_KEYS, "row {row} of table {child}: its {column} has no row in table {parent}"),
    invariant(2, "queue", NOT_FOUND_BY_NAME, "work unit {unit} is available, but will not be found in the queue, or only too late").repaired_by(QUEUE_IT),
    invariant(13, "queue", QUEUED_OTHERWISE, "work unit {unit} is available, but is not queued as its work spec says").repaired_by(QUEUE_ANEW),
    invariant(13, "queue", PLACE_NOT_GIVEN, "work unit {unit} has the place {place}, but the last one given in its work spec is {sequence}").repaired_by(GO_ON_AFTER_ALL),
    invariant(13, "groups", WRONG_GROUPS, "work spec {spec} keeps counts of {kept} units for its group {name}, and has {counted}").repaired_by(RECOUNT_GROUPS),
    invariant(13, "groups", EMPTY_GROUPS, "work spec {spec} keeps counts for its group {name}, which has no available or pending unit").repaired_by(REMOVE_EMPTY_GROUPS),
    invariant(4, "archiving", PASSED_OVER, "work unit {unit} is {status}, but will not be archived: the search has already passed its attempt {attempt}").repaired_by(SEARCH_ANEW),
    invariant(1, "active attempts", "SELECT id AS unit, status FROM work_unit NOT INDEXED WHERE status >= 3 AND active_attempt_id IS NULL", "work unit {unit} is {status}, but has no active attempt"),
    invariant(1, "active attempts", "SELECT id AS unit, status, active_attempt_id AS attempt FROM work_unit NOT INDEXED WHERE status < 3 AND active_attempt_id IS NOT NULL", "work unit {unit} is {status}, but attempt {attempt} is its active one"),
    invariant(1, "active attempts", OTHER_STATUS, "work unit {unit} is {status}, but its active attempt {attempt} is {attempt_status}"),
    invariant(1, "active attempts", OF_ANOTHER_UNIT, "work unit {unit}: its {which} attempt {attempt} is one of work unit id {other}"),
    invariant(1, "active attempts", NEWER_THAN_LAST, "work unit {unit}: its active attempt {attempt} is newer than its last one, {last}"),
    invariant(1, "pending attempts", PENDING_IN_VAIN, "attempt {attempt} of work unit {unit} is pending, but the unit is {status} and its active attempt is {active}"),
    invariant(1, "held attempts", HELD_BY_NOBODY, "attempt {attempt} of work unit {unit} is marked as held, but has no worker").repaired_by("UPDATE attempt SET held = 0 WHERE held = 1 AND worker IS NULL"),
    invariant(1, "held attempts", HELD_AFTER_REPORT, "attempt {attempt} of work unit {unit} is marked as held, but its worker has reported it as {attempt_status}").repaired_by("UPDATE attempt SET held = 0 WHERE held = 1 AND (status = 4 OR status = 5)"),
    invariant(1, "ends of attempts", WRONG_END, "attempt {attempt} of work unit {unit} is {attempt_status}, but its end is {end_us}"),
    invariant(1, "numbers of attempts", WRONG_FIRST_NUMBER, "attempt {attempt} of work unit {unit} is the first one, but has number {number}"),
    invariant(1, "numbers of attempts", WRONG_NUMBER, "attempt {attempt} of work unit {unit} has number {number}, and the one before it, {previous}, has number {previous_number}"),
    invariant(1, "history of attempts", PREVIOUS_OF_ANOTHER, "attempt {attempt} of work unit {unit}: the one before it, {previous}, is one of work unit id {other}"),
    invariant(1, "history of attempts", PREVIOUS_IS_NEWER, "attempt {attempt} of work unit {unit}: the one before it, {previous}, is not older"),
    invariant(1, "history of attempts", LOST_ATTEMPTS, "work unit {unit} has {counted} attempts, but the last one of its history has number {number}"),
    invariant(1, "retries", TOO_MANY_BEFORE, "work unit {unit} had {before} attempts when it was added again or retried, but the last one has number {number}"),
    invariant(7, "retries", SUPERSEDED_IS_NEWER, "work unit {unit} was added again after attempt number {superseded}, but its last one has number {number}"),
    invariant(9, "retries", TOO_MANY_FAILURES, "work unit {unit}: failures {failures}, lost leases {lost}, but only {attempts} attempts since it was added or retried"),
    invariant(1, "delays", "SELECT id AS unit FROM work_unit NOT INDEXED WHERE status = 2 AND not_before_us IS NULL", "work unit {unit} is delayed but has no not_before time"),
    invariant(10, "pauses", "SELECT id AS spec FROM work_spec WHERE paused = 0 AND coalesce(paused_reason, paused_by, paused_us) IS NOT NULL", "work spec {spec} is not paused, but has who paused it, when or why").repaired_by("UPDATE work_spec SET paused_reason = NULL, paused_by = NULL, paused_us = NULL WHERE paused = 0"),
    invariant(11, "schedules", "SELECT id AS spec FROM work_spec WHERE schedule IS NOT NULL AND next_run_us IS NULL AND deleted = 0", "work spec {spec} has a schedule, but no next run: set the work spec again"),
    invariant(11, "schedules", "SELECT id AS spec FROM work_spec WHERE schedule IS NULL AND coalesce(next_run_us, last_run_us, skipped_run_us) IS NOT NULL", "work spec {spec} has no schedule, but runs of one").repaired_by("UPDATE work_spec SET next_run_us = NULL, last_run_us = NULL, skipped_run_us = NULL WHERE schedule IS NULL"),
    invariant(12, "cancellations", CANCELLED_IN_VAIN, "work unit {unit} is {status}, but is marked as cancelled").repaired_by("DELETE FROM cancellation WHERE work_unit_id IN (SELECT id FROM work_unit WHERE status NOT IN (3, 5))"),
    invariant(14, "rates", NO_RATE, "work spec {spec} has no max_rate, but a time at which its bucket is full").repaired_by("UPDATE work_unit_count SET rate_full_us = NULL WHERE work_spec_id IN (SELECT id FROM work_spec WHERE max_rate IS NULL)"),
    invariant(14, "rates", "SELECT id AS spec FROM work_spec WHERE (max_rate IS NULL) <> (max_rate_burst IS NULL)", "work spec {spec} has one of max_rate and max_rate_burst without the other"),
    invariant(14, "halts", NO_HALT, "work spec {spec} has no halt_after, but a count of failed attempts").repaired_by("UPDATE work_unit_count SET failed_in_a_row = 0, recent_attempts = 0, recent_finished = 0, recent_failed = 0 WHERE work_spec_id IN (SELECT id FROM work_spec WHERE halt_failures IS NULL AND halt_rate IS NULL)"),
    invariant(1, STORED_CBOR, "SELECT id AS spec, cbor_fault('a map', definition) AS fault FROM work_spec WHERE fault IS NOT NULL", "work spec {spec}: its definition can't be decoded: {fault}"),
    invariant(1, STORED_CBOR, "SELECT id AS unit, cbor_fault('a map', data) AS fault FROM work_unit NOT INDEXED WHERE fault IS NOT NULL", "work unit {unit}: its data can't be decoded: {fault}"),
    invariant(1, STORED_CBOR, "SELECT id AS attempt, work_unit_id AS unit, cbor_fault('a map', data) AS fault FROM attempt NOT INDEXED WHERE fault IS NOT NULL", "attempt {attempt} of work unit {unit}: its data can't be decoded: {fault}"),
    invariant(1, STORED_CBOR, "SELECT CAST(name AS TEXT) AS worker, cbor_fault('a map', environment) AS fault FROM worker NOT INDEXED WHERE fault IS NOT NULL", "worker {worker}: its environment can't be decoded: {fault}"),
    invariant(16, "tokens", UNKNOWN_SCOPES, "token {token}: its scopes are \"{scopes}\", which are not all known, so the daemon will not start"),
    invariant(5, STORED_CBOR, "SELECT work_spec_id AS spec, cbor_fault('a list', units) AS fault FROM output_slice NOT INDEXED WHERE fault IS NOT NULL", "work spec {spec}: units that are yet to be added can't be decoded: {fault}"),
];

/// The sentences that report violations, with `{column}` in place of values.
#[must_use]
pub fn all_invariants() -> Vec<&'static str> {
    INVARIANTS
        .iter()
        .map(|invariant| invariant.sentence)
        .collect()
}

pub(super) const KEPT_COUNTS: &str = "kept counts";

/// What clients stored and get back byte for byte.
pub(super) const STORED_CBOR: &str = "stored CBOR";

const WRONG_COUNTS: &str = "
    WITH counted AS MATERIALIZED (
        SELECT work_spec_id AS spec, status, count(*) AS n
          FROM work_unit NOT INDEXED GROUP BY work_spec_id, status),
    kept AS (
        SELECT work_spec_id AS spec, 1 AS status, available AS n FROM work_unit_count
        UNION ALL SELECT work_spec_id, 2, delayed FROM work_unit_count
        UNION ALL SELECT work_spec_id, 3, pending FROM work_unit_count
        UNION ALL SELECT work_spec_id, 4, finished FROM work_unit_count
        UNION ALL SELECT work_spec_id, 5, failed FROM work_unit_count)
    SELECT kept.spec, kept.status, kept.n AS kept, coalesce(counted.n, 0) AS counted
      FROM kept
      JOIN work_spec ON work_spec.id = kept.spec AND work_spec.deleted = 0
      LEFT JOIN counted ON counted.spec = kept.spec AND counted.status = kept.status
     WHERE kept.n <> coalesce(counted.n, 0)
     ORDER BY kept.spec, kept.status";

const RECOUNT_ALL: &str = "
    UPDATE work_unit_count
       SET (available, delayed, pending, finished, failed) = (
           SELECT count(*) FILTER (WHERE status = 1), count(*) FILTER (WHERE status = 2),
                  count(*) FILTER (WHERE status = 3), count(*) FILTER (WHERE status = 4),
                  count(*) FILTER (WHERE status = 5)
             FROM work_unit WHERE work_unit.work_spec_id = work_unit_count.work_spec_id)
     WHERE work_spec_id IN (SELECT id FROM work_spec WHERE deleted = 0)";

const MISSING_COUNTS: &str = "
    SELECT id AS spec FROM work_spec
     WHERE deleted = 0 AND id NOT IN (SELECT work_spec_id FROM work_unit_count)";

const ADD_COUNTS: &str = "
    INSERT INTO work_unit_count (work_spec_id, available, delayed, pending, finished, failed)
    SELECT id, count(*) FILTER (WHERE status = 1), count(*) FILTER (WHERE status = 2),
           count(*) FILTER (WHERE status = 3), count(*) FILTER (WHERE status = 4),
           count(*) FILTER (WHERE status = 5)
      FROM (SELECT work_spec.id, work_unit.status
              FROM work_spec LEFT JOIN work_unit ON work_unit.work_spec_id = work_spec.id
             WHERE deleted = 0 AND work_spec.id NOT IN (SELECT work_spec_id FROM work_unit_count))
     GROUP BY id";

const BAD_KEYS_OF_UNITS: &str = r#"
    SELECT bad.rowid AS unit, bad.parent, key."from" AS "column",
           CASE key."from" WHEN 'work_spec_id' THEN work_spec_id WHEN 'active_attempt_id' THEN active_attempt_id
                           WHEN 'last_attempt_id' THEN last_attempt_id ELSE 'another' END AS value
      FROM pragma_foreign_key_check('work_unit') AS bad
      JOIN pragma_foreign_key_list('work_unit') AS key ON key.id = bad.fkid
      JOIN work_unit ON work_unit.id = bad.rowid"#;

const BAD_KEYS_OF_ATTEMPTS: &str = r#"
    SELECT bad.rowid AS attempt, attempt.work_unit_id AS unit, bad.parent, key."from" AS "column",
           CASE key."from" WHEN 'work_unit_id' THEN work_unit_id
                           WHEN 'previous_attempt_id' THEN previous_attempt_id ELSE 'another' END AS value
      FROM pragma_foreign_key_check('attempt') AS bad
      JOIN pragma_foreign_key_list('attempt') AS key ON key.id = bad.fkid
      JOIN attempt ON attempt.id = bad.rowid"#;

/// Table by table, since checking all at once would read the two large ones again.
const OTHER_BAD_KEYS: &str = r#"
    SELECT child.name AS child, bad.rowid AS row, bad.parent, key."from" AS "column"
      FROM sqlite_schema AS child
      JOIN pragma_foreign_key_check(child.name) AS bad
      JOIN pragma_foreign_key_list(child.name) AS key ON key.id = bad.fkid
     WHERE child.type = 'table' AND child.name <> 'work_unit' AND child.name <> 'attempt'"#;

const UNKNOWN_SCOPES: &str = "
    SELECT name AS token, scopes
      FROM token
     WHERE trim(replace(replace(replace(replace(replace(replace(scopes, 'metrics', ''), 'read', ''), 'operate', ''),
                                        'admin', ''), 'submit', ''), 'work', '')) <> ''";

const OTHER_STATUS: &str = "
    SELECT work_unit.id AS unit, work_unit.status, attempt.id AS attempt, attempt.status AS attempt_status
      FROM work_unit NOT INDEXED JOIN attempt ON attempt.id = active_attempt_id
     WHERE attempt.status <> work_unit.status";

const OF_ANOTHER_UNIT: &str = "
    SELECT work_unit.id AS unit, 'active' AS which, attempt.id AS attempt, work_unit_id AS other
      FROM work_unit NOT INDEXED JOIN attempt ON attempt.id = active_attempt_id
     WHERE work_unit_id <> work_unit.id
    UNION ALL
    SELECT work_unit.id, 'last', attempt.id, work_unit_id
      FROM work_unit NOT INDEXED JOIN attempt ON attempt.id = last_attempt_id
     WHERE work_unit_id <> work_unit.id";

/// See queue.rs.
const NOT_FOUND_BY_NAME: &str = "
    SELECT work_unit.id AS unit
      FROM work_unit NOT INDEXED JOIN work_unit_count USING (work_spec_id)
     WHERE in_name_order = 1 AND status = 1 AND (priority <> 0 OR CAST(name AS BLOB) <= passed_name)";

const QUEUE_IT: &str = "
    UPDATE work_unit SET in_name_order = 0
     WHERE in_name_order = 1 AND status = 1
       AND (priority <> 0
            OR CAST(name AS BLOB) <= (SELECT passed_name FROM work_unit_count
                                       WHERE work_unit_count.work_spec_id = work_unit.work_spec_id))";

/// See queue.rs, as for the next one.
const QUEUED_OTHERWISE: &str = "
    SELECT work_unit.id AS unit
      FROM work_unit NOT INDEXED
      JOIN work_spec ON work_spec.id = work_spec_id AND deleted = 0
      JOIN work_unit_count USING (work_spec_id)
     WHERE status = 1 AND former_queue = 0
       AND (in_turn <> (fair = 1 OR max_running_per_group IS NOT NULL)
            OR in_name_order = 1 AND (in_turn = 1 OR in_added_order = 1))";

const QUEUE_ANEW: &str = "UPDATE work_unit_count SET former_queue = 1";

const PLACE_NOT_GIVEN: &str = "
    SELECT work_unit.id AS unit, place, sequence
      FROM work_unit NOT INDEXED JOIN work_unit_count USING (work_spec_id)
     WHERE place > sequence";

const GO_ON_AFTER_ALL: &str = "
    UPDATE work_unit_count
       SET sequence = max(sequence, coalesce((SELECT max(place) FROM work_unit
                                               WHERE work_unit.work_spec_id = work_unit_count.work_spec_id), 0))";

/// See groups.rs, as for the next one.
const WRONG_GROUPS: &str = "
    WITH counted AS MATERIALIZED (
        SELECT work_spec_id AS spec, coalesce(group_name, '') AS name,
               count(*) FILTER (WHERE status = 1) AS available, count(*) FILTER (WHERE status = 3) AS pending
          FROM work_unit NOT INDEXED
         WHERE in_turn = 1 AND (status = 1 OR status = 3)
         GROUP BY work_spec_id, coalesce(group_name, ''))
    SELECT counted.spec, '\"' || counted.name || '\"' AS name,
           counted.available || ' available and ' || counted.pending || ' pending' AS counted,
           coalesce(kept.available, 0) || ' available and ' || coalesce(kept.pending, 0) || ' pending' AS kept
      FROM counted
      JOIN work_spec ON work_spec.id = counted.spec AND work_spec.deleted = 0
      LEFT JOIN unit_group AS kept ON kept.work_spec_id = counted.spec AND kept.name = counted.name
     WHERE kept.available IS NOT counted.available OR kept.pending IS NOT counted.pending
     ORDER BY counted.spec, counted.name";

const RECOUNT_GROUPS: &str = "
    INSERT OR REPLACE INTO unit_group (work_spec_id, name, available, pending, turn)
    SELECT counted.spec, counted.name, counted.available, counted.pending, coalesce(kept.turn, 0)
      FROM (SELECT work_spec_id AS spec, coalesce(group_name, '') AS name,
                   count(*) FILTER (WHERE status = 1) AS available, count(*) FILTER (WHERE status = 3) AS pending
              FROM work_unit NOT INDEXED
             WHERE in_turn = 1 AND (status = 1 OR status = 3)
             GROUP BY work_spec_id, coalesce(group_name, '')) AS counted
      LEFT JOIN unit_group AS kept ON kept.work_spec_id = counted.spec AND kept.name = counted.name";

const EMPTY_GROUPS: &str = "
    SELECT work_spec_id AS spec, '\"' || unit_group.name || '\"' AS name
      FROM unit_group JOIN work_spec ON work_spec.id = work_spec_id AND deleted = 0
     WHERE (work_spec_id, unit_group.name) NOT IN (
           SELECT work_spec_id, coalesce(group_name, '')
             FROM work_unit NOT INDEXED
            WHERE in_turn = 1 AND (status = 1 OR status = 3))";

const REMOVE_EMPTY_GROUPS: &str = "
    DELETE FROM unit_group
     WHERE (work_spec_id, name) NOT IN (
           SELECT work_spec_id, coalesce(group_name, '')
             FROM work_unit NOT INDEXED
            WHERE in_turn = 1 AND (status = 1 OR status = 3))";

/// See archive.rs.
const PASSED_OVER: &str = "
    SELECT work_unit.id AS unit, status, active_attempt_id AS attempt
      FROM work_unit NOT INDEXED JOIN work_unit_count USING (work_spec_id)
      JOIN work_spec ON work_spec.id = work_spec_id AND deleted = 0
     WHERE active_attempt_id <= CASE status WHEN 4 THEN finished_after_id WHEN 5 THEN failed_after_id END";

const SEARCH_ANEW: &str = "UPDATE work_unit_count SET finished_after_id = 0, failed_after_id = 0";

const NEWER_THAN_LAST: &str = "
    SELECT id AS unit, active_attempt_id AS attempt, last_attempt_id AS last
      FROM work_unit NOT INDEXED
     WHERE active_attempt_id > coalesce(last_attempt_id, 0)";

const PENDING_IN_VAIN: &str = "
    SELECT attempt.id AS attempt, work_unit.id AS unit, work_unit.status, active_attempt_id AS active
      FROM attempt INDEXED BY attempt_pending JOIN work_unit ON work_unit.id = work_unit_id
     WHERE attempt.status = 3 AND active_attempt_id IS NOT attempt.id";

const HELD_BY_NOBODY: &str = "
    SELECT id AS attempt, work_unit_id AS unit FROM attempt WHERE held = 1 AND worker IS NULL";

const HELD_AFTER_REPORT: &str = "
    SELECT id AS attempt, work_unit_id AS unit, status AS attempt_status
      FROM attempt
     WHERE held = 1 AND (status = 4 OR status = 5)";

const WRONG_END: &str = "
    SELECT id AS attempt, work_unit_id AS unit, status AS attempt_status, end_us
      FROM attempt NOT INDEXED
     WHERE (status = 3) <> (end_us IS NULL)";

const WRONG_FIRST_NUMBER: &str = "
    SELECT id AS attempt, work_unit_id AS unit, number
      FROM attempt NOT INDEXED
     WHERE previous_attempt_id IS NULL AND number <> 1";

const WRONG_NUMBER: &str = "
    SELECT attempt.id AS attempt, attempt.work_unit_id AS unit, attempt.number,
           previous.id AS previous, previous.number AS previous_number
      FROM attempt NOT INDEXED JOIN attempt AS previous ON previous.id = attempt.previous_attempt_id
     WHERE attempt.number <> previous.number + 1";

const PREVIOUS_OF_ANOTHER: &str = "
    SELECT attempt.id AS attempt, attempt.work_unit_id AS unit, previous.id AS previous,
           previous.work_unit_id AS other
      FROM attempt NOT INDEXED JOIN attempt AS previous ON previous.id = attempt.previous_attempt_id
     WHERE attempt.work_unit_id <> previous.work_unit_id";

const PREVIOUS_IS_NEWER: &str = "
    SELECT id AS attempt, work_unit_id AS unit, previous_attempt_id AS previous
      FROM attempt NOT INDEXED
     WHERE previous_attempt_id >= id";

/// Attempts that are not in the history of their unit.
const LOST_ATTEMPTS: &str = "
    SELECT work_unit.id AS unit, n AS counted, coalesce(last.number, 0) AS number
      FROM (SELECT work_unit_id, count(*) AS n FROM attempt NOT INDEXED GROUP BY work_unit_id) AS of_unit
      JOIN work_unit ON work_unit.id = of_unit.work_unit_id
      LEFT JOIN attempt AS last ON last.id = last_attempt_id
     WHERE n <> coalesce(last.number, 0)";

const TOO_MANY_BEFORE: &str = "
    SELECT work_unit.id AS unit, attempts_before AS before, coalesce(last.number, 0) AS number
      FROM work_unit NOT INDEXED LEFT JOIN attempt AS last ON last.id = last_attempt_id
     WHERE attempts_before > coalesce(last.number, 0)";

const SUPERSEDED_IS_NEWER: &str = "
    SELECT work_unit.id AS unit, superseded_number AS superseded, coalesce(last.number, 0) AS number
      FROM work_unit NOT INDEXED LEFT JOIN attempt AS last ON last.id = last_attempt_id
     WHERE superseded_number > coalesce(last.number, 0)";

const TOO_MANY_FAILURES: &str = "
    SELECT work_unit.id AS unit, failures, lost, coalesce(last.number, 0) - attempts_before AS attempts
      FROM work_unit NOT INDEXED LEFT JOIN attempt AS last ON last.id = last_attempt_id
     WHERE failures + lost > max(0, coalesce(last.number, 0) - attempts_before)";

const WRONG_RETRYING: &str = "
    WITH counted AS MATERIALIZED (
        SELECT work_spec_id AS spec, count(*) AS n
          FROM work_unit NOT INDEXED WHERE status < 3 AND failures > 0 GROUP BY work_spec_id)
    SELECT work_spec_id AS spec, retrying AS kept, coalesce(counted.n, 0) AS counted
      FROM work_unit_count
      JOIN work_spec ON work_spec.id = work_spec_id AND work_spec.deleted = 0
      LEFT JOIN counted ON counted.spec = work_spec_id
     WHERE retrying <> coalesce(counted.n, 0)
     ORDER BY work_spec_id";

const RECOUNT_RETRYING: &str = "
    UPDATE work_unit_count
       SET retrying = (SELECT count(*) FROM work_unit
                        WHERE work_unit.work_spec_id = work_unit_count.work_spec_id
                          AND status < 3 AND failures > 0)
     WHERE work_spec_id IN (SELECT id FROM work_spec WHERE deleted = 0)";

/// A unit that was cancelled runs until its grace is over, or has failed.
const CANCELLED_IN_VAIN: &str = "
    SELECT work_unit_id AS unit, status
      FROM cancellation JOIN work_unit ON work_unit.id = work_unit_id
     WHERE status NOT IN (3, 5)";

const NO_RATE: &str = "
    SELECT id AS spec FROM work_spec JOIN work_unit_count ON work_spec_id = id
     WHERE max_rate IS NULL AND rate_full_us IS NOT NULL";

const NO_HALT: &str = "
    SELECT id AS spec FROM work_spec JOIN work_unit_count ON work_spec_id = id
     WHERE halt_failures IS NULL AND halt_rate IS NULL
       AND (failed_in_a_row > 0 OR recent_attempts > 0 OR recent_finished > 0 OR recent_failed > 0)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_invariant_can_be_looked_at_from_its_first_schema_on() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("the migrations")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        let connection = Connection::open_in_memory().expect("a database");
        define_functions(&connection).expect("functions");
        for (schema, file) in (1..).zip(files) {
            let migration = std::fs::read_to_string(file).expect("a migration");
            connection.execute_batch(&migration).expect("it applies");
            for invariant in INVARIANTS
                .iter()
                .filter(|invariant| invariant.since <= schema)
            {
                if let Err(error) = connection.prepare(invariant.sql) {
                    panic!("schema {schema}: {}: {error}", invariant.sentence);
                }
            }
        }
    }
}
