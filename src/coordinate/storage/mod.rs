//! What the operations need of a database.
//!
//! An engine implements [`Storage`] and a trait for each family of tables; the SQLite one is
//! [`crate::store`]. It stores and finds, and decides nothing. Except where [`Storage`] says
//! otherwise, methods may be called only within [`Storage::operation`], and fail with any
//! [`StorageError`].

mod query;

pub use query::{
    AuditQuery, AvailableUnit, BestUnits, CompletedQuery, CompletedUnit, CompletedUnits,
    InStatusQuery, InsertedUnit, LockQuery, NamedUnit, News, OutputSlice, StandingQuery,
    StorageStatistics, UnitQuery, UnitStanding, UnitsInStatus, WalPages, WorkerQuery, WorkersUnder,
};

use super::attempt::Attempt;
use super::cancellation::Cancellation;
use super::error::{Result, StorageError};
use super::history::{Period, Tally};
use super::lock::{Lock, LockPath};
use super::new_unit::Uploaded;
use super::queueing::NextGroup;
use super::reason::UnitsAhead;
use super::scheduler::Candidates;
use super::token::Token;
use super::unit_list::ListedUnit;
use super::work_spec::{Counts, Meta, Recent, WorkSpec};
use super::work_unit::{Completed, Counted, WorkUnit};
use super::worker::{Census, ListedWorker, Worker, WorkerStats};
use super::{
    AttemptId, AuditEntry, AuditId, Author, Change, Name, NamespaceId, TokenId, WorkSpecId,
    WorkUnitId,
};
use crate::clock::{ClockStep, Timestamp};
use std::ops::ControlFlow;

/// What an operation may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only reads.
    Read,
    /// It may write.
    Write,
    /// It may write, and finds all that is wrong with its request before its first write: after that, only the store can
    /// fail. If it does, the whole batch is undone, so that nothing has to be remembered for undoing this operation alone.
    WriteWithBatch,
}

impl Access {
    /// True if it may write.
    #[must_use]
    pub fn writes(self) -> bool {
        self != Self::Read
    }
}

/// The result of storing or finding.
pub type StorageResult<T> = std::result::Result<T, StorageError>;

/// Takes a work spec's name and dictionary, encoded. An error ends the listing, as with those below.
pub type VisitDefinition<'a> = dyn FnMut(&Name, &[u8]) -> Result<()> + 'a;

/// Takes a work spec's name, its counts, and since when it has had available units, if that is known.
pub type VisitCounts<'a> = dyn FnMut(&Name, &Counts, Option<Timestamp>) -> Result<()> + 'a;

/// Takes a unit's name and data dictionary.
pub type VisitUnit<'a> = dyn FnMut(&Name, &[u8]) -> Result<()> + 'a;

/// Takes a unit, with the traceback of its active attempt if it has failed. Decides whether to go on.
pub type VisitStanding<'a> = dyn FnMut(ListedUnit, Option<&str>) -> Result<ControlFlow<()>> + 'a;

/// Takes a worker.
pub type VisitWorker<'a> = dyn FnMut(ListedWorker) -> Result<()> + 'a;

/// Takes an attempt and the data that it left, if it changed them.
pub type VisitAttempt<'a> = dyn FnMut(&Attempt, Option<&[u8]>) -> Result<()> + 'a;

/// Takes a failed unit's name, its traceback and when it failed.
pub type VisitFailure<'a> = dyn FnMut(&Name, Option<&str>, Timestamp) -> Result<()> + 'a;

/// Takes a lock.
pub type VisitLock<'a> = dyn FnMut(&LockPath, &Lock) -> Result<()> + 'a;

/// Takes a namespace and its name.
pub type VisitNamespace<'a> = dyn FnMut(NamespaceId, &str) -> Result<()> + 'a;

/// Takes an attempt with the names of its work spec and its unit.
pub type VisitNamedAttempt<'a> = dyn FnMut(&Attempt, &Name, &Name) -> Result<()> + 'a;

/// Takes a work spec's place among those that were asked for, a period's start, and what happened in it.
pub type VisitTally<'a> = dyn FnMut(usize, Timestamp, &Tally) -> Result<()> + 'a;

/// Takes an entry of the audit.
pub type VisitEntry<'a> = dyn FnMut(&AuditEntry) -> Result<()> + 'a;

/// Listing, which may take long.
pub trait Lister {
    /// Shows `visit` at most `limit` namespaces behind the name `after`, sorted by their names.
    ///
    /// # Errors
    /// What `visit` fails with, `Storage`.
    fn list_namespaces(
        &mut self,
        after: Option<&str>,
        limit: usize,
        visit: &mut VisitNamespace<'_>,
    ) -> Result<()>;

    /// Shows `visit` at most `limit` pending attempts that a worker holds, the oldest first.
    ///
    /// # Errors
    /// What `visit` fails with, `Storage`.
    fn list_pending_attempts(
        &mut self,
        namespace: NamespaceId,
        worker: &Name,
        limit: usize,
        visit: &mut VisitNamedAttempt<'_>,
    ) -> Result<()>;

    /// Shows `visit` the attempts by a worker, the oldest first: those whose ids are above `after`, up to `until`, which
    /// are all read.
    ///
    /// # Errors
    /// What `visit` fails with, `Storage`.
    fn list_attempts_by(
        &mut self,
        namespace: NamespaceId,
        worker: &Name,
        after: AttemptId,
        until: AttemptId,
        visit: &mut VisitNamedAttempt<'_>,
    ) -> Result<()>;

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

    /// Shows `visit` units without their data, sorted by the bytes of their names, until it breaks off. Their messages are
    /// left out.
    ///
    /// # Errors
    /// What `visit` fails with, `NoSuchWorkSpec`, `Storage`.
    fn list_standings(
        &mut self,
        namespace: NamespaceId,
        work_spec: &Name,
        query: &StandingQuery,
        visit: &mut VisitStanding<'_>,
    ) -> Result<()>;

    /// Shows `visit` the active workers that a query asks for, sorted by the bytes of their names.
    ///
    /// # Errors
    /// What `visit` fails with, `Storage`.
    fn list_workers(
        &mut self,
        namespace: NamespaceId,
        query: &WorkerQuery,
        visit: &mut VisitWorker<'_>,
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

    /// Counts workers and locks.
    ///
    /// # Errors
    /// `Storage`.
    fn census(&mut self, namespace: NamespaceId) -> Result<Census>;
    /// Shows `visit` entries of the audit, the newest first.
    ///
    /// # Errors
    /// What `visit` fails with, `Storage`.
    fn list_audit(&mut self, query: &AuditQuery, visit: &mut VisitEntry<'_>) -> Result<()>;

    /// Shows `visit` the periods from `from` on in which something happened in some work specs: one work spec after the
    /// other, its periods in their order. Those that are not there are passed over.
    ///
    /// # Errors
    /// What `visit` fails with, `Storage`.
    fn list_history(
        &mut self,
        namespace: NamespaceId,
        work_specs: &[Name],
        period: Period,
        from: Timestamp,
        visit: &mut VisitTally<'_>,
    ) -> Result<()>;

    /// The times that ended after `from` of which something may be missing in the history, in their order.
    ///
    /// # Errors
    /// `Storage`.
    fn history_gaps(&mut self, from: Timestamp) -> Result<Vec<(Timestamp, Timestamp)>>;
}

/// A database: transactions, and the families of tables.
pub trait Storage:
    WorkSpecStore
    + WorkUnitStore
    + QueueStore
    + AttemptStore
    + ArchiveStore
    + OutputStore
    + CancellationStore
    + UploadStore
    + WorkerStore
    + LockStore
    + TokenStore
    + AuditStore
    + HistoryStore
    + Lister
    + 'static
{
    /// Reads committed state on another thread.
    type Reader: Lister + Send + 'static;

    /// Runs one operation in the current batch, and begins a batch if there is none. If the operation fails, all that
    /// it wrote is undone, and the rest of the batch stands.
    ///
    /// An engine may undo what `run` did and call it again, for instance if it lost a race with another daemon. So
    /// whatever `run` changes beside the store starts afresh with each call, and counts only when this has returned.
    ///
    /// # Errors
    /// What `run` fails with, or `Storage` if the batch could not be begun; see [`Self::begin_to_write`].
    fn operation<T>(
        &mut self,
        access: Access,
        run: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<T>;

    /// Makes sure that the current batch can write. Does not wait.
    ///
    /// # Errors
    /// `Busy` if another program keeps it from writing: nothing has changed, and the batch can go on reading. After
    /// any other error the batch is broken.
    fn begin_to_write(&mut self) -> StorageResult<()>;

    /// From now on an operation that finds the database locked by another program fails at once. Before, it waits
    /// for some seconds.
    fn stop_waiting(&mut self) -> StorageResult<()>;

    /// True if the batch can't continue: its commit will tell why.
    fn batch_is_broken(&self) -> bool;

    /// Ends the batch. What it wrote is on disk when this returns `Ok`.
    ///
    /// # Errors
    /// `Unknown` if it can't be known what is on the disk now; otherwise nothing of the batch stands.
    fn commit(&mut self) -> StorageResult<()>;

    /// Begins to note news for requests that wait, or ends it. Without this there are none.
    fn watch(&mut self, is_watching: bool);

    /// The news since the last call. Costs no query, and as much time as there are changes.
    fn take_news(&mut self, namespace: NamespaceId, now: Timestamp) -> News;

    /// The earliest time at which a lease, a delay, a worker or a lock may expire, or a schedule makes a unit. It may be
    /// too early, never too late.
    fn due(&self) -> Option<Timestamp>;

    /// Reads again what is due first.
    ///
    /// # Errors
    /// Any [`StorageError`].
    fn refresh_due(&mut self) -> StorageResult<()>;

    /// Moves all times that are compared with the present by `step`: ends of leases, delays, lifetimes and locks,
    /// next continuous units, and what ages are counted from. Runs of schedules are times of the wall clock, which is `now`
    /// after the step: they are planned anew. What has ended stays as it was. Takes time in
    /// proportion to what is pending, delayed, alive or locked: it is for when the clock is set.
    ///
    /// # Errors
    /// Any [`StorageError`].
    fn move_times(&mut self, step: ClockStep, now: Timestamp) -> StorageResult<()>;

    /// What the engine tells about itself. Callable at any time.
    fn statistics(&mut self) -> StorageResult<StorageStatistics>;

    /// A way to read committed state on another thread, if the engine has one.
    fn reader(&self) -> Option<Self::Reader>;
}

/// Namespaces and work specs.
pub trait WorkSpecStore {
    /// The namespace of a name, created if it is new.
    fn namespace(&mut self, name: &str) -> StorageResult<NamespaceId>;

    /// The namespace of a name, if it is there.
    fn find_namespace(&mut self, name: &str) -> StorageResult<Option<NamespaceId>>;

    /// Removes a namespace. Its work specs were discarded; what is left of them goes to the namespace `heir`.
    fn delete_namespace(&mut self, id: NamespaceId, heir: NamespaceId) -> StorageResult<()>;

    /// The work specs of all namespaces, by id. Costs no query.
    fn all_work_specs(&self) -> impl Iterator<Item = &WorkSpec>;

    /// The work spec of a name. Costs no query.
    fn find_work_spec(&self, namespace: NamespaceId, name: &Name) -> Option<&WorkSpec>;

    /// A work spec. Costs no query.
    fn get_work_spec(&self, id: WorkSpecId) -> Option<&WorkSpec>;

    /// All work specs, sorted by the bytes of their names. Costs no query.
    fn work_specs(&self, namespace: NamespaceId) -> impl Iterator<Item = &WorkSpec>;

    /// The work specs that can give units `now`, among which the scheduler draws. Costs no query, and as much time as
    /// specs have changed since the last call.
    fn candidates(&mut self, namespace: NamespaceId, now: Timestamp) -> &Candidates;

    /// The work spec whose schedule makes the next unit of all, and when. Costs no query.
    fn next_scheduled(&self) -> Option<(Timestamp, WorkSpecId)>;

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

    /// Gives a work spec another dictionary and meta; `name` may have another form than before.
    fn replace_work_spec(
        &mut self,
        id: WorkSpecId,
        name: &Name,
        definition: &[u8],
        meta: &Meta,
    ) -> StorageResult<()>;

    /// Changes how a work spec is scheduled.
    fn update_work_spec_meta(&mut self, id: WorkSpecId, meta: &Meta) -> StorageResult<()>;

    /// Changes what a work spec remembers of what has happened lately. Costs no query: it is written with the counts.
    fn set_recent(&mut self, id: WorkSpecId, recent: Recent);

    /// Counts the units of a work spec again, for when the counts turn out to be wrong. Afterwards it is not known
    /// since when it has had available units.
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

    /// Adds a unit: delayed if it has a `not_before`, else available from `now` on. It is queued as its work spec says.
    fn insert_work_unit(
        &mut self,
        now: Timestamp,
        spec: WorkSpecId,
        inserted: InsertedUnit<'_>,
    ) -> StorageResult<WorkUnit>;

    /// Stores a unit that has changed `now`, and was counted as `before`. A unit whose place is the last one gets the next
    /// number of its work spec.
    fn update_work_unit(
        &mut self,
        now: Timestamp,
        before: Counted,
        unit: &WorkUnit,
    ) -> StorageResult<()>;

    /// Stores a unit's own data.
    fn set_work_unit_data(&mut self, id: WorkUnitId, data: &[u8]) -> StorageResult<()>;

    /// Deletes a unit with its attempts.
    fn delete_work_unit(&mut self, unit: &WorkUnit) -> StorageResult<()>;

    /// The last name of a unit of a work spec.
    fn last_name(&mut self, spec: WorkSpecId) -> StorageResult<Option<Name>>;

    /// The id of a unit that was given out last, whether or not that unit still exists. Costs no query.
    fn newest_unit(&self) -> WorkUnitId;

    /// Units that are in some statuses, sorted by the bytes of their names.
    fn work_units_in(&mut self, query: &InStatusQuery<'_>) -> StorageResult<UnitsInStatus>;

    /// Delayed units whose delay is over, the earliest first.
    fn units_no_longer_delayed(
        &mut self,
        now: Timestamp,
        limit: usize,
    ) -> StorageResult<Vec<WorkUnit>>;
}

/// The queue: which available units come next.
pub trait QueueStore {
    /// The available units that are not taken by groups in turn: those with the highest priority first, and among these
    /// by their places. At most `limit`, and fewer if together they have more than `bytes_max` of data or if finding the
    /// others takes another look.
    fn best_available_units(
        &mut self,
        spec: WorkSpecId,
        limit: usize,
        bytes_max: usize,
    ) -> StorageResult<BestUnits>;

    /// How many available units come before an available one in the queue of their work spec, or of its group if that
    /// is taken in turn. Looks at at most `limit` units of each kind.
    fn units_ahead(
        &mut self,
        unit: &WorkUnit,
        name: &Name,
        limit: usize,
    ) -> StorageResult<UnitsAhead>;

    /// Of the groups that are taken in turn and have available units: one with the fewest pending units, and among these
    /// the one that has waited longest.
    fn next_group(&mut self, spec: WorkSpecId) -> StorageResult<Option<NextGroup>>;

    /// The available unit of a group that comes first.
    fn best_of_group(
        &mut self,
        spec: WorkSpecId,
        group: &str,
    ) -> StorageResult<Option<AvailableUnit>>;

    /// How many units of a group that is taken in turn are pending.
    fn pending_in_group(&mut self, spec: WorkSpecId, group: &str) -> StorageResult<u64>;

    /// How many groups with available units come before another one; of those with a different number of pending units
    /// and of those with the same, at most `limit` each.
    fn groups_ahead(
        &mut self,
        spec: WorkSpecId,
        group: &str,
        limit: usize,
    ) -> StorageResult<UnitsAhead>;

    /// A work spec with available units that may be queued as it said earlier. Costs no query.
    fn next_to_requeue(&self) -> Option<WorkSpecId>;

    /// True if that is so for this work spec. Costs no query.
    fn has_to_requeue(&self, spec: WorkSpecId) -> bool;

    /// Queues at most `limit` of those units as their work spec says now.
    fn requeue(&mut self, spec: WorkSpecId, limit: usize) -> StorageResult<()>;
}

/// Archiving: the oldest completed units, and the counts of those that were archived.
pub trait ArchiveStore {
    /// Finished or failed units in the order of their active attempts, the oldest first. Attempts that once were
    /// skipped are not looked at again.
    fn completed_units(&mut self, query: &CompletedQuery) -> StorageResult<CompletedUnits>;

    /// Deletes a completed unit with its attempts, and counts it as archived.
    fn archive_work_unit(&mut self, unit: &WorkUnit, status: Completed) -> StorageResult<()>;

    /// Sets the count of archived units of a spec in this status to 0; returns what it was.
    fn forget_archived(&mut self, spec: WorkSpecId, status: Completed) -> StorageResult<u64>;

    /// The attempt id that was given out last, whether or not that attempt still exists. Costs no query.
    fn newest_attempt(&self) -> AttemptId;
}

/// Attempts.
pub trait AttemptStore {
    /// Adds an attempt; its `id` is disregarded, and a new one given back. It is larger than those of all attempts before,
    /// also of those that were removed.
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

    /// Pending attempts whose lease has expired, the earliest first.
    fn attempts_to_expire(&mut self, now: Timestamp, limit: usize) -> StorageResult<Vec<Attempt>>;

    /// Notes that a worker has stopped working on attempts that are not pending.
    fn release_lost_attempts(&mut self, namespace: NamespaceId, worker: &Name)
    -> StorageResult<()>;

    /// The units that a worker is believed to be working on, even if its lease was lost, the earliest attempt first.
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

    /// Removes a slice of any output and returns it: of those of one output the one that was put first.
    fn take_output_slice(&mut self) -> StorageResult<Option<OutputSlice>>;

    /// Removes the slice of an attempt's output that was put first, and returns it.
    fn take_output_slice_of(&mut self, attempt: AttemptId) -> StorageResult<Option<OutputSlice>>;

    /// True if there are slices of an attempt's output.
    fn has_output_slices_of(&mut self, attempt: AttemptId) -> StorageResult<bool>;

    /// True if there may be a slice. Costs no query.
    fn has_output_slices(&self) -> bool;
}

/// Cancellations of units. That of a unit goes with the unit.
pub trait CancellationStore {
    /// True if there may be one. Costs no query.
    fn has_cancellations(&self) -> bool;

    /// That of a unit.
    fn get_cancellation(&mut self, unit: WorkUnitId) -> StorageResult<Option<Cancellation>>;

    /// Adds or replaces that of a unit.
    fn put_cancellation(
        &mut self,
        unit: WorkUnitId,
        cancellation: &Cancellation,
    ) -> StorageResult<()>;

    /// Removes that of a unit, if there is one.
    fn delete_cancellation(&mut self, unit: WorkUnitId) -> StorageResult<()>;
}

/// How far uploads of units have come.
pub trait UploadStore {
    /// An upload to a work spec, by its name.
    fn find_upload(&mut self, spec: WorkSpecId, name: &str) -> StorageResult<Option<Uploaded>>;

    /// Adds or replaces one. Of very many the oldest ones are forgotten.
    fn put_upload(
        &mut self,
        spec: WorkSpecId,
        name: &str,
        uploaded: &Uploaded,
    ) -> StorageResult<()>;
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

    /// Removes a worker, which then holds no attempts. False if there is no such worker.
    fn delete_worker(&mut self, namespace: NamespaceId, name: &Name) -> StorageResult<bool>;

    /// Removes all workers of a namespace of which no work spec is left.
    fn delete_workers(&mut self, namespace: NamespaceId) -> StorageResult<()>;

    /// Removes workers that have expired, at most `limit`, and no more once they held `released_max` attempts.
    fn delete_expired_workers(
        &mut self,
        now: Timestamp,
        limit: usize,
        released_max: usize,
    ) -> StorageResult<()>;

    /// A worker with its environment. It may be inactive.
    fn find_worker(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
    ) -> StorageResult<Option<(Worker, Option<Vec<u8>>)>>;

    /// All active workers, sorted by the bytes of their names.
    fn workers(&mut self, namespace: NamespaceId) -> StorageResult<Vec<Worker>>;

    /// The names of a worker's active children, sorted by their bytes.
    fn children(&mut self, namespace: NamespaceId, parent: &Name) -> StorageResult<Vec<Name>>;

    /// How many active workers there are.
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

    /// Removes locks of this path and of those below it, at most `limit`; returns how many.
    fn delete_locks_under(&mut self, path: &[u8], limit: usize) -> StorageResult<usize>;

    /// Removes locks that have expired, at most `limit`.
    fn delete_expired_locks(&mut self, now: Timestamp, limit: usize) -> StorageResult<()>;
}

/// Tokens.
pub trait TokenStore {
    /// All tokens, in the order in which they were made.
    fn tokens(&mut self) -> StorageResult<Vec<Token>>;

    /// Adds a token; its `id` is disregarded, and a new one given back.
    fn insert_token(&mut self, token: &Token) -> StorageResult<TokenId>;

    /// Notes that a token was revoked.
    fn revoke_token(&mut self, id: TokenId, now: Timestamp) -> StorageResult<()>;

    /// Removes tokens that were revoked or have expired before a time.
    fn delete_ended_tokens(&mut self, before: Timestamp) -> StorageResult<()>;

    /// Notes when a token was last used.
    fn note_use_of_token(&mut self, id: TokenId, at: Timestamp) -> StorageResult<()>;
}

/// The audit.
pub trait AuditStore {
    /// Adds an entry. It names its namespace, which may be the one that was removed.
    fn insert_audit_entry(
        &mut self,
        namespace: &str,
        at: Timestamp,
        author: &Author,
        change: &Change,
    ) -> StorageResult<AuditId>;

    /// Adds to the count of an entry.
    fn add_to_audit_entry(&mut self, id: AuditId, count: u64) -> StorageResult<()>;

    /// Looks at the `limit` oldest entries, and removes those from before a time and those that are too many. Returns how
    /// many it has removed.
    fn prune_audit(&mut self, before: Timestamp, limit: usize) -> StorageResult<usize>;
}

/// What has happened in each work spec, by minute and by hour.
pub trait HistoryStore {
    /// Adds to what happened in a work spec in a minute, and in its hour. Removes what is too old of it.
    fn add_to_history(
        &mut self,
        spec: WorkSpecId,
        minute: Timestamp,
        tally: &Tally,
    ) -> StorageResult<()>;

    /// Notes that the history has all that has happened until now.
    fn end_history(&mut self, now: Timestamp) -> StorageResult<()>;

    /// Goes on with the history after a start. If something has happened since [`Self::end_history`] that it does not tell,
    /// that is noted.
    fn begin_history(&mut self, now: Timestamp) -> StorageResult<()>;
}
