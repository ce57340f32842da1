//! What to do about an error where a flag helps: the code below the command line knows no flags.

use crate::store::{FileError, OpenError};
use std::error::Error;

/// The end of the sentence that an error is.
pub(super) fn advice(error: &(dyn Error + 'static)) -> &'static str {
    let open_error = error.downcast_ref().map(|error| match error {
        OpenError::CannotOpen { .. } | OpenError::NotOurs { .. } => {
            "; choose another file with --db"
        }
        OpenError::InUse { .. } | OpenError::SchemaTooNew { .. } => {
            ", or choose another file with --db"
        }
        OpenError::Unusable { .. }
        | OpenError::WalWithoutDatabase { .. }
        | OpenError::Migration { .. } => "",
    });
    let file_error = error.downcast_ref().map(|error| match error {
        FileError::Exists { .. } => ", or overwrite it with --force",
        _ => "",
    });
    open_error.or(file_error).unwrap_or("")
}
