//! Counters and histograms, as metrics show them. Counting costs an addition, and no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds for times of requests and commits, in seconds.
pub const LATENCY_BOUNDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only one thread may do so.
    pub fn add(&self, number: u64) {
        // Two instructions instead of one that is atomic, which would cost more: nobody else writes.
        self.set(self.get().wrapping_add(number));
    }

    /// Sets it.
    pub fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// The present number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many values there were up to each of some bounds, and their sum.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    /// Values up to each bound and beyond the one before.
    counts: [u64; N],
    /// Values beyond all bounds.
    beyond: u64,
    sum: f64,
}

impl<const N: usize> Histogram<N> {
    /// One without values. The bounds are in ascending order.
    #[must_use]
    pub const fn new(bounds: &'static [f64; N]) -> Self {
        Self {
            bounds,
            counts: [0; N],
            beyond: 0,
            sum: 0.0,
        }
    }

    /// Counts a value.
    pub fn observe(&mut self, value: f64) {
        let index = self.bounds.partition_point(|bound| *bound < value);
        *self.counts.get_mut(index).unwrap_or(&mut self.beyond) += 1;
        self.sum += value;
    }

    /// Counts all values of another one with the same bounds.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.beyond += other.beyond;
        self.sum += other.sum;
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.beyond
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// How many values there were up to each bound and beyond the one before. The last bound is infinite.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.into_iter().chain([self.beyond]))
    }
}

/// A histogram of times that one thread changes and others read.
#[derive(Debug, Default)]
pub struct SharedLatencies {
    counts: [Counter; LATENCY_BOUNDS.len()],
    beyond: Counter,
    nanoseconds: Counter,
}

impl SharedLatencies {
    /// Counts a time that `count` values have. Only one thread may do so.
    pub fn observe(&self, time: Duration, count: u64) {
        let seconds = time.as_secs_f64();
        let index = LATENCY_BOUNDS.partition_point(|bound| *bound < seconds);
        self.counts.get(index).unwrap_or(&self.beyond).add(count);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.add(nanoseconds.saturating_mul(count));
    }

    /// What was counted so far.
    #[must_use]
    pub fn histogram(&self) -> Histogram<{ LATENCY_BOUNDS.len() }> {
        Histogram {
            bounds: &LATENCY_BOUNDS,
            counts: self.counts.each_ref().map(Counter::get),
            beyond: self.beyond.get(),
            sum: Duration::from_nanos(self.nanoseconds.get()).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_at_the_first_bound_that_it_does_not_exceed() {
        static BOUNDS: [f64; 2] = [1.0, 10.0];
        let mut histogram = Histogram::new(&BOUNDS);
        for value in [0.0, 1.0, 1.5, 10.0, 11.0, f64::INFINITY] {
            histogram.observe(value);
        }
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(buckets, [(1.0, 2), (10.0, 2), (f64::INFINITY, 2)]);
        assert_eq!(histogram.count(), 6);
        let mut twice = histogram;
        twice.add(&histogram);
        assert_eq!(twice.count(), 12);
    }

    #[test]
    fn shared_times_are_counted_like_others() {
        let shared = SharedLatencies::default();
        shared.observe(Duration::from_millis(1), 3);
        shared.observe(Duration::from_secs(60), 1);
        let histogram = shared.histogram();
        assert_eq!(histogram.count(), 4);
        assert!((histogram.sum() - 60.003).abs() < 1e-6);
        let filled: Vec<_> = histogram
            .buckets()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(filled, [(0.001, 3), (f64::INFINITY, 1)]);
    }
}
