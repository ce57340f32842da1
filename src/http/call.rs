//! Handing messages to the loop, and waiting for their answers.

use super::body::{Held, Memory, Share};
use super::limits::{Limits, UPLOADS_MAX};
use super::metrics::Metrics;
use super::problem::{self, Problem};
use crate::clock::wall_clock;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{Error, NamespaceId, Operation, Result, Scopes, StorageError};
use crate::jobserver::{Actor, Answered, Caller, Failure, Realm, Submitter};
use crate::server::{LongRead, Network, SubmitError};
use coordinated_client::cborrpc::envelope;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

/// What all requests share.
pub(super) struct Shared<S: Storage + 'static> {
    pub(super) submitter: Submitter<S>,
    pub(super) limits: Limits,
    pub(super) bodies: Memory,
    pub(super) answers: Memory,
    /// Requests that may be begun.
    pub(super) requests: Semaphore,
    /// Whose headers say from where a request comes.
    pub(super) proxies: Box<[Network]>,
    /// Uploads that may be begun.
    pub(super) uploads: Semaphore,
    pub(super) metrics: Arc<Metrics>,
    /// The namespace of CBOR-RPC clients.
    pub(super) namespace: Arc<str>,
}

impl<S: Storage + 'static> Shared<S> {
    pub(super) fn new(
        submitter: Submitter<S>,
        limits: Limits,
        proxies: &[Network],
        metrics: Arc<Metrics>,
        namespace: &str,
    ) -> Self {
        Self {
            submitter,
            limits,
            bodies: Memory::new(limits.bodies_bytes_max),
            answers: Memory::new(limits.answers_bytes_max),
            requests: Semaphore::new(limits.requests_max),
            proxies: proxies.into(),
            uploads: Semaphore::new(UPLOADS_MAX),
            metrics,
            namespace: namespace.into(),
        }
    }

    /// Begins a request, which lasts until this is dropped.
    ///
    /// # Errors
    /// If there are too many.
    pub(super) fn begin_request(&self) -> std::result::Result<SemaphorePermit<'_>, Problem> {
        self.requests.try_acquire().map_err(|_| {
            let max = self.limits.requests_max;
            Problem::new(
                problem::BUSY,
                format!("{max} requests are being handled (limit http-max-requests)"),
            )
        })
    }

    /// Checks that a caller has one of some scopes, before anything is done for it.
    ///
    /// # Errors
    /// If it has none of them.
    pub(super) fn check(
        &self,
        caller: &mut Caller,
        realm: Realm<'_>,
        scopes: Scopes,
    ) -> std::result::Result<(), Problem> {
        let doorkeeper = self.submitter.doorkeeper();
        let checked = doorkeeper.check(caller, realm, scopes, wall_clock());
        checked.map_err(|error| match error {
            Error::Forbidden(why) => Problem::new(problem::FORBIDDEN, why),
            error => Problem::new(problem::UNAUTHENTICATED, error.to_string()),
        })
    }

    /// Runs an operation of `actor` in a namespace, which is created if it is new. Returns its result once it is committed,
    /// with a share of the memory for answers. If the caller does not wait for that, what it has changed is changed.
    ///
    /// # Errors
    /// Why it failed, or that the loop takes no tasks.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        actor: Arc<Actor>,
        namespace: Arc<str>,
        access: Access,
        run: impl FnMut(&mut Operation<'_, S>) -> Result<T> + Send + 'static,
    ) -> std::result::Result<(T, Share), Failed> {
        let (sender, receiver) = oneshot::channel();
        let answers = self.answers.clone();
        let take = move |result: std::result::Result<T, Failure>, bytes| {
            let taken = match result {
                Ok(value) => answers.share(bytes).map(|share| (value, share)),
                Err(failure) => Err(Failed::Operation(failure)),
            };
            // If the client is gone, nobody waits for it.
            let _ = sender.send(taken);
        };
        self.submitter.run(actor, namespace, access, run, take)?;
        receiver.await.map_err(|_| SubmitError::Stopped)?
    }

    /// Reads in a namespace, which is created if it is new, on a thread that may block. Everything that was answered
    /// before is seen.
    ///
    /// # Errors
    /// As [`Shared::run`].
    pub(super) async fn read<T: Send + 'static>(
        &self,
        actor: Arc<Actor>,
        namespace: Arc<str>,
        read: impl FnOnce(&mut S::Reader, NamespaceId) -> Result<T> + Send + 'static,
    ) -> std::result::Result<T, Failed> {
        let open = |operation: &mut Operation<'_, S>| {
            let reader = operation.store.reader();
            let none = || StorageError::Other("it can't be read beside the loop".to_owned());
            Ok((reader.ok_or_else(none)?, operation.namespace))
        };
        let ((mut reader, id), _) = self.run(actor, namespace, Access::Read, open).await?;
        let result = beside(move || read(&mut reader, id)).await?;
        result.map_err(|error| Failed::Operation(error.into()))
    }

    /// Has a message of `caller` handled, and returns its responses, encoded. If nobody waits for that any more, it waits for
    /// nothing, but what it has changed is changed.
    ///
    /// # Errors
    /// If the loop takes no messages.
    pub(super) async fn ask(
        &self,
        caller: Caller,
        message: Vec<u8>,
    ) -> std::result::Result<Held, Problem> {
        let (sender, receiver) = oneshot::channel();
        let answers = self.answers.clone();
        let submitted = self.submitter.submit(
            caller,
            message,
            Box::new(move |answered| {
                let answered = match answered {
                    Answered::Responses(responses) => answers.hold(responses).map(Step::Done),
                    Answered::Read(read) => Ok(Step::Read(read)),
                };
                // If the client is gone, nobody waits for it.
                let _ = sender.send(answered);
            }),
        )?;
        let step = receiver.await.map_err(|_| SubmitError::Stopped)??;
        drop(submitted);
        match step {
            Step::Done(responses) => Ok(responses),
            Step::Read(read) => {
                let answers = self.answers.clone();
                beside(move || {
                    let frame = read();
                    answers.hold(envelope::content(&frame).into_owned())
                })
                .await?
            }
        }
    }
}

/// Reads on a thread that may block.
///
/// # Errors
/// If the read panics.
async fn beside<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> std::result::Result<T, Problem> {
    let reading = tokio::task::spawn_blocking(read).await;
    reading.map_err(|_| Problem::new(problem::DATABASE_ERROR, "reading failed"))
}

/// Why there is no result of an operation.
pub(super) enum Failed {
    /// It failed, or its batch did.
    Operation(Failure),
    /// It was not run, or there is no room for its result.
    Http(Problem),
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self::Http(problem)
    }
}

impl From<SubmitError> for Failed {
    fn from(error: SubmitError) -> Self {
        Self::Http(error.into())
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Operation(failure) => Self::of_code(failure.code(), failure.to_string()),
            Failed::Http(problem) => problem,
        }
    }
}

/// What the loop has done.
enum Step {
    Done(Held),
    Read(LongRead),
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let code = match error {
            SubmitError::Full => problem::BUSY,
            SubmitError::Stopped => problem::STOPPING,
        };
        Self::new(code, error.to_string())
    }
}
