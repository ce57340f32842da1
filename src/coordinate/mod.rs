//! The coordinate API: every operation, and the rules, in plain types.
//!
//! Knows no wire protocol, no SQL, no sockets and no clock: it is given the time, a source of chance
//! and a [`storage::Storage`], and is called by whatever speaks a protocol. Data dictionaries are
//! CBOR bytes, of which it reads single fields.

mod attempt;
mod chaining;
mod error;
mod expiry;
mod explain;
mod failure;
mod lease;
mod lock;
mod new_unit;
pub mod number;
mod report;
mod retention;
mod scheduler;
pub mod storage;
mod work;
mod work_spec;
mod work_unit;
mod worker;

pub use attempt::{Attempt, AttemptId, AttemptStatus, HandedOut, HandedOutByWorker};
pub use chaining::Chained;
pub use error::{Error, Result, StorageError};
pub use explain::{LastAsked, Reason};
pub use failure::{FailureGroup, group_failures};
pub use lease::{LEASE_DEFAULT, LEASE_MAX, Lease};
pub use lock::{LOCK_TIMEOUT_MAX, Lock, LockPath, lock_timeout};
pub use new_unit::NewUnit;
pub use report::{Outcome, Report, Wish};
pub use retention::{Archival, Retention};
pub use scheduler::Candidates;
pub use work::{Assignment, WorkRequest};
pub use work_spec::{Control, Counts, Meta, WorkSpec, WorkSpecId, limit_from_integer};
pub use work_unit::{
    Completed, Deletion, DeletionInStatus, PriorityChange, UnitReport, UnitStatus, WorkUnit,
    WorkUnitId,
};
pub use worker::{Heartbeat, HeldUnit, Worker, WorkerStats, worker_lifetime};

pub use coordinated_client::Name;

use crate::clock::Timestamp;
use crate::limits::RequestLimits;
use rand::Rng;

/// Identifies a namespace: a world of its own of work specs and workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId(pub i64);

/// One operation: what it works on. It is begun and ended by [`storage::Storage::operation`], and
/// either happens whole or not at all.
pub struct Operation<'a, S> {
    /// Where everything is kept.
    pub store: &'a mut S,
    /// The world that the caller lives in.
    pub namespace: NamespaceId,
    /// The present time.
    pub now: Timestamp,
    /// What a request may hold.
    pub limits: &'a RequestLimits,
    /// What its finishes have chained so far.
    pub chained: Chained,
    /// What was handed out to each worker. What an operation notes there stays when it is undone. That does no harm: an
    /// id is never used for another unit.
    pub handed_out: &'a mut HandedOutByWorker,
    /// The source of chance. It borrows nothing, so an operation may be lent for as short as one likes.
    pub random: &'a mut (dyn Rng + 'static),
}

#[cfg(test)]
pub(crate) const EMPTY_DEFINITION: &[u8] = coordinated_client::cbor::EMPTY_MAP;
