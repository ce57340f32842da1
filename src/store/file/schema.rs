//! The schema, and what marks a file as a coordinated database.

use super::error::OpenError;
use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};
use std::path::Path;

/// The migrations, in order. One that has been released is never changed.
const MIGRATIONS: &[M<'_>] = &[
    M::up(include_str!("../../../migrations/0001_initial.sql")),
    M::up(include_str!("../../../migrations/0002_name_order.sql")),
    M::up(include_str!("../../../migrations/0003_waiting_since.sql")),
    M::up(include_str!("../../../migrations/0004_archive.sql")),
    M::up(include_str!("../../../migrations/0005_output_slices.sql")),
    M::up(include_str!("../../../migrations/0006_lost_attempts.sql")),
    M::up(include_str!(
        "../../../migrations/0007_outputs_and_numbers.sql"
    )),
    M::up(include_str!("../../../migrations/0008_attempt_ids.sql")),
    M::up(include_str!("../../../migrations/0009_retries.sql")),
    M::up(include_str!("../../../migrations/0010_paused_reason.sql")),
    M::up(include_str!("../../../migrations/0011_schedules.sql")),
    M::up(include_str!("../../../migrations/0012_cancel.sql")),
    M::up(include_str!(
        "../../../migrations/0013_order_and_groups.sql"
    )),
    M::up(include_str!("../../../migrations/0014_rates.sql")),
    M::up(include_str!(
        "../../../migrations/0015_inactive_workers.sql"
    )),
    M::up(include_str!("../../../migrations/0016_tokens.sql")),
    M::up(include_str!("../../../migrations/0017_uploads.sql")),
    M::up(include_str!("../../../migrations/0018_waiting_time.sql")),
    M::up(include_str!("../../../migrations/0019_history.sql")),
];

/// Marks a file as ours: "coor".
const APPLICATION_ID: i32 = 0x636f_6f72;

/// Refuses files of other programs, before anything is written to them.
pub(crate) fn check_is_ours(connection: &Connection, path: &Path) -> Result<(), OpenError> {
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

/// The version of a file's schema, 0 for a new file. Refuses versions that this program does not know.
pub(crate) fn known_schema_version(
    connection: &Connection,
    path: &Path,
) -> Result<usize, OpenError> {
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

/// Brings the schema up to date, in one transaction.
pub(crate) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    Migrations::from_slice(MIGRATIONS)
        .to_latest(connection)
        .map_err(|error| OpenError::Migration {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// Marks a file as ours, unless it is marked already: writing needs space on the disk, and a start should not.
///
/// # Errors
/// If it can't be written.
pub(crate) fn mark_as_ours(connection: &Connection) -> rusqlite::Result<()> {
    match application_id(connection)? {
        APPLICATION_ID => Ok(()),
        _ => connection.pragma_update(None, "application_id", APPLICATION_ID),
    }
}

fn application_id(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("PRAGMA application_id", [], |row| row.get(0))
}
