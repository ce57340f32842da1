//! The coordinate API: every operation, and the rules, in plain types.
//!
//! Knows no wire protocol, no SQL, no sockets and no clock: it is given the time, a source of chance
//! and a [`storage::Storage`], and is called by whatever speaks a protocol. Data dictionaries are
//! CBOR bytes, of which it reads single fields.
//!
//! The types have a file for each noun, which knows no storage. What is done with them is in `operations`.

mod activity;
mod assignment;
mod attempt;
mod audit;
mod cancellation;
mod chained;
mod error;
mod failure;
mod halt;
mod handed_out;
mod history;
mod id;
mod lease;
mod lock;
mod memory;
mod new_unit;
mod operation;
mod operations;
mod queueing;
mod rate;
mod reason;
mod report;
mod retention;
mod retry;
mod schedule;
mod scheduler;
mod scope;
mod selection;
pub mod storage;
mod token;
mod unit_list;
mod waiting;
mod work_spec;
mod work_unit;
mod worker;

pub use activity::{AttemptEnd, Event, Happening};
pub use assignment::{Assignment, WorkRequest};
pub use attempt::{Attempt, AttemptChange, AttemptDetails, AttemptOutcome, AttemptStatus};
pub use audit::{AUDIT_ENTRIES_MAX, AuditEntry, Author, Change};
pub use cancellation::{Cancellation, Cancelled};
pub use chained::Chained;
pub use error::{Error, Result, StorageError};
pub use failure::{FailureGroup, group_failures};
pub use halt::{FailureRate, HaltAfter, Outcomes};
pub use handed_out::HandedOut;
pub use history::{Period, Tally};
pub use id::{AttemptId, AuditId, NamespaceId, TokenId, WorkSpecId, WorkUnitId};
pub use lease::{LEASE_DEFAULT, LEASE_MAX, Lease};
pub use lock::{LOCK_TIMEOUT_MAX, Lock, LockPath, lock_timeout};
pub use memory::{Effects, Memory};
pub use new_unit::{Added, IfExists, NewUnit, Uploaded};
pub use operation::Operation;
pub use operations::{
    ArchivePass, AsOf, CancellationInStatus, Deletion, DeletionInStatus, UnitAction, UnitPass,
    UploadStep, UploadedLines,
};
pub use queueing::{NextGroup, Order, Place, Queued, Queueing};
pub use rate::MaxRate;
pub use reason::{Reason, UnitsAhead};
pub use report::{Outcome, Report, ReportKind};
pub use retention::Retention;
pub use retry::RetryPolicy;
pub use schedule::{Missed, Overlap, Schedule, timezone};
pub use scheduler::Candidates;
pub use scope::{ParseScopeError, Scope, Scopes};
pub use selection::UnitSelection;
pub use token::{
    NewToken, Secret, TOKEN_KEPT, TOKEN_LIFETIME, TOKENS_MAX, Token, TokenHash, TokenManager,
};
pub use unit_list::{
    ListedAttempt, ListedUnit, UnitFilter, UnitsCounted, UnitsListed, count_units, list_units,
};
pub use waiting::{WaiterId, Waiters, WaitsFor, Work};
pub use work_spec::{
    Control, Counts, Meta, MetaChange, Pause, Recent, WorkSpec, limit_from_integer,
};
pub use work_unit::{
    Completed, Counted, PriorityChange, UnitDetails, UnitReport, UnitStatus, WorkUnit,
};
pub use worker::{
    Census, Heartbeat, HeldUnit, ListedWorker, Worker, WorkerChange, WorkerStats, worker_lifetime,
};

pub use coordinated_client::Name;

#[cfg(test)]
pub(crate) const EMPTY_DEFINITION: &[u8] = coordinated_client::cbor::EMPTY_MAP;
