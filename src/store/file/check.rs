//! Checking a database: the file itself, the kept counts, and the invariants of units and attempts. And repairing what
//! can be repaired without guessing.

use super::database_file::DatabaseFile;
use super::error::FileError;
use super::existing::{open_existing, open_to_read};
use super::invariants::{INVARIANTS, Invariant, KEPT_COUNTS, STORED_CBOR, define_functions};
use super::owner_lock::OwnerLock;
use crate::coordinate::Name;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, named_params};
use std::path::Path;

/// Examples that are reported for each kind of fault.
const EXAMPLES_MAX: usize = 10;

/// Faults of one kind.
#[derive(Debug)]
pub struct Fault {
    /// What they concern.
    pub name: &'static str,
    /// Their number.
    pub total: u64,
    /// The first ones, a sentence each.
    pub examples: Vec<String>,
    /// True if [`repair`] can repair them.
    pub can_be_repaired: bool,
}

/// What a database holds, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Report {
    /// Work specs, those being removed included.
    pub work_specs: u64,
    /// Work units.
    pub work_units: u64,
    /// Attempts.
    pub attempts: u64,
    /// Empty if nothing is wrong.
    pub faults: Vec<Fault>,
}

/// Checks a database as of one moment. A daemon may run on it. `begin` is called with the name of each check before it
/// runs.
///
/// # Errors
/// If the file can't be read as a coordinated database.
pub fn check(db: &Path, begin: &dyn Fn(&str)) -> Result<Report, FileError> {
    let (connection, version) = open_to_read(&DatabaseFile::existing(db)?)?;
    let transaction = connection.unchecked_transaction();
    let report = transaction.and_then(|transaction| check_all(&transaction, version, begin));
    report.map_err(|error| unusable(db, &error))
}

/// Repairs what needs no guessing: kept counts, units that would not be found to be handed out or archived, and attempts
/// wrongly marked as held. A damaged file is left alone. Gives the report after the repair, and the names of what was
/// repaired.
///
/// # Errors
/// If a daemon owns the file, or it can't be read or written.
pub fn repair(db: &Path, begin: &dyn Fn(&str)) -> Result<(Report, Vec<&'static str>), FileError> {
    let file = DatabaseFile::existing(db)?;
    let _lock = OwnerLock::take(&file)?;
    let (mut connection, version) = open_existing(&file)?;
    let mut repair = || {
        let transaction = connection.transaction()?;
        let report = check_all(&transaction, version, begin)?;
        let has = |name| report.faults.iter().any(|fault| fault.name == name);
        let mut repaired = Vec::new();
        if report.is_damaged() {
            return Ok((report, repaired));
        }
        for invariant in known_by(version).filter(|invariant| has(invariant.name)) {
            if let Some(sql) = invariant.repair {
                transaction.execute(sql, [])?;
                if !repaired.contains(&invariant.name) {
                    repaired.push(invariant.name);
                }
            }
        }
        if repaired.is_empty() {
            return Ok((report, repaired));
        }
        let report = check_all(&transaction, version, begin)?;
        transaction.commit()?;
        Ok((report, repaired))
    };
    repair().map_err(|error| unusable(db, &error))
}

/// The invariants that can be checked in a file with this schema version.
fn known_by(version: usize) -> impl Iterator<Item = &'static Invariant> {
    INVARIANTS
        .iter()
        .filter(move |invariant| invariant.since <= version)
}

fn unusable(db: &Path, error: &rusqlite::Error) -> FileError {
    FileError::Unusable {
        path: db.to_owned(),
        reason: error.to_string(),
    }
}

/// The first fault of a new copy with this schema version: damage, wrong kept counts or stored CBOR that can't be decoded.
pub(super) fn first_fault(
    connection: &Connection,
    version: usize,
) -> rusqlite::Result<Option<String>> {
    define_functions(connection)?;
    let mut faults = vec![damage(connection)?];
    for invariant in known_by(version) {
        if matches!(invariant.name, KEPT_COUNTS | STORED_CBOR) {
            faults.push(violations(connection, invariant)?);
        }
    }
    Ok(faults.into_iter().flat_map(|fault| fault.examples).next())
}

/// True if an error says that the file is damaged, or not a database.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// The name of damage to the file itself, which can't be repaired.
const THE_FILE: &str = "the file";

fn check_all(
    connection: &Connection,
    version: usize,
    begin: &dyn Fn(&str),
) -> rusqlite::Result<Report> {
    define_functions(connection)?;
    begin(THE_FILE);
    let mut report = Report::default();
    report.add(THE_FILE, damage(connection))?;
    for invariant in known_by(version) {
        begin(invariant.name);
        report.add(invariant.name, violations(connection, invariant))?;
    }
    let count = |sql| connection.query_row(sql, [], |row| row.get(0));
    // In a damaged file this may fail; the damage has been reported by then.
    report.work_specs = count("SELECT count(*) FROM work_spec").unwrap_or(0);
    report.work_units = count("SELECT count(*) FROM work_unit").unwrap_or(0);
    report.attempts = count("SELECT count(*) FROM attempt").unwrap_or(0);
    if report.is_damaged() {
        for fault in &mut report.faults {
            fault.can_be_repaired = false;
        }
    }
    Ok(report)
}

impl Report {
    /// True if the file itself is damaged, so that nothing in it can be relied on.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.faults.iter().any(|fault| fault.name == THE_FILE)
    }

    /// Adds faults to those of the same name. A check that can't run because of damage is a fault too.
    fn add(&mut self, name: &'static str, found: rusqlite::Result<Fault>) -> rusqlite::Result<()> {
        let fault = match found {
            Ok(fault) if fault.total == 0 => return Ok(()),
            Err(error) if is_damage(&error) => Fault {
                name,
                total: 1,
                examples: vec![format!("can't be checked: {error}")],
                can_be_repaired: false,
            },
            found => found?,
        };
        match self.faults.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.total += fault.total;
                known.examples.extend(fault.examples);
                known.can_be_repaired &= fault.can_be_repaired;
            }
            None => self.faults.push(fault),
        }
        Ok(())
    }
}

/// What SQLite finds wrong with the file: pages, indexes and constraints.
fn damage(connection: &Connection) -> rusqlite::Result<Fault> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    let mut fault = Fault::none_of(THE_FILE);
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        if text != "ok" {
            // SQLite puts several faults of one tree into one text.
            fault.note(|| Ok(text.replace('\n', " ")))?;
        }
    }
    Ok(fault)
}

fn violations(connection: &Connection, invariant: &Invariant) -> rusqlite::Result<Fault> {
    let mut statement = connection.prepare(invariant.sql)?;
    let columns: Vec<String> = statement
        .column_names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut rows = statement.query([])?;
    let mut fault = Fault::none_of(invariant.name);
    fault.can_be_repaired = invariant.repair.is_some();
    while let Some(row) = rows.next()? {
        fault.note(|| {
            let mut sentence = invariant.sentence.to_owned();
            for (index, column) in columns.iter().enumerate() {
                let value = describe(connection, column, row.get_ref(index)?)?;
                sentence = sentence.replace(&format!("{{{column}}}"), &value);
            }
            Ok(sentence)
        })?;
    }
    Ok(fault)
}

impl Fault {
    fn none_of(name: &'static str) -> Self {
        Self {
            name,
            total: 0,
            examples: Vec::new(),
            can_be_repaired: false,
        }
    }

    fn note(&mut self, tell: impl FnOnce() -> rusqlite::Result<String>) -> rusqlite::Result<()> {
        self.total += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(tell()?);
        }
        Ok(())
    }
}

/// How a value of a column with this name is written in a sentence.
fn describe(
    connection: &Connection,
    column: &str,
    value: ValueRef<'_>,
) -> rusqlite::Result<String> {
    Ok(match (column, value) {
        (_, ValueRef::Null) => "none".to_owned(),
        ("unit", ValueRef::Integer(id)) => name_of_unit(connection, id)?,
        ("spec", ValueRef::Integer(id)) => name_of_spec(connection, id)?,
        ("status" | "attempt_status", ValueRef::Integer(number)) => match number {
            1 => "available",
            2 => "delayed",
            3 => "pending",
            4 => "finished",
            5 => "failed",
            6 => "expired",
            7 => "retryable",
            _ => return Ok(format!("in status {number}")),
        }
        .to_owned(),
        (_, ValueRef::Integer(number)) => number.to_string(),
        (_, ValueRef::Real(number)) => number.to_string(),
        (_, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
    })
}

fn name_of_unit(connection: &Connection, id: i64) -> rusqlite::Result<String> {
    let mut find =
        connection.prepare_cached("SELECT name, work_spec_id FROM work_unit WHERE id = :id")?;
    let found: Option<(Name, i64)> = find
        .query_row(named_params! {":id": id}, |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    Ok(match found {
        Some((name, spec)) => format!("{name} of {}", name_of_spec(connection, spec)?),
        None => format!("id {id}"),
    })
}

fn name_of_spec(connection: &Connection, id: i64) -> rusqlite::Result<String> {
    let mut find = connection.prepare_cached(
        "SELECT work_spec.name, deleted, namespace.name
           FROM work_spec LEFT JOIN namespace ON namespace.id = namespace_id
          WHERE work_spec.id = :id",
    )?;
    let found: Option<(Name, bool, Option<String>)> = find
        .query_row(named_params! {":id": id}, |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    Ok(match found {
        Some((name, is_deleted, namespace)) => {
            let deleted = if is_deleted { " (deleted)" } else { "" };
            let namespace = match namespace {
                Some(namespace) if !namespace.is_empty() => format!(" in namespace {namespace:?}"),
                _ => String::new(),
            };
            format!("{name}{namespace}{deleted}")
        }
        None => format!("id {id}"),
    })
}
