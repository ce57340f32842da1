//! The SQL function `cbor_fault(kind, blob)`, with which `check` examines stored CBOR.

use coordinated_client::cbor::{Item, scan};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};

/// Depth of nesting beyond which an item counts as damaged: far more than any sensible limit for messages, and little
/// enough that scanning takes a few MiB.
const DEPTH_MAX: usize = 1 << 20;

/// Defines the function `cbor_fault(kind, blob)`: what is wrong with a value that should be one complete CBOR item of
/// this kind ('a map', 'a list'). `NULL` for a valid item, and for `NULL`.
///
/// # Errors
/// If SQLite refuses.
pub(super) fn define(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("cbor_fault", 2, flags, |context: &Context<'_>| {
        let bytes = match context.get_raw(1) {
            ValueRef::Null => return Ok(None),
            ValueRef::Blob(bytes) => bytes,
            other => return Err(Error::InvalidFunctionParameterType(1, other.data_type())),
        };
        if let Err(error) = scan::check(bytes, DEPTH_MAX) {
            return Ok(Some(error.to_string()));
        }
        let expected: String = context.get(0)?;
        let found = Item::from_checked(bytes).kind_name();
        Ok((found != expected).then(|| format!("expected {expected}, found {found}")))
    })
}
