//! The statements that the store holds: named, whole, and listed for the tests that check them.

use rusqlite::{CachedStatement, Connection};

/// Defines named statements and, as `STATEMENTS`, the list of them.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)*) => {
        $($(#[$doc])* const $name: &str = $sql;)*
        pub(super) const STATEMENTS: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}
pub(super) use statements;

/// Every statement that the store runs, by name, but those that begin and end transactions.
#[must_use]
pub fn all_statements() -> Vec<(&'static str, &'static str)> {
    [
        super::specs::STATEMENTS,
        super::units::STATEMENTS,
        super::attempts::STATEMENTS,
        super::workers::STATEMENTS,
        super::locks::STATEMENTS,
    ]
    .concat()
}

/// More than there are statements, so that each is prepared once.
pub(super) const STATEMENT_CACHE_CAPACITY: usize = 128;

/// The prepared form of a statement, which the connection holds.
pub(super) fn prepared<'c>(
    connection: &'c Connection,
    sql: &'static str,
) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(sql)
}
