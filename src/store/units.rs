//! Work units.

use super::SqliteStore;
use super::statement::{prepared, statements};
use crate::clock::Timestamp;
use crate::coordinate::storage::{
    InStatusQuery, InsertedUnit, StandingQuery, StorageResult, UnitQuery, UnitStanding,
    UnitsInStatus, VisitFailure, VisitStanding, VisitUnit, WorkUnitStore,
};
use crate::coordinate::{
    AttemptId, Counted, Error, ListedAttempt, ListedUnit, Name, Place, Queued, Result,
    StorageError, UnitStatus, WorkSpecId, WorkUnit, WorkUnitId,
};
use rusqlite::{Connection, Row, named_params};

statements! {
    FIND_UNIT = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_number, attempts_before, failures, lost, group_name, place, in_turn,
               available_since_us
          FROM work_unit
         WHERE work_spec_id = :spec AND CAST(name AS BLOB) = :name";

    GET_UNIT = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_number, attempts_before, failures, lost, group_name, place, in_turn,
               available_since_us
          FROM work_unit
         WHERE id = :id";

    /// Uses index work_unit_by_name.
    STANDING = "
        SELECT work_unit.status, coalesce(attempt.end_us, attempt.expiration_us), attempt.worker,
               coalesce(attempt.data, work_unit.data), not_before_us, failures, lost, work_unit.id, group_name
          FROM work_unit
          LEFT JOIN attempt ON attempt.id = work_unit.active_attempt_id
         WHERE work_spec_id = :spec AND CAST(work_unit.name AS BLOB) = :name";

    SELECT_DATA = "SELECT data FROM work_unit WHERE id = :id";

    INSERT_UNIT = "
        INSERT INTO work_unit (id, work_spec_id, name, status, priority, not_before_us, data,
                               in_name_order, group_name, place, in_turn, available_since_us)
        VALUES (:id, :spec, :name, :status, :priority, :not_before, :data, :in_name_order, :group,
                :place, :in_turn, :available_since)";

    UPDATE_UNIT = "
        UPDATE work_unit
           SET status = :status, priority = :priority, not_before_us = :not_before,
               active_attempt_id = :active, last_attempt_id = :last, superseded_number = :superseded,
               attempts_before = :attempts_before, failures = :failures, lost = :lost, in_name_order = 0,
               group_name = :group, place = :place, in_turn = :in_turn,
               available_since_us = :available_since
         WHERE id = :id";

    UPDATE_DATA = "UPDATE work_unit SET data = :data WHERE id = :id";

    DELETE_UNIT = "DELETE FROM work_unit WHERE id = :id";

    /// The attempts of a unit follow each other from the last one back.
    DELETE_ATTEMPTS = "
        WITH RECURSIVE chain (id) AS (
            SELECT :last
            UNION ALL
            SELECT attempt.previous_attempt_id
              FROM chain JOIN attempt ON attempt.id = chain.id
             WHERE attempt.previous_attempt_id IS NOT NULL
             LIMIT :limit)
        DELETE FROM attempt WHERE id IN (SELECT id FROM chain)
        RETURNING id, previous_attempt_id";

    /// Moves a unit to a deleted work spec, with the attempts that it still has.
    LEAVE_UNIT = "
        UPDATE work_unit
           SET work_spec_id = :spec, status = 1, not_before_us = NULL, available_since_us = NULL, active_attempt_id = NULL,
               last_attempt_id = :last, superseded_number = NULL, attempts_before = 0, failures = 0, lost = 0,
               in_name_order = 0, in_turn = 0
         WHERE id = :id";

    LAST_NAME = "
        SELECT name FROM work_unit WHERE work_spec_id = :spec ORDER BY CAST(name AS BLOB) DESC LIMIT 1";

    /// Uses index work_unit_by_name. No name at all is before all.
    UNITS_BY_NAME = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_number, attempts_before, failures, lost, group_name, place, in_turn,
               available_since_us, name
          FROM work_unit
         WHERE work_spec_id = :spec AND CAST(name AS BLOB) > coalesce(:after, -1)
           AND CAST(name AS BLOB) <= :until
         ORDER BY CAST(name AS BLOB)";

    /// The same for failed units, of which there are few among many. Uses index work_unit_failed.
    UNITS_FAILED = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_number, attempts_before, failures, lost, group_name, place, in_turn,
               available_since_us, name
          FROM work_unit
         WHERE work_spec_id = :spec AND CAST(name AS BLOB) > coalesce(:after, -1)
           AND CAST(name AS BLOB) <= :until AND status = 5
         ORDER BY CAST(name AS BLOB)";

    UNITS_OF_SPEC = "SELECT id, last_attempt_id FROM work_unit WHERE work_spec_id = :spec LIMIT :limit";

    /// Uses index work_unit_delayed.
    NO_LONGER_DELAYED = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_number, attempts_before, failures, lost, group_name, place, in_turn,
               available_since_us
          FROM work_unit
         WHERE status = 2 AND not_before_us <= :now
         ORDER BY not_before_us
         LIMIT :limit";

    LARGEST_ID_OF_UNITS = "SELECT max(id) FROM work_unit";

    FIRST_NOT_BEFORE_OF_UNITS = "SELECT min(not_before_us) FROM work_unit WHERE status = 2";

    /// Uses index work_unit_by_name, as the next one does.
    LIST_ALL = "
        SELECT work_unit.name, coalesce(attempt.data, work_unit.data)
          FROM work_unit
          LEFT JOIN attempt ON attempt.id = work_unit.active_attempt_id
         WHERE work_spec_id = :spec AND CAST(work_unit.name AS BLOB) >= :start
         ORDER BY CAST(work_unit.name AS BLOB)
         LIMIT :limit";

    /// `:statuses` has a bit for each status.
    LIST_IN_STATUSES = "
        SELECT work_unit.name, coalesce(attempt.data, work_unit.data)
          FROM work_unit
          LEFT JOIN attempt ON attempt.id = work_unit.active_attempt_id
         WHERE work_spec_id = :spec AND CAST(work_unit.name AS BLOB) >= :start
           AND (1 << work_unit.status) & :statuses
         ORDER BY CAST(work_unit.name AS BLOB)
         LIMIT :limit";

    /// Uses index work_unit_failed: few fail among many.
    LIST_FAILED = "
        SELECT work_unit.name, coalesce(attempt.data, work_unit.data)
          FROM work_unit
          LEFT JOIN attempt ON attempt.id = work_unit.active_attempt_id
         WHERE work_spec_id = :spec AND CAST(work_unit.name AS BLOB) >= :start AND work_unit.status = 5
         ORDER BY CAST(work_unit.name AS BLOB)
         LIMIT :limit";

    /// Goes through the attempts that run now: few are pending among many.
    LIST_PENDING = "
        SELECT work_unit.name, coalesce(attempt.data, work_unit.data)
          FROM attempt INDEXED BY attempt_pending
         CROSS JOIN work_unit ON work_unit.id = attempt.work_unit_id
         WHERE attempt.status = 3 AND work_spec_id = :spec AND CAST(work_unit.name AS BLOB) >= :start
         ORDER BY CAST(work_unit.name AS BLOB)
         LIMIT :limit";

    /// Uses index work_unit_by_name. Looks up the attempts of units in these statuses only.
    LIST_STANDINGS = "
        SELECT work_unit.name, work_unit.status, priority, not_before_us, failures,
               attempt.worker, attempt.start_us, attempt.end_us, attempt.expiration_us, attempt.traceback
          FROM work_unit
          LEFT JOIN attempt
            ON attempt.id = CASE WHEN (1 << work_unit.status) & :statuses THEN active_attempt_id END
         WHERE work_spec_id = :spec AND CAST(work_unit.name AS BLOB) >= :from
         ORDER BY CAST(work_unit.name AS BLOB)";

    /// Uses index work_unit_failed.
    LIST_STANDINGS_FAILED = "
        SELECT work_unit.name, work_unit.status, priority, not_before_us, failures,
               attempt.worker, attempt.start_us, attempt.end_us, attempt.expiration_us, attempt.traceback
          FROM work_unit
          LEFT JOIN attempt ON attempt.id = active_attempt_id
         WHERE work_spec_id = :spec AND CAST(work_unit.name AS BLOB) >= :from AND work_unit.status = 5
         ORDER BY CAST(work_unit.name AS BLOB)";

    /// Goes through the attempts that run now: few are pending among many.
    LIST_STANDINGS_PENDING = "
        SELECT work_unit.name, work_unit.status, priority, not_before_us, failures,
               attempt.worker, attempt.start_us, attempt.end_us, attempt.expiration_us, attempt.traceback
          FROM attempt INDEXED BY attempt_pending
         CROSS JOIN work_unit ON work_unit.id = attempt.work_unit_id
         WHERE attempt.status = 3 AND work_spec_id = :spec AND CAST(work_unit.name AS BLOB) >= :from
         ORDER BY CAST(work_unit.name AS BLOB)";

    /// Uses index work_unit_failed.
    LIST_FAILURES = "
        SELECT work_unit.name, attempt.traceback, attempt.end_us
          FROM work_unit
          JOIN attempt ON attempt.id = work_unit.active_attempt_id
         WHERE work_spec_id = :spec AND work_unit.status = 5
         ORDER BY CAST(work_unit.name AS BLOB)";
}

/// Attempts at one unit that are deleted in one step, a millisecond of work. Of a unit that had more, the
/// others are left to [`crate::coordinate::storage::WorkSpecStore::purge`].
const ATTEMPTS_AT_ONCE: usize = 100;

pub(super) const LARGEST_ID: &str = LARGEST_ID_OF_UNITS;
pub(super) const FIRST_NOT_BEFORE: &str = FIRST_NOT_BEFORE_OF_UNITS;

pub(super) fn row_to_unit(row: &Row<'_>) -> rusqlite::Result<WorkUnit> {
    Ok(WorkUnit {
        id: row.get(0)?,
        work_spec: row.get(1)?,
        status: row.get(2)?,
        priority: row.get(3)?,
        not_before: row.get(4)?,
        active: row.get(5)?,
        last: row.get(6)?,
        superseded: row.get(7)?,
        attempts_before: row.get(8)?,
        failures: row.get(9)?,
        lost: row.get(10)?,
        queued: Queued {
            group: row.get(11)?,
            place: row
                .get::<_, Option<i64>>(12)?
                .map_or(Place::ByName, Place::Number),
            in_turn: row.get(13)?,
        },
        available_since: row.get(14)?,
    })
}

fn number_of(place: Place) -> Option<i64> {
    match place {
        Place::Number(number) => Some(number),
        Place::ByName | Place::Last => None,
    }
}

impl SqliteStore {
    /// Gives the next number to a place behind all others.
    fn give_number(&mut self, spec: WorkSpecId, place: &mut Place) {
        if *place == Place::Last {
            *place = Place::Number(self.specs.next_number(spec));
        }
    }

    /// Removes units of a deleted spec, with their attempts: about `limit` rows. True if there are no more.
    pub(super) fn delete_units_of(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
    ) -> StorageResult<bool> {
        let units: Vec<(WorkUnitId, Option<AttemptId>)> = self
            .statements
            .prepared(UNITS_OF_SPEC)?
            .query_map(named_params! {":spec": spec, ":limit": limit}, |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let (mut rows, is_all) = (0, units.len() < limit);
        for (id, last) in units {
            if rows >= limit {
                return Ok(false);
            }
            let (attempts, rest) = self.delete_attempts(last)?;
            rows += attempts + 1;
            match rest {
                None => self.delete_unit(id)?,
                Some(rest) => {
                    self.leave_unit(id, spec, rest)?;
                    return Ok(false);
                }
            }
        }
        Ok(is_all)
    }

    /// Deletes the attempts at a unit from the last one back, at most [`ATTEMPTS_AT_ONCE`]. Returns how
    /// many it deleted, and the last one of those that are left.
    fn delete_attempts(
        &mut self,
        last: Option<AttemptId>,
    ) -> StorageResult<(usize, Option<AttemptId>)> {
        let (mut count, mut rest) = (0, None);
        if last.is_some() {
            let statement = self.statements.prepared(DELETE_ATTEMPTS)?;
            let mut rows =
                statement.query(named_params! {":last": last, ":limit": ATTEMPTS_AT_ONCE})?;
            let mut first = None;
            while let Some(row) = rows.next()? {
                let id: AttemptId = row.get(0)?;
                if first.is_none_or(|first| id < first) {
                    (first, rest) = (Some(id), row.get(1)?);
                }
                count += 1;
            }
        }
        Ok((count, rest))
    }

    fn delete_unit(&mut self, id: WorkUnitId) -> StorageResult<()> {
        self.delete_cancellation_if_any(id)?;
        self.statements
            .prepared(DELETE_UNIT)?
            .execute(named_params! {":id": id})?;
        Ok(())
    }

    fn leave_unit(
        &mut self,
        id: WorkUnitId,
        spec: WorkSpecId,
        last: AttemptId,
    ) -> StorageResult<()> {
        self.delete_cancellation_if_any(id)?;
        self.statements
            .prepared(LEAVE_UNIT)?
            .execute(named_params! {":spec": spec, ":last": last, ":id": id})?;
        Ok(())
    }

    fn note_delay(&mut self, unit: &WorkUnit) {
        if unit.status == UnitStatus::Delayed
            && let Some(not_before) = unit.not_before
        {
            self.note_due(not_before);
        }
    }
}

impl WorkUnitStore for SqliteStore {
    fn find_work_unit(&mut self, spec: WorkSpecId, name: &Name) -> StorageResult<Option<WorkUnit>> {
        let statement = self.statements.prepared(FIND_UNIT)?;
        let mut rows = statement.query(named_params! {":spec": spec, ":name": name.bytes()})?;
        Ok(rows.next()?.map(row_to_unit).transpose()?)
    }

    fn work_unit_standing(
        &mut self,
        spec: WorkSpecId,
        name: &Name,
    ) -> StorageResult<Option<UnitStanding>> {
        let statement = self.statements.prepared(STANDING)?;
        let mut rows = statement.query(named_params! {":spec": spec, ":name": name.bytes()})?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(UnitStanding {
            id: row.get(7)?,
            status: row.get(0)?,
            lease_or_completion: row.get(1)?,
            worker: row.get(2)?,
            data: row.get(3)?,
            not_before: row.get(4)?,
            failures: row.get(5)?,
            lost: row.get(6)?,
            group: row.get(8)?,
        }))
    }

    fn get_work_unit(&mut self, id: WorkUnitId) -> StorageResult<Option<WorkUnit>> {
        let statement = self.statements.prepared(GET_UNIT)?;
        let mut rows = statement.query(named_params! {":id": id})?;
        Ok(rows.next()?.map(row_to_unit).transpose()?)
    }

    fn work_unit_data(&mut self, id: WorkUnitId) -> StorageResult<Vec<u8>> {
        Ok(self
            .statements
            .prepared(SELECT_DATA)?
            .query_row(named_params! {":id": id}, |row| row.get(0))?)
    }

    fn insert_work_unit(
        &mut self,
        now: Timestamp,
        spec: WorkSpecId,
        inserted: InsertedUnit<'_>,
    ) -> StorageResult<WorkUnit> {
        let InsertedUnit {
            name,
            priority,
            not_before,
            group,
            data,
        } = inserted;
        let (status, available_since) = if not_before.is_some() {
            (UnitStatus::Delayed, None)
        } else {
            (UnitStatus::Available, Some(now))
        };
        let mut queued = Queued::new(group, self.specs.queueing(spec));
        self.give_number(spec, &mut queued.place);
        let in_name_order = self.is_in_name_order(spec, name, status, priority, &queued);
        let id = WorkUnitId(self.next_unit_id);
        self.next_unit_id += 1;
        self.statements
            .prepared(INSERT_UNIT)?
            .execute(named_params! {
                ":id": id,
                ":spec": spec,
                ":name": name,
                ":status": status,
                ":priority": priority,
                ":not_before": not_before,
                ":data": data,
                ":in_name_order": in_name_order,
                ":group": queued.group,
                ":place": number_of(queued.place),
                ":in_turn": queued.in_turn,
                ":available_since": available_since,
            })?;
        let unit = WorkUnit {
            id,
            work_spec: spec,
            status,
            priority,
            not_before,
            active: None,
            last: None,
            superseded: None,
            attempts_before: 0,
            failures: 0,
            lost: 0,
            queued,
            available_since,
        };
        self.count_unit(spec, None, Some((unit.counted(), now)))?;
        self.note_delay(&unit);
        Ok(unit)
    }

    fn update_work_unit(
        &mut self,
        now: Timestamp,
        before: Counted,
        unit: &WorkUnit,
    ) -> StorageResult<()> {
        let mut place = unit.queued.place;
        self.give_number(unit.work_spec, &mut place);
        self.statements
            .prepared(UPDATE_UNIT)?
            .execute(named_params! {
                ":status": unit.status,
                ":priority": unit.priority,
                ":not_before": unit.not_before,
                ":active": unit.active,
                ":last": unit.last,
                ":superseded": unit.superseded,
                ":attempts_before": unit.attempts_before,
                ":failures": unit.failures,
                ":lost": unit.lost,
                ":group": unit.queued.group,
                ":place": number_of(place),
                ":in_turn": unit.queued.in_turn,
                ":available_since": unit.available_since,
                ":id": unit.id,
            })?;
        self.count_unit(unit.work_spec, Some(before), Some((unit.counted(), now)))?;
        self.note_delay(unit);
        self.note_completion(unit);
        self.specs.note_changed_unit(unit.id);
        Ok(())
    }

    fn set_work_unit_data(&mut self, id: WorkUnitId, data: &[u8]) -> StorageResult<()> {
        self.statements
            .prepared(UPDATE_DATA)?
            .execute(named_params! {":data": data, ":id": id})?;
        Ok(())
    }

    fn delete_work_unit(&mut self, unit: &WorkUnit) -> StorageResult<()> {
        match self.delete_attempts(unit.last)? {
            (_, None) => self.delete_unit(unit.id)?,
            (_, Some(rest)) => {
                let nowhere = self.insert_deleted_spec(unit.work_spec)?;
                self.leave_unit(unit.id, nowhere, rest)?;
            }
        }
        self.count_unit(unit.work_spec, Some(unit.counted()), None)?;
        self.specs.note_changed_unit(unit.id);
        Ok(())
    }

    fn last_name(&mut self, spec: WorkSpecId) -> StorageResult<Option<Name>> {
        let statement = self.statements.prepared(LAST_NAME)?;
        let mut rows = statement.query(named_params! {":spec": spec})?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
    }

    fn newest_unit(&self) -> WorkUnitId {
        WorkUnitId(self.next_unit_id - 1)
    }

    fn work_units_in(&mut self, query: &InStatusQuery<'_>) -> StorageResult<UnitsInStatus> {
        let sql = match query.statuses {
            [UnitStatus::Failed] => UNITS_FAILED,
            _ => UNITS_BY_NAME,
        };
        let after = query.after.map(Name::bytes);
        let mut rows = self.statements.prepared(sql)?.query(named_params! {
            ":spec": query.spec, ":after": after, ":until": query.until.bytes(),
        })?;
        let mut units = Vec::new();
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            looked_at += 1;
            if query.statuses.contains(&row.get(2)?) {
                units.push(row_to_unit(row)?);
            }
            if units.len() >= query.limit || looked_at >= query.looked_at_max {
                let looked_to = Some(row.get(15)?);
                return Ok(UnitsInStatus { units, looked_to });
            }
        }
        let looked_to = None;
        Ok(UnitsInStatus { units, looked_to })
    }

    fn units_no_longer_delayed(
        &mut self,
        now: Timestamp,
        limit: usize,
    ) -> StorageResult<Vec<WorkUnit>> {
        let statement = self.statements.prepared(NO_LONGER_DELAYED)?;
        let units =
            statement.query_map(named_params! {":now": now, ":limit": limit}, row_to_unit)?;
        Ok(units.collect::<rusqlite::Result<_>>()?)
    }
}

/// The newest attempt at a unit, if the unit is there, and if there was one.
pub(super) fn last_attempt_of(
    connection: &Connection,
    spec: WorkSpecId,
    name: &Name,
) -> rusqlite::Result<Option<Option<AttemptId>>> {
    let mut statement = prepared(connection, FIND_UNIT)?;
    let mut rows = statement.query(named_params! {":spec": spec, ":name": name.bytes()})?;
    rows.next()?
        .map(|row| row.get("last_attempt_id"))
        .transpose()
}

/// A bit for each status.
fn status_bits(statuses: &[UnitStatus]) -> i64 {
    statuses
        .iter()
        .fold(0, |bits, status| bits | 1 << *status as i64)
}

/// Shows `visit` the units that a query asks for.
pub(super) fn list_units(
    connection: &Connection,
    spec: WorkSpecId,
    query: &UnitQuery,
    visit: &mut VisitUnit<'_>,
) -> Result<()> {
    let start = query.start.as_ref().map_or(&[][..], Name::bytes);
    let limit = query.limit;
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let sql = match query.statuses.as_deref() {
        None => LIST_ALL,
        Some([]) => return Ok(()),
        Some([UnitStatus::Failed]) => LIST_FAILED,
        Some([UnitStatus::Pending]) => LIST_PENDING,
        Some(_) => LIST_IN_STATUSES,
    };
    let mut statement = prepared(connection, sql).map_err(storage)?;
    let mut rows = match query.statuses.as_deref() {
        Some(statuses) if sql == LIST_IN_STATUSES => {
            let statuses = status_bits(statuses);
            statement.query(
                named_params! {":spec": spec, ":start": start, ":limit": limit, ":statuses": statuses},
            )
        }
        _ => statement.query(named_params! {":spec": spec, ":start": start, ":limit": limit}),
    }
    .map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        let name: Name = row.get(0).map_err(storage)?;
        let data = row
            .get_ref(1)
            .and_then(|data| Ok(data.as_blob()?))
            .map_err(storage)?;
        visit(&name, data)?;
    }
    Ok(())
}

/// Shows `visit` units without their data.
pub(super) fn list_standings(
    connection: &Connection,
    spec: WorkSpecId,
    query: &StandingQuery,
    visit: &mut VisitStanding<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let from = query.from.bytes();
    let sql = match query.status {
        Some(UnitStatus::Failed) => LIST_STANDINGS_FAILED,
        Some(UnitStatus::Pending) => LIST_STANDINGS_PENDING,
        _ => LIST_STANDINGS,
    };
    let mut statement = prepared(connection, sql).map_err(storage)?;
    let mut rows = if sql == LIST_STANDINGS {
        let statuses = query
            .status
            .as_ref()
            .map_or(&UnitStatus::ALL[..], std::slice::from_ref);
        let statuses = status_bits(statuses);
        statement.query(named_params! {":spec": spec, ":from": from, ":statuses": statuses})
    } else {
        statement.query(named_params! {":spec": spec, ":from": from})
    }
    .map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        let unit = row_to_listed_unit(row).map_err(storage)?;
        // It may be long, and is not copied.
        let traceback = match unit.status {
            UnitStatus::Failed => row
                .get_ref(9)
                .and_then(|traceback| Ok(traceback.as_bytes_or_null()?))
                .map_err(storage)?,
            _ => None,
        };
        let traceback = traceback.map(String::from_utf8_lossy);
        if visit(unit, traceback.as_deref())?.is_break() {
            break;
        }
    }
    Ok(())
}

fn row_to_listed_unit(row: &Row<'_>) -> rusqlite::Result<ListedUnit> {
    let attempt = match row.get(6)? {
        Some(start) => Some(ListedAttempt {
            worker: row.get(5)?,
            start,
            end: row.get(7)?,
            expiration: row.get(8)?,
        }),
        None => None,
    };
    Ok(ListedUnit {
        name: row.get(0)?,
        status: row.get(1)?,
        priority: row.get(2)?,
        not_before: row.get(3)?,
        failures: row.get(4)?,
        attempt,
        message: None,
    })
}

/// Shows `visit` the failed units.
pub(super) fn list_failures(
    connection: &Connection,
    spec: WorkSpecId,
    visit: &mut VisitFailure<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let mut statement = prepared(connection, LIST_FAILURES).map_err(storage)?;
    let mut rows = statement
        .query(named_params! {":spec": spec})
        .map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        let name: Name = row.get(0).map_err(storage)?;
        // It may be long, and is not copied.
        let traceback = row
            .get_ref(1)
            .and_then(|traceback| Ok(traceback.as_bytes_or_null()?))
            .map_err(storage)?;
        let traceback = traceback.map(String::from_utf8_lossy);
        let at: Timestamp = row.get(2).map_err(storage)?;
        visit(&name, traceback.as_deref(), at)?;
    }
    Ok(())
}
