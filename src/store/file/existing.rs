//! Opening an existing database, for commands other than the daemon.

use super::database_file::DatabaseFile;
use super::error::OpenError;
use super::schema::{check_is_ours, known_schema_version};
use rusqlite::{Connection, OpenFlags};
use std::time::Duration;

/// How long SQLite waits for another program that has the file locked: at the start, at the end, and on other threads.
/// The event loop never waits; see `Storage::stop_waiting`.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a database as it is, without migrating it, to look at it or to repair it. Gives its schema version as well,
/// which this program must know.
///
/// Reading needs a connection that may write: the last one to close moves a WAL that a crash may have left into the
/// file, and leaves a single file. One that may only read would leave files that it made.
pub(crate) fn open_existing(file: &DatabaseFile) -> Result<(Connection, usize), OpenError> {
    as_ours(file, file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE))
}

/// Opens a database to read it, as [`open_existing`], or, on a file system that is mounted read-only, as a file that
/// nobody changes: SQLite can't make there the files that it needs beside a database in WAL mode.
///
/// # Errors
/// As there; on such a file system also if there is a WAL, which can't be read there.
pub(crate) fn open_to_read(file: &DatabaseFile) -> Result<(Connection, usize), OpenError> {
    if !file.is_on_read_only_mount() {
        return open_existing(file);
    }
    let wal = file.wal();
    if wal.metadata().is_ok_and(|wal| wal.len() > 0) {
        return Err(OpenError::Unusable {
            path: file.path().to_owned(),
            reason: format!(
                "it is on a file system that is mounted read-only, where its WAL {} can't be read: copy both files to \
                 another place, and use the copy",
                wal.display()
            ),
        });
    }
    as_ours(file, file.connect_unchanging())
}

/// A connection to a database, if it is one of ours and its WAL can't be elsewhere. Gives its schema version as well.
pub(crate) fn as_ours(
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
    // A backup has no WAL, so it may have hard links.
    if journal_mode(&connection).map_err(cannot_open)? == "wal" {
        file.refuse_other_names()?;
    }
    let version = known_schema_version(&connection, path)?;
    if version == 0 {
        return Err(OpenError::NotOurs {
            path: path.to_owned(),
            reason: "an empty SQLite database".to_owned(),
        });
    }
    Ok((connection, version))
}

fn journal_mode(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))
}
