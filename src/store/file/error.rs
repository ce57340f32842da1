//! Why a database can't be opened, and why a file can't be made from one.

use std::path::PathBuf;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file, or the lock file beside it, can't be created or opened.
    #[error("can't open database {path}: {reason}")]
    CannotOpen {
        /// The database.
        path: PathBuf,
        /// What the system reports.
        reason: String,
    },
    /// Another daemon has it open.
    #[error("database {path} is in use by another coordinated{owner}: stop that one")]
    InUse {
        /// The database.
        path: PathBuf,
        /// The process, if known.
        owner: String,
    },
    /// A database must not be there, or must not be used there.
    #[error("can't use database {path}: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// There is a WAL, but the database that it belongs to is missing.
    #[error(
        "there is a write-ahead log, {wal}, without its database ({path} is missing or empty): if the database was moved or \
         deleted, bring it back; for a new database, move the WAL away first"
    )]
    WalWithoutDatabase {
        /// Where the database would be.
        path: PathBuf,
        /// Its WAL.
        wal: PathBuf,
    },
    /// The file is something else.
    #[error("{path} is not a coordinated database ({reason})")]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
    /// A newer version of this program has written it.
    #[error(
        "{path} has schema version {found}, but this program supports versions up to {known}: upgrade coordinated"
    )]
    SchemaTooNew {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest schema version that this program supports.
        known: usize,
    },
    /// A migration failed. The file is unchanged.
    #[error("can't migrate database {path} to the current schema: {reason}")]
    Migration {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// Why a file could not be made or put in its place. What was there is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is a file already.
    #[error("{path} already exists: choose another path")]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },
    /// The new file would replace the one that it is made from.
    #[error("{path} is the file to be copied: choose another path")]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// A file can't be read as a coordinated database, or must not be touched.
    #[error("can't use {path}: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A program that has the old database open would damage the one that replaces it.
    #[error("another program has {path} open: stop it first")]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The new file is damaged, and so is the one that it was made from.
    #[error(
        "{path} is damaged, so no file was made from it: {fault}; `coordinated check` shows more"
    )]
    Damaged {
        /// The file that it was made from.
        path: PathBuf,
        /// The first fault found.
        fault: String,
    },
    /// Reading or writing failed.
    #[error("can't {what} {path}: {reason}")]
    Failed {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system reports.
        reason: String,
    },
    /// The watcher stopped it.
    #[error("interrupted; {path} is unchanged")]
    Stopped {
        /// Where the new file would have been.
        path: PathBuf,
    },
}

impl From<OpenError> for FileError {
    fn from(error: OpenError) -> Self {
        let (path, reason) = match error {
            OpenError::CannotOpen { path, reason } | OpenError::Migration { path, reason } => {
                (path, reason)
            }
            OpenError::InUse { path, owner } => (
                path,
                format!("it is in use by another coordinated{owner}: stop that one first"),
            ),
            OpenError::Unusable { path, reason } => (path, reason),
            OpenError::WalWithoutDatabase { path, wal } => (
                path,
                format!(
                    "it is missing or empty, but its write-ahead log {} exists: bring the database back, or move the WAL away",
                    wal.display()
                ),
            ),
            OpenError::NotOurs { path, reason } => {
                (path, format!("it is not a coordinated database ({reason})"))
            }
            OpenError::SchemaTooNew { path, found, known } => (
                path,
                format!(
                    "it has schema version {found}, but this program supports versions up to {known}: upgrade coordinated"
                ),
            ),
        };
        Self::Unusable { path, reason }
    }
}
