//! What happens when time passes.

use super::attempt_units::with_traceback;
use crate::coordinate::failure::lost_leases;
use crate::coordinate::storage::Storage;
use crate::coordinate::{Attempt, AttemptStatus, Completed, Operation, Result, WorkUnit};
use crate::limits;

impl<S: Storage> Operation<'_, S> {
    /// Expires due leases, delays, workers and locks, and makes the units of schedules. Must run before an operation
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
            match self.store.get_work_unit(attempt.unit)? {
                Some(unit) if unit.active == Some(attempt.id) => self.lose_lease(unit, attempt)?,
                _ => {
                    attempt.end_as(AttemptStatus::Expired, self.now);
                    self.store.update_attempt(&attempt)?;
                }
            }
        }
        for mut unit in self
            .store
            .units_no_longer_delayed(self.now, limits::SWEEP_DELAYED)?
        {
            let before = unit.counted();
            unit.make_available(self.now, self.queueing_of(&unit));
            self.store.update_work_unit(self.now, before, &unit)?;
        }
        self.store
            .delete_expired_workers(self.now, limits::SWEEP_WORKERS, limits::SWEEP_LEASES)?;
        self.store
            .delete_expired_locks(self.now, limits::SWEEP_LOCKS)?;
        self.run_schedules()?;
        self.store.refresh_due()?;
        Ok(self.store.due().is_some_and(|due| due <= self.now))
    }

    /// Makes a unit available whose active attempt expires. If it has cost as many workers their lease as its work
    /// spec allows, it fails instead: then the attempt has failed, and if its worker is still there, its result counts.
    /// It also fails if it was cancelled.
    fn lose_lease(&mut self, mut unit: WorkUnit, mut attempt: Attempt) -> Result<()> {
        let before = unit.counted();
        if let Some(cancellation) = self.cancellation_of(&unit)? {
            return self.fail_cancelled(unit, before, attempt, &cancellation, None);
        }
        let spec = self.store.get_work_spec(unit.work_spec);
        let max_lost = spec.and_then(|spec| spec.meta.max_lost);
        unit.lost += u64::from(max_lost.is_some());
        if max_lost.is_none_or(|max| unit.lost < max) {
            self.end_attempt(unit.work_spec, &mut attempt, AttemptStatus::Expired)?;
            unit.make_available(self.now, self.queueing_of(&unit));
        } else {
            let data = with_traceback(&self.effective_data(&unit)?, &lost_leases(unit.lost));
            self.end_attempt(unit.work_spec, &mut attempt, AttemptStatus::Failed)?;
            self.store_attempt_data(&attempt, &data)?;
            self.count_outcome(unit.work_spec, attempt.status, Some(&data))?;
            unit.complete(Completed::Failed);
            self.effects.completed += 1;
        }
        Ok(self.store.update_work_unit(self.now, before, &unit)?)
    }
}
