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
    /// The instant of this many seconds since the epoch, the form that the wire uses. Those that can't be written become the
    /// nearest one that can.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast goes to the nearest integer"
    )]
    pub fn from_seconds(seconds: f64) -> Self {
        Self((seconds * 1e6).round() as i64)
    }

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

    /// The same instant as a clock tells it that was set by `step`.
    #[must_use]
    pub fn moved(self, step: ClockStep) -> Self {
        Self(self.0.saturating_add(step.0))
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

/// By how many microseconds a clock is set: forward if positive, back if negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep(pub i64);

impl ClockStep {
    /// The step that takes a clock from one time to another.
    #[must_use]
    pub fn between(from: Timestamp, to: Timestamp) -> Self {
        Self(to.0.saturating_sub(from.0))
    }
}

impl fmt::Display for ClockStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.0 < 0 { "back" } else { "forward" };
        let seconds = Timestamp(self.0.saturating_abs()).as_seconds();
        write!(f, "{direction} by {seconds:.3} s")
    }
}

/// A source of the present time.
pub trait Clock {
    /// The present time. Never earlier than what the same clock said before, unless it was set meanwhile.
    fn now(&mut self) -> Timestamp;

    /// How far the clock should be set, as of the last [`Clock::now`]. `None` if it is right.
    fn due_step(&self) -> Option<ClockStep>;

    /// Sets the clock. All times that are kept to be compared with it must be moved by the same step.
    fn set(&mut self, step: ClockStep);
}

/// The daemon's clock: it tells wall-clock time, and passes as evenly as the monotonic clock.
///
/// Clients compare the ends of leases with clocks of their own, and people read the times in the file, so the
/// daemon must tell the time that everybody else's clock shows. But when somebody sets the wall clock, or the
/// machine was suspended, leases must neither end in a rush nor last longer. So a small difference is made up for by
/// running up to [`SystemClock::SLEW_PERCENT`] faster or slower. For a larger one this clock asks to be set, and
/// whoever reads it moves what is measured by it along: every lease keeps the time that it had left.
#[derive(Debug)]
pub struct SystemClock {
    last: Timestamp,
    last_instant: Instant,
    /// How far the wall clock was ahead at the last reading.
    wall_ahead: ClockStep,
}

impl SystemClock {
    /// How much faster or slower than real time the clock runs at the most, in percent. A difference of a second
    /// is gone within twenty.
    pub const SLEW_PERCENT: i64 = 5;

    /// Beyond this difference the clock is to be set: a second. It is more than time daemons correct day by day,
    /// and than a leap second makes, and as much as the shortest lease that a worker gets can stand.
    pub const STEP_MIN: Duration = Duration::from_secs(1);

    /// A clock that starts at the wall clock's time.
    #[must_use]
    pub fn start() -> Self {
        Self {
            last: wall_clock(),
            last_instant: Instant::now(),
            wall_ahead: ClockStep(0),
        }
    }

    fn advance(&mut self, elapsed_us: i64, wall: Timestamp) -> Timestamp {
        let unslewed = self.last.0.saturating_add(elapsed_us);
        let slew_max = elapsed_us * Self::SLEW_PERCENT / 100;
        let slew = wall.0.saturating_sub(unslewed).clamp(-slew_max, slew_max);
        self.last = Timestamp(unslewed.saturating_add(slew));
        self.wall_ahead = ClockStep::between(self.last, wall);
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

    fn due_step(&self) -> Option<ClockStep> {
        let difference = Duration::from_micros(self.wall_ahead.0.unsigned_abs());
        (difference > Self::STEP_MIN).then_some(self.wall_ahead)
    }

    fn set(&mut self, step: ClockStep) {
        self.last = self.last.moved(step);
        self.wall_ahead = ClockStep(self.wall_ahead.0.saturating_sub(step.0));
    }
}

pub(crate) fn wall_clock() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since_epoch) => Timestamp(0).plus(since_epoch),
        Err(_) => Timestamp(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn clock_at(seconds: i64) -> SystemClock {
        SystemClock {
            last: Timestamp(seconds * SECOND),
            last_instant: Instant::now(),
            wall_ahead: ClockStep(0),
        }
    }

    #[test]
    fn a_wall_clock_set_back_a_little_slows_the_clock_and_does_not_turn_it_back() {
        let mut clock = clock_at(100);
        let now = clock.advance(10 * SECOND, Timestamp(109 * SECOND));
        assert_eq!(now, Timestamp(109 * SECOND + SECOND / 2));
        assert_eq!(clock.due_step(), None);
    }

    #[test]
    fn a_wall_clock_set_forward_a_little_is_approached_slowly_and_then_followed() {
        let mut clock = clock_at(0);
        let wall = Timestamp(10 * SECOND + 900_000);
        assert_eq!(
            clock.advance(10 * SECOND, wall),
            Timestamp(10 * SECOND + SECOND / 2)
        );
        assert_eq!(clock.due_step(), None);
        let wall = Timestamp(20 * SECOND + 900_000);
        assert_eq!(clock.advance(10 * SECOND, wall), wall);
    }

    #[test]
    fn a_wall_clock_set_far_forward_or_back_is_followed_at_once_when_the_clock_is_set() {
        for set_by in [7_200, -7_200] {
            let mut clock = clock_at(10_000);
            let wall = Timestamp((10_010 + set_by) * SECOND);
            let before = clock.advance(10 * SECOND, wall);
            let step = clock.due_step().expect("it is far from the wall clock");
            assert_eq!(before.moved(step), wall);
            clock.set(step);
            assert_eq!(clock.due_step(), None);
            let wall = Timestamp(wall.0 + SECOND);
            assert_eq!(clock.advance(SECOND, wall), wall);
        }
    }

    #[test]
    fn a_step_is_told_with_its_direction() {
        assert_eq!(
            ClockStep(7_200 * SECOND).to_string(),
            "forward by 7200.000 s"
        );
        assert_eq!(ClockStep(-SECOND / 2).to_string(), "back by 0.500 s");
    }
}
