//! Looking for events for a moment before the system is asked to sleep until there are some.
//!
//! To be woken up takes a process longer than many a request: 30 to 60 µs on a virtual machine, where the
//! processor has gone to sleep too. A client that asks one thing after the other waits for that each
//! time. So while the events of few connections follow each other closely, the loop looks again and again
//! for a moment, and lets other processes run in between. Otherwise it sleeps at once: the more there
//! is to do when it wakes up, the more shares the next commit.

use mio::{Events, Poll};
use std::io;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

/// Connections that may have had events in one turn for the next ones to be looked for: with more of them,
/// there will soon be something to do anyway.
const CONNECTIONS_MAX: usize = 4;

/// How the loop waits for events.
pub(super) struct BusyPoll {
    /// How long to look before sleeping.
    time_max: Duration,
    /// True if the last events came so soon that looking for the next ones is likely to find them.
    is_worthwhile: bool,
}

impl BusyPoll {
    /// Looks for at most that long. Never on a single processor: whoever is waited for needs it.
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

    /// Waits for events, not much longer than `at_most`, after a turn of so many connections.
    ///
    /// # Errors
    /// Those of `poll`.
    pub(super) fn poll(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        at_most: Duration,
        connections: usize,
    ) -> io::Result<()> {
        if self.time_max.is_zero() || at_most.is_zero() {
            return poll.poll(events, Some(at_most));
        }
        let start = Instant::now();
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
        // Being woken up has taken its time as well.
        self.is_worthwhile = start.elapsed() < self.time_max * 2;
        polled
    }
}
