//! Locks on paths in a tree of names. The Python server does not have them.

use super::answer::Answer;
use super::{Coordinate, Name, Result, options};
use crate::cbor::Value;
use std::time::Duration;

/// A path: labels from the root down, which are mostly strings.
pub type LockPath = Vec<Value>;

/// A lock that is held.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldLock {
    /// The path that is locked.
    pub path: LockPath,
    /// The owner.
    pub owner: Name,
    /// When it ends, in seconds since 1970.
    pub expires: f64,
}

/// Which locks to list.
#[derive(Clone, Debug, Default)]
pub struct ListLocks {
    /// Locks at and below this path; all locks if it has no labels.
    pub under: LockPath,
    /// Begins with the first lock whose path is not before this one.
    pub start: Option<LockPath>,
    /// The highest number of locks to list: 1,000 if `None`, and at most 10,000.
    pub limit: Option<u64>,
}

impl Coordinate {
    /// Locks paths, all or none.
    ///
    /// # Errors
    /// `Refused` if one of them, or a path above or below it, is locked by any owner.
    pub fn lock(&mut self, owner: &Name, timeout: Duration, paths: &[LockPath]) -> Result<()> {
        self.call_with("lock", [owner.into(), seconds(timeout), list(paths)])?
            .done()
    }

    /// Locks those of some paths that can be locked, and returns them.
    pub fn locksome(
        &mut self,
        owner: &Name,
        timeout: Duration,
        paths: &[LockPath],
    ) -> Result<Vec<LockPath>> {
        let answer = self
            .call_with("locksome", [owner.into(), seconds(timeout), list(paths)])?
            .accepted()?;
        let locked = answer.items()?.into_iter().filter_map(Answer::optional);
        locked.map(path).collect()
    }

    /// Renews locks, so that they end this long after now.
    ///
    /// # Errors
    /// `Refused` if this owner does not hold one of them; then none is renewed.
    pub fn renew(&mut self, owner: &Name, timeout: Duration, paths: &[LockPath]) -> Result<()> {
        self.call_with("renew", [owner.into(), seconds(timeout), list(paths)])?
            .done()
    }

    /// The owner of the lock on each of some paths. Locks above and below a path are not considered.
    pub fn readlock(&mut self, paths: &[LockPath]) -> Result<Vec<Option<Name>>> {
        let answer = self.call_with("readlock", [list(paths)])?;
        answer
            .items()?
            .into_iter()
            .map(Answer::optional_name)
            .collect()
    }

    /// Releases locks.
    ///
    /// # Errors
    /// `Refused` if this owner does not hold one of them; then none is released.
    pub fn unlock(&mut self, owner: &Name, paths: &[LockPath]) -> Result<()> {
        self.call_with("unlock", [owner.into(), list(paths)])?
            .done()
    }

    /// Removes all locks of all owners at and below a top-level label.
    pub fn delete_namespace(&mut self, label: &Name) -> Result<()> {
        self.call_with("delete_namespace", [label.into()])?;
        Ok(())
    }

    /// Lists locks by path. Only `coordinated` supports this.
    pub fn list_locks(&mut self, which: &ListLocks) -> Result<Vec<HeldLock>> {
        let options = options([
            ("start", which.start.clone().map(Value::Array)),
            ("limit", which.limit.map(Value::from)),
        ]);
        let under = Value::Array(which.under.clone());
        let answer = self.call_with("list_locks", [under, options])?.accepted()?;
        let mut locks = Vec::new();
        for item in answer.items()? {
            locks.push(HeldLock {
                path: path(item.field("path"))?,
                owner: item.field("owner").name()?,
                expires: item.field("expires").number()?,
            });
        }
        Ok(locks)
    }
}

fn path(answer: Answer) -> Result<LockPath> {
    Ok(answer.items()?.into_iter().map(Answer::value).collect())
}

fn list(paths: &[LockPath]) -> Value {
    Value::Array(paths.iter().cloned().map(Value::Array).collect())
}

/// Whole seconds, at least one: the Go servers accept nothing else, and take 0 for a minute.
fn seconds(timeout: Duration) -> Value {
    let whole = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    whole.max(1).into()
}
