//! What is asked of a database, and what it answers.

use crate::clock::Timestamp;
use crate::coordinate::lock::LockPath;
use crate::coordinate::work_unit::{Completed, UnitStatus, WorkUnit};
use crate::coordinate::{AttemptId, AuditId, Name, WorkSpecId, WorkUnitId};
use std::ops::RangeInclusive;

/// What an engine tells about itself, for logs and metrics. What it does not have is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageStatistics {
    /// Its write-ahead log.
    pub wal: Option<WalPages>,
}

/// The pages of a write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalPages {
    /// Pages in the log.
    pub pages: u64,
    /// How many of them are in the file too.
    pub in_file: u64,
}

/// What may let requests that wait go on ([`crate::coordinate::Waiters`]). There may be news of what was undone since.
#[derive(Debug, Default)]
pub struct News {
    /// Work specs that can give units and could not before.
    pub able: Vec<WorkSpecId>,
    /// When another one can give units, if nothing changes until then.
    pub able_at: Option<Timestamp>,
    /// Units that were changed or deleted.
    pub units: Vec<WorkUnitId>,
    /// Work specs that were deleted with their units.
    pub gone: Vec<WorkSpecId>,
    /// True if any unit may have changed: another program has written to the file, or a batch was rolled back. Then all
    /// work specs are among those that can give.
    pub is_reloaded: bool,
}

/// A unit to be inserted.
#[derive(Debug)]
pub struct InsertedUnit<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Its priority.
    pub priority: f64,
    /// The end of its delay; without one it is available at once.
    pub not_before: Option<Timestamp>,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// Its data dictionary, encoded.
    pub data: &'a [u8],
}

/// An available unit with all that handing it out needs.
#[derive(Debug)]
pub struct AvailableUnit {
    /// The unit.
    pub unit: WorkUnit,
    /// Its name.
    pub name: Name,
    /// Its data dictionary, encoded.
    pub data: Vec<u8>,
}

/// The result of a search for the best available units.
#[derive(Debug)]
pub enum BestUnits {
    /// The next ones, the best first; empty only if nothing is available.
    Found(Vec<AvailableUnit>),
    /// The search is not finished; the next call continues it, preferably in another batch.
    NotYet,
}

/// A unit with its names.
#[derive(Debug)]
pub struct NamedUnit {
    /// The unit.
    pub unit: WorkUnit,
    /// Its name.
    pub name: Name,
    /// The name of its work spec.
    pub work_spec: Name,
}

/// Which units to list.
#[derive(Clone, Debug)]
pub struct UnitQuery {
    /// Only those in these statuses; all if `None`.
    pub statuses: Option<Vec<UnitStatus>>,
    /// From this name on, included.
    pub start: Option<Name>,
    /// At most this many.
    pub limit: usize,
}

/// Which units to show with where they stand.
#[derive(Clone, Debug)]
pub struct StandingQuery {
    /// Those in this status. Others may be shown, too, if they have to be read anyway, but without their attempts.
    pub status: Option<UnitStatus>,
    /// From this name on, included.
    pub from: Name,
}

/// Which units to search for by their status, and when to stop.
#[derive(Clone, Debug)]
pub struct InStatusQuery<'a> {
    /// Those of this work spec.
    pub spec: WorkSpecId,
    /// Those in one of these statuses.
    pub statuses: &'a [UnitStatus],
    /// Only those after this name.
    pub after: Option<&'a Name>,
    /// Only those up to this name, included.
    pub until: &'a Name,
    /// At most how many names to read.
    pub looked_at_max: usize,
    /// At most how many units to find.
    pub limit: usize,
}

/// The result of a search for units by their status.
#[derive(Debug)]
pub struct UnitsInStatus {
    /// In the order of their names.
    pub units: Vec<WorkUnit>,
    /// The name after which to search for more; `None` if these are all.
    pub looked_to: Option<Name>,
}

/// Which completed units to search for, and when to stop.
#[derive(Clone, Debug)]
pub struct CompletedQuery {
    /// Those of this work spec.
    pub spec: WorkSpecId,
    /// Those in this status.
    pub status: Completed,
    /// Only those whose active attempt comes after this one.
    pub after: Option<AttemptId>,
    /// Only those whose active attempt comes before the first attempt, of whatever unit, that began in this
    /// span.
    pub until_begun_in: Option<RangeInclusive<Timestamp>>,
    /// At most how many attempts to read.
    pub looked_at_max: usize,
    /// At most how many rows, of units and of attempts at them, to find; more only if the last unit
    /// has many.
    pub rows_max: usize,
    /// The same in bytes of their data.
    pub bytes_max: usize,
}

/// A finished or failed unit.
#[derive(Debug)]
pub struct CompletedUnit {
    /// The unit.
    pub unit: WorkUnit,
    /// Its active attempt.
    pub attempt: AttemptId,
    /// When that began.
    pub start: Timestamp,
    /// When that ended.
    pub end: Timestamp,
    /// The rows of the unit and of all attempts at it.
    pub rows: usize,
    /// Bytes of data in them, as estimated without reading each.
    pub bytes: usize,
}

/// The result of a search for completed units.
#[derive(Debug)]
pub struct CompletedUnits {
    /// In the order of their active attempts.
    pub units: Vec<CompletedUnit>,
    /// How many attempts were read.
    pub looked_at: usize,
    /// The last one of them, or the one after which the search began.
    pub looked_to: AttemptId,
    /// True if there is nothing after it, or nothing that was asked for.
    pub is_all: bool,
}

/// Units of an output that are still to be added.
#[derive(Debug)]
pub struct OutputSlice {
    /// The attempt that left the output; `None` if an earlier version kept the slice.
    pub attempt: Option<AttemptId>,
    /// The work spec that gets them.
    pub work_spec: WorkSpecId,
    /// The priority of those that state none.
    pub priority: f64,
    /// A list of what `add_work_units` takes, encoded.
    pub units: Vec<u8>,
}

/// Which active workers to list.
#[derive(Clone, Debug)]
pub struct WorkerQuery {
    /// Whose children they are.
    pub under: WorkersUnder,
    /// Those behind this name.
    pub after: Option<Name>,
    /// At most this many.
    pub limit: usize,
}

/// Whose children workers are.
#[derive(Clone, Debug)]
pub enum WorkersUnder {
    /// Anybody's or nobody's: all workers.
    Anybody,
    /// Nobody's: they have no parent, or one that is not active.
    Nobody,
    /// Those of this worker.
    Worker(Name),
}

/// Which locks to list.
#[derive(Clone, Debug)]
pub struct LockQuery {
    /// Only this path and those below it.
    pub under: LockPath,
    /// From this path on, included.
    pub start: Option<LockPath>,
    /// At most this many.
    pub limit: usize,
}

/// Where a unit stands.
pub struct UnitStanding {
    /// Its identity.
    pub id: WorkUnitId,
    /// Its status.
    pub status: UnitStatus,
    /// When the lease of its active attempt runs out, or when that ended.
    pub lease_or_completion: Option<Timestamp>,
    /// The worker of its active attempt.
    pub worker: Option<Name>,
    /// Its dictionary as its active attempt left it, encoded.
    pub data: Vec<u8>,
    /// The end of its delay.
    pub not_before: Option<Timestamp>,
    /// As in [`WorkUnit`].
    pub failures: u64,
    /// The same.
    pub lost: u64,
    /// Its group, if it has one.
    pub group: Option<String>,
}

/// Which entries of the audit to list, the newest first.
#[derive(Clone, Debug)]
pub struct AuditQuery {
    /// Only those of this namespace.
    pub namespace: Option<String>,
    /// Only those before this one.
    pub before: Option<AuditId>,
    /// How many at most.
    pub limit: usize,
}
