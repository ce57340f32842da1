//! The reasons why work is not handed out, as programs and people know them.

use super::cancellation::Cancellation;
use super::queueing::{Order, Queueing};
use super::rate::MaxRate;
use super::work_spec::{Counts, Pause};
use super::{Completed, Name};
use crate::clock::Timestamp;
use std::time::Duration;

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
    /// It failed because it cost too many workers their lease.
    LostLeases {
        /// When.
        at: Timestamp,
        /// The last of the workers.
        worker: Option<Name>,
        /// How many there were.
        lost: u64,
    },
    /// It was cancelled.
    Cancelled(Cancellation),
    /// It was cancelled, and a worker still has it.
    Cancelling {
        /// Who, if that is known.
        worker: Option<Name>,
        /// When its lease ends.
        until: Timestamp,
        /// Who cancelled it, when and why.
        cancellation: Cancellation,
    },
    /// A worker has it.
    Running {
        /// Who, if that is known.
        worker: Option<Name>,
        /// When its lease ends.
        until: Timestamp,
    },
    /// It is delayed.
    Delayed {
        /// When the delay ends.
        until: Timestamp,
    },
    /// It has failed, and is delayed until it is tried again.
    Retry {
        /// When the delay ends.
        until: Timestamp,
        /// How many times it has failed.
        failures: u64,
        /// How many failures are followed by another try.
        retries: u64,
    },
    /// The work spec is paused.
    Paused(Pause),
    /// The work spec has a weight that gives it no share.
    NoWeight(i64),
    /// The work spec has as many pending units as `max_running` allows.
    MaxRunning(u64),
    /// Each group of the work spec with available units has as many pending ones as `max_running_per_group` allows.
    GroupsFull(u64),
    /// The group of the unit has as many pending units as `max_running_per_group` allows.
    GroupFull {
        /// Its name; empty if the unit has none.
        group: String,
        /// How many there may be.
        max: u64,
    },
    /// No unit of the work spec is available.
    NoWork(Counts),
    /// The work spec makes its units by itself, but not while one is pending.
    ContinuousRunning,
    /// The work spec makes its units by itself, and the next one is not due yet.
    Interval {
        /// When it is.
        until: Timestamp,
    },
    /// No unit of the work spec is available, and its schedule makes the next one later.
    Scheduled {
        /// When.
        until: Timestamp,
    },
    /// The work spec has handed out as many units as `max_rate` allows.
    MaxRate {
        /// The limit.
        rate: MaxRate,
        /// When it allows the next unit.
        until: Timestamp,
    },
    /// No worker asks for work.
    NoWorker {
        /// How many workers are registered as alive.
        alive: u64,
        /// Since when.
        since: Timestamp,
        /// True if work was last asked for then; false if the daemon was started then.
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
    /// How many units of the work spec come before it, or of its group if that is taken in turn.
    UnitsAhead(UnitsAhead, Queueing),
    /// How many groups of the work spec have their turn before that of the unit.
    GroupsAhead(UnitsAhead),
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
            Self::Failed { .. } | Self::LostLeases { .. } | Self::Cancelled(_) => "failed",
            Self::Running { .. } | Self::Cancelling { .. } => "running",
            Self::Delayed { .. } => "delayed",
            Self::Retry { .. } => "retry",
            Self::Paused(_) => "paused",
            Self::NoWeight(_) => "no_weight",
            Self::MaxRunning(_) => "max_running",
            Self::GroupsFull(_) => "groups_full",
            Self::GroupFull { .. } => "group_full",
            Self::NoWork(_) => "no_work",
            Self::ContinuousRunning => "continuous_running",
            Self::Interval { .. } => "interval",
            Self::Scheduled { .. } => "scheduled",
            Self::MaxRate { .. } => "max_rate",
            Self::NoWorker { .. } => "no_worker",
            Self::MaxRetries(_) => "max_retries",
            Self::Runtime(_) => "runtime",
            Self::LowerPriority(_) => "lower_priority",
            Self::Share => "share",
            Self::UnitsAhead(..) => "units_ahead",
            Self::GroupsAhead(_) => "groups_ahead",
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
            None => "a worker that gave no name".to_owned(),
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
            Self::LostLeases { at, worker, lost } => format!(
                "it failed {} ago because {lost} of its leases were lost, the last one by {}; nobody gets it until it is \
                 retried",
                ago(*at),
                by(worker)
            ),
            Self::Cancelled(cancellation) => format!(
                "{}; nobody gets it until it is retried",
                cancelled_in_words(cancellation, now)
            ),
            Self::Cancelling {
                worker,
                until,
                cancellation,
            } => format!(
                "{}; {} still has it, and loses its lease in {}",
                cancelled_in_words(cancellation, now),
                by(worker),
                left(until)
            ),
            Self::Running { worker, until } => format!(
                "{} has it, with a lease for {} more",
                by(worker),
                left(until)
            ),
            Self::Delayed { until } => format!("it is delayed for {} more", left(until)),
            Self::Retry {
                until,
                failures,
                retries,
            } => format!(
                "it has failed {} and is tried again in {} (the work spec has retries: {retries})",
                times(*failures),
                left(until)
            ),
            Self::Paused(pause) => paused_in_words(pause, now),
            Self::NoWeight(weight) => {
                format!("the work spec has the weight {weight}: one of 0 or less has no share")
            }
            Self::MaxRunning(max) => {
                format!(
                    "as many units of the work spec are pending as its max_running allows: {max}"
                )
            }
            Self::GroupsFull(max) => format!(
                "as many units of each group with available ones are pending as max_running_per_group of the work \
                 spec allows: {max}"
            ),
            Self::GroupFull { group, max } => {
                let group = match group.as_str() {
                    "" => "units without a group".to_owned(),
                    group => format!("units of its group {group:?}"),
                };
                format!(
                    "as many {group} are pending as max_running_per_group of the work spec allows: {max}"
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
            Self::Scheduled { until } => format!(
                "the work spec has no available unit, and its schedule makes the next one in {}",
                left(until)
            ),
            Self::MaxRate { rate, until } => format!(
                "the work spec has handed out as many units as its max_rate allows, {rate}: the next one can be had in {}",
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
            Self::UnitsAhead(UnitsAhead { count, is_all }, queueing) => {
                let at_least = if *is_all { "" } else { "at least " };
                let of_what = match queueing.in_turn {
                    true => "its group",
                    false => "the work spec",
                };
                let order = match queueing.order {
                    Order::Name => "name",
                    Order::Added => "the order in which they were added",
                };
                format!(
                    "{at_least}{count} units of {of_what} come before it, by priority or by {order}"
                )
            }
            Self::GroupsAhead(UnitsAhead { count, is_all }) => {
                let at_least = if *is_all { "" } else { "at least " };
                let groups = match count {
                    1 => "1 other group of the work spec comes".to_owned(),
                    count => format!("{count} other groups of the work spec come"),
                };
                format!(
                    "{at_least}{groups} before its group, with fewer units pending or waiting for longer"
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

/// That a work spec is paused, and by whom, since when and why, as far as that is known.
fn paused_in_words(pause: &Pause, now: Timestamp) -> String {
    let mut text = "the work spec is paused".to_owned();
    if let Some(since) = pause.since {
        text = format!(
            "the work spec was paused {} ago",
            in_words(now.since(since))
        );
    }
    if let Some(by) = &pause.by {
        text = format!("{text} by {by}");
    }
    match &pause.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    }
}

/// That a unit was cancelled, when and, as far as that is known, by whom and why.
fn cancelled_in_words(cancellation: &Cancellation, now: Timestamp) -> String {
    let mut text = format!(
        "it was cancelled {} ago",
        in_words(now.since(cancellation.at))
    );
    if let Some(by) = &cancellation.by {
        text = format!("{text} by {by}");
    }
    match &cancellation.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
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

/// How many available units come before another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitsAhead {
    /// How many were found.
    pub count: usize,
    /// False if there may be more.
    pub is_all: bool,
}
