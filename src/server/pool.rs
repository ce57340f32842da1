//! Threads for long reads, beside the loop.

use super::service::Job;
use super::table::Key;
use mio::Waker;
use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// A job that has ended.
pub(super) struct Finished {
    /// The connection that the answer is for.
    pub(super) key: Key,
    /// The bytes of the answer, or the message of the job's panic.
    pub(super) answer: Result<Vec<u8>, String>,
}

/// A fixed number of threads that run jobs in the order of their coming and wake the loop at each
/// end.
pub(super) struct Pool {
    queue: Arc<Queue>,
    finished: Receiver<Finished>,
    threads: Vec<JoinHandle<()>>,
    unfinished: usize,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<(Key, Job)>,
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
                .spawn(move || run_jobs(&queue, &sender, &waker))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// True if it has use for another job: each thread has one to run, and one to go on with when that has ended.
    /// More of them would all make answers that nobody has counted.
    pub(super) fn wants_more(&self) -> bool {
        self.unfinished < 2 * self.threads.len()
    }

    pub(super) fn submit(&mut self, key: Key, job: Job) {
        self.unfinished += 1;
        self.queue.lock().jobs.push_back((key, job));
        self.queue.changed.notify_one();
    }

    /// The next job that has ended, if any; never waits.
    pub(super) fn next_finished(&mut self) -> Option<Finished> {
        let finished = self.finished.try_recv().ok()?;
        self.unfinished -= 1;
        Some(finished)
    }
}

impl Drop for Pool {
    /// Drops the jobs that wait and ends the threads, but waits for none that is still in a job:
    /// there is nobody left to take its answer, and it may go on for minutes.
    fn drop(&mut self) {
        let dropped = {
            let mut waiting = self.queue.lock();
            waiting.closed = true;
            std::mem::take(&mut waiting.jobs)
        };
        self.queue.changed.notify_all();
        if self.unfinished == 0 {
            for thread in self.threads.drain(..) {
                // A job's panic is caught where it runs, so there is nothing to learn here.
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
    /// A panic elsewhere can't leave the queue half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a job; `None` once the queue is closed.
    fn take(&self) -> Option<(Key, Job)> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            if let Some(job) = waiting.jobs.pop_front() {
                return Some(job);
            }
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn run_jobs(queue: &Queue, sender: &Sender<Finished>, waker: &Waker) {
    while let Some((key, job)) = queue.take() {
        // The job is gone after a panic, and what it shares with others guards itself.
        let answer = catch_unwind(AssertUnwindSafe(job)).map_err(|payload| message_of(&*payload));
        if sender.send(Finished { key, answer }).is_err() {
            return;
        }
        if let Err(error) = waker.wake() {
            tracing::error!("the loop can't be woken, an answer waits for its next turn: {error}");
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
