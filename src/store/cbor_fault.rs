//! The SQL function `cbor_fault(kind, blob)`, by which a check looks at stored CBOR.

use coordinated_client::cbor::{Item, scan};
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};

/// Nested containers beyond which an item counts as damaged: far more than any `--max-depth` that makes sense, and
/// few enough that scanning takes some MiB at most.
const DEPTH_MAX: usize = 1 << 20;

/// Gives a connection the function `cbor_fault(kind, blob)`: what is wrong with a value that should be one whole
/// item of CBOR of this kind ('a map', 'a list'); `NULL` if nothing is, and for `NULL`.
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
