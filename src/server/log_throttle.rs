//! Keeps a problem that occurs again and again from filling the log.

use super::limits::LOG_INTERVAL;
use std::time::Instant;

/// Lets messages of one kind be logged once in [`LOG_INTERVAL`], and counts those that it suppresses.
#[derive(Default)]
pub(super) struct LogThrottle {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogThrottle {
    /// If a message may be logged now: how many were suppressed since the last one.
    pub(super) fn permit(&mut self, now: Instant) -> Option<u64> {
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL)
        {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_logged_at_once_then_rarely_with_the_count_of_suppressed_messages() {
        let mut throttle = LogThrottle::default();
        let start = Instant::now();
        assert_eq!(throttle.permit(start), Some(0));
        assert_eq!(throttle.permit(start), None);
        assert_eq!(throttle.permit(start), None);
        assert_eq!(throttle.permit(start + LOG_INTERVAL), Some(2));
    }
}
