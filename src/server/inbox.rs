//! Work from other threads: tasks that join the loop's batches like messages.

use super::limits::TASKS_PER_TURN;
use super::service::{BatchError, Service, Ticket};
use crate::clock::Timestamp;
use mio::Waker;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Work that another thread submits, to be done in a batch of the loop.
pub trait Task<S: Service>: Send {
    /// Runs in the current batch, on the loop's thread.
    fn run(self: Box<Self>, service: &mut S, now: Timestamp) -> TaskProgress<S>;

    /// Called before the task runs again, if the batch of its last step was rolled back.
    fn rolled_back(&mut self, error: &BatchError) {
        let _ = error;
    }

    /// Called before the task runs again, if it has waited to write for as long as it may. It must not wait again.
    fn end_waiting(&mut self) {}

    /// Called before the task runs again because the loop is stopping, if it sleeps. It must not sleep any more.
    fn end_sleep(&mut self, service: &mut S) {
        let _ = service;
    }
}

/// How far a task has come.
pub enum TaskProgress<S: Service> {
    /// The task is done. The reply is called after the commit of the batch, with its outcome.
    Done(Reply),
    /// A step is done, and the task is to run again in a later batch.
    Again(Box<dyn Task<S>>),
    /// The task has to write, and another program keeps the service from writing. It has done nothing in the current
    /// batch, and is to run again when [`Service::can_write`] is true, or after [`Task::end_waiting`].
    Wait(Box<dyn Task<S>>),
    /// The task waits for something to happen in the service. It is to run again when [`Service::next_awake`] returns its
    /// ticket, or after [`Task::end_sleep`].
    Sleep(Ticket, Box<dyn Task<S>>),
}

/// Passes the outcome of a task's batch on to the thread that waits for it. Runs on the loop's thread, and must not
/// block.
pub type Reply = Box<dyn FnOnce(&Result<(), BatchError>) + Send>;

/// Why a task was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("too many requests are waiting; try again later")]
    Full,
    /// The loop is stopping or has ended.
    #[error("the daemon is stopping")]
    Stopped,
}

/// Where other threads submit tasks to a loop. See [`super::Server::inbox`].
pub struct Inbox<S: Service> {
    tasks: SyncSender<Box<dyn Task<S>>>,
    waker: Arc<Waker>,
}

impl<S: Service> Clone for Inbox<S> {
    fn clone(&self) -> Self {
        Self {
            tasks: self.tasks.clone(),
            waker: Arc::clone(&self.waker),
        }
    }
}

impl<S: Service> Inbox<S> {
    /// Submits a task, and returns at once. If the loop ends early, the task is dropped without having run, or without
    /// its reply having been called.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(&self, task: impl Task<S> + 'static) -> Result<(), SubmitError> {
        self.tasks
            .try_send(Box::new(task))
            .map_err(|error| match error {
                TrySendError::Full(_) => SubmitError::Full,
                TrySendError::Disconnected(_) => SubmitError::Stopped,
            })?;
        if let Err(error) = self.waker.wake() {
            tracing::error!(
                "cannot wake the event loop, so a task waits for the next turn: {error}"
            );
        }
        Ok(())
    }
}

/// The tasks that a loop runs.
pub struct Tasks<S: Service> {
    submitted: Option<Receiver<Box<dyn Task<S>>>>,
    /// Those that run next, before the submitted ones.
    next: VecDeque<Box<dyn Task<S>>>,
    /// Those that did a step in the current batch and have further ones.
    again: Vec<Box<dyn Task<S>>>,
    /// Those that wait until the service can write.
    waiting: Vec<Box<dyn Task<S>>>,
    /// Those that sleep.
    asleep: HashMap<Ticket, Box<dyn Task<S>>>,
    /// Those that were woken, and run before anything else.
    woken: VecDeque<Box<dyn Task<S>>>,
    /// The replies of those that were done in the current batch.
    replies: Vec<Reply>,
    /// How many more may run in this turn.
    left_in_turn: u32,
    /// True if the queue may have tasks.
    may_have: bool,
}

/// A queue of `capacity` tasks, and the waker of the loop that runs them.
pub(super) fn inbox<S: Service>(capacity: usize, waker: &Arc<Waker>) -> (Inbox<S>, Tasks<S>) {
    let (sender, receiver) = sync_channel(capacity);
    let inbox = Inbox {
        tasks: sender,
        waker: Arc::clone(waker),
    };
    let tasks = Tasks {
        submitted: Some(receiver),
        may_have: true,
        ..Tasks::none()
    };
    (inbox, tasks)
}

impl<S: Service> Tasks<S> {
    /// Tasks of a loop without an inbox.
    pub(super) fn none() -> Self {
        Self {
            submitted: None,
            next: VecDeque::new(),
            again: Vec::new(),
            waiting: Vec::new(),
            asleep: HashMap::new(),
            woken: VecDeque::new(),
            replies: Vec::new(),
            left_in_turn: 0,
            may_have: false,
        }
    }

    /// Begins a turn.
    pub(super) fn begin_turn(&mut self) {
        self.left_in_turn = TASKS_PER_TURN;
    }

    /// Notes that the loop was woken: a task may have been submitted.
    pub(super) fn note_wake(&mut self) {
        self.may_have = self.submitted.is_some();
    }

    /// True if there may be one to run.
    pub(super) fn may_have_some(&self) -> bool {
        self.may_have || !self.next.is_empty() || !self.woken.is_empty()
    }

    /// Runs the next task, unless there is none or this turn has run enough of them. True if one ran.
    pub(super) fn run_next(&mut self, service: &mut S, now: Timestamp) -> bool {
        if self.left_in_turn == 0 {
            return false;
        }
        let Some(task) = self.next.pop_front().or_else(|| self.take_submitted()) else {
            return false;
        };
        self.left_in_turn -= 1;
        self.run(task, service, now);
        true
    }

    /// Runs the next task that was woken. True if there was one.
    pub(super) fn run_woken(&mut self, service: &mut S, now: Timestamp) -> bool {
        let Some(task) = self.woken.pop_front() else {
            return false;
        };
        self.run(task, service, now);
        true
    }

    fn run(&mut self, task: Box<dyn Task<S>>, service: &mut S, now: Timestamp) {
        match task.run(service, now) {
            TaskProgress::Done(reply) => self.replies.push(reply),
            TaskProgress::Again(task) => self.again.push(task),
            TaskProgress::Wait(task) => self.waiting.push(task),
            TaskProgress::Sleep(ticket, mut task) => {
                if self.submitted.is_some() {
                    self.asleep.insert(ticket, task);
                } else {
                    task.end_sleep(service);
                    self.next.push_back(task);
                }
            }
        }
    }

    /// True if a task sleeps.
    pub(super) fn has_sleeping(&self) -> bool {
        !self.asleep.is_empty()
    }

    /// True if a task was woken and has not run since.
    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Wakes the task with this ticket, if it sleeps.
    pub(super) fn wake(&mut self, ticket: Ticket) {
        self.woken.extend(self.asleep.remove(&ticket));
    }

    fn take_submitted(&mut self) -> Option<Box<dyn Task<S>>> {
        if !self.may_have {
            return None;
        }
        let task = self.submitted.as_ref()?.try_recv().ok();
        self.may_have = task.is_some();
        task
    }

    /// Ends a batch: calls the replies of its tasks, and queues those that have further steps.
    pub(super) fn end_batch(&mut self, outcome: &Result<(), BatchError>) {
        for reply in self.replies.drain(..) {
            reply(outcome);
        }
        for mut task in self.again.drain(..) {
            if let Err(error) = outcome {
                task.rolled_back(error);
            }
            self.next.push_back(task);
        }
    }

    /// How many tasks were done in the current batch.
    pub(super) fn done(&self) -> u64 {
        self.replies.len() as u64
    }

    /// How many tasks wait until the service can write.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Queues the tasks that waited to write: either they can, or they have waited for too long.
    pub(super) fn end_waits(&mut self, can_write: bool) {
        for mut task in self.waiting.drain(..) {
            if !can_write {
                task.end_waiting();
            }
            self.next.push_back(task);
        }
    }

    /// Closes the inbox, and ends all sleep. Tasks that were submitted before still run.
    pub(super) fn close(&mut self, service: &mut S) {
        if let Some(submitted) = self.submitted.take() {
            self.next.extend(submitted.try_iter());
        }
        for (_, mut task) in self.asleep.drain() {
            task.end_sleep(service);
            self.next.push_back(task);
        }
        self.may_have = false;
    }
}
