//! Removing a namespace.

use crate::coordinate::storage::Storage;
use crate::coordinate::{Operation, Result};

impl<S: Storage> Operation<'_, S> {
    /// Removes the namespace of the operation with all work specs and workers in it. The one of CBOR-RPC clients stays,
    /// and is empty then.
    ///
    /// # Errors
    /// `Storage`.
    pub fn destroy_namespace(&mut self) -> Result<()> {
        self.clear()?;
        self.store.delete_workers(self.namespace)?;
        if self.namespace != self.home {
            self.store.delete_namespace(self.namespace, self.home)?;
        }
        Ok(())
    }
}
