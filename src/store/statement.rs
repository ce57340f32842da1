//! The statements that the store holds: named, whole, and listed for the tests that check them.

use rusqlite::{CachedStatement, Connection, Statement};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ptr::NonNull;

/// Defines named statements and, as `STATEMENTS`, the list of them.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)*) => {
        $($(#[$doc])* const $name: &str = $sql;)*
        pub(super) const STATEMENTS: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}
pub(super) use statements;

/// Every statement that the daemon runs, by name, but those that begin and end transactions. Those of
/// `check` are not among them: they go through everything on purpose.
#[must_use]
pub fn all_statements() -> Vec<(&'static str, &'static str)> {
    [
        super::specs::STATEMENTS,
        super::units::STATEMENTS,
        super::queue::STATEMENTS,
        super::archive::STATEMENTS,
        super::attempts::STATEMENTS,
        super::workers::STATEMENTS,
        super::locks::STATEMENTS,
    ]
    .concat()
}

/// The connection that writes, and its statements, each prepared once and held.
///
/// A cache that is asked with the text of a statement costs a tenth of a short operation. Statements
/// borrow their connection, so it lives behind a pointer of its own, until they are gone.
pub(super) struct Statements {
    /// By where the text stands in the program: each statement is a constant.
    held: HashMap<(usize, usize), Statement<'static>>,
    connection: NonNull<Connection>,
}

impl Statements {
    pub(super) fn new(connection: Connection) -> Self {
        let connection = NonNull::from(Box::leak(Box::new(connection)));
        Self {
            held: HashMap::new(),
            connection,
        }
    }

    /// A statement, ready to be run.
    pub(super) fn prepared(
        &mut self,
        sql: &'static str,
    ) -> rusqlite::Result<&mut Statement<'static>> {
        match self.held.entry((sql.as_ptr().addr(), sql.len())) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                // SAFETY: the connection lives until `drop`, which drops the statements first, and it
                // is only ever borrowed shared.
                let connection: &'static Connection = unsafe { self.connection.as_ref() };
                Ok(entry.insert(connection.prepare(sql)?))
            }
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        // SAFETY: as above.
        unsafe { self.connection.as_ref() }
    }
}

impl Drop for Statements {
    fn drop(&mut self) {
        self.held.clear();
        // SAFETY: it came from a box in `new`, and nothing borrows it any more.
        drop(unsafe { Box::from_raw(self.connection.as_ptr()) });
    }
}

/// More than there are statements that run on a connection which only reads.
pub(super) const STATEMENT_CACHE_CAPACITY: usize = 16;

/// The prepared form of a statement, which the connection caches.
pub(super) fn prepared<'c>(
    connection: &'c Connection,
    sql: &'static str,
) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(sql)
}
