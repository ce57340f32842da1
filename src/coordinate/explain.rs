//! Why a work unit, or any of a work spec, is not handed out now.
//!
//! The reasons that concern a whole work spec are those by which [`super::scheduler`] passes it over.

use super::attempt::{Attempt, traceback_of};
use super::failure::failure_message;
use super::scheduler::{self, Precedence};
use super::storage::{Storage, UnitsAhead};
use super::work_spec::{Counts, WorkSpec};
use super::work_unit::{UnitStatus, WorkUnit};
use super::{Completed, Name, Operation, Result};
use crate::clock::Timestamp;
use std::time::Duration;

/// How long nobody must have asked for work to be told of it. Workers that have nothing to do ask every
/// few seconds, but one that works in batches may be busy for a while.
const NOBODY_ASKS_AFTER: Duration = Duration::from_secs(300);

/// The same if no worker is registered as alive. Some never register, and are known by their asking alone.
const NOBODY_ALIVE_ASKS_AFTER: Duration = Duration::from_secs(60);

/// Units, and names of units, that are looked at to count those ahead of one: a few milliseconds of work.
const AHEAD_MAX: usize = 1_000;

/// Why a unit is not handed out.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// There is no such unit.
    NoSuchWorkUnit,
    /// It was done.
    Finished {
        /// When.
        at: Timestamp,
        /// By whom, if that is known.
        worker: Option<Name>,
    },
    /// It failed.
    Failed {
        /// When.
        at: Timestamp,
        /// By whom, if that is known.
        worker: Option<Name>,
        /// What it says in short.
        message: String,
    },
    /// A worker has it.
    Running {
        /// Who, if that is known.
        worker: Option<Name>,
        /// When its lease ends.
        until: Timestamp,
    },
    /// Its time has not come.
    Delayed {
        /// When it will.
        until: Timestamp,
    },
    /// The work spec is paused.
    Paused,
    /// The work spec has a weight that gives it no share.
    NoWeight(i64),
    /// As many of its units are pending as may be.
    MaxRunning(u64),
    /// No unit of the work spec is available.
    NoWork(Counts),
    /// The work spec makes its units by itself, but not while one is pending.
    ContinuousRunning,
    /// The work spec makes its units by itself, and the time for the next one has not come.
    Interval {
        /// When it will.
        until: Timestamp,
    },
    /// Nobody asks for work.
    NoWorker {
        /// How many workers are registered as alive.
        alive: u64,
        /// Since when.
        since: Timestamp,
        /// True if somebody had asked until then; else the daemon was started then.
        asked_before: bool,
    },
    /// The unit has had all its attempts: the worker that would get it next makes it fail.
    MaxRetries(u64),
    /// Only workers that ask for this runtime get it.
    Runtime(String),
    /// This work spec has a higher priority, and work.
    LowerPriority(Name),
    /// The work spec has more than its share of the pending units.
    Share,
    /// So many units of the work spec come before it.
    UnitsAhead(UnitsAhead),
    /// The next worker that asks for it gets it.
    Next {
        /// How many workers are registered as alive.
        alive: u64,
        /// When work was last asked for.
        asked: Timestamp,
    },
}

impl Reason {
    /// What programs know it by.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoSuchWorkUnit => "no_such_work_unit",
            Self::Finished { .. } => "finished",
            Self::Failed { .. } => "failed",
            Self::Running { .. } => "running",
            Self::Delayed { .. } => "delayed",
            Self::Paused => "paused",
            Self::NoWeight(_) => "no_weight",
            Self::MaxRunning(_) => "max_running",
            Self::NoWork(_) => "no_work",
            Self::ContinuousRunning => "continuous_running",
            Self::Interval { .. } => "interval",
            Self::NoWorker { .. } => "no_worker",
            Self::MaxRetries(_) => "max_retries",
            Self::Runtime(_) => "runtime",
            Self::LowerPriority(_) => "lower_priority",
            Self::Share => "share",
            Self::UnitsAhead(_) => "units_ahead",
            Self::Next { .. } => "next",
        }
    }

    /// The reason in words, as things stand `now`.
    #[must_use]
    pub fn text(&self, now: Timestamp) -> String {
        let ago = |at: Timestamp| in_words(now.since(at));
        let left = |until: &Timestamp| in_words(until.since(now));
        let by = |worker: &Option<Name>| match worker {
            Some(worker) => format!("worker {worker}"),
            None => "somebody who gave no name".to_owned(),
        };
        match self {
            Self::NoSuchWorkUnit => "there is no such work unit".to_owned(),
            Self::Finished { at, worker } => {
                format!("it was finished {} ago by {}", ago(*at), by(worker))
            }
            Self::Failed {
                at,
                worker,
                message,
            } => format!(
                "it failed {} ago, as {} reported: {message}; nobody gets it until it is retried",
                ago(*at),
                by(worker)
            ),
            Self::Running { worker, until } => format!(
                "{} has it, with a lease for {} more",
                by(worker),
                left(until)
            ),
            Self::Delayed { until } => format!("it waits for its time, {} more", left(until)),
            Self::Paused => "the work spec is paused".to_owned(),
            Self::NoWeight(weight) => {
                format!("the work spec has the weight {weight}: one of 0 or less has no share")
            }
            Self::MaxRunning(max) => {
                format!(
                    "as many units of the work spec are pending as its max_running allows: {max}"
                )
            }
            Self::NoWork(counts) => format!(
                "the work spec has no available unit ({} delayed, {} pending, {} finished, {} failed)",
                counts.delayed,
                counts.pending,
                counts.shown(Completed::Finished),
                counts.shown(Completed::Failed)
            ),
            Self::ContinuousRunning => {
                "the work spec is continuous, and makes no unit while one is pending".to_owned()
            }
            Self::Interval { until } => format!(
                "the work spec is continuous, and makes its next unit in {}",
                left(until)
            ),
            Self::NoWorker {
                alive,
                since,
                asked_before,
            } => {
                let since = match asked_before {
                    true => format!("for {}", ago(*since)),
                    false => format!("since the daemon was started {} ago", ago(*since)),
                };
                format!(
                    "{}: nobody has asked for work {since}",
                    alive_workers(*alive)
                )
            }
            Self::MaxRetries(max) => format!(
                "it has had as many attempts as max_retries of the work spec allows, {max}: the worker \
                 that would get it next makes it fail"
            ),
            Self::Runtime(runtime) => {
                format!("only workers that ask for the runtime {runtime:?} get it")
            }
            Self::LowerPriority(other) => {
                format!("work spec {other} has a higher priority, and units to hand out")
            }
            Self::Share => "the work spec has more pending units than its weight gives it beside \
                 others: theirs come first"
                .to_owned(),
            Self::UnitsAhead(UnitsAhead { count, is_all }) => {
                let at_least = if *is_all { "" } else { "at least " };
                format!(
                    "{at_least}{count} units of the work spec come before it, by priority or by name"
                )
            }
            Self::Next { alive, asked } => format!(
                "ready: the next worker that asks for such work gets it ({}, and work was last asked for {} ago)",
                alive_workers(*alive),
                ago(*asked)
            ),
        }
    }
}

/// How many workers are registered as alive, in words.
fn alive_workers(count: u64) -> String {
    match count {
        0 => "no worker is alive".to_owned(),
        1 => "1 worker is alive".to_owned(),
        count => format!("{count} workers are alive"),
    }
}

/// A span of time in whole seconds, rounded up.
fn in_words(time: Duration) -> humantime::FormattedDuration {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    humantime::format_duration(Duration::from_secs(seconds))
}

impl<S: Storage> Operation<'_, S> {
    /// Why a unit is not handed out now, or, without a name, why none of the work spec is: what decides
    /// most comes first. There is at least one reason.
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
                reasons.push(Reason::Delayed { until });
            }
        }
        reasons.extend(scheduler::holds(&spec));
        if unit.is_none() {
            reasons.extend(scheduler::lack_of_work(&spec, self.now));
        }
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
                reasons.push(Reason::UnitsAhead(ahead));
            }
        }
        if reasons.is_empty() {
            let asked = self.memory.asked_for_work.unwrap_or(self.memory.started);
            reasons.push(Reason::Next { alive, asked });
        }
        Ok(reasons)
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
        Ok(match unit.status {
            UnitStatus::Finished => Reason::Finished { at, worker },
            UnitStatus::Failed => {
                let data = self.store.attempt_data(attempt.id)?;
                let traceback = data.and_then(|data| traceback_of(&data));
                let message = failure_message(traceback.as_deref());
                Reason::Failed {
                    at,
                    worker,
                    message,
                }
            }
            _ => Reason::Running { worker, until: at },
        })
    }

    /// Which other specs come before one that has work, for a worker that asks for its runtime.
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
