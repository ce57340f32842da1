//! Returning free pages to the file system.

use super::database_file::DatabaseFile;
use super::error::FileError;
use super::existing::open_existing;
use super::new_file::{FileAccess, NewFile, Stage, Watch};
use super::owner_lock::OwnerLock;
use rusqlite::{Connection, named_params};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Instructions of SQLite's virtual machine between two reports of progress: a few milliseconds.
const OPS_BETWEEN_LOOKS: i32 = 100_000;

/// A database that no other process owns, ready to be rewritten without its free pages.
///
/// The new file is made beside the old one and replaces it at the end. So if the process is killed, one of the two is
/// complete, and the old one's WAL does not grow to the size of the database, as it does when SQLite vacuums in place.
pub struct Compaction {
    db: PathBuf,
    file: DatabaseFile,
    connection: Connection,
    lock: OwnerLock,
    /// The file's size, in bytes.
    pub bytes: u64,
    /// How much of that is in free pages.
    pub free_bytes: u64,
}

impl Compaction {
    /// Locks the database, and measures it.
    ///
    /// # Errors
    /// If a daemon owns it, or it is not a coordinated database.
    pub fn begin(db: &Path) -> Result<Self, FileError> {
        let file = DatabaseFile::existing(db)?;
        let lock = OwnerLock::take(&file)?;
        let (connection, _) = open_existing(&file)?;
        let pragma = |sql| {
            let value = connection.query_row(sql, [], |row| row.get::<_, u64>(0));
            value.map_err(|error| FileError::Unusable {
                path: db.to_owned(),
                reason: error.to_string(),
            })
        };
        let page_bytes = pragma("PRAGMA page_size")?;
        let bytes = pragma("PRAGMA page_count")? * page_bytes;
        let free_bytes = pragma("PRAGMA freelist_count")? * page_bytes;
        Ok(Self {
            db: db.to_owned(),
            file,
            connection,
            lock,
            bytes,
            free_bytes,
        })
    }

    /// How much free space it needs beside the database, in bytes: for a moment both files exist.
    #[must_use]
    pub fn bytes_needed(&self) -> u64 {
        self.bytes - self.free_bytes
    }

    /// Rewrites the database. Gives its new size in bytes.
    ///
    /// # Errors
    /// If another program has it open, or the new file can't be written or is damaged. The database is unchanged then.
    pub fn run(self, watch: &Watch) -> Result<u64, FileError> {
        let total = self.bytes_needed();
        let Self {
            db,
            file,
            connection,
            lock,
            ..
        } = self;
        let new = NewFile::begin(file, true, Some(lock))?;
        let failed = |error| new.failed("rewrite", &error);
        let temp = new.temp_path().to_owned();
        let Some(target) = temp.to_str() else {
            return Err(FileError::Unusable {
                path: db,
                reason: "its path is not UTF-8".to_owned(),
            });
        };
        // Synced once at the end.
        connection
            .pragma_update(None, "synchronous", "OFF")
            .map_err(failed)?;
        let looking = Arc::clone(watch);
        let written_to = temp.clone();
        let look = move || {
            let bytes = written_to.metadata().map_or(0, |metadata| metadata.len());
            looking(Stage::Writing { bytes, total }).is_break()
        };
        connection
            .progress_handler(OPS_BETWEEN_LOOKS, Some(look))
            .map_err(failed)?;
        let version = || {
            let version = connection.query_row("PRAGMA data_version", [], |row| row.get(0));
            version.map_err(failed)
        };
        let before: i64 = version()?;
        connection
            .execute("VACUUM INTO :target", named_params! {":target": target})
            .map_err(failed)?;
        new.verify(&db, watch)?;
        if version()? != before {
            return Err(FileError::Unusable {
                path: db,
                reason: "another program has changed it meanwhile: stop that first".to_owned(),
            });
        }
        drop(connection);
        new.put(FileAccess::AsBefore)
    }
}
