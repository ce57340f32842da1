//! Changing or finding the units of a work spec that meet some conditions, in steps.

use super::delete_units::DELETE;
use super::prioritize_units::PRIORITIZE;
use super::report::RETRY;
use super::status_walk::StatusWalk;
use crate::coordinate::storage::Storage;
use crate::coordinate::{
    AttemptId, Change, Name, Operation, PriorityChange, Result, UnitSelection, UnitStatus,
    WorkUnit, WorkUnitId,
};
use crate::limits;

/// What is done with each unit.
#[derive(Clone, Copy, Debug)]
pub enum UnitAction {
    /// It is deleted with its attempts.
    Delete,
    /// It gets another priority.
    Prioritize(PriorityChange),
    /// It becomes available again, with all its retries. One that is available or delayed is left as it is.
    Retry,
}

/// A state of the queue, to leave alone what has changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsOf {
    /// The newest unit then.
    pub unit: WorkUnitId,
    /// The newest attempt then.
    pub attempt: AttemptId,
}

/// An action on some units, which is done in steps: how far it has come.
#[derive(Clone, Debug)]
pub struct UnitPass {
    rest: Rest,
    /// How many units it may still take.
    left: usize,
    taken: u64,
    is_over: bool,
}

/// The units that are still to be looked at.
#[derive(Clone, Debug)]
enum Rest {
    /// Those of these names that are in one of these statuses, the last one first.
    Named {
        work_spec: Name,
        statuses: Vec<UnitStatus>,
        names: Vec<Name>,
    },
    /// All in some statuses.
    InStatus(StatusWalk),
}

impl Rest {
    fn work_spec(&self) -> &Name {
        match self {
            Self::Named { work_spec, .. } => work_spec,
            Self::InStatus(walk) => &walk.work_spec,
        }
    }
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
        let statuses = selection.statuses.clone().unwrap_or(UnitStatus::ALL.into());
        let rest = match selection.sorted_names() {
            Some(names) => {
                self.work_spec(work_spec)?;
                Rest::Named {
                    work_spec: work_spec.clone(),
                    statuses,
                    names: names.into_iter().rev().cloned().collect(),
                }
            }
            None => {
                Rest::InStatus(self.begin_walk(work_spec, &statuses, selection.after.as_ref())?)
            }
        };
        Ok(UnitPass {
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
        let taken_before = pass.taken;
        match &mut pass.rest {
            Rest::Named {
                work_spec,
                statuses,
                names,
            } => {
                let spec = self.work_spec(work_spec)?.id;
                for _ in 0..limits::SWEEP_REMOVED {
                    let Some(name) = names.pop().filter(|_| pass.left > 0) else {
                        pass.is_over = true;
                        break;
                    };
                    if let Some(unit) = self.store.find_work_unit(spec, &name)?
                        && statuses.contains(&unit.status)
                    {
                        self.take_unit(unit, action)?;
                        pass.left -= 1;
                        pass.taken += 1;
                    }
                }
            }
            Rest::InStatus(walk) => {
                if pass.left == 0 {
                    self.work_spec(&walk.work_spec)?;
                    pass.is_over = true;
                    return Ok(pass);
                }
                let units = self.walk(walk, limits::SWEEP_REMOVED.min(pass.left))?;
                pass.left -= units.len();
                pass.taken += units.len() as u64;
                pass.is_over = walk.is_over;
                for unit in units {
                    self.take_unit(unit, action)?;
                }
            }
        }
        self.audit_taken(pass.rest.work_spec(), action, pass.taken - taken_before);
        Ok(pass)
    }

    fn audit_taken(&mut self, work_spec: &Name, action: UnitAction, count: u64) {
        let (done, detail) = match action {
            UnitAction::Delete => (DELETE, String::new()),
            UnitAction::Prioritize(change) => (PRIORITIZE, change.to_string()),
            UnitAction::Retry => (RETRY, String::new()),
        };
        let change = Change::of(done, count).on(work_spec);
        self.effects.audit(change.with(detail));
    }

    fn take_unit(&mut self, unit: WorkUnit, action: UnitAction) -> Result<()> {
        match action {
            UnitAction::Delete => Ok(self.store.delete_work_unit(&unit)?),
            UnitAction::Prioritize(change) => self.prioritize(unit, change),
            UnitAction::Retry => self.make_available_again(unit),
        }
    }

    /// The present state of the queue.
    pub fn as_of_now(&self) -> AsOf {
        AsOf {
            unit: self.store.newest_unit(),
            attempt: self.store.newest_attempt(),
        }
    }

    /// Does something with the units of these names that are still in `status`, if one is given, and that nobody has
    /// added or attempted since `as_of`. Those that wait already are not retried. Returns how many there were.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`; `Invalid` if a priority would be no number any more; `Storage`.
    pub fn take_units_as_of(
        &mut self,
        work_spec: &Name,
        names: &[Name],
        status: Option<UnitStatus>,
        as_of: AsOf,
        action: UnitAction,
    ) -> Result<u64> {
        let spec = self.work_spec(work_spec)?.id;
        let mut taken = 0;
        for name in names {
            if let Some(unit) = self.store.find_work_unit(spec, name)?
                && status.is_none_or(|status| status == unit.status)
                && unit.id <= as_of.unit
                && unit.last.is_none_or(|attempt| attempt <= as_of.attempt)
                && !(matches!(action, UnitAction::Retry) && unit.active.is_none())
            {
                self.take_unit(unit, action)?;
                taken += 1;
            }
        }
        if taken > 0 {
            self.audit_taken(work_spec, action, taken);
        }
        Ok(taken)
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
