//! Changing the priority of work units.

use crate::coordinate::storage::Storage;
use crate::coordinate::{Change, Error, Name, Operation, PriorityChange, Result};

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
            let Some(mut unit) = self.store.find_work_unit(spec, name)? else {
                continue;
            };
            unit.priority = match change {
                PriorityChange::Set(priority) => priority,
                PriorityChange::Adjust(by) => unit.priority + by,
            };
            if unit.priority.is_nan() {
                return Err(Error::Invalid(format!(
                    "priority of work unit {name}: the sum of infinities is no number"
                )));
            }
            self.store
                .update_work_unit(self.now, unit.counted(), &unit)?;
            changed += 1;
        }
        let detail = match change {
            PriorityChange::Set(priority) => format!("priority {priority}"),
            PriorityChange::Adjust(by) => format!("priority changed by {by}"),
        };
        let change = Change::of("prioritize_work_units", changed).on(work_spec);
        self.effects.note(change.with(detail));
        Ok(())
    }
}
