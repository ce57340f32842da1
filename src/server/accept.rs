//! Taking new connections off the listeners, and not spinning when the system has no room for them.

use super::limits::{ACCEPT_PAUSE, LOG_INTERVAL};
use super::listen::Listener;
use super::socket::{Peer, Socket};
use std::io::ErrorKind;
use std::time::Instant;

/// The listeners, and which of them may have connections waiting.
pub(super) struct Acceptor {
    /// With each, whether somebody may be waiting. Events come only at changes.
    listeners: Vec<(Listener, bool)>,
    paused_until: Option<Instant>,
    failures: Occasionally,
}

impl Acceptor {
    pub(super) fn new(listeners: Vec<Listener>) -> Self {
        let listeners = listeners
            .into_iter()
            .map(|listener| (listener, true))
            .collect();
        Self {
            listeners,
            paused_until: None,
            failures: Occasionally::default(),
        }
    }

    /// How many listeners there are.
    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Takes note that somebody is waiting at a listener.
    pub(super) fn note(&mut self, index: usize) {
        if let Some((_, waiting)) = self.listeners.get_mut(index) {
            *waiting = true;
        }
    }

    /// The next connection that waits at a listener.
    ///
    /// An error is the system's lack of something (open files, memory) as a rule, or else unheard
    /// of: nothing is accepted for a moment then, and the peers wait in the system's queue.
    pub(super) fn next(&mut self, index: usize, now: Instant) -> Option<(Socket, Peer)> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        let (listener, waiting) = self.listeners.get_mut(index)?;
        while *waiting {
            let error = match listener.accept() {
                Ok(accepted) => return Some(accepted),
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::WouldBlock => *waiting = false,
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                _ => {
                    self.paused_until = Some(now + ACCEPT_PAUSE);
                    if let Some(unsaid) = self.failures.say(now) {
                        tracing::warn!(unsaid, "no connection can be accepted for now: {error}");
                    }
                    return None;
                }
            }
        }
        None
    }

    /// When to try again, if somebody may be waiting.
    pub(super) fn next_try(&self, now: Instant) -> Option<Instant> {
        let somebody_waits = self.listeners.iter().any(|(_, waiting)| *waiting);
        somebody_waits.then(|| self.paused_until.unwrap_or(now))
    }

    /// Closes the listeners for good. Who waits at them is reset by the system.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
    }
}

/// Lets the same trouble be logged once in a while.
#[derive(Default)]
pub(super) struct Occasionally {
    last: Option<Instant>,
    unsaid: u64,
}

impl Occasionally {
    /// If it is time to log: how many times nothing was said since the last one.
    pub(super) fn say(&mut self, now: Instant) -> Option<u64> {
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL)
        {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_logged_at_once_then_rarely_with_a_count_of_what_was_not_said() {
        let mut trouble = Occasionally::default();
        let start = Instant::now();
        assert_eq!(trouble.say(start), Some(0));
        assert_eq!(trouble.say(start), None);
        assert_eq!(trouble.say(start), None);
        assert_eq!(trouble.say(start + LOG_INTERVAL), Some(2));
    }
}
