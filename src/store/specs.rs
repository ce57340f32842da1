//! Namespaces and work specs, and the counts of their units.

use super::SqliteStore;
use super::statement::{prepared, statements};
use crate::clock::Timestamp;
use crate::coordinate::storage::{
    News, StorageResult, VisitCounts, VisitDefinition, WorkSpecStore,
};
use crate::coordinate::{
    AttemptId, Candidates, Completed, Counted, Counts, Error, Meta, Name, NamespaceId, Pause,
    Result, RetryPolicy, StorageError, UnitStatus, WorkSpec, WorkSpecId, WorkUnitId,
};
use rusqlite::types::FromSql;
use rusqlite::{Connection, Row, named_params};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

statements! {
    FIND_NAMESPACE = "SELECT id FROM namespace WHERE name = :name";

    INSERT_NAMESPACE = "INSERT INTO namespace (name) VALUES (:name)";

    /// All work specs there are, with their counts, in the order in which `row_to_cached` takes the columns.
    LOAD_WORK_SPECS = "
        SELECT work_spec.id, namespace_id, name, paused, paused_reason, paused_by, paused_us, weight, priority, continuous,
               can_be_continuous, interval_us, next_continuous_us, max_running, max_getwork,
               max_retries, retries, retry_delay_us, retry_backoff, retry_delay_max_us, retry_jitter,
               max_lost, then_name, runtime, min_gb,
               available, delayed, retrying, pending, finished, failed, archived_finished,
               archived_failed, passed_name, waiting_since_us, finished_after_id, failed_after_id
          FROM work_spec
          JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
         WHERE deleted = 0
         ORDER BY work_spec.id";

    /// Uses index work_spec_by_name.
    LIST_WORK_SPECS = "
        SELECT name, definition
          FROM work_spec
         WHERE namespace_id = :namespace AND CAST(name AS BLOB) >= :start AND deleted = 0
         ORDER BY CAST(name AS BLOB)
         LIMIT :limit";

    /// Uses index work_spec_by_name.
    LIST_COUNTS = "
        SELECT name, available, delayed, retrying, pending, finished, failed, archived_finished,
               archived_failed, waiting_since_us
          FROM work_spec
          JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
         WHERE namespace_id = :namespace AND deleted = 0
         ORDER BY CAST(name AS BLOB)";

    SELECT_DEFINITION = "SELECT definition FROM work_spec WHERE id = :id";

    /// Its meta follows by UPDATE_META.
    INSERT_WORK_SPEC = "
        INSERT INTO work_spec (namespace_id, name, definition, paused, weight, priority, continuous,
                               can_be_continuous, runtime, min_gb)
        VALUES (:namespace_id, :name, :definition, 0, 0, 0, 0, 0, '', 0)";

    INSERT_COUNTS = "
        INSERT INTO work_unit_count (work_spec_id, available, delayed, pending, finished, failed)
        VALUES (:id, 0, 0, 0, 0, 0)";

    UPDATE_DEFINITION = "UPDATE work_spec SET name = :name, definition = :definition WHERE id = :id";

    UPDATE_META = "
        UPDATE work_spec
           SET paused = :paused, paused_reason = :paused_reason, paused_by = :paused_by,
               paused_us = :paused_us, weight = :weight, priority = :priority, continuous = :continuous,
               can_be_continuous = :can_be_continuous, interval_us = :interval_us,
               next_continuous_us = :next_continuous_us, max_running = :max_running,
               max_getwork = :max_getwork, max_retries = :max_retries, retries = :retries,
               retry_delay_us = :retry_delay_us, retry_backoff = :retry_backoff,
               retry_delay_max_us = :retry_delay_max_us, retry_jitter = :retry_jitter,
               max_lost = :max_lost, then_name = :then_name, runtime = :runtime, min_gb = :min_gb
         WHERE id = :id";

    UPDATE_COUNTS = "
        UPDATE work_unit_count
           SET available = :available, delayed = :delayed, retrying = :retrying, pending = :pending,
               finished = :finished, failed = :failed, archived_finished = :archived_finished,
               archived_failed = :archived_failed, passed_name = :passed,
               waiting_since_us = :waiting_since, finished_after_id = :finished_after,
               failed_after_id = :failed_after
         WHERE work_spec_id = :id";

    RECOUNT = "
        SELECT count(*) FILTER (WHERE status = 1), count(*) FILTER (WHERE status = 2),
               count(*) FILTER (WHERE status = 3), count(*) FILTER (WHERE status = 4),
               count(*) FILTER (WHERE status = 5), count(*) FILTER (WHERE status < 3 AND failures > 0)
          FROM work_unit WHERE work_spec_id = :id";

    /// A work spec that is deleted from the first.
    INSERT_DELETED = "
        INSERT INTO work_spec (namespace_id, name, definition, paused, weight, priority, continuous,
                               can_be_continuous, runtime, min_gb, deleted)
        VALUES (:namespace_id, :name, x'a0', 0, 0, 0, 0, 0, '', 0, 1)";

    MARK_DELETED = "UPDATE work_spec SET deleted = 1 WHERE id = :id";

    FIND_DELETED = "SELECT id FROM work_spec WHERE deleted = 1 LIMIT 1";

    DELETE_COUNTS = "DELETE FROM work_unit_count WHERE work_spec_id = :id";

    DELETE_WORK_SPEC = "DELETE FROM work_spec WHERE id = :id";
}

/// The work specs, in memory.
#[derive(Default)]
pub(super) struct WorkSpecs {
    by_id: BTreeMap<WorkSpecId, CachedSpec>,
    by_name: BTreeMap<(NamespaceId, Name), WorkSpecId>,
    /// Specs whose counts, or names that were passed, are not in the file yet.
    with_new_counts: BTreeSet<WorkSpecId>,
    /// Those that can give, as they were before `changed` ones changed.
    candidates: BTreeMap<NamespaceId, Candidates>,
    /// Specs that may have changed since.
    changed: BTreeSet<WorkSpecId>,
    /// True if the file may hold deleted specs.
    has_deleted: bool,
    /// See [`crate::coordinate::storage::Storage::watch`].
    is_watched: bool,
    news: News,
}

/// A work spec as it is kept in memory.
#[derive(Clone, PartialEq)]
pub(super) struct CachedSpec {
    namespace: NamespaceId,
    spec: WorkSpec,
    /// See queue.rs.
    passed_name: Option<Vec<u8>>,
    /// See archive.rs.
    completed_after: CompletedAfter,
}

impl CachedSpec {
    /// True if nothing differs from `other`, not even whether names are text.
    fn is_same(&self, other: &Self) -> bool {
        let is_text = |cached: &Self| {
            let names = [Some(&cached.spec.name), cached.spec.meta.then.as_ref()];
            names.map(|name| name.is_some_and(|name| name.as_text().is_some()))
        };
        self == other && is_text(self) == is_text(other)
    }
}

/// The attempts behind which all finished and all failed units have their active ones.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct CompletedAfter {
    finished: AttemptId,
    failed: AttemptId,
}

impl CompletedAfter {
    const START: Self = Self {
        finished: AttemptId(0),
        failed: AttemptId(0),
    };

    fn of(&mut self, status: Completed) -> &mut AttemptId {
        match status {
            Completed::Finished => &mut self.finished,
            Completed::Failed => &mut self.failed,
        }
    }
}

impl WorkSpecs {
    fn put(&mut self, cached: CachedSpec) {
        let (namespace, id) = (cached.namespace, cached.spec.id);
        self.by_name
            .insert((namespace, cached.spec.name.clone()), id);
        self.by_id.insert(id, cached);
        self.changed.insert(id);
    }

    /// A spec whose counts or meta are about to change.
    fn spec_mut(&mut self, id: WorkSpecId) -> Option<&mut WorkSpec> {
        let cached = self.by_id.get_mut(&id)?;
        self.changed.insert(id);
        Some(&mut cached.spec)
    }

    fn remove(&mut self, id: WorkSpecId) -> Option<CachedSpec> {
        let cached = self.by_id.remove(&id)?;
        let key = (cached.namespace, cached.spec.name.clone());
        // While specs are loaded, another one may have its name by now.
        if self.by_name.get(&key) == Some(&id) {
            self.by_name.remove(&key);
        }
        self.with_new_counts.remove(&id);
        if let Some(candidates) = self.candidates.get_mut(&cached.namespace) {
            candidates.remove(id);
        }
        Some(cached)
    }

    /// The same for one whose counts will be written with the batch.
    fn counted_mut(&mut self, id: WorkSpecId) -> Option<&mut WorkSpec> {
        let cached = self.by_id.get_mut(&id)?;
        self.changed.insert(id);
        self.with_new_counts.insert(id);
        Some(&mut cached.spec)
    }

    /// The specs of a namespace that can give.
    fn candidates(&mut self, namespace: NamespaceId, now: Timestamp) -> &Candidates {
        while let Some(id) = self.changed.pop_first() {
            if let Some(cached) = self.by_id.get(&id) {
                let candidates = self.candidates.entry(cached.namespace).or_default();
                if candidates.put(&cached.spec, now) && self.is_watched {
                    self.news.able.push(id);
                }
            }
        }
        let candidates = self.candidates.entry(namespace).or_default();
        while let Some(due) = candidates.next_due(now)
            && let Some(cached) = self.by_id.get(&due)
        {
            if candidates.put(&cached.spec, now) && self.is_watched {
                self.news.able.push(due);
            }
        }
        candidates
    }

    /// See [`crate::coordinate::storage::Storage::watch`].
    pub(super) fn watch(&mut self, is_watching: bool) {
        self.is_watched = is_watching;
        if !is_watching {
            self.news = News::default();
        }
    }

    /// See [`crate::coordinate::storage::Storage::take_news`].
    pub(super) fn take_news(&mut self, namespace: NamespaceId, now: Timestamp) -> News {
        let able_at = self.candidates(namespace, now).next_at();
        let mut news = std::mem::take(&mut self.news);
        if news.is_reloaded {
            news.able = self.by_id.keys().copied().collect();
        }
        let is_in = |id: &WorkSpecId| self.by_id.get(id).map(|cached| cached.namespace);
        news.able.retain(|id| is_in(id) == Some(namespace));
        News { able_at, ..news }
    }

    /// Notes that everything may have changed.
    pub(super) fn note_reload(&mut self) {
        self.news.is_reloaded = self.is_watched;
    }

    /// Notes that a unit was changed or deleted.
    pub(super) fn note_changed_unit(&mut self, id: WorkUnitId) {
        if self.is_watched {
            self.news.units.push(id);
        }
    }

    /// The last name that get_work has passed, if it has passed any.
    pub(super) fn passed_name(&self, id: WorkSpecId) -> Option<&[u8]> {
        self.by_id.get(&id)?.passed_name.as_deref()
    }

    /// The attempt behind which all units in a status have their active ones.
    pub(super) fn completed_after(&self, id: WorkSpecId, status: Completed) -> AttemptId {
        let cached = self.by_id.get(&id);
        let mut after = cached.map_or(CompletedAfter::START, |cached| cached.completed_after);
        *after.of(status)
    }
}

/// How to undo a change in memory.
pub(super) enum Undo {
    /// Counts were these, and available units had been there since then.
    Counts(WorkSpecId, Counts, Option<Timestamp>),
    /// The spec was this, or was not there.
    Spec(WorkSpecId, Option<Box<CachedSpec>>),
    /// The last name that was passed was this.
    Passed(WorkSpecId, Option<Vec<u8>>),
    /// These were the attempts behind which completed units had theirs.
    CompletedAfter(WorkSpecId, CompletedAfter),
}

fn count_of(counts: &mut Counts, status: UnitStatus) -> &mut u64 {
    match status {
        UnitStatus::Available => &mut counts.available,
        UnitStatus::Delayed => &mut counts.delayed,
        UnitStatus::Pending => &mut counts.pending,
        UnitStatus::Finished => &mut counts.finished,
        UnitStatus::Failed => &mut counts.failed,
    }
}

/// Microseconds for a column.
fn us(duration: Option<Duration>) -> Option<i64> {
    duration.map(|duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

/// The columns of a row, one after the other: looking each one up by its name takes longer than all else there is
/// to loading work specs.
struct Columns<'r>(&'r Row<'r>, usize);

impl Columns<'_> {
    fn next<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.1 += 1;
        self.0.get(self.1 - 1)
    }

    fn next_pause(&mut self) -> rusqlite::Result<Option<Pause>> {
        let is_paused: bool = self.next()?;
        let pause = Pause {
            reason: self.next()?,
            by: self.next()?,
            since: self.next()?,
        };
        // Another program may have resumed it.
        Ok(is_paused.then_some(pause))
    }

    fn next_limit(&mut self) -> rusqlite::Result<Option<u64>> {
        let limit: Option<i64> = self.next()?;
        Ok(limit.and_then(|limit| u64::try_from(limit).ok()))
    }

    fn next_duration(&mut self) -> rusqlite::Result<Option<Duration>> {
        let us: Option<i64> = self.next()?;
        Ok(us.map(|us| Duration::from_micros(u64::try_from(us).unwrap_or(0))))
    }

    /// All of its columns are null if there is none.
    fn next_retry_policy(&mut self) -> rusqlite::Result<Option<RetryPolicy>> {
        let retries = self.next_limit()?;
        let policy = RetryPolicy {
            retries: retries.unwrap_or_default(),
            delay: self.next_duration()?.unwrap_or_default(),
            backoff: self.next::<Option<f64>>()?.unwrap_or(1.0),
            delay_max: self.next_duration()?.unwrap_or(RetryPolicy::DELAY_MAX),
            jitter: self.next::<Option<f64>>()?.unwrap_or(0.0),
        };
        Ok(retries.is_some().then_some(policy))
    }

    fn next_count(&mut self) -> rusqlite::Result<u64> {
        Ok(u64::try_from(self.next::<i64>()?).unwrap_or(0))
    }

    fn next_counts(&mut self) -> rusqlite::Result<Counts> {
        Ok(Counts {
            available: self.next_count()?,
            delayed: self.next_count()?,
            retrying: self.next_count()?,
            pending: self.next_count()?,
            finished: self.next_count()?,
            failed: self.next_count()?,
            archived_finished: self.next_count()?,
            archived_failed: self.next_count()?,
        })
    }

    fn next_waiting_since(&mut self, counts: &Counts) -> rusqlite::Result<Option<Timestamp>> {
        let since: Option<Timestamp> = self.next()?;
        // Another program may have changed one of them without the other.
        Ok(since.filter(|_| counts.available > 0))
    }
}

/// A row of [`LOAD_WORK_SPECS`].
fn row_to_cached(row: &Row<'_>) -> rusqlite::Result<CachedSpec> {
    let mut columns = Columns(row, 0);
    let (id, namespace, name) = (columns.next()?, columns.next()?, columns.next()?);
    // Fields are evaluated in the order in which they are written.
    let meta = Meta {
        paused: columns.next_pause()?,
        weight: columns.next()?,
        priority: columns.next()?,
        continuous: columns.next()?,
        can_be_continuous: columns.next()?,
        interval: columns.next_duration()?,
        next_continuous: columns.next()?,
        max_running: columns.next_limit()?,
        max_getwork: columns.next_limit()?,
        max_retries: columns.next_limit()?,
        retry: columns.next_retry_policy()?,
        max_lost: columns.next_limit()?,
        then: columns.next()?,
        runtime: columns.next()?,
        min_gb: columns.next()?,
    };
    let counts = columns.next_counts()?;
    let passed_name = columns.next()?;
    let waiting_since = columns.next_waiting_since(&counts)?;
    let completed_after = CompletedAfter {
        finished: columns.next()?,
        failed: columns.next()?,
    };
    Ok(CachedSpec {
        namespace,
        spec: WorkSpec {
            id,
            name,
            meta,
            counts,
            waiting_since,
        },
        passed_name,
        completed_after,
    })
}

/// Shows `visit` the work specs with their dictionaries.
pub(super) fn list_work_specs(
    connection: &Connection,
    namespace: NamespaceId,
    start: Option<&Name>,
    limit: usize,
    visit: &mut VisitDefinition<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let start = start.map_or(&[][..], Name::bytes);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = prepared(connection, LIST_WORK_SPECS).map_err(storage)?;
    let rows =
        statement.query(named_params! {":namespace": namespace, ":start": start, ":limit": limit});
    let mut rows = rows.map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        let name: Name = row.get(0).map_err(storage)?;
        let definition = row
            .get_ref(1)
            .and_then(|definition| Ok(definition.as_blob()?));
        visit(&name, definition.map_err(storage)?)?;
    }
    Ok(())
}

/// Shows `visit` how many units the work specs have.
pub(super) fn list_counts(
    connection: &Connection,
    namespace: NamespaceId,
    visit: &mut VisitCounts<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let mut statement = prepared(connection, LIST_COUNTS).map_err(storage)?;
    let rows = statement.query(named_params! {":namespace": namespace});
    let mut rows = rows.map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        let mut columns = Columns(row, 0);
        let name: Name = columns.next().map_err(storage)?;
        let counts = columns.next_counts().map_err(storage)?;
        let since = columns.next_waiting_since(&counts).map_err(storage)?;
        visit(&name, &counts, since)?;
    }
    Ok(())
}

/// A limit for a column: what is beyond SQLite's integers is no limit in practice.
fn limit_column(limit: Option<u64>) -> Option<i64> {
    limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

impl SqliteStore {
    /// Loads the work specs that are not in memory as they are in the file.
    pub(super) fn load_work_specs(&mut self) -> StorageResult<()> {
        let specs = &mut self.specs;
        let mut there = Vec::with_capacity(specs.by_id.len());
        let load = self.statements.prepared(LOAD_WORK_SPECS)?;
        for cached in load.query_map(&[], row_to_cached)? {
            let cached = cached?;
            let id = cached.spec.id;
            there.push(id);
            if !specs.by_id.get(&id).is_some_and(|is| is.is_same(&cached)) {
                specs.remove(id);
                specs.put(cached);
            }
        }
        if there.len() < specs.by_id.len() {
            let ids = specs.by_id.keys();
            let gone = ids.filter(|id| there.binary_search(id).is_err());
            for id in gone.copied().collect::<Vec<_>>() {
                specs.remove(id);
            }
        }
        specs.with_new_counts.clear();
        specs.has_deleted = self.statements.prepared(FIND_DELETED)?.exists(&[])?;
        Ok(())
    }

    /// Notes that a unit has left a status, come into one at a time, or both. Units of deleted specs are
    /// not counted any more.
    pub(super) fn count_unit(
        &mut self,
        spec: WorkSpecId,
        before: Option<Counted>,
        after: Option<(Counted, Timestamp)>,
    ) {
        if before == after.map(|(counted, _)| counted) {
            return;
        }
        let Some(spec) = self.spec_to_count(spec) else {
            return;
        };
        let is_retrying = |counted: Counted| u64::from(counted.is_retrying);
        let retrying = spec.counts.retrying + after.map_or(0, |(after, _)| is_retrying(after));
        spec.counts.retrying = retrying.saturating_sub(before.map_or(0, is_retrying));
        if before.map(|before| before.status) == after.map(|(after, _)| after.status) {
            return;
        }
        if let Some(before) = before {
            let count = count_of(&mut spec.counts, before.status);
            *count = count.saturating_sub(1);
        }
        if spec.counts.available == 0 {
            spec.waiting_since = None;
        }
        if let Some((after, now)) = after {
            if after.status == UnitStatus::Available && spec.counts.available == 0 {
                spec.waiting_since = Some(now);
            }
            *count_of(&mut spec.counts, after.status) += 1;
        }
    }

    /// A spec whose counts are about to change, and will be written with the batch.
    fn spec_to_count(&mut self, spec: WorkSpecId) -> Option<&mut WorkSpec> {
        let spec = self.specs.counted_mut(spec)?;
        // One is enough for a run of changes to the same spec.
        if !matches!(self.batch.undo.last(), Some(Undo::Counts(of, ..)) if *of == spec.id) {
            let undo = Undo::Counts(spec.id, spec.counts, spec.waiting_since);
            self.batch.undo.push(undo);
        }
        Some(spec)
    }

    /// How many units of a spec were archived in a status, to be changed.
    pub(super) fn archived_to_change(
        &mut self,
        spec: WorkSpecId,
        status: Completed,
    ) -> Option<&mut u64> {
        let counts = &mut self.spec_to_count(spec)?.counts;
        Some(match status {
            Completed::Finished => &mut counts.archived_finished,
            Completed::Failed => &mut counts.archived_failed,
        })
    }

    /// Notes behind which attempt all units in a status have their active ones.
    pub(super) fn set_completed_after(
        &mut self,
        id: WorkSpecId,
        status: Completed,
        after: AttemptId,
    ) {
        if let Some(cached) = self.specs.by_id.get_mut(&id) {
            let before = cached.completed_after;
            *cached.completed_after.of(status) = after;
            self.batch.undo.push(Undo::CompletedAfter(id, before));
            self.specs.with_new_counts.insert(id);
        }
    }

    /// Notes the last name that get_work has passed.
    pub(super) fn pass_names(&mut self, id: WorkSpecId, last: Vec<u8>) {
        if let Some(cached) = self.specs.by_id.get_mut(&id) {
            let before = cached.passed_name.replace(last);
            self.batch.undo.push(Undo::Passed(id, before));
            self.specs.with_new_counts.insert(id);
        }
    }

    /// Undoes in memory what the present operation did.
    pub(super) fn undo_in_memory(&mut self) {
        while let Some(undo) = self.batch.undo.pop() {
            match undo {
                Undo::Counts(id, counts, waiting_since) => {
                    if let Some(spec) = self.specs.spec_mut(id) {
                        spec.counts = counts;
                        spec.waiting_since = waiting_since;
                    }
                }
                Undo::Passed(id, before) => {
                    if let Some(cached) = self.specs.by_id.get_mut(&id) {
                        cached.passed_name = before;
                    }
                }
                Undo::CompletedAfter(id, before) => {
                    if let Some(cached) = self.specs.by_id.get_mut(&id) {
                        cached.completed_after = before;
                    }
                }
                Undo::Spec(id, before) => {
                    self.specs.remove(id);
                    if let Some(before) = before {
                        // Whether its counts in the file are up to date is not remembered.
                        self.specs.with_new_counts.insert(id);
                        self.specs.put(*before);
                    }
                }
            }
        }
    }

    /// Writes the counts that have changed, once for the whole batch.
    pub(super) fn write_counts(&mut self) -> StorageResult<()> {
        for id in std::mem::take(&mut self.specs.with_new_counts) {
            let Some(CachedSpec {
                spec,
                passed_name,
                completed_after,
                ..
            }) = self.specs.by_id.get(&id)
            else {
                continue;
            };
            let column = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            self.statements
                .prepared(UPDATE_COUNTS)?
                .execute(named_params! {
                    ":available": column(spec.counts.available),
                    ":delayed": column(spec.counts.delayed),
                    ":retrying": column(spec.counts.retrying),
                    ":pending": column(spec.counts.pending),
                    ":finished": column(spec.counts.finished),
                    ":failed": column(spec.counts.failed),
                    ":archived_finished": column(spec.counts.archived_finished),
                    ":archived_failed": column(spec.counts.archived_failed),
                    ":passed": passed_name,
                    ":waiting_since": spec.waiting_since,
                    ":finished_after": completed_after.finished,
                    ":failed_after": completed_after.failed,
                    ":id": id,
                })?;
        }
        Ok(())
    }

    fn cached(&self, id: WorkSpecId) -> StorageResult<CachedSpec> {
        self.specs
            .by_id
            .get(&id)
            .cloned()
            .ok_or_else(|| StorageError::Other(format!("work spec {} is not there", id.0)))
    }
}

impl SqliteStore {
    /// Changes the times that are kept with specs: when the next continuous unit is due, and since when there have been
    /// available units.
    pub(super) fn change_spec_times(
        &mut self,
        next_continuous: impl Fn(&Meta, Timestamp) -> Timestamp,
        waiting_since: impl Fn(Timestamp) -> Timestamp,
    ) -> StorageResult<()> {
        let ids: Vec<WorkSpecId> = self.specs.by_id.keys().copied().collect();
        for id in ids {
            let CachedSpec { mut spec, .. } = self.cached(id)?;
            if let Some(before) = spec.meta.next_continuous {
                let after = next_continuous(&spec.meta, before);
                if after != before {
                    spec.meta.next_continuous = Some(after);
                    self.update_work_spec_meta(id, &spec.meta)?;
                }
            }
            if let Some(before) = spec.waiting_since {
                let after = waiting_since(before);
                if after != before
                    && let Some(spec) = self.spec_to_count(id)
                {
                    spec.waiting_since = Some(after);
                }
            }
        }
        Ok(())
    }

    /// Assumes that there are deleted specs and slices of outputs to clean up, until the next cleanup has looked.
    pub(super) fn assume_cleanup_pending(&mut self) {
        self.specs.has_deleted = true;
        self.has_output_slices = true;
    }

    /// Adds a work spec that is deleted already, with the name of another one, to have what is to be purged.
    pub(super) fn insert_deleted_spec(&mut self, beside: WorkSpecId) -> StorageResult<WorkSpecId> {
        let CachedSpec {
            namespace, spec, ..
        } = self.cached(beside)?;
        let insert = self.statements.prepared(INSERT_DELETED)?;
        let id = insert.insert(named_params! {":namespace_id": namespace, ":name": spec.name})?;
        self.specs.has_deleted = true;
        Ok(WorkSpecId(id))
    }
}

impl WorkSpecStore for SqliteStore {
    fn namespace(&mut self, name: &str) -> StorageResult<NamespaceId> {
        let find = self.statements.prepared(FIND_NAMESPACE)?;
        let mut rows = find.query(named_params! {":name": name})?;
        if let Some(row) = rows.next()? {
            return Ok(row.get(0)?);
        }
        drop(rows);
        let insert = self.statements.prepared(INSERT_NAMESPACE)?;
        let id = insert.insert(named_params! {":name": name})?;
        Ok(NamespaceId(id))
    }

    fn find_work_spec(&self, namespace: NamespaceId, name: &Name) -> Option<&WorkSpec> {
        // The key is cloned because a map of pairs can't be asked with a pair of references.
        self.get_work_spec(*self.specs.by_name.get(&(namespace, name.clone()))?)
    }

    fn get_work_spec(&self, id: WorkSpecId) -> Option<&WorkSpec> {
        self.specs.by_id.get(&id).map(|cached| &cached.spec)
    }

    fn work_specs(&self, namespace: NamespaceId) -> impl Iterator<Item = &WorkSpec> {
        let first = (namespace, Name::from_bytes([]));
        self.specs
            .by_name
            .range(first..)
            .take_while(move |((of, _), _)| *of == namespace)
            .filter_map(|(_, id)| self.get_work_spec(*id))
    }

    fn candidates(&mut self, namespace: NamespaceId, now: Timestamp) -> &Candidates {
        self.specs.candidates(namespace, now)
    }

    fn work_spec_definition(&mut self, id: WorkSpecId) -> StorageResult<Vec<u8>> {
        Ok(self
            .statements
            .prepared(SELECT_DEFINITION)?
            .query_row(named_params! {":id": id}, |row| row.get(0))?)
    }

    fn insert_work_spec(
        &mut self,
        namespace: NamespaceId,
        name: &Name,
        definition: &[u8],
        meta: &Meta,
    ) -> StorageResult<WorkSpecId> {
        let insert = self.statements.prepared(INSERT_WORK_SPEC)?;
        let id = WorkSpecId(insert.insert(named_params! {
            ":namespace_id": namespace,
            ":name": name,
            ":definition": definition,
        })?);
        self.statements
            .prepared(INSERT_COUNTS)?
            .execute(named_params! {":id": id})?;
        self.batch.undo.push(Undo::Spec(id, None));
        let spec = WorkSpec {
            id,
            name: name.clone(),
            meta: meta.clone(),
            counts: Counts::default(),
            waiting_since: None,
        };
        self.specs.put(CachedSpec {
            namespace,
            spec,
            passed_name: None,
            completed_after: CompletedAfter::START,
        });
        self.update_work_spec_meta(id, meta)?;
        Ok(id)
    }

    fn replace_work_spec(
        &mut self,
        id: WorkSpecId,
        name: &Name,
        definition: &[u8],
        meta: &Meta,
    ) -> StorageResult<()> {
        self.statements
            .prepared(UPDATE_DEFINITION)?
            .execute(named_params! {
                ":name": name,
                ":definition": definition,
                ":id": id,
            })?;
        let mut cached = self.cached(id)?;
        self.batch
            .undo
            .push(Undo::Spec(id, Some(Box::new(cached.clone()))));
        // The key of a map keeps its form when the same name is put in again: take it out first.
        self.specs
            .by_name
            .remove(&(cached.namespace, cached.spec.name));
        cached.spec.name = name.clone();
        self.specs.put(cached);
        self.update_work_spec_meta(id, meta)
    }

    fn update_work_spec_meta(&mut self, id: WorkSpecId, meta: &Meta) -> StorageResult<()> {
        let pause = meta.paused.as_ref();
        self.statements
            .prepared(UPDATE_META)?
            .execute(named_params! {
                ":paused": pause.is_some(),
                ":paused_reason": pause.and_then(|pause| pause.reason.as_ref()),
                ":paused_by": pause.and_then(|pause| pause.by.as_ref()),
                ":paused_us": pause.and_then(|pause| pause.since),
                ":weight": meta.weight,
                ":priority": meta.priority,
                ":continuous": meta.continuous,
                ":can_be_continuous": meta.can_be_continuous,
                ":interval_us": us(meta.interval),
                ":next_continuous_us": meta.next_continuous,
                ":max_running": limit_column(meta.max_running),
                ":max_getwork": limit_column(meta.max_getwork),
                ":max_retries": limit_column(meta.max_retries),
                ":retries": limit_column(meta.retry.map(|retry| retry.retries)),
                ":retry_delay_us": us(meta.retry.map(|retry| retry.delay)),
                ":retry_backoff": meta.retry.map(|retry| retry.backoff),
                ":retry_delay_max_us": us(meta.retry.map(|retry| retry.delay_max)),
                ":retry_jitter": meta.retry.map(|retry| retry.jitter),
                ":max_lost": limit_column(meta.max_lost),
                ":then_name": meta.then,
                ":runtime": meta.runtime,
                ":min_gb": meta.min_gb,
                ":id": id,
            })?;
        let cached = self.cached(id)?;
        self.batch.undo.push(Undo::Spec(id, Some(Box::new(cached))));
        if let Some(spec) = self.specs.spec_mut(id) {
            spec.meta = meta.clone();
        }
        Ok(())
    }

    fn recount(&mut self, id: WorkSpecId) -> StorageResult<()> {
        let counted =
            self.statements
                .prepared(RECOUNT)?
                .query_row(named_params! {":id": id}, |row| {
                    Ok(Counts {
                        available: row.get(0)?,
                        delayed: row.get(1)?,
                        pending: row.get(2)?,
                        finished: row.get(3)?,
                        failed: row.get(4)?,
                        retrying: row.get(5)?,
                        ..Counts::default()
                    })
                })?;
        if let Some(spec) = self.spec_to_count(id) {
            spec.counts = Counts {
                archived_finished: spec.counts.archived_finished,
                archived_failed: spec.counts.archived_failed,
                ..counted
            };
            spec.waiting_since = None;
        }
        Ok(())
    }

    fn discard_work_spec(&mut self, id: WorkSpecId) -> StorageResult<()> {
        self.statements
            .prepared(MARK_DELETED)?
            .execute(named_params! {":id": id})?;
        let before = self.specs.remove(id).map(Box::new);
        self.batch.undo.push(Undo::Spec(id, before));
        self.specs.has_deleted = true;
        if self.specs.is_watched {
            self.specs.news.gone.push(id);
        }
        Ok(())
    }

    fn empty_work_spec(&mut self, id: WorkSpecId) -> StorageResult<()> {
        let definition = self.work_spec_definition(id)?;
        let CachedSpec {
            namespace, spec, ..
        } = self.cached(id)?;
        self.discard_work_spec(id)?;
        self.insert_work_spec(namespace, &spec.name, &definition, &spec.meta)?;
        Ok(())
    }

    fn has_deleted(&self) -> bool {
        self.specs.has_deleted
    }

    fn purge(&mut self, limit: usize) -> StorageResult<()> {
        if !self.specs.has_deleted {
            return Ok(());
        }
        let deleted = {
            let find = self.statements.prepared(FIND_DELETED)?;
            let mut rows = find.query(&[])?;
            match rows.next()? {
                Some(row) => row.get::<_, WorkSpecId>(0)?,
                None => {
                    self.specs.has_deleted = false;
                    return Ok(());
                }
            }
        };
        if self.delete_units_of(deleted, limit)? && !self.delete_output_slice_for(deleted)? {
            for sql in [DELETE_COUNTS, DELETE_WORK_SPEC] {
                self.statements
                    .prepared(sql)?
                    .execute(named_params! {":id": deleted})?;
            }
        }
        Ok(())
    }
}
