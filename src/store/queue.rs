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
use crate::coordinate::storage::{AvailableUnit, BestUnits, StorageResult};
use crate::coordinate::{Name, UnitStatus, WorkSpecId};
use rusqlite::types::ValueRef;
use rusqlite::{Row, named_params};

statements! {
    /// Uses index work_unit_queued.
    BEST_QUEUED = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_attempt_id, attempts_before, name, data
          FROM work_unit
         WHERE work_spec_id = :spec AND status = 1 AND in_name_order = 0
         ORDER BY priority DESC, CAST(name AS BLOB)
         LIMIT :limit";

    /// Uses index work_unit_by_name. No name at all is before all. What follows the status is not read
    /// of units that are passed: it may be on other pages.
    IN_NAME_ORDER = "
        SELECT id, work_spec_id, status, priority, not_before_us, active_attempt_id, last_attempt_id,
               superseded_attempt_id, attempts_before, name, CASE status WHEN 1 THEN data END,
               CASE status WHEN 1 THEN in_name_order ELSE 0 END
          FROM work_unit
         WHERE work_spec_id = :spec AND CAST(name AS BLOB) > coalesce(:passed, -1)
         ORDER BY CAST(name AS BLOB)";
}

/// Names that one look passes at the most: some milliseconds. Only units that were never handed out in
/// the order of names (they had a priority or a delay, or were reported on without being handed out)
/// make it pass more than what was handed out since the last look.
const PASSED_MAX: usize = 5_000;

/// What going through the names gave.
struct InNameOrder {
    units: Vec<AvailableUnit>,
    /// False if there may be more behind them.
    is_all: bool,
}

fn row_to_available(row: &Row<'_>) -> rusqlite::Result<AvailableUnit> {
    Ok(AvailableUnit {
        unit: row_to_unit(row)?,
        name: row.get(9)?,
        data: row.get(10)?,
    })
}

/// True if a unit with this priority is in name order when it is inserted as available.
pub(super) fn goes_by_name(priority: f64, name: &Name, passed: Option<&[u8]>) -> bool {
    priority == 0.0 && passed.is_none_or(|passed| name.bytes() > passed)
}

impl SqliteStore {
    /// See [`crate::coordinate::storage::WorkUnitStore::best_available_units`].
    pub(super) fn best_units(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
        bytes_max: usize,
    ) -> StorageResult<BestUnits> {
        let mut queued = self.best_queued(spec, limit, bytes_max)?;
        // Nothing in name order has a name that was passed, or a priority.
        let before_all_in_name_order = |unit: &AvailableUnit, passed: Option<&[u8]>| {
            let AvailableUnit { unit, name, .. } = unit;
            unit.priority > 0.0 || unit.priority == 0.0 && !goes_by_name(0.0, name, passed)
        };
        let passed = self.specs.passed_name(spec);
        let sure = queued.partition_point(|unit| before_all_in_name_order(unit, passed));
        if sure > 0 {
            queued.truncate(sure);
            return Ok(BestUnits::Found(queued));
        }
        let InNameOrder { mut units, is_all } = self.units_in_name_order(spec, limit, bytes_max)?;
        let Some(head) = queued.first() else {
            return Ok(if units.is_empty() && !is_all {
                BestUnits::NotYet
            } else {
                BestUnits::Found(units)
            });
        };
        let Some(first) = units.first() else {
            if !is_all {
                // What is queued behind the names that were passed may not be the next of them.
                let passed = self.specs.passed_name(spec);
                let sure = queued.partition_point(|unit| before_all_in_name_order(unit, passed));
                queued.truncate(sure);
            }
            return Ok(if is_all || !queued.is_empty() {
                BestUnits::Found(queued)
            } else {
                BestUnits::NotYet
            });
        };
        // Whichever is better goes as far as the head of the other: there may be fewer than asked for.
        let is_before = |queued: &AvailableUnit, in_name_order: &AvailableUnit| {
            let names = queued.name.bytes() < in_name_order.name.bytes();
            queued.unit.priority > 0.0 || queued.unit.priority == 0.0 && names
        };
        if is_before(head, first) {
            let end = queued.partition_point(|unit| is_before(unit, first));
            queued.truncate(end);
            Ok(BestUnits::Found(queued))
        } else {
            let end = units.partition_point(|unit| !is_before(head, unit));
            units.truncate(end);
            Ok(BestUnits::Found(units))
        }
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
            if row.get(11)? {
                let unit = row_to_available(row)?;
                bytes += unit.data.len();
                found.units.push(unit);
            } else {
                passed_count += 1;
                if found.units.is_empty()
                    && let ValueRef::Text(name) | ValueRef::Blob(name) = row.get_ref(9)?
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

    /// True if a unit is to be inserted in name order.
    pub(super) fn is_in_name_order(
        &self,
        spec: WorkSpecId,
        name: &Name,
        status: UnitStatus,
        priority: f64,
    ) -> bool {
        status == UnitStatus::Available
            && goes_by_name(priority, name, self.specs.passed_name(spec))
    }
}
