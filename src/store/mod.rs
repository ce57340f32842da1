//! The SQLite engine: one file, one connection that writes, and the SQL of every operation.
//!
//! It knows no protocol and makes no decisions: it stores and finds what [`crate::coordinate`] tells it. The schema is in
//! `migrations/`, and only there. `file/` has what concerns database files rather than operations.

mod all_statements;
mod archive;
mod attempts;
mod audit;
mod cached_specs;
mod cancellations;
mod checkpoint;
mod counts;
mod error;
mod file;
mod groups;
mod history;
mod lists;
mod locks;
mod open;
mod options;
mod outputs;
mod queue;
mod row;
mod spec_columns;
mod specs;
mod statement;
mod times;
mod tokens;
mod transaction;
mod units;
mod uploads;
mod workers;

pub use all_statements::all_statements;
pub use file::{
    BackupSchedule, BackupStatus, Compaction, FileError, LIST_TABLES, OpenError, Queries,
    QueryError, Rows, ScheduledBackups, Stage, Watch, all_invariants, backup, check,
    is_whole_statement, restore,
};
pub use lists::Reader;
pub use options::{Options, Synchronous};
pub use rusqlite::types::ValueRef;

use crate::clock::Timestamp;
use crate::coordinate::StorageError;
use cached_specs::WorkSpecs;
use checkpoint::Checkpointer;
use file::{DatabaseFile, OwnerLock, Presence, gone};
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use statement::Statements;
use transaction::Batch;

/// An open database.
///
/// This file and those that implement the `Storage` traits for this type use each other, the only circle of files in
/// `store`: specs.rs, counts.rs, transaction.rs and lists.rs define parts of the store and implement traits for the whole of it.
/// Everything that can do without the whole takes the part it needs, such as `Statements`.
pub struct SqliteStore {
    statements: Statements,
    /// Connections for reads that would take too long in the event loop; none for a database in memory.
    readers: Option<Pool<SqliteConnectionManager>>,
    /// Moves the WAL into the file; none for a database in memory.
    checkpointer: Option<Checkpointer>,
    batch: Batch,
    /// The work specs with their meta and counts, kept in memory for the scheduler. Loaded again when another program has
    /// written to the file.
    specs: WorkSpecs,
    /// False if there are no slices of outputs in the file.
    has_output_slices: bool,
    /// False if there are no cancellations in the file.
    has_cancellations: bool,
    /// See [`crate::coordinate::storage::Storage::due`].
    due: Option<Timestamp>,
    /// Ids are assigned by the store, not by SQLite, which would reuse the id of a deleted row: a late report about the
    /// deleted row would then be taken for one about the new row. Those of attempts are not reused after a restart either:
    /// see `attempt_floor` in `migrations/`.
    next_unit_id: i64,
    next_attempt_id: i64,
    /// The database's path, and the lock on it, which must be released last; none for a database in memory.
    file: Option<(DatabaseFile, OwnerLock)>,
    /// Tells whether the files are still in place; none for a database in memory.
    presence: Option<Presence>,
}

impl SqliteStore {
    fn note_due(&mut self, at: Timestamp) {
        if self.due.is_none_or(|due| at < due) {
            self.due = Some(at);
        }
    }

    /// Checks, several times a second at most, that the files of the database are where they were when it was opened.
    ///
    /// # Errors
    /// `Gone` if one of them is not.
    fn check_files(&mut self) -> Result<(), StorageError> {
        let files = self.presence.as_mut();
        match files.and_then(Presence::first_gone_now_and_then) {
            None => Ok(()),
            Some(path) => Err(StorageError::Gone(gone(path))),
        }
    }
}
