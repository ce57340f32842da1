//! The end of the loop: answering what was received, and closing connections so that clients retry.

use super::ServerError;
use super::event_loop::{EventLoop, enqueue};
use super::limits::{
    DELIVERY_CHECK_INTERVAL, DELIVERY_MAX, FAILED_STOP_MAX, STOP_MAX, WRITE_WAIT_AT_STOP,
};
use super::service::Service;
use super::table::Key;
use crate::clock::Clock;
use std::time::{Duration, Instant};

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// Ends the loop after it was told to stop.
    pub(super) fn stop_cleanly(mut self) -> Result<(), ServerError> {
        tracing::info!(connections = self.connections.len(), "stopping");
        self.acceptor.close();
        let result = self.answer_what_was_received();
        if result.is_err() {
            self.stop_after_failure();
            return result;
        }
        self.reset_all(Instant::now() + DELIVERY_MAX);
        tracing::debug!("every connection is closed");
        Ok(())
    }

    /// Ends the loop after a failure: sends what can be sent, but handles nothing more.
    pub(super) fn stop_after_failure(&mut self) {
        self.acceptor.close();
        let deadline = Instant::now() + FAILED_STOP_MAX;
        loop {
            for key in self.keys() {
                self.settle(key);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.is_sent() || left.is_zero() || self.wait(left).is_err() {
                break;
            }
        }
        self.reset_all(deadline);
    }

    /// Reads what has arrived without waiting for more. Goes on until all of it is answered and sent, or until that
    /// takes too long.
    fn answer_what_was_received(&mut self) -> Result<(), ServerError> {
        let deadline = Instant::now() + STOP_MAX;
        self.wait(Duration::ZERO)?;
        self.read_what_is_there();
        self.reading = false;
        self.end_all_sleep();
        self.waiting.end_by(self.instant + WRITE_WAIT_AT_STOP);
        self.limits.write_wait_max = self.limits.write_wait_max.min(WRITE_WAIT_AT_STOP);
        self.tasks.close(self.service);
        loop {
            self.take_finished_reads();
            self.handle_ready()?;
            let now = Instant::now();
            if now >= deadline || self.is_all_sent() {
                return Ok(());
            }
            let wake = if self.ready.is_empty() && !self.tasks.may_have_some() {
                self.waiting.next_try().unwrap_or(deadline).min(deadline)
            } else {
                now
            };
            self.wait(wake.saturating_duration_since(now))?;
        }
    }

    fn read_what_is_there(&mut self) {
        for (key, connection) in self.connections.iter_mut() {
            // Beyond the limit, the other peers have to send their messages again.
            if self.memory.unread <= self.limits.unread_total_bytes_max {
                connection.fill_all(
                    &mut self.scratch,
                    self.limits.frame.message_bytes_max,
                    self.instant,
                );
                connection.count_memory(&mut self.memory);
            }
            enqueue(&mut self.ready, key, connection);
        }
    }

    fn is_all_sent(&self) -> bool {
        self.ready.is_empty()
            && self.waiting.next_try().is_none()
            && !self.tasks.may_have_some()
            && self.is_sent()
            && !self
                .connections
                .iter()
                .any(|(_, connection)| connection.busy)
    }

    /// True if no connection has unsent answers.
    fn is_sent(&self) -> bool {
        self.connections
            .iter()
            .all(|(_, connection)| connection.unsent() == 0)
    }

    /// Resets each connection once its answers have arrived, since a reset discards those that have not. At the
    /// deadline, resets all of them.
    fn reset_all(&mut self, deadline: Instant) {
        for (_, connection) in self.connections.iter_mut() {
            if connection.unsent() == 0 {
                connection.socket_mut().close_session();
            }
        }
        loop {
            let is_late = Instant::now() >= deadline;
            for key in self.keys() {
                let Some(connection) = self.connections.get_mut(key) else {
                    continue;
                };
                // An incomplete answer is of no use to the peer.
                if is_late || connection.unsent() > 0 || connection.undelivered() == 0 {
                    self.reset(key);
                }
            }
            if self.connections.len() == 0 {
                return;
            }
            std::thread::sleep(DELIVERY_CHECK_INTERVAL);
        }
    }

    fn keys(&self) -> Vec<Key> {
        self.connections.iter().map(|(key, _)| key).collect()
    }
}
