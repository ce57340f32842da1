//! Messages that another thread submits, for interfaces that have no connection in the loop.

use super::doorkeeper::{Caller, Doorkeeper};
use super::job_server::JobServer;
use super::message::{Problem, Session};
use super::reply::Failures;
use super::requests::Requests;
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Lister, Storage};
use crate::coordinate::{AuditId, Census, Error, Operation, Result, WaiterId};
use crate::engine::{Shown, Snapshot};
use crate::server::{
    BatchError, Handled, Inbox, LongRead, Service, SubmitError, Task, TaskProgress,
};
use coordinated_client::cborrpc::envelope;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Submits messages to the loop. Each is handled as if it were the only one of its connection: so a report has to name its
/// attempt or its worker. Failures are errors with a code ([`Failures::AsErrors`]).
pub struct Submitter<S: Storage> {
    inbox: Inbox<JobServer<S>>,
    doorkeeper: Arc<Doorkeeper>,
}

impl<S: Storage> Clone for Submitter<S> {
    fn clone(&self) -> Self {
        Self {
            inbox: self.inbox.clone(),
            doorkeeper: Arc::clone(&self.doorkeeper),
        }
    }
}

/// The answer to a message that was submitted.
pub enum Answered {
    /// Its responses, encoded. What they say is committed.
    Responses(Vec<u8>),
    /// A read that gives the responses, in a frame. It takes long: run it on a thread that may block.
    Read(LongRead),
}

/// Takes the answer. Runs on the loop's thread, and must not block.
pub type TakeAnswer = Box<dyn FnOnce(Answered) + Send>;

impl<S: Storage + 'static> Submitter<S> {
    /// Submits to the loop that takes its tasks from this inbox.
    #[must_use]
    pub fn new(inbox: Inbox<JobServer<S>>, doorkeeper: Arc<Doorkeeper>) -> Self {
        Self { inbox, doorkeeper }
    }

    /// Who knows who may do what.
    #[must_use]
    pub fn doorkeeper(&self) -> &Doorkeeper {
        &self.doorkeeper
    }

    /// Submits a message of `caller`: a request, or a list of requests, encoded. If the loop ends early, `take` is dropped.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(
        &self,
        caller: Caller,
        message: Vec<u8>,
        take: TakeAnswer,
    ) -> std::result::Result<Submitted<S>, SubmitError> {
        let state = Arc::new(State::default());
        self.inbox.submit(Submission {
            caller,
            message,
            session: None,
            state: Arc::clone(&state),
            take,
        })?;
        Ok(Submitted {
            inbox: self.inbox.clone(),
            state,
        })
    }

    /// Has an operation of `actor` run in a namespace, which is created if it is new. What it has changed is noted in the
    /// audit; what the actor may do was checked before. `run` may be called again: see
    /// [`crate::coordinate::storage::Storage::operation`]. `take` gets its result once the batch is committed, with the
    /// bytes that it has counted ([`crate::coordinate::Effects`]); it runs on the loop's thread, and must not block. If the
    /// loop ends early, it is dropped.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn run<T: Send + 'static>(
        &self,
        actor: Arc<Actor>,
        namespace: Arc<str>,
        access: Access,
        run: impl FnMut(&mut Operation<'_, S>) -> Result<T> + Send + 'static,
        take: impl FnOnce(std::result::Result<T, Failure>, usize) + Send + 'static,
    ) -> std::result::Result<(), SubmitError> {
        self.inbox.submit(OperationTask {
            actor,
            namespace,
            access,
            run,
            take,
            has_waited: false,
        })
    }

    /// Asks the loop to begin to write and to commit. `take` gets the outcome.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn probe(&self, take: TakeOutcome) -> std::result::Result<(), SubmitError> {
        self.inbox.submit(Probe {
            take,
            has_waited: false,
        })
    }

    /// Asks the loop for what metrics show. If the loop ends early, `take` is dropped.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn scrape(&self, shown: Shown, take: TakeScrape) -> std::result::Result<(), SubmitError> {
        self.inbox.submit(TakingSnapshot { shown, take })
    }
}

/// What metrics show of the queue.
pub struct Scrape {
    /// Its state.
    pub snapshot: Snapshot,
    /// Requests so far.
    pub requests: Requests,
    /// Counts workers and locks; `None` if that fails. It reads the database: run it on a thread that may block.
    pub census: Box<dyn FnOnce() -> Option<Census> + Send>,
}

/// Takes it. Runs on the loop's thread, and must not block.
pub type TakeScrape = Box<dyn FnOnce(Scrape) + Send>;

/// A message that was submitted. Drop it when nobody waits for the answer any more: one that still waits for work then
/// gets none. One that was handled has changed what it changes.
pub struct Submitted<S: Storage + 'static> {
    inbox: Inbox<JobServer<S>>,
    state: Arc<State>,
}

impl<S: Storage + 'static> Drop for Submitted<S> {
    fn drop(&mut self) {
        self.state.is_abandoned.store(true, Ordering::Release);
        let waiter = self.state.waiter.load(Ordering::Acquire);
        if waiter != NOT_WAITING {
            // If there is no room for this, its wait ends by itself.
            let _ = self.inbox.submit(EndWait(WaiterId(waiter)));
        }
    }
}

const NOT_WAITING: u64 = u64::MAX;

/// What the two sides of a submitted message know of each other.
struct State {
    /// True if nobody waits for the answer any more.
    is_abandoned: AtomicBool,
    /// The id with which the message waits for something, or [`NOT_WAITING`].
    waiter: AtomicU64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            is_abandoned: AtomicBool::new(false),
            waiter: AtomicU64::new(NOT_WAITING),
        }
    }
}

/// A message on the loop's side.
struct Submission<S: Storage> {
    caller: Caller,
    message: Vec<u8>,
    /// What is remembered of it after its first turn.
    session: Option<Session<S>>,
    state: Arc<State>,
    take: TakeAnswer,
}

impl<S: Storage + 'static> Task<JobServer<S>> for Submission<S> {
    fn run(
        mut self: Box<Self>,
        service: &mut JobServer<S>,
        now: Timestamp,
    ) -> TaskProgress<JobServer<S>> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => service.new_session(Failures::AsErrors, self.caller.clone()),
        };
        let is_waiting = session.waiter.is_some();
        if is_waiting && self.state.is_abandoned.load(Ordering::Acquire) {
            service.close_session(&mut session);
            return TaskProgress::Done(Box::new(|_| {}));
        }
        self.state.waiter.store(NOT_WAITING, Ordering::Release);
        let problem = match service.handle(&mut session, &self.message, now) {
            Handled::Answer(answer) => {
                let take = self.take;
                return TaskProgress::Done(Box::new(move |outcome| {
                    take(Answered::Responses(answer.into_response(outcome)));
                }));
            }
            Handled::Later(read) => {
                let take = self.take;
                return TaskProgress::Done(Box::new(move |outcome| {
                    take(match outcome {
                        Err(error @ (BatchError::Unknown(_) | BatchError::Gone(_))) => {
                            Problem::of_batch(error, false).into_answered()
                        }
                        Ok(()) | Err(BatchError::RolledBack(_)) => Answered::Read(read),
                    });
                }));
            }
            Handled::Again { .. } => {
                self.session = Some(session);
                return TaskProgress::Again(self);
            }
            Handled::Wait { .. } => {
                self.session = Some(session);
                return TaskProgress::Wait(self);
            }
            Handled::Sleep { ticket, .. } => {
                self.session = Some(session);
                self.state.waiter.store(ticket.0, Ordering::Release);
                if self.state.is_abandoned.load(Ordering::Acquire) {
                    // It was dropped before it could know that this waits.
                    self.end_sleep(service);
                }
                return TaskProgress::Sleep(ticket, self);
            }
            Handled::Refuse(error) => Problem::with_request(&error),
            Handled::Close => Problem::with_request(&"null is not a request"),
        };
        let answered = problem.into_answered();
        let take = self.take;
        TaskProgress::Done(Box::new(move |_| take(answered)))
    }

    fn rolled_back(&mut self, error: &BatchError) {
        if let Some(in_flight) = self.session.as_mut().and_then(|it| it.in_flight.as_mut()) {
            in_flight.rolled_back(error);
        }
    }

    fn end_waiting(&mut self) {
        if let Some(in_flight) = self.session.as_mut().and_then(|it| it.in_flight.as_mut()) {
            in_flight.end_waiting();
        }
    }

    fn end_sleep(&mut self, service: &mut JobServer<S>) {
        if let Some(session) = &mut self.session {
            service.end_sleep(session);
        }
    }
}

impl Problem {
    /// The answer to a request that has failed by this.
    fn into_answered(self) -> Answered {
        let mut response = Vec::new();
        self.write(Failures::AsErrors, envelope::NULL, &mut response);
        Answered::Responses(response)
    }
}

/// Wakes a message that waits for something.
struct EndWait(WaiterId);

impl<S: Storage> Task<JobServer<S>> for EndWait {
    fn run(
        self: Box<Self>,
        service: &mut JobServer<S>,
        _: Timestamp,
    ) -> TaskProgress<JobServer<S>> {
        service.engine.hurry(self.0);
        TaskProgress::Done(Box::new(|_| {}))
    }
}

/// Who has operations run, and the entry of the audit about all that they have changed.
pub struct Actor {
    caller: Caller,
    noted: OnceLock<AuditId>,
}

impl Actor {
    /// Somebody who has not changed anything yet.
    #[must_use]
    pub fn new(caller: Caller) -> Self {
        Self {
            caller,
            noted: OnceLock::new(),
        }
    }

    /// Keeps in the audit what an operation has changed, if it has changed something.
    fn note_change<S: Storage>(
        &self,
        operation: Operation<'_, S>,
        namespace: &str,
    ) -> Result<Option<AuditId>> {
        let noted = self.noted.get().copied();
        operation.keep_change(namespace, || self.caller.as_author(), noted)
    }

    /// Remembers the entry of an operation that has succeeded. If its batch is not committed, it is the last one of the actor.
    fn remember(&self, noted: Option<AuditId>) {
        if let Some(noted) = noted {
            self.noted.get_or_init(|| noted);
        }
    }
}

/// Why an operation that was submitted has no result.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It failed.
    #[error(transparent)]
    Operation(#[from] Error),
    /// Its batch was not committed.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl Failure {
    /// Its name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Operation(error) => error.code(),
            Self::Batch(error) => Problem::of_batch(error, false).code(),
        }
    }
}

/// An operation on the loop's side.
struct OperationTask<R, K> {
    actor: Arc<Actor>,
    namespace: Arc<str>,
    access: Access,
    run: R,
    take: K,
    has_waited: bool,
}

impl<S, T, R, K> Task<JobServer<S>> for OperationTask<R, K>
where
    S: Storage + 'static,
    T: Send + 'static,
    R: FnMut(&mut Operation<'_, S>) -> Result<T> + Send + 'static,
    K: FnOnce(std::result::Result<T, Failure>, usize) + Send + 'static,
{
    fn run(
        self: Box<Self>,
        service: &mut JobServer<S>,
        now: Timestamp,
    ) -> TaskProgress<JobServer<S>> {
        let is_new = matches!(service.engine.find_namespace(&self.namespace), Ok(None));
        let access = if is_new { Access::Write } else { self.access };
        let lock = service.lock_by_others(access);
        if lock.is_some() && !self.has_waited {
            return TaskProgress::Wait(self);
        }
        let Self {
            actor,
            namespace,
            access,
            mut run,
            take,
            ..
        } = *self;
        let engine = &mut service.engine;
        let before = engine.answer_bytes();
        let result = match lock {
            Some(error) => Err(error.into()),
            None => engine
                .run_in(&namespace, access, now, |mut operation| {
                    let value = run(&mut operation)?;
                    let noted = actor.note_change(operation, &namespace)?;
                    Ok((value, noted))
                })
                .map(|(value, noted)| {
                    actor.remember(noted);
                    value
                })
                .map_err(Failure::from),
        };
        let bytes = engine.answer_bytes().saturating_sub(before);
        let depends = engine.batch_may_write();
        TaskProgress::Done(Box::new(move |outcome| match outcome {
            Err(error) if depends => take(Err(error.clone().into()), bytes),
            _ => take(result, bytes),
        }))
    }

    fn end_waiting(&mut self) {
        self.has_waited = true;
    }
}

/// Takes the outcome of a probe. Runs on the loop's thread, and must not block.
pub type TakeOutcome = Box<dyn FnOnce(std::result::Result<(), String>) + Send>;

/// Begins to write.
struct Probe {
    take: TakeOutcome,
    has_waited: bool,
}

impl<S: Storage> Task<JobServer<S>> for Probe {
    fn run(
        self: Box<Self>,
        service: &mut JobServer<S>,
        _: Timestamp,
    ) -> TaskProgress<JobServer<S>> {
        let begun = match service.lock_by_others(Access::Write) {
            Some(_) if !self.has_waited => return TaskProgress::Wait(self),
            Some(error) => Err(error.to_string()),
            None => Ok(()),
        };
        TaskProgress::Done(Box::new(move |outcome| {
            let committed = outcome.as_ref().map_err(ToString::to_string);
            (self.take)(begun.and(committed.copied()));
        }))
    }

    fn end_waiting(&mut self) {
        self.has_waited = true;
    }
}

/// Takes a snapshot of the queue.
struct TakingSnapshot {
    shown: Shown,
    take: TakeScrape,
}

impl<S: Storage> Task<JobServer<S>> for TakingSnapshot {
    fn run(
        self: Box<Self>,
        service: &mut JobServer<S>,
        now: Timestamp,
    ) -> TaskProgress<JobServer<S>> {
        let snapshot = service.engine.snapshot(&self.shown, now);
        let census: Box<dyn FnOnce() -> Option<Census> + Send> = match service.engine.reader() {
            Some(mut reader) => {
                let namespace = service.engine.namespace();
                Box::new(move || reader.census(namespace).ok())
            }
            None => {
                let census = service.engine.run(Access::Read, now, |operation| {
                    operation.store.census(operation.namespace)
                });
                Box::new(move || census.ok())
            }
        };
        let requests = service.requests.clone();
        let take = self.take;
        TaskProgress::Done(Box::new(move |_| {
            take(Scrape {
                snapshot,
                requests,
                census,
            });
        }))
    }
}
