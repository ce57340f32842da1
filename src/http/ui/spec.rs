//! A work spec: its units, how it is scheduled, why nothing runs, and what fails.

use super::chart::{Chart, Series, Span};
use super::data::Excerpt;
use super::failures::{GroupRow, group_rows};
use super::frame::{Frame, Tab};
use super::overview::Numbers;
use super::shown::{self, When};
use super::{Result, Visit, name_from_url};
use crate::coordinate::storage::{Access, Lister, Storage};
use crate::coordinate::{Name, Period, WorkSpec, group_failures};
use askama::Template;
use axum::extract::Path;
use axum::response::Response;

/// Failed units beyond which their messages are left to the page of failures: reading them takes a moment.
const FAILED_MAX: u64 = 10_000;

/// Messages on this page.
const GROUPS: usize = 10;

/// Runs of a schedule that are shown.
const NEXT_RUNS: usize = 3;

#[derive(Template)]
#[template(path = "spec.html")]
struct Page {
    frame: Frame,
    name: String,
    /// The name as it has to be typed to delete the work spec.
    typed: String,
    url: String,
    numbers: Numbers,
    total: String,
    oldest: Option<When>,
    paused: Option<Paused>,
    reasons: Vec<String>,
    settings: Settings,
    facts: Vec<(&'static str, String)>,
    charts: Vec<Chart>,
    runs: Vec<When>,
    timezone: Option<String>,
    groups: Vec<GroupRow>,
    failed_are_many: bool,
    definition: Excerpt,
}

struct Paused {
    reason: Option<String>,
    by: Option<String>,
    since: Option<When>,
}

/// What can be set.
struct Settings {
    weight: i64,
    priority: f64,
    max_running: String,
}

/// `GET /ui/spec/SPEC`.
pub(super) async fn show<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(spec): Path<String>,
) -> Result<Response> {
    let name = name_from_url(&spec)?;
    let of = name.clone();
    let find = ui.run(Access::Read, move |operation| {
        let spec = operation.work_spec(&of)?.clone();
        let definition = operation.work_spec_definition(&of)?;
        operation.effects.answer_bytes += definition.len();
        let reasons = operation.explain_work(&of, None)?;
        let reasons = reasons.iter().map(|reason| reason.text(operation.now));
        Ok((spec, definition, reasons.collect(), operation.now))
    });
    let ((spec, definition, reasons, now), _share) = find.await?;
    let failed_are_many = spec.counts.failed > FAILED_MAX;
    let groups = match spec.counts.failed {
        1..=FAILED_MAX => {
            let of = name.clone();
            ui.read(move |lister, namespace| group_failures(lister, namespace, &of))
                .await?
        }
        _ => Vec::new(),
    };
    let of = name.clone();
    let charts = ui.read(move |lister, namespace| {
        let gaps = lister.history_gaps(now.minus(Period::Hour.kept()))?;
        let spans = [Span::Hour, Span::Day, Span::NinetyDays];
        let mut charts = Vec::new();
        for span in spans {
            let series = Series::read(lister, namespace, std::slice::from_ref(&of), span, now)?;
            charts.extend(series.iter().map(|series| Chart::new(series, &gaps)));
        }
        Ok(charts)
    });
    let charts = charts.await?;
    let mut groups = group_rows(&frame, &name, groups, now);
    groups.truncate(GROUPS);
    let when = |at| When::new(at, now);
    let schedule = spec.meta.schedule.as_deref();
    let page = Page {
        name: shown::name(&name),
        typed: typed(&name),
        url: frame.spec(&name),
        numbers: Numbers::of(&spec.counts),
        total: shown::number(spec.counts.total()),
        oldest: spec.waiting_since.map(when),
        paused: spec.meta.paused.as_ref().map(|pause| Paused {
            reason: pause.reason.clone(),
            by: pause.by.clone(),
            since: pause.since.map(when),
        }),
        reasons,
        settings: Settings {
            weight: spec.meta.weight,
            priority: spec.meta.priority,
            max_running: spec
                .meta
                .max_running
                .map(|max| max.to_string())
                .unwrap_or_default(),
        },
        facts: facts(&spec),
        charts,
        runs: schedule
            .map(|schedule| schedule.next_runs(NEXT_RUNS).map(when).collect())
            .unwrap_or_default(),
        timezone: schedule.map(|schedule| schedule.timezone.clone()),
        groups,
        failed_are_many,
        definition: Excerpt::of(ui.redaction.json(&definition)),
        frame: frame.on(Tab::Overview),
    };
    ui.page(&page.frame, &page)
}

/// What a person types to say that a work spec is meant.
pub(super) fn typed(name: &Name) -> String {
    shown::name(name)
}

/// What the definition says about scheduling, beside what can be set here.
fn facts(spec: &WorkSpec) -> Vec<(&'static str, String)> {
    let meta = &spec.meta;
    let mut facts = Vec::new();
    let mut add = |title, fact: Option<String>| facts.extend(fact.map(|fact| (title, fact)));
    let text_of = |name: &Name| shown::name(name);
    add(
        "Runtime",
        Some(meta.runtime.clone()).filter(|runtime| !runtime.is_empty()),
    );
    add("Order", Some(meta.order.word().to_owned()));
    add("Groups in turn", meta.fair.then(|| "yes".to_owned()));
    add(
        "Pending units of a group",
        meta.max_running_per_group
            .map(|max| format!("at most {max}")),
    );
    add("Rate", meta.max_rate.map(|rate| rate.to_string()));
    add(
        "Pauses after failures",
        meta.halt_after.map(|halt| halt.to_string()),
    );
    add(
        "Retries of failed units",
        meta.retry.map(|retry| retry.retries.to_string()),
    );
    add(
        "Attempts at a unit",
        meta.max_retries.map(|max| format!("at most {max}")),
    );
    add(
        "Lost leases of a unit",
        meta.max_lost.map(|max| format!("at most {max}")),
    );
    add(
        "Units in one call",
        meta.max_getwork.map(|max| format!("at most {max}")),
    );
    add("Then", meta.then.as_ref().map(text_of));
    add("Continuous", meta.continuous.then(|| "yes".to_owned()));
    add("Interval", meta.interval.map(shown::duration));
    let schedule = meta.schedule.as_deref();
    add(
        "Schedule",
        schedule.map(|schedule| schedule.expression.clone()),
    );
    facts
}
