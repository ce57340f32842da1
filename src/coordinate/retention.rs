//! Retention: which finished and failed units stay. The others are archived: removed with their attempts,
//! but counted still.
//!
//! The oldest go first. Attempts are numbered as they begin, so the oldest units are found by going through
//! the attempts, past those of other units, and no index has to be kept for it, which would cost everybody
//! another page for each batch of reports. Which units are the oldest is decided so by when their last
//! attempt began, which differs from when it ended only for units that were being worked on at the same
//! time.

use super::attempt::AttemptId;
use super::storage::{CompletedQuery, Storage};
use super::work_unit::Completed;
use super::{Name, Operation, Result, WorkSpecId};
use crate::limits;
use std::collections::BTreeSet;
use std::time::Duration;

/// Which finished and failed units stay; all, if there are no limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How many finished ones each work spec keeps, and how many failed ones.
    pub count: Option<u64>,
    /// How long they are kept after their completion.
    pub age: Option<Duration>,
}

impl Retention {
    /// True if there is any limit.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.count.is_some() || self.age.is_some()
    }
}

/// A way through the completed units of some work specs, which is gone in steps.
#[derive(Debug)]
pub struct Archival {
    queues: Vec<Queue>,
    /// The newest attempt when it began: what comes after it is for the next one, so that each has an end.
    until: AttemptId,
}

impl Archival {
    /// True if nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.queues.is_empty()
    }
}

/// The completed units of one work spec that are in one status.
#[derive(Debug)]
struct Queue {
    spec: WorkSpecId,
    status: Completed,
    /// How far it has been gone through, once a unit was found that stays. Until then, it begins with
    /// what is left of it.
    after: Option<AttemptId>,
}

/// What a look costs by itself, in attempts that are looked at: it matters where there are many work specs.
const LOOK: usize = 10;

/// What a step has done so far.
#[derive(Default)]
struct Step {
    /// Units that were archived, and attempts that went with them.
    removed: usize,
    /// Bytes of their data.
    bytes: usize,
    /// Attempts that were looked at.
    looked_at: usize,
}

impl Step {
    fn is_enough(&self, rows_max: usize) -> bool {
        self.removed >= rows_max
            || self.bytes >= limits::SWEEP_BYTES
            || self.looked_at >= limits::SWEEP_LOOKED_AT
    }
}

impl<S: Storage> Operation<'_, S> {
    /// Begins to archive what is beyond the limits, in all work specs or in those of these names. Unknown
    /// ones are passed over.
    #[must_use]
    pub fn begin_archival(&self, work_specs: Option<&[Name]>) -> Archival {
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
        let of_spec = |spec| {
            Completed::BOTH.map(|status| Queue {
                spec,
                status,
                after: None,
            })
        };
        Archival {
            queues: specs.into_iter().flat_map(of_spec).collect(),
            until: self.store.newest_attempt(),
        }
    }

    /// Goes on with archiving, for about `rows_max` rows of units and attempts, or some milliseconds of looking
    /// for them. Gives how many units were archived.
    ///
    /// # Errors
    /// `Storage`.
    pub fn archive_some(
        &mut self,
        retention: &Retention,
        archival: &mut Archival,
        rows_max: usize,
    ) -> Result<u64> {
        let until = archival.until;
        let mut step = Step::default();
        let mut archived = 0;
        while !step.is_enough(rows_max)
            && let Some(queue) = archival.queues.last_mut()
        {
            let left = rows_max.saturating_sub(step.removed);
            let (count, is_over) = self.archive_from(retention, queue, until, left, &mut step)?;
            archived += count;
            if is_over {
                archival.queues.pop();
            }
        }
        Ok(archived)
    }

    /// Archives some of the oldest units of a queue. Gives how many, and whether the others stay.
    fn archive_from(
        &mut self,
        retention: &Retention,
        queue: &mut Queue,
        until: AttemptId,
        rows_max: usize,
        step: &mut Step,
    ) -> Result<(u64, bool)> {
        let (now, mut archived) = (self.now, 0);
        let Some(spec) = self.store.get_work_spec(queue.spec) else {
            return Ok((archived, true));
        };
        let there = spec.counts.completed(queue.status);
        let mut too_many = retention
            .count
            .map_or(0, |count| there.saturating_sub(count));
        if there == 0 || too_many == 0 && retention.age.is_none() {
            return Ok((archived, true));
        }
        // What began in this span has not ended before it, nor has what comes behind it. (If the clock was set, some
        // may be found later than they could be, and some may be yet to begin.)
        let recent = retention.age.map(|age| now.minus(age)..=now);
        let found = self.store.completed_units(&CompletedQuery {
            spec: queue.spec,
            status: queue.status,
            after: queue.after,
            until_begun_in: recent.clone().filter(|_| too_many == 0),
            looked_at_max: limits::SWEEP_LOOKED_AT,
            rows_max,
            bytes_max: limits::SWEEP_BYTES,
        })?;
        step.looked_at += found.looked_at + LOOK;
        for completed in found.units {
            if completed.attempt > until {
                return Ok((archived, true));
            }
            let is_old = retention
                .age
                .is_some_and(|age| completed.end.plus(age) < now);
            if too_many > 0 || is_old {
                self.store
                    .archive_work_unit(&completed.unit, queue.status)?;
                archived += 1;
                too_many = too_many.saturating_sub(1);
                step.removed += completed.rows;
                step.bytes += completed.bytes;
                continue;
            }
            if recent
                .as_ref()
                .is_none_or(|recent| recent.contains(&completed.start))
            {
                return Ok((archived, true));
            }
            queue.after = Some(completed.attempt);
        }
        if queue.after.is_some() {
            queue.after = Some(found.looked_to);
        }
        Ok((archived, found.is_all || found.looked_to >= until))
    }
}
