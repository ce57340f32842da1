//! What is logged: of a request who asked for what and how it ended, but nothing of its data; and statistics.

use super::call::Progress;
use super::method::MethodInfo;
use super::params::shown;
use crate::coordinate::Error;
use crate::coordinate::storage::Storage;
use crate::engine::Statistics;
use coordinated_client::cbor::Item;
use coordinated_client::cborrpc::envelope::Request;
use std::collections::HashMap;
use std::time::Duration;

/// Writes a line about a request that was run, at the level debug. The peer is named by the span that
/// the loop has put around the message.
pub(super) fn request<S: Storage>(
    method: Option<&MethodInfo>,
    request: &Request<'_>,
    result: &Result<(&'static MethodInfo, Progress<S>), (&'static str, Error)>,
    duration: Duration,
) {
    let spec = method.and_then(|method| work_spec(method, request));
    let spec = spec.map(shown);
    let spec = spec.as_deref();
    let method = method.map(|method| method.name);
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let outcome = match result {
        Ok((_, Progress::Done)) => "ok",
        Ok((_, Progress::Read(_))) => "deferred",
        Ok((_, Progress::More(_))) => "not yet",
        Err((_, error)) => {
            tracing::debug!(method, spec, duration_us, outcome = "failed", %error, "request");
            return;
        }
    };
    tracing::debug!(method, spec, duration_us, outcome, "request");
}

/// Writes what the engine has done, what is in its queue, and how often each method was called.
pub(super) fn statistics(statistics: &Statistics, calls: &HashMap<&'static str, u64>) {
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
    let mut calls: Vec<_> = calls.iter().collect();
    calls.sort_unstable();
    for (method, count) in calls {
        tracing::info!(method, count, "statistics of calls");
    }
}

/// The name of the work spec that a request is about, if it names one.
fn work_spec<'a>(method: &MethodInfo, request: &Request<'a>) -> Option<Item<'a>> {
    let params = request.params?;
    let param = |name| {
        let position = method.params.iter().position(|known| *known == name)?;
        let by_position = || params.as_list()?.nth(position);
        params.get(name).or_else(by_position)
    };
    param("work_spec_name").or_else(|| param("work_spec")?.get("name"))
}
