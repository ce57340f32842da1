//! The SQLite engine: one file, one connection that writes, and the SQL of every operation.
//!
//! Knows no protocol and decides nothing: it stores and finds what [`crate::coordinate`] tells it.
//! The schema is in `migrations/`, and only there.

mod archive;
mod attempts;
mod backup;
mod cbor_fault;
pub mod check;
mod checkpoint;
mod compact;
mod database_file;
mod invariants;
mod lists;
mod locks;
mod new_file;
mod open;
mod outputs;
mod owner_lock;
mod queries;
mod queue;
mod rescue;
mod row;
mod scheduled_backup;
mod specs;
mod statement;
mod times;
mod transaction;
mod units;
mod workers;

pub use backup::{backup, restore};
pub use compact::Compaction;
pub use invariants::all_invariants;
pub use lists::Reader;
pub use new_file::{FileError, Stage, Watch};
pub use open::{OpenError, Options, Synchronous};
pub use queries::{LIST_TABLES, Queries, QueryError, Rows, is_whole_statement};
pub use rusqlite::types::ValueRef;
pub use scheduled_backup::{BackupSchedule, ScheduledBackups};
pub use statement::all_statements;

use crate::clock::Timestamp;
use crate::coordinate::StorageError;
use checkpoint::Checkpointer;
use database_file::{DatabaseFile, Presence};
use owner_lock::OwnerLock;
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, ffi};
use specs::WorkSpecs;
use statement::Statements;
use transaction::Batch;

/// An open database.
pub struct SqliteStore {
    statements: Statements,
    /// Connections that only read, for what must not hold the loop up; none for a database in memory.
    readers: Option<Pool<SqliteConnectionManager>>,
    /// Moves the log into the file; none for a database in memory.
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
}

/// Tells a write beyond a quota or a limit on the size of files from one that failed: SQLite takes only the
/// system's "no space left" for a full disk. Either way nothing of the transaction stands.
fn full_if_beyond_limit(connection: &Connection, error: StorageError) -> StorageError {
    let StorageError::Unknown(message) = error else {
        return error;
    };
    // SAFETY: the connection is open, and both only read what it remembers of its last error.
    let (code, errno) = unsafe {
        let handle = connection.handle();
        (
            ffi::sqlite3_extended_errcode(handle),
            ffi::sqlite3_system_errno(handle),
        )
    };
    if code == ffi::SQLITE_IOERR_WRITE && matches!(errno, libc::EDQUOT | libc::EFBIG) {
        StorageError::Full(format!("{message}: a quota or limit is reached"))
    } else {
        StorageError::Unknown(message)
    }
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let read_failed = matches!(
            error.sqlite_error().map(|error| error.extended_code),
            Some(ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ)
        );
        let message = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(message),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(format!(
                "another program has the database locked: {message}"
            )),
            Some(ErrorCode::SystemIoFailure) if !read_failed => Self::Unknown(message),
            _ => Self::Other(message),
        }
    }
}
