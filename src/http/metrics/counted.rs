//! What HTTP counts of its requests, and where else metrics come from.

use super::super::problem;
use super::files::Sizes;
use crate::counting::Counter;
use crate::server::Totals;
use crate::store::BackupStatus;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::metrics::counter::Counter as SharedCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// Where metrics come from, beside the loop's tasks.
#[derive(Clone, Debug)]
pub struct Sources {
    /// How many work specs have metrics of their own. Of the others there is the sum.
    pub work_specs_max: usize,
    /// The database file; `None` for one in memory.
    pub database: Option<PathBuf>,
    /// What the loop counts.
    pub totals: Arc<Totals>,
    /// Scheduled backups, if there are any.
    pub backups: Option<Arc<BackupStatus>>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            work_specs_max: 500,
            database: None,
            totals: Arc::default(),
            backups: None,
        }
    }
}

/// Bounds for the times of HTTP requests, in seconds. Those of calls that wait are among them.
const REQUEST_BOUNDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 30.0, 60.0];

type ByRoute = [(&'static str, String); 1];
type ByRouteAndCode = [(&'static str, String); 2];

/// What is counted in the HTTP thread.
pub(in super::super) struct Metrics {
    pub(super) sources: Sources,
    /// The base path, which is not shown.
    base_path: String,
    /// The places for connections, and how many there are.
    pub(in super::super) connections: Arc<Semaphore>,
    connections_max: usize,
    /// Connections that were closed at once because their network is not allowed.
    pub(in super::super) refused_networks: Counter,
    /// Connections that were closed at once because too many were open.
    pub(in super::super) refused_connections: Counter,
    /// Connections that were closed because TLS failed.
    pub(in super::super) failed_tls: Counter,
    pub(super) requests: Family<ByRouteAndCode, SharedCounter>,
    pub(super) request_time: Family<ByRoute, Histogram, fn() -> Histogram>,
    /// Answers that were problems, by type.
    pub(super) problems: Family<ByRoute, SharedCounter>,
    /// How long the loop took to answer with a snapshot.
    pub(super) summary_time: Histogram,
    pub(super) one_at_a_time: Arc<Semaphore>,
}

impl Metrics {
    pub(in super::super) fn new(
        sources: Sources,
        base_path: &str,
        connections_max: usize,
    ) -> Arc<Self> {
        let problems = Family::<ByRoute, SharedCounter>::default();
        for name in problem::all_types() {
            // It is shown from now on, as 0.
            drop(problems.get_or_create(&[("type", name)]));
        }
        Arc::new(Self {
            sources,
            base_path: base_path.to_owned(),
            connections: Arc::new(Semaphore::new(connections_max)),
            connections_max,
            refused_networks: Counter::default(),
            refused_connections: Counter::default(),
            failed_tls: Counter::default(),
            requests: Family::default(),
            request_time: Family::new_with_constructor(|| Histogram::new(REQUEST_BOUNDS)),
            problems,
            summary_time: Histogram::new(exponential_buckets(0.031_25, 2.0, 12)),
            one_at_a_time: Arc::new(Semaphore::new(1)),
        })
    }

    /// How many connections are open.
    pub(in super::super) fn open_connections(&self) -> u64 {
        let free = self.connections.available_permits();
        self.connections_max.saturating_sub(free) as u64
    }

    /// What the loop counts.
    pub(in super::super) fn loop_totals(&self) -> &Totals {
        &self.sources.totals
    }

    /// Scheduled backups, if there are any.
    pub(in super::super) fn backups(&self) -> Option<&BackupStatus> {
        self.sources.backups.as_deref()
    }

    /// The sizes of the database's files.
    pub(in super::super) fn file_sizes(&self) -> Sizes {
        let database = self.sources.database.as_deref();
        database.map(Sizes::of).unwrap_or_default()
    }
}

/// Counts a request and its answer: under the pattern of its route, so that there are few.
pub(in super::super) async fn count_request(
    State(metrics): State<Arc<Metrics>>,
    matched: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let response = next.run(request).await;
    let route = match &matched {
        Some(path) => {
            let path = path.as_str();
            path.strip_prefix(&metrics.base_path).unwrap_or(path)
        }
        None => "(none)",
    };
    let by_route = [("route", route.to_owned())];
    let time = began.elapsed().as_secs_f64();
    metrics.request_time.get_or_create(&by_route).observe(time);
    let [route] = by_route;
    let code = ("code", response.status().as_str().to_owned());
    metrics.requests.get_or_create(&[route, code]).inc();
    if let Some(problem) = response.extensions().get::<problem::Type>() {
        let name = problem.name();
        metrics.problems.get_or_create(&[("type", name)]).inc();
    }
    response
}
