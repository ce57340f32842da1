//! `GET /metrics`: the state of the daemon for Prometheus and what else reads its formats.
//!
//! The loop copies what it knows, in one task (`engine/snapshot.rs`). The rest is done beside it: counting workers and
//! locks, asking the system about files and the process, and writing the text.

mod families;

mod counted;
mod files;
mod process;

mod daemon;
mod work_specs;

mod collector;
mod text;

pub use counted::Sources;
pub(super) use counted::{Metrics, count_request};

use super::call::Shared;
use super::limits::HEALTH_TIME_MAX;
use super::problem::{self, Problem};
use crate::coordinate::Name;
use crate::coordinate::storage::Storage;
use crate::engine::Shown;
use crate::server::SubmitError;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use collector::Collected;
use percent_encoding::percent_decode;
use std::sync::Arc;
use std::time::Instant;
use text::Format;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Which work specs are asked for. Then there are only metrics by work spec.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    namespace: Option<Vec<u8>>,
    work_spec: Option<Name>,
}

impl Filter {
    /// What a query asks for.
    ///
    /// # Errors
    /// If it has an unknown parameter.
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut filter = Self::default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = value.replace('+', " ");
            let value: Vec<u8> = percent_decode(value.as_bytes()).collect();
            match key {
                "namespace" => filter.namespace = Some(value),
                "work_spec" => filter.work_spec = Some(Name::from_bytes(value)),
                _ => {
                    return Err(Problem::new(
                        problem::INVALID,
                        format!(
                            "unknown parameter {key:?} of /metrics: it takes namespace and work_spec"
                        ),
                    ));
                }
            }
        }
        Ok(filter)
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `GET /metrics`.
pub(super) async fn get<S: Storage>(
    State(shared): State<Arc<Shared<S>>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = Filter::parse(query.as_deref().unwrap_or_default())?;
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let metrics = Arc::clone(&shared.metrics);
    // A text may have many MiB if work specs have long names, so they are made one at a time.
    let turn = Arc::clone(&metrics.one_at_a_time).acquire_owned().await;
    let turn = turn.map_err(|_| SubmitError::Stopped)?;
    let began = Instant::now();
    let shown = match &filter.work_spec {
        Some(name) => Shown::Only(name.clone()),
        None => Shown::Oldest(metrics.sources.work_specs_max),
    };
    let (sender, receiver) = oneshot::channel();
    shared.submitter.scrape(
        shown,
        Box::new(move |scrape| {
            // If the client is gone, nobody waits for it.
            let _ = sender.send(scrape);
        }),
    )?;
    let mut scrape = match timeout(HEALTH_TIME_MAX, receiver).await {
        Ok(scrape) => scrape.map_err(|_| SubmitError::Stopped)?,
        Err(_) => return Err(super::health::slow()),
    };
    metrics.summary_time.observe(began.elapsed().as_secs_f64());
    let snapshot = &mut scrape.snapshot;
    if filter
        .namespace
        .as_deref()
        .is_some_and(|namespace| namespace != snapshot.namespace.as_bytes())
    {
        snapshot.work_specs.clear();
        snapshot.others = None;
    }
    let of_daemon = filter.is_empty();
    let writing = tokio::task::spawn_blocking(move || {
        let collected = Collected::of::<S>(scrape, metrics, of_daemon);
        let text = format.write(collected);
        drop(turn);
        text
    });
    let text = writing
        .await
        .map_err(|_| Problem::new(problem::DATABASE_ERROR, "the metrics could not be written"))?;
    let held = shared.answers.hold(text.into_bytes())?;
    let headers = [(CONTENT_TYPE, format.content_type()), (VARY, "Accept")];
    Ok((headers, Body::from(held)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_a_namespace_and_a_work_spec_in_any_bytes() {
        let filter = |query| Filter::parse(query).expect("a filter");
        assert!(filter("").is_empty());
        let both = filter("namespace=&work_spec=a+b%2Bc%ff");
        assert_eq!(both.namespace, Some(Vec::new()));
        let name = Name::from_bytes(b"a b+c\xff".to_vec());
        assert_eq!(both.work_spec, Some(name));
        assert!(Filter::parse("spec=a").is_err());
    }
}
