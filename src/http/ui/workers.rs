//! Workers: who is alive, and what each has.

use super::data::Excerpt;
use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::{Form, Result, Visit, name_from_url, name_in_url};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Lister, Storage};
use crate::coordinate::{Error, ListedWorker, Name, Worker};
use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::response::Response;

/// Workers on a page, and units or children of one.
const PAGE: usize = 100;

#[derive(Template)]
#[template(path = "workers.html")]
struct ListPage {
    frame: Frame,
    workers: Vec<WorkerRow>,
    next: Option<String>,
    is_first: bool,
}

struct WorkerRow {
    name: String,
    url: String,
    parent: Option<(String, String)>,
    mode: String,
    heartbeat: When,
    expiration: When,
    is_overdue: bool,
    held: String,
}

#[derive(Template)]
#[template(path = "worker.html")]
struct WorkerPage {
    frame: Frame,
    worker: WorkerRow,
    is_active: bool,
    children: Vec<(String, String)>,
    children_left_out: usize,
    units: Vec<HeldRow>,
    units_are_cut: bool,
    environment: Excerpt,
}

struct HeldRow {
    spec: (String, String),
    unit: (String, String),
    start: When,
    lease: When,
}

impl WorkerRow {
    fn of(frame: &Frame, worker: &Worker, held: u64, now: Timestamp) -> Self {
        let link = |name: &Name| (shown::name(name), frame.worker(name));
        Self {
            name: shown::name(&worker.name),
            url: frame.worker(&worker.name),
            parent: worker.parent.as_ref().map(link),
            mode: worker
                .mode
                .as_ref()
                .map_or_else(|| "unknown".to_owned(), shown::name),
            heartbeat: When::new(worker.heartbeat, now),
            expiration: When::new(worker.expiration, now),
            is_overdue: worker.expiration < now,
            held: match held {
                ListedWorker::HELD_MAX.. => format!("{} or more", shown::number(held)),
                held => shown::number(held),
            },
        }
    }
}

/// `GET /ui/workers`.
pub(super) async fn list<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let after = query.name("after")?;
    let is_first = after.is_none();
    let (now, _) = ui.run(Access::Read, |operation| Ok(operation.now)).await?;
    let mut workers = ui
        .read(move |lister, namespace| {
            let mut workers = Vec::new();
            lister.list_workers(namespace, after.as_ref(), PAGE + 1, &mut |worker| {
                workers.push(worker);
                Ok(())
            })?;
            Ok(workers)
        })
        .await?;
    let has_more = workers.len() > PAGE;
    workers.truncate(PAGE);
    let last = workers.last().filter(|_| has_more);
    let next =
        last.map(|last| frame.url(&format!("workers?after={}", name_in_url(&last.worker.name))));
    let page = ListPage {
        workers: workers
            .iter()
            .map(|listed| WorkerRow::of(&frame, &listed.worker, listed.held, now))
            .collect(),
        next,
        is_first,
        frame: frame.on(Tab::Workers),
    };
    ui.page(&page.frame, &page)
}

/// `GET /ui/worker/WORKER`.
pub(super) async fn show<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    Path(worker): Path<String>,
) -> Result<Response> {
    let name = name_from_url(&worker)?;
    let of = name.clone();
    let find = ui.run(Access::Read, move |operation| {
        let (worker, environment) = operation
            .known_worker(&of)?
            .ok_or_else(|| Error::NoSuchWorker(of.clone()))?;
        let mut children = operation.children(&of)?;
        let left_out = children.len().saturating_sub(PAGE);
        children.truncate(PAGE);
        operation.effects.answer_bytes += environment.as_ref().map_or(0, Vec::len);
        Ok((worker, environment, children, left_out, operation.now))
    });
    let ((worker, environment, children, children_left_out, now), _share) = find.await?;
    let (of, own_frame) = (name.clone(), frame.clone());
    let mut units = ui
        .read(move |lister, namespace| {
            let mut units = Vec::new();
            lister.list_pending_attempts(
                namespace,
                &of,
                PAGE + 1,
                &mut |attempt, spec, unit| {
                    units.push(HeldRow {
                        spec: (shown::name(spec), own_frame.spec(spec)),
                        unit: (shown::name(unit), own_frame.unit(spec, unit)),
                        start: When::new(attempt.start, now),
                        lease: When::new(attempt.expiration, now),
                    });
                    Ok(())
                },
            )?;
            Ok(units)
        })
        .await?;
    let held = units.len() as u64;
    let units_are_cut = units.len() > PAGE;
    units.truncate(PAGE);
    let environment = environment.map(|environment| ui.redaction.json(&environment));
    let page = WorkerPage {
        is_active: worker.is_active,
        worker: WorkerRow::of(&frame, &worker, held, now),
        children: children
            .iter()
            .map(|child| (shown::name(child), frame.worker(child)))
            .collect(),
        children_left_out,
        units,
        units_are_cut,
        environment: Excerpt::of(environment.unwrap_or_default()),
        frame: frame.on(Tab::Workers),
    };
    ui.page(&page.frame, &page)
}
