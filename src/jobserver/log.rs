//! What is logged: for each request the peer, the method and the outcome, but no data; and statistics.

use super::call::Progress;
use super::method::MethodInfo;
use super::params::shown;
use crate::coordinate::Error;
use crate::coordinate::storage::Storage;
use crate::engine::Statistics;
use coordinated_client::cbor::Item;
use coordinated_client::cborrpc::envelope::Request;
use std::time::Duration;

/// Writes a line about the first step of a request, at the level debug. The loop's span around the message
/// names the peer.
pub(super) fn request<S: Storage>(
    method: Option<&MethodInfo>,
    request: &Request<'_>,
    result: Result<&Progress<S>, &Error>,
    duration: Duration,
) {
    let spec = method.and_then(|method| work_spec(method, request));
    let spec = spec.map(shown);
    let spec = spec.as_deref();
    let method = method.map(|method| method.name);
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let outcome = match result {
        Ok(Progress::Done) => "ok",
        Ok(Progress::Read(_)) => "deferred",
        Ok(Progress::More(_)) => "not yet",
        Ok(Progress::Sleep(_)) => "waiting",
        Err(error) => {
            tracing::debug!(method, spec, duration_us, outcome = "failed", %error, "request");
            return;
        }
    };
    tracing::debug!(method, spec, duration_us, outcome, "request");
}

/// Writes the engine's statistics, and how often each method was called.
pub(super) fn statistics(
    statistics: &Statistics,
    calls: impl Iterator<Item = (&'static str, u64)>,
) {
    tracing::info!(
        operations = statistics.operations,
        batches = statistics.batches,
        commits = statistics.commits,
        operations_per_commit = %format_args!("{:.1}", statistics.operations_per_commit()),
        "statistics of batches"
    );
    let units = &statistics.units;
    tracing::info!(
        work_specs = statistics.work_specs,
        available = units.available,
        delayed = units.delayed,
        pending = units.pending,
        finished = units.finished,
        failed = units.failed,
        archived_finished = units.archived_finished,
        archived_failed = units.archived_failed,
        wal_pages = statistics.store.wal.map(|wal| wal.pages),
        wal_pages_in_file = statistics.store.wal.map(|wal| wal.in_file),
        "statistics of the queue"
    );
    let mut calls: Vec<_> = calls.collect();
    calls.sort_unstable();
    for (method, count) in calls {
        tracing::info!(method, count, "statistics of calls");
    }
}

/// The name of the work spec in a request, if it has one.
fn work_spec<'a>(method: &MethodInfo, request: &Request<'a>) -> Option<Item<'a>> {
    let params = request.params?;
    let param = |name| {
        let position = method.params.iter().position(|known| *known == name)?;
        let by_position = || params.as_list()?.nth(position);
        params.get(name).or_else(by_position)
    };
    param("work_spec_name").or_else(|| param("work_spec")?.get("name"))
}
