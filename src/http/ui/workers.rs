//! Workers: who is alive, and what each has.

use super::data::Excerpt;
use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::{Form, Result, Visit, name_from_url, name_in_url};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Lister, Storage, WorkerQuery, WorkersUnder};
use crate::coordinate::{Error, ListedWorker, Name, NamespaceId, Worker};
use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::response::Response;

/// Workers on a page, and units or children of one. A page of a tree ends with a whole branch.
const PAGE: usize = 100;

/// Workers on a page of a tree at most.
const ROWS_MAX: usize = 200;

/// Children of a worker that are shown in a tree.
const CHILDREN: usize = 20;

/// How deep a tree is shown.
const DEPTH_MAX: usize = 4;

#[derive(Template)]
#[template(path = "workers.html")]
struct ListPage {
    frame: Frame,
    /// They are listed by their names, and not below their parents.
    is_list: bool,
    /// Whose children they are.
    parent: Option<(String, String)>,
    workers: Vec<TreeRow>,
    first: String,
    next: Option<String>,
    is_first: bool,
}

struct TreeRow {
    row: WorkerRow,
    depth: usize,
    /// Where its children are, if there are more than are shown.
    more: Option<String>,
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

/// How workers are listed.
#[derive(Clone, Debug)]
enum View {
    /// By their names.
    List,
    /// Below their parents: those without a parent, or those of this one.
    Tree(Option<Name>),
}

impl View {
    fn of(query: &Form) -> Result<Self> {
        match query.get("as") {
            Some("list") => Ok(Self::List),
            _ => Ok(Self::Tree(query.name("parent")?)),
        }
    }

    fn under(&self) -> WorkersUnder {
        match self {
            Self::List => WorkersUnder::Anybody,
            Self::Tree(None) => WorkersUnder::Nobody,
            Self::Tree(Some(parent)) => WorkersUnder::Worker(parent.clone()),
        }
    }

    /// Its URL.
    fn url(&self, frame: &Frame) -> String {
        frame.url(&match self {
            Self::List => "workers?as=list".to_owned(),
            Self::Tree(None) => "workers".to_owned(),
            Self::Tree(Some(parent)) => format!("workers?parent={}", name_in_url(parent)),
        })
    }

    /// The URL of what is behind a worker.
    fn behind(&self, frame: &Frame, last: &Name) -> String {
        let url = self.url(frame);
        let and = if url.contains('?') { '&' } else { '?' };
        format!("{url}{and}after={}", name_in_url(last))
    }
}

/// A worker in a list, or in a tree.
struct Listed {
    worker: ListedWorker,
    depth: usize,
    /// It has more children than are shown.
    has_more: bool,
}

/// What was read for a page.
struct Part {
    rows: Vec<Listed>,
    /// The last worker before the next page, if there is one.
    last: Option<Name>,
}

/// Reads a page.
fn read_part(
    lister: &mut impl Lister,
    namespace: NamespaceId,
    view: &View,
    after: Option<Name>,
) -> crate::coordinate::Result<Part> {
    let tops = read_workers(lister, namespace, view.under(), after, PAGE + 1)?;
    let mut rows = Vec::new();
    for (index, worker) in tops.iter().enumerate() {
        if rows.len() >= PAGE {
            let last = tops.get(index - 1).map(|top| top.worker.name.clone());
            return Ok(Part { rows, last });
        }
        match view {
            View::List => rows.push(Listed {
                worker: worker.clone(),
                depth: 0,
                has_more: false,
            }),
            View::Tree(_) => add_with_children(lister, namespace, worker, 0, &mut rows)?,
        }
    }
    Ok(Part { rows, last: None })
}

/// Adds a worker, and its children and theirs, as far as there is room.
fn add_with_children(
    lister: &mut impl Lister,
    namespace: NamespaceId,
    worker: &ListedWorker,
    depth: usize,
    rows: &mut Vec<Listed>,
) -> crate::coordinate::Result<()> {
    let own = rows.len();
    rows.push(Listed {
        worker: worker.clone(),
        depth,
        has_more: false,
    });
    if !worker.has_children {
        return Ok(());
    }
    let name = &worker.worker.name;
    let under = WorkersUnder::Worker(name.clone());
    let room = match depth {
        DEPTH_MAX => 0,
        _ => CHILDREN.min(ROWS_MAX.saturating_sub(rows.len())),
    };
    let children = read_workers(lister, namespace, under, None, room + 1)?;
    // Names that go round in a circle end here.
    let children = children.iter().filter(|child| child.worker.name != *name);
    for (index, child) in children.enumerate() {
        if index == room || rows.len() >= ROWS_MAX {
            rows[own].has_more = true;
            break;
        }
        add_with_children(lister, namespace, child, depth + 1, rows)?;
    }
    Ok(())
}

fn read_workers(
    lister: &mut impl Lister,
    namespace: NamespaceId,
    under: WorkersUnder,
    after: Option<Name>,
    limit: usize,
) -> crate::coordinate::Result<Vec<ListedWorker>> {
    let query = WorkerQuery {
        under,
        after,
        limit,
    };
    let mut workers = Vec::new();
    lister.list_workers(namespace, &query, &mut |worker| {
        workers.push(worker);
        Ok(())
    })?;
    Ok(workers)
}

/// `GET /ui/workers`.
pub(super) async fn list<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let (view, after) = (View::of(&query)?, query.name("after")?);
    let is_first = after.is_none();
    let (now, _) = ui.run(Access::Read, |operation| Ok(operation.now)).await?;
    let wanted = view.clone();
    let part = ui
        .read(move |lister, namespace| read_part(lister, namespace, &wanted, after))
        .await?;
    let page = ListPage {
        next: part.last.map(|last| view.behind(&frame, &last)),
        first: view.url(&frame),
        is_list: matches!(view, View::List),
        parent: match &view {
            View::Tree(Some(parent)) => Some((shown::name(parent), frame.worker(parent))),
            _ => None,
        },
        workers: part
            .rows
            .iter()
            .map(|row| TreeRow {
                row: WorkerRow::of(&frame, &row.worker.worker, row.worker.held, now),
                depth: row.depth,
                more: row.has_more.then(|| {
                    let parent = row.worker.worker.name.clone();
                    View::Tree(Some(parent)).url(&frame)
                }),
            })
            .collect(),
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
