//! The daemon: what it is, what it has done, and its limits.

use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::tokens::Tokens;
use super::{Result, Visit};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::counting::Histogram;
use crate::engine::Snapshot;
use crate::jobserver::JobServer;
use askama::Template;
use axum::response::Response;
use std::time::Duration;

/// How the daemon is, in a few values.
pub(super) struct Health {
    /// What the slowest of a hundred commits took, at most.
    pub(super) commit_p99: String,
    /// True if that is so long that it is felt.
    pub(super) commits_are_slow: bool,
    pub(super) failed_commits: u64,
    pub(super) database: String,
    pub(super) wal: String,
    pub(super) free: String,
    /// True if little room is left.
    pub(super) disk_is_full: bool,
    pub(super) backup: Option<Backup>,
    pub(super) overdue: Option<String>,
}

pub(super) struct Backup {
    pub(super) newest: Option<When>,
    pub(super) failures: u64,
    pub(super) is_late: bool,
}

/// Commits that take longer are felt by everybody who waits for one.
const COMMIT_SLOW_S: f64 = 0.25;

/// Bytes that should be free: a day's growth of a busy queue.
const FREE_MIN: u64 = 1_000_000_000;

/// For how long something may be due: more is shown.
const OVERDUE_MAX: Duration = Duration::from_secs(5);

#[derive(Template)]
#[template(path = "daemon.html")]
struct Page {
    frame: Frame,
    version: &'static str,
    namespace: String,
    started: When,
    health: Health,
    work_specs: String,
    rows: Vec<(&'static str, String)>,
    limits: Vec<(&'static str, &'static str, String)>,
    calls: Vec<Calls>,
    tokens: Option<Tokens>,
}

struct Calls {
    method: &'static str,
    count: String,
}

/// `GET /ui/daemon`.
pub(super) async fn show<S: Storage>(ui: Visit<S>, frame: Frame) -> Result<Response> {
    let manager = frame.may_administer.then(|| ui.token_manager());
    let started = ui.run(Access::Read, move |operation| {
        let tokens = manager.as_ref().map(|by| operation.tokens(by));
        Ok((operation.memory.started, tokens.transpose()?, operation.now))
    });
    let ((started, tokens, now), _share) = started.await?;
    let scrape = ui.scrape().await?;
    let snapshot = &scrape.snapshot;
    let mut calls: Vec<(u64, &'static str)> = JobServer::<S>::methods()
        .map(|method| (scrape.requests.calls(method), method.name))
        .filter(|(count, _)| *count > 0)
        .collect();
    calls.sort_unstable_by(|one, other| other.cmp(one));
    let of_http = &ui.shared.limits;
    let loop_totals = ui.shared.metrics.loop_totals();
    let page = Page {
        version: env!("CARGO_PKG_VERSION"),
        namespace: shown::visible(&ui.namespace, 200),
        started: When::new(started, now),
        health: ui.health(snapshot, now),
        work_specs: shown::number(snapshot.work_specs_total as u64),
        rows: vec![
            (
                "Units added since the start",
                shown::number(snapshot.all.added),
            ),
            ("Attempts started", shown::number(snapshot.all.started)),
            ("Commits", shown::number(snapshot.totals.outcomes[0])),
            (
                "CBOR-RPC messages",
                shown::number(loop_totals.messages.get()),
            ),
            (
                "CBOR-RPC connections now",
                shown::number(loop_totals.connections.get()),
            ),
            (
                "HTTP connections now",
                shown::number(ui.shared.metrics.open_connections()),
            ),
            ("Received", shown::bytes(loop_totals.received_bytes.get())),
            ("Sent", shown::bytes(loop_totals.sent_bytes.get())),
        ],
        limits: vec![
            (
                "Open HTTP connections",
                "--http-max-connections",
                shown::number(of_http.connections_max as u64),
            ),
            (
                "HTTP requests at a time",
                "--http-max-requests",
                shown::number(of_http.requests_max as u64),
            ),
            (
                "Body of a request",
                "--max-message",
                shown::bytes(of_http.body_bytes_max as u64),
            ),
            (
                "Nesting of data",
                "--max-depth",
                shown::number(of_http.depth_max as u64),
            ),
            (
                "Memory for requests",
                "--max-unread-total",
                shown::bytes(of_http.bodies_bytes_max as u64),
            ),
            (
                "Memory for answers",
                "--max-unsent-total",
                shown::bytes(of_http.answers_bytes_max as u64),
            ),
        ],
        calls: calls
            .into_iter()
            .map(|(count, method)| Calls {
                method,
                count: shown::number(count),
            })
            .collect(),
        tokens: tokens.map(|tokens| Tokens::of(&tokens, now)),
        frame: frame.on(Tab::Daemon),
    };
    ui.page(&page.frame, &page)
}

impl<S: Storage + 'static> Visit<S> {
    /// How the daemon is.
    pub(super) fn health(&self, snapshot: &Snapshot, now: Timestamp) -> Health {
        let metrics = &self.shared.metrics;
        let sizes = metrics.file_sizes();
        let or_unknown =
            |size: Option<u64>| size.map_or_else(|| "unknown".to_owned(), shown::bytes);
        let p99 = bound_of(&snapshot.totals.commit_time, 0.99);
        let backup = metrics.backups().map(|status| {
            let newest = status.newest().map(|seconds| {
                Timestamp(i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX))
            });
            Backup {
                is_late: newest.is_none_or(|newest| now.since(newest) > 2 * status.every()),
                newest: newest.map(|newest| When::new(newest, now)),
                failures: status.failures(),
            }
        });
        Health {
            commit_p99: match p99 {
                None => "no commits yet".to_owned(),
                Some(bound) if bound.is_finite() => {
                    format!("up to {}", shown::duration(Duration::from_secs_f64(bound)))
                }
                Some(_) => "more than 2.5 s".to_owned(),
            },
            commits_are_slow: p99.is_some_and(|bound| bound > COMMIT_SLOW_S),
            failed_commits: snapshot.totals.outcomes[1] + snapshot.totals.outcomes[2],
            database: or_unknown(sizes.database),
            wal: or_unknown(sizes.wal),
            free: or_unknown(sizes.free),
            disk_is_full: sizes.free.is_some_and(|free| free < FREE_MIN),
            backup,
            overdue: (snapshot.overdue > OVERDUE_MAX).then(|| shown::duration(snapshot.overdue)),
        }
    }
}

/// The bound below which a share of the values is; `None` if there are no values.
#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn bound_of<const N: usize>(histogram: &Histogram<N>, share: f64) -> Option<f64> {
    let wanted = histogram.count() as f64 * share;
    let mut up_to = 0;
    let mut buckets = histogram.buckets().filter(|(_, count)| *count > 0);
    buckets
        .find(|(_, count)| {
            up_to += count;
            up_to as f64 >= wanted
        })
        .map(|(bound, _)| bound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counting::LATENCY_BOUNDS;

    #[test]
    fn the_bound_of_a_share_is_that_of_its_last_value() {
        let mut histogram = Histogram::new(&LATENCY_BOUNDS);
        assert_eq!(bound_of(&histogram, 0.99), None);
        for _ in 0..99 {
            histogram.observe(0.001);
        }
        histogram.observe(60.0);
        assert_eq!(bound_of(&histogram, 0.99), Some(0.001));
        assert_eq!(bound_of(&histogram, 1.0), Some(f64::INFINITY));
    }
}
