//! What fails, over all work specs: grouped by what went wrong.

use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::units::query_of;
use super::{Form, Result, Visit, name_in_url};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{FailureGroup, Name, UnitFilter, UnitStatus, WorkSpec, group_failures};
use askama::Template;
use axum::extract::RawQuery;
use axum::response::Response;

/// Failed units that are read for a page: those of further work specs are on the next one.
const FAILED_MAX: u64 = 100_000;

/// Work specs on a page.
const SPECS: usize = 50;

/// Messages of one work spec that are shown.
const GROUPS: usize = 50;

#[derive(Template)]
#[template(path = "failures.html")]
struct Page {
    frame: Frame,
    specs: Vec<SpecFailures>,
    next: Option<String>,
    is_first: bool,
}

struct SpecFailures {
    name: String,
    url: String,
    count: String,
    groups: Vec<GroupRow>,
    left_out: usize,
}

/// Failed units with the same message.
pub(super) struct GroupRow {
    pub(super) message: String,
    pub(super) count: String,
    pub(super) first: String,
    pub(super) first_url: String,
    pub(super) last_failed: When,
    /// Where the units are listed; `None` for the rest of many messages.
    pub(super) units_url: Option<String>,
    pub(super) retry_url: Option<String>,
}

/// `GET /ui/failures`.
pub(super) async fn show<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let after = query.name("after")?;
    let is_first = after.is_none();
    let find = ui.run(Access::Read, move |operation| {
        let mut failed = 0;
        let mut specs: Vec<(Name, u64)> = Vec::new();
        let mut has_more = false;
        let is_behind = |spec: &&WorkSpec| after.as_ref().is_none_or(|after| spec.name > *after);
        let fail = |spec: &&WorkSpec| spec.counts.failed > 0;
        for spec in operation.work_specs().filter(is_behind).filter(fail) {
            if failed >= FAILED_MAX || specs.len() >= SPECS {
                has_more = true;
                break;
            }
            failed += spec.counts.failed;
            specs.push((spec.name.clone(), spec.counts.failed));
        }
        Ok((specs, has_more, operation.now))
    });
    let ((specs, has_more, now), _share) = find.await?;
    let last = specs.last().filter(|_| has_more);
    let next = last.map(|(spec, _)| frame.url(&format!("failures?after={}", name_in_url(spec))));
    let own_frame = frame.clone();
    let specs = ui
        .read(move |lister, namespace| {
            let mut read = Vec::new();
            for (name, count) in specs {
                let groups = match group_failures(lister, namespace, &name) {
                    Ok(groups) => groups,
                    // Deleted since.
                    Err(crate::coordinate::Error::NoSuchWorkSpec(_)) => continue,
                    Err(error) => return Err(error),
                };
                let mut groups = group_rows(&own_frame, &name, groups, now);
                let left_out = groups.len().saturating_sub(GROUPS);
                groups.truncate(GROUPS);
                read.push(SpecFailures {
                    name: shown::name(&name),
                    url: own_frame.spec(&name),
                    count: shown::number(count),
                    groups,
                    left_out,
                });
            }
            Ok(read)
        })
        .await?;
    let page = Page {
        specs,
        next,
        is_first,
        frame: frame.on(Tab::Failures),
    };
    ui.page(&page.frame, &page)
}

/// The groups of a work spec as rows.
pub(super) fn group_rows(
    frame: &Frame,
    spec: &Name,
    groups: Vec<FailureGroup>,
    now: Timestamp,
) -> Vec<GroupRow> {
    let url = frame.spec(spec);
    let row = |group: FailureGroup| {
        let filter = (!group.has_other_messages()).then(|| UnitFilter {
            status: Some(UnitStatus::Failed),
            prefix: Vec::new(),
            message: Some(group.message.clone()),
        });
        let query = |more: &[_]| filter.as_ref().map(|filter| query_of(filter, more));
        GroupRow {
            message: shown::visible(&group.message, usize::MAX),
            count: shown::number(group.count),
            first: shown::name(&group.first),
            first_url: frame.unit(spec, &group.first),
            last_failed: When::new(group.last_failed, now),
            units_url: query(&[]).map(|query| format!("{url}/units?{query}")),
            retry_url: query(&[("action", "retry")]).map(|query| format!("{url}/bulk?{query}")),
        }
    };
    groups.into_iter().map(row).collect()
}
