//! Translating SQLite's errors.

use crate::coordinate::StorageError;
use rusqlite::{Connection, ffi};

/// Recognizes a write beyond a quota or a file size limit as `Full`. SQLite reports only "no space left" as a full disk,
/// and these as I/O errors. In any case nothing of the transaction is stored.
pub(super) fn full_if_beyond_limit(connection: &Connection, error: StorageError) -> StorageError {
    let StorageError::Unknown(message) = error else {
        return error;
    };
    // SAFETY: the connection is open, and both calls only read its last error.
    let (code, errno) = unsafe {
        let handle = connection.handle();
        (
            ffi::sqlite3_extended_errcode(handle),
            ffi::sqlite3_system_errno(handle),
        )
    };
    if code == ffi::SQLITE_IOERR_WRITE && matches!(errno, libc::EDQUOT | libc::EFBIG) {
        StorageError::Full(format!("{message}: a quota or limit is reached"))
    } else {
        StorageError::Unknown(message)
    }
}

impl From<rusqlite::Error> for StorageError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let read_failed = matches!(
            error.sqlite_error().map(|error| error.extended_code),
            Some(ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ)
        );
        let message = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(message),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(format!(
                "another program has the database locked: {message}"
            )),
            Some(ErrorCode::SystemIoFailure) if !read_failed => Self::Unknown(message),
            _ => Self::Other(message),
        }
    }
}
