//! Connections whose next message waits, and tasks that wait, because another program keeps the service from writing.

use super::limits::WRITE_LOOK;
use super::service::Service;
use super::table::Key;
use super::turn::EventLoop;
use crate::clock::Clock;
use std::time::{Duration, Instant};

/// Who waits, in the order in which they began. Such a connection stays marked as queued, so that no event lets its
/// message be looked at before its time.
#[derive(Default)]
pub(super) struct Waiting {
    keys: Vec<Key>,
    /// When to look next, and when all of them have waited for long enough; `None` if nobody waits.
    times: Option<Times>,
}

#[derive(Clone, Copy)]
struct Times {
    next_look: Instant,
    end: Instant,
}

impl Waiting {
    /// Lets a connection wait; `at_most` counts if it is the first one.
    pub(super) fn push(&mut self, key: Key, now: Instant, at_most: Duration) {
        self.keys.push(key);
        self.begin(now, at_most);
    }

    /// Somebody waits; `at_most` counts if nobody did.
    pub(super) fn begin(&mut self, now: Instant, at_most: Duration) {
        self.times.get_or_insert(Times {
            next_look: now + WRITE_LOOK,
            end: now + at_most,
        });
    }

    /// When something is to be done for those who wait.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.times.map(|times| times.next_look)
    }

    /// Lets nobody wait for longer than until `end`.
    pub(super) fn end_by(&mut self, end: Instant) {
        if let Some(times) = &mut self.times {
            times.end = times.end.min(end);
        }
    }
}

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// Gives those who wait their turn, all at once, if the service can write or the first one has waited for too
    /// long. True if the service has begun a batch.
    pub(super) fn end_waits(&mut self) -> bool {
        let Some(times) = &mut self.waiting.times else {
            return false;
        };
        if self.instant < times.next_look {
            return false;
        }
        let can_write = self.service.can_write();
        if !can_write && self.instant < times.end {
            times.next_look = self.instant + WRITE_LOOK;
            return false;
        }
        self.waiting.times = None;
        if !can_write {
            let messages = self.waiting.keys.len();
            let tasks = self.tasks.waiting();
            tracing::warn!(
                messages,
                tasks,
                "answered with an error: another program keeps us from writing"
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
