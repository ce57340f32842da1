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
    /// The name of the work spec; empty for several.
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
    fn of(spec: &WorkSpec, name: Name, activity: Activity) -> Self {
        Self {
            name,
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
        // The store is not borrowed mutably, so there can't be a query.
        let state = |spec: &WorkSpec, name| SpecState::of(spec, name, self.activities.of(spec.id));
        let mut specs: Vec<&WorkSpec> = match shown {
            Shown::Only(name) => {
                let found = self.store.find_work_spec(self.namespace, name);
                found.into_iter().collect()
            }
            Shown::Oldest(_) => self.store.work_specs(self.namespace).collect(),
        };
        let work_specs_total = specs.len();
        let mut others = None::<SpecState>;
        if let Shown::Oldest(max) = shown
            && specs.len() > *max
        {
            specs.select_nth_unstable_by_key(*max, |spec| spec.id);
            for spec in specs.drain(*max..) {
                let state = state(spec, Name::from_bytes([]));
                match &mut others {
                    Some(others) => others.add(&state),
                    None => others = Some(state),
                }
            }
        }
        specs.sort_unstable_by_key(|spec| spec.id);
        let shown = specs.into_iter().map(|spec| state(spec, spec.name.clone()));
        let overdue = self.store.due().map(|due| now.since(due));
        Snapshot {
            namespace: self.settings.namespace.clone(),
            work_specs: shown.collect(),
            others,
            work_specs_total,
            all: self.activities.all,
            totals: self.totals,
            overdue: overdue.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;
    use crate::coordinate::storage::Access;
    use crate::coordinate::{IfExists, NewUnit};
    use crate::limits::RequestLimits;
    use crate::store::{Options, SqliteStore};
    use coordinated_client::cbor::{Item, Writer};
    use rand::SeedableRng;
    use rand::rngs::SmallRng;
    use std::path::Path;

    const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

    fn engine() -> Engine<SqliteStore> {
        let store = SqliteStore::open(Path::new(":memory:"), &Options::default(), NOW);
        let random = Box::new(SmallRng::seed_from_u64(1));
        let engine = Engine::new(store.expect("it opens"), Settings::default(), random, NOW);
        engine.expect("it starts")
    }

    fn set_spec(engine: &mut Engine<SqliteStore>, name: &str) {
        let mut definition = Vec::new();
        let mut writer = Writer::new(&mut definition);
        writer.map(1);
        writer.bytes(b"name");
        writer.bytes(name.as_bytes());
        let set = engine.run(Access::Write, NOW, |mut operation| {
            operation.set_work_spec(Item::from_checked(&definition))
        });
        set.expect("it is set");
    }

    fn add_unit(engine: &mut Engine<SqliteStore>, spec: &str) {
        // ['u', {}]
        let unit = NewUnit::from_item(
            Item::from_checked(b"\x82\x41u\xa0"),
            &RequestLimits::default(),
        );
        let unit = [unit.expect("a unit")];
        let added = engine.run(Access::Write, NOW, |mut operation| {
            operation.add_work_units(&Name::from(spec), &unit, IfExists::Reset)
        });
        added.expect("it is added");
    }

    #[test]
    fn a_snapshot_has_the_oldest_work_specs_and_one_sum() {
        let mut engine = engine();
        for number in (0..20).rev() {
            let name = format!("s{number:02}");
            set_spec(&mut engine, &name);
            add_unit(&mut engine, &name);
        }
        engine.commit().expect("it commits");
        let snapshot = engine.snapshot(&Shown::Oldest(3), NOW);
        let names = snapshot.work_specs.iter().map(|spec| &spec.name);
        let expected = ["s19", "s18", "s17"].map(Name::from);
        assert!(names.eq(&expected));
        let others = snapshot.others.expect("others");
        assert_eq!((others.work_specs, others.counts.available), (17, 17));
        assert_eq!((others.activity.added, snapshot.all.added), (17, 20));
        assert_eq!(snapshot.work_specs_total, 20);
        for enough in [20, 21] {
            let snapshot = engine.snapshot(&Shown::Oldest(enough), NOW);
            assert_eq!(snapshot.work_specs.len(), 20);
            assert!(snapshot.others.is_none());
        }
        let one = engine.snapshot(&Shown::Only(Name::from("s05")), NOW);
        assert_eq!((one.work_specs.len(), one.others.is_none()), (1, true));
    }

    #[test]
    fn what_a_batch_did_is_counted_when_it_is_committed() {
        let mut engine = engine();
        set_spec(&mut engine, "s");
        engine.commit().expect("it commits");
        add_unit(&mut engine, "s");
        let added = |engine: &Engine<SqliteStore>| {
            engine.snapshot(&Shown::Oldest(1), NOW).work_specs[0]
                .activity
                .added
        };
        assert_eq!(added(&engine), 0);
        engine.commit().expect("it commits");
        assert_eq!(added(&engine), 1);
        let failed = engine.run(Access::Write, NOW, |operation| {
            let spec = operation.work_spec(&Name::from("s"))?.id;
            operation
                .effects
                .happened
                .push(crate::coordinate::Happening {
                    work_spec: spec,
                    event: crate::coordinate::Event::Added(1),
                });
            Err::<(), _>(crate::coordinate::Error::Refused(String::new()))
        });
        assert!(failed.is_err());
        engine.commit().expect("it commits");
        assert_eq!(added(&engine), 1);
    }
}
