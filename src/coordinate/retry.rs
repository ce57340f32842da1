//! Retrying failed units: how often, and after how long.

use crate::number::duration_from_seconds;
use rand::{Rng, RngExt};
use std::time::Duration;

/// What a work spec wants to be done with units that fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How many failures of a unit are followed by another try. The next one is final.
    pub retries: u64,
    /// The delay after the first failure.
    pub delay: Duration,
    /// Multiplies the delay after each further failure. At least 1.
    pub backoff: f64,
    /// The longest delay.
    pub delay_max: Duration,
    /// The part of the delay that is random, from 0 to 1: so that units that failed together, as when a server was
    /// down, don't come back together.
    pub jitter: f64,
}

impl RetryPolicy {
    /// The longest delay of a work spec that does not set one, unless its first delay is longer.
    pub const DELAY_MAX: Duration = Duration::from_secs(3_600);

    /// The delay after this many failures of a unit, of which there is at least one.
    #[must_use]
    pub fn delay(&self, failures: u64, random: &mut dyn Rng) -> Duration {
        if self.delay.is_zero() {
            return Duration::ZERO;
        }
        let steps = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        // This may be infinite.
        let grown = self.delay.as_secs_f64() * self.backoff.powi(steps);
        let longest = grown.min(self.delay_max.as_secs_f64());
        let shortened = match self.jitter > 0.0 {
            true => longest * self.jitter * random.random::<f64>(),
            false => 0.0,
        };
        duration_from_seconds(longest - shortened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const POLICY: RetryPolicy = RetryPolicy {
        retries: 9,
        delay: Duration::from_secs(10),
        backoff: 2.0,
        delay_max: Duration::from_secs(60),
        jitter: 0.0,
    };

    fn seconds(policy: &RetryPolicy, failures: u64) -> f64 {
        let mut random = SmallRng::seed_from_u64(failures);
        policy.delay(failures, &mut random).as_secs_f64()
    }

    #[test]
    fn the_delay_grows_with_each_failure_up_to_its_maximum() {
        let delays = [1, 2, 3, 4, 5, u64::MAX].map(|failures| seconds(&POLICY, failures));
        assert_eq!(delays, [10.0, 20.0, 40.0, 60.0, 60.0, 60.0]);
        let steady = RetryPolicy {
            backoff: 1.0,
            ..POLICY
        };
        assert_eq!(seconds(&steady, 1_000_000), 10.0);
        let none = RetryPolicy {
            delay: Duration::ZERO,
            ..POLICY
        };
        assert_eq!(seconds(&none, u64::MAX), 0.0);
    }

    #[test]
    fn jitter_takes_off_a_random_part_and_never_adds_to_the_delay() {
        let policy = RetryPolicy {
            jitter: 0.25,
            backoff: 1.0,
            ..POLICY
        };
        let delays: Vec<f64> = (1..200)
            .map(|failures| seconds(&policy, failures))
            .collect();
        assert!(delays.iter().all(|delay| (7.5..=10.0).contains(delay)));
        let is_spread = |from: f64, to: f64| delays.iter().any(|delay| (from..to).contains(delay));
        assert!(is_spread(7.5, 7.7) && is_spread(9.8, 10.0), "{delays:?}");
    }
}
