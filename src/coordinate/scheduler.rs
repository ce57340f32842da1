//! Which work spec gives the next unit, and why another one does not.

use super::WorkSpecId;
use super::reason::Reason;
use super::work_spec::WorkSpec;
use crate::clock::Timestamp;
use rand::{Rng, RngExt};
use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What keeps a work spec from giving units, whether it has any or not.
pub(super) fn holds(spec: &WorkSpec) -> impl Iterator<Item = Reason> {
    let (meta, counts) = (&spec.meta, &spec.counts);
    let has_all_running = |max: &u64| counts.pending >= *max;
    [
        meta.paused.clone().map(Reason::Paused),
        (meta.weight <= 0).then_some(Reason::NoWeight(meta.weight)),
        meta.max_running
            .filter(has_all_running)
            .map(Reason::MaxRunning),
        meta.max_running_per_group
            .filter(|_| spec.groups_are_full)
            .map(Reason::GroupsFull),
    ]
    .into_iter()
    .flatten()
}

/// Why a work spec has no unit to give and may not make one; `None` if it has one or may make one.
pub(super) fn lack_of_work(spec: &WorkSpec, now: Timestamp) -> Option<Reason> {
    let (meta, counts) = (&spec.meta, &spec.counts);
    if counts.available > 0 {
        None
    } else if let Some(until) = meta.schedule.as_ref().and_then(|schedule| schedule.next) {
        Some(Reason::Scheduled { until })
    } else if !meta.continuous {
        Some(Reason::NoWork(*counts))
    } else if counts.pending > 0 {
        Some(Reason::ContinuousRunning)
    } else {
        let next = meta.next_continuous.filter(|next| *next > now);
        next.map(|until| Reason::Interval { until })
    }
}

/// That a work spec has handed out as many units as its `max_rate` allows for the time being.
pub(super) fn rate_limit(spec: &WorkSpec, now: Timestamp) -> Option<Reason> {
    let rate = spec.meta.max_rate?;
    let until = rate.next_at(spec.recent.full_at, now)?;
    Some(Reason::MaxRate { rate, until })
}

/// True if a work spec could give a unit now to a worker that asks for it.
pub(super) fn can_give(spec: &WorkSpec, now: Timestamp) -> bool {
    holds(spec).next().is_none()
        && lack_of_work(spec, now).is_none()
        && rate_limit(spec, now).is_none()
}

/// How many units a work spec could give now, if workers asked for them.
pub(super) fn units_to_give(spec: &WorkSpec, now: Timestamp) -> usize {
    if !can_give(spec, now) {
        return 0;
    }
    if spec.meta.max_running_per_group.is_some() {
        // Of how many groups is not known. When that one has been handed out, the next request finds out.
        return 1;
    }
    // A continuous spec makes one when it has none.
    let there = usize::try_from(spec.counts.available.max(1)).unwrap_or(usize::MAX);
    there.min(units_allowed(spec, now))
}

/// How many units of a work spec its limits allow to be handed out now.
pub(super) fn units_allowed(spec: &WorkSpec, now: Timestamp) -> usize {
    let (meta, pending) = (&spec.meta, spec.counts.pending);
    let may_still_run = meta.max_running.map(|max| max.saturating_sub(pending));
    let by_rate = meta
        .max_rate
        .map(|rate| rate.allowed(spec.recent.full_at, now));
    let allowed = [may_still_run, by_rate].into_iter().flatten().min();
    allowed.map_or(usize::MAX, |allowed| {
        usize::try_from(allowed).unwrap_or(usize::MAX)
    })
}

/// The work specs that can give units, by what a draw depends on: so a draw costs no more for very many specs of
/// few kinds, and those that can't give cost nothing.
///
/// It knows a spec as it was when it was last put in: put it in again whenever it changes.
#[derive(Debug, Default)]
pub struct Candidates {
    places: HashMap<WorkSpecId, Place>,
    by_runtime: HashMap<String, BTreeMap<Priority, Rank>>,
    /// Those that can give from some time on.
    not_yet: BTreeSet<(Timestamp, WorkSpecId)>,
}

/// Where a spec is.
#[derive(Debug)]
enum Place {
    NotYet(Timestamp),
    Ready {
        runtime: String,
        priority: Priority,
        share: Share,
        index: usize,
    },
}

/// The candidates of one priority and runtime.
#[derive(Debug, Default)]
struct Rank {
    sums: Sums,
    /// Those with the same share have the same chance.
    by_share: BTreeMap<Share, Vec<WorkSpecId>>,
}

/// What the chance of a spec depends on, beside the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Share {
    weight: i64,
    pending: u64,
}

impl Share {
    fn of(spec: &WorkSpec) -> Self {
        Self {
            weight: spec.meta.weight,
            pending: spec.counts.pending,
        }
    }
}

/// The sums over specs of which one is drawn.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    weights: i128,
    pending: i128,
}

impl Sums {
    fn add(&mut self, share: Share) {
        self.weights += i128::from(share.weight);
        self.pending += i128::from(share.pending);
    }

    fn subtract(&mut self, share: Share) {
        self.weights -= i128::from(share.weight);
        self.pending -= i128::from(share.pending);
    }

    fn of(ranks: &[&Rank]) -> Self {
        Self {
            weights: ranks.iter().map(|rank| rank.sums.weights).sum(),
            pending: ranks.iter().map(|rank| rank.sums.pending).sum(),
        }
    }

    /// In proportion to the chance of one of them. 0 if it has more than its share.
    fn score(&self, share: Share) -> i128 {
        let (weight, pending) = (i128::from(share.weight), i128::from(share.pending));
        (weight * (self.pending + 1) - self.weights * pending).max(0)
    }
}

/// A priority, which is never NaN.
#[derive(Clone, Copy, Debug)]
struct Priority(f64);

impl Ord for Priority {
    fn cmp(&self, other: &Self) -> Ordering {
        // 0 and -0 are the same: adding 0 makes both 0.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl PartialOrd for Priority {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Priority {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Priority {}

/// Why a spec that can give is not drawn at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precedence {
    /// This one has a higher priority.
    Of(WorkSpecId),
    /// It has more than its share.
    OfTheOthers,
}

impl Candidates {
    /// Puts a work spec in as it is now, or takes it out if it can give nothing. True if it can give now, and could not
    /// before to workers of its runtime.
    pub fn put(&mut self, spec: &WorkSpec, now: Timestamp) -> bool {
        let gave_before = self.take(spec.id, &spec.meta.runtime);
        if holds(spec).next().is_some() {
            return false;
        }
        let reason = lack_of_work(spec, now).or_else(|| rate_limit(spec, now));
        let (place, gives) = match reason {
            None => (self.make_ready(spec), true),
            Some(Reason::Interval { until } | Reason::MaxRate { until, .. }) => {
                self.not_yet.insert((until, spec.id));
                (Place::NotYet(until), false)
            }
            Some(_) => return false,
        };
        self.places.insert(spec.id, place);
        gives && !gave_before
    }

    fn make_ready(&mut self, spec: &WorkSpec) -> Place {
        let (priority, share) = (Priority(spec.meta.priority), Share::of(spec));
        let runtime = spec.meta.runtime.clone();
        let ranks = self.by_runtime.entry(runtime.clone()).or_default();
        let rank = ranks.entry(priority).or_default();
        rank.sums.add(share);
        let alike = rank.by_share.entry(share).or_default();
        alike.push(spec.id);
        Place::Ready {
            runtime,
            priority,
            share,
            index: alike.len() - 1,
        }
    }

    /// Takes a work spec out.
    pub fn remove(&mut self, id: WorkSpecId) {
        self.take(id, "");
    }

    /// Takes a work spec out. True if it could give to workers of this runtime.
    fn take(&mut self, id: WorkSpecId, by: &str) -> bool {
        match self.places.remove(&id) {
            None => false,
            Some(Place::NotYet(until)) => {
                self.not_yet.remove(&(until, id));
                false
            }
            Some(Place::Ready {
                runtime,
                priority,
                share,
                index,
            }) => {
                let gave = runtime == by;
                self.remove_ready(runtime, priority, share, index);
                gave
            }
        }
    }

    fn remove_ready(&mut self, runtime: String, priority: Priority, share: Share, index: usize) {
        let Entry::Occupied(mut ranks) = self.by_runtime.entry(runtime) else {
            return;
        };
        let Some(rank) = ranks.get_mut().get_mut(&priority) else {
            return;
        };
        rank.sums.subtract(share);
        if let Some(alike) = rank.by_share.get_mut(&share) {
            alike.swap_remove(index);
            match alike.get(index) {
                // The last one has taken its place.
                Some(moved) => {
                    if let Some(Place::Ready {
                        index: of_moved, ..
                    }) = self.places.get_mut(moved)
                    {
                        *of_moved = index;
                    }
                }
                None if alike.is_empty() => drop(rank.by_share.remove(&share)),
                None => {}
            }
        }
        if rank.by_share.is_empty() {
            ranks.get_mut().remove(&priority);
            if ranks.get().is_empty() {
                ranks.remove();
            }
        }
    }

    /// A work spec that has become able to give since it was put in: put it in again.
    #[must_use]
    pub fn next_due(&self, now: Timestamp) -> Option<WorkSpecId> {
        let (until, id) = self.not_yet.first()?;
        (*until <= now).then_some(*id)
    }

    /// When the next one becomes able to give, if nothing changes until then.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.not_yet.first().map(|(until, _)| *until)
    }

    /// Chooses one of those with these runtimes: of the highest priority, at random, so that the numbers of
    /// pending units tend towards the weights (docs/protocol.md, "The scheduler").
    ///
    /// With W and P the sums of all candidates' weights and pending units, a spec's chance is in
    /// proportion to `weight * (P + 1) - W * pending`; one that has more than its share gets none.
    pub(super) fn choose<'r>(
        &self,
        runtimes: impl Iterator<Item = &'r str>,
        random: &mut dyn Rng,
    ) -> Option<WorkSpecId> {
        let (_, ranks) = self.of_highest_priority(runtimes)?;
        let sums = Sums::of(&ranks);
        let shares = || ranks.iter().flat_map(|rank| &rank.by_share);
        let score_of =
            |share: &Share, alike: &[WorkSpecId]| sums.score(*share) * alike.len() as i128;
        let scores: i128 = shares().map(|(share, alike)| score_of(share, alike)).sum();
        if scores <= 0 {
            return None;
        }
        let mut draw = random.random_range(0..scores);
        for (share, alike) in shares() {
            let score = score_of(share, alike);
            if draw < score {
                let index = usize::try_from(draw / sums.score(*share)).ok()?;
                return alike.get(index).copied();
            }
            draw -= score;
        }
        None
    }

    /// The runtimes of those that can give.
    pub(super) fn runtimes(&self) -> impl Iterator<Item = &str> {
        self.by_runtime.keys().map(AsRef::as_ref)
    }

    /// Those of the highest priority that any with these runtimes has, each runtime for itself.
    fn of_highest_priority<'r>(
        &self,
        runtimes: impl Iterator<Item = &'r str>,
    ) -> Option<(Priority, Vec<&Rank>)> {
        let mut highest: Option<(Priority, Vec<&Rank>)> = None;
        let ranks = runtimes.filter_map(|runtime| self.by_runtime.get(runtime)?.last_key_value());
        for (priority, rank) in ranks {
            match &mut highest {
                Some((best, _)) if *best > *priority => {}
                Some((best, ranks)) if *best == *priority => ranks.push(rank),
                _ => highest = Some((*priority, vec![rank])),
            }
        }
        highest
    }

    /// Why a spec that can give is not drawn at present; `None` if it may be.
    pub(super) fn precedence_over(&self, spec: &WorkSpec) -> Option<Precedence> {
        let runtimes = std::iter::once(spec.meta.runtime.as_str());
        let (priority, ranks) = self.of_highest_priority(runtimes)?;
        if priority > Priority(spec.meta.priority) {
            let mut best = ranks
                .iter()
                .flat_map(|rank| rank.by_share.values().flatten());
            return best.next().copied().map(Precedence::Of);
        }
        (Sums::of(&ranks).score(Share::of(spec)) == 0).then_some(Precedence::OfTheOthers)
    }
}

#[cfg(test)]
mod tests {
    use super::super::work_spec::{Counts, Meta, Pause, Recent};
    use super::super::{EMPTY_DEFINITION, MaxRate, Name};
    use super::*;
    use coordinated_client::cbor::Item;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn spec(id: i64, priority: f64, weight: i64, pending: u64) -> WorkSpec {
        let mut meta =
            Meta::from_definition(Item::from_checked(EMPTY_DEFINITION)).expect("defaults");
        (meta.priority, meta.weight) = (priority, weight);
        let counts = Counts {
            available: 1,
            pending,
            ..Counts::default()
        };
        WorkSpec {
            id: WorkSpecId(id),
            name: Name::from_text(id.to_string()),
            meta,
            counts,
            waiting_since: None,
            groups_are_full: false,
            recent: Recent::default(),
        }
    }

    const NOW: Timestamp = Timestamp(0);

    fn candidates(specs: &[WorkSpec]) -> Candidates {
        let mut candidates = Candidates::default();
        for spec in specs {
            candidates.put(spec, NOW);
        }
        candidates
    }

    fn choose(candidates: &Candidates, random: &mut SmallRng) -> Option<WorkSpecId> {
        candidates.choose(std::iter::once(""), random)
    }

    fn shares(specs: &[WorkSpec], draws: u32) -> Vec<f64> {
        let mut random = SmallRng::seed_from_u64(7);
        let mut chosen = vec![0_u32; specs.len()];
        let candidates = candidates(specs);
        for _ in 0..draws {
            let id = choose(&candidates, &mut random).expect("a spec");
            chosen[specs
                .iter()
                .position(|spec| spec.id == id)
                .expect("one of them")] += 1;
        }
        chosen
            .iter()
            .map(|n| f64::from(*n) / f64::from(draws))
            .collect()
    }

    #[test]
    fn specs_of_different_runtimes_are_drawn_together_for_who_serves_both() {
        let mut specs = [
            spec(1, 0.0, 10, 0),
            spec(2, 0.0, 10, 0),
            spec(3, -1.0, 10, 0),
        ];
        specs[1].meta.runtime = "python".to_owned();
        specs[2].meta.runtime = "go".to_owned();
        let candidates = candidates(&specs);
        let mut random = SmallRng::seed_from_u64(7);
        let mut draws = [0; 3];
        for _ in 0..1_000 {
            let served = ["", "go", "python"].into_iter();
            let id = candidates.choose(served, &mut random).expect("a spec");
            draws[usize::try_from(id.0).expect("an index") - 1] += 1;
        }
        assert!(
            draws[0] > 400 && draws[1] > 400 && draws[2] == 0,
            "{draws:?}"
        );
    }

    #[test]
    fn only_the_highest_priority_is_chosen_from() {
        let specs = [
            spec(1, 0.0, 1000, 0),
            spec(2, 1.0, 1, 50),
            spec(3, 1.0, 1, 50),
            spec(4, -1.0, 9, 0),
        ];
        let shares = shares(&specs, 1000);
        assert!(shares[0] == 0.0 && shares[3] == 0.0);
        assert!(shares[1] > 0.4 && shares[2] > 0.4, "{shares:?}");
    }

    #[test]
    fn nothing_is_chosen_from_nothing() {
        assert_eq!(
            choose(&candidates(&[]), &mut SmallRng::seed_from_u64(1)),
            None
        );
    }

    #[test]
    fn draws_follow_the_formula() {
        // W = 10, P = 6: 7 * 7 - 10 * 2 = 29, 2 * 7 - 10 * 1 = 4, 1 * 7 - 10 * 3 < 0.
        let specs = [spec(1, 0.0, 7, 2), spec(2, 0.0, 2, 1), spec(3, 0.0, 1, 3)];
        let shares = shares(&specs, 100_000);
        assert!((shares[0] - 29.0 / 33.0).abs() < 0.01, "{shares:?}");
        assert!((shares[1] - 4.0 / 33.0).abs() < 0.01, "{shares:?}");
        assert!(shares[2] == 0.0, "{shares:?}");
    }

    /// What [`Candidates::choose`] may choose, and with which chance, found by looking at each spec.
    fn scores_by_looking(specs: &[WorkSpec], runtime: &str, now: Timestamp) -> Vec<i128> {
        let gives = |spec: &&WorkSpec| can_give(spec, now) && spec.meta.runtime == runtime;
        let highest = specs.iter().filter(gives).map(|spec| spec.meta.priority);
        let highest = highest.fold(f64::NEG_INFINITY, f64::max);
        let is_candidate = |spec: &&WorkSpec| gives(spec) && spec.meta.priority == highest;
        let mut sums = Sums::default();
        specs
            .iter()
            .filter(is_candidate)
            .for_each(|spec| sums.add(Share::of(spec)));
        let score = |spec| {
            if is_candidate(&spec) {
                sums.score(Share::of(spec))
            } else {
                0
            }
        };
        specs.iter().map(score).collect()
    }

    /// The same as the candidates have it.
    fn scores(candidates: &Candidates, specs: &[WorkSpec], runtime: &str) -> Vec<i128> {
        let Some((_, ranks)) = candidates.of_highest_priority(std::iter::once(runtime)) else {
            return vec![0; specs.len()];
        };
        let sums = Sums::of(&ranks);
        let score = |spec: &WorkSpec| {
            let shares = ranks.iter().flat_map(|rank| &rank.by_share);
            let of_spec = shares.filter(|(_, alike)| alike.contains(&spec.id));
            of_spec.map(|(share, _)| sums.score(*share)).sum()
        };
        specs.iter().map(score).collect()
    }

    fn any_spec(id: i64) -> impl Strategy<Value = WorkSpec> {
        let numbers = (0..3_u8, -1..3_i64, 0..3_u64, 0..2_u64, 0..4_i64);
        let switches = (
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
        );
        let rate = prop::option::of((1..3_u32, 0..6_i64));
        (numbers, switches, rate).prop_map(move |(numbers, switches, rate)| {
            let (priority, weight, pending, available, next) = numbers;
            let (paused, continuous, is_limited, has_runtime, are_full) = switches;
            let mut spec = spec(id, f64::from(priority), weight, pending);
            spec.counts.available = available;
            spec.meta.paused = paused.then(Pause::default);
            spec.meta.continuous = continuous;
            spec.meta.next_continuous = (next > 0).then_some(Timestamp(next));
            spec.meta.max_running = is_limited.then_some(1);
            spec.meta.max_running_per_group = are_full.then_some(1);
            spec.groups_are_full = are_full && available > 0;
            if let Some((burst, full_at)) = rate {
                // A unit each microsecond.
                let rate = MaxRate::from_text("1000000/s").expect("a rate");
                spec.meta.max_rate = Some(rate.with_burst(burst));
                spec.recent.full_at = Some(Timestamp(full_at));
            }
            spec.meta.runtime = if has_runtime { "go" } else { "" }.to_owned();
            spec
        })
    }

    proptest! {
        #[test]
        fn candidates_are_what_a_look_at_each_spec_finds_whatever_changes(
            changes in prop::collection::vec(
                (0..5_i64).prop_flat_map(|id| (any_spec(id), any::<bool>(), 0..2_i64)), 1..60,
            ),
        ) {
            let (mut candidates, mut now) = (Candidates::default(), NOW);
            let mut specs: BTreeMap<WorkSpecId, WorkSpec> = BTreeMap::new();
            for (spec, is_there, passed) in changes {
                now = Timestamp(now.0 + passed);
                if is_there {
                    candidates.put(&spec, now);
                    specs.insert(spec.id, spec);
                } else {
                    candidates.remove(spec.id);
                    specs.remove(&spec.id);
                }
                while let Some(due) = candidates.next_due(now) {
                    candidates.put(&specs[&due], now);
                }
                let specs: Vec<WorkSpec> = specs.values().cloned().collect();
                for runtime in ["", "go"] {
                    let by_looking = scores_by_looking(&specs, runtime, now);
                    prop_assert_eq!(scores(&candidates, &specs, runtime), by_looking);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn something_is_always_chosen_if_there_is_something(
            specs in prop::collection::vec((1..1000_i64, 0..1000_u64), 1..20), seed: u64,
        ) {
            let specs: Vec<WorkSpec> =
                (0..).zip(specs).map(|(id, (weight, pending))| spec(id, 0.0, weight, pending)).collect();
            prop_assert!(choose(&candidates(&specs), &mut SmallRng::seed_from_u64(seed)).is_some());
        }
    }
}
