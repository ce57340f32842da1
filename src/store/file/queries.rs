//! Read-only queries on a database file: see `coordinated sql`.

use super::database_file::DatabaseFile;
use super::error::OpenError;
use super::existing::{as_ours, open_to_read};
use super::owner_lock::OwnerLock;
use coordinated_client::sqlite::define_cbor_json;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, ErrorCode, OpenFlags, Statement, ffi, named_params};
use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Lists the tables and views.
pub const LIST_TABLES: &str = "
    SELECT name, type FROM sqlite_schema
     WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite~_%' ESCAPE '~'
     ORDER BY type DESC, name";

/// The definitions of everything, or of one table or view and its indexes.
const FIND_DEFINITIONS: &str = "
    SELECT sql FROM sqlite_schema
     WHERE sql IS NOT NULL AND (:name IS NULL OR name = :name COLLATE NOCASE OR tbl_name = :name COLLATE NOCASE)
     ORDER BY rowid";

/// Instructions of SQLite's virtual machine between two checks for an interruption: less than a millisecond.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 10_000;

/// The PRAGMAs that change nothing.
const TELLING_PRAGMAS: &[&str] = &[
    "application_id",
    "collation_list",
    "compile_options",
    "database_list",
    "encoding",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "quick_check",
    "schema_version",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Those of them that set something if they are given a value.
const SETTING_PRAGMAS: &[&str] = &[
    "application_id",
    "encoding",
    "page_size",
    "schema_version",
    "user_version",
];

/// A database file that is queried.
///
/// Each query has a connection of its own, which ends with it: nothing is held between two queries, neither a snapshot
/// of the file, which would keep the daemon from reusing the WAL, nor files beside it.
pub struct Queries {
    path: PathBuf,
    is_interrupted: Arc<AtomicBool>,
}

/// Receives the results of a query.
pub trait Rows {
    /// Begins a result with these columns.
    ///
    /// # Errors
    /// If it can't be written. That ends the query, as for the other methods.
    fn begin(&mut self, columns: &[String]) -> io::Result<()>;

    /// Takes a row, with a value for each column.
    ///
    /// # Errors
    /// If it can't be written.
    fn row(&mut self, values: &[ValueRef<'_>]) -> io::Result<()>;

    /// Ends the result.
    ///
    /// # Errors
    /// If rows that were held back can't be written.
    fn end(&mut self) -> io::Result<()>;
}

/// Why a query has no result, or an incomplete one.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The file can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// SQLite reports an error.
    #[error("{0}")]
    Sql(String),
    /// The statement would change something, or keep a transaction open.
    #[error(
        "only reading is allowed: a query begins with SELECT, WITH, VALUES or EXPLAIN, or is a PRAGMA that changes \
         nothing"
    )]
    NotReading,
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
    /// A program wrote to the file while the query read it without locks.
    #[error(
        "the database was changed while it was read, for instance by a daemon that started, so the result may be wrong: \
         run the query again"
    )]
    Changed,
    /// The result can't be written.
    #[error(transparent)]
    Output(io::Error),
}

impl Queries {
    /// Checks that a database file can be queried. It is not held open.
    ///
    /// # Errors
    /// If it does not exist, can't be read, or is not a coordinated database.
    pub fn on(path: &Path) -> Result<Self, OpenError> {
        View::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            is_interrupted: Arc::default(),
        })
    }

    /// A flag that interrupts the running query when it is set.
    #[must_use]
    pub fn interrupter(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_interrupted)
    }

    /// Runs one statement, or several separated by semicolons, each on the state of the file at that time.
    ///
    /// # Errors
    /// See [`QueryError`]. Rows before the failure have been passed to `rows`.
    pub fn run(&self, sql: &str, rows: &mut dyn Rows) -> Result<(), QueryError> {
        self.is_interrupted.store(false, Ordering::Relaxed);
        let view = View::open(&self.path)?;
        let prepare = || -> rusqlite::Result<()> {
            define_cbor_json(&view.connection)?;
            let is_interrupted = self.interrupter();
            let look = move || is_interrupted.load(Ordering::Relaxed);
            view.connection
                .progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, Some(look))?;
            view.connection.authorizer(Some(authorize))
        };
        prepare().map_err(|error| QueryError::Sql(error.to_string()))?;
        let outcome = self.run_all(&view.connection, sql, rows);
        // If the file changed meanwhile, neither rows nor errors can be relied on.
        match outcome {
            Err(QueryError::Output(_)) => outcome,
            _ if view.has_changed() => Err(QueryError::Changed),
            outcome => outcome,
        }
    }

    /// The statements that define everything, or one table or view with its indexes. Empty if there is none of that name.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn definitions(&self, name: Option<&str>) -> Result<Vec<String>, QueryError> {
        let view = View::open(&self.path)?;
        let find = || -> rusqlite::Result<Vec<String>> {
            let mut find = view.connection.prepare(FIND_DEFINITIONS)?;
            let found = find.query_map(named_params! {":name": name}, |row| row.get(0))?;
            found.collect()
        };
        find().map_err(of_sqlite)
    }

    fn run_all(
        &self,
        connection: &Connection,
        sql: &str,
        rows: &mut dyn Rows,
    ) -> Result<(), QueryError> {
        let mut statements = Batch::new(connection, sql);
        while let Some(mut statement) = statements.next().map_err(of_sqlite)? {
            self.run_one(&mut statement, rows)?;
        }
        Ok(())
    }

    fn run_one(
        &self,
        statement: &mut Statement<'_>,
        rows: &mut dyn Rows,
    ) -> Result<(), QueryError> {
        let names = statement.column_names().into_iter().map(str::to_owned);
        let columns: Vec<String> = names.collect();
        let mut found = statement.raw_query();
        rows.begin(&columns).map_err(QueryError::Output)?;
        while let Some(row) = found.next().map_err(of_sqlite)? {
            if self.is_interrupted.load(Ordering::Relaxed) {
                return Err(QueryError::Interrupted);
            }
            let values = (0..columns.len()).map(|index| row.get_ref(index));
            let values: Vec<ValueRef<'_>> = values.collect::<Result<_, _>>().map_err(of_sqlite)?;
            rows.row(&values).map_err(QueryError::Output)?;
        }
        rows.end().map_err(QueryError::Output)
    }
}

/// True if a text ends with a complete statement.
#[must_use]
pub fn is_whole_statement(sql: &str) -> bool {
    let Ok(sql) = CString::new(sql) else {
        // SQLite will report the NUL byte.
        return true;
    };
    // SAFETY: the text is NUL-terminated, and only read.
    unsafe { ffi::sqlite3_complete(sql.as_ptr()) != 0 }
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    let is_reading = match context.action {
        AuthAction::Select
        | AuthAction::Read { .. }
        | AuthAction::Function { .. }
        | AuthAction::Recursive => true,
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } => {
            let is_in = |list: &[&str]| {
                list.iter()
                    .any(|name| name.eq_ignore_ascii_case(pragma_name))
            };
            is_in(TELLING_PRAGMAS) && (pragma_value.is_none() || !is_in(SETTING_PRAGMAS))
        }
        _ => false,
    };
    if is_reading {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}

fn of_sqlite(error: rusqlite::Error) -> QueryError {
    match (error.sqlite_error_code(), error) {
        (Some(ErrorCode::AuthorizationForStatementDenied), _) => QueryError::NotReading,
        (Some(ErrorCode::OperationInterrupted), _) => QueryError::Interrupted,
        (_, rusqlite::Error::SqlInputError { msg, .. }) => QueryError::Sql(msg),
        (_, rusqlite::Error::SqliteFailure(_, Some(message))) => QueryError::Sql(message),
        (_, error) => QueryError::Sql(error.to_string()),
    }
}

/// A connection for one query.
struct View {
    connection: Connection,
    file: DatabaseFile,
    /// For a file that is read without locks: its stamp, to notice changes.
    unused: Option<Stamp>,
}

/// Device, inode, size and modification time: some of them change when a file is written to or replaced.
type Stamp = (u64, u64, u64, i64, i64);

impl View {
    /// Opens a database in a way that creates, changes and leaves no file beside it:
    ///
    /// - while a daemon has it open, as `check` does: if the daemon ends meanwhile, this connection is the last one and
    ///   removes the WAL;
    /// - after a crash, only to read: the WAL stays for the daemon that starts next;
    /// - where there is no WAL, without locks, which would make one, and with a check at the end that nobody wrote.
    fn open(path: &Path) -> Result<Self, OpenError> {
        let file = DatabaseFile::existing(path)?;
        // A file with other names may have its WAL beside one of these: see `as_ours`.
        let has_other_names = file.other_names().is_some();
        if let Some(stamp) = stamp_of_unused(&file)
            && !has_other_names
        {
            let (connection, _) = as_ours(&file, file.connect_unchanging())?;
            return Ok(Self {
                connection,
                file,
                unused: Some(stamp),
            });
        }
        let is_in_use = OwnerLock::has_living_owner(&file);
        let (connection, _) = match has_other_names || is_in_use || file.is_on_read_only_mount() {
            true => open_to_read(&file)?,
            false => as_ours(&file, file.connect(OpenFlags::SQLITE_OPEN_READ_ONLY))?,
        };
        let query_only = connection.pragma_update(None, "query_only", true);
        query_only.map_err(|error| OpenError::CannotOpen {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            connection,
            file,
            unused: None,
        })
    }

    /// True if somebody wrote to the file while it was read without locks.
    fn has_changed(&self) -> bool {
        self.unused.is_some() && stamp_of_unused(&self.file) != self.unused
    }
}

/// The stamp of a file that nobody uses: there is no WAL beside it, so its newest state is in it alone. `None` for any
/// other file.
fn stamp_of_unused(file: &DatabaseFile) -> Option<Stamp> {
    let has_wal_or_journal = ["-wal", "-journal"]
        .iter()
        .any(|suffix| file.beside(suffix).exists());
    let metadata = file.path().metadata().ok()?;
    let stamp = (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    );
    (!has_wal_or_journal).then_some(stamp)
}
