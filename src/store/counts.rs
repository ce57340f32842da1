//! How many units each work spec has, in memory and, once a batch, in the file.

use super::SqliteStore;
use super::cached_specs::{CachedSpec, Undo, count_of};
use super::statement::statements;
use crate::clock::Timestamp;
use crate::coordinate::storage::StorageResult;
use crate::coordinate::{AttemptId, Completed, Counted, UnitStatus, WorkSpec, WorkSpecId};
use rusqlite::named_params;

statements! {
    UPDATE_COUNTS = "
        UPDATE work_unit_count
           SET available = :available, delayed = :delayed, retrying = :retrying, pending = :pending,
               finished = :finished, failed = :failed, archived_finished = :archived_finished,
               archived_failed = :archived_failed, passed_name = :passed,
               waiting_since_us = :waiting_since, finished_after_id = :finished_after,
               failed_after_id = :failed_after, sequence = :sequence, former_queue = :former_queue,
               rate_full_us = :rate_full,
               failed_in_a_row = :failed_in_a_row, recent_attempts = :recent_attempts,
               recent_finished = :recent_finished, recent_failed = :recent_failed
         WHERE work_spec_id = :id";
}

impl SqliteStore {
    /// Notes that a unit has left a status, come into one at a time, or both. Units of deleted specs are
    /// not counted any more.
    pub(super) fn count_unit(
        &mut self,
        spec: WorkSpecId,
        before: Option<Counted>,
        after: Option<(Counted, Timestamp)>,
    ) -> StorageResult<()> {
        if before.as_ref() == after.as_ref().map(|(counted, _)| counted) {
            return Ok(());
        }
        if self.spec_to_count(spec).is_none() {
            return Ok(());
        }
        self.count_in_groups(
            spec,
            before.as_ref(),
            after.as_ref().map(|(after, _)| after),
        )?;
        if let Some(spec) = self.specs.counted_mut(spec) {
            count_by_status(spec, before.as_ref(), after.as_ref());
        }
        Ok(())
    }

    /// A spec whose counts are about to change, and will be written with the batch.
    pub(super) fn spec_to_count(&mut self, spec: WorkSpecId) -> Option<&mut WorkSpec> {
        let spec = self.specs.counted_mut(spec)?;
        // One is enough for a run of changes to the same spec.
        if !matches!(self.batch.undo.last(), Some(Undo::Counts(of, ..)) if *of == spec.id) {
            let undo = Undo::Counts(
                spec.id,
                spec.counts,
                spec.waiting_since,
                spec.groups_are_full,
            );
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
                Undo::Counts(id, counts, waiting_since, groups_are_full) => {
                    if let Some(spec) = self.specs.spec_mut(id) {
                        spec.counts = counts;
                        spec.waiting_since = waiting_since;
                        spec.groups_are_full = groups_are_full;
                    }
                }
                Undo::Recent(id, before) => {
                    if let Some(spec) = self.specs.spec_mut(id) {
                        spec.recent = before;
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
                Undo::HasCancellations => self.has_cancellations = true,
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
                sequence,
                former_queue,
                ..
            }) = self.specs.by_id.get(&id)
            else {
                continue;
            };
            let outcomes = &spec.recent.outcomes;
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
                    ":sequence": sequence,
                    ":former_queue": former_queue,
                    ":rate_full": spec.recent.full_at,
                    ":failed_in_a_row": column(outcomes.failed_in_a_row),
                    ":recent_attempts": column(outcomes.attempts),
                    ":recent_finished": outcomes.finished,
                    ":recent_failed": outcomes.failed,
                    ":id": id,
                })?;
        }
        Ok(())
    }
}

fn count_by_status(
    spec: &mut WorkSpec,
    before: Option<&Counted>,
    after: Option<&(Counted, Timestamp)>,
) {
    let is_retrying = |counted: &Counted| u64::from(counted.is_retrying);
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
            spec.waiting_since = Some(*now);
        }
        *count_of(&mut spec.counts, after.status) += 1;
    }
}
