//! The coordinate API: every operation, and the rules, in plain types.
//!
//! Knows no wire protocol, no SQL, no sockets and no clock: it is given the time, a source of chance
//! and a [`storage::Storage`], and is called by whatever speaks a protocol. Data dictionaries are
//! CBOR bytes, of which it reads single fields.

mod archive;
mod attempt;
mod chaining;
mod error;
mod expiry;
mod explain;
mod failure;
mod lease;
mod lock;
mod memory;
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

pub use archive::ArchivePass;
pub use attempt::{Attempt, AttemptId, AttemptStatus, HandedOut};
pub use chaining::Chained;
pub use error::{Error, Result, StorageError};
pub use explain::Reason;
pub use failure::{FailureGroup, group_failures};
pub use lease::{LEASE_DEFAULT, LEASE_MAX, Lease};
pub use lock::{LOCK_TIMEOUT_MAX, Lock, LockPath, lock_timeout};
pub use memory::{Effects, Memory};
pub use new_unit::NewUnit;
pub use report::{Outcome, Report, ReportKind};
pub use retention::Retention;
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
/// either happens whole or not at all. It may be run again from its start, so what it changes beside the store is
/// returned, or is among its effects.
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
    /// What is remembered beside the store.
    pub memory: &'a Memory,
    /// What the operation adds to that.
    pub effects: &'a mut Effects,
    /// The source of chance. Numbers that were drawn stay drawn when the operation is run again. It borrows nothing, so an operation may be lent for as short as one likes.
    pub random: &'a mut (dyn Rng + 'static),
}

#[cfg(test)]
pub(crate) const EMPTY_DEFINITION: &[u8] = coordinated_client::cbor::EMPTY_MAP;
