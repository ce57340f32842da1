//! Cancellations of units. While there are none, looking for one costs no query.

use super::SqliteStore;
use super::cached_specs::Undo;
use super::statement::statements;
use crate::coordinate::storage::{CancellationStore, StorageResult};
use crate::coordinate::{Cancellation, WorkUnitId};
use rusqlite::named_params;

statements! {
    GET_CANCELLATION = "
        SELECT reason, cancelled_by, cancelled_us FROM cancellation WHERE work_unit_id = :unit";

    PUT_CANCELLATION = "
        INSERT OR REPLACE INTO cancellation (work_unit_id, reason, cancelled_by, cancelled_us)
        VALUES (:unit, :reason, :by, :at)";

    DELETE_CANCELLATION = "DELETE FROM cancellation WHERE work_unit_id = :unit";

    FIND_CANCELLATION = "SELECT 1 FROM cancellation LIMIT 1";
}

impl SqliteStore {
    /// Reads whether there are cancellations.
    pub(super) fn load_cancellations(&mut self) -> StorageResult<()> {
        self.has_cancellations = self.statements.prepared(FIND_CANCELLATION)?.exists(&[])?;
        Ok(())
    }

    /// Removes that of a unit that goes. Free if there are none.
    pub(super) fn delete_cancellation_if_any(&mut self, unit: WorkUnitId) -> StorageResult<()> {
        match self.has_cancellations {
            true => self.delete_cancellation(unit),
            false => Ok(()),
        }
    }
}

impl CancellationStore for SqliteStore {
    fn has_cancellations(&self) -> bool {
        self.has_cancellations
    }

    fn get_cancellation(&mut self, unit: WorkUnitId) -> StorageResult<Option<Cancellation>> {
        let statement = self.statements.prepared(GET_CANCELLATION)?;
        let mut rows = statement.query(named_params! {":unit": unit})?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(Cancellation {
            reason: row.get(0)?,
            by: row.get(1)?,
            at: row.get(2)?,
        }))
    }

    fn put_cancellation(
        &mut self,
        unit: WorkUnitId,
        cancellation: &Cancellation,
    ) -> StorageResult<()> {
        self.statements
            .prepared(PUT_CANCELLATION)?
            .execute(named_params! {
                ":unit": unit,
                ":reason": cancellation.reason,
                ":by": cancellation.by,
                ":at": cancellation.at,
            })?;
        self.has_cancellations = true;
        Ok(())
    }

    fn delete_cancellation(&mut self, unit: WorkUnitId) -> StorageResult<()> {
        let statement = self.statements.prepared(DELETE_CANCELLATION)?;
        if statement.execute(named_params! {":unit": unit})? > 0 {
            self.load_cancellations()?;
            if !self.has_cancellations {
                // There are some again if this operation fails.
                self.batch.undo.push(Undo::HasCancellations);
            }
        }
        Ok(())
    }
}
