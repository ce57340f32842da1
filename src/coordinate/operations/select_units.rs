//! Changing or finding the units of a work spec that meet some conditions, in steps.

use crate::coordinate::storage::{InStatusQuery, Storage};
use crate::coordinate::{
    Name, Operation, PriorityChange, Result, UnitSelection, UnitStatus, WorkUnit,
};
use crate::limits;

/// What is done with each unit.
#[derive(Clone, Copy, Debug)]
pub enum UnitAction {
    /// It is deleted with its attempts.
    Delete,
    /// It gets another priority.
    Prioritize(PriorityChange),
}

/// An action on some units, which is done in steps: how far it has come.
#[derive(Clone, Debug)]
pub struct UnitPass {
    work_spec: Name,
    statuses: Vec<UnitStatus>,
    rest: Rest,
    /// How many units it may still take.
    left: usize,
    taken: u64,
    is_over: bool,
}

/// The units that are still to be looked at.
#[derive(Clone, Debug)]
enum Rest {
    /// Those of these names, the last one first.
    Named(Vec<Name>),
    /// Those behind a name up to another one: units that are added behind that are left, so that the pass ends.
    Between {
        after: Option<Name>,
        until: Option<Name>,
    },
}

impl UnitPass {
    /// How many units it has taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// True if nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

impl<S: Storage> Operation<'_, S> {
    /// Begins to do something with the units that are selected.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn begin_unit_pass(
        &mut self,
        work_spec: &Name,
        selection: &UnitSelection,
    ) -> Result<UnitPass> {
        let spec = self.work_spec(work_spec)?.id;
        let rest = match selection.sorted_names() {
            Some(names) => Rest::Named(names.into_iter().rev().cloned().collect()),
            None => Rest::Between {
                after: selection.after.clone(),
                until: self.store.last_name(spec)?,
            },
        };
        Ok(UnitPass {
            work_spec: work_spec.clone(),
            statuses: selection.statuses.clone().unwrap_or(UnitStatus::ALL.into()),
            rest,
            left: selection.limit.unwrap_or(usize::MAX),
            taken: 0,
            is_over: false,
        })
    }

    /// Does a step of a pass: takes some units, or searches for them for some milliseconds. Returns what is left of it.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`; `Invalid` if a priority would be no number any more; `Storage`.
    pub fn take_some_units(&mut self, pass: &UnitPass, action: UnitAction) -> Result<UnitPass> {
        let mut pass = pass.clone();
        let spec = self.work_spec(&pass.work_spec)?.id;
        match &mut pass.rest {
            Rest::Named(names) => {
                for _ in 0..limits::SWEEP_REMOVED {
                    let Some(name) = names.pop().filter(|_| pass.left > 0) else {
                        pass.is_over = true;
                        break;
                    };
                    if let Some(unit) = self.store.find_work_unit(spec, &name)?
                        && pass.statuses.contains(&unit.status)
                    {
                        self.take_unit(unit, action)?;
                        pass.left -= 1;
                        pass.taken += 1;
                    }
                }
            }
            Rest::Between { after, until } => {
                let Some(until) = until.as_ref().filter(|_| pass.left > 0) else {
                    pass.is_over = true;
                    return Ok(pass);
                };
                let found = self.store.work_units_in(&InStatusQuery {
                    spec,
                    statuses: &pass.statuses,
                    after: after.as_ref(),
                    until,
                    looked_at_max: limits::SWEEP_LOOKED_AT,
                    limit: limits::SWEEP_REMOVED.min(pass.left),
                })?;
                pass.left -= found.units.len();
                pass.taken += found.units.len() as u64;
                pass.is_over = found.looked_to.is_none();
                *after = found.looked_to;
                for unit in found.units {
                    self.take_unit(unit, action)?;
                }
            }
        }
        Ok(pass)
    }

    fn take_unit(&mut self, unit: WorkUnit, action: UnitAction) -> Result<()> {
        match action {
            UnitAction::Delete => Ok(self.store.delete_work_unit(&unit)?),
            UnitAction::Prioritize(change) => self.prioritize(unit, change),
        }
    }

    /// Which of these names are those of units in one of these statuses.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn existing_units(
        &mut self,
        work_spec: &Name,
        names: &[Name],
        statuses: Option<&[UnitStatus]>,
    ) -> Result<Vec<Name>> {
        let spec = self.work_spec(work_spec)?.id;
        let mut existing = Vec::new();
        for name in names {
            if let Some(unit) = self.store.find_work_unit(spec, name)?
                && statuses.is_none_or(|statuses| statuses.contains(&unit.status))
            {
                self.effects.answer_bytes += name.bytes().len();
                existing.push(name.clone());
            }
        }
        Ok(existing)
    }
}
