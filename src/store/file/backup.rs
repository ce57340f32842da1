//! Backing a database up, whether a daemon runs on it or not, and restoring it.

use super::database_file::{DatabaseFile, connect, side_files};
use super::error::FileError;
use super::existing::open_to_read;
use super::new_file::{FileAccess, NewFile, Stage, Watch};
use super::owner_lock::OwnerLock;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Pages that are copied between two calls of the watcher: a few milliseconds.
const PAGES_A_STEP: u16 = 1_000;

/// Steps after which what was copied is synced, 64 MiB: otherwise the daemon's own syncs would have to wait for
/// gigabytes to reach the disk.
const STEPS_BETWEEN_SYNCS: u32 = 16;

/// Copies the database `db` to a single new file, `dest`. A daemon may run on `db`: the copy shows one moment. Gives its
/// size in bytes.
///
/// # Errors
/// If `dest` exists and `overwrite` is not set, or belongs to a daemon, or is a link; if `db` can't be read or the copy
/// can't be written; if the copy is damaged.
pub fn backup(db: &Path, dest: &Path, overwrite: bool, watch: &Watch) -> Result<u64, FileError> {
    // If no file may be replaced, none needs to be locked.
    let new = DatabaseFile::to_replace(dest)?;
    let is_taken = dest.exists() || side_files(new.path()).iter().any(|side| side.exists());
    let lock = if overwrite && is_taken {
        refuse_same(db, dest)?;
        Some(OwnerLock::take(&new)?)
    } else {
        None
    };
    // A file that is created there from now on may belong to somebody else.
    let overwrite = lock.is_some();
    copy(
        db,
        NewFile::begin(new, overwrite, lock)?,
        FileAccess::Private,
        watch,
    )
}

/// Replaces the database `db`, which no daemon may own, with a copy of `from`, a backup or any other database of ours.
/// Gives its size in bytes.
///
/// # Errors
/// Those of [`backup`].
pub fn restore(from: &Path, db: &Path, overwrite: bool, watch: &Watch) -> Result<u64, FileError> {
    refuse_same(from, db)?;
    let new = DatabaseFile::to_replace(db)?;
    if !overwrite {
        new.refuse_wal_without_database()?;
    }
    let lock = OwnerLock::take(&new)?;
    copy(
        from,
        NewFile::begin(new, overwrite, Some(lock))?,
        FileAccess::AsBefore,
        watch,
    )
}

fn refuse_same(source: &Path, dest: &Path) -> Result<(), FileError> {
    match (source.metadata(), dest.metadata()) {
        (Ok(a), Ok(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino()) => Err(FileError::SameFile {
            path: dest.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Copies page by page, within one read transaction.
///
/// Without that transaction, SQLite restarts the copy whenever another process has written. With it, the copy shows
/// one moment, and nobody waits: writers append to the WAL. The part of the WAL that is older than the copy can be
/// moved into the file, but the WAL can't be reset before the copy ends. It grows by what is written meanwhile, so
/// the copy should be quick. `VACUUM INTO` would hold the WAL in the same way, but longer in a large file, since it
/// reads in the order of the tables and not in that of the disk.
fn copy(source: &Path, new: NewFile, access: FileAccess, watch: &Watch) -> Result<u64, FileError> {
    {
        let (from, _) = open_to_read(&DatabaseFile::existing(source)?)?;
        let unreadable = |error: rusqlite::Error| FileError::Unusable {
            path: source.to_owned(),
            reason: error.to_string(),
        };
        from.execute_batch("BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1")
            .map_err(unreadable)?;
        copy_pages(&from, &new, watch)?;
    }
    new.verify(source, watch)?;
    new.put(access)
}

pub(super) fn copy_pages(from: &Connection, new: &NewFile, watch: &Watch) -> Result<(), FileError> {
    let failed = |error| new.failed("copy to", &error);
    let mut to = connect(new.temp_path(), OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
    // An unfinished copy is thrown away, so it needs neither.
    to.pragma_update(None, "journal_mode", "OFF")
        .map_err(failed)?;
    to.pragma_update(None, "synchronous", "OFF")
        .map_err(failed)?;
    let page_bytes: u64 = from
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .map_err(failed)?;
    let backup = Backup::new(from, &mut to).map_err(failed)?;
    for step in 1.. {
        let result = backup.step(PAGES_A_STEP.into()).map_err(failed)?;
        let progress = backup.progress();
        let bytes = |pages: i32| u64::try_from(pages).unwrap_or(0) * page_bytes;
        let total = bytes(progress.pagecount);
        let stage = Stage::Writing {
            bytes: total - bytes(progress.remaining).min(total),
            total,
        };
        new.ask(watch, stage)?;
        match result {
            StepResult::Done => break,
            StepResult::More if step % STEPS_BETWEEN_SYNCS == 0 => new.sync()?,
            StepResult::More => {}
            // Nobody else has the new file open, and the read transaction has begun.
            _ => {
                return Err(FileError::Failed {
                    what: "copy to",
                    path: new.path().to_owned(),
                    reason: "another program has locked the new file".to_owned(),
                });
            }
        }
    }
    Ok(())
}
