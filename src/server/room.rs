//! What all connections together hold in memory: who may take more of it, and who has to go when it is too much.

use super::Limits;
use super::connection::{Connection, Phase};
use super::limits::ROOM_PATIENCE;
use super::service::Service;
use super::table::Key;
use super::turn::{EventLoop, enqueue};
use crate::clock::Clock;
use coordinated_client::cborrpc::framing::FrameError;
use std::cmp::Reverse;
use std::time::Instant;

/// Bytes of memory, over all connections.
#[derive(Default)]
pub(super) struct Held {
    /// What was received: messages that are not whole or not handled yet, and those that a long read answers.
    pub(super) unread: usize,
    /// Answers that wait to be sent, and answers in the making.
    pub(super) unsent: usize,
}

impl Held {
    /// Brings the share of a connection up to date.
    pub(super) fn count<T>(&mut self, connection: &mut Connection<T>) {
        self.forget(connection);
        connection.counted = Held {
            unread: connection.unread_memory(),
            unsent: connection.unsent_memory(),
        };
        self.unread += connection.counted.unread;
        self.unsent += connection.counted.unsent;
    }

    /// Takes the share of a connection out.
    pub(super) fn forget<T>(&mut self, connection: &Connection<T>) {
        self.unread -= connection.counted.unread;
        self.unsent -= connection.counted.unsent;
    }

    /// True if half of what may be unsent is. From then on nothing begins that makes long answers, nor on a
    /// connection that has answers to take: the other half is for short answers, and for those in the making.
    pub(super) fn is_crowded(&self, limits: &Limits) -> bool {
        self.unsent > limits.unsent_total_bytes_max / 2
    }

    /// True if a connection may be read from, and its messages be handled.
    pub(super) fn may_take<T>(&self, connection: &Connection<T>, limits: &Limits) -> bool {
        if connection.phase != Phase::Open {
            // What it sends is dropped, and costs nothing.
            return true;
        }
        let unsent = connection.unsent();
        !connection.busy
            && unsent <= limits.unsent_bytes_max
            && (unsent == 0 || !self.is_crowded(limits))
    }
}

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// Hands long reads to the pool, as long as it has use for them and there is room for their answers.
    pub(super) fn start_jobs(&mut self) {
        while self.pool.wants_more() && !self.held.is_crowded(&self.limits) {
            let Some(key) = self.waiting_jobs.pop_front() else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(key)
                && let Some(job) = connection.job.take()
            {
                self.pool.submit(key, job);
            }
        }
    }

    /// Refuses the connection that has sent most without it being a whole message, until the rest is not too
    /// much.
    pub(super) fn make_room_for_messages(&mut self) {
        let limit = self.limits.unread_total_bytes_max;
        while self.held.unread > limit {
            let largest = self
                .connections
                .iter()
                .map(|(key, connection)| (connection.counted.unread, key))
                .max_by_key(|(unread, _)| *unread);
            let Some((bytes, key)) = largest else { return };
            let Some(connection) = self.connections.get_mut(key) else {
                return;
            };
            let error = FrameError::Crowded { limit };
            if let Some(unsaid) = self.refused_messages.say(self.instant) {
                let peer = connection.peer;
                tracing::warn!(%peer, bytes, unsaid, "refused a message: {error}");
            }
            if connection.busy {
                // The answer to what came before is still to come, so there is no place for an error.
                self.reset(key);
                continue;
            }
            connection.end();
            let service = &*self.service;
            connection.append(self.instant, |out| service.write_refusal(&error, out));
            self.settle(key);
        }
    }

    /// Resets connections while their answers take more memory than they may, those first that have been without
    /// progress for longest: so a client that takes its answers goes on, however many others do not. Those
    /// without progress for [`ROOM_PATIENCE`] also make room for long reads that wait for it.
    pub(super) fn make_room_for_answers(&mut self) {
        let limit = self.limits.unsent_total_bytes_max;
        let is_waited_for = !self.waiting_jobs.is_empty();
        if self.held.unsent <= limit {
            if !is_waited_for || !self.held.is_crowded(&self.limits) {
                self.next_room = None;
                return;
            }
            if self.next_room.is_some_and(|next| self.instant < next) {
                return;
            }
        }
        let mut by_progress: Vec<(Instant, Reverse<usize>, Key)> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.counted.unsent > 0)
            .map(|(key, connection)| {
                let size = Reverse(connection.counted.unsent);
                (connection.answers_moved(), size, key)
            })
            .collect();
        by_progress.sort_unstable_by_key(|(moved, size, _)| (*moved, *size));
        self.next_room = None;
        for (moved, Reverse(bytes), key) in by_progress {
            if self.held.unsent <= limit {
                if !is_waited_for || !self.held.is_crowded(&self.limits) {
                    return;
                }
                if self.instant < moved + ROOM_PATIENCE {
                    self.next_room = Some(moved + ROOM_PATIENCE);
                    return;
                }
            }
            if let Some(connection) = self.connections.get_mut(key)
                && let Some(unsaid) = self.too_much_unsent_in_all.say(self.instant)
            {
                let peer = connection.peer;
                tracing::warn!(
                    %peer, bytes, unsaid, limit,
                    "closed: it takes no answers, and others need the room (--max-unsent-total)"
                );
            }
            self.reset(key);
        }
    }

    /// Looks again at the connections that were held up by the sum of unsent bytes, if it allows.
    pub(super) fn release_held_up(&mut self) {
        if !self.held_up || self.held.is_crowded(&self.limits) {
            return;
        }
        self.held_up = false;
        for (key, connection) in self.connections.iter_mut() {
            if connection.has_input() {
                enqueue(&mut self.ready, key, connection);
            }
        }
    }
}
