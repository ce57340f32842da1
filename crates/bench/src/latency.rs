//! How long calls take, one histogram for each.

use super::wire::Call;
use hdrhistogram::Histogram;
use std::time::Duration;

/// Longer times count as this: ten minutes, in nanoseconds.
const LONGEST_NS: u64 = 600_000_000_000;
/// Digits that a time is exact to: one in a thousand.
const DIGITS: u8 = 3;

/// The times of all calls, from handing a request to its connection until its answer was read.
#[derive(Default)]
pub(super) struct Latencies {
    by_call: [Option<Box<Histogram<u64>>>; Call::ALL.len()],
}

/// The times of one call, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    pub(super) call: Call,
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Latencies {
    pub(super) fn record(&mut self, call: Call, time: Duration) {
        let slot = &mut self.by_call[call as usize];
        let histogram = slot.get_or_insert_with(|| {
            Box::new(Histogram::new_with_max(LONGEST_NS, DIGITS).expect("bounds are valid"))
        });
        histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST_NS));
    }

    /// How many calls there were in all.
    pub(super) fn calls(&self) -> u64 {
        self.by_call
            .iter()
            .flatten()
            .map(|histogram| histogram.len())
            .sum()
    }

    /// The calls that there were.
    pub(super) fn summaries(&self) -> Vec<Summary> {
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let with_times = Call::ALL.into_iter().zip(&self.by_call);
        with_times
            .filter_map(|(call, histogram)| {
                let histogram = histogram.as_ref()?;
                Some(Summary {
                    call,
                    count: histogram.len(),
                    mean: histogram.mean() / 1e3,
                    p50: micros(histogram.value_at_quantile(0.5)),
                    p99: micros(histogram.value_at_quantile(0.99)),
                    p999: micros(histogram.value_at_quantile(0.999)),
                    max: micros(histogram.max()),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_has_its_own_times() {
        let mut latencies = Latencies::default();
        for micros in 1..=1000 {
            latencies.record(Call::GetWork, Duration::from_micros(micros));
        }
        latencies.record(Call::Page, Duration::from_secs(10_000));
        let summaries = latencies.summaries();
        let [work, page] = &summaries[..] else {
            panic!("{summaries:?}")
        };
        assert_eq!((work.count, page.count, latencies.calls()), (1000, 1, 1001));
        for (found, expected) in [(work.p50, 500.0), (work.p99, 990.0), (work.max, 1000.0)] {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} {expected}");
        }
        assert!(page.max > 599e6);
    }
}
