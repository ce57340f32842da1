//! Statements: named, whole, prepared once and held. all_statements.rs lists them.

use foldhash::fast::FixedState;
use rusqlite::{CachedStatement, Connection, Row, Rows, Statement, ToSql, params_from_iter};
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

/// The connection that writes, and its statements, each prepared once and held.
///
/// A cache that is asked with the text of a statement costs a tenth of a short operation. Statements
/// borrow their connection, so it lives behind a pointer of its own, until they are gone.
pub(super) struct Statements {
    /// By where the text stands in the program: each statement is a constant.
    held: HashMap<(usize, usize), HeldStatement, FixedState>,
    connection: NonNull<Connection>,
}

/// A statement of [`Statements`], run with `named_params!`.
///
/// The values are bound by position: to look each name up costs a twentieth of a short operation. So they
/// are given in the order in which their names first stand in the statement, which is checked.
pub(super) struct HeldStatement {
    statement: Statement<'static>,
    /// True once the names have been checked.
    was_run: bool,
}

/// Values to be bound, with their names.
type Named<'a> = [(&'a str, &'a dyn ToSql)];

impl HeldStatement {
    /// Runs it; returns how many rows it has inserted, updated or deleted.
    pub(super) fn execute(&mut self, values: &Named<'_>) -> rusqlite::Result<usize> {
        self.check_order(values);
        self.statement.execute(by_position(values))
    }

    /// Runs it to insert a row; returns the row's id.
    pub(super) fn insert(&mut self, values: &Named<'_>) -> rusqlite::Result<i64> {
        self.check_order(values);
        self.statement.insert(by_position(values))
    }

    /// Runs it for its rows.
    pub(super) fn query(&mut self, values: &Named<'_>) -> rusqlite::Result<Rows<'_>> {
        self.check_order(values);
        self.statement.query(by_position(values))
    }

    /// Runs it, and turns each row into a value.
    pub(super) fn query_map<T, F: FnMut(&Row<'_>) -> rusqlite::Result<T>>(
        &mut self,
        values: &Named<'_>,
        to_value: F,
    ) -> rusqlite::Result<rusqlite::MappedRows<'_, F>> {
        self.check_order(values);
        self.statement.query_map(by_position(values), to_value)
    }

    /// Runs it for its only row.
    pub(super) fn query_row<T>(
        &mut self,
        values: &Named<'_>,
        to_value: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.check_order(values);
        self.statement.query_row(by_position(values), to_value)
    }

    /// True if it has a row.
    pub(super) fn exists(&mut self, values: &Named<'_>) -> rusqlite::Result<bool> {
        self.check_order(values);
        self.statement.exists(by_position(values))
    }

    /// # Panics
    /// If the names are not those of the statement, in its order.
    fn check_order(&mut self, values: &Named<'_>) {
        if self.was_run && !cfg!(debug_assertions) {
            return;
        }
        self.was_run = true;
        for (index, (name, _)) in values.iter().enumerate() {
            let expected = self.statement.parameter_name(index + 1);
            assert_eq!(
                expected,
                Some(*name),
                "parameter {} of {:?}",
                index + 1,
                self.statement
            );
        }
    }
}

fn by_position<'a>(values: &'a Named<'a>) -> impl rusqlite::Params + 'a {
    params_from_iter(values.iter().map(|(_, value)| value))
}

impl Statements {
    pub(super) fn new(connection: Connection) -> Self {
        let connection = NonNull::from(Box::leak(Box::new(connection)));
        Self {
            held: HashMap::default(),
            connection,
        }
    }

    /// A statement, ready to be run.
    pub(super) fn prepared(&mut self, sql: &'static str) -> rusqlite::Result<&mut HeldStatement> {
        match self.held.entry((sql.as_ptr().addr(), sql.len())) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                // SAFETY: the connection lives until `drop`, which drops the statements first, and it
                // is only ever borrowed shared.
                let connection: &'static Connection = unsafe { self.connection.as_ref() };
                Ok(entry.insert(HeldStatement {
                    statement: connection.prepare(sql)?,
                    was_run: false,
                }))
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
pub(super) const STATEMENT_CACHE_CAPACITY: usize = 32;

/// The prepared form of a statement, which the connection caches.
pub(super) fn prepared<'c>(
    connection: &'c Connection,
    sql: &'static str,
) -> rusqlite::Result<CachedStatement<'c>> {
    connection.prepare_cached(sql)
}
