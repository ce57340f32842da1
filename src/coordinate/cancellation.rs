//! Cancellations: that a unit is not to be worked on any more, and why.

use crate::clock::Timestamp;

/// Who cancelled a unit, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// Why, if that was said.
    pub reason: Option<String>,
    /// Who did it, if that was said.
    pub by: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl Cancellation {
    /// What the unit fails with, and what its worker is told: one line.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.reason {
            Some(reason) => format!("cancelled: {}", reason.replace(['\n', '\r'], " ")),
            None => "cancelled".to_owned(),
        }
    }
}

/// How many units a call has cancelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Units that have failed for it already.
    pub failed: u64,
    /// Units that run until their workers let them go, or until the grace is over.
    pub running: u64,
}

impl std::ops::AddAssign for Cancelled {
    fn add_assign(&mut self, other: Self) {
        self.failed += other.failed;
        self.running += other.running;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_one_line_whatever_the_reason() {
        let message = |reason: Option<&str>| {
            let reason = reason.map(str::to_owned);
            let (by, at) = (None, Timestamp(0));
            Cancellation { reason, by, at }.message()
        };
        assert_eq!(message(None), "cancelled");
        assert_eq!(message(Some("bad input")), "cancelled: bad input");
        assert_eq!(message(Some("two\nlines")), "cancelled: two lines");
    }
}
