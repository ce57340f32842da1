//! What has happened in a work spec, by minute and by hour.

use super::{AttemptEnd, Event};
use crate::clock::Timestamp;
use std::time::Duration;

/// What has happened in a work spec during some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Units that were added, or added again.
    pub added: u64,
    /// Attempts that began.
    pub started: u64,
    /// Attempts that finished their units.
    pub finished: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Attempts whose lease ran out.
    pub expired: u64,
    /// For how long the finished and the failed ones ran in all.
    pub run: Duration,
}

impl Tally {
    /// Counts what has happened.
    pub fn count(&mut self, event: Event) {
        match event {
            Event::Added(units) => self.added += units,
            Event::Started { .. } => self.started += 1,
            Event::Ended(AttemptEnd::Finished, time) => {
                self.finished += 1;
                self.run += time;
            }
            Event::Ended(AttemptEnd::Failed, time) => {
                self.failed += 1;
                self.run += time;
            }
            Event::Ended(AttemptEnd::Expired, _) => self.expired += 1,
            Event::Ended(AttemptEnd::Released, _) | Event::LateReport(_) => {}
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.added += other.added;
        self.started += other.started;
        self.finished += other.finished;
        self.failed += other.failed;
        self.expired += other.expired;
        self.run = self.run.saturating_add(other.run);
    }
}

/// By what the history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
}

impl Period {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Minute, Self::Hour];

    /// How long it is.
    #[must_use]
    pub fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
        })
    }

    /// For how long what happened in one of them is kept.
    #[must_use]
    pub fn kept(self) -> Duration {
        const DAY: Duration = Duration::from_hours(24);
        match self {
            Self::Minute => DAY,
            Self::Hour => DAY * 90,
        }
    }

    /// When the one began in which this time is.
    #[must_use]
    pub fn start(self, at: Timestamp) -> Timestamp {
        let length = i64::try_from(self.length().as_micros()).unwrap_or(i64::MAX);
        Timestamp(at.0 - at.0.rem_euclid(length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_begins_at_a_whole_minute_or_hour() {
        let at = Timestamp(1_700_000_000_000_000);
        assert_eq!(Period::Minute.start(at), Timestamp(1_699_999_980_000_000));
        assert_eq!(Period::Hour.start(at), Timestamp(1_699_999_200_000_000));
        let start = Period::Hour.start(at);
        assert_eq!(Period::Hour.start(start), start);
        assert_eq!(Period::Minute.start(Timestamp(-1)), Timestamp(-60_000_000));
    }
}
