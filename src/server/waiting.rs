//! Messages and tasks that wait because another program keeps the service from writing.

use super::event_loop::EventLoop;
use super::limits::WRITE_RETRY_INTERVAL;
use super::service::Service;
use super::table::Key;
use crate::clock::Clock;
use std::time::{Duration, Instant};

/// The connections with a waiting message, in the order in which they began to wait. Such a connection stays marked as
/// queued, so that no event causes its message to be handled earlier.
#[derive(Default)]
pub(super) struct Waiting {
    keys: Vec<Key>,
    /// `None` if nothing waits.
    times: Option<Times>,
}

#[derive(Clone, Copy)]
struct Times {
    next_try: Instant,
    /// When everything that waits fails.
    end: Instant,
}

impl Waiting {
    /// Lets a connection wait. If nothing waited before, the wait ends after `at_most`.
    pub(super) fn push(&mut self, key: Key, now: Instant, at_most: Duration) {
        self.keys.push(key);
        self.begin(now, at_most);
    }

    /// Begins a wait of `at_most`, unless there is one.
    pub(super) fn begin(&mut self, now: Instant, at_most: Duration) {
        self.times.get_or_insert(Times {
            next_try: now + WRITE_RETRY_INTERVAL,
            end: now + at_most,
        });
    }

    /// When to try next whether the service can write.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.times.map(|times| times.next_try)
    }

    /// Ends the present wait at `end` at the latest.
    pub(super) fn end_by(&mut self, end: Instant) {
        if let Some(times) = &mut self.times {
            times.end = times.end.min(end);
        }
    }
}

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// Ends the wait, for all at once, if the service can write or the first one has waited for too long. True if the
    /// service has begun a batch.
    pub(super) fn end_waits(&mut self) -> bool {
        let Some(times) = &mut self.waiting.times else {
            return false;
        };
        if self.instant < times.next_try {
            return false;
        }
        let can_write = self.service.can_write();
        if !can_write && self.instant < times.end {
            times.next_try = self.instant + WRITE_RETRY_INTERVAL;
            return false;
        }
        self.waiting.times = None;
        if !can_write {
            let messages = self.waiting.keys.len();
            let tasks = self.tasks.waiting();
            tracing::warn!(
                messages,
                tasks,
                "answered with an error: another program keeps the database locked"
            );
        }
        for key in self.waiting.keys.drain(..) {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            if !can_write {
                self.service.end_waiting(connection.session());
            }
            self.ready.push_back(key);
        }
        self.tasks.end_waits(can_write);
        can_write
    }
}
