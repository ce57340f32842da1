//! Closing a database whose files were moved, deleted or replaced while the daemon had them open.
//!
//! The daemon still has the files open, whatever happened to their names. Before the process ends, what was committed
//! is put where it can be found, and the WAL that is left is emptied: it would be taken for the WAL of the next database
//! of this name.

use super::backup::copy_pages;
use super::database_file::DatabaseFile;
use super::error::FileError;
use super::new_file::{FileAccess, NewFile, Watch};
use super::owner_lock::{OwnerLock, Place};
use rusqlite::Connection;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Puts what was committed where it can be found. Gives a sentence that says where that is.
pub(crate) fn rescue(connection: &Connection, file: &DatabaseFile, lock: &OwnerLock) -> String {
    match lock.place() {
        Place::Known(path) => {
            let path = path.display();
            match empty_wal(connection) {
                Ok(()) => format!("everything that was committed is in {path}"),
                Err(reason) => format!("what was committed last may not be in {path} ({reason})"),
            }
        }
        Place::Unknown(inode) => match empty_wal(connection) {
            Ok(()) => {
                format!("everything that was committed is in the file with inode number {inode}")
            }
            Err(reason) => format!(
                "what was committed last may not be in the file with inode number {inode} ({reason})"
            ),
        },
        Place::Deleted => {
            let saved = save(connection, file);
            // Whether or not that worked, the WAL is of no use without its database.
            let emptied = empty_wal(connection);
            match (saved, emptied) {
                (Ok(path), Ok(())) => {
                    format!(
                        "everything that was committed was saved to {}",
                        path.display()
                    )
                }
                (Ok(path), Err(reason)) => format!(
                    "everything that was committed was saved to {}; remove {} ({reason})",
                    path.display(),
                    file.wal().display()
                ),
                (Err(error), _) => format!("its contents could not be saved: {error}"),
            }
        }
    }
}

/// Moves the WAL into the database, wherever that is, and empties it.
fn empty_wal(connection: &Connection) -> Result<(), String> {
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    match connection.query_row(checkpoint, [], |row| row.get::<_, bool>("busy")) {
        Ok(false) => Ok(()),
        Ok(true) => Err("another program reads it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Copies a database that no longer has a name to a new file in the same folder.
fn save(connection: &Connection, file: &DatabaseFile) -> Result<PathBuf, FileError> {
    let stamp = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let path = file.beside(&format!("-rescued-{}", stamp.replace(':', "")));
    let watch: Watch = Arc::new(|_| ControlFlow::Continue(()));
    let new = NewFile::begin(DatabaseFile::at(&path)?, false, None)?;
    copy_pages(connection, &new, &watch)?;
    new.put(FileAccess::Private)?;
    Ok(path)
}
