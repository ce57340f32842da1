//! The units of a work spec, by status and by the beginning of their names.

use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::{Form, Result, Visit, name_from_url, name_in_url};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{ListedUnit, Name, UnitFilter, UnitStatus, list_units};
use crate::http::problem::{self, Problem};
use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::response::Response;

/// Units on a page.
const PAGE: usize = 100;

/// Characters of a message in a list.
const MESSAGE_CHARS: usize = 160;

#[derive(Template)]
#[template(path = "units.html")]
struct Page {
    frame: Frame,
    spec: String,
    spec_url: String,
    tabs: Vec<StatusTab>,
    /// The word of the status that is shown; empty for all.
    status: &'static str,
    prefix: String,
    message: Option<String>,
    units: Vec<UnitRow>,
    is_first: bool,
    first_url: String,
    next: Option<String>,
    /// The units of this page are those that were found so far.
    is_cut: bool,
    bulk: Vec<(&'static str, String)>,
}

struct StatusTab {
    title: &'static str,
    count: String,
    url: String,
    is_shown: bool,
}

pub(super) struct UnitRow {
    pub(super) name: String,
    /// The name as a value of a form.
    pub(super) key: String,
    pub(super) url: String,
    pub(super) status: &'static str,
    priority: f64,
    worker: Option<(String, String)>,
    /// Since when it has been in its status, or until when.
    time: Option<(&'static str, When)>,
    message: Option<String>,
}

impl UnitRow {
    pub(super) fn of(frame: &Frame, spec: &Name, unit: &ListedUnit, now: Timestamp) -> Self {
        let worker = unit
            .attempt
            .as_ref()
            .and_then(|attempt| attempt.worker.as_ref());
        let time = match (&unit.attempt, unit.not_before) {
            (Some(attempt), _) => Some(match attempt.end {
                Some(end) => ("ended", end),
                None => ("lease ends", attempt.expiration),
            }),
            (None, Some(not_before)) => Some(("until", not_before)),
            (None, None) => None,
        };
        Self {
            name: shown::name(&unit.name),
            key: name_in_url(&unit.name),
            url: frame.unit(spec, &unit.name),
            status: shown::status(unit.status),
            priority: unit.priority,
            worker: worker.map(|worker| (shown::name(worker), frame.worker(worker))),
            time: time.map(|(what, at)| (what, When::new(at, now))),
            message: unit
                .message
                .as_deref()
                .map(|it| shown::visible(it, MESSAGE_CHARS)),
        }
    }
}

impl UnitRow {
    /// A unit of which only the name is known.
    pub(super) fn of_name(frame: &Frame, spec: &Name, unit: &Name) -> Self {
        Self {
            name: shown::name(unit),
            key: name_in_url(unit),
            url: frame.unit(spec, unit),
            status: "",
            priority: 0.0,
            worker: None,
            time: None,
            message: None,
        }
    }
}

/// The filter that a query or a form is.
///
/// # Errors
/// If it has a status that there is not.
pub(super) fn filter_of(form: &Form) -> Result<UnitFilter> {
    let status = match form.get("status") {
        None => None,
        Some(word) => Some(shown::status_of(word).ok_or_else(|| {
            let detail = format!(
                "there is no status {word:?}: it is available, delayed, pending, finished or failed"
            );
            Problem::new(problem::INVALID, detail)
        })?),
    };
    let message = form.get("message").map(str::to_owned);
    Ok(UnitFilter {
        // Only failed units have messages.
        status: if message.is_some() {
            Some(UnitStatus::Failed)
        } else {
            status
        },
        prefix: form.get("prefix").unwrap_or_default().as_bytes().to_vec(),
        message,
    })
}

/// A filter as a query, with more parameters.
pub(super) fn query_of(filter: &UnitFilter, more: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(status) = filter.status {
        query.append_pair("status", shown::status(status));
    }
    if !filter.prefix.is_empty() {
        query.append_pair("prefix", &String::from_utf8_lossy(&filter.prefix));
    }
    if let Some(message) = &filter.message {
        query.append_pair("message", message);
    }
    for (key, value) in more {
        query.append_pair(key, value);
    }
    query.finish()
}

/// `GET /ui/spec/SPEC/units`.
pub(super) async fn show<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(spec): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let name = name_from_url(&spec)?;
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let filter = filter_of(&query)?;
    let after = query.name("after")?;
    let is_first = after.is_none();
    let of = name.clone();
    let find = ui.run(Access::Read, move |operation| {
        Ok((operation.work_spec(&of)?.counts, operation.now))
    });
    let ((counts, now), _) = find.await?;
    let (of, wanted) = (name.clone(), filter.clone());
    let listed = ui
        .read(move |lister, namespace| {
            list_units(lister, namespace, &of, &wanted, after.as_ref(), PAGE)
        })
        .await?;
    let url = frame.spec(&name);
    let with_status = |status: Option<UnitStatus>| UnitFilter {
        status,
        prefix: filter.prefix.clone(),
        message: None,
    };
    let tab = |title, status: Option<UnitStatus>, count| {
        let query = query_of(&with_status(status), &[]);
        StatusTab {
            title,
            count: shown::number(count),
            url: format!(
                "{url}/units{}{query}",
                if query.is_empty() { "" } else { "?" }
            ),
            is_shown: filter.status == status,
        }
    };
    let bulk_url = |action| format!("{url}/bulk?{}", query_of(&filter, &[("action", action)]));
    let mut bulk = vec![("Set the priority of all", bulk_url("priority"))];
    if matches!(
        filter.status,
        Some(UnitStatus::Failed | UnitStatus::Finished)
    ) {
        bulk.insert(0, ("Retry all", bulk_url("retry")));
    }
    bulk.push(("Delete all", bulk_url("delete")));
    let page = Page {
        spec: shown::name(&name),
        tabs: vec![
            tab("All", None, counts.there()),
            tab("Available", Some(UnitStatus::Available), counts.available),
            tab("Delayed", Some(UnitStatus::Delayed), counts.delayed),
            tab("Pending", Some(UnitStatus::Pending), counts.pending),
            tab("Finished", Some(UnitStatus::Finished), counts.finished),
            tab("Failed", Some(UnitStatus::Failed), counts.failed),
        ],
        status: filter.status.map_or("", shown::status),
        prefix: String::from_utf8_lossy(&filter.prefix).into_owned(),
        message: filter.message.clone(),
        is_cut: listed.next.is_some() && listed.units.len() < PAGE,
        next: listed.next.map(|next| {
            let query = query_of(&filter, &[("after", &name_in_url(&next))]);
            format!("{url}/units?{query}")
        }),
        units: listed
            .units
            .iter()
            .map(|unit| UnitRow::of(&frame, &name, unit, now))
            .collect(),
        is_first,
        first_url: format!("{url}/units?{}", query_of(&filter, &[])),
        bulk,
        spec_url: url,
        frame: frame.on(Tab::Overview),
    };
    ui.page(&page.frame, &page)
}
