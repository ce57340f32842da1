//! Workers.

use super::SqliteStore;
use super::statement::{prepared, statements};
use crate::clock::Timestamp;
use crate::coordinate::storage::{
    StorageResult, VisitWorker, WorkerQuery, WorkerStore, WorkersUnder,
};
use crate::coordinate::{
    Census, Error, ListedWorker, Name, NamespaceId, Result, StorageError, Worker, WorkerStats,
};
use rusqlite::{Connection, Row, ToSql, named_params};

statements! {
    UPSERT_WORKER = "
        INSERT INTO worker (namespace_id, name, parent, mode, heartbeat_us, expiration_us, active, environment)
        VALUES (:namespace, :name, :parent, :mode, :heartbeat, :expiration, :active, :environment)
        ON CONFLICT (namespace_id, CAST(name AS BLOB)) DO UPDATE
           SET name = excluded.name, parent = excluded.parent, mode = excluded.mode,
               heartbeat_us = excluded.heartbeat_us, expiration_us = excluded.expiration_us,
               active = excluded.active, environment = excluded.environment";

    DELETE_WORKER = "DELETE FROM worker WHERE namespace_id = :namespace AND CAST(name AS BLOB) = :name";

    /// Uses index worker_by_expiration.
    FIND_EXPIRED = "
        SELECT namespace_id, name
          FROM worker
         WHERE expiration_us <= :now
         ORDER BY expiration_us
         LIMIT :limit";

    FIND_WORKER = "
        SELECT name, parent, mode, heartbeat_us, expiration_us, active, environment
          FROM worker
         WHERE namespace_id = :namespace AND CAST(name AS BLOB) = :name";

    LIST_WORKERS = "
        SELECT name, parent, mode, heartbeat_us, expiration_us, active
          FROM worker
         WHERE namespace_id = :namespace AND active = 1
         ORDER BY CAST(name AS BLOB)";

    /// A part of them. Uses index worker_by_name, and attempt_held for what each holds.
    LIST_WORKERS_FROM = "
        SELECT name, parent, mode, heartbeat_us, expiration_us, active,
               (SELECT count(*)
                  FROM (SELECT 1 FROM attempt
                         WHERE CAST(attempt.worker AS BLOB) = CAST(worker.name AS BLOB) AND held = 1
                         LIMIT :held_max)),
               EXISTS (SELECT 1
                         FROM worker AS child
                        WHERE child.namespace_id = worker.namespace_id AND child.parent IS NOT NULL
                          AND CAST(child.parent AS BLOB) = CAST(worker.name AS BLOB) AND child.active = 1
                          AND child.id <> worker.id)
          FROM worker
         WHERE namespace_id = :namespace AND active = 1 AND CAST(name AS BLOB) > coalesce(:after, -1)
         ORDER BY CAST(name AS BLOB)
         LIMIT :limit";

    /// The same, of those that nobody is the parent of. Goes from parent to parent by index worker_by_parent, since they are few
    /// among many workers.
    LIST_ROOTS_FROM = "
        WITH RECURSIVE parents (name) AS (
            SELECT min(CAST(parent AS BLOB)) FROM worker WHERE namespace_id = :namespace AND parent IS NOT NULL
            UNION ALL
            SELECT (SELECT min(CAST(parent AS BLOB))
                      FROM worker
                     WHERE namespace_id = :namespace AND parent IS NOT NULL
                       AND CAST(parent AS BLOB) > parents.name)
              FROM parents
             WHERE parents.name IS NOT NULL),
        absent (name) AS MATERIALIZED (
            SELECT name
              FROM parents
             WHERE name IS NOT NULL
               AND NOT EXISTS (SELECT 1
                                 FROM worker AS above
                                WHERE above.namespace_id = :namespace AND above.active = 1
                                  AND CAST(above.name AS BLOB) = parents.name))
        SELECT name, parent, mode, heartbeat_us, expiration_us, active,
               (SELECT count(*)
                  FROM (SELECT 1 FROM attempt
                         WHERE CAST(attempt.worker AS BLOB) = CAST(worker.name AS BLOB) AND held = 1
                         LIMIT :held_max)),
               EXISTS (SELECT 1
                         FROM worker AS child
                        WHERE child.namespace_id = worker.namespace_id AND child.parent IS NOT NULL
                          AND CAST(child.parent AS BLOB) = CAST(worker.name AS BLOB) AND child.active = 1
                          AND child.id <> worker.id)
          FROM worker
         WHERE namespace_id = :namespace AND active = 1 AND CAST(name AS BLOB) > coalesce(:after, -1)
           AND (parent IS NULL OR CAST(parent AS BLOB) = CAST(name AS BLOB)
                OR CAST(parent AS BLOB) IN (SELECT name FROM absent))
         ORDER BY CAST(name AS BLOB)
         LIMIT :limit";

    /// The same, of those that somebody is the parent of. Uses index worker_by_parent.
    LIST_CHILDREN_FROM = "
        SELECT name, parent, mode, heartbeat_us, expiration_us, active,
               (SELECT count(*)
                  FROM (SELECT 1 FROM attempt
                         WHERE CAST(attempt.worker AS BLOB) = CAST(worker.name AS BLOB) AND held = 1
                         LIMIT :held_max)),
               EXISTS (SELECT 1
                         FROM worker AS child
                        WHERE child.namespace_id = worker.namespace_id AND child.parent IS NOT NULL
                          AND CAST(child.parent AS BLOB) = CAST(worker.name AS BLOB) AND child.active = 1
                          AND child.id <> worker.id)
          FROM worker INDEXED BY worker_by_parent
         WHERE namespace_id = :namespace AND active = 1 AND CAST(name AS BLOB) > coalesce(:after, -1)
           AND CAST(parent AS BLOB) = :parent AND parent IS NOT NULL
         ORDER BY CAST(name AS BLOB)
         LIMIT :limit";

    /// Uses index worker_by_parent.
    LIST_CHILDREN = "
        SELECT name
          FROM worker
         WHERE namespace_id = :namespace AND CAST(parent AS BLOB) = :parent AND parent IS NOT NULL
           AND active = 1
         ORDER BY CAST(name AS BLOB)";

    COUNT_WORKERS = "
        SELECT count(*), count(parent) FROM worker WHERE namespace_id = :namespace AND active = 1";

    DELETE_WORKERS = "DELETE FROM worker WHERE namespace_id = :namespace";

    COUNT_WORKERS_BY_MODE = "
        SELECT count(*),
               count(*) FILTER (WHERE CAST(mode AS BLOB) = CAST('RUN' AS BLOB)),
               count(*) FILTER (WHERE CAST(mode AS BLOB) = CAST('IDLE' AS BLOB)),
               count(*) FILTER (WHERE CAST(mode AS BLOB) = CAST('TERMINATE' AS BLOB))
          FROM worker
         WHERE namespace_id = :namespace";

    FIRST_EXPIRATION_OF_WORKERS = "SELECT min(expiration_us) FROM worker";
}

pub(super) const FIRST_EXPIRATION: &str = FIRST_EXPIRATION_OF_WORKERS;

fn row_to_worker(row: &Row<'_>) -> rusqlite::Result<Worker> {
    Ok(Worker {
        name: row.get(0)?,
        parent: row.get(1)?,
        mode: row.get(2)?,
        heartbeat: row.get(3)?,
        expiration: row.get(4)?,
        is_active: row.get(5)?,
    })
}

/// Counts workers; the count of locks is left at 0.
pub(super) fn count_by_mode(
    connection: &Connection,
    namespace: NamespaceId,
) -> rusqlite::Result<Census> {
    prepared(connection, COUNT_WORKERS_BY_MODE)?.query_row(
        named_params! {":namespace": namespace},
        |row| {
            let all: u64 = row.get(0)?;
            let [running, idle, terminating] = [row.get(1)?, row.get(2)?, row.get(3)?];
            Ok(Census {
                running,
                idle,
                terminating,
                others: all.saturating_sub(running + idle + terminating),
                locks: 0,
            })
        },
    )
}

/// Shows `visit` the active workers that a query asks for.
pub(super) fn list_workers(
    connection: &Connection,
    namespace: NamespaceId,
    query: &WorkerQuery,
    visit: &mut VisitWorker<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let (sql, parent) = match &query.under {
        WorkersUnder::Anybody => (LIST_WORKERS_FROM, None),
        WorkersUnder::Nobody => (LIST_ROOTS_FROM, None),
        WorkersUnder::Worker(parent) => (LIST_CHILDREN_FROM, Some(parent.bytes())),
    };
    let after = query.after.as_ref().map(Name::bytes);
    let held_max = ListedWorker::HELD_MAX;
    let mut values: Vec<(&str, &dyn ToSql)> = vec![
        (":namespace", &namespace),
        (":after", &after),
        (":limit", &query.limit),
        (":held_max", &held_max),
    ];
    if parent.is_some() {
        values.push((":parent", &parent));
    }
    let mut statement = prepared(connection, sql).map_err(storage)?;
    let mut rows = statement.query(&*values).map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        visit(ListedWorker {
            worker: row_to_worker(row).map_err(storage)?,
            held: row.get(6).map_err(storage)?,
            has_children: row.get(7).map_err(storage)?,
        })?;
    }
    Ok(())
}

impl SqliteStore {
    /// Removes a worker. Returns how many attempts it held; `None` if there is no such worker.
    fn remove_worker(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
    ) -> StorageResult<Option<usize>> {
        let deleted = self
            .statements
            .prepared(DELETE_WORKER)?
            .execute(named_params! {":namespace": namespace, ":name": name.bytes()})?;
        match deleted {
            0 => Ok(None),
            _ => self.release_attempts(namespace, name).map(Some),
        }
    }
}

impl WorkerStore for SqliteStore {
    fn upsert_worker(
        &mut self,
        namespace: NamespaceId,
        worker: &Worker,
        environment: Option<&[u8]>,
    ) -> StorageResult<()> {
        self.statements
            .prepared(UPSERT_WORKER)?
            .execute(named_params! {
                ":namespace": namespace,
                ":name": worker.name,
                ":parent": worker.parent,
                ":mode": worker.mode,
                ":heartbeat": worker.heartbeat,
                ":expiration": worker.expiration,
                ":active": worker.is_active,
                ":environment": environment,
            })?;
        self.note_due(worker.expiration);
        Ok(())
    }

    fn delete_worker(&mut self, namespace: NamespaceId, name: &Name) -> StorageResult<bool> {
        Ok(self.remove_worker(namespace, name)?.is_some())
    }

    fn delete_workers(&mut self, namespace: NamespaceId) -> StorageResult<()> {
        self.statements
            .prepared(DELETE_WORKERS)?
            .execute(named_params! {":namespace": namespace})?;
        Ok(())
    }

    fn delete_expired_workers(
        &mut self,
        now: Timestamp,
        limit: usize,
        released_max: usize,
    ) -> StorageResult<()> {
        let expired: Vec<(NamespaceId, Name)> = self
            .statements
            .prepared(FIND_EXPIRED)?
            .query_map(named_params! {":now": now, ":limit": limit}, |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let mut released = 0;
        for (namespace, name) in expired {
            if released >= released_max {
                break;
            }
            released += self.remove_worker(namespace, &name)?.unwrap_or(0);
        }
        Ok(())
    }

    fn find_worker(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
    ) -> StorageResult<Option<(Worker, Option<Vec<u8>>)>> {
        let statement = self.statements.prepared(FIND_WORKER)?;
        let mut rows =
            statement.query(named_params! {":namespace": namespace, ":name": name.bytes()})?;
        match rows.next()? {
            Some(row) => Ok(Some((row_to_worker(row)?, row.get(6)?))),
            None => Ok(None),
        }
    }

    fn workers(&mut self, namespace: NamespaceId) -> StorageResult<Vec<Worker>> {
        let statement = self.statements.prepared(LIST_WORKERS)?;
        let workers =
            statement.query_map(named_params! {":namespace": namespace}, row_to_worker)?;
        Ok(workers.collect::<rusqlite::Result<_>>()?)
    }

    fn children(&mut self, namespace: NamespaceId, parent: &Name) -> StorageResult<Vec<Name>> {
        let statement = self.statements.prepared(LIST_CHILDREN)?;
        let children = statement.query_map(
            named_params! {":namespace": namespace, ":parent": parent.bytes()},
            |row| row.get(0),
        )?;
        Ok(children.collect::<rusqlite::Result<_>>()?)
    }

    fn worker_stats(&mut self, namespace: NamespaceId) -> StorageResult<WorkerStats> {
        Ok(self.statements.prepared(COUNT_WORKERS)?.query_row(
            named_params! {":namespace": namespace},
            |row| {
                Ok(WorkerStats {
                    workers: row.get(0)?,
                    children: row.get(1)?,
                })
            },
        )?)
    }
}
