//! How fast a work spec hands out its units: `max_rate` and `max_rate_burst`.

use crate::clock::Timestamp;
use crate::number;
use coordinated_client::cbor::{Item, Kind};
use std::fmt;
use std::time::Duration;

/// A limit for how fast units are handed out: a token bucket.
///
/// The bucket holds one token for each unit of a burst. A unit that is handed out takes a token, and tokens come back at
/// the rate. All that has to be kept is one time: when the bucket is full again. It is not known for a bucket that was
/// never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxRate {
    /// How many tokens come back in a period. At least 1.
    units: u32,
    /// The seconds of a period, one of `PERIODS`.
    period_s: u32,
    /// How many tokens the bucket holds. At least 1.
    burst: u32,
}

/// What a rate can refer to: the letter, the word, and how many seconds it has.
const PERIODS: [(&str, &str, u32); 4] = [
    ("s", "second", 1),
    ("m", "minute", 60),
    ("h", "hour", 3_600),
    ("d", "day", 86_400),
];

impl MaxRate {
    /// What a rate in a work spec has to be.
    pub(super) const EXPECTED: &str =
        "a rate such as 100/m (a whole number of units per s, m, h or d)";

    /// Reads a rate: `100/m`, `100/minute`, or a number of units per second. Its burst is what comes back in a second, at
    /// least one unit.
    pub(super) fn from_item(item: Item<'_>) -> Option<Self> {
        match item.kind() {
            Kind::Bool(_) => None,
            Kind::Unsigned(_) | Kind::Float(_) => {
                let units = number::as_whole_number_or_numeral(item)?;
                Self::new(u32::try_from(units).ok()?, 1)
            }
            _ => Self::from_text(std::str::from_utf8(&item.as_string_bytes()?).ok()?),
        }
    }

    /// As [`Self::from_item`].
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (units, period) = text.split_once('/').unwrap_or((text, "s"));
        let period = period.trim();
        let is_it = |(letter, word, _): &&(&str, &str, u32)| [*letter, *word].contains(&period);
        let (.., period_s) = PERIODS.iter().find(is_it)?;
        Self::new(units.trim().parse().ok()?, *period_s)
    }

    fn new(units: u32, period_s: u32) -> Option<Self> {
        (units > 0).then(|| Self {
            units,
            period_s,
            burst: (units / period_s).max(1),
        })
    }

    /// The same rate with another burst, which is at least 1.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Self {
        Self {
            burst: burst.max(1),
            ..self
        }
    }

    /// How many units may be handed out at once.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// How many units may be handed out `now`, if the bucket is full at `full_at`.
    pub(super) fn allowed(self, full_at: Option<Timestamp>, now: Timestamp) -> u64 {
        let left = full_at.map_or(Duration::ZERO, |full_at| full_at.since(now));
        let missing = (left.as_micros() * u128::from(self.units)).div_ceil(self.period_us());
        u128::from(self.burst)
            .saturating_sub(missing)
            .try_into()
            .unwrap_or(u64::MAX)
    }

    /// When the next unit may be handed out; `None` if it may be `now`.
    #[must_use]
    pub fn next_at(self, full_at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        // All tokens but one come back after that.
        let rest = u128::from(self.burst - 1) * self.period_us() / u128::from(self.units);
        let next = full_at?.minus(duration_from_us(rest));
        (next > now).then_some(next)
    }

    /// When the bucket is full after `count` units have been handed out `now`.
    pub(super) fn full_after(
        self,
        full_at: Option<Timestamp>,
        now: Timestamp,
        count: usize,
    ) -> Timestamp {
        let full_at = full_at.map_or(now, |full_at| full_at.max(now));
        full_at.plus(self.time_for(count as u64))
    }

    /// A time at which the bucket is full, but not later than for an empty one: for when the rate or the clock was
    /// changed.
    #[must_use]
    pub fn bounded(self, full_at: Timestamp, now: Timestamp) -> Timestamp {
        full_at.min(now.plus(self.time_for(u64::from(self.burst))))
    }

    /// How long it takes until this many tokens have come back, rounded up: so the rate is never exceeded.
    fn time_for(self, count: u64) -> Duration {
        duration_from_us((u128::from(count) * self.period_us()).div_ceil(u128::from(self.units)))
    }

    fn period_us(self) -> u128 {
        u128::from(self.period_s) * 1_000_000
    }
}

fn duration_from_us(us: u128) -> Duration {
    Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
}

/// The rate without its burst, as [`MaxRate::from_text`] reads it: `100/m`.
impl fmt::Display for MaxRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = PERIODS.iter().find(|(.., s)| *s == self.period_s);
        let letter = period.map_or("s", |(letter, ..)| *letter);
        write!(formatter, "{}/{letter}", self.units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn rate(text: &str) -> MaxRate {
        MaxRate::from_text(text).expect("a rate")
    }

    #[test]
    fn rates_are_read_with_the_burst_of_a_second_and_shown_in_short() {
        for (text, shown, burst) in [
            ("100/m", "100/m", 1),
            ("100/minute", "100/m", 1),
            (" 600 / m ", "600/m", 10),
            ("5", "5/s", 5),
            ("1/d", "1/d", 1),
            ("7200/hour", "7200/h", 2),
        ] {
            let rate = rate(text);
            assert_eq!((rate.to_string().as_str(), rate.burst()), (shown, burst));
        }
        for text in [
            "", "0/m", "-1/m", "1.5/s", "1/w", "1/", "/m", "1/m/s", "ten/m", "1/M",
        ] {
            assert_eq!(MaxRate::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn one_unit_comes_at_a_time_when_the_burst_is_used_up() {
        let rate = rate("100/m").with_burst(3);
        assert_eq!(rate.allowed(None, NOW), 3);
        let full_at = Some(rate.full_after(None, NOW, 3));
        assert_eq!(rate.allowed(full_at, NOW), 0);
        let next = rate.next_at(full_at, NOW).expect("a time");
        assert_eq!(next.since(NOW), Duration::from_millis(600));
        assert_eq!(rate.allowed(full_at, next), 1);
        assert_eq!(rate.allowed(full_at, Timestamp(next.0 - 1)), 0);
        assert_eq!(rate.next_at(full_at, next), None);
    }

    #[test]
    fn a_bucket_of_a_slower_rate_is_at_most_empty_after_a_change() {
        let full_at = rate("1/d").full_after(None, NOW, 1);
        let faster = rate("100/m");
        let full_at = Some(faster.bounded(full_at, NOW));
        let next = faster.next_at(full_at, NOW).expect("a time");
        assert_eq!(next.since(NOW), Duration::from_millis(600));
    }

    proptest! {
        #[test]
        fn a_burst_and_the_rate_are_never_exceeded_and_a_unit_can_be_had_when_it_is_said(
            units in 1..2_000_000_u32,
            period in 0..4_usize,
            burst in 1..50_u32,
            takes in prop::collection::vec((1..60_u64, 0..40_000_000_i64), 1..40),
        ) {
            let rate = MaxRate::new(units, PERIODS[period].2).expect("a rate").with_burst(burst);
            let (mut now, mut full_at, mut taken) = (NOW, None, 0_u128);
            for (wanted, passed) in takes {
                now = Timestamp(now.0 + passed);
                let allowed = rate.allowed(full_at, now);
                match rate.next_at(full_at, now) {
                    None => prop_assert!(allowed > 0),
                    Some(next) => {
                        prop_assert_eq!(allowed, 0);
                        prop_assert!(rate.allowed(full_at, next) > 0);
                        prop_assert_eq!(rate.allowed(full_at, Timestamp(next.0 - 1)), 0);
                    }
                }
                let given = wanted.min(allowed);
                if given > 0 {
                    full_at = Some(rate.full_after(full_at, now, usize::try_from(given).expect("few")));
                }
                taken += u128::from(given);
                let come_back = now.since(NOW).as_micros() * u128::from(units) / rate.period_us();
                prop_assert!(taken <= u128::from(burst) + come_back);
            }
        }
    }
}
