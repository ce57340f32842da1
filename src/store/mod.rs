//! The SQLite engine: one file, one connection that writes, and the SQL of every operation.
//!
//! Knows no protocol and decides nothing: it stores and finds what [`crate::coordinate`] tells it.
//! The schema is in `migrations/`, and only there.

mod all_statements;
mod archive;
mod attempts;
mod cbor_json;
mod checkpoint;
mod error;
mod file;
mod lists;
mod locks;
mod open;
mod options;
mod outputs;
mod queue;
mod row;
mod specs;
mod statement;
mod times;
mod transaction;
mod units;
mod workers;

pub use all_statements::all_statements;
pub use file::{
    BackupSchedule, Compaction, FileError, LIST_TABLES, OpenError, Queries, QueryError, Rows,
    ScheduledBackups, Stage, Watch, all_invariants, backup, check, is_whole_statement, restore,
};
pub use lists::Reader;
pub use options::{Options, Synchronous};
pub use rusqlite::types::ValueRef;

use crate::clock::Timestamp;
use crate::coordinate::StorageError;
use checkpoint::Checkpointer;
use file::{DatabaseFile, OwnerLock, Presence, gone};
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use specs::WorkSpecs;
use statement::Statements;
use transaction::Batch;

/// An open database.
///
/// This file and those that implement the `Storage` traits for this type use each other, the only circle of files in
/// `store`: specs.rs, transaction.rs and lists.rs define parts of the store and implement traits for the whole of it.
/// Everything that can do without the whole takes the part it needs, such as `Statements`.
pub struct SqliteStore {
    statements: Statements,
    /// Connections that only read, for what must not hold the loop up; none for a database in memory.
    readers: Option<Pool<SqliteConnectionManager>>,
    /// Moves the WAL into the file; none for a database in memory.
    checkpointer: Option<Checkpointer>,
    batch: Batch,
    /// The specs, with their meta and counts, and those that can give by their chances. Kept in memory for the
    /// scheduler; compared with the file whenever somebody else has written to it.
    specs: WorkSpecs,
    /// False if the file holds no slices of outputs.
    has_output_slices: bool,
    /// See [`crate::coordinate::storage::Storage::due`].
    due: Option<Timestamp>,
    /// Ids are given out by the store, not by SQLite, which would use that of a deleted row again:
    /// a late report about the deleted one would then be taken for one about the new.
    next_unit_id: i64,
    next_attempt_id: i64,
    /// Where the database is, and the lock on it, which has to go last; none for a database in memory.
    file: Option<(DatabaseFile, OwnerLock)>,
    /// Tells whether the files are still in their places; none for a database in memory.
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
