//! What the loop has done since its start, and what it has to do.

use super::event_loop::EventLoop;
use super::service::Service;
use crate::clock::Clock;
use std::fs;
use std::time::{Duration, Instant};

/// Counters since the start.
pub(super) struct Totals {
    started: Instant,
    /// Connections that were accepted.
    pub(super) accepted: u64,
    /// Connections that were reset at once: too many, or from a network that is not allowed.
    pub(super) refused: u64,
    /// Messages that the service has handled.
    pub(super) messages: u64,
}

impl Totals {
    /// All counters at zero.
    pub(super) fn since(started: Instant) -> Self {
        Self {
            started,
            accepted: 0,
            refused: 0,
            messages: 0,
        }
    }
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
        Statistics {
            uptime: self.instant.saturating_duration_since(self.totals.started),
            connections: self.connections.len(),
            accepted: self.totals.accepted,
            refused: self.totals.refused,
            messages: self.totals.messages,
            unsent_bytes: self.memory.unsent,
        }
    }

    /// Writes the statistics of the loop and of the service to the log.
    pub(super) fn log_statistics(&mut self) {
        self.statistics().log();
        self.service.log_statistics();
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
