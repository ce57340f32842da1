//! Making a database file beside its final path, and renaming it when it is complete.
//!
//! Backup, restore and compaction all end this way. A file at that path stays as it is until the new one has been
//! checked and synced, so a crash never leaves an incomplete file there.

use super::check;
use super::database_file::{DatabaseFile, connect, side_files};
use super::error::FileError;
use super::owner_lock::OwnerLock;
use crate::coordinate::StorageError;
use rusqlite::{ErrorCode, OpenFlags};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::{NamedTempFile, PersistError};

/// The progress of a long command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Writing the new file.
    Writing {
        /// Bytes written so far.
        bytes: u64,
        /// Bytes to write in total, as estimated.
        total: u64,
    },
    /// Reading and checking the new file.
    Checking,
}

/// Is called with the progress of a long command many times a second, and decides whether it continues.
pub type Watch = Arc<dyn Fn(Stage) -> ControlFlow<()> + Send + Sync>;

/// Who may use the new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileAccess {
    /// Only its owner.
    Private,
    /// The same users as the file that it replaces, no matter who runs the command.
    AsBefore,
}

/// The suffix of unfinished files.
pub(super) const PARTIAL: &str = ".partial";

/// A database file that is being made.
pub(super) struct NewFile {
    /// In the folder of `path`, with mode 0600; removed unless it is renamed to `path`.
    temp: NamedTempFile,
    /// The final path.
    path: PathBuf,
    overwrite: bool,
    /// Held if a file there may have to be replaced, so that no daemon uses it.
    lock: Option<OwnerLock>,
}

impl NewFile {
    /// Begins a file that will be at this place. With `lock`, files that SQLite left beside that place are removed at the
    /// end; without it, there must be none.
    ///
    /// # Errors
    /// If there is a file already and `overwrite` is not set, or the folder can't be written to.
    pub(super) fn begin(
        place: DatabaseFile,
        overwrite: bool,
        lock: Option<OwnerLock>,
    ) -> Result<Self, FileError> {
        let path = place.path().to_owned();
        if !overwrite && path.exists() {
            return Err(FileError::Exists { path });
        }
        if lock.is_none()
            && let Some(path) = side_files(&path).into_iter().find(|side| side.exists())
        {
            return Err(FileError::Exists { path });
        }
        let folder = folder_of(&path);
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push("-");
        let temp = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(PARTIAL)
            .tempfile_in(folder)
            .map_err(|error| failed("make a file in", folder, error))?;
        Ok(Self {
            temp,
            path,
            overwrite,
            lock,
        })
    }

    /// The path while it is unfinished.
    pub(super) fn temp_path(&self) -> &Path {
        self.temp.path()
    }

    /// The final path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs what has been written so far.
    pub(super) fn sync(&self) -> Result<(), FileError> {
        let synced = self.temp.as_file().sync_data();
        synced.map_err(|error| failed("write", self.temp.path(), error))
    }

    /// Reports progress to the watcher, and asks whether to continue.
    pub(super) fn ask(&self, watch: &Watch, stage: Stage) -> Result<(), FileError> {
        match watch(stage) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(FileError::Stopped {
                path: self.path.clone(),
            }),
        }
    }

    /// Turns an SQLite error from making this file into ours.
    pub(super) fn failed(&self, what: &'static str, error: &rusqlite::Error) -> FileError {
        if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
            return FileError::Stopped {
                path: self.path.clone(),
            };
        }
        failed(what, &self.path, error)
    }

    /// Checks that the new file is undamaged, that its kept counts are right, and that stored CBOR can be decoded. If
    /// not, the error names `source`.
    pub(super) fn verify(&self, source: &Path, watch: &Watch) -> Result<(), FileError> {
        self.ask(watch, Stage::Checking)?;
        let fault = self.first_fault(watch);
        let fault = match fault {
            Err(error) if check::is_damage(&error) => Some(error.to_string()),
            fault => fault.map_err(|error| self.failed("check the new file for", &error))?,
        };
        match fault {
            None => Ok(()),
            Some(fault) => Err(FileError::Damaged {
                path: source.to_owned(),
                fault,
            }),
        }
    }

    fn first_fault(&self, watch: &Watch) -> rusqlite::Result<Option<String>> {
        let connection = connect(self.temp.path(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // A copy is in WAL mode, as its source is. In this mode it is a single file, and reading it creates no others.
        connection.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        let watch = Arc::clone(watch);
        let handler = move || watch(Stage::Checking).is_break();
        connection.progress_handler(100_000, Some(handler))?;
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        check::first_fault(&connection, version)
    }

    /// Renames the file to its final path. Gives its size in bytes.
    pub(super) fn put(self, access: FileAccess) -> Result<u64, FileError> {
        let Self {
            temp,
            path,
            overwrite,
            lock,
        } = self;
        if lock.is_some() {
            make_way(&path)?;
        }
        if access == FileAccess::AsBefore && path.exists() {
            give_access(temp.as_file(), &path)
                .map_err(|error| failed("give the new file the owner and mode of", &path, error))?;
        }
        let size = temp.as_file().metadata().map(|metadata| metadata.len());
        let size = size.map_err(|error| failed("write", &path, error))?;
        let synced = temp.as_file().sync_all();
        synced.map_err(|error| failed("write", &path, error))?;
        let put = if overwrite {
            temp.persist(&path)
        } else {
            temp.persist_noclobber(&path)
        };
        put.map_err(|PersistError { error, .. }| match error.kind() {
            io::ErrorKind::AlreadyExists => FileError::Exists { path: path.clone() },
            _ => failed("write", &path, error),
        })?;
        let folder = folder_of(&path);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| failed("write folder", folder, error))?;
        Ok(size)
    }
}

/// Gives a file the owner and mode of the one at `path`.
fn give_access(file: &File, path: &Path) -> io::Result<()> {
    let (new, old) = (file.metadata()?, path.metadata()?);
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(old.permissions())
}

/// Prepares a place for another file: a WAL that stays there would be taken for the WAL of the new file.
///
/// The old database's WAL is moved into it first, so that it is complete if the new file does not get here. SQLite
/// allows that only if no other program has the database open.
fn make_way(path: &Path) -> Result<(), FileError> {
    if path.exists() {
        let mode = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).and_then(|old| {
            old.query_row("PRAGMA journal_mode = DELETE", [], |row| {
                row.get::<_, String>(0)
            })
        });
        match mode {
            Ok(mode) if mode == "wal" => {
                return Err(FileError::Open {
                    path: path.to_owned(),
                });
            }
            Ok(_) => {}
            // A damaged file has nothing to keep.
            Err(error) if check::is_damage(&error) => {}
            Err(error) => match StorageError::from(error) {
                StorageError::Busy(_) => {
                    return Err(FileError::Open {
                        path: path.to_owned(),
                    });
                }
                error => return Err(failed("replace", path, error)),
            },
        }
    }
    for side in side_files(path) {
        match std::fs::remove_file(&side) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &side, error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn failed(what: &'static str, path: &Path, error: impl ToString) -> FileError {
    FileError::Failed {
        what,
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
