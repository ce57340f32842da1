//! Locks: who has what, and until when.

use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::{Form, Result, Visit, see_other};
use crate::coordinate::LockPath;
use crate::coordinate::storage::{Access, Lister, LockQuery, Storage};
use crate::http::problem::{self, Problem};
use askama::Template;
use axum::extract::{RawQuery, Request};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Locks on a page.
const PAGE: usize = 200;

#[derive(Template)]
#[template(path = "locks.html")]
struct Page {
    frame: Frame,
    locks: Vec<LockRow>,
    next: Option<String>,
    is_first: bool,
}

struct LockRow {
    path: String,
    /// The path as a value of a form.
    key: String,
    owner: String,
    expiration: When,
}

/// `GET /ui/locks`.
pub(super) async fn show<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let query = Form::parse(query.unwrap_or_default().as_bytes());
    let start = query.get("from").map(path_of).transpose()?;
    let is_first = start.is_none();
    let (now, _) = ui.run(Access::Read, |operation| Ok(operation.now)).await?;
    let mut locks = ui
        .read(move |lister, _| {
            let mut locks = Vec::new();
            let query = LockQuery {
                under: LockPath::root(),
                start,
                limit: PAGE + 1,
            };
            lister.list_locks(&query, &mut |path, lock| {
                locks.push((path.clone(), lock.clone()));
                Ok(())
            })?;
            Ok(locks)
        })
        .await?;
    let next = locks
        .get(PAGE)
        .map(|(path, _)| frame.url(&format!("locks?from={}", key_of(path))));
    locks.truncate(PAGE);
    let row = |(path, lock): &(LockPath, crate::coordinate::Lock)| LockRow {
        path: match path.text() {
            "" => "(everything)".to_owned(),
            text => shown::visible(text, 1_000),
        },
        key: key_of(path),
        owner: shown::name(&lock.owner),
        expiration: When::new(lock.expiration, now),
    };
    let page = Page {
        locks: locks.iter().map(row).collect(),
        next,
        is_first,
        frame: frame.on(Tab::Locks),
    };
    ui.page(&page.frame, &page)
}

/// `POST /ui/locks/break`: removes a lock, whatever its owner is.
pub(super) async fn break_lock<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    request: Request,
) -> Result<Response> {
    let form = ui.form(request).await?;
    let path = path_of(form.get("path").unwrap_or_default())?;
    ui.run(Access::Write, move |operation| operation.break_lock(&path))
        .await?;
    Ok(see_other(&frame.url("locks")))
}

fn key_of(path: &LockPath) -> String {
    format!("-{}", URL_SAFE_NO_PAD.encode(path.bytes()))
}

/// The path that a value of a form is.
///
/// # Errors
/// If it is none.
fn path_of(key: &str) -> Result<LockPath> {
    let bytes = key
        .strip_prefix('-')
        .and_then(|key| URL_SAFE_NO_PAD.decode(key).ok());
    let path = bytes.and_then(|bytes| LockPath::from_bytes(&bytes));
    let none = || {
        Problem::new(
            problem::INVALID,
            format!("{key:?} is not the path of a lock"),
        )
    };
    Ok(path.ok_or_else(none)?)
}
