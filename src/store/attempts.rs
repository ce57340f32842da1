//! Attempts.

use super::SqliteStore;
use super::statement::{prepared, statements};
use super::units::row_to_unit;
use crate::clock::Timestamp;
use crate::coordinate::storage::{
    AttemptStore, NamedUnit, StorageResult, VisitAttempt, VisitNamedAttempt,
};
use crate::coordinate::{
    Attempt, AttemptId, AttemptStatus, Error, Name, NamespaceId, Result, StorageError,
};
use rusqlite::{Connection, Row, Rows, named_params};

statements! {
    GET_ATTEMPT = "
        SELECT id, work_unit_id, previous_attempt_id, number, worker, status, held, start_us, end_us,
               expiration_us
          FROM attempt
         WHERE id = :id";

    /// The same with the data that it left.
    GET_ATTEMPT_WITH_DATA = "
        SELECT id, work_unit_id, previous_attempt_id, number, worker, status, held, start_us, end_us,
               expiration_us, data
          FROM attempt
         WHERE id = :id";

    INSERT_ATTEMPT = "
        INSERT INTO attempt (id, work_unit_id, previous_attempt_id, number, worker, status, held,
                             start_us, end_us, expiration_us)
        VALUES (:id, :unit, :previous, :number, :worker, :status, :held, :start, :end, :expiration)";

    UPDATE_ATTEMPT = "
        UPDATE attempt
           SET worker = :worker, status = :status, held = :held, end_us = :end,
               expiration_us = :expiration,
               traceback = CASE WHEN :status = 5 OR :status = 7 THEN traceback END
         WHERE id = :id";

    SELECT_ATTEMPT_DATA = "SELECT data FROM attempt WHERE id = :id";

    UPDATE_ATTEMPT_DATA = "UPDATE attempt SET data = :data, traceback = :traceback WHERE id = :id";

    /// Uses index attempt_pending.
    TO_EXPIRE = "
        SELECT id, work_unit_id, previous_attempt_id, number, worker, status, held, start_us, end_us,
               expiration_us
          FROM attempt
         WHERE status = 3 AND expiration_us <= :now
         ORDER BY expiration_us
         LIMIT :limit";

    /// Uses index attempt_held.
    FIND_HELD = "
        SELECT attempt.id
          FROM attempt
          JOIN work_unit ON work_unit.id = attempt.work_unit_id
          JOIN work_spec ON work_spec.id = work_unit.work_spec_id
         WHERE CAST(attempt.worker AS BLOB) = :worker AND attempt.held = 1
           AND work_spec.namespace_id = :namespace";

    /// As FIND_HELD, of attempts that are not pending (3, which is the lowest status): `<>` would go through the
    /// pending ones as well.
    FIND_LOST = "
        SELECT attempt.id
          FROM attempt
          JOIN work_unit ON work_unit.id = attempt.work_unit_id
          JOIN work_spec ON work_spec.id = work_unit.work_spec_id
         WHERE CAST(attempt.worker AS BLOB) = :worker AND attempt.held = 1 AND attempt.status > 3
           AND work_spec.namespace_id = :namespace";

    RELEASE = "UPDATE attempt SET held = 0 WHERE id = :id";

    /// Uses index attempt_held.
    HELD_UNITS = "
        SELECT work_unit.id, work_unit.work_spec_id, work_unit.status, work_unit.priority,
               work_unit.not_before_us, work_unit.active_attempt_id, work_unit.last_attempt_id,
               work_unit.superseded_number, work_unit.attempts_before, work_unit.failures, work_unit.lost,
               work_unit.group_name, work_unit.place, work_unit.in_turn, work_unit.available_since_us,
               work_unit.name, work_spec.name
          FROM attempt
          JOIN work_unit ON work_unit.id = attempt.work_unit_id
          JOIN work_spec ON work_spec.id = work_unit.work_spec_id
         WHERE CAST(attempt.worker AS BLOB) = :worker AND attempt.held = 1
           AND work_spec.namespace_id = :namespace AND work_spec.deleted = 0
         ORDER BY attempt.id";

    /// Uses index attempt_held.
    LIST_PENDING_OF_WORKER = "
        SELECT attempt.id, work_unit_id, previous_attempt_id, number, worker, attempt.status, held, start_us,
               end_us, expiration_us, work_spec.name, work_unit.name
          FROM attempt
          JOIN work_unit ON work_unit.id = attempt.work_unit_id
          JOIN work_spec ON work_spec.id = work_unit.work_spec_id
         WHERE CAST(attempt.worker AS BLOB) = :worker AND attempt.held = 1 AND attempt.status = 3
           AND work_spec.namespace_id = :namespace AND work_spec.deleted = 0
         ORDER BY attempt.id
         LIMIT :limit";

    /// Reads the attempts with these ids: there is no index by worker.
    LIST_OF_WORKER = "
        SELECT attempt.id, work_unit_id, previous_attempt_id, number, worker, attempt.status, held, start_us,
               end_us, expiration_us, work_spec.name, work_unit.name
          FROM attempt
         CROSS JOIN work_unit ON work_unit.id = attempt.work_unit_id
         CROSS JOIN work_spec ON work_spec.id = work_unit.work_spec_id
         WHERE attempt.id > :after AND attempt.id <= :until AND CAST(attempt.worker AS BLOB) = :worker
           AND work_spec.namespace_id = :namespace AND work_spec.deleted = 0
         ORDER BY attempt.id";

    /// Of all attempts, also of those that were removed.
    LARGEST_ID_OF_ATTEMPTS = "
        SELECT max(coalesce((SELECT max(id) FROM attempt), 0),
                   coalesce((SELECT id FROM attempt_floor), 0))";

    FIRST_EXPIRATION_OF_ATTEMPTS = "SELECT min(expiration_us) FROM attempt WHERE status = 3";
}

pub(super) const LARGEST_ID: &str = LARGEST_ID_OF_ATTEMPTS;
pub(super) const FIRST_EXPIRATION: &str = FIRST_EXPIRATION_OF_ATTEMPTS;

fn row_to_attempt(row: &Row<'_>) -> rusqlite::Result<Attempt> {
    Ok(Attempt {
        id: row.get(0)?,
        unit: row.get(1)?,
        previous: row.get(2)?,
        number: row.get(3)?,
        worker: row.get(4)?,
        status: row.get(5)?,
        held: row.get(6)?,
        start: row.get(7)?,
        end: row.get(8)?,
        expiration: row.get(9)?,
    })
}

impl AttemptStore for SqliteStore {
    fn insert_attempt(&mut self, attempt: &Attempt) -> StorageResult<AttemptId> {
        let id = AttemptId(self.next_attempt_id);
        self.next_attempt_id += 1;
        self.statements
            .prepared(INSERT_ATTEMPT)?
            .execute(named_params! {
                ":id": id,
                ":unit": attempt.unit,
                ":previous": attempt.previous,
                ":number": attempt.number,
                ":worker": attempt.worker,
                ":status": attempt.status,
                ":held": attempt.held,
                ":start": attempt.start,
                ":end": attempt.end,
                ":expiration": attempt.expiration,
            })?;
        if attempt.status == AttemptStatus::Pending {
            self.note_due(attempt.expiration);
        }
        Ok(id)
    }

    fn get_attempt(&mut self, id: AttemptId) -> StorageResult<Option<Attempt>> {
        let statement = self.statements.prepared(GET_ATTEMPT)?;
        let mut rows = statement.query(named_params! {":id": id})?;
        Ok(rows.next()?.map(row_to_attempt).transpose()?)
    }

    fn update_attempt(&mut self, attempt: &Attempt) -> StorageResult<()> {
        self.statements
            .prepared(UPDATE_ATTEMPT)?
            .execute(named_params! {
                ":worker": attempt.worker,
                ":status": attempt.status,
                ":held": attempt.held,
                ":end": attempt.end,
                ":expiration": attempt.expiration,
                ":id": attempt.id,
            })?;
        if attempt.status == AttemptStatus::Pending {
            self.note_due(attempt.expiration);
        }
        Ok(())
    }

    fn attempt_data(&mut self, id: AttemptId) -> StorageResult<Option<Vec<u8>>> {
        let statement = self.statements.prepared(SELECT_ATTEMPT_DATA)?;
        let mut rows = statement.query(named_params! {":id": id})?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?.flatten())
    }

    fn set_attempt_data(
        &mut self,
        id: AttemptId,
        data: &[u8],
        traceback: Option<&str>,
    ) -> StorageResult<()> {
        self.statements
            .prepared(UPDATE_ATTEMPT_DATA)?
            .execute(named_params! {
                ":data": data,
                ":traceback": traceback,
                ":id": id,
            })?;
        Ok(())
    }

    fn attempts_to_expire(&mut self, now: Timestamp, limit: usize) -> StorageResult<Vec<Attempt>> {
        let statement = self.statements.prepared(TO_EXPIRE)?;
        let attempts =
            statement.query_map(named_params! {":now": now, ":limit": limit}, row_to_attempt)?;
        Ok(attempts.collect::<rusqlite::Result<_>>()?)
    }

    fn release_lost_attempts(
        &mut self,
        namespace: NamespaceId,
        worker: &Name,
    ) -> StorageResult<()> {
        // Mostly there are none, and looking is cheaper than updating nothing.
        self.release_found(FIND_LOST, namespace, worker)?;
        Ok(())
    }

    fn held_units(
        &mut self,
        namespace: NamespaceId,
        worker: &Name,
    ) -> StorageResult<Vec<NamedUnit>> {
        let statement = self.statements.prepared(HELD_UNITS)?;
        let units = statement.query_map(
            named_params! {":worker": worker.bytes(), ":namespace": namespace},
            |row| {
                Ok(NamedUnit {
                    unit: row_to_unit(row)?,
                    name: row.get(15)?,
                    work_spec: row.get(16)?,
                })
            },
        )?;
        Ok(units.collect::<rusqlite::Result<_>>()?)
    }
}

impl SqliteStore {
    /// Notes that a worker holds no attempts any more. Returns how many it held.
    pub(super) fn release_attempts(
        &mut self,
        namespace: NamespaceId,
        worker: &Name,
    ) -> StorageResult<usize> {
        self.release_found(FIND_HELD, namespace, worker)
    }

    fn release_found(
        &mut self,
        find: &'static str,
        namespace: NamespaceId,
        worker: &Name,
    ) -> StorageResult<usize> {
        let ids: Vec<AttemptId> = self
            .statements
            .prepared(find)?
            .query_map(
                named_params! {":worker": worker.bytes(), ":namespace": namespace},
                |row| row.get(0),
            )?
            .collect::<rusqlite::Result<_>>()?;
        for id in &ids {
            self.statements
                .prepared(RELEASE)?
                .execute(named_params! {":id": id})?;
        }
        Ok(ids.len())
    }
}

/// Shows `visit` at most `limit` attempts, from one back to those before it at the same unit.
pub(super) fn list_attempts(
    connection: &Connection,
    newest: Option<AttemptId>,
    limit: usize,
    visit: &mut VisitAttempt<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let mut statement = prepared(connection, GET_ATTEMPT_WITH_DATA).map_err(storage)?;
    let mut next = newest;
    for _ in 0..limit {
        let Some(id) = next else { break };
        let mut rows = statement
            .query(named_params! {":id": id})
            .map_err(storage)?;
        let Some(row) = rows.next().map_err(storage)? else {
            break;
        };
        let attempt = row_to_attempt(row).map_err(storage)?;
        let data = row
            .get_ref(10)
            .and_then(|data| Ok(data.as_blob_or_null()?))
            .map_err(storage)?;
        visit(&attempt, data)?;
        next = attempt.previous;
    }
    Ok(())
}

/// Shows `visit` pending attempts that a worker holds.
pub(super) fn list_pending_attempts(
    connection: &Connection,
    namespace: NamespaceId,
    worker: &Name,
    limit: usize,
    visit: &mut VisitNamedAttempt<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let mut statement = prepared(connection, LIST_PENDING_OF_WORKER).map_err(storage)?;
    let rows = statement.query(named_params! {
        ":worker": worker.bytes(), ":namespace": namespace, ":limit": limit,
    });
    visit_named(rows.map_err(storage)?, visit)
}

/// Shows `visit` the attempts by a worker whose ids are above `after`, up to `until`.
pub(super) fn list_attempts_by(
    connection: &Connection,
    namespace: NamespaceId,
    worker: &Name,
    after: AttemptId,
    until: AttemptId,
    visit: &mut VisitNamedAttempt<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let mut statement = prepared(connection, LIST_OF_WORKER).map_err(storage)?;
    let rows = statement.query(named_params! {
        ":after": after, ":until": until, ":worker": worker.bytes(), ":namespace": namespace,
    });
    visit_named(rows.map_err(storage)?, visit)
}

/// Shows `visit` attempts with the names behind their columns.
fn visit_named(mut rows: Rows<'_>, visit: &mut VisitNamedAttempt<'_>) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    while let Some(row) = rows.next().map_err(storage)? {
        let attempt = row_to_attempt(row).map_err(storage)?;
        let work_spec: Name = row.get(10).map_err(storage)?;
        let unit: Name = row.get(11).map_err(storage)?;
        visit(&attempt, &work_spec, &unit)?;
    }
    Ok(())
}
