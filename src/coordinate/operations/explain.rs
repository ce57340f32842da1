//! Why a work unit, or any of a work spec, is not handed out now.
//!
//! The reasons that concern a whole work spec are those for which [`scheduler`] skips it.

use super::attempt_units::traceback_of;
use crate::coordinate::failure::{failure_message, lost_leases};
use crate::coordinate::scheduler::{self, Precedence};
use crate::coordinate::storage::Storage;
use crate::coordinate::{Attempt, Name, Operation, Reason, Result, UnitStatus, WorkSpec, WorkUnit};
use std::time::Duration;

/// After how long without a request for work [`Reason::NoWorker`] is given. Idle workers ask every few seconds, but
/// one that works in batches may be busy for a while.
const NOBODY_ASKS_AFTER: Duration = Duration::from_secs(300);

/// The same if no worker is registered as alive. Some never register: only their requests show that they exist.
const NOBODY_ALIVE_ASKS_AFTER: Duration = Duration::from_secs(60);

/// Units, and names of units, that are read to count those ahead of one: a few milliseconds of work.
const AHEAD_MAX: usize = 1_000;

impl<S: Storage> Operation<'_, S> {
    /// Why a unit is not handed out now, or, without a name, why no unit of the work spec is: the most important
    /// reason comes first. There is at least one.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn explain_work(&mut self, work_spec: &Name, name: Option<&Name>) -> Result<Vec<Reason>> {
        let spec = self.work_spec(work_spec)?.clone();
        let mut reasons = Vec::new();
        let unit = match name {
            None => None,
            Some(name) => match self.store.find_work_unit(spec.id, name)? {
                None => return Ok(vec![Reason::NoSuchWorkUnit]),
                Some(unit) => Some((name, unit)),
            },
        };
        if let Some((_, unit)) = &unit {
            if let Some(attempt) = self.active_attempt(unit)? {
                return Ok(vec![self.reason_of_attempt(unit, attempt)?]);
            }
            if let (UnitStatus::Delayed, Some(until)) = (unit.status, unit.not_before) {
                reasons.push(match unit.failures {
                    0 => Reason::Delayed { until },
                    failures => Reason::Retry {
                        until,
                        failures,
                        retries: spec.meta.retry.map_or(0, |retry| retry.retries),
                    },
                });
            }
        }
        let full_group = match &unit {
            None => None,
            Some((_, unit)) => self.full_group_of(&spec, unit)?,
        };
        let is_full = full_group.is_some();
        // For a unit only its own group matters.
        let concerns = |reason: &Reason| unit.is_none() || !matches!(reason, Reason::GroupsFull(_));
        reasons.extend(scheduler::holds(&spec).filter(concerns));
        reasons.extend(full_group);
        if unit.is_none() {
            reasons.extend(scheduler::lack_of_work(&spec, self.now));
        }
        reasons.extend(scheduler::rate_limit(&spec, self.now));
        let alive = self.worker_stats()?.workers;
        reasons.extend(self.nobody_asks(alive));
        if let Some((_, unit)) = &unit
            && let Some(max) = spec.meta.max_retries
            && self.has_had_all_retries(unit, max)?
        {
            reasons.push(Reason::MaxRetries(max));
        }
        if !spec.meta.runtime.is_empty() {
            reasons.push(Reason::Runtime(spec.meta.runtime.clone()));
        }
        if scheduler::can_give(&spec, self.now) {
            reasons.extend(self.precedence_of_others(&spec));
        }
        if let Some((name, unit)) = &unit
            && unit.status == UnitStatus::Available
        {
            let ahead = self.store.units_ahead(unit, name, AHEAD_MAX)?;
            if ahead.count > 0 || !ahead.is_all {
                reasons.push(Reason::UnitsAhead(ahead, spec.meta.queueing()));
            }
            if !is_full && let Some(group) = unit.queued.group_in_turn() {
                let ahead = self.store.groups_ahead(spec.id, group, AHEAD_MAX)?;
                if ahead.count > 0 || !ahead.is_all {
                    reasons.push(Reason::GroupsAhead(ahead));
                }
            }
        }
        if reasons.is_empty() {
            let asked = self.memory.asked_for_work.unwrap_or(self.memory.started);
            reasons.push(Reason::Next { alive, asked });
        }
        Ok(reasons)
    }

    /// That the group of a unit may not have another one pending, if so.
    fn full_group_of(&mut self, spec: &WorkSpec, unit: &WorkUnit) -> Result<Option<Reason>> {
        let Some(max) = spec.meta.max_running_per_group else {
            return Ok(None);
        };
        let group = unit.queued.group.clone().unwrap_or_default();
        let is_full = self.store.pending_in_group(spec.id, &group)? >= max;
        Ok(is_full.then_some(Reason::GroupFull { group, max }))
    }

    /// That nobody has asked for work for a while, if so. `alive` workers are registered.
    fn nobody_asks(&self, alive: u64) -> Option<Reason> {
        let after = match alive {
            0 => NOBODY_ALIVE_ASKS_AFTER,
            _ => NOBODY_ASKS_AFTER,
        };
        match self.memory.asked_for_work {
            Some(at) if self.now.since(at) < after => None,
            at => Some(Reason::NoWorker {
                alive,
                since: at.unwrap_or(self.memory.started),
                asked_before: at.is_some(),
            }),
        }
    }

    /// Who has a unit, or has completed it.
    fn reason_of_attempt(&mut self, unit: &WorkUnit, attempt: Attempt) -> Result<Reason> {
        let (at, worker) = (attempt.lease_or_completion(), attempt.worker);
        if let Some(cancellation) = self.cancellation_of(unit)? {
            return Ok(match unit.status {
                UnitStatus::Failed => Reason::Cancelled(cancellation),
                _ => Reason::Cancelling {
                    worker,
                    until: at,
                    cancellation,
                },
            });
        }
        Ok(match unit.status {
            UnitStatus::Finished => Reason::Finished { at, worker },
            UnitStatus::Failed => {
                let data = self.store.attempt_data(attempt.id)?;
                let traceback = data.and_then(|data| traceback_of(&data));
                let message = failure_message(traceback.as_deref());
                let lost = unit.lost;
                match message == lost_leases(lost) {
                    true => Reason::LostLeases { at, worker, lost },
                    false => Reason::Failed {
                        at,
                        worker,
                        message,
                    },
                }
            }
            _ => Reason::Running { worker, until: at },
        })
    }

    /// Why other specs come before one that has work, for a worker that asks for its runtime.
    fn precedence_of_others(&mut self, spec: &WorkSpec) -> Option<Reason> {
        let candidates = self.store.candidates(self.namespace, self.now);
        match candidates.precedence_over(spec)? {
            Precedence::OfTheOthers => Some(Reason::Share),
            Precedence::Of(other) => {
                let other = self.store.get_work_spec(other)?;
                Some(Reason::LowerPriority(other.name.clone()))
            }
        }
    }
}
