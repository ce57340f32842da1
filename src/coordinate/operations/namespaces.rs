//! Removing a namespace.

use crate::coordinate::storage::Storage;
use crate::coordinate::{Change, Operation, Result};

impl<S: Storage> Operation<'_, S> {
    /// Removes the namespace of the operation with all work specs and workers in it. The one of CBOR-RPC clients stays,
    /// and is empty then.
    ///
    /// # Errors
    /// `Storage`.
    pub fn destroy_namespace(&mut self) -> Result<()> {
        let specs = self.discard_all()?;
        self.store.delete_workers(self.namespace)?;
        if self.namespace != self.home {
            self.store.delete_namespace(self.namespace, self.home)?;
        }
        let change = Change::of("destroy_namespace", 1);
        self.effects
            .audit(change.with(format!("work specs: {specs}")));
        Ok(())
    }
}
