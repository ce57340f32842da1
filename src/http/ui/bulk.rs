//! Actions on many units: first shown, then done with exactly those units, in steps, beside everything else.
//!
//! What is shown has a moment ([`AsOf`]). Units that were added or attempted since are skipped, and counted. The actions
//! are remembered in memory: when the daemon stops, the units that an action has not reached stay as they are.

use super::actions::{check_typed, invalid, number_of};
use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::spec::typed;
use super::units::{UnitRow, filter_of, query_of};
use super::{Form, PageError, Result, Visit, name_from_url, name_in_url, see_other};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{
    AsOf, AttemptId, Counts, Name, PriorityChange, UnitAction, UnitFilter, UnitStatus,
    UnitsCounted, WorkUnitId, count_units, list_units,
};
use crate::http::problem::{self, Problem};
use crate::limits::SWEEP_REMOVED;
use askama::Template;
use axum::extract::{Path, RawQuery, Request};
use axum::response::Response;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Actions that run at a time. Each takes turns with everything else.
const RUNNING_MAX: usize = 8;

/// Actions that are remembered.
const REMEMBERED_MAX: usize = 100;

/// Units that are shown before an action.
const SAMPLES: usize = 10;

/// All actions since the daemon's start, the newest first.
#[derive(Default)]
pub(super) struct BulkActions {
    actions: Mutex<VecDeque<Arc<BulkAction>>>,
    last_id: AtomicU64,
}

/// An action on many units.
struct BulkAction {
    id: u64,
    what: String,
    spec: Name,
    begun: Timestamp,
    total: u64,
    done: AtomicU64,
    skipped: AtomicU64,
    is_stopped: AtomicBool,
    /// How it ended, once it has.
    end: OnceLock<Result<(), String>>,
}

impl BulkActions {
    /// Begins an action.
    ///
    /// # Errors
    /// If too many run.
    fn begin(&self, make: impl FnOnce(u64) -> BulkAction) -> Result<Arc<BulkAction>, Problem> {
        let mut actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        let running = actions.iter().filter(|action| action.end.get().is_none());
        if running.count() >= RUNNING_MAX {
            let detail = format!(
                "{RUNNING_MAX} actions on many units run already; wait for one of them, or stop one"
            );
            return Err(Problem::new(problem::BUSY, detail));
        }
        let action = Arc::new(make(self.last_id.fetch_add(1, Ordering::Relaxed) + 1));
        actions.push_front(Arc::clone(&action));
        // Those that run are among the newest ones, or they are few.
        while actions.len() > REMEMBERED_MAX {
            let oldest = actions
                .iter()
                .rposition(|action| action.end.get().is_some());
            let Some(oldest) = oldest else { break };
            actions.remove(oldest);
        }
        Ok(action)
    }

    fn all(&self) -> Vec<Arc<BulkAction>> {
        let actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        actions.iter().cloned().collect()
    }

    /// # Errors
    /// If there is none of this id.
    fn get(&self, id: u64) -> Result<Arc<BulkAction>> {
        let mut all = self.all().into_iter();
        let found = all.find(|action| action.id == id);
        let none = || {
            let detail = format!(
                "there is no operation {id}: the daemon remembers the last {REMEMBERED_MAX} since its start"
            );
            PageError::from(Problem::new(problem::NOT_FOUND, detail))
        };
        found.ok_or_else(none)
    }
}

/// What is done, as forms have it.
#[derive(Clone, Copy)]
struct Kind {
    word: &'static str,
    action: UnitAction,
}

impl Kind {
    /// # Errors
    /// If it is none, or needs a priority that it does not have.
    fn of(form: &Form) -> Result<Self> {
        let (word, action) = match form.get("action") {
            Some("retry") => ("retry", UnitAction::Retry),
            Some("delete") => ("delete", UnitAction::Delete),
            Some("priority") => {
                let priority = form.text("priority");
                let priority = priority.map_or(Ok(0.0), |text| number_of("priority", &text))?;
                (
                    "priority",
                    UnitAction::Prioritize(PriorityChange::Set(priority)),
                )
            }
            other => {
                let given = other.unwrap_or_default();
                return Err(invalid(format!(
                    "there is no action {given:?}: it is retry, delete or priority"
                )));
            }
        };
        Ok(Self { word, action })
    }

    /// As the title of what is done with some units.
    fn title(self, units: &str) -> String {
        match self.action {
            UnitAction::Retry => format!("Retry {units}"),
            UnitAction::Delete => format!("Delete {units}"),
            UnitAction::Prioritize(_) => format!("Set the priority of {units}"),
        }
    }

    /// Fails if an action makes no sense for these units.
    fn check(self, filter: &UnitFilter, is_selection: bool) -> Result<()> {
        let is_over = matches!(
            filter.status,
            Some(UnitStatus::Failed | UnitStatus::Finished)
        );
        match self.action {
            UnitAction::Retry if !is_over && !is_selection => Err(invalid(
                "retry: choose failed or finished units by their status".to_owned(),
            )),
            _ => Ok(()),
        }
    }
}

#[derive(Template)]
#[template(path = "preview.html")]
struct PreviewPage {
    frame: Frame,
    spec: String,
    spec_url: String,
    typed: String,
    title: String,
    action: &'static str,
    count: String,
    /// False if there are more, which were not counted.
    is_all: bool,
    samples: Vec<UnitRow>,
    conditions: Vec<String>,
    /// Fields that say which units are meant.
    fields: Vec<(&'static str, String)>,
    back: String,
}

/// `GET /ui/spec/SPEC/bulk`: what an action on all units that meet a filter would do.
pub(super) async fn preview<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(spec): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let form = Form::parse(query.unwrap_or_default().as_bytes());
    ui.preview_of(frame, &spec, &form).await
}

/// `POST /ui/spec/SPEC/bulk`: the same for units that were selected.
pub(super) async fn preview_selection<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(spec): Path<String>,
    request: Request,
) -> Result<Response> {
    let form = ui.form(request).await?;
    if form.all("unit").next().is_none() {
        return Err(invalid("no unit is selected".to_owned()));
    }
    ui.preview_of(frame, &spec, &form).await
}

impl<S: Storage + 'static> Visit<S> {
    async fn preview_of(&self, frame: Frame, spec: &str, form: &Form) -> Result<Response> {
        let spec = name_from_url(spec)?;
        let kind = Kind::of(form)?;
        let filter = filter_of(form)?;
        let selected = selection_of(form)?;
        kind.check(&filter, !selected.is_empty())?;
        let of = spec.clone();
        let find = self.run(Access::Read, move |operation| {
            let counts = operation.work_spec(&of)?.counts;
            Ok((counts, operation.as_of_now(), operation.now))
        });
        let ((counts, as_of, now), _) = find.await?;
        let UnitsCounted {
            count,
            is_all,
            samples,
        } = if selected.is_empty() {
            self.count(&spec, &filter, &counts).await?
        } else {
            UnitsCounted {
                count: selected.len() as u64,
                is_all: true,
                samples: Vec::new(),
            }
        };
        let mut fields = vec![
            ("action", kind.word.to_owned()),
            ("as_of_unit", as_of.unit.0.to_string()),
            ("as_of_attempt", as_of.attempt.0.to_string()),
            ("count", count.to_string()),
        ];
        if let Some(status) = filter.status {
            fields.push(("status", shown::status(status).to_owned()));
        }
        if !filter.prefix.is_empty() {
            fields.push((
                "prefix",
                String::from_utf8_lossy(&filter.prefix).into_owned(),
            ));
        }
        fields.extend(filter.message.clone().map(|message| ("message", message)));
        fields.extend(selected.iter().map(|name| ("unit", name_in_url(name))));
        let url = frame.spec(&spec);
        let mut samples: Vec<UnitRow> = samples
            .iter()
            .map(|unit| UnitRow::of(&frame, &spec, unit, now))
            .collect();
        samples.extend(
            selected
                .iter()
                .take(SAMPLES)
                .map(|name| UnitRow::of_name(&frame, &spec, name)),
        );
        let page = PreviewPage {
            spec: shown::name(&spec),
            typed: typed(&spec),
            title: match is_all {
                true => kind.title(&units(count)),
                false => kind.title(&format!("more than {}", units(count))),
            },
            action: kind.word,
            count: shown::number(count),
            is_all,
            samples,
            conditions: conditions(&filter),
            fields,
            back: format!("{url}/units?{}", query_of(&filter, &[])),
            spec_url: url,
            frame: frame.on(Tab::Overview),
        };
        self.page(&page.frame, &page)
    }

    /// How many units meet a filter, and some of them.
    async fn count(
        &self,
        spec: &Name,
        filter: &UnitFilter,
        counts: &Counts,
    ) -> Result<UnitsCounted> {
        let (of, wanted) = (spec.clone(), filter.clone());
        if !filter.prefix.is_empty() || filter.message.is_some() {
            let count = self.read(move |lister, namespace| {
                count_units(lister, namespace, &of, &wanted, SAMPLES)
            });
            return Ok(count.await?);
        }
        let listed = self.read(move |lister, namespace| {
            list_units(lister, namespace, &of, &wanted, None, SAMPLES)
        });
        let count = match filter.status {
            None => counts.there(),
            Some(UnitStatus::Available) => counts.available,
            Some(UnitStatus::Delayed) => counts.delayed,
            Some(UnitStatus::Pending) => counts.pending,
            Some(UnitStatus::Finished) => counts.finished,
            Some(UnitStatus::Failed) => counts.failed,
        };
        Ok(UnitsCounted {
            count,
            is_all: true,
            samples: listed.await?.units,
        })
    }

    /// Does an action to its end.
    async fn work(&self, action: &BulkAction, mut set: Set, as_of: AsOf, kind: UnitAction) {
        let ended = loop {
            if action.is_stopped.load(Ordering::Relaxed) {
                break Err("stopped".to_owned());
            }
            match self.step(action, &mut set, as_of, kind).await {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(problem) => break Err(problem.detail().to_owned()),
            }
        };
        // It is set here only.
        let _ = action.end.set(ended);
    }

    /// Acts on the next units. False if there are no more.
    async fn step(
        &self,
        action: &BulkAction,
        set: &mut Set,
        as_of: AsOf,
        kind: UnitAction,
    ) -> Result<bool, Problem> {
        let spec = action.spec.clone();
        let (names, status) = match set {
            Set::Selected(names) => {
                let rest = names.split_off(names.len().min(SWEEP_REMOVED));
                (std::mem::replace(names, rest), None)
            }
            Set::Filtered { is_over: true, .. } => return Ok(false),
            Set::Filtered {
                filter,
                after,
                is_over,
            } => {
                let (of, wanted, from) = (spec.clone(), filter.clone(), after.clone());
                let listed = self.read(move |lister, namespace| {
                    list_units(
                        lister,
                        namespace,
                        &of,
                        &wanted,
                        from.as_ref(),
                        SWEEP_REMOVED,
                    )
                });
                let listed = listed.await?;
                *is_over = listed.next.is_none();
                *after = listed.next;
                let names: Vec<Name> = listed.units.into_iter().map(|unit| unit.name).collect();
                if names.is_empty() {
                    return Ok(!*is_over);
                }
                (names, filter.status)
            }
        };
        if names.is_empty() {
            return Ok(false);
        }
        let count = names.len() as u64;
        let act = self.run(Access::Write, move |operation| {
            operation.take_units_as_of(&spec, &names, status, as_of, kind)
        });
        let (taken, _) = act.await?;
        action.done.fetch_add(taken, Ordering::Relaxed);
        action.skipped.fetch_add(count - taken, Ordering::Relaxed);
        Ok(true)
    }
}

/// The units that an action is about.
enum Set {
    Selected(Vec<Name>),
    Filtered {
        filter: UnitFilter,
        after: Option<Name>,
        is_over: bool,
    },
}

fn selection_of(form: &Form) -> Result<Vec<Name>> {
    form.all("unit").map(name_from_url).collect()
}

fn units(count: u64) -> String {
    match count {
        1 => "1 unit".to_owned(),
        count => format!("{} units", shown::number(count)),
    }
}

/// A filter in words.
fn conditions(filter: &UnitFilter) -> Vec<String> {
    let status = filter
        .status
        .map(|status| format!("status {}", shown::status(status)));
    let prefix = String::from_utf8_lossy(&filter.prefix);
    let prefix =
        (!prefix.is_empty()).then(|| format!("name begins with {}", shown::visible(&prefix, 200)));
    let message = filter.message.as_deref();
    let message = message.map(|message| format!("message {}", shown::visible(message, 500)));
    [status, prefix, message].into_iter().flatten().collect()
}

/// `POST /ui/spec/SPEC/bulk/apply`.
pub(super) async fn apply<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(spec): Path<String>,
    request: Request,
) -> Result<Response> {
    let spec = name_from_url(&spec)?;
    let form = ui.form(request).await?;
    let kind = Kind::of(&form)?;
    let filter = filter_of(&form)?;
    let selected = selection_of(&form)?;
    kind.check(&filter, !selected.is_empty())?;
    if matches!(kind.action, UnitAction::Delete) {
        check_typed(&form, &spec)?;
    }
    let number = |field: &str| {
        let number = form.get(field).and_then(|number| number.parse().ok());
        number.ok_or_else(|| invalid(format!("{field}: expected a number; go back and try again")))
    };
    let as_of = AsOf {
        unit: WorkUnitId(number("as_of_unit")?),
        attempt: AttemptId(number("as_of_attempt")?),
    };
    let of = spec.clone();
    let begin = ui.run(Access::Read, move |operation| {
        operation.work_spec(&of)?;
        Ok(operation.now)
    });
    let (begun, _) = begin.await?;
    let total = match selected.len() as u64 {
        0 => u64::try_from(number("count")?).unwrap_or(0),
        count => count,
    };
    let what = conditions(&filter);
    let what = match what.is_empty() {
        true => kind.title(&units(total)),
        false => format!("{} ({})", kind.title(&units(total)), what.join(", ")),
    };
    let action = ui.bulk.begin(|id| BulkAction {
        id,
        what,
        spec,
        begun,
        total,
        done: AtomicU64::new(0),
        skipped: AtomicU64::new(0),
        is_stopped: AtomicBool::new(false),
        end: OnceLock::new(),
    })?;
    let set = match selected.is_empty() {
        false => Set::Selected(selected),
        true => Set::Filtered {
            filter,
            after: None,
            is_over: false,
        },
    };
    let url = frame.url(&format!("operations/{}", action.id));
    let own = ui.clone();
    tokio::spawn(async move { own.work(&action, set, as_of, kind.action).await });
    Ok(see_other(&url))
}

struct ActionRow {
    id: u64,
    url: String,
    what: String,
    spec: String,
    spec_url: String,
    begun: When,
    total: u64,
    /// Units that it has looked at, at most the total.
    reached: u64,
    done: String,
    skipped: String,
    state: String,
    is_running: bool,
    has_failed: bool,
}

impl ActionRow {
    fn of(frame: &Frame, action: &BulkAction, now: Timestamp) -> Self {
        let done = action.done.load(Ordering::Relaxed);
        let skipped = action.skipped.load(Ordering::Relaxed);
        let end = action.end.get();
        Self {
            id: action.id,
            url: frame.url(&format!("operations/{}", action.id)),
            what: action.what.clone(),
            spec: shown::name(&action.spec),
            spec_url: frame.spec(&action.spec),
            begun: When::new(action.begun, now),
            total: action.total,
            reached: (done + skipped).min(action.total),
            done: shown::number(done),
            skipped: shown::number(skipped),
            state: match end {
                None => "running".to_owned(),
                Some(Ok(())) => "done".to_owned(),
                Some(Err(reason)) => reason.clone(),
            },
            is_running: end.is_none(),
            has_failed: end.is_some_and(|end| end.is_err()),
        }
    }
}

#[derive(Template)]
#[template(path = "operations.html")]
struct ListPage {
    frame: Frame,
    actions: Vec<ActionRow>,
}

#[derive(Template)]
#[template(path = "operation.html")]
struct ActionPage {
    frame: Frame,
    action: ActionRow,
}

/// `GET /ui/operations`.
pub(super) async fn list<S: Storage>(ui: Visit<S>, frame: Frame) -> Result<Response> {
    let (now, _) = ui.run(Access::Read, |operation| Ok(operation.now)).await?;
    let actions = ui.bulk.all();
    let page = ListPage {
        actions: actions
            .iter()
            .map(|action| ActionRow::of(&frame, action, now))
            .collect(),
        frame: frame.on(Tab::Operations),
    };
    ui.page(&page.frame, &page)
}

/// `GET /ui/operations/ID`.
pub(super) async fn show<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(id): Path<u64>,
) -> Result<Response> {
    let action = ui.bulk.get(id)?;
    let (now, _) = ui.run(Access::Read, |operation| Ok(operation.now)).await?;
    let page = ActionPage {
        action: ActionRow::of(&frame, &action, now),
        frame: frame.on(Tab::Operations),
    };
    ui.page(&page.frame, &page)
}

/// `POST /ui/operations/ID/stop`.
pub(super) async fn stop<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(id): Path<u64>,
    request: Request,
) -> Result<Response> {
    ui.form(request).await?;
    ui.bulk.get(id)?.is_stopped.store(true, Ordering::Relaxed);
    Ok(see_other(&frame.url(&format!("operations/{id}"))))
}
