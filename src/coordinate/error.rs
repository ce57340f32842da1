//! What can go wrong in an operation, by who can do something about it: the caller, or the operator.

use super::{AttemptId, Name};

/// Why an operation did nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such work spec.
    #[error("no such work spec {0}")]
    NoSuchWorkSpec(Name),
    /// There is no such work unit.
    #[error("no work unit {name} in work spec {work_spec}")]
    NoSuchWorkUnit {
        /// The work spec in which it was looked for.
        work_spec: Name,
        /// The name that was looked for.
        name: Name,
    },
    /// There is no such attempt at the unit.
    #[error("no attempt {} at this work unit", .0.0)]
    NoSuchAttempt(AttemptId),
    /// There is no such worker.
    #[error("no such worker {0}")]
    NoSuchWorker(Name),
    /// The request is well-formed, but the present state forbids it.
    #[error("{0}")]
    Refused(String),
    /// The caller may not do it.
    #[error("{0}")]
    Forbidden(String),
    /// It is not known who the caller is, so it may do nothing.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller gave a value that can't be used.
    #[error("{0}")]
    Invalid(String),
    /// The file could not be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Error {
    /// What programs know it by.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchWorkSpec(_) => "no_such_work_spec",
            Self::NoSuchWorkUnit { .. } => "no_such_work_unit",
            Self::NoSuchAttempt(_) => "no_such_attempt",
            Self::NoSuchWorker(_) => "no_such_worker",
            Self::Refused(_) => "refused",
            Self::Forbidden(_) => "forbidden",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::Invalid(_) => "invalid",
            Self::Storage(error) => error.code(),
        }
    }
}

/// Why the file could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// There is no room for what would have to be written. All of the batch is undone.
    #[error("the disk is full: {0}; make room, then send the request again")]
    Full(String),
    /// Another program keeps us from writing: it holds a lock on the file, or reads in a transaction that does not
    /// end.
    #[error("{0}; send the request again")]
    Busy(String),
    /// A write or sync failed, so what is on the disk is not known.
    #[error("the outcome is not known, since writing failed: {0}")]
    Unknown(String),
    /// A file of the database is not in its place any more, so nothing is written.
    #[error("{0}")]
    Gone(String),
    /// Anything else, which leaves the file as it was.
    #[error("database error: {0}")]
    Other(String),
}

impl StorageError {
    /// What programs know it by.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full(_) => "disk_full",
            Self::Busy(_) => "busy",
            Self::Unknown(_) => "outcome_unknown",
            Self::Gone(_) => "file_gone",
            Self::Other(_) => "database_error",
        }
    }
}

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
