//! The queue: which available units come next.
//!
//! They are handed out by priority, then by name. A unit that is inserted with priority 0 is in its
//! place already, in the index of names: it is *in name order*, and is found by going through the names
//! from the last one that was passed. All other available units, and those that come back to names that
//! were passed, are *queued* in an index of their own, which is small where most units have no priority.
//! An index of all of them would cost another page for each unit that is added with a random name.
//!
//! How far the names have been passed is kept with the counts: in memory, and written with each batch.

use super::SqliteStore;
use super::statement::statements;
use super::units::row_to_unit;
use crate::coordinate::storage::{AvailableUnit, BestUnits, QueueStore, StorageResult};
use crate::coordinate::{Name, UnitStatus, UnitsAhead, WorkSpecId, WorkUnit};
use rusqlite::types::ValueRef;
use rusqlite::{Row, named_params};

statements! {
    /// Uses index work_unit_queued.
    BEST_QUEUED = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_number, attempts_before, failures, lost, name, data
          FROM work_unit
         WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0
         ORDER BY priority DESC, CAST(name AS BLOB)
         LIMIT :limit";

    /// Uses index work_unit_queued, as the next one does.
    QUEUED_WITH_HIGHER_PRIORITY = "
        SELECT count(*)
          FROM (SELECT 1
                  FROM work_unit
                 WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0
                   AND priority > :priority
                 LIMIT :limit)";

    QUEUED_WITH_LOWER_NAME = "
        SELECT count(*)
          FROM (SELECT 1
                  FROM work_unit
                 WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0
                   AND priority = :priority AND CAST(name AS BLOB) < :name
                 LIMIT :limit)";

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
               CASE status WHEN 1 THEN lost ELSE 0 END, name, CASE status WHEN 1 THEN data END,
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

fn row_to_available(row: &Row<'_>) -> rusqlite::Result<AvailableUnit> {
    Ok(AvailableUnit {
        unit: row_to_unit(row)?,
        name: row.get(11)?,
        data: row.get(12)?,
    })
}

/// How many queued units come before all in name order, if those have names after this one, or from it
/// on: two units never have the same.
fn count_before(queued: &[AvailableUnit], name: Option<&[u8]>) -> usize {
    queued.partition_point(|queued| {
        let AvailableUnit {
            unit, name: own, ..
        } = queued;
        unit.priority > 0.0 || unit.priority == 0.0 && name.is_some_and(|name| own.bytes() <= name)
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
        if let Some(head) = queued.first().filter(|head| head.unit.priority == 0.0) {
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
        let (spec, priority) = (unit.work_spec, unit.priority);
        let higher: usize = self
            .statements
            .prepared(QUEUED_WITH_HIGHER_PRIORITY)?
            .query_row(
                named_params! {":spec": spec, ":priority": priority, ":limit": limit},
                |row| row.get(0),
            )?;
        let lower_name: usize = self
            .statements
            .prepared(QUEUED_WITH_LOWER_NAME)?
            .query_row(
                named_params! {
                    ":spec": spec, ":priority": priority, ":name": name.bytes(), ":limit": limit,
                },
                |row| row.get(0),
            )?;
        let mut ahead = UnitsAhead {
            count: higher + lower_name,
            is_all: higher < limit && lower_name < limit,
        };
        // Those in name order have priority 0.
        if priority <= 0.0 {
            let before = (priority == 0.0).then_some(name.bytes());
            let in_name_order = self.count_in_name_order(spec, before, limit)?;
            ahead.count += in_name_order.count;
            ahead.is_all &= in_name_order.is_all;
        }
        Ok(ahead)
    }
}

impl SqliteStore {
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
            if row.get(13)? {
                let unit = row_to_available(row)?;
                bytes += unit.data.len();
                found.units.push(unit);
            } else {
                passed_count += 1;
                if found.units.is_empty()
                    && let ValueRef::Text(name) | ValueRef::Blob(name) = row.get_ref(11)?
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
    ) -> bool {
        let passed = self.specs.passed_name(spec);
        status == UnitStatus::Available
            && priority == 0.0
            && passed.is_none_or(|passed| name.bytes() > passed)
    }
}
