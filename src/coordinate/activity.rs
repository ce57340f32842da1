//! What operations do in work specs, for statistics.

use super::{Attempt, AttemptStatus, WorkSpecId};
use crate::clock::Timestamp;
use std::time::Duration;

/// Something that happened in a work spec.
#[derive(Clone, Copy, Debug)]
pub struct Happening {
    /// Where.
    pub work_spec: WorkSpecId,
    /// What.
    pub event: Event,
}

/// What can happen in a work spec.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// So many units were added, or added again.
    Added(u64),
    /// An attempt began.
    Started {
        /// When.
        at: Timestamp,
        /// For how long its unit had been available, if it was handed out and that is known.
        waited: Option<Duration>,
    },
    /// An attempt ended in this way, after this time.
    Ended(AttemptEnd, Duration),
    /// A report came whose worker no longer has the unit. True if it counts all the same.
    LateReport(bool),
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The unit is done.
    Finished,
    /// The unit can't be done, or not this time.
    Failed,
    /// The lease ran out.
    Expired,
    /// The unit was given back, or was added again.
    Released,
}

impl AttemptEnd {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Finished, Self::Failed, Self::Expired, Self::Released];

    /// How an attempt ended; `None` if it runs.
    #[must_use]
    pub fn of(attempt: &Attempt) -> Option<Self> {
        Some(match attempt.status {
            AttemptStatus::Pending => return None,
            AttemptStatus::Finished => Self::Finished,
            AttemptStatus::Failed => Self::Failed,
            AttemptStatus::Expired if attempt.lost_its_lease() => Self::Expired,
            AttemptStatus::Expired | AttemptStatus::Retryable => Self::Released,
        })
    }
}
