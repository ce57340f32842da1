//! Keeping what an operation has changed in the audit.

use crate::coordinate::storage::Storage;
use crate::coordinate::{AuditId, Author, Operation, Result};

impl<S: Storage> Operation<'_, S> {
    /// Keeps in the audit what this operation has changed in the namespace of this name, as its last act: in the entry that
    /// earlier steps of the same call have made, if there is one. Returns the entry. If nothing was changed that belongs into the
    /// audit, this costs nothing.
    ///
    /// # Errors
    /// `Storage`.
    pub fn keep_change(
        self,
        namespace: &str,
        author: impl FnOnce() -> Author,
        entry: Option<AuditId>,
    ) -> Result<Option<AuditId>> {
        let Some(change) = self.effects.change.take() else {
            return Ok(entry);
        };
        if let Some(entry) = entry {
            self.store.add_to_audit_entry(entry, change.count)?;
            return Ok(Some(entry));
        }
        let (store, now) = (self.store, self.now);
        Ok(Some(store.insert_audit_entry(
            namespace,
            now,
            &author(),
            &change,
        )?))
    }
}
