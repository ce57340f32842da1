//! An extension for SQLite with the function `cbor_json(blob)`, as `coordinated sql` has it.

use coordinated_client::sqlite::define_cbor_json;
use rusqlite::{Connection, ffi};
use std::ffi::{c_char, c_int};

/// The entry point that SQLite calls when it loads the extension.
///
/// # Safety
/// The arguments must be those that SQLite gives to extensions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_extension_init(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *mut ffi::sqlite3_api_routines,
) -> c_int {
    let begin = |connection: Connection| define_cbor_json(&connection).map(|()| false);
    // SAFETY: they come from SQLite, and only a function is defined.
    unsafe { Connection::extension_init2(db, message, api, begin) }
}
