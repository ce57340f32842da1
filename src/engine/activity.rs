//! What has happened in each work spec since the start, in memory, and what of it the history does not tell yet.

use crate::clock::Timestamp;
use crate::coordinate::{AttemptEnd, Event, Happening, Period, Tally, WorkSpecId};
use crate::counting::Histogram;
use std::collections::BTreeMap;

/// Bounds for how long units wait and attempts run, in seconds: from moments to a day.
const TIME_BOUNDS: [f64; 10] = [
    0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0,
];

/// Entries of deleted work specs that may be left.
const LEFTOVERS_MAX: usize = 1_000;

/// What has happened in a work spec, or in all.
#[derive(Clone, Copy, Debug)]
pub struct Activity {
    /// Units that were added, or added again.
    pub added: u64,
    /// Attempts that began.
    pub started: u64,
    /// When the last one of them did.
    pub last_started: Option<Timestamp>,
    /// Attempts that ended, in the order of [`AttemptEnd::ALL`].
    pub ended: [u64; AttemptEnd::ALL.len()],
    /// Late reports that did not count, and that did.
    pub late_reports: [u64; 2],
    /// How long units waited until they were handed out, in seconds.
    pub waited: Histogram<{ TIME_BOUNDS.len() }>,
    /// How long attempts ran, in seconds.
    pub run: Histogram<{ TIME_BOUNDS.len() }>,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            added: 0,
            started: 0,
            last_started: None,
            ended: [0; AttemptEnd::ALL.len()],
            late_reports: [0; 2],
            waited: Histogram::new(&TIME_BOUNDS),
            run: Histogram::new(&TIME_BOUNDS),
        }
    }
}

impl Activity {
    fn count(&mut self, event: Event) {
        match event {
            Event::Added(units) => self.added += units,
            Event::Started { at, waited } => {
                self.started += 1;
                self.last_started = Some(at);
                if let Some(waited) = waited {
                    self.waited.observe(waited.as_secs_f64());
                }
            }
            Event::Ended(end, time) => {
                self.ended[end as usize] += 1;
                self.run.observe(time.as_secs_f64());
            }
            Event::LateReport(counts) => self.late_reports[usize::from(counts)] += 1,
        }
    }

    /// Adds that of another work spec.
    pub(super) fn add(&mut self, other: &Self) {
        self.added += other.added;
        self.started += other.started;
        self.last_started = self.last_started.max(other.last_started);
        for (count, more) in self.ended.iter_mut().zip(other.ended) {
            *count += more;
        }
        for (count, more) in self.late_reports.iter_mut().zip(other.late_reports) {
            *count += more;
        }
        self.waited.add(&other.waited);
        self.run.add(&other.run);
    }
}

/// What has happened in a work spec.
#[derive(Debug, Default)]
struct OfSpec {
    activity: Activity,
    /// In the present minute, without what the history tells already.
    tally: Tally,
}

/// What has happened, by work spec and in all.
#[derive(Debug, Default)]
pub(super) struct Activities {
    /// In all work specs, the deleted ones included.
    pub(super) all: Activity,
    by_spec: BTreeMap<WorkSpecId, OfSpec>,
    /// The minute that the tallies are of.
    minute: Timestamp,
    /// Tallies that are complete for now, to be added to the history.
    unwritten: Vec<(WorkSpecId, Timestamp, Tally)>,
    /// True if there are tallies of the present minute.
    has_tallies: bool,
    /// How many entries there may be before those of deleted work specs are removed.
    len_max: usize,
}

impl Activities {
    /// Counts what has happened now. `is_there` tells whether a work spec still exists.
    pub(super) fn count(
        &mut self,
        now: Timestamp,
        happened: impl Iterator<Item = Happening>,
        is_there: impl Fn(WorkSpecId) -> bool,
    ) {
        let minute = Period::Minute.start(now);
        if minute != self.minute {
            self.end_tallies();
            self.minute = minute;
        }
        for Happening { work_spec, event } in happened {
            self.all.count(event);
            let of_spec = self.by_spec.entry(work_spec).or_default();
            of_spec.activity.count(event);
            of_spec.tally.count(event);
            self.has_tallies = true;
        }
        if self.by_spec.len() > self.len_max {
            self.by_spec.retain(|id, _| is_there(*id));
            // So going through them costs little for each that was added since.
            self.len_max = self.by_spec.len() * 2 + LEFTOVERS_MAX;
        }
    }

    /// What has happened in a work spec.
    pub(super) fn of(&self, work_spec: WorkSpecId) -> Activity {
        let of_spec = self.by_spec.get(&work_spec);
        of_spec.map_or_else(Activity::default, |of_spec| of_spec.activity)
    }

    /// True if there is something that the history does not tell.
    pub(super) fn has_unwritten(&self) -> bool {
        self.has_tallies || !self.unwritten.is_empty()
    }

    /// Makes the tallies ready to be added to the history.
    pub(super) fn end_tallies(&mut self) {
        if !std::mem::take(&mut self.has_tallies) {
            return;
        }
        for (id, of_spec) in &mut self.by_spec {
            let tally = std::mem::take(&mut of_spec.tally);
            if tally != Tally::default() {
                self.unwritten.push((*id, self.minute, tally));
            }
        }
    }

    /// The next tallies to be added to the history, at most `max`: work specs, minutes, and what happened.
    pub(super) fn unwritten(&self, max: usize) -> &[(WorkSpecId, Timestamp, Tally)] {
        let from = self.unwritten.len().saturating_sub(max);
        self.unwritten.get(from..).unwrap_or_default()
    }

    /// Forgets these tallies, since the history tells them now.
    pub(super) fn forget_written(&mut self, count: usize) {
        let left = self.unwritten.len().saturating_sub(count);
        self.unwritten.truncate(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_specs_that_come_and_go_leave_no_more_than_a_bounded_number_of_entries() {
        let mut activities = Activities::default();
        for id in 0..100_000 {
            let happening = Happening {
                work_spec: WorkSpecId(id),
                event: Event::Added(1),
            };
            let is_there = |there: WorkSpecId| there.0 == 7 || there.0 == id;
            activities.count(Timestamp(0), [happening].into_iter(), is_there);
            assert!(activities.by_spec.len() <= LEFTOVERS_MAX + 5);
        }
        assert_eq!(activities.all.added, 100_000);
        assert_eq!(activities.of(WorkSpecId(7)).added, 1);
    }

    #[test]
    fn what_happened_in_a_minute_is_written_once_with_its_minute() {
        const SPEC: WorkSpecId = WorkSpecId(1);
        let at = |seconds: i64| Timestamp(seconds * 1_000_000);
        let mut activities = Activities::default();
        let add = |activities: &mut Activities, seconds, units| {
            let happening = Happening {
                work_spec: SPEC,
                event: Event::Added(units),
            };
            activities.count(at(seconds), [happening].into_iter(), |_| true);
        };
        let units = |activities: &Activities| -> Vec<_> {
            let unwritten = activities.unwritten(10).iter();
            unwritten
                .map(|(_, minute, tally)| (*minute, tally.added))
                .collect()
        };
        assert!(!activities.has_unwritten());
        add(&mut activities, 61, 1);
        add(&mut activities, 119, 2);
        assert!(activities.has_unwritten() && units(&activities).is_empty());
        add(&mut activities, 120, 4);
        assert_eq!(units(&activities), [(at(60), 3)]);
        activities.end_tallies();
        assert_eq!(units(&activities), [(at(60), 3), (at(120), 4)]);
        activities.forget_written(1);
        add(&mut activities, 125, 8);
        activities.end_tallies();
        assert_eq!(units(&activities), [(at(60), 3), (at(120), 8)]);
        activities.forget_written(2);
        activities.end_tallies();
        assert!(!activities.has_unwritten());
        assert_eq!(activities.of(SPEC).added, 15);
    }
}
