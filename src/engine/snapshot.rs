//! The state of the queue at one time, for metrics. It is made from memory: it costs no query, and as much time as there
//! are work specs, of which only a limited number is shown by itself.

use super::Engine;
use super::activity::Activity;
use super::statistics::Totals;
use crate::clock::Timestamp;
use crate::coordinate::storage::Storage;
use crate::coordinate::{Counts, Name, WorkSpec};
use std::time::Duration;

/// Which work specs a snapshot shows.
#[derive(Clone, Debug)]
pub enum Shown {
    /// The oldest ones, at most this many, and the sum of the others.
    Oldest(usize),
    /// Only the one of this name.
    Only(Name),
}

/// The state of the queue at one time.
#[derive(Debug)]
pub struct Snapshot {
    /// The namespace of all of it.
    pub namespace: String,
    /// Work specs, the oldest first.
    pub work_specs: Vec<SpecState>,
    /// The sum of those that are not shown; `None` if there are no others.
    pub others: Option<SpecState>,
    /// How many work specs there are.
    pub work_specs_total: usize,
    /// What has happened in all work specs since the start, also in those that were deleted.
    pub all: Activity,
    /// Batches since the start.
    pub totals: Totals,
    /// For how long something has been due: a lease, a delay, a worker or a lock.
    pub overdue: Duration,
}

/// The state of a work spec, or of several.
#[derive(Clone, Debug)]
pub struct SpecState {
    /// The name of the work spec, or of the first one.
    pub name: Name,
    /// Its units.
    pub counts: Counts,
    /// How many work specs it is about.
    pub work_specs: u64,
    /// How many of them are paused.
    pub paused: u64,
    /// Since when there have been available units without a break.
    pub waiting_since: Option<Timestamp>,
    /// What has happened since the start.
    pub activity: Activity,
}

impl SpecState {
    fn of(spec: &WorkSpec, activity: Activity) -> Self {
        Self {
            name: spec.name.clone(),
            counts: spec.counts,
            work_specs: 1,
            paused: u64::from(spec.meta.paused.is_some()),
            waiting_since: spec.waiting_since,
            activity,
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.counts += other.counts;
        self.work_specs += other.work_specs;
        self.paused += other.paused;
        let since = [self.waiting_since, other.waiting_since];
        self.waiting_since = since.into_iter().flatten().min();
        self.activity.add(&other.activity);
    }
}

impl<S: Storage> Engine<S> {
    /// The state of the queue.
    #[must_use]
    pub fn snapshot(&self, shown: &Shown, now: Timestamp) -> Snapshot {
        let state = |spec: &WorkSpec| SpecState::of(spec, self.activities.of(spec.id));
        let mut specs: Vec<&WorkSpec> = match shown {
            Shown::Only(name) => {
                let found = self.store.find_work_spec(self.namespace, name);
                found.into_iter().collect()
            }
            Shown::Oldest(_) => self.store.work_specs(self.namespace).collect(),
        };
        let total = specs.len();
        let mut others = None::<SpecState>;
        if let Shown::Oldest(max) = shown
            && total > *max
        {
            specs.select_nth_unstable_by_key(*max, |spec| spec.id);
            for spec in specs.drain(*max..) {
                match &mut others {
                    Some(others) => others.add(&state(spec)),
                    None => others = Some(state(spec)),
                }
            }
        }
        specs.sort_unstable_by_key(|spec| spec.id);
        Snapshot {
            namespace: self.settings.namespace.clone(),
            work_specs: specs.into_iter().map(state).collect(),
            others,
            work_specs_total: total,
            all: self.activities.all,
            totals: self.totals,
            overdue: self
                .store
                .due()
                .map_or(Duration::ZERO, |due| now.since(due)),
        }
    }
}
