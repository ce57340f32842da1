//! Values between SQLite and Rust. Those of names are in [`coordinated_client::sqlite`].

use crate::clock::Timestamp;
use crate::coordinate::{AttemptStatus, UnitStatus};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

impl ToSql for Timestamp {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.into())
    }
}

impl FromSql for Timestamp {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(Self)
    }
}

impl ToSql for UnitStatus {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok((*self as i64).into())
    }
}

impl FromSql for UnitStatus {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let number = value.as_i64()?;
        Self::ALL
            .into_iter()
            .find(|status| *status as i64 == number)
            .ok_or(FromSqlError::OutOfRange(number))
    }
}

impl ToSql for AttemptStatus {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok((*self as i64).into())
    }
}

impl FromSql for AttemptStatus {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value.as_i64()? {
            3 => Ok(Self::Pending),
            4 => Ok(Self::Finished),
            5 => Ok(Self::Failed),
            6 => Ok(Self::Expired),
            7 => Ok(Self::Retryable),
            number => Err(FromSqlError::OutOfRange(number)),
        }
    }
}

/// Newtypes around row ids.
macro_rules! row_id {
    ($($id:ty),*) => {$(
        impl ToSql for $id {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.0.into())
            }
        }

        impl FromSql for $id {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_i64().map(Self)
            }
        }
    )*};
}

row_id!(
    crate::coordinate::NamespaceId,
    crate::coordinate::WorkSpecId,
    crate::coordinate::WorkUnitId,
    crate::coordinate::AttemptId,
    crate::coordinate::TokenId,
    crate::coordinate::AuditId
);
