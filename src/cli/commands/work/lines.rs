//! A queue of lines for a reader that may be slow or not read at all.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes that wait to be read; further lines are left out.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// How long a worker that is to end at once waits for its readers.
const HURRIED_WAIT_MAX: Duration = Duration::from_secs(1);

/// A queue between threads that add lines and never wait, and a thread that writes them and may have to wait for the
/// reader.
#[derive(Default)]
pub(super) struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    waiting_bytes: usize,
    left_out: u64,
    is_closed: bool,
    is_written: bool,
    is_hurried: bool,
}

impl Lines {
    /// Locks the state, even if the lock is poisoned: no panic can leave the state inconsistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, unless too many wait.
    pub(super) fn push(&self, line: String) {
        let mut state = self.lock();
        if state.waiting_bytes + line.len() > WAITING_BYTES_MAX {
            state.left_out += 1;
            return;
        }
        state.waiting_bytes += line.len();
        state.waiting.push_back(line);
        self.changed.notify_all();
    }

    /// Writes lines as they come, until [`Lines::finish`] is called and all are written.
    pub(super) fn write(&self, mut write: impl FnMut(&str)) {
        while let Some(line) = self.next() {
            write(&line);
        }
        self.lock().is_written = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<String> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.waiting.pop_front() {
                state.waiting_bytes -= line.len();
                return Some(line);
            }
            if state.is_closed {
                return None;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all lines are written, or only a short time once [`Lines::hurry`] was called. Returns how many lines were
    /// left out.
    pub(super) fn finish(&self) -> u64 {
        let mut state = self.lock();
        state.is_closed = true;
        self.changed.notify_all();
        let mut give_up_at = None;
        while !state.is_written {
            let waited = if state.is_hurried {
                let now = Instant::now();
                let at = *give_up_at.get_or_insert(now + HURRIED_WAIT_MAX);
                if now >= at {
                    break;
                }
                let waited = self.changed.wait_timeout(state, at - now);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let waited = self.changed.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            };
            state = waited;
        }
        state.left_out
    }

    /// Makes [`Lines::finish`] wait only a short time.
    pub(super) fn hurry(&self) {
        self.lock().is_hurried = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_the_rest_is_counted() {
        let lines = Lines::default();
        for _ in 0..10 {
            lines.push("x".repeat(1 << 20));
        }
        lines.lock().is_closed = true;
        let mut written = 0;
        lines.write(|line| written += line.len());
        assert_eq!(written, WAITING_BYTES_MAX);
        assert_eq!(lines.finish(), 6);
    }
}
