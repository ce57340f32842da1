//! The queue: which available units come next.
//!
//! They are handed out by priority, then by name, or in the order in which they were added. In that order each has a number
//! as its place, and those that go by name have none. If a work spec takes groups in turn, see groups.rs.
//!
//! A unit that goes by name and is inserted with priority 0 is in its
//! place already, in the index of names: it is *in name order*, and is found by going through the names
//! from the last one that was passed. All other available units, and those that come back to names that
//! were passed, are *queued* in an index of their own, which is small where most units have no priority.
//! An index of all of them would cost another page for each unit that is added with a random name.
//!
//! When a work spec changes how it queues its units, those that are available stay where they are. They are moved in steps,
//! and until then get_work looks in both places.
//!
//! How far the names have been passed is kept with the counts: in memory, and written with each batch.

use super::SqliteStore;
use super::statement::statements;
use super::units::row_to_unit;
use crate::coordinate::storage::{AvailableUnit, BestUnits, QueueStore, StorageResult};
use crate::coordinate::{
    Name, NextGroup, Place, Queued, Queueing, UnitStatus, UnitsAhead, WorkSpecId, WorkUnit,
    WorkUnitId,
};
use crate::limits;
use rusqlite::types::ValueRef;
use rusqlite::{Row, ToSql, named_params};

statements! {
    /// Uses index work_unit_queued.
    BEST_QUEUED = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_number, attempts_before, failures, lost, group_name, place, in_turn,
               available_since_us, name, data
          FROM work_unit
         WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0 AND in_turn = 0
         ORDER BY priority DESC, place, CAST(name AS BLOB)
         LIMIT :limit";

    /// Uses index work_unit_queued, as the next four do.
    QUEUED_WITH_HIGHER_PRIORITY = "
        SELECT count(*)
          FROM (SELECT 1
                  FROM work_unit
                 WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0 AND in_turn = 0
                   AND priority > :priority
                 LIMIT :limit)";

    QUEUED_WITH_LOWER_NAME = "
        SELECT count(*)
          FROM (SELECT 1
                  FROM work_unit
                 WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0 AND in_turn = 0
                   AND priority = :priority AND place IS NULL AND CAST(name AS BLOB) < :name
                 LIMIT :limit)";

    QUEUED_BY_NAME = "
        SELECT count(*)
          FROM (SELECT 1
                  FROM work_unit
                 WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0 AND in_turn = 0
                   AND priority = :priority AND place IS NULL
                 LIMIT :limit)";

    QUEUED_WITH_LOWER_PLACE = "
        SELECT count(*)
          FROM (SELECT 1
                  FROM work_unit
                 WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0 AND in_turn = 0
                   AND priority = :priority AND place < :place
                 LIMIT :limit)";

    QUEUED_OUT_OF_TURN = "
        SELECT id, group_name, in_turn
          FROM work_unit
         WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0 AND in_turn = 0
         LIMIT :limit";

    REQUEUE = "UPDATE work_unit SET in_name_order = 0, in_turn = :in_turn WHERE id = :id";

    /// Uses index work_unit_by_name.
    NAMES_TO_COME = "
        SELECT name, in_name_order
          FROM work_unit
         WHERE work_spec_id = :spec AND CAST(name AS BLOB) > coalesce(:passed, -1)
         ORDER BY CAST(name AS BLOB)
         LIMIT :limit";

    /// Uses index work_unit_by_name. No name at all is before all. What follows the status is not read
    /// of units that are passed: it may be on other pages.
    IN_NAME_ORDER = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_number, attempts_before, CASE status WHEN 1 THEN failures ELSE 0 END,
               CASE status WHEN 1 THEN lost ELSE 0 END, CASE status WHEN 1 THEN group_name END,
               CASE status WHEN 1 THEN place END, 0,
               CASE status WHEN 1 THEN available_since_us END, name, CASE status WHEN 1 THEN data END,
               CASE status WHEN 1 THEN in_name_order ELSE 0 END
          FROM work_unit
         WHERE work_spec_id = :spec AND CAST(name AS BLOB) > coalesce(:passed, -1)
         ORDER BY CAST(name AS BLOB)";
}

/// At most how many names one search passes: some milliseconds. Only units that were never handed out in
/// the order of names (they had a priority or a delay, or were reported on without being handed out)
/// make it pass more than what was handed out since the last search.
const PASSED_MAX: usize = 5_000;

/// What going through the names gave.
struct InNameOrder {
    units: Vec<AvailableUnit>,
    /// False if there may be more after them.
    is_all: bool,
}

pub(super) fn row_to_available(row: &Row<'_>) -> rusqlite::Result<AvailableUnit> {
    Ok(AvailableUnit {
        unit: row_to_unit(row)?,
        name: row.get(15)?,
        data: row.get(16)?,
    })
}

/// How many queued units come before all in name order, if those have names after this one, or from it
/// on: two units never have the same.
fn count_before(queued: &[AvailableUnit], name: Option<&[u8]>) -> usize {
    queued.partition_point(|queued| {
        let AvailableUnit {
            unit, name: own, ..
        } = queued;
        unit.priority > 0.0
            || unit.priority == 0.0
                && unit.queued.place == Place::ByName
                && name.is_some_and(|name| own.bytes() <= name)
    })
}

impl QueueStore for SqliteStore {
    fn best_available_units(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
        bytes_max: usize,
    ) -> StorageResult<BestUnits> {
        let mut queued = self.best_queued(spec, limit, bytes_max)?;
        if !self.has_names(spec) {
            return Ok(BestUnits::Found(queued));
        }
        let sure = count_before(&queued, self.specs.passed_name(spec));
        if sure > 0 {
            queued.truncate(sure);
            return Ok(BestUnits::Found(queued));
        }
        let InNameOrder { mut units, is_all } = self.units_in_name_order(spec, limit, bytes_max)?;
        if units.is_empty() && is_all {
            return Ok(BestUnits::Found(queued));
        }
        // Whichever is better goes as far as the head of the other: there may be fewer than asked for.
        let next_in_name_order = match units.first() {
            Some(first) => Some(first.name.bytes()),
            None => self.specs.passed_name(spec),
        };
        let sure = count_before(&queued, next_in_name_order);
        if sure > 0 {
            queued.truncate(sure);
            return Ok(BestUnits::Found(queued));
        }
        if let Some(head) = queued
            .first()
            .filter(|head| head.unit.priority == 0.0 && head.unit.queued.place == Place::ByName)
        {
            let end = units.partition_point(|unit| unit.name.bytes() < head.name.bytes());
            units.truncate(end);
        }
        Ok(if units.is_empty() {
            BestUnits::NotYet
        } else {
            BestUnits::Found(units)
        })
    }

    fn units_ahead(
        &mut self,
        unit: &WorkUnit,
        name: &Name,
        limit: usize,
    ) -> StorageResult<UnitsAhead> {
        if let Some(group) = unit.queued.group_in_turn() {
            return self.count_ahead_in_group(unit, group, limit);
        }
        let (spec, priority) = (unit.work_spec, unit.priority);
        let of_priority = named_params! {":spec": spec, ":priority": priority, ":limit": limit};
        let mut counts = vec![self.count(QUEUED_WITH_HIGHER_PRIORITY, of_priority)?];
        if let Place::Number(place) = unit.queued.place {
            counts.push(self.count(QUEUED_BY_NAME, of_priority)?);
            counts.push(self.count(
                QUEUED_WITH_LOWER_PLACE,
                named_params! {
                    ":spec": spec, ":priority": priority, ":place": place, ":limit": limit,
                },
            )?);
        } else {
            counts.push(self.count(
                QUEUED_WITH_LOWER_NAME,
                named_params! {
                    ":spec": spec, ":priority": priority, ":name": name.bytes(), ":limit": limit,
                },
            )?);
        }
        let mut ahead = UnitsAhead {
            count: counts.iter().sum(),
            is_all: counts.iter().all(|count| *count < limit),
        };
        // Those in name order have priority 0.
        if priority <= 0.0 && self.has_names(spec) {
            let goes_by_name = priority == 0.0 && unit.queued.place == Place::ByName;
            let before = goes_by_name.then_some(name.bytes());
            let in_name_order = self.count_in_name_order(spec, before, limit)?;
            ahead.count += in_name_order.count;
            ahead.is_all &= in_name_order.is_all;
        }
        Ok(ahead)
    }

    fn next_group(&mut self, spec: WorkSpecId) -> StorageResult<Option<NextGroup>> {
        self.find_next_group(spec)
    }

    fn best_of_group(
        &mut self,
        spec: WorkSpecId,
        group: &str,
    ) -> StorageResult<Option<AvailableUnit>> {
        self.find_best_of_group(spec, group)
    }

    fn pending_in_group(&mut self, spec: WorkSpecId, group: &str) -> StorageResult<u64> {
        self.count_pending_in_group(spec, group)
    }

    fn groups_ahead(
        &mut self,
        spec: WorkSpecId,
        group: &str,
        limit: usize,
    ) -> StorageResult<UnitsAhead> {
        self.count_groups_ahead(spec, group, limit)
    }

    fn next_to_requeue(&self) -> Option<WorkSpecId> {
        self.specs.to_requeue.first().copied()
    }

    fn has_to_requeue(&self, spec: WorkSpecId) -> bool {
        self.specs.to_requeue.contains(&spec)
    }

    fn requeue(&mut self, spec: WorkSpecId, limit: usize) -> StorageResult<()> {
        let queueing = self.specs.queueing(spec);
        let mut moved = if queueing.in_turn {
            self.units_out_of_turn(spec, limit)?
        } else {
            self.units_in_turn(spec, limit)?
        };
        let mut is_all = moved.len() < limit;
        // Those in name order stay there if the work spec has units there.
        if is_all && queueing != Queueing::default() {
            let found = self.units_in_name_order(spec, limit - moved.len(), limits::SWEEP_BYTES)?;
            is_all = found.is_all;
            moved.extend(found.units.into_iter().map(|found| MovedUnit {
                id: found.unit.id,
                group: found.unit.queued.group,
                in_turn: false,
            }));
        }
        for unit in moved {
            self.statements
                .prepared(REQUEUE)?
                .execute(named_params! {":in_turn": queueing.in_turn, ":id": unit.id})?;
            if unit.in_turn != queueing.in_turn {
                let group = unit.group.as_deref().unwrap_or_default();
                self.move_between_groups(spec, group, queueing.in_turn)?;
            }
        }
        if is_all {
            self.end_requeueing(spec);
        }
        Ok(())
    }
}

/// An available unit that is to be queued in another way.
pub(super) struct MovedUnit {
    id: WorkUnitId,
    group: Option<String>,
    in_turn: bool,
}

impl MovedUnit {
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            group: row.get(1)?,
            in_turn: row.get(2)?,
        })
    }
}

impl SqliteStore {
    /// True if a spec may have units in name order.
    fn has_names(&self, spec: WorkSpecId) -> bool {
        self.specs.queueing(spec) == Queueing::default() || self.has_to_requeue(spec)
    }

    /// Runs a statement that counts.
    fn count(&mut self, sql: &'static str, values: &[(&str, &dyn ToSql)]) -> StorageResult<usize> {
        let statement = self.statements.prepared(sql)?;
        Ok(statement.query_row(values, |row| row.get(0))?)
    }

    /// Queued units that are not taken in turn.
    fn units_out_of_turn(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
    ) -> StorageResult<Vec<MovedUnit>> {
        let statement = self.statements.prepared(QUEUED_OUT_OF_TURN)?;
        let units = statement.query_map(
            named_params! {":spec": spec, ":limit": limit},
            MovedUnit::from_row,
        )?;
        Ok(units.collect::<rusqlite::Result<_>>()?)
    }

    fn best_queued(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
        bytes_max: usize,
    ) -> StorageResult<Vec<AvailableUnit>> {
        let statement = self.statements.prepared(BEST_QUEUED)?;
        let mut rows = statement.query(named_params! {":spec": spec, ":limit": limit})?;
        let mut units = Vec::new();
        let mut bytes = 0;
        while bytes <= bytes_max
            && let Some(row) = rows.next()?
        {
            let unit = row_to_available(row)?;
            bytes += unit.data.len();
            units.push(unit);
        }
        Ok(units)
    }

    /// The first units that are in name order. Passes the names before them for good.
    fn units_in_name_order(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
        bytes_max: usize,
    ) -> StorageResult<InNameOrder> {
        let statement = self.statements.prepared(IN_NAME_ORDER)?;
        let passed = self.specs.passed_name(spec);
        let mut rows = statement.query(named_params! {":spec": spec, ":passed": passed})?;
        let mut found = InNameOrder {
            units: Vec::new(),
            is_all: false,
        };
        let mut last_passed: Option<Vec<u8>> = None;
        let (mut bytes, mut passed_count) = (0, 0);
        while found.units.len() < limit && bytes <= bytes_max && passed_count < PASSED_MAX {
            let Some(row) = rows.next()? else {
                found.is_all = true;
                break;
            };
            if row.get(17)? {
                let unit = row_to_available(row)?;
                bytes += unit.data.len();
                found.units.push(unit);
            } else {
                passed_count += 1;
                if found.units.is_empty()
                    && let ValueRef::Text(name) | ValueRef::Blob(name) = row.get_ref(15)?
                {
                    let last_passed = last_passed.get_or_insert_default();
                    last_passed.clear();
                    last_passed.extend_from_slice(name);
                }
            }
        }
        drop(rows);
        if let Some(last_passed) = last_passed {
            self.pass_names(spec, last_passed);
        }
        Ok(found)
    }

    /// How many units are in name order before a name, or in all, among the next `limit` names.
    fn count_in_name_order(
        &mut self,
        spec: WorkSpecId,
        before: Option<&[u8]>,
        limit: usize,
    ) -> StorageResult<UnitsAhead> {
        let statement = self.statements.prepared(NAMES_TO_COME)?;
        let passed = self.specs.passed_name(spec);
        let mut rows =
            statement.query(named_params! {":spec": spec, ":passed": passed, ":limit": limit})?;
        let (mut looked_at, mut count) = (0, 0);
        while let Some(row) = rows.next()? {
            let name = match row.get_ref(0)? {
                ValueRef::Text(name) | ValueRef::Blob(name) => name,
                _ => &[],
            };
            if before.is_some_and(|before| name >= before) {
                return Ok(UnitsAhead {
                    count,
                    is_all: true,
                });
            }
            looked_at += 1;
            count += usize::from(row.get::<_, bool>(1)?);
        }
        let is_all = looked_at < limit;
        Ok(UnitsAhead { count, is_all })
    }

    /// True if a unit is to be inserted in name order.
    pub(super) fn is_in_name_order(
        &self,
        spec: WorkSpecId,
        name: &Name,
        status: UnitStatus,
        priority: f64,
        queued: &Queued,
    ) -> bool {
        let passed = self.specs.passed_name(spec);
        status == UnitStatus::Available
            && queued.place == Place::ByName
            && !queued.in_turn
            && priority == 0.0
            && passed.is_none_or(|passed| name.bytes() > passed)
    }
}
