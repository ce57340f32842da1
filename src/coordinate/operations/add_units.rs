//! Adding work units.

use crate::clock::Timestamp;
use crate::coordinate::storage::{InsertedUnit, Storage};
use crate::coordinate::{
    Added, Error, Event, IfExists, Name, NewUnit, Operation, Queued, Result, UnitStatus,
    WorkSpecId, WorkUnit,
};
use std::collections::{HashMap, HashSet};

impl<S: Storage> Operation<'_, S> {
    /// Adds units. `if_exists` says what happens to those that exist. Of several with the same name the last one counts
    /// if units are reset; otherwise they are taken in order, so the second one finds that the unit exists.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`; `Refused` if a unit exists and is to be refused: then none was added.
    pub fn add_work_units(
        &mut self,
        work_spec: &Name,
        units: &[NewUnit<'_>],
        if_exists: IfExists,
    ) -> Result<Added> {
        let spec = self.work_spec(work_spec)?.id;
        match if_exists {
            IfExists::Reset => self.add_or_reset_units(spec, units),
            IfExists::Skip => self.add_or_skip_units(spec, units),
            IfExists::Refuse => {
                self.check_none_exists(spec, work_spec, units)?;
                self.add_or_skip_units(spec, units)
            }
        }
    }

    /// Adds a unit. If it exists, it gets the new data, priority and delay, and becomes available again, unless it is
    /// pending: then it stays with its worker, and what that leaves counts more than its own data.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`; `Invalid` if its name is too long.
    pub fn put_work_unit(&mut self, work_spec: &Name, new: &NewUnit<'_>) -> Result<()> {
        let spec = self.work_spec(work_spec)?.id;
        new.check_name(self.limits)?;
        match self.store.find_work_unit(spec, &new.name)? {
            None => self.insert_unit(spec, new),
            Some(mut unit) if unit.status == UnitStatus::Pending => {
                unit.priority = new.priority.unwrap_or(0.0);
                unit.not_before = not_before(new, self.now);
                self.store
                    .update_work_unit(self.now, unit.counted(), &unit)?;
                Ok(self.store.set_work_unit_data(unit.id, new.data.bytes())?)
            }
            Some(unit) => self.reset_unit(unit, new),
        }
    }

    /// Sets the priority of a unit, and until when it is delayed. One that is pending or completed is delayed only once it
    /// is given back.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `NoSuchWorkUnit`, `Storage`.
    pub fn schedule_work_unit(
        &mut self,
        work_spec: &Name,
        name: &Name,
        priority: f64,
        not_before: Option<Timestamp>,
    ) -> Result<()> {
        let mut unit = self.work_unit(work_spec, name)?;
        let before = unit.counted();
        unit.priority = priority;
        unit.not_before = not_before;
        if unit.active.is_none() {
            unit.make_available(self.now, self.queueing_of(&unit));
        }
        Ok(self.store.update_work_unit(self.now, before, &unit)?)
    }

    pub(super) fn add_or_reset_units(
        &mut self,
        spec: WorkSpecId,
        units: &[NewUnit<'_>],
    ) -> Result<Added> {
        let mut last_of_name = HashMap::with_capacity(units.len());
        for (index, unit) in units.iter().enumerate() {
            last_of_name.insert(&unit.name, index);
        }
        let mut added = Added::default();
        for (index, new) in units.iter().enumerate() {
            if last_of_name.get(&new.name) != Some(&index) {
                continue;
            }
            if let Some(unit) = self.store.find_work_unit(spec, &new.name)? {
                self.reset_unit(unit, new)?;
                added.reset += 1;
            } else {
                self.insert_unit(spec, new)?;
                added.new += 1;
            }
        }
        self.note_added(spec, added);
        Ok(added)
    }

    fn add_or_skip_units(&mut self, spec: WorkSpecId, units: &[NewUnit<'_>]) -> Result<Added> {
        let mut added = Added::default();
        for new in units {
            if self.store.find_work_unit(spec, &new.name)?.is_some() {
                added.skipped += 1;
            } else {
                self.insert_unit(spec, new)?;
                added.new += 1;
            }
        }
        self.note_added(spec, added);
        Ok(added)
    }

    fn note_added(&mut self, spec: WorkSpecId, added: Added) {
        let count = added.new + added.reset;
        if count > 0 {
            self.effects.note(spec, Event::Added(count));
        }
    }

    fn check_none_exists(
        &mut self,
        spec: WorkSpecId,
        work_spec: &Name,
        units: &[NewUnit<'_>],
    ) -> Result<()> {
        let mut names = HashSet::with_capacity(units.len());
        for NewUnit { name, .. } in units {
            if !names.insert(name) {
                return Err(Error::Refused(format!(
                    "work unit {name} is in the list twice"
                )));
            }
            if self.store.find_work_unit(spec, name)?.is_some() {
                return Err(Error::Refused(format!(
                    "work unit {name} exists already in work spec {work_spec}"
                )));
            }
        }
        Ok(())
    }

    fn insert_unit(&mut self, spec: WorkSpecId, new: &NewUnit<'_>) -> Result<()> {
        self.store.insert_work_unit(
            self.now,
            spec,
            InsertedUnit {
                name: &new.name,
                priority: new.priority.unwrap_or(0.0),
                not_before: not_before(new, self.now),
                group: new.group.clone(),
                data: new.data.bytes(),
            },
        )?;
        Ok(())
    }

    fn reset_unit(&mut self, mut unit: WorkUnit, new: &NewUnit<'_>) -> Result<()> {
        let before = unit.counted();
        if before.status == UnitStatus::Pending {
            // What its worker will report is about data that is no longer there.
            self.expire_active_attempt(&unit)?;
        }
        self.lift_cancellation(&unit)?;
        unit.priority = new.priority.unwrap_or(0.0);
        unit.not_before = not_before(new, self.now);
        // It is added anew, so it goes behind all that are there.
        unit.queued = Queued {
            group: new.group.clone(),
            ..Queued::default()
        };
        unit.start_over(self.attempts_so_far(&unit)?);
        unit.superseded = unit.last.map(|_| unit.attempts_before);
        unit.make_available(self.now, self.queueing_of(&unit));
        self.store.update_work_unit(self.now, before, &unit)?;
        self.store.set_work_unit_data(unit.id, new.data.bytes())?;
        Ok(())
    }
}

/// Until when a unit that is added `now` is delayed.
fn not_before(new: &NewUnit<'_>, now: Timestamp) -> Option<Timestamp> {
    let delay = new.delay.filter(|delay| !delay.is_zero());
    delay.map(|delay| now.plus(delay))
}
