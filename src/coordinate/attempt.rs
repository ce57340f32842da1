//! Attempts: one worker's try at one work unit.

use super::{AttemptId, Name, WorkUnitId};
use crate::clock::Timestamp;
use std::time::Duration;

/// The status of an attempt. The numbers are those in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptStatus {
    /// The worker has the unit.
    Pending = 3,
    /// Reported as done.
    Finished = 4,
    /// Reported as failed.
    Failed = 5,
    /// The lease ran out, or was given up.
    Expired = 6,
    /// Given back for a later retry.
    Retryable = 7,
}

impl AttemptStatus {
    /// True if the attempt ended because somebody reported its result.
    #[must_use]
    pub fn is_reported(self) -> bool {
        matches!(self, Self::Finished | Self::Failed)
    }
}

/// An attempt without its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its identity.
    pub id: AttemptId,
    /// The unit that it is about.
    pub unit: WorkUnitId,
    /// The attempt at the same unit before it.
    pub previous: Option<AttemptId>,
    /// 1 for the first attempt at the unit.
    pub number: u64,
    /// Who makes it; unknown if somebody reported on a unit without having been given it.
    pub worker: Option<Name>,
    /// Where it stands.
    pub status: AttemptStatus,
    /// The worker is believed to be working on it, even if the lease was lost.
    pub held: bool,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// When its lease runs out, or would have.
    pub expiration: Timestamp,
}

/// An attempt with what is told of it.
#[derive(Debug)]
pub struct AttemptDetails {
    /// The attempt.
    pub attempt: Attempt,
    /// The name of the work spec.
    pub work_spec: Name,
    /// The name of the unit.
    pub unit: Name,
    /// The data that it left, or else those of the unit, encoded.
    pub data: Vec<u8>,
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum AttemptChange {
    /// Its lease ends this long from now.
    Renew(Duration),
    /// It gives its unit back.
    Expire,
    /// The unit is done.
    Finish,
    /// The unit can't be done.
    Fail,
    /// It gives its unit back, to be tried again after this time.
    Retry(Duration),
}

/// What an [`AttemptChange`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The attempt was changed.
    Done,
    /// Nothing, since the attempt has ended.
    NotPending,
    /// The attempt no longer decides the status of its unit. Its data were kept.
    LostLease,
}

impl Attempt {
    /// The end of the lease of an attempt that runs, or the time when it ended.
    #[must_use]
    pub fn lease_or_completion(&self) -> Timestamp {
        self.end.unwrap_or(self.expiration)
    }

    /// True if its lease ran out. False if it is not over, was given back or has a result.
    #[must_use]
    pub fn lost_its_lease(&self) -> bool {
        let is_late = self.end.is_some_and(|end| end >= self.expiration);
        self.status == AttemptStatus::Expired && is_late
    }

    /// Notes the end of the attempt. Its worker is still believed to be working on it, unless it
    /// reported the result.
    pub fn end_as(&mut self, status: AttemptStatus, now: Timestamp) {
        self.status = status;
        self.end = Some(now);
        self.held &= !status.is_reported();
    }
}
