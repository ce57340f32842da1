//! Keeping the memory of all connections within its limits: when long reads may start, and which connections are
//! refused or reset when it is too much.

use super::event_loop::{EventLoop, enqueue};
use super::limits::ROOM_WAIT;
use super::service::Service;
use super::table::Key;
use crate::clock::Clock;
use coordinated_client::cborrpc::framing::FrameError;
use std::cmp::Reverse;
use std::time::Instant;

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// Hands long reads to the pool, as long as it can use them and there is room for their answers.
    pub(super) fn start_long_reads(&mut self) {
        while self.pool.wants_more() && !self.memory.is_crowded(&self.limits) {
            let Some(key) = self.waiting_reads.pop_front() else {
                return;
            };
            if let Some(connection) = self.connections.get_mut(key)
                && let Some(job) = connection.long_read.take()
            {
                self.pool.submit(key, job);
            }
        }
    }

    /// Refuses the connection with the most unread bytes, again and again, until the rest is within the limit.
    pub(super) fn make_room_for_messages(&mut self) {
        let limit = self.limits.unread_total_bytes_max;
        while self.memory.unread > limit {
            let largest = self
                .connections
                .iter()
                .map(|(key, connection)| (connection.counted().unread, key))
                .max_by_key(|(unread, _)| *unread);
            let Some((bytes, key)) = largest else { return };
            let Some(connection) = self.connections.get_mut(key) else {
                return;
            };
            let error = FrameError::Crowded { limit };
            self.totals.refused_messages.add(1);
            if let Some(suppressed) = self.refused_messages.permit(self.instant) {
                let peer = connection.peer;
                tracing::warn!(%peer, bytes, suppressed, "refused a message: {error}");
            }
            if connection.busy || connection.asleep.is_some() {
                // An earlier message is still to be answered, so an error here would be out of order.
                self.reset(key);
                continue;
            }
            connection.end();
            let service = &*self.service;
            connection.append(self.instant, |out| service.write_refusal(&error, out));
            self.settle(key);
        }
    }

    /// Resets connections while all unsent answers take more memory than they may, first those that have made no
    /// progress for longest: a client that reads its answers goes on, however many others do not. If long reads wait
    /// for room, connections that have made no progress for [`ROOM_WAIT`] are reset as well.
    pub(super) fn make_room_for_answers(&mut self) {
        let limit = self.limits.unsent_total_bytes_max;
        let is_needed = !self.waiting_reads.is_empty();
        if self.memory.unsent <= limit {
            if !is_needed || !self.memory.is_crowded(&self.limits) {
                self.next_room_check = None;
                return;
            }
            if self.next_room_check.is_some_and(|next| self.instant < next) {
                return;
            }
        }
        let mut by_progress: Vec<(Instant, Reverse<usize>, Key)> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.counted().unsent > 0)
            .map(|(key, connection)| {
                let size = Reverse(connection.counted().unsent);
                (connection.answers_moved(), size, key)
            })
            .collect();
        by_progress.sort_unstable_by_key(|(moved, size, _)| (*moved, *size));
        self.next_room_check = None;
        for (moved, Reverse(bytes), key) in by_progress {
            if self.memory.unsent <= limit {
                if !is_needed || !self.memory.is_crowded(&self.limits) {
                    return;
                }
                if self.instant < moved + ROOM_WAIT {
                    self.next_room_check = Some(moved + ROOM_WAIT);
                    return;
                }
            }
            if let Some(connection) = self.connections.get_mut(key)
                && let Some(suppressed) = self.too_much_unsent_in_all.permit(self.instant)
            {
                let peer = connection.peer;
                tracing::warn!(
                    %peer, bytes, suppressed, limit,
                    "reset: the peer does not read its answers, and others need the memory (limit of unsent bytes in total)"
                );
            }
            self.reset(key);
        }
    }

    /// Resumes reading from connections that were paused for the memory of all unsent answers, if that allows it.
    pub(super) fn resume_paused(&mut self) {
        if !self.has_paused || self.memory.is_crowded(&self.limits) {
            return;
        }
        self.has_paused = false;
        for (key, connection) in self.connections.iter_mut() {
            if connection.has_input() {
                enqueue(&mut self.ready, key, connection);
            }
        }
    }
}
