//! Polling for a moment before the loop sleeps until there are events.
//!
//! Waking a process up takes longer than many requests: 30 to 60 µs on a virtual machine, where the processor has gone
//! to sleep too. A client that sends its next request after each answer would wait for that each time. So while the
//! events of a few connections follow each other closely, the loop polls for a moment and lets other processes run in
//! between. Otherwise it sleeps at once: the more there is to do when it wakes up, the more requests share a commit.

use mio::{Events, Poll};
use std::io;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// The most connections with events in a turn after which the loop polls. With more of them there will soon be
/// something to do anyway.
const CONNECTIONS_MAX: usize = 4;

/// How the loop waits for events.
pub(super) struct BusyPoll {
    /// How long to poll before sleeping.
    time_max: Duration,
    /// True if the last events came so soon that polling is likely to find the next ones.
    is_worthwhile: bool,
}

impl BusyPoll {
    /// Polls for at most `time_max`. Never polls on a machine with one processor, which the clients need.
    pub(super) fn new(time_max: Duration) -> Self {
        let has_another = available_parallelism().is_ok_and(|processors| processors.get() > 1);
        Self {
            time_max: if has_another {
                time_max
            } else {
                Duration::ZERO
            },
            is_worthwhile: false,
        }
    }

    /// Waits for events from `start`, which is now, not much longer than `at_most`. The last turn had this many
    /// `connections` with events.
    ///
    /// # Errors
    /// Those of `poll`.
    pub(super) fn poll(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        at_most: Duration,
        connections: usize,
        start: Instant,
    ) -> io::Result<()> {
        if self.time_max.is_zero() || at_most.is_zero() {
            return poll.poll(events, Some(at_most));
        }
        if self.is_worthwhile && connections <= CONNECTIONS_MAX {
            while start.elapsed() < self.time_max.min(at_most) {
                poll.poll(events, Some(Duration::ZERO))?;
                if !events.is_empty() {
                    return Ok(());
                }
                std::thread::yield_now();
            }
        }
        let polled = poll.poll(events, Some(at_most));
        // This includes the time that waking up took.
        self.is_worthwhile = start.elapsed() < self.time_max * 2;
        polled
    }
}
