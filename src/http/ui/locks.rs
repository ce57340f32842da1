//! Locks: who has what, and until when.

use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::{Form, Result, Visit, see_other};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Lister, LockQuery, Storage};
use crate::coordinate::{Lock, LockPath};
use crate::http::problem::{self, Problem};
use askama::Template;
use axum::extract::{RawQuery, Request};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Locks on a page.
const PAGE: usize = 200;

/// How deep the tree is shown. The labels of what is deeper are on one line.
const DEPTH_MAX: usize = 5;

#[derive(Template)]
#[template(path = "locks.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    next: Option<String>,
    is_first: bool,
}

/// A place in the tree of locks.
struct Row {
    depth: usize,
    label: String,
    /// The lock, if it is there and not only below.
    lock: Option<LockRow>,
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
    let page = Page {
        rows: tree(&locks, now),
        next,
        is_first,
        frame: frame.on(Tab::Locks),
    };
    ui.page(&page.frame, &page)
}

/// Locks, sorted by their paths, as a tree.
fn tree(locks: &[(LockPath, Lock)], now: Timestamp) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut before = LockPath::root();
    for (path, lock) in locks {
        let mut labels = path.label_texts();
        let depth = labels.len().saturating_sub(1).min(DEPTH_MAX);
        let own = labels.split_off(depth).join("/");
        let above = labels.into_iter().enumerate();
        rows.extend(
            above
                .skip(path.common_labels(&before))
                .map(|(depth, label)| Row {
                    depth,
                    label: shown::visible(&label, 1_000),
                    lock: None,
                }),
        );
        rows.push(Row {
            depth,
            label: match &*own {
                "" => "(everything)".to_owned(),
                text => shown::visible(text, 1_000),
            },
            lock: Some(LockRow {
                path: shown::visible(path.text(), 1_000),
                key: key_of(path),
                owner: shown::name(&lock.owner),
                expiration: When::new(lock.expiration, now),
            }),
        });
        before = path.clone();
    }
    rows
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinate::Name;
    use crate::limits::RequestLimits;
    use coordinated_client::cbor::{Item, Writer};

    fn path(labels: &[&str]) -> LockPath {
        let mut list = Vec::new();
        let mut writer = Writer::new(&mut list);
        writer.array(labels.len());
        for label in labels {
            writer.bytes(label.as_bytes());
        }
        let path = LockPath::from_item(Item::from_checked(&list), &RequestLimits::default());
        path.expect("a path")
    }

    #[test]
    fn locks_below_the_same_place_are_below_it_once() {
        let deep = ["x", "1", "2", "3", "4", "5", "6", "7"];
        let paths = [&["a", "b"][..], &["a", "c", "d"], &["b"], &deep];
        let lock = Lock {
            owner: Name::from("me"),
            expiration: Timestamp(0),
        };
        let locks: Vec<_> = paths
            .iter()
            .map(|labels| (path(labels), lock.clone()))
            .collect();
        let rows = tree(&locks, Timestamp(0));
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.depth, &*row.label, row.lock.is_some()))
            .collect();
        assert_eq!(
            shown,
            [
                (0, "a", false),
                (1, "b", true),
                (1, "c", false),
                (2, "d", true),
                (0, "b", true),
                (0, "x", false),
                (1, "1", false),
                (2, "2", false),
                (3, "3", false),
                (4, "4", false),
                (5, "5/6/7", true),
            ]
        );
        let everything = tree(&[(LockPath::root(), lock)], Timestamp(0));
        assert_eq!(everything.len(), 1);
        assert_eq!(everything[0].label, "(everything)");
    }
}
