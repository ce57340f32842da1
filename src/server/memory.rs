//! Memory that messages and answers take: of one connection, or of all of them together.

use super::Limits;

/// Bytes of memory.
#[derive(Clone, Copy, Default)]
pub(super) struct Memory {
    /// What was received: messages that are not complete or not handled yet, and those that a long read answers.
    pub(super) unread: usize,
    /// Answers that wait to be sent, and answers that are not complete yet.
    pub(super) unsent: usize,
}

impl Memory {
    /// Replaces the share of one connection in this total by another one.
    pub(super) fn replace(&mut self, old: Memory, new: Memory) {
        self.unread = self.unread - old.unread + new.unread;
        self.unsent = self.unsent - old.unsent + new.unsent;
    }

    /// True if unsent answers take more than half of what they may. From then on the loop starts nothing that makes
    /// long answers, and reads from no connection that has answers to take: the other half is for short answers, and
    /// for those that are being made.
    pub(super) fn is_crowded(&self, limits: &Limits) -> bool {
        self.unsent > limits.unsent_total_bytes_max / 2
    }
}
