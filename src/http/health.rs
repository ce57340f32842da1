//! What tells a supervisor or a load balancer whether the daemon works.

use super::call::Shared;
use super::limits::HEALTH_TIME_MAX;
use super::problem::{self, Problem};
use crate::coordinate::storage::Storage;
use crate::jobserver::Caller;
use crate::server::SubmitError;
use axum::Extension;
use axum::extract::State;
use coordinated_client::cbor::EMPTY_MAP;
use coordinated_client::cborrpc::envelope;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// `GET /healthz`: the loop turns.
pub(super) async fn healthz<S: Storage>(
    State(shared): State<Arc<Shared<S>>>,
    Extension(caller): Extension<Caller>,
) -> Result<&'static str, Problem> {
    let mut message = Vec::new();
    // Everybody may call it.
    envelope::write_request(&mut message, 1, "server_info", EMPTY_MAP);
    match timeout(HEALTH_TIME_MAX, shared.ask(caller, message)).await {
        Ok(answer) => answer.map(|_| "ok\n"),
        Err(_) => Err(slow()),
    }
}

/// `GET /readyz`: a write transaction begins and commits.
pub(super) async fn readyz<S: Storage>(
    State(shared): State<Arc<Shared<S>>>,
) -> Result<&'static str, Problem> {
    let (sender, receiver) = oneshot::channel();
    shared.submitter.probe(Box::new(move |outcome| {
        let _ = sender.send(outcome);
    }))?;
    match timeout(HEALTH_TIME_MAX, receiver).await {
        Ok(Ok(Ok(()))) => Ok("ready\n"),
        Ok(Ok(Err(reason))) => Err(Problem::new(problem::NOT_READY, reason)),
        Ok(Err(_)) => Err(SubmitError::Stopped.into()),
        Err(_) => Err(slow()),
    }
}

/// The loop does not answer.
pub(super) fn slow() -> Problem {
    let time = humantime::format_duration(HEALTH_TIME_MAX);
    Problem::new(
        problem::NOT_READY,
        format!("the event loop has not answered for {time}"),
    )
}
