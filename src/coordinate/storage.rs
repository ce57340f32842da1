//! What the operations need of a database.
//!
//! An engine implements [`Storage`] and a trait for each family of tables; the SQLite one is
//! [`crate::store`]. It stores and finds, and decides nothing. Except where [`Storage`] says
//! otherwise, methods may be called only within [`Storage::operation`], and fail with any
//! [`StorageError`].

use super::attempt::{Attempt, AttemptId};
use super::error::{Result, StorageError};
use super::lock::{Lock, LockPath};
use super::scheduler::Candidates;
use super::work_spec::{Counts, Meta, WorkSpec, WorkSpecId};
use super::work_unit::{Completed, UnitStatus, WorkUnit, WorkUnitId};
use super::worker::{Worker, WorkerStats};
use super::{Name, NamespaceId};
use crate::clock::{ClockStep, Timestamp};
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

/// What an operation may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only reads.
    Read,
    /// It may write.
    Write,
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

/// What a look for the best available units gave.
#[derive(Debug)]
pub enum BestUnits {
    /// The next ones, the best first; empty only if nothing is available.
    Found(Vec<AvailableUnit>),
    /// The look has come some way, and is to be gone on with, best in another batch.
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
    /// So many at the most.
    pub limit: usize,
}

/// Which units to look for by their status, and when to stop.
#[derive(Clone, Debug)]
pub struct InStatusQuery<'a> {
    /// Those of this work spec.
    pub spec: WorkSpecId,
    /// Those in one of these statuses.
    pub statuses: &'a [UnitStatus],
    /// Only those behind this name.
    pub after: Option<&'a Name>,
    /// Only those up to this name, included.
    pub until: &'a Name,
    /// How many names to pass at the most.
    pub looked_at_max: usize,
    /// How many units to find at the most.
    pub limit: usize,
}

/// What a look for units by their status gave.
#[derive(Debug)]
pub struct UnitsInStatus {
    /// In the order of their names.
    pub units: Vec<WorkUnit>,
    /// The name behind which to look for more; `None` if these are all.
    pub looked_to: Option<Name>,
}

/// Which completed units to look for, and when to stop.
#[derive(Clone, Debug)]
pub struct CompletedQuery {
    /// Those of this work spec.
    pub spec: WorkSpecId,
    /// Those in this status.
    pub status: Completed,
    /// Only those whose active attempt comes behind this one.
    pub after: Option<AttemptId>,
    /// Only those whose active attempt comes before the first attempt, of whatever unit, that began in this
    /// span.
    pub until_begun_in: Option<RangeInclusive<Timestamp>>,
    /// How many attempts to look at, at the most.
    pub looked_at_max: usize,
    /// How many rows, of units and of attempts at them, to find at the most; more only if the last unit
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
    /// Bytes of data in them, as far as is known without looking at each.
    pub bytes: usize,
}

/// What a look for completed units gave.
#[derive(Debug)]
pub struct CompletedUnits {
    /// In the order of their active attempts.
    pub units: Vec<CompletedUnit>,
    /// How many attempts were looked at.
    pub looked_at: usize,
    /// The last one of them, or the one behind which to look.
    pub looked_to: AttemptId,
    /// True if there is nothing behind it, or nothing that was wanted.
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

/// The result of storing or finding.
pub type StorageResult<T> = std::result::Result<T, StorageError>;

/// How many available units come before another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnitsAhead {
    /// So many were found.
    pub count: usize,
    /// False if there may be more.
    pub is_all: bool,
}

/// Which locks to list.
#[derive(Clone, Debug)]
pub struct LockQuery {
    /// Only this path and those below it.
    pub under: LockPath,
    /// From this path on, included.
    pub start: Option<LockPath>,
    /// So many at the most.
    pub limit: usize,
}

/// Takes a work spec's name and dictionary, encoded. An error ends the listing, as with those below.
pub type VisitDefinition<'a> = dyn FnMut(&Name, &[u8]) -> Result<()> + 'a;

/// Takes a work spec's name, its counts, and since when it has had available units, if that is known.
pub type VisitCounts<'a> = dyn FnMut(&Name, &Counts, Option<Timestamp>) -> Result<()> + 'a;

/// Takes a unit's name and data dictionary.
pub type VisitUnit<'a> = dyn FnMut(&Name, &[u8]) -> Result<()> + 'a;

/// Takes an attempt and the data that it left, if it changed them.
pub type VisitAttempt<'a> = dyn FnMut(&Attempt, Option<&[u8]>) -> Result<()> + 'a;

/// Takes a failed unit's name, its traceback and when it failed.
pub type VisitFailure<'a> = dyn FnMut(&Name, Option<&str>, Timestamp) -> Result<()> + 'a;

/// Takes a lock.
pub type VisitLock<'a> = dyn FnMut(&LockPath, &Lock) -> Result<()> + 'a;

/// Listing, which may take long.
pub trait Lister {
    /// Shows `visit` at most `limit` work specs from the name `start` on, included, sorted by the bytes of their
    /// names.
    ///
    /// # Errors
    /// What `visit` fails with, `Storage`.
    fn list_work_specs(
        &mut self,
        namespace: NamespaceId,
        start: Option<&Name>,
        limit: usize,
        visit: &mut VisitDefinition<'_>,
    ) -> Result<()>;

    /// Shows `visit` how many units all work specs have, sorted by the bytes of their names.
    ///
    /// # Errors
    /// What `visit` fails with, `Storage`.
    fn list_counts(&mut self, namespace: NamespaceId, visit: &mut VisitCounts<'_>) -> Result<()>;

    /// Shows `visit` the units with their data (that of the active attempt if it has some), sorted
    /// by the bytes of their names.
    ///
    /// # Errors
    /// What `visit` fails with, `NoSuchWorkSpec`, `Storage`.
    fn list_work_units(
        &mut self,
        namespace: NamespaceId,
        work_spec: &Name,
        query: &UnitQuery,
        visit: &mut VisitUnit<'_>,
    ) -> Result<()>;

    /// Shows `visit` at most `limit` attempts at a unit, the newest first.
    ///
    /// # Errors
    /// What `visit` fails with, `NoSuchWorkSpec`, `NoSuchWorkUnit`, `Storage`.
    fn list_attempts(
        &mut self,
        namespace: NamespaceId,
        work_spec: &Name,
        unit: &Name,
        limit: usize,
        visit: &mut VisitAttempt<'_>,
    ) -> Result<()>;

    /// Shows `visit` all failed units, sorted by the bytes of their names.
    ///
    /// # Errors
    /// What `visit` fails with, `NoSuchWorkSpec`, `Storage`.
    fn list_failures(
        &mut self,
        namespace: NamespaceId,
        work_spec: &Name,
        visit: &mut VisitFailure<'_>,
    ) -> Result<()>;

    /// Shows `visit` the locks, those of a path before those below it.
    ///
    /// # Errors
    /// What `visit` fails with, `Storage`.
    fn list_locks(&mut self, query: &LockQuery, visit: &mut VisitLock<'_>) -> Result<()>;
}

/// A database: transactions, and the families of tables.
pub trait Storage:
    WorkSpecStore
    + WorkUnitStore
    + QueueStore
    + AttemptStore
    + ArchiveStore
    + OutputStore
    + WorkerStore
    + LockStore
    + Lister
    + 'static
{
    /// Reads committed state on another thread.
    type Reader: Lister + Send + 'static;

    /// Runs one operation in the current batch, which is begun if need be. If it fails, all that it
    /// wrote is undone, and the rest of the batch stands.
    ///
    /// An engine may undo what `run` did and call it again, for instance if it lost a race with another daemon. So
    /// whatever `run` changes beside the store begins anew with each call, and counts only when this has returned.
    ///
    /// # Errors
    /// What `run` fails with, or `Storage` if the batch could not be begun; see [`Self::begin_to_write`].
    fn operation<T>(
        &mut self,
        access: Access,
        run: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<T>;

    /// Begins to write in the current batch, unless that was begun. Waits for nobody.
    ///
    /// # Errors
    /// `Busy` if another program keeps it from writing: nothing has changed, and the batch can go on reading. After
    /// any other error the batch is broken.
    fn begin_to_write(&mut self) -> StorageResult<()>;

    /// From now on an operation that another program keeps from writing fails at once. Until then it waits for some
    /// seconds.
    fn stop_waiting(&mut self) -> StorageResult<()>;

    /// True if the batch can't go on: it is to be committed, which tells what became of it.
    fn batch_is_broken(&self) -> bool;

    /// Ends the batch. What it wrote is on disk when this returns `Ok`.
    ///
    /// # Errors
    /// `Unknown` if nobody can know what is on the disk now; otherwise nothing of the batch stands.
    fn commit(&mut self) -> StorageResult<()>;

    /// The earliest time at which a lease, a delay, a worker or a lock may be over. It may be too
    /// early, never too late.
    fn due(&self) -> Option<Timestamp>;

    /// Finds out anew what is due first.
    ///
    /// # Errors
    /// Any [`StorageError`].
    fn refresh_due(&mut self) -> StorageResult<()>;

    /// Moves all times that are compared with the present by `step`: ends of leases, delays, lifetimes and locks,
    /// next continuous units, and what ages are counted from. What has ended stays as it was. Takes time in
    /// proportion to what is pending, delayed, alive or locked: it is for when the clock is set.
    ///
    /// # Errors
    /// Any [`StorageError`].
    fn move_times(&mut self, step: ClockStep) -> StorageResult<()>;

    /// What the engine tells about itself. Callable at any time.
    fn statistics(&mut self) -> StorageResult<StorageStatistics>;

    /// A way to read committed state on another thread, if the engine has one.
    fn reader(&self) -> Option<Self::Reader>;
}

/// Namespaces and work specs.
pub trait WorkSpecStore {
    /// The namespace of a name, which is made if it is new.
    fn namespace(&mut self, name: &str) -> StorageResult<NamespaceId>;

    /// The work spec of a name. Costs no query.
    fn find_work_spec(&self, namespace: NamespaceId, name: &Name) -> Option<&WorkSpec>;

    /// A work spec. Costs no query.
    fn get_work_spec(&self, id: WorkSpecId) -> Option<&WorkSpec>;

    /// All work specs, sorted by the bytes of their names. Costs no query.
    fn work_specs(&self, namespace: NamespaceId) -> impl Iterator<Item = &WorkSpec>;

    /// The work specs that can give units `now`, among which the scheduler draws. Costs no query, and as much time as
    /// specs have changed since the last call.
    fn candidates(&mut self, namespace: NamespaceId, now: Timestamp) -> &Candidates;

    /// The dictionary of a work spec, encoded.
    fn work_spec_definition(&mut self, id: WorkSpecId) -> StorageResult<Vec<u8>>;

    /// Adds a work spec.
    fn insert_work_spec(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
        definition: &[u8],
        meta: &Meta,
    ) -> StorageResult<WorkSpecId>;

    /// Gives a work spec another dictionary and meta; `name` may come in another form than before.
    fn replace_work_spec(
        &mut self,
        id: WorkSpecId,
        name: &Name,
        definition: &[u8],
        meta: &Meta,
    ) -> StorageResult<()>;

    /// Changes how a work spec is scheduled.
    fn update_work_spec_meta(&mut self, id: WorkSpecId, meta: &Meta) -> StorageResult<()>;

    /// Counts the units of a work spec anew, for when the counts turn out to be wrong. Since when it has
    /// had available units is not known then.
    fn recount(&mut self, id: WorkSpecId) -> StorageResult<()>;

    /// Deletes a work spec with its units and their attempts, of which no query shows any from now
    /// on. [`WorkSpecStore::purge`] removes them from the file.
    fn discard_work_spec(&mut self, id: WorkSpecId) -> StorageResult<()>;

    /// Deletes all units of a work spec in the same way. The spec gets another identity.
    fn empty_work_spec(&mut self, id: WorkSpecId) -> StorageResult<()>;

    /// True if there may be something for [`WorkSpecStore::purge`] to remove. Costs no query.
    fn has_deleted(&self) -> bool;

    /// Removes what is left of deleted specs from the file, about `limit` rows of units and attempts at them, or
    /// a slice of an output.
    fn purge(&mut self, limit: usize) -> StorageResult<()>;
}

/// Where a unit stands.
pub struct UnitStanding {
    /// Its status.
    pub status: UnitStatus,
    /// When the lease of its active attempt runs out, or when that ended.
    pub lease_or_completion: Option<Timestamp>,
    /// The worker of its active attempt.
    pub worker: Option<Name>,
    /// Its dictionary as its active attempt left it, encoded.
    pub data: Vec<u8>,
}

/// Work units.
pub trait WorkUnitStore {
    /// The unit of a name.
    fn find_work_unit(&mut self, spec: WorkSpecId, name: &Name) -> StorageResult<Option<WorkUnit>>;

    /// The unit of a name with what its active attempt made of it.
    fn work_unit_standing(
        &mut self,
        spec: WorkSpecId,
        name: &Name,
    ) -> StorageResult<Option<UnitStanding>>;

    /// A unit.
    fn get_work_unit(&mut self, id: WorkUnitId) -> StorageResult<Option<WorkUnit>>;

    /// A unit's own data dictionary, encoded.
    fn work_unit_data(&mut self, id: WorkUnitId) -> StorageResult<Vec<u8>>;

    /// Adds a unit: delayed if it has a `not_before`, else available from `now` on.
    fn insert_work_unit(
        &mut self,
        now: Timestamp,
        spec: WorkSpecId,
        name: &Name,
        priority: f64,
        not_before: Option<Timestamp>,
        data: &[u8],
    ) -> StorageResult<WorkUnit>;

    /// Stores a unit that has changed `now`, and was in the status `before`.
    fn update_work_unit(
        &mut self,
        now: Timestamp,
        before: UnitStatus,
        unit: &WorkUnit,
    ) -> StorageResult<()>;

    /// Stores a unit's own data.
    fn set_work_unit_data(&mut self, id: WorkUnitId, data: &[u8]) -> StorageResult<()>;

    /// Deletes a unit with its attempts.
    fn delete_work_unit(&mut self, unit: &WorkUnit) -> StorageResult<()>;

    /// The last name of a unit of a work spec.
    fn last_name(&mut self, spec: WorkSpecId) -> StorageResult<Option<Name>>;

    /// Units that are in some statuses, sorted by the bytes of their names.
    fn work_units_in(&mut self, query: &InStatusQuery<'_>) -> StorageResult<UnitsInStatus>;

    /// Delayed units whose time has come, the earliest first.
    fn units_no_longer_delayed(
        &mut self,
        now: Timestamp,
        limit: usize,
    ) -> StorageResult<Vec<WorkUnit>>;
}

/// The queue: which available units come next.
pub trait QueueStore {
    /// The available units with the highest priority, those with the lowest names first: at most
    /// `limit`, and fewer if together they have more than `bytes_max` of data or if finding the others
    /// takes another look.
    fn best_available_units(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
        bytes_max: usize,
    ) -> StorageResult<BestUnits>;

    /// How many available units come before an available one in the queue of their work spec. Looks at
    /// at most `limit` units of each kind.
    fn units_ahead(
        &mut self,
        unit: &WorkUnit,
        name: &Name,
        limit: usize,
    ) -> StorageResult<UnitsAhead>;
}

/// Archiving: the oldest completed units, and the counts of those that were archived.
pub trait ArchiveStore {
    /// Finished or failed units in the order of their active attempts, the oldest first. Attempts that once were
    /// skipped are not looked at again.
    fn completed_units(&mut self, query: &CompletedQuery) -> StorageResult<CompletedUnits>;

    /// Deletes a completed unit with its attempts, and counts it as archived.
    fn archive_work_unit(&mut self, unit: &WorkUnit, status: Completed) -> StorageResult<()>;

    /// Sets the count of archived units of a spec in this status to 0; gives what it was.
    fn forget_archived(&mut self, spec: WorkSpecId, status: Completed) -> StorageResult<u64>;

    /// The attempt id that was given out last, whether or not that attempt still exists. Costs no query.
    fn newest_attempt(&self) -> AttemptId;
}

/// Attempts.
pub trait AttemptStore {
    /// Adds an attempt; its `id` is disregarded, and a new one given back.
    fn insert_attempt(&mut self, attempt: &Attempt) -> StorageResult<AttemptId>;

    /// An attempt.
    fn get_attempt(&mut self, id: AttemptId) -> StorageResult<Option<Attempt>>;

    /// Stores a changed attempt.
    fn update_attempt(&mut self, attempt: &Attempt) -> StorageResult<()>;

    /// The data dictionary as an attempt left it, encoded; `None` if it changed nothing.
    fn attempt_data(&mut self, id: AttemptId) -> StorageResult<Option<Vec<u8>>>;

    /// Stores the data of an attempt, and the traceback in them.
    fn set_attempt_data(
        &mut self,
        id: AttemptId,
        data: &[u8],
        traceback: Option<&str>,
    ) -> StorageResult<()>;

    /// Pending attempts whose lease is over, the earliest first.
    fn attempts_to_expire(&mut self, now: Timestamp, limit: usize) -> StorageResult<Vec<Attempt>>;

    /// Notes that a worker is no longer busy with attempts that are not pending.
    fn release_lost_attempts(&mut self, namespace: NamespaceId, worker: &Name)
    -> StorageResult<()>;

    /// The units that a worker is busy with, maybe in vain, the earliest attempt first.
    fn held_units(
        &mut self,
        namespace: NamespaceId,
        worker: &Name,
    ) -> StorageResult<Vec<NamedUnit>>;
}

/// What long outputs name, until it is added.
pub trait OutputStore {
    /// Keeps a slice.
    fn put_output_slice(&mut self, slice: &OutputSlice) -> StorageResult<()>;

    /// Removes a slice of any output and gives it: of those of one output the one that was put first.
    fn take_output_slice(&mut self) -> StorageResult<Option<OutputSlice>>;

    /// Removes the slice of an attempt's output that was put first, and gives it.
    fn take_output_slice_of(&mut self, attempt: AttemptId) -> StorageResult<Option<OutputSlice>>;

    /// True if there are slices of an attempt's output.
    fn has_output_slices_of(&mut self, attempt: AttemptId) -> StorageResult<bool>;

    /// True if there may be a slice. Costs no query.
    fn has_output_slices(&self) -> bool;
}

/// Workers.
pub trait WorkerStore {
    /// Adds a worker, or replaces what is known of it.
    fn upsert_worker(
        &mut self,
        namespace: NamespaceId,
        worker: &Worker,
        environment: Option<&[u8]>,
    ) -> StorageResult<()>;

    /// Removes a worker, which then is busy with nothing. False if there is no such worker.
    fn delete_worker(&mut self, namespace: NamespaceId, name: &Name) -> StorageResult<bool>;

    /// Removes workers whose time is over, at most `limit`, and no more once they were busy with `released_max`
    /// attempts.
    fn delete_expired_workers(
        &mut self,
        now: Timestamp,
        limit: usize,
        released_max: usize,
    ) -> StorageResult<()>;

    /// A worker with its environment.
    fn find_worker(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
    ) -> StorageResult<Option<(Worker, Option<Vec<u8>>)>>;

    /// All workers, sorted by the bytes of their names.
    fn workers(&mut self, namespace: NamespaceId) -> StorageResult<Vec<Worker>>;

    /// The names of a worker's children, sorted by their bytes.
    fn children(&mut self, namespace: NamespaceId, parent: &Name) -> StorageResult<Vec<Name>>;

    /// How many workers there are.
    fn worker_stats(&mut self, namespace: NamespaceId) -> StorageResult<WorkerStats>;
}

/// Locks.
pub trait LockStore {
    /// The lock of just this path.
    fn find_lock(&mut self, path: &[u8]) -> StorageResult<Option<Lock>>;

    /// True if this path or one below it is locked.
    fn is_locked_at_or_under(&mut self, path: &[u8]) -> StorageResult<bool>;

    /// Adds or replaces a lock.
    fn put_lock(&mut self, path: &LockPath, lock: &Lock) -> StorageResult<()>;

    /// Removes the lock of just this path.
    fn delete_lock(&mut self, path: &[u8]) -> StorageResult<()>;

    /// Removes locks of this path and of those below it, at most `limit`; gives how many.
    fn delete_locks_under(&mut self, path: &[u8], limit: usize) -> StorageResult<usize>;

    /// Removes locks whose time is over, at most `limit`.
    fn delete_expired_locks(&mut self, now: Timestamp, limit: usize) -> StorageResult<()>;
}
