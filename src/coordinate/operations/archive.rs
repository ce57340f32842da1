//! Archiving: completed units beyond the limits of [`Retention`] are removed with their attempts, but still counted.
//!
//! The oldest go first. Attempts are numbered as they begin, so the oldest units are found by going through the
//! attempts, skipping those of other units. This needs no index, which would cost another page for each batch of
//! reports. So the oldest unit is the one whose last attempt began first. That differs from the one that ended first
//! only for units that were worked on at the same time.

use crate::coordinate::storage::{CompletedQuery, Storage};
use crate::coordinate::{
    AttemptId, Change, Completed, Name, Operation, Result, Retention, WorkSpecId,
};
use crate::limits;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One pass over the completed units of some work specs, done in steps: how far it has come.
#[derive(Clone, Debug)]
pub struct ArchivePass {
    work_specs: Arc<[WorkSpecId]>,
    /// How many queues are done: each work spec has one for each status.
    queues_done: usize,
    /// How far the present queue has been searched, once a unit was found that stays. Until then, each step begins
    /// with what is left of it.
    after: Option<AttemptId>,
    /// The newest attempt when the pass began: later ones are for the next pass, so that each has an end.
    until: AttemptId,
    archived: u64,
}

/// The completed units of one work spec that are in one status, the oldest first.
#[derive(Clone, Copy)]
struct Queue {
    spec: WorkSpecId,
    status: Completed,
}

impl ArchivePass {
    /// True if nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.queue().is_none()
    }

    /// How many units it has archived.
    #[must_use]
    pub fn archived(&self) -> u64 {
        self.archived
    }

    fn queue(&self) -> Option<Queue> {
        let statuses = Completed::BOTH;
        Some(Queue {
            spec: *self.work_specs.get(self.queues_done / statuses.len())?,
            status: *statuses.get(self.queues_done % statuses.len())?,
        })
    }
}

/// What a search costs by itself, in attempts that are looked at: it matters where there are many work specs.
const SEARCH: usize = 10;

/// What a step has done so far.
#[derive(Default)]
struct Step {
    /// Units that were archived, and attempts that went with them.
    rows: usize,
    /// Bytes of their data.
    bytes: usize,
    /// Attempts that were looked at.
    looked_at: usize,
}

impl Step {
    fn is_enough(&self, rows_max: usize) -> bool {
        self.rows >= rows_max
            || self.bytes >= limits::SWEEP_BYTES
            || self.looked_at >= limits::SWEEP_LOOKED_AT
    }
}

impl<S: Storage> Operation<'_, S> {
    /// Begins to archive what is beyond the limits, in all work specs or in those of these names. Unknown
    /// names are skipped.
    #[must_use]
    pub fn begin_archive_pass(&self, work_specs: Option<&[Name]>) -> ArchivePass {
        let specs: BTreeSet<WorkSpecId> = match work_specs {
            None => self
                .store
                .work_specs(self.namespace)
                .map(|spec| spec.id)
                .collect(),
            Some(names) => {
                let known = names.iter().filter_map(|name| self.work_spec(name).ok());
                known.map(|spec| spec.id).collect()
            }
        };
        self.archive_pass_over(specs)
    }

    /// Begins to archive what is beyond the limits, in all work specs of all namespaces.
    #[must_use]
    pub fn begin_archive_pass_everywhere(&self) -> ArchivePass {
        self.archive_pass_over(self.store.all_work_specs().map(|spec| spec.id))
    }

    fn archive_pass_over(&self, specs: impl IntoIterator<Item = WorkSpecId>) -> ArchivePass {
        ArchivePass {
            work_specs: specs.into_iter().collect(),
            queues_done: 0,
            after: None,
            until: self.store.newest_attempt(),
            archived: 0,
        }
    }

    /// Does a step of archiving: about `rows_max` rows of units and attempts, or some milliseconds of searching for
    /// them. Returns what is left of the pass.
    ///
    /// # Errors
    /// `Storage`.
    pub fn archive_some(
        &mut self,
        retention: &Retention,
        pass: &ArchivePass,
        rows_max: usize,
    ) -> Result<ArchivePass> {
        let mut pass = pass.clone();
        let archived_before = pass.archived;
        let mut step = Step::default();
        while !step.is_enough(rows_max)
            && let Some(queue) = pass.queue()
        {
            let rows_left = rows_max.saturating_sub(step.rows);
            if self.archive_from(retention, queue, rows_left, &mut pass, &mut step)? {
                pass.queues_done += 1;
                pass.after = None;
            }
        }
        let archived = pass.archived - archived_before;
        self.effects.audit(Change::of("archive", archived));
        Ok(pass)
    }

    /// Archives some of the oldest units of a queue. True if all others stay.
    fn archive_from(
        &mut self,
        retention: &Retention,
        queue: Queue,
        rows_max: usize,
        pass: &mut ArchivePass,
        step: &mut Step,
    ) -> Result<bool> {
        let now = self.now;
        let Some(spec) = self.store.get_work_spec(queue.spec) else {
            return Ok(true);
        };
        let stored = spec.counts.completed(queue.status);
        let mut too_many = retention
            .count
            .map_or(0, |count| stored.saturating_sub(count));
        if stored == 0 || too_many == 0 && retention.age.is_none() {
            return Ok(true);
        }
        // What began in this span has not ended before it, nor has what comes after it. (If the clock was set, some
        // units may be found later than they could be, and some attempts may begin in the future.)
        let recent = retention.age.map(|age| now.minus(age)..=now);
        let found = self.store.completed_units(&CompletedQuery {
            spec: queue.spec,
            status: queue.status,
            after: pass.after,
            until_begun_in: recent.clone().filter(|_| too_many == 0),
            looked_at_max: limits::SWEEP_LOOKED_AT,
            rows_max,
            bytes_max: limits::SWEEP_BYTES,
        })?;
        step.looked_at += found.looked_at + SEARCH;
        for completed in found.units {
            if completed.attempt > pass.until {
                return Ok(true);
            }
            let is_old = retention
                .age
                .is_some_and(|age| completed.end.plus(age) < now);
            if too_many > 0 || is_old {
                self.store
                    .archive_work_unit(&completed.unit, queue.status)?;
                pass.archived += 1;
                too_many = too_many.saturating_sub(1);
                step.rows += completed.rows;
                step.bytes += completed.bytes;
                continue;
            }
            if recent
                .as_ref()
                .is_none_or(|recent| recent.contains(&completed.start))
            {
                return Ok(true);
            }
            pass.after = Some(completed.attempt);
        }
        if pass.after.is_some() {
            pass.after = Some(found.looked_to);
        }
        Ok(found.is_all || found.looked_to >= pass.until)
    }
}
