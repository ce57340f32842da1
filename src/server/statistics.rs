//! What the loop has done so far, and has before it: written to the log when somebody asks.

use super::service::Service;
use super::turn::EventLoop;
use crate::clock::Clock;
use std::fs;
use std::time::{Duration, Instant};

/// Counters since the start.
pub(super) struct Totals {
    started: Instant,
    /// Connections that were opened.
    pub(super) accepted: u64,
    /// Connections that were closed at once: too many, or from a network that may not connect.
    pub(super) refused: u64,
    /// Messages that were handed to the service.
    pub(super) messages: u64,
}

impl Totals {
    /// Zero of everything.
    pub(super) fn since(started: Instant) -> Self {
        Self {
            started,
            accepted: 0,
            refused: 0,
            messages: 0,
        }
    }
}

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// Writes a line about the loop to the log, and lets the service write its own.
    pub(super) fn log_statistics(&mut self) {
        let uptime = self.instant.saturating_duration_since(self.totals.started);
        tracing::info!(
            uptime = %humantime::format_duration(Duration::from_secs(uptime.as_secs())),
            memory_kib = memory_kib(),
            connections = self.connections.len(),
            accepted = self.totals.accepted,
            refused = self.totals.refused,
            messages = self.totals.messages,
            unsent_bytes = self.held.unsent,
            "statistics of connections"
        );
        self.service.log_statistics();
    }
}

/// The memory that this process has, where the system tells.
fn memory_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
