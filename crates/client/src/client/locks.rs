//! Locks on paths in a tree of names. The Python server has none.

use super::answer::Answer;
use super::{Coordinate, Name, Result, options};
use crate::cbor::Value;
use std::time::Duration;

/// A path: labels from the root down, strings for most.
pub type LockPath = Vec<Value>;

/// A lock that somebody has.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldLock {
    /// What is locked.
    pub path: LockPath,
    /// Who has it.
    pub owner: Name,
    /// When it ends, in seconds since 1970.
    pub expires: f64,
}

/// Which locks to list.
#[derive(Clone, Debug, Default)]
pub struct ListLocks {
    /// Those at and below this path; all if it has no labels.
    pub under: LockPath,
    /// Begin with the first one that is not before this path.
    pub start: Option<LockPath>,
    /// List so many at the most: 1,000 if `None`, and no more than 10,000.
    pub limit: Option<u64>,
}

impl Coordinate {
    /// Locks paths, all or none.
    ///
    /// # Errors
    /// `Refused` if one of them, something above it or something below it is locked, by whomever.
    pub fn lock(&mut self, owner: &Name, timeout: Duration, paths: &[LockPath]) -> Result<()> {
        self.call_with("lock", [owner.into(), seconds(timeout), list(paths)])?
            .done()
    }

    /// Locks what can be locked of some paths, and gives these.
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

    /// Makes locks last so much longer than now.
    ///
    /// # Errors
    /// `Refused` if one of them is not this owner's; then none is renewed.
    pub fn renew(&mut self, owner: &Name, timeout: Duration, paths: &[LockPath]) -> Result<()> {
        self.call_with("renew", [owner.into(), seconds(timeout), list(paths)])?
            .done()
    }

    /// Who has locked each of some paths itself.
    pub fn readlock(&mut self, paths: &[LockPath]) -> Result<Vec<Option<Name>>> {
        let answer = self.call_with("readlock", [list(paths)])?;
        answer
            .items()?
            .into_iter()
            .map(Answer::optional_name)
            .collect()
    }

    /// Gives locks back.
    ///
    /// # Errors
    /// `Refused` if one of them is not this owner's; then all stay.
    pub fn unlock(&mut self, owner: &Name, paths: &[LockPath]) -> Result<()> {
        self.call_with("unlock", [owner.into(), list(paths)])?
            .done()
    }

    /// Removes all locks at and below a top-level label, whoever has them.
    pub fn delete_namespace(&mut self, label: &Name) -> Result<()> {
        self.call_with("delete_namespace", [label.into()])?;
        Ok(())
    }

    /// Lists locks by path. Only this daemon has it.
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

/// Whole seconds, at least one: the Go daemons take nothing else, and 0 would become a minute.
fn seconds(timeout: Duration) -> Value {
    let whole = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
    whole.max(1).into()
}
