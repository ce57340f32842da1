//! What is in the file, read beside the daemon: the parties' states, and whether all of it fits together.

use crate::model::{self, State, Status, Unit};
use crate::over_http::to_json;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use std::collections::BTreeMap;
use std::path::Path;
use test_support::{Client, Value};

const UNITS: &str = "
    SELECT unit.name, unit.status, unit.priority, unit.data, active.data, active.worker,
           coalesce(last.number, 0), active.expiration_us, unit.failures,
           unit.id IN (SELECT work_unit_id FROM cancellation WHERE reason = 'why')
      FROM work_unit AS unit
      JOIN work_spec ON work_spec.id = unit.work_spec_id AND work_spec.deleted = 0
      LEFT JOIN attempt AS active ON active.id = unit.active_attempt_id
      LEFT JOIN attempt AS last ON last.id = unit.last_attempt_id
     WHERE CAST(work_spec.name AS TEXT) = ?1";

/// A unit and its active attempt.
struct Found {
    key: String,
    unit: Unit,
    worker: Option<String>,
}

pub fn open(db: &Path) -> Connection {
    Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the file opens")
}

/// What the file says of each party.
pub fn states(file: &Connection, parties: usize) -> Vec<State> {
    let mut states: Vec<State> = (0..parties).map(|party| own_state(file, party)).collect();
    let shared = units(file, "shared", |_| 0);
    for found in &shared {
        let (party, index) = found.key[1..].split_once('-').expect("a key of a party");
        let (party, index): (usize, u64) = (party.parse().unwrap(), index.parse().unwrap());
        states[party].added = states[party].added.max(index + 1);
        if let Some(worker) = &found.worker {
            assert_eq!(found.unit.attempts, 1, "{} was handed out once", found.key);
            let party: usize = worker[2..].parse().unwrap();
            states[party]
                .shared
                .insert(found.key.clone(), found.unit.status);
        }
    }
    // None is missing among those that a party has added.
    let added: u64 = states.iter().map(|state| state.added).sum();
    assert_eq!(added, shared.len() as u64, "shared units that were added");
    // A finish and the unit that it makes are one change.
    let next = units(file, "next", |_| 0);
    let keys = |found: &[Found], status: Status| -> Vec<String> {
        let fit = found.iter().filter(|found| found.unit.status == status);
        fit.map(|found| found.key.clone()).collect()
    };
    assert_eq!(
        keys(&shared, model::FINISHED),
        keys(&next, model::AVAILABLE),
        "finished units, and those that they have made"
    );
    let is_scheduled: Option<bool> = one(
        file,
        "SELECT next_run_us IS NOT NULL FROM work_spec WHERE CAST(name AS TEXT) = ?1",
        "ticks",
    );
    assert_eq!(is_scheduled, Some(true), "the schedule goes on");
    states
}

fn own_state(file: &Connection, party: usize) -> State {
    let definition: Vec<u8> = one(
        file,
        "SELECT definition FROM work_spec WHERE deleted = 0 AND CAST(name AS TEXT) = ?1",
        &format!("own-{party}"),
    )
    .expect("the party's work spec");
    let version = number_in(&definition, "version");
    assert!(is_what_was_sent(
        &definition,
        &model::definition(party, version)
    ));
    let worker: Option<Vec<u8>> = one(
        file,
        "SELECT environment FROM worker WHERE CAST(name AS TEXT) = ?1",
        &format!("w-{party}"),
    );
    let labels: Option<String> = one(
        file,
        "SELECT group_concat(path_text) FROM lock WHERE CAST(owner AS TEXT) = ?1",
        &format!("w-{party}"),
    );
    let count_of_halting = |condition: &str| -> u64 {
        let sql = format!(
            "SELECT count(*) FROM work_spec JOIN work_unit ON work_unit.work_spec_id = work_spec.id
              WHERE CAST(work_spec.name AS TEXT) = 'halting-{party}' AND {condition}"
        );
        file.query_row(&sql, [], |row| row.get(0)).expect("a count")
    };
    let prefix = format!("lock-{party}/");
    State {
        version,
        units: units(file, &format!("own-{party}"), number_of)
            .into_iter()
            .map(|found| (found.key, found.unit))
            .collect(),
        locks: labels
            .iter()
            .flat_map(|labels| labels.split(','))
            .map(|path| path.strip_prefix(&prefix).expect("its own").to_owned())
            .collect(),
        worker: worker.map(|environment| number_of(&environment)),
        halting_added: count_of_halting("TRUE"),
        halting_failed: count_of_halting("status = 5"),
        is_halted: count_of_halting("paused_by = 'halt_after'") > 0,
        ..State::default()
    }
}

/// The units of a work spec, by key.
fn units(file: &Connection, spec: &str, number: fn(&[u8]) -> u64) -> Vec<Found> {
    let now_us: i64 = file
        .query_row("SELECT unixepoch() * 1000000", [], |row| row.get(0))
        .expect("the time");
    let mut statement = file.prepare(UNITS).expect("a statement");
    let found = |row: &Row<'_>| {
        let (status, cancelled): (Status, bool) = (row.get(1)?, row.get(9)?);
        let number_left = match cancelled && status == model::FAILED {
            true => number_of_cancelled,
            false => number,
        };
        let unit = Unit {
            status,
            priority: row.get::<_, f64>(2)? as i64,
            data: number(&row.get::<_, Vec<u8>>(3)?),
            left: row
                .get::<_, Option<Vec<u8>>>(4)?
                .map(|data| number_left(&data)),
            attempts: row.get(6)?,
            failures: row.get(8)?,
            cancelled,
        };
        let key = text(row.get_ref(0)?).expect("a key");
        if unit.status == model::PENDING {
            let end: i64 = row.get(7)?;
            assert!(
                end > now_us + 3_600_000_000,
                "{key} has lost its long lease"
            );
        }
        let worker = text(row.get_ref(5)?);
        Ok(Found { key, unit, worker })
    };
    let rows = statement.query_map([spec], found).expect("units");
    let mut all: Vec<Found> = rows.map(|row| row.expect("a unit")).collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

/// Checks the file as SQLite sees it, and the kept counts against a recount.
pub fn check(file: &Connection, client: &mut Client) {
    let problems: String = file
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("a check");
    assert_eq!(problems, "ok");
    let mut statement = file.prepare("PRAGMA foreign_key_check").expect("a check");
    assert!(!statement.exists([]).expect("a check"), "a foreign key");
    // Units with a schedule may be made between the two looks.
    let without_schedule = |spec: &String| spec != "ticks";
    for spec in client.spec_names().into_iter().filter(without_schedule) {
        let mut counted = BTreeMap::new();
        for found in units(file, &spec, |_| 0) {
            // Over the wire, delayed ones count as available.
            let status = match found.unit.status {
                model::DELAYED => model::AVAILABLE,
                status => status,
            };
            *counted.entry(u64::from(status)).or_insert(0) += 1;
        }
        for (status, archived) in archived(file, &spec) {
            *counted.entry(status).or_insert(0) += archived;
        }
        assert_eq!(client.counts(&spec), counted, "the counts of {spec}");
    }
    let wrong: u64 = file
        .query_row(
            "SELECT count(*) FROM work_unit_count AS kept
              WHERE (available, delayed, pending, finished, failed) IS NOT
                    (SELECT count(*) FILTER (WHERE status = 1), count(*) FILTER (WHERE status = 2),
                            count(*) FILTER (WHERE status = 3), count(*) FILTER (WHERE status = 4),
                            count(*) FILTER (WHERE status = 5)
                       FROM work_unit WHERE work_spec_id = kept.work_spec_id)",
            [],
            |row| row.get(0),
        )
        .expect("a recount");
    assert_eq!(wrong, 0, "work specs whose counts in the file are wrong");
    check_groups(file);
    check_rate(file);
    check_schedules(file);
}

/// The kept counts of groups are those of their units.
fn check_groups(file: &Connection) {
    let wrong: u64 = file
        .query_row(
            "SELECT count(*)
               FROM (SELECT work_spec_id, coalesce(group_name, '') AS name, sum(status = 1) AS available,
                            sum(status = 3) AS pending
                       FROM work_unit
                      WHERE in_turn = 1 AND (status = 1 OR status = 3)
                      GROUP BY 1, 2) AS counted
               FULL JOIN unit_group AS kept USING (work_spec_id, name)
              WHERE (kept.available, kept.pending) IS NOT (counted.available, counted.pending)",
            [],
            |row| row.get(0),
        )
        .expect("a recount");
    assert_eq!(wrong, 0, "groups whose counts in the file are wrong");
}

/// No more attempts at the shared units have begun than its rate allows, whatever the daemon went through: before each of
/// them, a bucket that holds a burst had a token.
fn check_rate(file: &Connection) {
    let mut statement = file
        .prepare(
            "SELECT start_us FROM attempt
               JOIN work_unit ON work_unit.id = work_unit_id
               JOIN work_spec ON work_spec.id = work_spec_id
              WHERE CAST(work_spec.name AS TEXT) = 'shared' AND attempt.worker IS NOT NULL
              ORDER BY start_us",
        )
        .expect("a statement");
    let starts = statement.query_map([], |row| row.get(0)).expect("attempts");
    let (rate, burst) = model::SHARED_RATE;
    let (mut full_at, token_us) = (0, 1_000_000 / i64::try_from(rate).expect("a rate"));
    for (number, start) in starts.enumerate() {
        let start: i64 = start.expect("a time");
        full_at = start.max(full_at) + token_us;
        let taken = (full_at - start).div_euclid(token_us);
        assert!(
            taken <= i64::try_from(burst).expect("a burst"),
            "attempt {number} at {start} has begun too early"
        );
    }
}

/// Of a work spec with a schedule, the last unit that was made is the one which is noted, and the next one comes later.
fn check_schedules(file: &Connection) {
    let mut statement = file
        .prepare(
            "SELECT (SELECT max(CAST(work_unit.name AS TEXT)) FROM work_unit
                      WHERE work_unit.work_spec_id = work_spec.id),
                    strftime('%Y-%m-%dT%H:%M:%SZ', last_run_us / 1000000, 'unixepoch'),
                    strftime('%Y-%m-%dT%H:%M:%SZ', next_run_us / 1000000, 'unixepoch')
               FROM work_spec
              WHERE next_run_us IS NOT NULL",
        )
        .expect("a statement");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    for row in rows.expect("work specs") {
        let (last_unit, last_run, next_run): (Option<String>, Option<String>, String) =
            row.expect("a work spec");
        assert_eq!(last_unit, last_run, "the last unit of a schedule");
        assert!(last_run < Some(next_run), "the next one is the last one");
    }
}

/// How many units of a work spec were archived, by status, where there are some.
pub fn archived(file: &Connection, spec: &str) -> BTreeMap<u64, u64> {
    let sql = "SELECT archived_finished, archived_failed FROM work_specs WHERE work_spec = ?1";
    let (finished, failed) = file
        .query_row(sql, [spec], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("the work spec");
    let mut archived = BTreeMap::from([(4, finished), (5, failed)]);
    archived.retain(|_, count| *count > 0);
    archived
}

fn one<T: rusqlite::types::FromSql>(file: &Connection, sql: &str, name: &str) -> Option<T> {
    let rows = file.prepare(sql).and_then(|mut statement| {
        let rows = statement.query_map([name], |row| row.get::<_, Option<T>>(0))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    });
    let mut rows = rows.expect("a row");
    assert!(rows.len() <= 1, "{name} is there once");
    rows.pop().flatten()
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
        }
        _ => None,
    }
}

fn number_in(encoded: &[u8], key: &str) -> u64 {
    let number = Value::decode_all(encoded).at(key).number();
    number.expect("a number") as u64
}

/// True if this is a value to the byte, or as HTTP sends it, with text instead of byte strings where they are text.
fn is_what_was_sent(encoded: &[u8], value: &Value) -> bool {
    encoded == value.encode() || to_json(&Value::decode_all(encoded)) == to_json(value)
}

/// The number that a dictionary was made from.
fn number_of(encoded: &[u8]) -> u64 {
    number_of_whole(encoded, model::data)
}

/// The same of a unit that has failed as cancelled.
fn number_of_cancelled(encoded: &[u8]) -> u64 {
    number_of_whole(encoded, model::data_of_cancelled)
}

fn number_of_whole(encoded: &[u8], data: fn(u64) -> Value) -> u64 {
    let number = number_in(encoded, "number");
    assert!(
        is_what_was_sent(encoded, &data(number)),
        "the data of {number} are not what was sent"
    );
    number
}
