//! Adding work units.

use crate::coordinate::storage::Storage;
use crate::coordinate::{Name, NewUnit, Operation, Result, UnitStatus, WorkSpecId};
use std::collections::HashMap;

impl<S: Storage> Operation<'_, S> {
    /// Adds units. Those that exist get the new data and priority, and become available again.
    /// Of several with the same name the last one counts.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn add_work_units(&mut self, work_spec: &Name, units: &[NewUnit<'_>]) -> Result<()> {
        let spec = self.work_spec(work_spec)?.id;
        self.add_units_to(spec, units)
    }

    pub(super) fn add_units_to(&mut self, spec: WorkSpecId, units: &[NewUnit<'_>]) -> Result<()> {
        let mut last_of_name = HashMap::with_capacity(units.len());
        for (index, unit) in units.iter().enumerate() {
            last_of_name.insert(&unit.name, index);
        }
        for (index, unit) in units.iter().enumerate() {
            if last_of_name.get(&unit.name) == Some(&index) {
                self.add_unit(spec, unit)?;
            }
        }
        Ok(())
    }

    fn add_unit(&mut self, spec: WorkSpecId, new: &NewUnit<'_>) -> Result<()> {
        let priority = new.priority.unwrap_or(0.0);
        let not_before = new
            .delay
            .filter(|delay| !delay.is_zero())
            .map(|delay| self.now.plus(delay));
        let Some(mut unit) = self.store.find_work_unit(spec, &new.name)? else {
            self.store.insert_work_unit(
                self.now,
                spec,
                &new.name,
                priority,
                not_before,
                new.data.bytes(),
            )?;
            return Ok(());
        };
        let before = unit.counted();
        if before.status == UnitStatus::Pending {
            // What its worker will report is about data that is no longer there.
            self.expire_active_attempt(&unit)?;
        }
        unit.priority = priority;
        unit.not_before = not_before;
        unit.start_over(self.attempts_so_far(&unit)?);
        unit.superseded = unit.last.map(|_| unit.attempts_before);
        unit.make_available(self.now);
        self.store.update_work_unit(self.now, before, &unit)?;
        self.store.set_work_unit_data(unit.id, new.data.bytes())?;
        Ok(())
    }
}
