//! Namespaces and work specs.

use super::SqliteStore;
use super::cached_specs::{CachedSpec, CompletedAfter, Undo};
use super::spec_columns::{Columns, limit_column, row_to_cached, us};
use super::statement::{prepared, statements};
use crate::clock::Timestamp;
use crate::coordinate::storage::{
    StorageResult, VisitCounts, VisitDefinition, VisitNamespace, WorkSpecStore,
};
use crate::coordinate::{
    Candidates, Counts, Error, MaxRate, Meta, Name, NamespaceId, Order, Recent, Result,
    StorageError, WorkSpec, WorkSpecId,
};
use rusqlite::{Connection, named_params};

statements! {
    FIND_NAMESPACE = "SELECT id FROM namespace WHERE name = :name";

    /// Uses the index on the name.
    LIST_NAMESPACES = "
        SELECT id, name FROM namespace WHERE name > :after ORDER BY name LIMIT :limit";

    LIST_FIRST_NAMESPACES = "SELECT id, name FROM namespace ORDER BY name LIMIT :limit";

    /// Work specs are few.
    MOVE_WORK_SPECS = "UPDATE work_spec SET namespace_id = :heir WHERE namespace_id = :id";

    DELETE_NAMESPACE = "DELETE FROM namespace WHERE id = :id";

    INSERT_NAMESPACE = "INSERT INTO namespace (name) VALUES (:name)";

    /// All work specs there are, with their counts, in the order in which `row_to_cached` takes the columns.
    LOAD_WORK_SPECS = "
        SELECT work_spec.id, namespace_id, name, paused, paused_reason, paused_by, paused_us, weight, priority, continuous,
               can_be_continuous, interval_us, next_continuous_us, max_running, max_getwork,
               max_retries, retries, retry_delay_us, retry_backoff, retry_delay_max_us, retry_jitter,
               max_lost, then_name, runtime, min_gb,
               schedule, timezone, overlap, missed, next_run_us, last_run_us, skipped_run_us,
               in_added_order, fair, max_running_per_group,
               max_rate, max_rate_burst, halt_failures, halt_rate, halt_min,
               available, delayed, retrying, pending, finished, failed, archived_finished,
               archived_failed, passed_name, waiting_since_us, finished_after_id, failed_after_id,
               sequence, former_queue,
               rate_full_us, failed_in_a_row, recent_attempts, recent_finished, recent_failed
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
               max_lost = :max_lost, then_name = :then_name, runtime = :runtime, min_gb = :min_gb,
               schedule = :schedule, timezone = :timezone, overlap = :overlap, missed = :missed,
               next_run_us = :next_run_us, last_run_us = :last_run_us, skipped_run_us = :skipped_run_us,
               in_added_order = :in_added_order, fair = :fair,
               max_running_per_group = :max_running_per_group,
               max_rate = :max_rate, max_rate_burst = :max_rate_burst, halt_failures = :halt_failures,
               halt_rate = :halt_rate, halt_min = :halt_min
         WHERE id = :id";

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

/// Shows `visit` the namespaces.
pub(super) fn list_namespaces(
    connection: &Connection,
    after: Option<&str>,
    limit: usize,
    visit: &mut VisitNamespace<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let sql = match after {
        Some(_) => LIST_NAMESPACES,
        None => LIST_FIRST_NAMESPACES,
    };
    let mut statement = prepared(connection, sql).map_err(storage)?;
    let rows = match after {
        Some(after) => statement.query(named_params! {":after": after, ":limit": limit}),
        None => statement.query(named_params! {":limit": limit}),
    };
    let mut rows = rows.map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        let name: String = row.get(1).map_err(storage)?;
        visit(row.get(0).map_err(storage)?, &name)?;
    }
    Ok(())
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

impl SqliteStore {
    /// Loads the work specs that are not in memory as they are in the file.
    pub(super) fn load_work_specs(&mut self) -> StorageResult<()> {
        let specs = &mut self.specs;
        let mut there = Vec::with_capacity(specs.by_id.len());
        let mut limited = Vec::new();
        let load = self.statements.prepared(LOAD_WORK_SPECS)?;
        for cached in load.query_map(&[], row_to_cached)? {
            let cached = cached?;
            let id = cached.spec.id;
            there.push(id);
            if cached.spec.meta.max_running_per_group.is_some() {
                limited.push(id);
            }
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
        for id in limited {
            let next = self.find_next_group(id)?;
            if let Some(spec) = self.specs.spec_mut(id) {
                let max = spec.meta.max_running_per_group;
                spec.groups_are_full =
                    next.is_some_and(|group| max.is_some_and(|max| group.pending >= max));
            }
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
    /// Notes that all available units of a spec are queued as it says now.
    pub(super) fn end_requeueing(&mut self, id: WorkSpecId) {
        if let Some(cached) = self.specs.by_id.get(&id).cloned() {
            self.batch
                .undo
                .push(Undo::Spec(id, Some(Box::new(cached.clone()))));
            self.specs.with_new_counts.insert(id);
            self.specs.put(CachedSpec {
                former_queue: false,
                ..cached
            });
        }
    }

    /// Changes the times that are kept with specs: when the next continuous unit is due, since when there have been
    /// available units, and when the bucket of a rate is full.
    pub(super) fn change_spec_times(
        &mut self,
        next_continuous: impl Fn(&Meta, Timestamp) -> Timestamp,
        waiting_since: impl Fn(Timestamp) -> Timestamp,
        rate_full: impl Fn(&Meta, Timestamp) -> Timestamp,
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
            if let Some(before) = spec.recent.full_at {
                let after = rate_full(&spec.meta, before);
                if after != before {
                    let full_at = Some(after);
                    self.set_recent(
                        id,
                        Recent {
                            full_at,
                            ..spec.recent
                        },
                    );
                }
            }
        }
        Ok(())
    }

    /// Plans the next runs of schedules anew after the clock was set to `now`.
    pub(super) fn plan_runs(&mut self, now: Timestamp) -> StorageResult<()> {
        let ids: Vec<WorkSpecId> = self.specs.scheduled.iter().map(|(_, id)| *id).collect();
        for id in ids {
            let CachedSpec { mut spec, .. } = self.cached(id)?;
            if let Some(schedule) = &mut spec.meta.schedule {
                let next = schedule.next_by_clock(now);
                if next != schedule.next {
                    schedule.next = next;
                    self.update_work_spec_meta(id, &spec.meta)?;
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
        if let Some(id) = self.find_namespace(name)? {
            return Ok(id);
        }
        let insert = self.statements.prepared(INSERT_NAMESPACE)?;
        let id = insert.insert(named_params! {":name": name})?;
        Ok(NamespaceId(id))
    }

    fn find_namespace(&mut self, name: &str) -> StorageResult<Option<NamespaceId>> {
        let find = self.statements.prepared(FIND_NAMESPACE)?;
        let mut rows = find.query(named_params! {":name": name})?;
        Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
    }

    fn delete_namespace(&mut self, id: NamespaceId, heir: NamespaceId) -> StorageResult<()> {
        self.statements
            .prepared(MOVE_WORK_SPECS)?
            .execute(named_params! {":heir": heir, ":id": id})?;
        self.statements
            .prepared(DELETE_NAMESPACE)?
            .execute(named_params! {":id": id})?;
        Ok(())
    }

    fn all_work_specs(&self) -> impl Iterator<Item = &WorkSpec> {
        self.specs.by_id.values().map(|cached| &cached.spec)
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

    fn next_scheduled(&self) -> Option<(Timestamp, WorkSpecId)> {
        self.specs.scheduled.first().copied()
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
            groups_are_full: false,
            recent: Recent::default(),
        };
        self.specs.put(CachedSpec {
            namespace,
            spec,
            passed_name: None,
            completed_after: CompletedAfter::START,
            sequence: 0,
            former_queue: false,
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
        let schedule = meta.schedule.as_deref();
        let halt_rate = meta.halt_after.and_then(|halt| halt.rate);
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
                ":schedule": schedule.map(|schedule| &schedule.expression),
                ":timezone": schedule.map(|schedule| &schedule.timezone),
                ":overlap": schedule.map(|schedule| schedule.overlap.word()),
                ":missed": schedule.map(|schedule| schedule.missed.word()),
                ":next_run_us": schedule.and_then(|schedule| schedule.next),
                ":last_run_us": schedule.and_then(|schedule| schedule.last),
                ":skipped_run_us": schedule.and_then(|schedule| schedule.skipped),
                ":in_added_order": meta.order == Order::Added,
                ":fair": meta.fair,
                ":max_running_per_group": limit_column(meta.max_running_per_group),
                ":max_rate": meta.max_rate.map(|rate| rate.to_string()),
                ":max_rate_burst": meta.max_rate.map(MaxRate::burst),
                ":halt_failures": limit_column(meta.halt_after.and_then(|halt| halt.failures)),
                ":halt_rate": halt_rate.map(|rate| rate.share),
                ":halt_min": limit_column(halt_rate.map(|rate| rate.min)),
                ":id": id,
            })?;
        let mut cached = self.cached(id)?;
        self.batch
            .undo
            .push(Undo::Spec(id, Some(Box::new(cached.clone()))));
        let spec = &mut cached.spec;
        if spec.meta.queueing() != meta.queueing() && spec.counts.available > 0 {
            cached.former_queue = true;
            self.specs.with_new_counts.insert(id);
        }
        spec.meta = meta.clone();
        self.specs.put(cached);
        if let Some(next) = schedule.and_then(|schedule| schedule.next) {
            self.note_due(next);
        }
        self.note_full_groups(id)
    }

    fn set_recent(&mut self, id: WorkSpecId, recent: Recent) {
        if let Some(spec) = self.specs.counted_mut(id) {
            let before = std::mem::replace(&mut spec.recent, recent);
            self.batch.undo.push(Undo::Recent(id, before));
        }
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
        self.recount_groups(id)
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
        let id = self.insert_work_spec(namespace, &spec.name, &definition, &spec.meta)?;
        if spec.recent != Recent::default() {
            self.set_recent(id, spec.recent);
        }
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
        if self.delete_units_of(deleted, limit)?
            && !self.delete_output_slice_for(deleted)?
            && !self.delete_uploads_to(deleted)?
        {
            if self.delete_groups_of(deleted, limit)? {
                return Ok(());
            }
            self.delete_history_of(deleted)?;
            for sql in [DELETE_COUNTS, DELETE_WORK_SPEC] {
                self.statements
                    .prepared(sql)?
                    .execute(named_params! {":id": deleted})?;
            }
        }
        Ok(())
    }
}
