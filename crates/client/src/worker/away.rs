//! How long a daemon is waited for that can't be reached, or fails at what it is asked.

use super::crew::Phase;
use crate::Error;
use std::time::{Duration, Instant};

/// Pauses between two tries to reach the daemon. They double.
const TRY_EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// How long the daemon is waited for by a worker that is to stop at once.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// How long a daemon is asked again that answers with errors only.
const REFUSED_MAX: Duration = Duration::from_secs(60);

/// Since when the daemon is away, and how long to wait for it.
pub(super) struct Away {
    since: Instant,
    pause: Duration,
}

impl Away {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            pause: TRY_EVERY.0,
        }
    }

    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(TRY_EVERY.1);
        pause
    }

    /// True if it is no use to wait any longer.
    pub(super) fn is_over(&self, error: &Error, phase: Phase) -> bool {
        let waited = self.since.elapsed();
        let is_hopeless = match error {
            // Its disk may be full for a while, or it will always say so.
            Error::Failed { .. } | Error::Refused { .. } => waited > REFUSED_MAX,
            _ => false,
        };
        is_hopeless || (phase == Phase::Stopping && waited > LAST_PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn away_for(seconds: u64) -> Away {
        Away {
            since: Instant::now() - Duration::from_secs(seconds),
            pause: TRY_EVERY.0,
        }
    }

    #[test]
    fn errors_are_tried_again_for_a_minute_and_a_daemon_that_is_away_until_the_worker_is_to_stop() {
        let (method, message) = ("update_work_unit".to_owned(), "disk full".to_owned());
        let failed = Error::Failed { method, message };
        let unreachable = Error::Unreachable {
            address: "127.0.0.1:1".parse().expect("an address"),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        for (seconds, error, phase, expected) in [
            (0, &failed, Phase::Working, false),
            (50, &failed, Phase::Working, false),
            (50, &failed, Phase::Draining, false),
            (61, &failed, Phase::Working, true),
            (100_000, &unreachable, Phase::Working, false),
            (100_000, &unreachable, Phase::Draining, false),
            (2, &unreachable, Phase::Stopping, false),
            (6, &unreachable, Phase::Stopping, true),
            (6, &failed, Phase::Stopping, true),
        ] {
            let is_over = away_for(seconds).is_over(error, phase);
            assert_eq!(is_over, expected, "{seconds} s, {error}, {phase:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_three_seconds() {
        let mut away = Away::new();
        let pauses: Vec<u128> = (0..7).map(|_| away.next_pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3000, 3000]);
    }
}
