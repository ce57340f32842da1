//! Handing messages to the loop, and waiting for their answers.

use super::body::{Held, Memory};
use super::limits::Limits;
use super::problem::{self, Problem};
use crate::clock::wall_clock;
use crate::coordinate::storage::Storage;
use crate::coordinate::{Error, Scopes};
use crate::jobserver::{Answered, Caller, Submitter};
use crate::server::{LongRead, SubmitError};
use coordinated_client::cborrpc::envelope;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

/// What all requests share.
pub(super) struct Shared<S: Storage + 'static> {
    pub(super) submitter: Submitter<S>,
    pub(super) limits: Limits,
    pub(super) bodies: Memory,
    pub(super) answers: Memory,
    /// Requests that may be begun.
    pub(super) requests: Semaphore,
}

impl<S: Storage + 'static> Shared<S> {
    pub(super) fn new(submitter: Submitter<S>, limits: Limits) -> Self {
        Self {
            submitter,
            limits,
            bodies: Memory::new(limits.bodies_bytes_max),
            answers: Memory::new(limits.answers_bytes_max),
            requests: Semaphore::new(limits.requests_max),
        }
    }

    /// Begins a request, which lasts until this is dropped.
    ///
    /// # Errors
    /// If there are too many.
    pub(super) fn begin_request(&self) -> Result<SemaphorePermit<'_>, Problem> {
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
    pub(super) fn check(&self, caller: &mut Caller, scopes: Scopes) -> Result<(), Problem> {
        let checked = self
            .submitter
            .doorkeeper()
            .check(caller, scopes, wall_clock());
        checked.map_err(|error| match error {
            Error::Forbidden(why) => Problem::new(problem::FORBIDDEN, why),
            error => Problem::new(problem::UNAUTHENTICATED, error.to_string()),
        })
    }

    /// Has a message of `caller` handled, and returns its responses, encoded. If the caller does not wait for that, it waits for
    /// nothing any more, but what it has changed is changed.
    ///
    /// # Errors
    /// If the loop takes no messages.
    pub(super) async fn ask(&self, caller: Caller, message: Vec<u8>) -> Result<Held, Problem> {
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
                let reading = tokio::task::spawn_blocking(move || {
                    let frame = read();
                    answers.hold(envelope::content(&frame).into_owned())
                });
                let failed = |_| Problem::new(problem::DATABASE_ERROR, "reading failed");
                reading.await.map_err(failed)?
            }
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
