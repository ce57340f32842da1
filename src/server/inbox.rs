//! Work from other threads: tasks join the batches of the loop, as messages do.

use super::limits::TASKS_PER_TURN;
use super::service::{BatchError, Service};
use crate::clock::Timestamp;
use mio::Waker;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// Something to do in a batch of the loop, for a thread that is not the loop's.
pub trait Task<S: Service>: Send {
    /// Runs in the open batch, on the loop's thread.
    fn run(self: Box<Self>, service: &mut S, now: Timestamp) -> TaskProgress<S>;

    /// Tells that the batch in which the last step ran did not commit, before the task runs once more.
    fn rolled_back(&mut self, error: &BatchError) {
        let _ = error;
    }

    /// Tells that it has waited for long enough to write: when it runs once more, it must not wait again.
    fn end_waiting(&mut self) {}
}

/// How far a task has come.
pub enum TaskProgress<S: Service> {
    /// All is done that belongs to the batch. The reply is called with what became of that.
    Done(Reply),
    /// What was done stands if the batch commits, and the task is to run once more, in a later batch.
    Again(Box<dyn Task<S>>),
    /// It has to write, and another program keeps the service from writing. It has done nothing in the open batch, and
    /// is to run once more when [`Service::can_write`] says so, or after [`Task::end_waiting`].
    Wait(Box<dyn Task<S>>),
}

/// Tells whoever waits for a task what became of it. Runs on the loop's thread, and must not wait.
pub type Reply = Box<dyn FnOnce(&Result<(), BatchError>) + Send>;

/// Why a task was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// So many wait already that one more would wait too long.
    #[error("too many tasks wait for their turns: try again later")]
    Full,
    /// The loop has ended, or takes no more.
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
    /// Submits a task, and returns at once. The task is dropped without having run, or without its reply having been
    /// called, if the loop ends before.
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
            tracing::error!("the loop can't be woken, a task waits for its next turn: {error}");
        }
        Ok(())
    }
}

/// The tasks that a loop runs.
pub struct Tasks<S: Service> {
    submitted: Option<Receiver<Box<dyn Task<S>>>>,
    /// Those that run in the next turn.
    next: VecDeque<Box<dyn Task<S>>>,
    /// Those that run once more, having had a step in the open batch.
    again: Vec<Box<dyn Task<S>>>,
    /// Those that wait until the service can write.
    waiting: Vec<Box<dyn Task<S>>>,
    /// The replies of those that are done in the open batch.
    replies: Vec<Reply>,
    /// How many more may run in this turn.
    left_in_turn: u32,
    /// True if there may be submitted ones.
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
    /// No tasks: nobody submits any.
    pub(super) fn none() -> Self {
        Self {
            submitted: None,
            next: VecDeque::new(),
            again: Vec::new(),
            waiting: Vec::new(),
            replies: Vec::new(),
            left_in_turn: 0,
            may_have: false,
        }
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self) {
        self.left_in_turn = TASKS_PER_TURN;
    }

    /// Somebody may have submitted one.
    pub(super) fn note_wake(&mut self) {
        self.may_have = self.submitted.is_some();
    }

    /// True if there may be one to run.
    pub(super) fn may_have_some(&self) -> bool {
        self.may_have || !self.next.is_empty()
    }

    /// Runs the next task, if there is one and it may run in this turn. True if it did.
    pub(super) fn run_next(&mut self, service: &mut S, now: Timestamp) -> bool {
        if self.left_in_turn == 0 {
            return false;
        }
        let Some(task) = self.next.pop_front().or_else(|| self.take_submitted()) else {
            return false;
        };
        self.left_in_turn -= 1;
        match task.run(service, now) {
            TaskProgress::Done(reply) => self.replies.push(reply),
            TaskProgress::Again(task) => self.again.push(task),
            TaskProgress::Wait(task) => self.waiting.push(task),
        }
        true
    }

    fn take_submitted(&mut self) -> Option<Box<dyn Task<S>>> {
        if !self.may_have {
            return None;
        }
        let task = self.submitted.as_ref()?.try_recv().ok();
        self.may_have = task.is_some();
        task
    }

    /// Tells those that ran in a batch what became of it.
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

    /// How many wait until the service can write.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Lets those run that waited to write: they can, or have waited for long enough.
    pub(super) fn end_waits(&mut self, can_write: bool) {
        for mut task in self.waiting.drain(..) {
            if !can_write {
                task.end_waiting();
            }
            self.next.push_back(task);
        }
    }

    /// Takes no more: what was submitted until now is run.
    pub(super) fn close(&mut self) {
        if let Some(submitted) = self.submitted.take() {
            self.next.extend(submitted.try_iter());
        }
        self.may_have = false;
    }
}
