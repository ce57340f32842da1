//! Time: what an instant is, and where it comes from.
//!
//! Everything below the loop is told the time as a [`Timestamp`] argument; only the loop asks a
//! [`Clock`], once a turn.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch, UTC. The unit of every time in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The instant `duration` later, at most the largest one that can be written.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let us = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(us))
    }

    /// The instant `duration` earlier, at least the smallest one that can be written.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let us = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(us))
    }

    /// How long it is from `earlier` to here; zero if `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Seconds since the epoch with their fraction, the form that the wire uses.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a float holds microseconds exactly until the year 2255"
    )]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.as_seconds())
    }
}

/// A source of the present time.
pub trait Clock {
    /// The present time. Never earlier than what the same clock said before.
    fn now(&mut self) -> Timestamp;
}

/// The daemon's clock: the wall clock at start plus the monotonic clock, drawn slowly towards the
/// wall clock.
///
/// When somebody sets the wall clock, leases must neither end in a rush nor last for ever. So a
/// difference is made up for by running up to [`SystemClock::SLEW_PERCENT`] faster or slower.
#[derive(Debug)]
pub struct SystemClock {
    last: Timestamp,
    last_instant: Instant,
}

impl SystemClock {
    /// How much faster or slower than real time the clock runs at the most, in percent. An hour's
    /// difference is gone within a day; a lease of five minutes is off by fifteen seconds at worst.
    pub const SLEW_PERCENT: i64 = 5;

    /// A clock that starts at the wall clock's time.
    #[must_use]
    pub fn start() -> Self {
        Self {
            last: wall_clock(),
            last_instant: Instant::now(),
        }
    }

    fn advance(&mut self, elapsed_us: i64, wall: Timestamp) -> Timestamp {
        let unslewed = self.last.0.saturating_add(elapsed_us);
        let slew_max = elapsed_us * Self::SLEW_PERCENT / 100;
        let slew = wall.0.saturating_sub(unslewed).clamp(-slew_max, slew_max);
        self.last = Timestamp(unslewed.saturating_add(slew));
        self.last
    }
}

impl Clock for SystemClock {
    fn now(&mut self) -> Timestamp {
        let instant = Instant::now();
        let elapsed = instant.duration_since(self.last_instant);
        self.last_instant = instant;
        self.advance(
            i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX / 200),
            wall_clock(),
        )
    }
}

fn wall_clock() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since_epoch) => Timestamp(0).plus(since_epoch),
        Err(_) => Timestamp(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_wall_clock_set_back_slows_the_clock_and_never_turns_it_back() {
        let mut clock = SystemClock {
            last: Timestamp(100 * SECOND),
            last_instant: Instant::now(),
        };
        let now = clock.advance(10 * SECOND, Timestamp(0));
        assert_eq!(now, Timestamp(109 * SECOND + SECOND / 2));
    }

    #[test]
    fn a_wall_clock_set_forward_is_approached_slowly_and_then_followed() {
        let mut clock = SystemClock {
            last: Timestamp(0),
            last_instant: Instant::now(),
        };
        assert_eq!(
            clock.advance(100 * SECOND, Timestamp(1_000 * SECOND)),
            Timestamp(105 * SECOND)
        );
        assert_eq!(
            clock.advance(100 * SECOND, Timestamp(206 * SECOND)),
            Timestamp(206 * SECOND)
        );
    }
}
