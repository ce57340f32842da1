//! Opening a database: what it must be, and how SQLite is set up.

use super::SqliteStore;
use super::checkpoint::Checkpointer;
use super::database_file::{DatabaseFile, Presence};
use super::owner_lock::OwnerLock;
use super::rescue::{gone, rescue};
use super::specs::WorkSpecs;
use super::statement::{STATEMENT_CACHE_CAPACITY, Statements};
use super::transaction::Batch;
use crate::clock::Timestamp;
use crate::coordinate::StorageError;
use crate::coordinate::storage::{Access, Storage};
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The migrations, in order. One that has been released is never changed.
const MIGRATIONS: &[M<'_>] = &[
    M::up(include_str!("../../migrations/0001_initial.sql")),
    M::up(include_str!("../../migrations/0002_name_order.sql")),
    M::up(include_str!("../../migrations/0003_waiting_since.sql")),
    M::up(include_str!("../../migrations/0004_archive.sql")),
    M::up(include_str!("../../migrations/0005_output_slices.sql")),
    M::up(include_str!("../../migrations/0006_lost_attempts.sql")),
    M::up(include_str!(
        "../../migrations/0007_outputs_and_numbers.sql"
    )),
];

/// Marks a file as ours: "coor".
const APPLICATION_ID: i32 = 0x636f_6f72;

/// How long SQLite waits for another program that has the file locked: at the start, at the end, and in threads of
/// their own. The loop never waits; see `Storage::stop_waiting`.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages that the writing connection keeps in memory, in KiB: the index of names of two million units, of
/// which each unit with a random name needs another page. A quarter of it costs a seventh of their rate.
const CACHE_KIB: i64 = 64 * 1024;

/// The same for each connection that only reads.
const READER_CACHE_KIB: i64 = 2 * 1024;

/// Connections that only read.
const READERS: u32 = 2;

/// How much of what was written is sure to survive a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// All that was answered.
    #[default]
    Full,
    /// All but the last moments. The file stays whole.
    Normal,
    /// The file may be destroyed.
    Off,
}

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much of what was written is sure to survive a power cut.
    pub synchronous: Synchronous,
    /// How long leases and workers whose time ran out while nobody watched live on.
    pub lease_grace: Duration,
    /// Bytes of the write-ahead log beyond which nothing is written. It gets so large only while another
    /// program reads in a transaction that does not end, for until then the log can't begin anew.
    pub log_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Full,
            lease_grace: Duration::from_secs(30),
            log_bytes_max: 8 << 30,
        }
    }
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file, or the one beside it that marks its owner, can't be made or opened.
    #[error("can't open database {path}: {reason}; choose another place with --db")]
    CannotOpen {
        /// The database.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Another daemon has it open.
    #[error(
        "database {path} is in use by another coordinated{owner}: stop that one, or choose another file with --db"
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// The process, if it is known.
        owner: String,
    },
    /// No database may be there, or none that is used there.
    #[error("can't use database {path}: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// A log has what was written to a database that is not there.
    #[error(
        "there is a log, {log}, without its database ({path} is missing or empty): if that was moved or deleted, bring \
         it back; for a new database, move that log away first"
    )]
    LogWithoutDatabase {
        /// Where the database would be.
        path: PathBuf,
        /// Its log.
        log: PathBuf,
    },
    /// The file is something else.
    #[error("{path} is no coordinated database ({reason}): choose another file with --db")]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// A newer program has written it.
    #[error(
        "{path} has schema {found}, this program knows up to {known}: upgrade coordinated, or choose another file with --db"
    )]
    SchemaTooNew {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest schema version that this program knows.
        known: usize,
    },
    /// A migration failed; the file is as it was.
    #[error("can't bring database {path} up to date: {reason}")]
    Migration {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

impl SqliteStore {
    /// Opens the database at `path`, or makes it, and brings its schema up to date. `:memory:` is one
    /// that is forgotten at the end.
    ///
    /// # Errors
    /// See [`OpenError`]. The file is as it was then.
    pub fn open(path: &Path, options: &Options, now: Timestamp) -> Result<Self, OpenError> {
        let cannot_open = |error: rusqlite::Error| OpenError::CannotOpen {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let file = if path == Path::new(":memory:") {
            None
        } else {
            let file = DatabaseFile::at(path)?;
            file.refuse_log_without_database()?;
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

    /// Ends the use of the database after a write or sync failed. The write-ahead log stays as it is: it
    /// has what the file may lack.
    pub fn abandon(self) {
        drop(self.readers);
        drop(self.checkpointer);
        let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        if let Err(error) = self
            .statements
            .connection()
            .set_db_config(no_checkpoint, true)
        {
            tracing::warn!(%error, "the log may be moved into the file");
        }
    }

    /// Ends the use of the database. The write-ahead log is moved into the file, so that copying the
    /// file copies everything.
    ///
    /// # Errors
    /// If that was not possible; nothing is lost then, the log stays beside the file. `Gone` if the files are not in
    /// their places any more: it says where to find what was answered.
    pub fn close(self) -> Result<(), StorageError> {
        drop(self.readers);
        drop(self.checkpointer);
        if let Some((file, lock)) = &self.file
            && let Some(path) = self.presence.as_ref().and_then(Presence::first_gone)
        {
            let kept = rescue(self.statements.connection(), file, lock);
            return Err(StorageError::Gone(format!("{}; {kept}", gone(path))));
        }
        // Closing would do the same, but not say whether it could.
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let connection = self.statements.connection();
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let closed = connection.query_row(checkpoint, [], |row| row.get::<_, bool>("busy"));
        if let Ok(true) = closed {
            tracing::warn!(
                "another program reads the database, so its newest changes stay in the file beside \
                 it that ends in -wal: copy both, or neither"
            );
        }
        drop(self.statements);
        drop(self.file);
        closed.map(|_| ()).map_err(StorageError::from)
    }
}

/// Refuses files of other programs before anything is written to them.
fn check_is_ours(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let not_ours = |reason: String| OpenError::NotOurs {
        path: path.to_owned(),
        reason,
    };
    let found = application_id(connection).and_then(|id| {
        let tables = "SELECT count(*) FROM sqlite_schema";
        Ok((
            id,
            connection.query_row(tables, [], |row| row.get::<_, i64>(0))?,
        ))
    });
    match found {
        Ok((APPLICATION_ID, _) | (0, 0)) => Ok(()),
        Ok(_) => Err(not_ours("an SQLite database of another program".to_owned())),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            Err(not_ours("not an SQLite database".to_owned()))
        }
        Err(error) => Err(OpenError::CannotOpen {
            path: path.to_owned(),
            reason: error.to_string(),
        }),
    }
}

/// Opens a database as it is, for commands that are no daemon: to look at it, or to mend it. It must be
/// of a schema that this program knows. Gives that schema's version as well.
///
/// Reading needs a connection that may write: the last one that is closed moves the log that a crash
/// may have left into the file, and leaves one file behind, where one that may only read leaves its own
/// new files.
pub(super) fn open_existing(file: &DatabaseFile) -> Result<(Connection, usize), OpenError> {
    as_ours(file, file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE))
}

/// Opens a database to read it, as [`open_existing`], or, on a file system that is mounted read-only, as a file that
/// nobody changes: SQLite can't make there what it needs beside a database with a log.
///
/// # Errors
/// As there; on such a file system also if there is a log, which can't be read there.
pub(super) fn open_to_read(file: &DatabaseFile) -> Result<(Connection, usize), OpenError> {
    if !file.is_on_read_only_mount() {
        return open_existing(file);
    }
    let log = file.log();
    if log.metadata().is_ok_and(|log| log.len() > 0) {
        return Err(OpenError::Unusable {
            path: file.path().to_owned(),
            reason: format!(
                "it is on a file system that is mounted read-only, where its log {} can't be read: copy both files to \
                 another place, and use the copy",
                log.display()
            ),
        });
    }
    as_ours(file, file.connect_unchanging())
}

/// A connection to a database, if that is one of ours, and not one whose log may be elsewhere. Gives its schema's
/// version as well.
pub(super) fn as_ours(
    file: &DatabaseFile,
    connection: rusqlite::Result<Connection>,
) -> Result<(Connection, usize), OpenError> {
    let path = file.path();
    let cannot_open = |error: rusqlite::Error| OpenError::CannotOpen {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let connection = connection.map_err(cannot_open)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(cannot_open)?;
    check_is_ours(&connection, path)?;
    // A backup has no log, so it may have links.
    if journal_mode(&connection).map_err(cannot_open)? == "wal" {
        file.refuse_other_names()?;
    }
    let version = known_schema_version(&connection, path)?;
    if version == 0 {
        return Err(OpenError::NotOurs {
            path: path.to_owned(),
            reason: "an empty one".to_owned(),
        });
    }
    Ok((connection, version))
}

fn journal_mode(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))
}

fn set_up(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    hold_statements(connection)?;
    // Readers and the writer do not hold each other up, and a commit is one sync.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    set_synchronous(connection, options)?;
    // See migrations/0001_initial.sql: declared, not enforced.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    // What savepoints need for undoing is small and short-lived.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // See checkpoint.rs.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // To write it again would need room, and a start should not.
    if application_id(connection)? != APPLICATION_ID {
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    Ok(())
}

fn application_id(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("PRAGMA application_id", [], |row| row.get(0))
}

/// Sets how much a connection syncs.
pub(super) fn set_synchronous(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
        Synchronous::Off => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}

/// Lets a connection keep its statements prepared.
fn hold_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE_CAPACITY);
    // Otherwise SQLite prepares a statement anew whenever another LIMIT is bound, to plan for it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Brings the schema up to date, in one transaction.
fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    Migrations::from_slice(MIGRATIONS)
        .to_latest(connection)
        .map_err(|error| OpenError::Migration {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// The version of a file's schema, 0 for a new file. Refuses one that a newer program has written.
fn known_schema_version(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let found: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|error| OpenError::CannotOpen {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    let known = MIGRATIONS.len();
    match usize::try_from(found) {
        Ok(found) if found <= known => Ok(found),
        _ => Err(OpenError::SchemaTooNew {
            path: path.to_owned(),
            found,
            known,
        }),
    }
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
        // Connections to a file do not age. Without these two the pool has nothing to look after in the background,
        // and its threads end with it rather than half a minute later.
        .max_lifetime(None)
        .idle_timeout(None)
        .build(manager)
        .map_err(|error| OpenError::CannotOpen {
            path: file.path().to_owned(),
            reason: error.to_string(),
        })
}
