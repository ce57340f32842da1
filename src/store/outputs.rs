//! Slices of long outputs, until their units are added.

use super::SqliteStore;
use super::statement::{HeldStatement, statements};
use crate::coordinate::storage::{OutputSlice, OutputStore, StorageResult};
use crate::coordinate::{AttemptId, WorkSpecId};
use rusqlite::{ToSql, named_params};

statements! {
    PUT_OUTPUT_SLICE = "
        INSERT INTO output_slice (attempt_id, work_spec_id, priority, units)
        VALUES (:attempt, :spec, :priority, :units)";

    TAKE_OUTPUT_SLICE = "
        DELETE FROM output_slice
         WHERE id = (SELECT min(id) FROM output_slice)
        RETURNING attempt_id, work_spec_id, priority, units";

    /// Uses index output_slice_by_attempt, as the next one does.
    TAKE_OUTPUT_SLICE_OF = "
        DELETE FROM output_slice
         WHERE id = (SELECT min(id) FROM output_slice WHERE attempt_id = :attempt)
        RETURNING attempt_id, work_spec_id, priority, units";

    FIND_OUTPUT_SLICE_OF = "SELECT 1 FROM output_slice WHERE attempt_id = :attempt LIMIT 1";

    DELETE_OUTPUT_SLICE_FOR = "
        DELETE FROM output_slice
         WHERE id = (SELECT id FROM output_slice WHERE work_spec_id = :spec LIMIT 1)";

    FIND_OUTPUT_SLICE = "SELECT 1 FROM output_slice LIMIT 1";
}

impl SqliteStore {
    /// Reads whether there are slices.
    pub(super) fn load_output_slices(&mut self) -> StorageResult<()> {
        self.has_output_slices = self.statements.prepared(FIND_OUTPUT_SLICE)?.exists(&[])?;
        Ok(())
    }

    /// Removes a slice with units for a deleted spec. False if there is none.
    pub(super) fn delete_output_slice_for(&mut self, spec: WorkSpecId) -> StorageResult<bool> {
        let statement = self.statements.prepared(DELETE_OUTPUT_SLICE_FOR)?;
        Ok(statement.execute(named_params! {":spec": spec})? > 0)
    }
}

impl OutputStore for SqliteStore {
    fn put_output_slice(&mut self, slice: &OutputSlice) -> StorageResult<()> {
        let statement = self.statements.prepared(PUT_OUTPUT_SLICE)?;
        statement.execute(named_params! {
            ":attempt": slice.attempt,
            ":spec": slice.work_spec,
            ":priority": slice.priority,
            ":units": slice.units,
        })?;
        self.has_output_slices = true;
        Ok(())
    }

    fn take_output_slice(&mut self) -> StorageResult<Option<OutputSlice>> {
        let taken = take(self.statements.prepared(TAKE_OUTPUT_SLICE)?, &[])?;
        self.has_output_slices = taken.is_some();
        Ok(taken)
    }

    fn take_output_slice_of(&mut self, attempt: AttemptId) -> StorageResult<Option<OutputSlice>> {
        let statement = self.statements.prepared(TAKE_OUTPUT_SLICE_OF)?;
        take(statement, named_params! {":attempt": attempt})
    }

    fn has_output_slices_of(&mut self, attempt: AttemptId) -> StorageResult<bool> {
        let statement = self.statements.prepared(FIND_OUTPUT_SLICE_OF)?;
        Ok(statement.exists(named_params! {":attempt": attempt})?)
    }

    fn has_output_slices(&self) -> bool {
        self.has_output_slices
    }
}

/// Runs a statement that removes a slice and returns it.
fn take(
    statement: &mut HeldStatement,
    values: &[(&str, &dyn ToSql)],
) -> StorageResult<Option<OutputSlice>> {
    let mut rows = statement.query(values)?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(OutputSlice {
        attempt: row.get(0)?,
        work_spec: row.get(1)?,
        priority: row.get(2)?,
        units: row.get(3)?,
    }))
}
