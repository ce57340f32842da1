//! Changing the priority of work units.

use crate::coordinate::storage::Storage;
use crate::coordinate::{Change, Error, Name, Operation, PriorityChange, Result, WorkUnit};

/// What the audit calls it.
pub(super) const PRIORITIZE: &str = "prioritize_work_units";

impl<S: Storage> Operation<'_, S> {
    /// Changes the priority of the named units in any status. Unknown names are skipped.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`; `Invalid` if a priority would be no number any more; `Storage`.
    pub fn prioritize_work_units(
        &mut self,
        work_spec: &Name,
        names: &[Name],
        change: PriorityChange,
    ) -> Result<()> {
        let spec = self.work_spec(work_spec)?.id;
        let mut changed = 0;
        for name in names {
            if let Some(unit) = self.store.find_work_unit(spec, name)? {
                self.prioritize(unit, change).map_err(|error| match error {
                    Error::Invalid(reason) => {
                        Error::Invalid(format!("priority of work unit {name}: {reason}"))
                    }
                    error => error,
                })?;
                changed += 1;
            }
        }
        let done = Change::of(PRIORITIZE, changed).on(work_spec);
        self.effects.audit(done.with(change.to_string()));
        Ok(())
    }

    /// Changes the priority of a unit.
    pub(super) fn prioritize(&mut self, mut unit: WorkUnit, change: PriorityChange) -> Result<()> {
        unit.priority = match change {
            PriorityChange::Set(priority) => priority,
            PriorityChange::Adjust(by) => unit.priority + by,
        };
        if unit.priority.is_nan() {
            let reason = "the sum of infinities is no number";
            return Err(Error::Invalid(reason.to_owned()));
        }
        Ok(self
            .store
            .update_work_unit(self.now, unit.counted(), &unit)?)
    }
}
