//! The first page: all work specs, the workers, and how the daemon is.

use super::chart::{Chart, Series, Span};
use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::{Form, Result, Visit, name_in_url};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{Census, Completed, Counts, Name, WorkSpec};
use askama::Template;
use axum::extract::RawQuery;
use axum::response::Response;

/// Work specs on a page.
const PAGE: usize = 100;

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    specs: Vec<SpecRow>,
    /// Where the next work specs are.
    next: Option<String>,
    is_first: bool,
    specs_total: String,
    totals: Numbers,
    workers: Option<Workers>,
    health: super::daemon::Health,
}

struct SpecRow {
    name: String,
    url: String,
    numbers: Numbers,
    paused: bool,
    /// Units that are added and attempts that end, by second or minute or hour.
    added: String,
    ended: String,
    chart: Option<Chart>,
    oldest: Option<When>,
}

/// Counts by status.
pub(super) struct Numbers {
    pub(super) available: String,
    pub(super) delayed: String,
    pub(super) retrying: u64,
    pub(super) pending: String,
    pub(super) finished: String,
    pub(super) failed: String,
    pub(super) has_failed: bool,
}

impl Numbers {
    pub(super) fn of(counts: &Counts) -> Self {
        Self {
            available: shown::number(counts.available),
            delayed: shown::number(counts.delayed),
            retrying: counts.retrying,
            pending: shown::number(counts.pending),
            finished: shown::number(counts.shown(Completed::Finished)),
            failed: shown::number(counts.shown(Completed::Failed)),
            has_failed: counts.failed > 0,
        }
    }
}

struct Workers {
    total: String,
    modes: [(&'static str, String); 4],
}

impl Workers {
    fn of(census: &Census) -> Self {
        let Census {
            running,
            idle,
            terminating,
            others,
            ..
        } = *census;
        Self {
            total: shown::number(running + idle + terminating + others),
            modes: [
                ("running", shown::number(running)),
                ("idle", shown::number(idle)),
                ("terminating", shown::number(terminating)),
                ("other", shown::number(others)),
            ],
        }
    }
}

/// `GET /ui/`.
pub(super) async fn show<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let after = query.name("after")?;
    let is_first = after.is_none();
    let find = ui.run(Access::Read, move |operation| {
        let is_behind = |spec: &&WorkSpec| after.as_ref().is_none_or(|after| spec.name > *after);
        let specs = operation.work_specs().filter(is_behind).take(PAGE + 1);
        Ok((specs.cloned().collect::<Vec<_>>(), operation.now))
    });
    let ((mut specs, now), _share) = find.await?;
    let has_more = specs.len() > PAGE;
    specs.truncate(PAGE);
    let last = specs.last().filter(|_| has_more);
    let next = last.map(|spec| frame.url(&format!("?after={}", name_in_url(&spec.name))));
    let names: Vec<Name> = specs.iter().map(|spec| spec.name.clone()).collect();
    let series = ui.read(move |lister, namespace| {
        Series::read(lister, namespace, &names, Span::HalfHour, now)
    });
    let series = series.await?;
    let mut scrape = ui.scrape().await?;
    let census = tokio::task::spawn_blocking(scrape.census)
        .await
        .ok()
        .flatten();
    let totals = scrape.snapshot.others.take().map(|others| others.counts);
    let page = Page {
        specs: specs
            .iter()
            .zip(&series)
            .map(|(spec, series)| row(spec, series, &frame, now))
            .collect(),
        next,
        is_first,
        specs_total: shown::number(scrape.snapshot.work_specs_total as u64),
        totals: Numbers::of(&totals.unwrap_or_default()),
        workers: census.as_ref().map(Workers::of),
        health: ui.health(&scrape.snapshot, now),
        frame: frame.on(Tab::Overview),
    };
    ui.page(&page.frame, &page)
}

fn row(spec: &WorkSpec, series: &Series, frame: &Frame, now: Timestamp) -> SpecRow {
    let (added, ended) = series.rates();
    SpecRow {
        added: shown::rate(added),
        ended: shown::rate(ended),
        chart: (!series.is_empty()).then(|| Chart::new(series, &[])),
        name: shown::name(&spec.name),
        url: frame.spec(&spec.name),
        numbers: Numbers::of(&spec.counts),
        paused: spec.meta.paused.is_some(),
        oldest: spec.waiting_since.map(|since| When::new(since, now)),
    }
}
