//! Opening and closing a database: what is checked, and how SQLite is set up.

use super::SqliteStore;
use super::cached_specs::WorkSpecs;
use super::checkpoint::Checkpointer;
use super::file::{
    BUSY_TIMEOUT, DatabaseFile, OpenError, OwnerLock, Presence, check_is_ours, gone,
    known_schema_version, mark_as_ours, migrate, rescue,
};
use super::options::{Options, set_synchronous};
use super::statement::{STATEMENT_CACHE_CAPACITY, Statements};
use super::transaction::Batch;
use crate::clock::Timestamp;
use crate::coordinate::StorageError;
use crate::coordinate::storage::{Access, Storage};
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// Cache of the writing connection in KiB: enough for the index of the names of two million units, in which each unit
/// with a random name needs another page. With a quarter of it, adding such units is a seventh slower.
const CACHE_KIB: i64 = 64 * 1024;

/// Cache of each reading connection in KiB.
const READER_CACHE_KIB: i64 = 2 * 1024;

/// Connections for reading.
const READERS: u32 = 2;

impl SqliteStore {
    /// Opens or creates the database at `path`, and migrates it to the current schema. `:memory:` is a database that is
    /// lost at the end.
    ///
    /// # Errors
    /// See [`OpenError`]. The file is unchanged then.
    pub fn open(path: &Path, options: &Options, now: Timestamp) -> Result<Self, OpenError> {
        let cannot_open = |error: rusqlite::Error| OpenError::CannotOpen {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let file = if path == Path::new(":memory:") {
            None
        } else {
            let file = DatabaseFile::at(path)?;
            file.refuse_wal_without_database()?;
            file.refuse_other_names()?;
            let lock = OwnerLock::take_or_make(&file)?;
            Some((file, lock))
        };
        let mut connection = match &file {
            None => Connection::open_in_memory(),
            Some((file, _)) => file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE),
        }
        .map_err(cannot_open)?;
        check_is_ours(&connection, path)?;
        // Before anything is written to it.
        known_schema_version(&connection, path)?;
        set_up(&connection, options).map_err(cannot_open)?;
        migrate(&mut connection, path)?;
        let (readers, checkpointer) = match &file {
            None => (None, None),
            Some((file, _)) => {
                let checkpointer = Checkpointer::start(file, options);
                (
                    Some(reader_pool(file)?),
                    Some(checkpointer.map_err(cannot_open)?),
                )
            }
        };
        let presence = file.as_ref().map(|(file, _)| Presence::of(file));
        let mut store = Self {
            statements: Statements::new(connection),
            readers,
            checkpointer,
            batch: Batch::default(),
            specs: WorkSpecs::default(),
            has_output_slices: false,
            has_cancellations: false,
            due: None,
            next_unit_id: 1,
            next_attempt_id: 1,
            file,
            presence,
        };
        store
            .operation(Access::Write, |store| {
                Ok(store.settle_times(options.lease_grace, now)?)
            })
            .and_then(|()| Ok(store.commit()?))
            .map_err(|error| OpenError::CannotOpen {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(store)
    }

    /// Closes the database after a write or sync failed. The WAL stays as it is: it has what the file may lack.
    pub fn abandon(self) {
        drop(self.readers);
        drop(self.checkpointer);
        let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = self
            .statements
            .connection()
            .set_db_config(no_checkpoint, true)
        {
            tracing::warn!(%error, "the WAL may be moved into the database");
        }
    }

    /// Closes the database. The WAL is moved into the file, so that copying the file copies everything.
    ///
    /// # Errors
    /// If the WAL can't be moved; nothing is lost then, it stays beside the file. `Gone` if the files are no longer
    /// in their places: it says where to find what was committed.
    pub fn close(self) -> Result<(), StorageError> {
        drop(self.readers);
        drop(self.checkpointer);
        if let Some((file, lock)) = &self.file
            && let Some(path) = self.presence.as_ref().and_then(Presence::first_gone)
        {
            let kept = rescue(self.statements.connection(), file, lock);
            return Err(StorageError::Gone(format!("{}; {kept}", gone(path))));
        }
        // Closing would do the same, but not report a failure.
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let connection = self.statements.connection();
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let closed = connection.query_row(checkpoint, [], |row| row.get::<_, bool>("busy"));
        if let Ok(true) = closed {
            tracing::warn!(
                "another program reads the database, so its newest changes stay in the WAL, the file beside it that ends in \
                 -wal: copy both files, or neither"
            );
        }
        drop(self.statements);
        drop(self.file);
        closed.map(|_| ()).map_err(StorageError::from)
    }
}

fn set_up(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    hold_statements(connection)?;
    // Readers and the writer do not block each other, and a commit is one sync.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    set_synchronous(connection, options)?;
    // See migrations/0001_initial.sql: declared, not enforced.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // Statement journals of savepoints are small and short-lived.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // See checkpoint.rs.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    mark_as_ours(connection)
}

/// Lets a connection keep its prepared statements.
fn hold_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_CAPACITY);
    // Otherwise SQLite prepares a statement again whenever a different LIMIT is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn reader_pool(file: &DatabaseFile) -> Result<Pool<SqliteConnectionManager>, OpenError> {
    let manager = SqliteConnectionManager::file(file.path())
        .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .with_init(|connection| {
            connection.busy_timeout(BUSY_TIMEOUT)?;
            hold_statements(connection)?;
            connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
            connection.pragma_update(None, "query_only", true)
        });
    Pool::builder()
        .max_size(READERS)
        .min_idle(Some(0))
        // Connections to a file do not age. With these two settings the pool has nothing to do in the background, so its
        // threads end with it rather than half a minute later.
        .max_lifetime(None)
        .idle_timeout(None)
        .build(manager)
        .map_err(|error| OpenError::CannotOpen {
            path: file.path().to_owned(),
            reason: error.to_string(),
        })
}
