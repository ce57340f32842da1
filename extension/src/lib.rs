//! An extension for SQLite with the function `cbor_json(blob)`, as `coordinated sql` has it.
//!
//! Both are made of the same files: `src/cbor/`, and `src/store/cbor_json.rs`.

#[path = "../../src/cbor/mod.rs"]
pub mod cbor;
#[path = "../../src/store/cbor_json.rs"]
mod cbor_json;

use rusqlite::{Connection, ffi};
use std::ffi::{c_char, c_int};

/// Where SQLite begins when it loads the extension.
///
/// # Safety
/// The arguments must be those that SQLite gives to extensions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sqlite3_extension_init(
    db: *mut ffi::sqlite3,
    message: *mut *mut c_char,
    api: *mut ffi::sqlite3_api_routines,
) -> c_int {
    let begin = |connection: Connection| cbor_json::define(&connection).map(|()| false);
    // SAFETY: they come from SQLite, and only a function is defined.
    unsafe { Connection::extension_init2(db, message, api, begin) }
}
