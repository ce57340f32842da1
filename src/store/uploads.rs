//! How far uploads of units have come.

use super::SqliteStore;
use super::statement::statements;
use crate::coordinate::storage::{StorageResult, UploadStore};
use crate::coordinate::{Added, Uploaded, WorkSpecId};
use rusqlite::named_params;

/// Uploads that are kept: enough for a client to come back after its connection broke.
const KEPT: i64 = 10_000;

/// Those of a deleted work spec that are removed in one step.
const DELETED_AT_ONCE: u32 = 100;

statements! {
    FIND_UPLOAD = "
        SELECT lines, new, reset, skipped FROM upload WHERE work_spec_id = :spec AND name = :name";

    PUT_UPLOAD = "
        INSERT INTO upload (work_spec_id, name, lines, new, reset, skipped)
        VALUES (:spec, :name, :lines, :new, :reset, :skipped)
            ON CONFLICT (work_spec_id, name)
            DO UPDATE SET lines = :lines, new = :new, reset = :reset, skipped = :skipped";

    /// Ids grow with each upload that begins.
    DELETE_OLD_UPLOADS = "DELETE FROM upload WHERE id <= (SELECT max(id) FROM upload) - :kept";

    /// Uses the index of the names.
    DELETE_UPLOAD_TO = "
        DELETE FROM upload
         WHERE id = (SELECT id FROM upload WHERE work_spec_id = :spec LIMIT 1)";
}

impl SqliteStore {
    /// Removes some uploads to a deleted spec. False if there is none.
    pub(super) fn delete_uploads_to(&mut self, spec: WorkSpecId) -> StorageResult<bool> {
        let statement = self.statements.prepared(DELETE_UPLOAD_TO)?;
        let mut deleted = 0;
        while deleted < DELETED_AT_ONCE && statement.execute(named_params! {":spec": spec})? > 0 {
            deleted += 1;
        }
        Ok(deleted > 0)
    }
}

impl UploadStore for SqliteStore {
    fn find_upload(&mut self, spec: WorkSpecId, name: &str) -> StorageResult<Option<Uploaded>> {
        let statement = self.statements.prepared(FIND_UPLOAD)?;
        let mut rows = statement.query(named_params! {":spec": spec, ":name": name})?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some(Uploaded {
            lines: row.get(0)?,
            added: Added {
                new: row.get(1)?,
                reset: row.get(2)?,
                skipped: row.get(3)?,
            },
        }))
    }

    fn put_upload(
        &mut self,
        spec: WorkSpecId,
        name: &str,
        uploaded: &Uploaded,
    ) -> StorageResult<()> {
        let put = self.statements.prepared(PUT_UPLOAD)?;
        put.execute(named_params! {
            ":spec": spec,
            ":name": name,
            ":lines": uploaded.lines,
            ":new": uploaded.added.new,
            ":reset": uploaded.added.reset,
            ":skipped": uploaded.added.skipped,
        })?;
        self.statements
            .prepared(DELETE_OLD_UPLOADS)?
            .execute(named_params! {":kept": KEPT})?;
        Ok(())
    }
}
