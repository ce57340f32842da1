//! Lists, which may take long: on the connection that writes, or beside the loop on one that only reads.

use super::statement::{prepared, statements};
use super::{SqliteStore, attempts, audit, history, locks, specs, units, workers};
use crate::clock::Timestamp;
use crate::coordinate::storage::{
    AuditQuery, Lister, LockQuery, StandingQuery, UnitQuery, VisitAttempt, VisitCounts,
    VisitDefinition, VisitEntry, VisitFailure, VisitLock, VisitNamedAttempt, VisitNamespace,
    VisitStanding, VisitTally, VisitUnit, VisitWorker, WorkSpecStore, WorkerQuery,
};
use crate::coordinate::{
    AttemptId, Census, Error, Name, NamespaceId, Period, Result, StorageError, WorkSpecId,
};
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, named_params};

statements! {
    FIND_SPEC_ID = "
        SELECT id FROM work_spec
         WHERE namespace_id = :namespace AND CAST(name AS BLOB) = :name AND deleted = 0";
}

/// Lists on a connection of its own.
#[derive(Clone)]
pub struct Reader {
    pool: Pool<SqliteConnectionManager>,
}

impl Reader {
    pub(super) fn new(pool: Pool<SqliteConnectionManager>) -> Self {
        Self { pool }
    }

    /// Reads one state of the file, in however many statements.
    fn read<T>(&mut self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let mut connection = self
            .pool
            .get()
            .map_err(|error| StorageError::Other(error.to_string()))?;
        read(&*connection.transaction().map_err(StorageError::from)?)
    }
}

/// Where lists come from.
trait Source {
    /// Runs `read` on a connection.
    fn with_connection<T>(&mut self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T>;

    /// Runs `read` on a connection, with the id of a work spec.
    fn with_work_spec<T>(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
        read: impl FnOnce(&Connection, WorkSpecId) -> Result<T>,
    ) -> Result<T>;

    /// See [`Lister::list_counts`].
    fn list_counts(&mut self, namespace: NamespaceId, visit: &mut VisitCounts<'_>) -> Result<()>;
}

impl Source for SqliteStore {
    fn with_connection<T>(&mut self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        read(self.statements.connection())
    }

    fn with_work_spec<T>(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
        read: impl FnOnce(&Connection, WorkSpecId) -> Result<T>,
    ) -> Result<T> {
        let spec = self.find_work_spec(namespace, name).map(|spec| spec.id);
        let spec = spec.ok_or_else(|| Error::NoSuchWorkSpec(name.clone()))?;
        read(self.statements.connection(), spec)
    }

    /// From memory: those that the present batch has changed are not in the file yet.
    fn list_counts(&mut self, namespace: NamespaceId, visit: &mut VisitCounts<'_>) -> Result<()> {
        self.work_specs(namespace)
            .try_for_each(|spec| visit(&spec.name, &spec.counts, spec.waiting_since))
    }
}

impl Source for Reader {
    fn with_connection<T>(&mut self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.read(read)
    }

    fn with_work_spec<T>(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
        read: impl FnOnce(&Connection, WorkSpecId) -> Result<T>,
    ) -> Result<T> {
        self.read(|connection| {
            let spec = find_spec_id(connection, namespace, name).map_err(StorageError::from)?;
            let spec = spec.ok_or_else(|| Error::NoSuchWorkSpec(name.clone()))?;
            read(connection, spec)
        })
    }

    fn list_counts(&mut self, namespace: NamespaceId, visit: &mut VisitCounts<'_>) -> Result<()> {
        self.read(|connection| specs::list_counts(connection, namespace, visit))
    }
}

fn find_spec_id(
    connection: &Connection,
    namespace: NamespaceId,
    name: &Name,
) -> rusqlite::Result<Option<WorkSpecId>> {
    let mut statement = prepared(connection, FIND_SPEC_ID)?;
    let mut rows =
        statement.query(named_params! {":namespace": namespace, ":name": name.bytes()})?;
    rows.next()?.map(|row| row.get(0)).transpose()
}

impl<S: Source> Lister for S {
    fn list_namespaces(
        &mut self,
        after: Option<&str>,
        limit: usize,
        visit: &mut VisitNamespace<'_>,
    ) -> Result<()> {
        self.with_connection(|connection| specs::list_namespaces(connection, after, limit, visit))
    }

    fn list_pending_attempts(
        &mut self,
        namespace: NamespaceId,
        worker: &Name,
        limit: usize,
        visit: &mut VisitNamedAttempt<'_>,
    ) -> Result<()> {
        self.with_connection(|connection| {
            attempts::list_pending_attempts(connection, namespace, worker, limit, visit)
        })
    }

    fn list_attempts_by(
        &mut self,
        namespace: NamespaceId,
        worker: &Name,
        after: AttemptId,
        until: AttemptId,
        visit: &mut VisitNamedAttempt<'_>,
    ) -> Result<()> {
        self.with_connection(|connection| {
            attempts::list_attempts_by(connection, namespace, worker, after, until, visit)
        })
    }

    fn list_work_specs(
        &mut self,
        namespace: NamespaceId,
        start: Option<&Name>,
        limit: usize,
        visit: &mut VisitDefinition<'_>,
    ) -> Result<()> {
        self.with_connection(|connection| {
            specs::list_work_specs(connection, namespace, start, limit, visit)
        })
    }

    fn list_counts(&mut self, namespace: NamespaceId, visit: &mut VisitCounts<'_>) -> Result<()> {
        Source::list_counts(self, namespace, visit)
    }

    fn list_work_units(
        &mut self,
        namespace: NamespaceId,
        work_spec: &Name,
        query: &UnitQuery,
        visit: &mut VisitUnit<'_>,
    ) -> Result<()> {
        self.with_work_spec(namespace, work_spec, |connection, spec| {
            units::list_units(connection, spec, query, visit)
        })
    }

    fn list_standings(
        &mut self,
        namespace: NamespaceId,
        work_spec: &Name,
        query: &StandingQuery,
        visit: &mut VisitStanding<'_>,
    ) -> Result<()> {
        self.with_work_spec(namespace, work_spec, |connection, spec| {
            units::list_standings(connection, spec, query, visit)
        })
    }

    fn list_workers(
        &mut self,
        namespace: NamespaceId,
        query: &WorkerQuery,
        visit: &mut VisitWorker<'_>,
    ) -> Result<()> {
        self.with_connection(|connection| {
            workers::list_workers(connection, namespace, query, visit)
        })
    }

    fn list_attempts(
        &mut self,
        namespace: NamespaceId,
        work_spec: &Name,
        unit: &Name,
        limit: usize,
        visit: &mut VisitAttempt<'_>,
    ) -> Result<()> {
        self.with_work_spec(namespace, work_spec, |connection, spec| {
            let newest = units::last_attempt_of(connection, spec, unit);
            let newest = newest.map_err(StorageError::from)?;
            let newest = newest.ok_or_else(|| Error::NoSuchWorkUnit {
                work_spec: work_spec.clone(),
                name: unit.clone(),
            })?;
            attempts::list_attempts(connection, newest, limit, visit)
        })
    }

    fn list_failures(
        &mut self,
        namespace: NamespaceId,
        work_spec: &Name,
        visit: &mut VisitFailure<'_>,
    ) -> Result<()> {
        self.with_work_spec(namespace, work_spec, |connection, spec| {
            units::list_failures(connection, spec, visit)
        })
    }

    fn list_locks(&mut self, query: &LockQuery, visit: &mut VisitLock<'_>) -> Result<()> {
        self.with_connection(|connection| locks::list_locks(connection, query, visit))
    }

    fn list_history(
        &mut self,
        namespace: NamespaceId,
        work_specs: &[Name],
        period: Period,
        from: Timestamp,
        visit: &mut VisitTally<'_>,
    ) -> Result<()> {
        self.with_connection(|connection| {
            for (index, name) in work_specs.iter().enumerate() {
                let spec = find_spec_id(connection, namespace, name).map_err(StorageError::from)?;
                let Some(spec) = spec else { continue };
                history::list_history(connection, spec, period, from, &mut |start, tally| {
                    visit(index, start, tally)
                })?;
            }
            Ok(())
        })
    }

    fn history_gaps(&mut self, from: Timestamp) -> Result<Vec<(Timestamp, Timestamp)>> {
        self.with_connection(|connection| history::history_gaps(connection, from))
    }

    fn list_audit(&mut self, query: &AuditQuery, visit: &mut VisitEntry<'_>) -> Result<()> {
        self.with_connection(|connection| audit::list_audit(connection, query, visit))
    }

    fn census(&mut self, namespace: NamespaceId) -> Result<Census> {
        self.with_connection(|connection| {
            let workers = workers::count_by_mode(connection, namespace);
            let workers = workers.map_err(StorageError::from)?;
            let locks = locks::count_locks(connection).map_err(StorageError::from)?;
            Ok(Census { locks, ..workers })
        })
    }
}
