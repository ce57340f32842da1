//! The work specs in memory: what the scheduler needs of them, and how to undo changes.

use crate::clock::Timestamp;
use crate::coordinate::storage::News;
use crate::coordinate::{
    AttemptId, Candidates, Completed, Counts, Meta, Name, NamespaceId, Queueing, Recent,
    UnitStatus, WorkSpec, WorkSpecId, WorkUnitId,
};
use std::collections::{BTreeMap, BTreeSet};

/// The work specs, in memory.
#[derive(Default)]
pub(super) struct WorkSpecs {
    pub(super) by_id: BTreeMap<WorkSpecId, CachedSpec>,
    pub(super) by_name: BTreeMap<(NamespaceId, Name), WorkSpecId>,
    /// Specs whose counts, or names that were passed, are not in the file yet.
    pub(super) with_new_counts: BTreeSet<WorkSpecId>,
    /// Those that can give, as they were before `changed` ones changed.
    pub(super) candidates: BTreeMap<NamespaceId, Candidates>,
    /// Specs that may have changed since.
    pub(super) changed: BTreeSet<WorkSpecId>,
    /// Specs with a schedule, by their next run.
    pub(super) scheduled: BTreeSet<(Timestamp, WorkSpecId)>,
    /// Those with a `former_queue`.
    pub(super) to_requeue: BTreeSet<WorkSpecId>,
    /// True if the file may hold deleted specs.
    pub(super) has_deleted: bool,
    /// See [`crate::coordinate::storage::Storage::watch`].
    pub(super) is_watched: bool,
    pub(super) news: News,
}

/// A work spec as it is kept in memory.
#[derive(Clone, PartialEq)]
pub(super) struct CachedSpec {
    pub(super) namespace: NamespaceId,
    pub(super) spec: WorkSpec,
    /// See queue.rs.
    pub(super) passed_name: Option<Vec<u8>>,
    /// See archive.rs.
    pub(super) completed_after: CompletedAfter,
    /// The last number that was given to a place or to the turn of a group.
    pub(super) sequence: i64,
    /// True if available units may still be queued as the spec said earlier.
    pub(super) former_queue: bool,
}

impl CachedSpec {
    /// True if nothing differs from `other`, not even whether names are text.
    pub(super) fn is_same(&self, other: &Self) -> bool {
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
    pub(super) finished: AttemptId,
    pub(super) failed: AttemptId,
}

impl CompletedAfter {
    pub(super) const START: Self = Self {
        finished: AttemptId(0),
        failed: AttemptId(0),
    };

    pub(super) fn of(&mut self, status: Completed) -> &mut AttemptId {
        match status {
            Completed::Finished => &mut self.finished,
            Completed::Failed => &mut self.failed,
        }
    }
}

impl WorkSpecs {
    pub(super) fn put(&mut self, cached: CachedSpec) {
        let (namespace, id) = (cached.namespace, cached.spec.id);
        self.by_name
            .insert((namespace, cached.spec.name.clone()), id);
        if cached.former_queue {
            self.to_requeue.insert(id);
        } else {
            self.to_requeue.remove(&id);
        }
        let run = next_run(&cached.spec.meta);
        let before = self.by_id.insert(id, cached);
        let run_before = before.and_then(|before| next_run(&before.spec.meta));
        self.plan_run(id, run_before, run);
        self.changed.insert(id);
    }

    /// Keeps when a spec has its next run.
    fn plan_run(&mut self, id: WorkSpecId, before: Option<Timestamp>, next: Option<Timestamp>) {
        if before == next {
            return;
        }
        if let Some(before) = before {
            self.scheduled.remove(&(before, id));
        }
        if let Some(next) = next {
            self.scheduled.insert((next, id));
        }
    }

    /// A spec whose counts are about to change.
    pub(super) fn spec_mut(&mut self, id: WorkSpecId) -> Option<&mut WorkSpec> {
        let cached = self.by_id.get_mut(&id)?;
        self.changed.insert(id);
        Some(&mut cached.spec)
    }

    pub(super) fn remove(&mut self, id: WorkSpecId) -> Option<CachedSpec> {
        let cached = self.by_id.remove(&id)?;
        self.to_requeue.remove(&id);
        let key = (cached.namespace, cached.spec.name.clone());
        // While specs are loaded, another one may have its name by now.
        if self.by_name.get(&key) == Some(&id) {
            self.by_name.remove(&key);
        }
        self.with_new_counts.remove(&id);
        self.plan_run(id, next_run(&cached.spec.meta), None);
        if let Some(candidates) = self.candidates.get_mut(&cached.namespace) {
            candidates.remove(id);
        }
        Some(cached)
    }

    /// The same for one whose counts will be written with the batch.
    pub(super) fn counted_mut(&mut self, id: WorkSpecId) -> Option<&mut WorkSpec> {
        let cached = self.by_id.get_mut(&id)?;
        self.changed.insert(id);
        self.with_new_counts.insert(id);
        Some(&mut cached.spec)
    }

    /// The specs of a namespace that can give.
    pub(super) fn candidates(&mut self, namespace: NamespaceId, now: Timestamp) -> &Candidates {
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

    /// How a spec queues its units.
    pub(super) fn queueing(&self, id: WorkSpecId) -> Queueing {
        let cached = self.by_id.get(&id);
        cached
            .map(|cached| cached.spec.meta.queueing())
            .unwrap_or_default()
    }

    /// The next number for a place or a turn. It is not given again if the operation is undone.
    pub(super) fn next_number(&mut self, id: WorkSpecId) -> i64 {
        let Some(cached) = self.by_id.get_mut(&id) else {
            return 0;
        };
        cached.sequence += 1;
        self.with_new_counts.insert(id);
        cached.sequence
    }

    /// The attempt behind which all units in a status have their active ones.
    pub(super) fn completed_after(&self, id: WorkSpecId, status: Completed) -> AttemptId {
        let cached = self.by_id.get(&id);
        let mut after = cached.map_or(CompletedAfter::START, |cached| cached.completed_after);
        *after.of(status)
    }
}

fn next_run(meta: &Meta) -> Option<Timestamp> {
    meta.schedule.as_ref()?.next
}

/// How to undo a change in memory.
pub(super) enum Undo {
    /// Counts were these, available units had been there since then, and all groups were known to be full.
    Counts(WorkSpecId, Counts, Option<Timestamp>, bool),
    /// What it remembered of what happened lately was this.
    Recent(WorkSpecId, Recent),
    /// The spec was this, or was not there.
    Spec(WorkSpecId, Option<Box<CachedSpec>>),
    /// The last name that was passed was this.
    Passed(WorkSpecId, Option<Vec<u8>>),
    /// These were the attempts behind which completed units had theirs.
    CompletedAfter(WorkSpecId, CompletedAfter),
    /// There were cancellations.
    HasCancellations,
}

pub(super) fn count_of(counts: &mut Counts, status: UnitStatus) -> &mut u64 {
    match status {
        UnitStatus::Available => &mut counts.available,
        UnitStatus::Delayed => &mut counts.delayed,
        UnitStatus::Pending => &mut counts.pending,
        UnitStatus::Finished => &mut counts.finished,
        UnitStatus::Failed => &mut counts.failed,
    }
}
