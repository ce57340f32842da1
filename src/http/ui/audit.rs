//! The audit: what was changed by people and programs that control the queue.

use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::{Form, Result, Visit};
use crate::coordinate::storage::{Access, AuditQuery, Lister, Storage};
use crate::coordinate::{AuditEntry, AuditId};
use crate::http::problem::{self, Problem};
use askama::Template;
use axum::extract::RawQuery;
use axum::response::Response;

/// Entries on a page.
const PAGE: usize = 100;

/// Entries that are looked at for a page, some milliseconds: with a filter, the next page may begin before this one is full.
const LOOKED_AT_MAX: usize = 20_000;

/// Entries that are read at once.
const READ_AT_ONCE: usize = 500;

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    filter: Filter,
    entries: Vec<Row>,
    next: Option<String>,
    is_first: bool,
    is_cut: bool,
}

/// Which entries are shown. What is empty is not asked for.
#[derive(Clone, Default)]
struct Filter {
    who: String,
    action: String,
    work_spec: String,
}

impl Filter {
    fn of(query: &Form) -> Self {
        let field = |key| query.text(key).unwrap_or_default();
        Self {
            who: field("who"),
            action: field("action"),
            work_spec: field("work_spec"),
        }
    }

    fn is_empty(&self) -> bool {
        self.query().is_empty()
    }

    fn takes(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &str, text: &str| wanted.is_empty() || wanted == text;
        let spec = entry.work_spec.as_ref().map(shown::name);
        is(&self.who, entry.token.as_deref().unwrap_or_default())
            && is(&self.action, &entry.action)
            && is(&self.work_spec, &spec.unwrap_or_default())
    }

    /// As the query of a URL.
    fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("who", &self.who),
            ("action", &self.action),
            ("work_spec", &self.work_spec),
        ];
        for (key, value) in fields {
            if !value.is_empty() {
                query.append_pair(key, value);
            }
        }
        query.finish()
    }
}

struct Row {
    at: When,
    who: Option<String>,
    from: String,
    action: String,
    count: String,
    /// The work spec, and where it is.
    spec: Option<(String, String)>,
    detail: String,
}

impl Row {
    fn of(frame: &Frame, entry: &AuditEntry, now: crate::clock::Timestamp) -> Self {
        let spec = entry.work_spec.as_ref();
        Self {
            at: When::new(entry.at, now),
            who: entry.token.as_ref().map(|who| shown::visible(who, 200)),
            from: match &entry.address {
                Some(address) => format!("{address} ({})", entry.interface),
                None => entry.interface.clone(),
            },
            action: entry.action.clone(),
            count: shown::number(entry.count),
            spec: spec.map(|spec| (shown::name(spec), frame.spec(spec))),
            detail: shown::visible(&entry.detail, 1_000),
        }
    }
}

/// What was found.
struct Found {
    entries: Vec<AuditEntry>,
    /// Where to go on, if there may be more.
    next: Option<AuditId>,
}

/// `GET /ui/audit`.
pub(super) async fn show<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let before = query.get("before").map(id_of).transpose()?;
    let filter = Filter::of(&query);
    let (now, _) = ui.run(Access::Read, |operation| Ok(operation.now)).await?;
    let namespace = ui.caller.namespace().map(str::to_owned);
    let wanted = filter.clone();
    let found = ui
        .read(move |lister, _| find(lister, namespace, &wanted, before))
        .await?;
    let next = found.next.map(|next| {
        let filter = filter.query();
        let and = if filter.is_empty() { "" } else { "&" };
        frame.url(&format!("audit?{filter}{and}before={}", next.0))
    });
    let page = Page {
        is_cut: found.entries.len() < PAGE && next.is_some(),
        entries: found
            .entries
            .iter()
            .map(|entry| Row::of(&frame, entry, now))
            .collect(),
        next,
        is_first: before.is_none(),
        filter,
        frame: frame.on(Tab::Audit),
    };
    ui.page(&page.frame, &page)
}

/// The next entries that a filter takes.
fn find(
    lister: &mut impl Lister,
    namespace: Option<String>,
    filter: &Filter,
    mut before: Option<AuditId>,
) -> crate::coordinate::Result<Found> {
    let mut entries = Vec::new();
    let mut looked_at = 0;
    loop {
        let query = AuditQuery {
            namespace: namespace.clone(),
            before,
            limit: READ_AT_ONCE,
        };
        let mut read = Vec::new();
        lister.list_audit(&query, &mut |entry| {
            read.push(entry.clone());
            Ok(())
        })?;
        let is_last = read.len() < READ_AT_ONCE;
        for entry in read {
            if entries.len() == PAGE || looked_at == LOOKED_AT_MAX {
                let next = before;
                return Ok(Found { entries, next });
            }
            looked_at += 1;
            before = Some(entry.id);
            if filter.takes(&entry) {
                entries.push(entry);
            }
        }
        if is_last {
            let next = None;
            return Ok(Found { entries, next });
        }
    }
}

fn id_of(text: &str) -> Result<AuditId> {
    let id = text.parse().map_err(|_| {
        let detail = format!("before: expected the number of an entry, got {text:?}");
        Problem::new(problem::INVALID, detail)
    })?;
    Ok(AuditId(id))
}
