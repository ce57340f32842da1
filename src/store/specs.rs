//! Namespaces and work specs, and the counts of their units.

use super::SqliteStore;
use super::statement::statements;
use crate::clock::Timestamp;
use crate::coordinate::storage::{StorageResult, WorkSpecStore};
use crate::coordinate::{
    AttemptId, Completed, Counts, Meta, Name, NamespaceId, StorageError, UnitStatus, WorkSpec,
    WorkSpecId,
};
use rusqlite::{Row, named_params};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

statements! {
    FIND_NAMESPACE = "SELECT id FROM namespace WHERE name = :name";

    INSERT_NAMESPACE = "INSERT INTO namespace (name) VALUES (:name)";

    /// All work specs there are, with their counts.
    LOAD_WORK_SPECS = "
        SELECT work_spec.id, namespace_id, name, paused, weight, priority, continuous,
               can_be_continuous, interval_us, next_continuous_us, max_running, max_getwork,
               max_retries, then_name, runtime, min_gb,
               available, delayed, pending, finished, failed, archived_finished, archived_failed,
               passed_name, waiting_since_us, finished_after_id, failed_after_id
          FROM work_spec
          JOIN work_unit_count ON work_unit_count.work_spec_id = work_spec.id
         WHERE deleted = 0";

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
           SET paused = :paused, weight = :weight, priority = :priority, continuous = :continuous,
               can_be_continuous = :can_be_continuous, interval_us = :interval_us,
               next_continuous_us = :next_continuous_us, max_running = :max_running,
               max_getwork = :max_getwork, max_retries = :max_retries, then_name = :then_name,
               runtime = :runtime, min_gb = :min_gb
         WHERE id = :id";

    UPDATE_COUNTS = "
        UPDATE work_unit_count
           SET available = :available, delayed = :delayed, pending = :pending, finished = :finished,
               failed = :failed, archived_finished = :archived_finished,
               archived_failed = :archived_failed, passed_name = :passed,
               waiting_since_us = :waiting_since, finished_after_id = :finished_after,
               failed_after_id = :failed_after
         WHERE work_spec_id = :id";

    RECOUNT = "
        SELECT count(*) FILTER (WHERE status = 1), count(*) FILTER (WHERE status = 2),
               count(*) FILTER (WHERE status = 3), count(*) FILTER (WHERE status = 4),
               count(*) FILTER (WHERE status = 5)
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
    by_id: BTreeMap<WorkSpecId, Known>,
    by_name: BTreeMap<(NamespaceId, Name), WorkSpecId>,
    /// Specs whose counts, or names that were passed, are not in the file yet.
    with_new_counts: BTreeSet<WorkSpecId>,
    /// True if the file may hold deleted specs.
    has_deleted: bool,
}

/// What is known of a work spec.
#[derive(Clone)]
pub(super) struct Known {
    namespace: NamespaceId,
    spec: WorkSpec,
    /// See queue.rs.
    passed_name: Option<Vec<u8>>,
    /// See archive.rs.
    completed_after: CompletedAfter,
}

/// The attempts behind which all finished and all failed units have their active ones.
#[derive(Clone, Copy)]
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
    fn put(&mut self, known: Known) {
        let (namespace, id) = (known.namespace, known.spec.id);
        self.by_name
            .insert((namespace, known.spec.name.clone()), id);
        self.by_id.insert(id, known);
    }

    fn remove(&mut self, id: WorkSpecId) -> Option<Known> {
        let known = self.by_id.remove(&id)?;
        self.by_name
            .remove(&(known.namespace, known.spec.name.clone()));
        self.with_new_counts.remove(&id);
        Some(known)
    }

    /// The last name that get_work has passed, if it has passed any.
    pub(super) fn passed_name(&self, id: WorkSpecId) -> Option<&[u8]> {
        self.by_id.get(&id)?.passed_name.as_deref()
    }

    /// The attempt behind which all units in a status have their active ones.
    pub(super) fn completed_after(&self, id: WorkSpecId, status: Completed) -> AttemptId {
        let known = self.by_id.get(&id);
        let mut after = known.map_or(CompletedAfter::START, |known| known.completed_after);
        *after.of(status)
    }
}

/// How to undo a change in memory.
pub(super) enum Undo {
    /// Counts were these, and available units had been there since then.
    Counts(WorkSpecId, Counts, Option<Timestamp>),
    /// The spec was this, or was not there.
    Spec(WorkSpecId, Option<Box<Known>>),
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

fn row_to_known(row: &Row<'_>) -> rusqlite::Result<Known> {
    let interval_us: Option<i64> = row.get("interval_us")?;
    let limit = |column: &str| {
        row.get::<_, Option<i64>>(column)
            .map(|limit| limit.and_then(|limit| u64::try_from(limit).ok()))
    };
    let count = |column: &str| {
        row.get::<_, i64>(column)
            .map(|count| u64::try_from(count).unwrap_or(0))
    };
    let meta = Meta {
        paused: row.get("paused")?,
        weight: row.get("weight")?,
        priority: row.get("priority")?,
        continuous: row.get("continuous")?,
        can_be_continuous: row.get("can_be_continuous")?,
        interval: interval_us.map(|us| Duration::from_micros(u64::try_from(us).unwrap_or(0))),
        next_continuous: row.get("next_continuous_us")?,
        max_running: limit("max_running")?,
        max_getwork: limit("max_getwork")?,
        max_retries: limit("max_retries")?,
        then: row.get("then_name")?,
        runtime: row.get("runtime")?,
        min_gb: row.get("min_gb")?,
    };
    let counts = Counts {
        available: count("available")?,
        delayed: count("delayed")?,
        pending: count("pending")?,
        finished: count("finished")?,
        failed: count("failed")?,
        archived_finished: count("archived_finished")?,
        archived_failed: count("archived_failed")?,
    };
    let completed_after = CompletedAfter {
        finished: row.get("finished_after_id")?,
        failed: row.get("failed_after_id")?,
    };
    // Another program may have changed one of them without the other.
    let waiting_since: Option<Timestamp> = row.get("waiting_since_us")?;
    let waiting_since = waiting_since.filter(|_| counts.available > 0);
    Ok(Known {
        namespace: row.get("namespace_id")?,
        spec: WorkSpec {
            id: row.get("id")?,
            name: row.get("name")?,
            meta,
            counts,
            waiting_since,
        },
        passed_name: row.get("passed_name")?,
        completed_after,
    })
}

/// A limit for a column: what is beyond SQLite's integers is no limit in practice.
fn limit_column(limit: Option<u64>) -> Option<i64> {
    limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

impl SqliteStore {
    pub(super) fn load_work_specs(&mut self) -> StorageResult<()> {
        let mut specs = WorkSpecs::default();
        let load = self.statements.prepared(LOAD_WORK_SPECS)?;
        for known in load.query_map(&[], row_to_known)? {
            specs.put(known?);
        }
        specs.has_deleted = self.statements.prepared(FIND_DELETED)?.exists(&[])?;
        self.specs = specs;
        Ok(())
    }

    /// Notes that a unit has left a status, come into one at a time, or both. Units of deleted specs are
    /// not counted any more.
    pub(super) fn count_unit(
        &mut self,
        spec: WorkSpecId,
        before: Option<UnitStatus>,
        after: Option<(UnitStatus, Timestamp)>,
    ) {
        if before == after.map(|(status, _)| status) {
            return;
        }
        let Some(spec) = self.spec_to_count(spec) else {
            return;
        };
        if let Some(before) = before {
            let count = count_of(&mut spec.counts, before);
            *count = count.saturating_sub(1);
        }
        if spec.counts.available == 0 {
            spec.waiting_since = None;
        }
        if let Some((after, now)) = after {
            if after == UnitStatus::Available && spec.counts.available == 0 {
                spec.waiting_since = Some(now);
            }
            *count_of(&mut spec.counts, after) += 1;
        }
    }

    /// A spec whose counts are about to change, and will be written with the batch.
    fn spec_to_count(&mut self, spec: WorkSpecId) -> Option<&mut WorkSpec> {
        let Known { spec, .. } = self.specs.by_id.get_mut(&spec)?;
        // One is enough for a run of changes to the same spec.
        if !matches!(self.batch.undo.last(), Some(Undo::Counts(of, ..)) if *of == spec.id) {
            let undo = Undo::Counts(spec.id, spec.counts, spec.waiting_since);
            self.batch.undo.push(undo);
        }
        self.specs.with_new_counts.insert(spec.id);
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
        if let Some(known) = self.specs.by_id.get_mut(&id) {
            let before = known.completed_after;
            *known.completed_after.of(status) = after;
            self.batch.undo.push(Undo::CompletedAfter(id, before));
            self.specs.with_new_counts.insert(id);
        }
    }

    /// Notes the last name that get_work has passed.
    pub(super) fn pass_names(&mut self, id: WorkSpecId, last: Vec<u8>) {
        if let Some(known) = self.specs.by_id.get_mut(&id) {
            let before = known.passed_name.replace(last);
            self.batch.undo.push(Undo::Passed(id, before));
            self.specs.with_new_counts.insert(id);
        }
    }

    /// Undoes in memory what the present operation did.
    pub(super) fn undo_in_memory(&mut self) {
        while let Some(undo) = self.batch.undo.pop() {
            match undo {
                Undo::Counts(id, counts, waiting_since) => {
                    if let Some(Known { spec, .. }) = self.specs.by_id.get_mut(&id) {
                        spec.counts = counts;
                        spec.waiting_since = waiting_since;
                    }
                }
                Undo::Passed(id, before) => {
                    if let Some(known) = self.specs.by_id.get_mut(&id) {
                        known.passed_name = before;
                    }
                }
                Undo::CompletedAfter(id, before) => {
                    if let Some(known) = self.specs.by_id.get_mut(&id) {
                        known.completed_after = before;
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
            let Some(Known {
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

    fn known(&self, id: WorkSpecId) -> StorageResult<Known> {
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
            let Known { mut spec, .. } = self.known(id)?;
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

    /// Supposes that there are deleted specs and slices of outputs, until somebody has looked.
    pub(super) fn suppose_steps(&mut self) {
        self.specs.has_deleted = true;
        self.has_output_slices = true;
    }

    /// Adds a work spec that is deleted already, with the name of another one, to have what is to be purged.
    pub(super) fn insert_deleted_spec(&mut self, beside: WorkSpecId) -> StorageResult<WorkSpecId> {
        let Known {
            namespace, spec, ..
        } = self.known(beside)?;
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
        self.specs.by_id.get(&id).map(|known| &known.spec)
    }

    fn work_specs(&self, namespace: NamespaceId) -> impl Iterator<Item = &WorkSpec> {
        let first = (namespace, Name::from_bytes([]));
        self.specs
            .by_name
            .range(first..)
            .take_while(move |((of, _), _)| *of == namespace)
            .filter_map(|(_, id)| self.get_work_spec(*id))
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
        self.specs.put(Known {
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
        let mut known = self.known(id)?;
        self.batch
            .undo
            .push(Undo::Spec(id, Some(Box::new(known.clone()))));
        // The key of a map keeps its form when the same name is put in again: take it out first.
        self.specs
            .by_name
            .remove(&(known.namespace, known.spec.name));
        known.spec.name = name.clone();
        self.specs.put(known);
        self.update_work_spec_meta(id, meta)
    }

    fn update_work_spec_meta(&mut self, id: WorkSpecId, meta: &Meta) -> StorageResult<()> {
        self.statements
            .prepared(UPDATE_META)?
            .execute(named_params! {
                ":paused": meta.paused,
                ":weight": meta.weight,
                ":priority": meta.priority,
                ":continuous": meta.continuous,
                ":can_be_continuous": meta.can_be_continuous,
                ":interval_us": us(meta.interval),
                ":next_continuous_us": meta.next_continuous,
                ":max_running": limit_column(meta.max_running),
                ":max_getwork": limit_column(meta.max_getwork),
                ":max_retries": limit_column(meta.max_retries),
                ":then_name": meta.then,
                ":runtime": meta.runtime,
                ":min_gb": meta.min_gb,
                ":id": id,
            })?;
        let known = self.known(id)?;
        self.batch.undo.push(Undo::Spec(id, Some(Box::new(known))));
        if let Some(known) = self.specs.by_id.get_mut(&id) {
            known.spec.meta = meta.clone();
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
        Ok(())
    }

    fn empty_work_spec(&mut self, id: WorkSpecId) -> StorageResult<()> {
        let definition = self.work_spec_definition(id)?;
        let Known {
            namespace, spec, ..
        } = self.known(id)?;
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
        if self.delete_units_of(deleted, limit)? && !self.delete_output_slice_of(deleted)? {
            for sql in [DELETE_COUNTS, DELETE_WORK_SPEC] {
                self.statements
                    .prepared(sql)?
                    .execute(named_params! {":id": deleted})?;
            }
        }
        Ok(())
    }
}
