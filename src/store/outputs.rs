//! Slices of long outputs, until their units are added.

use super::SqliteStore;
use super::statement::statements;
use crate::coordinate::storage::{OutputSlice, OutputStore, StorageResult};
use rusqlite::named_params;

statements! {
    PUT_OUTPUT_SLICE = "
        INSERT INTO output_slice (work_spec_id, priority, units) VALUES (:spec, :priority, :units)";

    /// The ids grow as long as there is a slice.
    TAKE_OUTPUT_SLICE = "
        DELETE FROM output_slice
         WHERE id = (SELECT min(id) FROM output_slice)
        RETURNING work_spec_id, priority, units";

    FIND_OUTPUT_SLICE = "SELECT 1 FROM output_slice LIMIT 1";
}

impl SqliteStore {
    /// Finds out anew whether there are slices.
    pub(super) fn load_output_slices(&mut self) -> StorageResult<()> {
        self.has_output_slices = self.statements.prepared(FIND_OUTPUT_SLICE)?.exists(&[])?;
        Ok(())
    }
}

impl OutputStore for SqliteStore {
    fn put_output_slice(&mut self, slice: &OutputSlice) -> StorageResult<()> {
        let statement = self.statements.prepared(PUT_OUTPUT_SLICE)?;
        statement.execute(named_params! {
            ":spec": slice.work_spec,
            ":priority": slice.priority,
            ":units": slice.units,
        })?;
        self.has_output_slices = true;
        Ok(())
    }

    fn take_output_slice(&mut self) -> StorageResult<Option<OutputSlice>> {
        let mut rows = self.statements.prepared(TAKE_OUTPUT_SLICE)?.query(&[])?;
        let Some(row) = rows.next()? else {
            drop(rows);
            self.has_output_slices = false;
            return Ok(None);
        };
        Ok(Some(OutputSlice {
            work_spec: row.get(0)?,
            priority: row.get(1)?,
            units: row.get(2)?,
        }))
    }

    fn has_output_slices(&self) -> bool {
        self.has_output_slices
    }
}
