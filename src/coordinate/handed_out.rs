//! What was handed out, to a connection and to each worker: by this, late reports are told from timely ones.

use super::{AttemptId, Name, NamespaceId, WorkUnitId};
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

/// The attempts that were handed out on one connection, by which late reports are told from timely
/// ones. The oldest are forgotten beyond a limit.
#[derive(Debug)]
pub struct HandedOut {
    attempts: VecDeque<Entry>,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    unit: WorkUnitId,
    attempt: AttemptId,
    /// Of the names of the work spec and the unit, by which another unit of the same name is known.
    names_hash: u64,
}

impl HandedOut {
    /// A memory for at most `limit` attempts.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            attempts: VecDeque::new(),
            limit,
        }
    }

    /// Notes that `attempt` at `unit` was handed out here.
    pub fn remember(
        &mut self,
        unit: WorkUnitId,
        attempt: AttemptId,
        work_spec: &Name,
        name: &Name,
    ) {
        if self.attempts.len() >= self.limit {
            self.attempts.pop_front();
        }
        let names_hash = hash(&(work_spec, name));
        self.attempts.push_back(Entry {
            unit,
            attempt,
            names_hash,
        });
    }

    /// The attempts at `unit` that were handed out here, the last one first. The newest are looked at
    /// first, since reports are mostly about them.
    pub fn attempts_at(&self, unit: WorkUnitId) -> impl Iterator<Item = AttemptId> {
        let newest_first = self.attempts.iter().rev();
        newest_first
            .filter(move |entry| entry.unit == unit)
            .map(|entry| entry.attempt)
    }

    /// True if another unit than `unit` was handed out here under its name: one that has been deleted.
    #[must_use]
    pub fn has_namesake_of(&self, unit: WorkUnitId, work_spec: &Name, name: &Name) -> bool {
        let names_hash = hash(&(work_spec, name));
        let mut attempts = self.attempts.iter();
        attempts.any(|entry| entry.names_hash == names_hash && entry.unit != unit)
    }
}

/// Which unit was last handed out to each worker under each name, on whatever connection: a worker that says who it
/// is may mean one that has been deleted since. Those that were remembered first are forgotten beyond a limit.
#[derive(Debug)]
pub(super) struct HandedOutByWorker {
    /// By a hash of the namespace and the names of the worker, the work spec and the unit.
    units: HashMap<u64, WorkUnitId>,
    /// The keys in the order in which they came.
    order: VecDeque<u64>,
    limit: usize,
}

impl HandedOutByWorker {
    /// A memory for at most `limit` units.
    #[must_use]
    pub(super) fn new(limit: usize) -> Self {
        Self {
            units: HashMap::new(),
            order: VecDeque::new(),
            limit,
        }
    }

    /// Remembers a unit that was handed out.
    pub(super) fn remember(&mut self, handed_out: HandedOutUnit) {
        let HandedOutUnit { key, unit } = handed_out;
        if self.units.insert(key, unit).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > self.limit
            && let Some(first) = self.order.pop_front()
        {
            self.units.remove(&first);
        }
    }

    /// True if another unit than `unit` was handed out to `worker` under its name: one that has been deleted.
    #[must_use]
    pub(super) fn has_namesake_of(
        &self,
        namespace: NamespaceId,
        worker: &Name,
        unit: WorkUnitId,
        work_spec: &Name,
        name: &Name,
    ) -> bool {
        let given = self.units.get(&hash(&(namespace, worker, work_spec, name)));
        given.is_some_and(|given| *given != unit)
    }
}

/// A unit that was handed out to a worker, as [`HandedOutByWorker`] remembers it.
#[derive(Debug)]
pub(super) struct HandedOutUnit {
    /// A hash of the namespace and the names of the worker, the work spec and the unit.
    key: u64,
    unit: WorkUnitId,
}

impl HandedOutUnit {
    /// `unit`, which `worker` got under these names.
    pub(super) fn new(
        namespace: NamespaceId,
        worker: &Name,
        unit: WorkUnitId,
        work_spec: &Name,
        name: &Name,
    ) -> Self {
        let key = hash(&(namespace, worker, work_spec, name));
        Self { key, unit }
    }
}

fn hash(names: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: NamespaceId = NamespaceId(1);

    #[test]
    fn the_last_attempt_of_a_unit_is_remembered_and_the_oldest_forgotten() {
        let spec = Name::from_text("spec");
        let mut handed_out = HandedOut::new(3);
        let mut remember = |unit: i64, attempt| {
            let name = Name::from_text(unit.to_string());
            handed_out.remember(WorkUnitId(unit), AttemptId(attempt), &spec, &name);
        };
        for (unit, attempt) in [(2, 20), (1, 10), (1, 11), (3, 30)] {
            remember(unit, attempt);
        }
        let attempts_at = |unit| handed_out.attempts_at(WorkUnitId(unit)).collect::<Vec<_>>();
        assert_eq!(attempts_at(1), [AttemptId(11), AttemptId(10)]);
        assert_eq!(attempts_at(2), []);
        let named = |text: &str| Name::from_bytes(text);
        assert!(handed_out.has_namesake_of(WorkUnitId(9), &spec, &named("3")));
        assert!(!handed_out.has_namesake_of(WorkUnitId(3), &spec, &named("3")));
        assert!(!handed_out.has_namesake_of(WorkUnitId(9), &spec, &named("2")));
    }

    #[test]
    fn the_last_unit_of_a_name_that_a_worker_got_is_remembered_and_the_first_ones_are_forgotten() {
        let (spec, other_spec) = (Name::from_text("spec"), Name::from_text("other"));
        let (worker, other) = (Name::from_text("w"), Name::from_text("v"));
        let unit = |number: i64| (WorkUnitId(number), Name::from_text("u"));
        let mut by_worker = HandedOutByWorker::new(2);
        for number in [1, 2] {
            let (id, name) = unit(number);
            by_worker.remember(HandedOutUnit::new(HOME, &worker, id, &spec, &name));
        }
        let (id, name) = unit(2);
        assert!(!by_worker.has_namesake_of(HOME, &worker, id, &spec, &name));
        let (id, name) = unit(3);
        assert!(by_worker.has_namesake_of(HOME, &worker, id, &spec, &name));
        assert!(!by_worker.has_namesake_of(HOME, &other, id, &spec, &name));
        assert!(!by_worker.has_namesake_of(HOME, &worker, id, &other_spec, &name));
        assert!(!by_worker.has_namesake_of(NamespaceId(2), &worker, id, &spec, &name));
        by_worker.remember(HandedOutUnit::new(
            HOME,
            &other,
            WorkUnitId(4),
            &spec,
            &name,
        ));
        assert!(by_worker.has_namesake_of(HOME, &worker, id, &spec, &name));
        by_worker.remember(HandedOutUnit::new(
            HOME,
            &other,
            WorkUnitId(5),
            &other_spec,
            &name,
        ));
        assert!(!by_worker.has_namesake_of(HOME, &worker, id, &spec, &name));
        assert!(by_worker.has_namesake_of(HOME, &other, id, &spec, &name));
    }
}
