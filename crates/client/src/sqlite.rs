//! What programs need that read the daemon's database by rusqlite (feature `sqlite`): the SQL function `cbor_json(blob)`,
//! which shows a column of CBOR as JSON, and names as values of SQLite.

use crate::Name;
use crate::cbor::{Item, json, scan};
use rusqlite::functions::{Context, FunctionFlags, SubType};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Error};

/// Depth of nesting that is shown. The daemon accepts 100 by default, and each level takes space on the stack.
const DEPTH_MAX: usize = 1_000;

/// The subtype by which SQLite's JSON functions recognize JSON, so that they do not take it for text.
const JSON_SUBTYPE: SubType = Some(b'J' as std::ffi::c_uint);

/// The function was given a wrong argument.
#[derive(Debug, thiserror::Error)]
#[error("cbor_json: {0}")]
struct NotCbor(String);

/// Defines the function `cbor_json(blob)`: JSON by the rules of [`json`], `NULL` for `NULL`, and an error for anything
/// that is not one complete CBOR item.
///
/// # Errors
/// If SQLite refuses.
pub fn define_cbor_json(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS
        | FunctionFlags::SQLITE_RESULT_SUBTYPE;
    connection.create_scalar_function("cbor_json", 1, flags, |context: &Context<'_>| {
        let failed = |reason| Error::UserFunctionError(NotCbor(reason).into());
        let text = match context.get_raw(0) {
            ValueRef::Null => return Ok((None, None)),
            ValueRef::Blob(bytes) => scan::check(bytes, DEPTH_MAX)
                .map(|()| json::AsJson(Item::from_checked(bytes)).to_text())
                .map_err(|error| failed(format!("not CBOR: {error}")))?,
            other => {
                let kind = other.data_type().to_string().to_lowercase();
                return Err(failed(format!("takes a blob, not a value of type {kind}")));
            }
        };
        Ok((Some(text), JSON_SUBTYPE))
    })
}

/// Names are kept as they came, as TEXT or BLOB. Where one is compared, its bytes are bound instead.
impl ToSql for Name {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.as_text() {
            Some(text) => ValueRef::Text(text.as_bytes()),
            None => ValueRef::Blob(self.bytes()),
        }))
    }
}

impl FromSql for Name {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Text(_) => Ok(Self::from_text(value.as_str()?)),
            ValueRef::Blob(bytes) => Ok(Self::from_bytes(bytes)),
            _ => Err(FromSqlError::InvalidType),
        }
    }
}
