//! Threads for long reads, beside the loop.

use super::service::LongRead;
use super::table::Key;
use mio::Waker;
use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// A long read that has ended.
pub(super) struct Finished {
    /// The connection that the answer is for.
    pub(super) key: Key,
    /// The bytes of the answer, or the message if the read panicked.
    pub(super) answer: Result<Vec<u8>, String>,
}

/// A fixed number of threads that run long reads in the order in which they were submitted, and wake the loop at the
/// end of each.
pub(super) struct Pool {
    queue: Arc<Queue>,
    finished: Receiver<Finished>,
    threads: Vec<JoinHandle<()>>,
    unfinished: usize,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Submitted>,
    changed: Condvar,
}

#[derive(Default)]
struct Submitted {
    reads: VecDeque<(Key, LongRead)>,
    closed: bool,
}

impl Pool {
    /// Starts the threads, at least one.
    pub(super) fn start(threads: usize, waker: &Arc<Waker>) -> io::Result<Self> {
        let (sender, finished) = channel();
        let mut pool = Self {
            queue: Arc::default(),
            finished,
            threads: Vec::new(),
            unfinished: 0,
        };
        for number in 1..=threads.max(1) {
            let (queue, sender, waker) =
                (Arc::clone(&pool.queue), sender.clone(), Arc::clone(waker));
            let thread = thread::Builder::new()
                .name(format!("reader-{number}"))
                .spawn(move || run_reads(&queue, &sender, &waker))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// True if it can use another read: each thread has one to run and one to continue with. More of them would all
    /// make answers that are not counted yet.
    pub(super) fn wants_more(&self) -> bool {
        self.unfinished < 2 * self.threads.len()
    }

    pub(super) fn submit(&mut self, key: Key, read: LongRead) {
        self.unfinished += 1;
        self.queue.lock().reads.push_back((key, read));
        self.queue.changed.notify_one();
    }

    /// The next read that has ended, if there is one. Never waits.
    pub(super) fn next_finished(&mut self) -> Option<Finished> {
        let finished = self.finished.try_recv().ok()?;
        self.unfinished -= 1;
        Some(finished)
    }
}

impl Drop for Pool {
    /// Drops the reads that have not started and ends the threads. Does not wait for threads that are still reading:
    /// nobody needs their answers, and they may take minutes.
    fn drop(&mut self) {
        let dropped = {
            let mut waiting = self.queue.lock();
            waiting.closed = true;
            std::mem::take(&mut waiting.reads)
        };
        self.queue.changed.notify_all();
        if self.unfinished == 0 {
            for thread in self.threads.drain(..) {
                // A panic is caught where it occurs, so there is nothing to report here.
                let _ = thread.join();
            }
        } else {
            let running = self.unfinished - dropped.len();
            tracing::warn!(
                running,
                never_started = dropped.len(),
                "long reads are abandoned"
            );
        }
    }
}

impl Queue {
    /// Locks the queue, even if the lock is poisoned: no panic can leave the queue inconsistent.
    fn lock(&self) -> MutexGuard<'_, Submitted> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a read; `None` once the queue is closed.
    fn take(&self) -> Option<(Key, LongRead)> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(read) = waiting.reads.pop_front() {
                return Some(read);
            }
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn run_reads(queue: &Queue, sender: &Sender<Finished>, waker: &Waker) {
    while let Some((key, read)) = queue.take() {
        // After a panic the read is gone, and its locks are poisoned if that matters.
        let answer = catch_unwind(AssertUnwindSafe(read)).map_err(|payload| message_of(&*payload));
        if sender.send(Finished { key, answer }).is_err() {
            return;
        }
        if let Err(error) = waker.wake() {
            tracing::error!(
                "cannot wake the event loop, so an answer waits for the next turn: {error}"
            );
        }
    }
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "no message".to_owned()
    }
}
