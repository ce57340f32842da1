//! Slices of long outputs, until their units are added.

use super::SqliteStore;
use super::statement::statements;
use crate::coordinate::WorkSpecId;
use crate::coordinate::storage::{OutputSlice, OutputSliceId, OutputStore, StorageResult};
use rusqlite::named_params;

statements! {
    PUT_OUTPUT_SLICE = "
        INSERT INTO output_slice (work_spec_id, priority, units) VALUES (:spec, :priority, :units)";

    /// The ids grow as long as there is a slice.
    TAKE_OUTPUT_SLICE = "
        DELETE FROM output_slice
         WHERE id = (SELECT min(id) FROM output_slice)
        RETURNING id, work_spec_id, priority, units";

    DELETE_OUTPUT_SLICE_OF = "
        DELETE FROM output_slice
         WHERE id = (SELECT id FROM output_slice WHERE work_spec_id = :spec LIMIT 1)";

    FIND_OUTPUT_SLICE = "SELECT 1 FROM output_slice LIMIT 1";
}

impl SqliteStore {
    /// Finds out anew whether there are slices.
    pub(super) fn load_output_slices(&mut self) -> StorageResult<()> {
        self.has_output_slices = self.statements.prepared(FIND_OUTPUT_SLICE)?.exists(&[])?;
        Ok(())
    }

    /// Removes a slice with units of a deleted spec. False if there is none.
    pub(super) fn delete_output_slice_of(&mut self, spec: WorkSpecId) -> StorageResult<bool> {
        let statement = self.statements.prepared(DELETE_OUTPUT_SLICE_OF)?;
        Ok(statement.execute(named_params! {":spec": spec})? > 0)
    }
}

impl OutputStore for SqliteStore {
    fn put_output_slice(&mut self, slice: &OutputSlice) -> StorageResult<OutputSliceId> {
        let statement = self.statements.prepared(PUT_OUTPUT_SLICE)?;
        let id = statement.insert(named_params! {
            ":spec": slice.work_spec,
            ":priority": slice.priority,
            ":units": slice.units,
        })?;
        self.has_output_slices = true;
        Ok(OutputSliceId(id))
    }

    fn take_output_slice(&mut self) -> StorageResult<Option<(OutputSliceId, OutputSlice)>> {
        let mut rows = self.statements.prepared(TAKE_OUTPUT_SLICE)?.query(&[])?;
        let Some(row) = rows.next()? else {
            drop(rows);
            self.has_output_slices = false;
            return Ok(None);
        };
        let slice = OutputSlice {
            work_spec: row.get(1)?,
            priority: row.get(2)?,
            units: row.get(3)?,
        };
        Ok(Some((row.get(0)?, slice)))
    }

    fn has_output_slices(&self) -> bool {
        self.has_output_slices
    }
}
