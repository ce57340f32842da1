//! How long to wait for a daemon that can't be reached or answers with errors.

use super::runner_pool::Phase;
use crate::Error;
use std::time::{Duration, Instant};

/// The first and the longest pause between two attempts to reach the daemon. Pauses double.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));
/// How long a worker that is to stop at once waits for the daemon.
const STOPPING_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long to retry with a daemon that only answers with errors.
const ERRORS_MAX: Duration = Duration::from_secs(60);

/// A time in which the daemon can't be reached or answers with errors.
pub(super) struct Outage {
    since: Instant,
    pause: Duration,
}

impl Outage {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            pause: RETRY_PAUSE.0,
        }
    }

    pub(super) fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(RETRY_PAUSE.1);
        pause
    }

    /// True if waiting any longer is of no use.
    pub(super) fn is_too_long(&self, error: &Error, phase: Phase) -> bool {
        let waited = self.since.elapsed();
        let is_hopeless = match error {
            // Its disk may be full for a while, or the error may be permanent.
            Error::Failed { .. } | Error::Refused { .. } => waited > ERRORS_MAX,
            _ => false,
        };
        is_hopeless || (phase == Phase::Stopping && waited > STOPPING_WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn outage_of(seconds: u64) -> Outage {
        Outage {
            since: Instant::now() - Duration::from_secs(seconds),
            pause: RETRY_PAUSE.0,
        }
    }

    #[test]
    fn errors_are_retried_for_a_minute_and_an_unreachable_daemon_until_the_worker_is_to_stop() {
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
            let is_too_long = outage_of(seconds).is_too_long(error, phase);
            assert_eq!(is_too_long, expected, "{seconds} s, {error}, {phase:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_three_seconds() {
        let mut outage = Outage::new();
        let pauses: Vec<u128> = (0..7).map(|_| outage.next_pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3000, 3000]);
    }
}
