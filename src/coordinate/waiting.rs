//! Requests that wait: until a unit can be handed out, or until a unit has changed. Who comes next, and when.
//!
//! This is kept in memory only, since a request lasts no longer than its connection.

use super::scheduler;
use super::storage::News;
use super::{Name, WorkSpec, WorkSpecId, WorkUnitId};
use crate::clock::{ClockStep, Timestamp};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

/// Identifies a request that waits. Later ones have larger ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId(pub u64);

/// What a request waits for.
#[derive(Clone, Debug)]
pub enum WaitsFor {
    /// A unit to be handed out.
    Work {
        /// Of which work.
        work: Work,
        /// At most this many units.
        max_units: usize,
    },
    /// A change of one of these units. The work spec may also be deleted with them.
    Units(WorkSpecId, Vec<WorkUnitId>),
}

/// Which work a request asks for. Requests that ask for the same work are in one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Work {
    /// Of these work specs; of any if empty.
    pub work_specs: BTreeSet<Name>,
    /// Of specs with one of these runtimes.
    pub runtimes: BTreeSet<String>,
}

/// The requests that wait, in the order of their arrival.
///
/// A request sleeps until it is woken, and is then run again by the caller, who calls [`Waiters::remove`] if it was
/// answered, or [`Waiters::sleep_again`] otherwise. For each work spec that can give units, as many requests are woken
/// as it has units. Further ones are woken when those have run. So waking costs about as much as handing out the
/// units, however many requests wait.
#[derive(Debug, Default)]
pub struct Waiters {
    last_id: u64,
    waiters: HashMap<WaiterId, Waiter>,
    ends: BTreeSet<(Timestamp, WaiterId)>,
    groups: Groups,
    /// The sleeping requests that wait for a unit, and those that wait for units of a work spec.
    by_unit: HashMap<WorkUnitId, BTreeSet<WaiterId>>,
    by_work_spec: HashMap<WorkSpecId, BTreeSet<WaiterId>>,
    /// Work specs that may be able to give units to requests that sleep.
    able: BTreeSet<WorkSpecId>,
    /// When another one is able to give by then, if nothing else happens.
    able_at: Option<Timestamp>,
    /// Requests that are to run.
    woken: VecDeque<WaiterId>,
    /// How many requests were woken for a work spec and have not run yet.
    searching: HashMap<WorkSpecId, usize>,
}

#[derive(Debug)]
struct Waiter {
    aim: Aim,
    end: Timestamp,
    state: State,
}

#[derive(Debug)]
enum Aim {
    Work(GroupId, usize),
    Units(WorkSpecId, Vec<WorkUnitId>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asleep,
    /// It was woken because this work spec may have a unit for it.
    Searching(WorkSpecId),
    /// It was woken because one of its units has changed.
    Looking,
    /// It must not wait any longer.
    Over,
}

impl Waiters {
    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// True if a request waits for work.
    #[must_use]
    pub fn want_work(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Lets a request sleep, until `end` at the latest.
    pub fn begin(&mut self, waits_for: WaitsFor, end: Timestamp) -> WaiterId {
        self.last_id += 1;
        let id = WaiterId(self.last_id);
        let aim = match waits_for {
            WaitsFor::Work { work, max_units } => Aim::Work(self.groups.join(work), max_units),
            WaitsFor::Units(spec, units) => Aim::Units(spec, units),
        };
        let state = State::Asleep;
        let waiter = Waiter { aim, end, state };
        self.ends.insert((end, id));
        self.enqueue(id, &waiter.aim);
        self.waiters.insert(id, waiter);
        id
    }

    /// Lets a request sleep again that was woken and has got nothing. It keeps its place.
    pub fn sleep_again(&mut self, id: WaiterId, waits_for: WaitsFor) {
        let Some(mut waiter) = self.waiters.remove(&id) else {
            return;
        };
        if let State::Searching(spec) = waiter.state {
            self.end_search(spec);
            // It is noted again when it can give more.
            self.able.remove(&spec);
        }
        if let WaitsFor::Units(spec, units) = waits_for {
            // One of them may have been deleted, and another one may have its name.
            waiter.aim = Aim::Units(spec, units);
        }
        waiter.state = State::Asleep;
        self.enqueue(id, &waiter.aim);
        self.waiters.insert(id, waiter);
    }

    /// Ends the wait of a request, which the caller runs once more.
    pub fn end(&mut self, id: WaiterId) {
        let Some(mut waiter) = self.waiters.remove(&id) else {
            return;
        };
        self.dequeue(id, &waiter);
        waiter.state = State::Over;
        self.waiters.insert(id, waiter);
    }

    /// True if a request must not wait any longer.
    #[must_use]
    pub fn is_over(&self, id: WaiterId) -> bool {
        let waiter = self.waiters.get(&id);
        waiter.is_none_or(|waiter| waiter.state == State::Over)
    }

    /// Forgets a request, since it was answered, or since its connection is closed.
    pub fn remove(&mut self, id: WaiterId) {
        let Some(waiter) = self.waiters.remove(&id) else {
            return;
        };
        self.dequeue(id, &waiter);
        self.ends.remove(&(waiter.end, id));
        if let Aim::Work(group, _) = waiter.aim {
            self.groups.leave(group);
        }
    }

    /// Notes what has changed.
    pub fn note(&mut self, news: News) {
        self.able.extend(news.able);
        self.able_at = news.able_at;
        let mut changed = BTreeSet::new();
        for unit in news.units {
            changed.extend(self.by_unit.get(&unit).into_iter().flatten());
        }
        for spec in news.gone {
            changed.extend(self.by_work_spec.get(&spec).into_iter().flatten());
        }
        if news.is_reloaded {
            changed.extend(self.by_work_spec.values().flatten());
        }
        for id in changed {
            self.wake(id, State::Looking);
        }
    }

    /// When [`Waiters::next`] has another one, if nothing else happens.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        let end = self.ends.first().map(|(end, _)| *end);
        let able_at = self.able_at.filter(|_| self.want_work());
        [end, able_at].into_iter().flatten().min()
    }

    /// The next request that is to run. `spec` finds work specs.
    pub fn next<'s>(
        &mut self,
        now: Timestamp,
        spec: impl Fn(WorkSpecId) -> Option<&'s WorkSpec>,
    ) -> Option<WaiterId> {
        while let Some((end, id)) = self.ends.first().copied()
            && end <= now
        {
            self.ends.remove(&(end, id));
            if self
                .waiters
                .get(&id)
                .is_some_and(|waiter| waiter.state == State::Asleep)
            {
                self.wake(id, State::Over);
            } else {
                self.end(id);
            }
        }
        if !self.able.is_empty() {
            self.wake_for_work(now, spec);
        }
        self.woken.pop_front()
    }

    /// Wakes the first requests for each work spec that can give, as many as it has units for, unless those that were
    /// woken for it have not run yet.
    fn wake_for_work<'s>(
        &mut self,
        now: Timestamp,
        spec: impl Fn(WorkSpecId) -> Option<&'s WorkSpec>,
    ) {
        let mut first = BTreeSet::new();
        for id in std::mem::take(&mut self.able) {
            if self.searching.contains_key(&id) {
                self.able.insert(id);
                continue;
            }
            let Some(spec) = spec(id) else { continue };
            let mut units = scheduler::units_to_give(spec, now);
            while units > 0
                && let Some(waiter) = self.groups.first_for(spec)
            {
                self.able.insert(id);
                units = units.saturating_sub(self.wake_to_search(waiter, id));
                first.insert(waiter);
            }
        }
        self.woken.extend(first);
    }

    /// Takes a request out of its queue. Returns how many units it asks for.
    fn wake_to_search(&mut self, id: WaiterId, spec: WorkSpecId) -> usize {
        let Some(waiter) = self.waiters.get_mut(&id) else {
            return 0;
        };
        waiter.state = State::Searching(spec);
        *self.searching.entry(spec).or_default() += 1;
        match waiter.aim {
            Aim::Work(group, max_units) => {
                self.groups.dequeue(group, id);
                max_units.max(1)
            }
            Aim::Units(..) => 0,
        }
    }

    fn wake(&mut self, id: WaiterId, state: State) {
        let Some(mut waiter) = self.waiters.remove(&id) else {
            return;
        };
        self.dequeue(id, &waiter);
        waiter.state = state;
        self.waiters.insert(id, waiter);
        self.woken.push_back(id);
    }

    fn enqueue(&mut self, id: WaiterId, aim: &Aim) {
        match aim {
            Aim::Work(group, _) => self.groups.enqueue(*group, id),
            Aim::Units(spec, units) => {
                for unit in units {
                    self.by_unit.entry(*unit).or_default().insert(id);
                }
                self.by_work_spec.entry(*spec).or_default().insert(id);
            }
        }
    }

    /// Takes a request out of where it sleeps, or notes that it does not search any more.
    fn dequeue(&mut self, id: WaiterId, waiter: &Waiter) {
        match (waiter.state, &waiter.aim) {
            (State::Searching(spec), _) => self.end_search(spec),
            (State::Asleep, Aim::Work(group, _)) => self.groups.dequeue(*group, id),
            (State::Asleep, Aim::Units(spec, units)) => {
                for unit in units {
                    remove_from(&mut self.by_unit, unit, &id);
                }
                remove_from(&mut self.by_work_spec, spec, &id);
            }
            (State::Looking | State::Over, _) => {}
        }
    }

    /// Notes that one of the requests that were woken for a work spec has run, or never will.
    fn end_search(&mut self, spec: WorkSpecId) {
        if let Some(count) = self.searching.get_mut(&spec) {
            *count -= 1;
            if *count == 0 {
                self.searching.remove(&spec);
            }
        }
    }

    /// Moves the times in it by a step of the clock.
    pub fn move_times(&mut self, step: ClockStep) {
        self.able_at = self.able_at.map(|at| at.moved(step));
        for waiter in self.waiters.values_mut() {
            waiter.end = waiter.end.moved(step);
        }
        let ends = std::mem::take(&mut self.ends);
        self.ends = ends
            .into_iter()
            .map(|(end, id)| (end.moved(step), id))
            .collect();
    }
}

/// Removes a value from the set of a key, and the set with its last value.
fn remove_from<K: Hash + Eq, V: Ord>(sets: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct GroupId(u64);

/// The requests for work, in groups that ask for the same.
#[derive(Debug, Default)]
struct Groups {
    last_id: u64,
    ids: HashMap<Work, GroupId>,
    groups: HashMap<GroupId, Group>,
    /// The groups that name a work spec.
    by_name: HashMap<Name, BTreeSet<GroupId>>,
    /// The groups that name none, by each of their runtimes.
    by_runtime: HashMap<String, BTreeSet<GroupId>>,
}

#[derive(Debug)]
struct Group {
    work: Work,
    /// How many requests are in it, asleep or not.
    members: usize,
    asleep: BTreeSet<WaiterId>,
}

impl Groups {
    fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The group that asks for this work, with another member.
    fn join(&mut self, work: Work) -> GroupId {
        if let Some(id) = self.ids.get(&work) {
            if let Some(group) = self.groups.get_mut(id) {
                group.members += 1;
            }
            return *id;
        }
        self.last_id += 1;
        let id = GroupId(self.last_id);
        for name in &work.work_specs {
            self.by_name.entry(name.clone()).or_default().insert(id);
        }
        if work.work_specs.is_empty() {
            for runtime in &work.runtimes {
                let of_runtime = self.by_runtime.entry(runtime.clone()).or_default();
                of_runtime.insert(id);
            }
        }
        self.ids.insert(work.clone(), id);
        let asleep = BTreeSet::new();
        let group = Group {
            work,
            members: 1,
            asleep,
        };
        self.groups.insert(id, group);
        id
    }

    /// Takes a member out of a group, and the group with its last member.
    fn leave(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else {
            return;
        };
        group.members -= 1;
        if group.members > 0 {
            return;
        }
        let Some(Group { work, .. }) = self.groups.remove(&id) else {
            return;
        };
        self.ids.remove(&work);
        for name in &work.work_specs {
            remove_from(&mut self.by_name, name, &id);
        }
        if work.work_specs.is_empty() {
            for runtime in &work.runtimes {
                remove_from(&mut self.by_runtime, runtime, &id);
            }
        }
    }

    fn enqueue(&mut self, id: GroupId, waiter: WaiterId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.asleep.insert(waiter);
        }
    }

    fn dequeue(&mut self, id: GroupId, waiter: WaiterId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.asleep.remove(&waiter);
        }
    }

    /// The first sleeping request that takes units of this work spec.
    fn first_for(&self, spec: &WorkSpec) -> Option<WaiterId> {
        let runtime = &spec.meta.runtime;
        let naming = self.by_name.get(&spec.name).into_iter().flatten();
        let taking_any = self.by_runtime.get(runtime).into_iter().flatten();
        naming
            .chain(taking_any)
            .filter_map(|id| self.groups.get(id))
            .filter(|group| group.work.runtimes.contains(runtime))
            .filter_map(|group| group.asleep.first().copied())
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::EMPTY_DEFINITION;
    use super::super::work_spec::{Counts, Meta, Recent};
    use super::*;
    use coordinated_client::cbor::Item;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What happens to the work specs 0 to 2, or to those that wait.
    #[derive(Clone, Debug)]
    enum Event {
        /// A request comes that asks for these specs, of any if there are none, and of one of two runtimes.
        Ask(BTreeSet<u8>, bool, usize, i64),
        /// A spec gets this many units.
        Add(u8, u64),
        /// A spec gets a limit of running units, or none.
        Limit(u8, Option<u64>),
        /// The connection of one of those that wait is closed.
        Close(usize),
        /// Time passes.
        Pass(i64),
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let spec = || 0..3_u8;
        prop_oneof![
            3 => (prop::collection::btree_set(spec(), 0..3), any::<bool>(), 1..4_usize, 1..9_i64)
                .prop_map(|(specs, go, max, wait)| Event::Ask(specs, go, max, wait)),
            3 => (spec(), 1..5_u64).prop_map(|(spec, units)| Event::Add(spec, units)),
            1 => (spec(), prop::option::of(0..4_u64)).prop_map(|(spec, max)| Event::Limit(spec, max)),
            1 => (0..9_usize).prop_map(Event::Close),
            1 => (1..4_i64).prop_map(Event::Pass),
        ]
    }

    /// A work spec; the last one has a runtime.
    fn new_spec(id: u8) -> WorkSpec {
        let mut meta =
            Meta::from_definition(Item::from_checked(EMPTY_DEFINITION)).expect("defaults");
        meta.runtime = if id == 2 { "go" } else { "" }.to_owned();
        WorkSpec {
            id: WorkSpecId(i64::from(id)),
            name: Name::from_text(id.to_string()),
            meta,
            counts: Counts::default(),
            waiting_since: None,
            groups_are_full: false,
            recent: Recent::default(),
        }
    }

    /// One that waits, as the test knows it.
    struct Asker {
        work: Work,
        max_units: usize,
        end: i64,
    }

    impl Asker {
        fn takes(&self, spec: &WorkSpec) -> bool {
            let names = &self.work.work_specs;
            self.work.runtimes.contains(&spec.meta.runtime)
                && (names.is_empty() || names.contains(&spec.name))
        }
    }

    proptest! {
        /// After each event every unit that somebody waits for has gone to one of those that wait, in order of arrival
        /// among those who ask for the same; and nobody runs who gets nothing, unless another one took more than one.
        #[test]
        fn no_unit_waits_while_a_request_does_that_takes_it(
            events in prop::collection::vec(any_event(), 1..80),
        ) {
            let mut specs: Vec<WorkSpec> = (0..3).map(new_spec).collect();
            let mut waiters = Waiters::default();
            let mut askers: BTreeMap<WaiterId, Asker> = BTreeMap::new();
            let mut now = 0;
            for event in events {
                let could = specs.iter().map(|spec| scheduler::units_to_give(spec, Timestamp(now)) > 0);
                let could: Vec<bool> = could.collect();
                match event {
                    Event::Ask(names, go, max_units, wait) => {
                        let name = |id: u8| Name::from_text(id.to_string());
                        let work = Work {
                            work_specs: names.into_iter().map(name).collect(),
                            runtimes: [if go { "go" } else { "" }.to_owned()].into(),
                        };
                        let asker = Asker { work: work.clone(), max_units, end: now + wait };
                        // One that gets something at once does not wait.
                        let able = |spec: &WorkSpec| scheduler::units_to_give(spec, Timestamp(now)) > 0;
                        if !specs.iter().any(|spec| able(spec) && asker.takes(spec)) {
                            let waits_for = WaitsFor::Work { work, max_units };
                            askers.insert(waiters.begin(waits_for, Timestamp(asker.end)), asker);
                        }
                    }
                    Event::Add(spec, units) => specs[usize::from(spec)].counts.available += units,
                    Event::Limit(spec, max) => specs[usize::from(spec)].meta.max_running = max,
                    Event::Close(index) => {
                        if let Some(id) = askers.keys().nth(index).copied() {
                            askers.remove(&id);
                            waiters.remove(id);
                        }
                    }
                    Event::Pass(time) => now += time,
                }
                let at = Timestamp(now);
                let able = specs.iter().zip(could).filter(|(spec, could)| {
                    !could && scheduler::units_to_give(spec, at) > 0
                });
                let able = able.map(|(spec, _)| spec.id).collect();
                waiters.note(News { able, ..News::default() });
                let mut runs = 0;
                loop {
                    let find = |id: WorkSpecId| specs.iter().find(|spec| spec.id == id);
                    let Some(id) = waiters.next(at, find) else { break };
                    runs += 1;
                    prop_assert!(runs < 100, "they are woken over and over");
                    let Some(asker) = askers.get(&id) else { continue };
                    if waiters.is_over(id) {
                        prop_assert!(asker.end <= now);
                        waiters.remove(id);
                        askers.remove(&id);
                        continue;
                    }
                    let given = specs.iter_mut().find(|spec| {
                        scheduler::units_to_give(spec, at) > 0 && asker.takes(spec)
                    });
                    let Some(spec) = given else {
                        let (work, max_units) = (asker.work.clone(), asker.max_units);
                        waiters.sleep_again(id, WaitsFor::Work { work, max_units });
                        continue;
                    };
                    let first = askers.iter().find(|(_, other)| other.work == asker.work);
                    prop_assert_eq!(first.map(|(id, _)| *id), Some(id), "another one came before");
                    let units = scheduler::units_to_give(spec, at).min(asker.max_units) as u64;
                    spec.counts.available -= units;
                    spec.counts.pending += units;
                    waiters.remove(id);
                    askers.remove(&id);
                }
                for spec in &specs {
                    let units = scheduler::units_to_give(spec, at);
                    let waits = askers.values().any(|asker| asker.takes(spec));
                    prop_assert!(units == 0 || !waits, "{} units are left", units);
                }
                for asker in askers.values() {
                    prop_assert!(asker.end > now);
                }
                let next = askers.values().map(|asker| Timestamp(asker.end)).min();
                prop_assert_eq!(waiters.next_at(), next);
            }
            for id in askers.into_keys() {
                waiters.remove(id);
            }
            prop_assert!(waiters.is_empty() && !waiters.want_work());
            prop_assert!(waiters.groups.by_name.is_empty() && waiters.groups.by_runtime.is_empty());
            prop_assert!(waiters.searching.is_empty() && waiters.ends.is_empty());
        }
    }
}
