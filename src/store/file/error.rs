//! Why a database can't be opened, and why a file can't be made from one.

use std::path::PathBuf;

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

/// Why a file could not be made or put in its place. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is something already.
    #[error("{path} exists already: choose another place, or overwrite it with --force")]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },
    /// The new file would replace the one that it is made from.
    #[error("{path} is the file to be copied itself: choose another place")]
    SameFile {
        /// The file.
        path: PathBuf,
    },
    /// A file can't be read as a database of ours, or may not be touched.
    #[error("can't use {path}: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A program that reads a database which goes away would harm the one that comes in its place.
    #[error("another program has {path} open: close it first")]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The new file is no good, and neither is the one that it is made from.
    #[error(
        "{path} is not in order, so no file was made from it: {fault}; `coordinated check` tells more"
    )]
    Damaged {
        /// The file that it was made from.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// Reading or writing failed.
    #[error("can't {what} {path}: {reason}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The watcher said so.
    #[error("stopped before the end; {path} is as it was before")]
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
                (path, format!("it is no coordinated database ({reason})"))
            }
            OpenError::SchemaTooNew { path, found, known } => (
                path,
                format!(
                    "it has schema {found}, this program knows up to {known}: upgrade coordinated"
                ),
            ),
        };
        Self::Unusable { path, reason }
    }
}
