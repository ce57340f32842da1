//! Accepting new connections, and pausing when the system has no resources left for them.

use super::limits::ACCEPT_PAUSE;
use super::listen::Listener;
use super::log_throttle::LogThrottle;
use super::socket::{Peer, Socket};
use std::io::ErrorKind;
use std::time::Instant;

/// The listeners, and which of them may have connections waiting.
pub(super) struct Acceptor {
    /// With each, whether a peer may be waiting. Events come only at changes.
    listeners: Vec<(Listener, bool)>,
    paused_until: Option<Instant>,
    failures: LogThrottle,
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
            failures: LogThrottle::default(),
        }
    }

    /// How many listeners there are.
    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Notes that a peer is waiting at a listener.
    pub(super) fn note(&mut self, index: usize) {
        if let Some((_, waiting)) = self.listeners.get_mut(index) {
            *waiting = true;
        }
    }

    /// The next connection that waits at a listener.
    ///
    /// An error usually means that the system lacks a resource (open files, memory). Then nothing is accepted for a
    /// moment, and the peers wait in the system's queue.
    pub(super) fn next(&mut self, index: usize, now: Instant) -> Option<(Socket, Peer)> {
        if self.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        self.paused_until = None;
        let (listener, waiting) = self.listeners.get_mut(index)?;
        while *waiting {
            let error = match listener.accept(now) {
                Ok(accepted) => return Some(accepted),
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::WouldBlock => *waiting = false,
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                _ => {
                    self.paused_until = Some(now + ACCEPT_PAUSE);
                    if let Some(suppressed) = self.failures.permit(now) {
                        tracing::warn!(suppressed, "cannot accept connections for now: {error}");
                    }
                    return None;
                }
            }
        }
        None
    }

    /// When to try again, if a peer may be waiting.
    pub(super) fn next_try(&self, now: Instant) -> Option<Instant> {
        let has_waiting = self.listeners.iter().any(|(_, waiting)| *waiting);
        has_waiting.then(|| self.paused_until.unwrap_or(now))
    }

    /// Closes the listeners for good. The system resets the peers that wait at them.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
    }
}
