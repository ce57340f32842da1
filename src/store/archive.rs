//! The oldest finished and failed units of a work spec: those that may be archived.
//!
//! No index has them in their order, but the attempts are in it: their ids grow. So a search goes through the attempts
//! from a mark after which all finished units of the spec, or all failed ones, have their active attempts. The mark
//! moves forward with each search, so that each attempt is passed once for each status and each work spec,
//! and back if the unit of an attempt that was passed is completed after all. Like the name that
//! get_work has passed (queue.rs) it is kept with the counts: in memory, and written with each batch.

use super::SqliteStore;
use super::statement::statements;
use super::units::row_to_unit;
use crate::clock::Timestamp;
use crate::coordinate::storage::{
    ArchiveStore, CompletedQuery, CompletedUnit, CompletedUnits, StorageResult, WorkUnitStore,
};
use crate::coordinate::{AttemptId, Completed, UnitStatus, WorkSpecId, WorkUnit};
use rusqlite::named_params;

statements! {
    /// Goes through the attempts, and reads the unit only if the attempt has the unit's status, as an active one
    /// has. Only the length of data is taken, which needs none of their pages.
    COMPLETED = "
        SELECT work_unit.id, work_spec_id, work_unit.status, priority, not_before_us, active_attempt_id,
               last_attempt_id, superseded_number, attempts_before, failures, lost,
               group_name, place, in_turn, available_since_us, attempt.id, start_us, end_us, number,
               length(work_unit.data) + coalesce(length(attempt.data), 0) * number
          FROM attempt
          LEFT JOIN work_unit ON work_unit.id = CASE attempt.status WHEN :status THEN work_unit_id END
                             AND active_attempt_id = attempt.id AND work_spec_id = :spec
         WHERE attempt.id > :after
         ORDER BY attempt.id";
}

impl ArchiveStore for SqliteStore {
    fn completed_units(&mut self, query: &CompletedQuery) -> StorageResult<CompletedUnits> {
        let oldest = self.specs.completed_after(query.spec, query.status);
        let after = query.after.unwrap_or(oldest);
        let found = self.completed_after_attempt(after, query)?;
        if after <= oldest {
            let passed = match found.units.first() {
                Some(first) => AttemptId(first.attempt.0 - 1),
                None => found.looked_to,
            };
            if passed != oldest {
                self.set_completed_after(query.spec, query.status, passed);
            }
        }
        Ok(found)
    }

    fn archive_work_unit(&mut self, unit: &WorkUnit, status: Completed) -> StorageResult<()> {
        self.delete_work_unit(unit)?;
        if let Some(archived) = self.archived_to_change(unit.work_spec, status) {
            *archived += 1;
        }
        Ok(())
    }

    fn forget_archived(&mut self, spec: WorkSpecId, status: Completed) -> StorageResult<u64> {
        let archived = self.archived_to_change(spec, status);
        Ok(archived.map_or(0, std::mem::take))
    }

    fn newest_attempt(&self) -> AttemptId {
        AttemptId(self.next_attempt_id - 1)
    }
}

impl SqliteStore {
    fn completed_after_attempt(
        &mut self,
        after: AttemptId,
        query: &CompletedQuery,
    ) -> StorageResult<CompletedUnits> {
        let status = UnitStatus::from(query.status);
        let statement = self.statements.prepared(COMPLETED)?;
        let mut rows = statement
            .query(named_params! {":status": status, ":spec": query.spec, ":after": after})?;
        let mut found = CompletedUnits {
            units: Vec::new(),
            looked_at: 0,
            looked_to: after,
            is_all: false,
        };
        let (mut rows_found, mut bytes_found) = (0, 0);
        while found.looked_at < query.looked_at_max
            && rows_found < query.rows_max
            && bytes_found < query.bytes_max
        {
            let Some(row) = rows.next()? else {
                found.is_all = true;
                break;
            };
            let (attempt, start): (AttemptId, Timestamp) = (row.get(15)?, row.get(16)?);
            let until = query.until_begun_in.as_ref();
            if until.is_some_and(|until| until.contains(&start)) {
                found.is_all = true;
                break;
            }
            found.looked_at += 1;
            found.looked_to = attempt;
            if row.get::<_, Option<i64>>(0)?.is_none() {
                continue;
            }
            let (attempts, bytes): (usize, usize) = (row.get(18)?, row.get(19)?);
            rows_found += attempts + 1;
            bytes_found += bytes;
            found.units.push(CompletedUnit {
                unit: row_to_unit(row)?,
                attempt,
                start,
                end: row.get(17)?,
                rows: attempts + 1,
                bytes,
            });
        }
        Ok(found)
    }

    /// Makes sure that a unit that is completed now will be found.
    pub(super) fn note_completion(&mut self, unit: &WorkUnit) {
        if let (Some(status), Some(active)) = (Completed::from_status(unit.status), unit.active)
            && active <= self.specs.completed_after(unit.work_spec, status)
        {
            let before = AttemptId(active.0 - 1);
            self.set_completed_after(unit.work_spec, status, before);
        }
    }
}
