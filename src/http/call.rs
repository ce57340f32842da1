//! Handing messages to the loop, and waiting for their answers.

use super::body::{Held, Memory};
use super::limits::Limits;
use super::metrics::Metrics;
use super::problem::{self, Problem};
use crate::coordinate::storage::Storage;
use crate::jobserver::{Answered, Submitter};
use crate::server::{LongRead, SubmitError};
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
    pub(super) metrics: Arc<Metrics>,
}

impl<S: Storage + 'static> Shared<S> {
    pub(super) fn new(submitter: Submitter<S>, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            submitter,
            limits,
            bodies: Memory::new(limits.bodies_bytes_max),
            answers: Memory::new(limits.answers_bytes_max),
            requests: Semaphore::new(limits.requests_max),
            metrics,
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

    /// Has a message handled, and returns its responses, encoded. If the caller does not wait for that, it waits for
    /// nothing any more, but what it has changed is changed.
    ///
    /// # Errors
    /// If the loop takes no messages.
    pub(super) async fn ask(&self, message: Vec<u8>) -> Result<Held, Problem> {
        let (sender, receiver) = oneshot::channel();
        let answers = self.answers.clone();
        let submitted = self.submitter.submit(
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
