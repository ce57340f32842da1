//! What happens when time passes.

use crate::coordinate::storage::Storage;
use crate::coordinate::{AttemptStatus, Operation, Result, UnitStatus};
use crate::limits;

impl<S: Storage> Operation<'_, S> {
    /// Expires due leases, delays, workers and locks. Must run before an operation
    /// that reads any of them, whenever [`Storage::due`] says that something may be due.
    ///
    /// One step expires a limited number of each. True if more may be due: the next step expires those.
    ///
    /// # Errors
    /// `Storage`.
    pub fn expire(&mut self) -> Result<bool> {
        for mut attempt in self
            .store
            .attempts_to_expire(self.now, limits::SWEEP_LEASES)?
        {
            attempt.end_as(AttemptStatus::Expired, self.now);
            self.store.update_attempt(&attempt)?;
            if let Some(mut unit) = self.store.get_work_unit(attempt.unit)?
                && unit.active == Some(attempt.id)
            {
                unit.make_available(self.now);
                self.store
                    .update_work_unit(self.now, UnitStatus::Pending, &unit)?;
            }
        }
        for mut unit in self
            .store
            .units_no_longer_delayed(self.now, limits::SWEEP_DELAYED)?
        {
            unit.make_available(self.now);
            self.store
                .update_work_unit(self.now, UnitStatus::Delayed, &unit)?;
        }
        self.store
            .delete_expired_workers(self.now, limits::SWEEP_WORKERS, limits::SWEEP_LEASES)?;
        self.store
            .delete_expired_locks(self.now, limits::SWEEP_LOCKS)?;
        self.store.refresh_due()?;
        Ok(self.store.due().is_some_and(|due| due <= self.now))
    }
}
