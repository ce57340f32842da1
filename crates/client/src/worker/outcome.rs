//! Outcomes of units.

use crate::Cancellation;
use crate::cbor::Value;
use std::time::Duration;

/// The outcome of a unit.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The unit is done.
    Finished {
        /// Its new data; `None` keeps the old ones. An `output` in them adds units to the work spec that `then` names.
        data: Option<Value>,
    },
    /// The unit has failed.
    Failed {
        /// What went wrong, for people. Failures are grouped by its last line.
        traceback: String,
        /// Whether it is tried again.
        retry: Retry,
    },
    /// The unit is to be tried again later. This is not a failure, so it does not count for the `retries` of the work spec.
    GivenBack {
        /// The time until then, at least.
        delay: Duration,
        /// Why, for people. The daemon keeps it with the attempt.
        traceback: Option<String>,
    },
}

/// Whether a unit that has failed is tried again. Only `coordinated` retries failed units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// As often, and after as long, as its work spec says: by default never.
    #[default]
    AsWorkSpecSays,
    /// As often as its work spec says, but after this delay.
    After(Duration),
    /// Never: the next attempt would fail as well.
    Never,
}

impl Outcome {
    /// The unit is done, and keeps its data.
    #[must_use]
    pub fn finished() -> Self {
        Self::Finished { data: None }
    }

    /// The unit is done, and has these data now: a map.
    #[must_use]
    pub fn finished_with(data: Value) -> Self {
        Self::Finished { data: Some(data) }
    }

    /// The unit has failed, for this reason.
    pub fn failed(traceback: impl Into<String>) -> Self {
        Self::Failed {
            traceback: traceback.into(),
            retry: Retry::AsWorkSpecSays,
        }
    }

    /// The unit has failed, for this reason, and trying it again is of no use.
    pub fn failed_for_good(traceback: impl Into<String>) -> Self {
        Self::Failed {
            traceback: traceback.into(),
            retry: Retry::Never,
        }
    }

    /// The unit is to be tried again after this time, by any worker.
    #[must_use]
    pub fn given_back(delay: Duration) -> Self {
        Self::GivenBack {
            delay,
            traceback: None,
        }
    }
}

/// How many units of a worker ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Units that are done.
    pub finished: u64,
    /// Units that have failed, also those that will be tried again.
    pub failed: u64,
    /// How many of those that have failed will be tried again, as far as the server tells.
    pub retried: u64,
    /// Units that were given back for later.
    pub given_back: u64,
    /// Units whose leases were lost to another worker, or that were deleted.
    pub lost: u64,
    /// Units that somebody has cancelled.
    pub cancelled: u64,
}

/// How a unit ended, after its report.
#[derive(Debug)]
pub enum Ending {
    /// It is finished.
    Finished,
    /// It failed, with this traceback.
    Failed(String),
    /// It failed, and will be tried again.
    Retried {
        /// What went wrong.
        traceback: String,
        /// After how long.
        delay: Duration,
    },
    /// It is to be tried again after this time.
    GivenBack(Duration),
    /// The daemon refused the report, or the renewal of the lease, for this reason.
    Lost(String),
    /// Somebody has cancelled it: `cancelled: REASON`. It stays failed.
    Cancelled(String),
}

impl Ending {
    /// The ending of a unit whose report, or whose renewal, the daemon has refused with this message.
    pub(super) fn of_refused(message: String) -> Self {
        match is_cancelled(&message) {
            true => Self::Cancelled(message),
            false => Self::Lost(message),
        }
    }
}

/// The message with which the daemon refuses reports on a unit that was cancelled.
pub(super) fn message_of(cancellation: &Cancellation) -> String {
    match &cancellation.reason {
        Some(reason) => format!("cancelled: {reason}"),
        None => "cancelled".to_owned(),
    }
}

/// True if the daemon refuses a report with this message because the unit was cancelled (docs/protocol.md,
/// "Cancelling").
pub(super) fn is_cancelled(message: &str) -> bool {
    message == "cancelled" || message.starts_with("cancelled: ")
}

impl Tally {
    pub(super) fn count(&mut self, ending: &Ending) {
        self.retried += u64::from(matches!(ending, Ending::Retried { .. }));
        *match ending {
            Ending::Finished => &mut self.finished,
            Ending::Failed(_) | Ending::Retried { .. } => &mut self.failed,
            Ending::GivenBack(_) => &mut self.given_back,
            Ending::Lost(_) => &mut self.lost,
            Ending::Cancelled(_) => &mut self.cancelled,
        } += 1;
    }
}
