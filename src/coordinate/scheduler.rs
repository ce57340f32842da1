//! Which work spec gives the next unit.

use super::work_spec::{WorkSpec, WorkSpecId};
use rand::{Rng, RngExt};

/// Chooses one of the specs that have work: of those with the highest priority, at random, so that
/// the numbers of pending units tend towards the weights (docs/protocol.md, "The scheduler").
///
/// With W and P the sums of all candidates' weights and pending units, a spec's chance is in
/// proportion to `weight * (P + 1) - W * pending`; one that has more than its share gets none.
pub(super) fn choose<'a>(
    with_work: impl Iterator<Item = &'a WorkSpec>,
    random: &mut dyn Rng,
) -> Option<WorkSpecId> {
    let mut candidates: Vec<&WorkSpec> = Vec::new();
    for spec in with_work {
        match candidates.first() {
            Some(best) if spec.meta.priority < best.meta.priority => continue,
            Some(best) if spec.meta.priority > best.meta.priority => candidates.clear(),
            _ => {}
        }
        candidates.push(spec);
    }
    if let [only] = candidates[..] {
        return Some(only.id);
    }
    let weights: i128 = candidates
        .iter()
        .map(|spec| i128::from(spec.meta.weight))
        .sum();
    let pending: i128 = candidates
        .iter()
        .map(|spec| i128::from(spec.counts.pending))
        .sum();
    let score = |spec: &WorkSpec| {
        let (weight, own_pending) = (
            i128::from(spec.meta.weight),
            i128::from(spec.counts.pending),
        );
        (weight * (pending + 1) - weights * own_pending).max(0)
    };
    let scores: i128 = candidates.iter().map(|spec| score(spec)).sum();
    if scores <= 0 {
        return None;
    }
    let mut draw = random.random_range(0..scores);
    for spec in candidates {
        let score = score(spec);
        if draw < score {
            return Some(spec.id);
        }
        draw -= score;
    }
    None
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
