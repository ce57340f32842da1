//! Which work spec gives the next unit, and why another one does not.

use super::explain::Reason;
use super::work_spec::{WorkSpec, WorkSpecId};
use crate::clock::Timestamp;
use rand::{Rng, RngExt};

/// What keeps a work spec from giving units, whether it has any or not.
pub(super) fn holds(spec: &WorkSpec) -> impl Iterator<Item = Reason> {
    let (meta, counts) = (&spec.meta, &spec.counts);
    let has_all_running = |max: &u64| counts.pending >= *max;
    [
        meta.paused.then_some(Reason::Paused),
        (meta.weight <= 0).then_some(Reason::NoWeight(meta.weight)),
        meta.max_running
            .filter(has_all_running)
            .map(Reason::MaxRunning),
    ]
    .into_iter()
    .flatten()
}

/// Why a work spec has no unit to give, and may not make one either; `None` if it has or may.
pub(super) fn lack_of_work(spec: &WorkSpec, now: Timestamp) -> Option<Reason> {
    let (meta, counts) = (&spec.meta, &spec.counts);
    if counts.available > 0 {
        None
    } else if !meta.continuous {
        Some(Reason::NoWork(*counts))
    } else if counts.pending > 0 {
        Some(Reason::ContinuousRunning)
    } else {
        let next = meta.next_continuous.filter(|next| *next > now);
        next.map(|until| Reason::Interval { until })
    }
}

/// True if a work spec could give a unit now to somebody who asks for it.
pub(super) fn can_give(spec: &WorkSpec, now: Timestamp) -> bool {
    holds(spec).next().is_none() && lack_of_work(spec, now).is_none()
}

/// The specs of the highest priority.
fn of_highest_priority<'a>(specs: impl Iterator<Item = &'a WorkSpec>) -> Vec<&'a WorkSpec> {
    let mut highest: Vec<&WorkSpec> = Vec::new();
    for spec in specs {
        match highest.first() {
            Some(best) if spec.meta.priority < best.meta.priority => continue,
            Some(best) if spec.meta.priority > best.meta.priority => highest.clear(),
            _ => {}
        }
        highest.push(spec);
    }
    highest
}

/// The sums over specs of which one is drawn.
struct Sums {
    weights: i128,
    pending: i128,
}

impl Sums {
    fn of(specs: &[&WorkSpec]) -> Self {
        let weights = specs.iter().map(|spec| i128::from(spec.meta.weight));
        let pending = specs.iter().map(|spec| i128::from(spec.counts.pending));
        Self {
            weights: weights.sum(),
            pending: pending.sum(),
        }
    }

    /// In proportion to the chance of one of them. 0 if it has more than its share.
    fn score(&self, spec: &WorkSpec) -> i128 {
        let (weight, pending) = (
            i128::from(spec.meta.weight),
            i128::from(spec.counts.pending),
        );
        (weight * (self.pending + 1) - self.weights * pending).max(0)
    }
}

/// Chooses one of the specs that have work: of those with the highest priority, at random, so that
/// the numbers of pending units tend towards the weights (docs/protocol.md, "The scheduler").
///
/// With W and P the sums of all candidates' weights and pending units, a spec's chance is in
/// proportion to `weight * (P + 1) - W * pending`; one that has more than its share gets none.
pub(super) fn choose<'a>(
    with_work: impl Iterator<Item = &'a WorkSpec>,
    random: &mut dyn Rng,
) -> Option<WorkSpecId> {
    let candidates = of_highest_priority(with_work);
    if let [only] = candidates[..] {
        return Some(only.id);
    }
    let sums = Sums::of(&candidates);
    let scores: i128 = candidates.iter().map(|spec| sums.score(spec)).sum();
    if scores <= 0 {
        return None;
    }
    let mut draw = random.random_range(0..scores);
    for spec in candidates {
        let score = sums.score(spec);
        if draw < score {
            return Some(spec.id);
        }
        draw -= score;
    }
    None
}

/// Why one of the specs that have work is not drawn at present; `None` if it may be.
pub(super) fn precedence_over<'a>(
    spec: &WorkSpec,
    with_work: impl Iterator<Item = &'a WorkSpec>,
) -> Option<Reason> {
    let candidates = of_highest_priority(with_work);
    match candidates.first() {
        Some(best) if best.meta.priority > spec.meta.priority => {
            Some(Reason::LowerPriority(best.name.clone()))
        }
        _ => (Sums::of(&candidates).score(spec) == 0).then_some(Reason::Share),
    }
}

#[cfg(test)]
mod tests {
    use super::super::work_spec::{Counts, Meta};
    use super::super::{EMPTY_DEFINITION, Name};
    use super::*;
    use crate::cbor::Item;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn spec(id: i64, priority: f64, weight: i64, pending: u64) -> WorkSpec {
        let mut meta =
            Meta::from_definition(Item::from_checked(EMPTY_DEFINITION)).expect("defaults");
        (meta.priority, meta.weight) = (priority, weight);
        let counts = Counts {
            pending,
            ..Counts::default()
        };
        WorkSpec {
            id: WorkSpecId(id),
            name: Name::from_text(id.to_string()),
            meta,
            counts,
            waiting_since: None,
        }
    }

    fn shares(specs: &[WorkSpec], draws: u32) -> Vec<f64> {
        let mut random = SmallRng::seed_from_u64(7);
        let mut chosen = vec![0_u32; specs.len()];
        for _ in 0..draws {
            let id = choose(specs.iter(), &mut random).expect("a spec");
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
        assert_eq!(choose([].iter(), &mut SmallRng::seed_from_u64(1)), None);
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

    proptest! {
        #[test]
        fn something_is_always_chosen_if_there_is_something(
            specs in prop::collection::vec((1..1000_i64, 0..1000_u64), 1..20), seed: u64,
        ) {
            let specs: Vec<WorkSpec> =
                (0..).zip(specs).map(|(id, (weight, pending))| spec(id, 0.0, weight, pending)).collect();
            prop_assert!(choose(specs.iter(), &mut SmallRng::seed_from_u64(seed)).is_some());
        }
    }
}
