//! Work units and their states.

use super::queueing::{Queued, Queueing};
use super::{Attempt, AttemptId, Cancellation, Name, WorkSpecId, WorkUnitId};
use crate::clock::Timestamp;

/// The status of a work unit. The numbers are those in the file; all but `Delayed` are on the wire too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnitStatus {
    /// Waiting to be handed out.
    Available = 1,
    /// To become available at a given time.
    Delayed = 2,
    /// Leased to a worker.
    Pending = 3,
    /// Done.
    Finished = 4,
    /// Given up, until it is retried.
    Failed = 5,
}

impl UnitStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Available,
        Self::Delayed,
        Self::Pending,
        Self::Finished,
        Self::Failed,
    ];

    /// True for finished and failed units.
    #[must_use]
    pub fn is_completed(self) -> bool {
        matches!(self, Self::Finished | Self::Failed)
    }
}

/// The statuses of a unit that is done with, unless it is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Completed {
    /// Done.
    Finished,
    /// Given up.
    Failed,
}

impl Completed {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Finished, Self::Failed];

    /// The one that a status is, if it is one.
    #[must_use]
    pub fn from_status(status: UnitStatus) -> Option<Self> {
        match status {
            UnitStatus::Finished => Some(Self::Finished),
            UnitStatus::Failed => Some(Self::Failed),
            UnitStatus::Available | UnitStatus::Delayed | UnitStatus::Pending => None,
        }
    }
}

impl From<Completed> for UnitStatus {
    fn from(status: Completed) -> Self {
        match status {
            Completed::Finished => Self::Finished,
            Completed::Failed => Self::Failed,
        }
    }
}

/// A work unit without its name and data: what decides over its changes.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkUnit {
    /// Its identity.
    pub id: WorkUnitId,
    /// The work spec that it belongs to.
    pub work_spec: WorkSpecId,
    /// Where it stands.
    pub status: UnitStatus,
    /// Higher ones are handed out first.
    pub priority: f64,
    /// Not handed out before this time; forgotten when the unit becomes available.
    pub not_before: Option<Timestamp>,
    /// The attempt that decides the status: there is one if it is pending, finished or failed.
    pub active: Option<AttemptId>,
    /// The newest attempt.
    pub last: Option<AttemptId>,
    /// The number of the newest attempt from before the unit was added again, if it was: that one and those before
    /// it are superseded.
    pub superseded: Option<u64>,
    /// How many attempts there were when the unit was last added again or retried: these don't count
    /// towards `max_retries`.
    pub attempts_before: u64,
    /// How many failures were reported since the unit was last added again or retried. Counted only if the work spec
    /// retries failed units.
    pub failures: u64,
    /// How many workers have lost their lease of it since then. Counted only if the work spec has a `max_lost`.
    pub lost: u64,
    /// How it is queued when it is available.
    pub queued: Queued,
    /// Since when it is available, if it is and that is known: units of earlier versions do not have it.
    pub available_since: Option<Timestamp>,
}

/// What a unit counts as among those of its work spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Its status.
    pub status: UnitStatus,
    /// It has failed, and is to be tried again.
    pub is_retrying: bool,
    /// The group that it counts in, if it is available or pending and its group is taken in turn.
    pub group: Option<String>,
}

impl WorkUnit {
    /// What the unit counts as.
    #[must_use]
    pub fn counted(&self) -> Counted {
        let counts_in_group = matches!(self.status, UnitStatus::Available | UnitStatus::Pending);
        let group = self.queued.group_in_turn().filter(|_| counts_in_group);
        Counted {
            group: group.map(str::to_owned),
            status: self.status,
            is_retrying: self.failures > 0 && self.status < UnitStatus::Pending,
        }
    }

    /// Begins to count anew: the attempts so far, of which there are this many, no longer matter, nor do failures and
    /// lost leases.
    pub fn start_over(&mut self, attempts: u64) {
        self.attempts_before = attempts;
        (self.failures, self.lost) = (0, 0);
    }

    /// Makes the unit pending, for an attempt.
    pub fn make_pending(&mut self, attempt: AttemptId, queueing: Queueing) {
        self.active = Some(attempt);
        self.status = UnitStatus::Pending;
        self.available_since = None;
        self.queued.in_turn = queueing.in_turn;
    }

    /// Makes the unit finished or failed. It has an active attempt.
    pub fn complete(&mut self, status: Completed) {
        self.status = status.into();
        self.available_since = None;
    }

    /// Makes the unit available, or delayed if its time has not come, and queues it as its work spec says.
    pub fn make_available(&mut self, now: Timestamp, queueing: Queueing) {
        self.active = None;
        self.queued.queue(queueing);
        self.not_before = self.not_before.filter(|not_before| *not_before > now);
        (self.status, self.available_since) = match self.not_before {
            Some(_) => (UnitStatus::Delayed, None),
            None => (UnitStatus::Available, Some(now)),
        };
    }
}

/// A unit with what is told of it.
#[derive(Debug)]
pub struct UnitDetails {
    /// The unit.
    pub unit: WorkUnit,
    /// Its data dictionary as its active attempt left it, encoded.
    pub data: Vec<u8>,
    /// Its active attempt.
    pub active: Option<Attempt>,
}

/// What `get_work_unit_status` tells of a unit.
#[derive(Debug)]
pub struct UnitReport {
    /// Its status.
    pub status: UnitStatus,
    /// The end of the lease, or the time of completion.
    pub expiration: Option<Timestamp>,
    /// Who has it, or had it when it was completed.
    pub worker: Option<Name>,
    /// The `traceback` in its data, encoded.
    pub traceback: Option<Vec<u8>>,
    /// How many times it has failed, as far as that is counted.
    pub failures: u64,
    /// How many failures its work spec retries.
    pub retries: u64,
    /// How many leases were lost, as far as that is counted.
    pub lost: u64,
    /// When it is tried again, if it has failed and is delayed until then.
    pub retry_at: Option<Timestamp>,
    /// Who cancelled it, when and why, if it was cancelled.
    pub cancellation: Option<Cancellation>,
    /// The group that it was added to.
    pub group: Option<String>,
}

impl UnitReport {
    /// True if it has failed, and is to be tried again.
    #[must_use]
    pub fn will_be_retried(&self) -> bool {
        self.failures > 0 && self.status < UnitStatus::Pending
    }
}

/// How to change a priority.
#[derive(Clone, Copy, Debug)]
pub enum PriorityChange {
    /// To this value.
    Set(f64),
    /// By this value.
    Adjust(f64),
}
