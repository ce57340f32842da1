//! A unit: where it stands, and its attempts.

use super::data::Excerpt;
use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::spec::typed;
use super::{Result, Visit, name_from_url};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Lister, Storage};
use crate::coordinate::{Attempt, AttemptStatus, Name, UnitStatus};
use askama::Template;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use coordinated_client::cbor::Item;

/// Attempts that are shown, the newest ones.
const ATTEMPTS: usize = 50;

/// Bytes of the data of an attempt that are shown.
const ATTEMPT_DATA_BYTES: usize = 8 << 10;

/// The width of the timeline, in its own units.
const TIMELINE_WIDTH: f64 = 1_000.0;

/// The least width of an attempt in it, so that it is seen.
const BAR_MIN: f64 = 4.0;

#[derive(Template)]
#[template(path = "unit.html")]
struct Page {
    frame: Frame,
    spec: String,
    spec_url: String,
    /// The name of the work spec as it has to be typed to delete the unit.
    typed: String,
    name: String,
    url: String,
    status: &'static str,
    sentences: Vec<String>,
    priority: f64,
    group: Option<String>,
    failures: u64,
    attempt_count: u64,
    attempts: Vec<AttemptRow>,
    bars: Vec<Bar>,
    traceback: Option<Excerpt>,
    data: Excerpt,
    can_retry: bool,
}

struct AttemptRow {
    number: u64,
    status: &'static str,
    worker: Option<(String, String)>,
    start: When,
    end: Option<When>,
    lease: When,
    ran: String,
    data: Option<Excerpt>,
}

/// An attempt in the timeline.
struct Bar {
    number: u64,
    status: &'static str,
    x: String,
    width: String,
}

/// `GET /ui/spec/SPEC/unit/UNIT`.
pub(super) async fn show<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path((spec, unit)): Path<(String, String)>,
) -> Result<Response> {
    let (spec, name) = (name_from_url(&spec)?, name_from_url(&unit)?);
    let (of, unit) = (spec.clone(), name.clone());
    let find = ui.run(Access::Read, move |operation| {
        let details = operation.unit_details(&of, &unit)?;
        let reasons = operation.explain_work(&of, Some(&unit))?;
        let reasons = reasons.iter().map(|reason| reason.text(operation.now));
        let sentences: Vec<String> = reasons.collect();
        let count = operation.attempt_count(&of, &unit)?;
        Ok((details, sentences, count, operation.now))
    });
    let ((details, sentences, attempt_count, now), _share) = find.await?;
    let (of, unit) = (spec.clone(), name.clone());
    let (redaction, own_frame) = (ui.redaction.clone(), frame.clone());
    let attempts = ui
        .read(move |lister, namespace| {
            let mut attempts = Vec::new();
            lister.list_attempts(namespace, &of, &unit, ATTEMPTS, &mut |attempt, data| {
                let data = data.map(|data| {
                    let mut json = redaction.json(data);
                    let shown = json.floor_char_boundary(ATTEMPT_DATA_BYTES);
                    let left_out = json.len() - shown;
                    json.truncate(shown);
                    Excerpt {
                        text: json,
                        left_out,
                    }
                });
                attempts.push((attempt.clone(), attempt_row(&own_frame, attempt, data, now)));
                Ok(())
            })?;
            Ok(attempts)
        })
        .await?;
    let bars = bars(attempts.iter().map(|(attempt, _)| attempt), now);
    let status = details.unit.status;
    let page = Page {
        spec: shown::name(&spec),
        spec_url: frame.spec(&spec),
        typed: typed(&spec),
        name: shown::name(&name),
        url: frame.unit(&spec, &name),
        status: shown::status(status),
        sentences,
        priority: details.unit.priority,
        group: details.unit.queued.group.clone(),
        failures: details.unit.failures,
        attempt_count,
        attempts: attempts.into_iter().map(|(_, row)| row).collect(),
        bars,
        traceback: ui.traceback(&details.data).map(Excerpt::of),
        data: Excerpt::of(ui.redaction.json(&details.data)),
        can_retry: !matches!(status, UnitStatus::Available | UnitStatus::Delayed),
        frame: frame.on(Tab::Overview),
    };
    ui.page(&page.frame, &page)
}

/// `GET /ui/spec/SPEC/unit/UNIT/data`: all of the data, as JSON text.
pub(super) async fn data<S: Storage>(
    ui: Visit<S>,
    Path((spec, unit)): Path<(String, String)>,
) -> Result<Response> {
    let (spec, name) = (name_from_url(&spec)?, name_from_url(&unit)?);
    let find = ui.run(Access::Read, move |operation| {
        operation.unit_details(&spec, &name)
    });
    let (details, _share) = find.await?;
    let text = ui.redaction.json(&details.data).into_bytes();
    let body = Body::from(ui.shared.answers.hold(text)?);
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

impl<S: Storage + 'static> Visit<S> {
    /// The traceback in data, if there is one and it may be seen.
    fn traceback(&self, data: &[u8]) -> Option<String> {
        if self.redaction.hides(b"traceback") {
            return None;
        }
        let traceback = Item::from_checked(data).get("traceback")?;
        let text = String::from_utf8_lossy(&traceback.as_string_bytes()?).into_owned();
        (!text.is_empty()).then_some(text)
    }
}

fn attempt_row(
    frame: &Frame,
    attempt: &Attempt,
    data: Option<Excerpt>,
    now: Timestamp,
) -> AttemptRow {
    let worker = attempt.worker.as_ref();
    AttemptRow {
        number: attempt.number,
        status: attempt_status(attempt.status),
        worker: worker.map(|worker: &Name| (shown::name(worker), frame.worker(worker))),
        start: When::new(attempt.start, now),
        end: attempt.end.map(|end| When::new(end, now)),
        lease: When::new(attempt.expiration, now),
        ran: shown::duration(attempt.end.unwrap_or(now).since(attempt.start)),
        data,
    }
}

fn attempt_status(status: AttemptStatus) -> &'static str {
    match status {
        AttemptStatus::Pending => "pending",
        AttemptStatus::Finished => "finished",
        AttemptStatus::Failed => "failed",
        AttemptStatus::Expired => "expired",
        AttemptStatus::Retryable => "retryable",
    }
}

/// The attempts in proportion to when they ran.
#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn bars<'a>(attempts: impl Iterator<Item = &'a Attempt> + Clone, now: Timestamp) -> Vec<Bar> {
    let end_of = |attempt: &Attempt| attempt.end.unwrap_or(now);
    let Some(first) = attempts.clone().map(|attempt| attempt.start).min() else {
        return Vec::new();
    };
    let last = attempts.clone().map(end_of).max().unwrap_or(now);
    let all = last.since(first).as_micros().max(1) as f64;
    let place =
        |at: Timestamp| at.since(first).as_micros() as f64 / all * (TIMELINE_WIDTH - BAR_MIN);
    attempts
        .map(|attempt| {
            let x = place(attempt.start);
            let width = (place(end_of(attempt)) - x).max(BAR_MIN);
            Bar {
                number: attempt.number,
                status: attempt_status(attempt.status),
                x: format!("{x:.1}"),
                width: format!("{width:.1}"),
            }
        })
        .collect()
}
