//! What the loop has done since its start, and what it has to do.

use super::event_loop::EventLoop;
use super::service::Service;
use crate::clock::Clock;
use crate::counting::{Counter, SharedLatencies};
use std::fs;
use std::time::{Duration, Instant};

/// What the loop counts. Other threads may read it.
#[derive(Debug, Default)]
pub struct Totals {
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were reset at once because their network is not allowed.
    pub refused_networks: Counter,
    /// Connections that were reset at once because too many were open.
    pub refused_connections: Counter,
    /// Connections that were ended because TLS failed.
    pub failed_tls: Counter,
    /// Messages that the service has handled.
    pub messages: Counter,
    /// Messages that could not be read, after which their connections were closed.
    pub refused_messages: Counter,
    /// Bytes that peers have sent.
    pub received_bytes: Counter,
    /// Bytes that the system has taken to send to peers.
    pub sent_bytes: Counter,
    /// Nanoseconds in which the loop did not wait.
    pub busy_nanoseconds: Counter,
    /// From when the loop woke up until a message was answered, its changes on disk.
    pub message_time: SharedLatencies,
    /// The same for tasks of other threads.
    pub task_time: SharedLatencies,
    /// Connections that are open.
    pub connections: Counter,
    /// Bytes of memory that messages take which were not handled yet.
    pub unread_bytes: Counter,
    /// Bytes of memory that unsent answers take.
    pub unsent_bytes: Counter,
}

/// The loop's statistics at one time.
struct Statistics {
    uptime: Duration,
    /// Connections that are open.
    connections: usize,
    accepted: u64,
    refused: u64,
    messages: u64,
    /// Bytes of memory that unsent answers take.
    unsent_bytes: usize,
}

impl Statistics {
    /// Writes a line to the log.
    fn log(&self) {
        let uptime = Duration::from_secs(self.uptime.as_secs());
        tracing::info!(
            uptime = %humantime::format_duration(uptime),
            memory_kib = memory_kib(),
            connections = self.connections,
            accepted = self.accepted,
            refused = self.refused,
            messages = self.messages,
            unsent_bytes = self.unsent_bytes,
            "statistics of connections"
        );
    }
}

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    fn statistics(&self) -> Statistics {
        let totals = &self.totals;
        Statistics {
            uptime: self.instant.saturating_duration_since(self.started),
            connections: self.connections.len(),
            accepted: totals.accepted.get(),
            refused: totals.refused_networks.get() + totals.refused_connections.get(),
            messages: totals.messages.get(),
            unsent_bytes: self.memory.unsent,
        }
    }

    /// Writes the statistics of the loop and of the service to the log.
    pub(super) fn log_statistics(&mut self) {
        self.statistics().log();
        self.service.log_statistics();
    }

    /// Counts the time of a turn that has answered messages and tasks, from the last poll until now.
    pub(super) fn count_answered(&self, until: Instant, messages: u64, tasks: u64) {
        let time = until.saturating_duration_since(self.instant);
        if messages > 0 {
            self.totals.message_time.observe(time, messages);
        }
        if tasks > 0 {
            self.totals.task_time.observe(time, tasks);
        }
    }

    /// Counts the time since the last poll as busy, and notes what the turn has left.
    pub(super) fn count_turn(&self, ended: Instant) {
        let time = ended.saturating_duration_since(self.woken_at).as_nanos();
        let totals = &self.totals;
        totals
            .busy_nanoseconds
            .add(u64::try_from(time).unwrap_or(u64::MAX));
        totals.connections.set(self.connections.len() as u64);
        totals.unread_bytes.set(self.memory.unread as u64);
        totals.unsent_bytes.set(self.memory.unsent as u64);
    }
}

/// The resident memory of this process, where the system tells.
fn memory_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
