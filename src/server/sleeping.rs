//! Messages and tasks that sleep until something happens in the service.
//!
//! A sleeping connection has no timer and takes no part in turns. It is not read from meanwhile, except that the system
//! tells when its peer has closed its side.

use super::event_loop::{EventLoop, enqueue};
use super::service::{Service, Ticket};
use super::table::Key;
use crate::clock::Clock;

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// Lets a connection sleep, whose message was put back. False if it must not.
    pub(super) fn sleep_on(&mut self, key: Key, ticket: Ticket) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        if !self.reading || connection.has_hung_up() {
            self.service.end_sleep(connection.session());
            return false;
        }
        connection.asleep = Some(ticket);
        self.sleeping.insert(ticket, key);
        true
    }

    /// True if a connection sleeps. Ends its sleep before, if its peer has closed its side.
    pub(super) fn is_asleep(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let Some(ticket) = connection.asleep else {
            return false;
        };
        if !connection.has_hung_up() {
            return true;
        }
        connection.asleep = None;
        connection.has_woken = true;
        self.sleeping.remove(&ticket);
        self.service.end_sleep(connection.session());
        false
    }

    /// True if a message or a task sleeps.
    pub(super) fn has_sleeping(&self) -> bool {
        !self.sleeping.is_empty() || self.tasks.has_sleeping()
    }

    /// Puts what the service wakes before all else, in its order: connections at the front of the queue, and tasks among
    /// those that run before the next message.
    pub(super) fn wake_sleeping(&mut self) {
        if !self.has_sleeping() {
            return;
        }
        while let Some(ticket) = self.service.next_awake(self.now) {
            let Some(key) = self.sleeping.remove(&ticket) else {
                self.tasks.wake(ticket);
                continue;
            };
            if let Some(connection) = self.connections.get_mut(key) {
                connection.asleep = None;
                connection.has_woken = true;
                connection.queued = true;
                connection.messages_left = connection.messages_left.max(1);
                self.woken.push(key);
            }
        }
        // They are sent their answers with those of this turn.
        self.turn.extend(&self.woken);
        for key in self.woken.drain(..).rev() {
            self.ready.push_front(key);
        }
    }

    /// True if what comes next was woken.
    pub(super) fn is_next_woken(&mut self) -> bool {
        let next = self.ready.front().copied();
        self.tasks.has_woken()
            || next
                .and_then(|key| self.connections.get_mut(key))
                .is_some_and(|connection| connection.has_woken)
    }

    /// Ends all sleep, since the loop is stopping: each message is handled once more.
    pub(super) fn end_all_sleep(&mut self) {
        for (_, key) in self.sleeping.drain() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.asleep = None;
                connection.has_woken = true;
                self.service.end_sleep(connection.session());
                enqueue(&mut self.ready, key, connection);
            }
        }
    }
}
