//! The model's locks.

use super::answer::{self, Answer, Failure};
use super::model::Model;
use super::operations::Path;
use coordinated::clock::Timestamp;
use coordinated::coordinate::Name;
use std::time::Duration;

#[derive(Clone)]
pub struct Lock {
    pub owner: Name,
    pub expiration: Timestamp,
}

impl Model {
    fn is_lockable(&self, path: &Path) -> bool {
        !self
            .locks
            .keys()
            .any(|locked| locked.starts_with(path) || path.starts_with(locked))
    }

    fn take_lock(&mut self, owner: &Name, timeout: Duration, path: &Path) {
        let (owner, expiration) = (owner.clone(), self.now.plus(timeout));
        self.locks.insert(path.clone(), Lock { owner, expiration });
    }

    pub fn lock(&mut self, owner: &Name, timeout: Duration, paths: &[Path]) -> Answer {
        if !paths.iter().all(|path| self.is_lockable(path)) {
            return Answer::Failed(Failure::Refused);
        }
        paths
            .iter()
            .for_each(|path| self.take_lock(owner, timeout, path));
        Answer::Done
    }

    pub fn lock_some(&mut self, owner: &Name, timeout: Duration, paths: &[Path]) -> Answer {
        let mut locked = Vec::new();
        for path in paths {
            locked.push(self.is_lockable(path));
            if self.is_lockable(path) {
                self.take_lock(owner, timeout, path);
            }
        }
        Answer::Locked(locked)
    }

    fn holds_all(&self, owner: &Name, paths: &[Path]) -> bool {
        paths.iter().all(|path| {
            self.locks
                .get(path)
                .is_some_and(|lock| lock.owner == *owner)
        })
    }

    pub fn renew_locks(&mut self, owner: &Name, timeout: Duration, paths: &[Path]) -> Answer {
        if !self.holds_all(owner, paths) {
            return Answer::Failed(Failure::Refused);
        }
        paths
            .iter()
            .for_each(|path| self.take_lock(owner, timeout, path));
        Answer::Done
    }

    pub fn unlock(&mut self, owner: &Name, paths: &[Path]) -> Answer {
        if !self.holds_all(owner, paths) {
            return Answer::Failed(Failure::Refused);
        }
        self.locks.retain(|path, _| !paths.contains(path));
        Answer::Done
    }

    pub fn delete_locks_under(&mut self, above: &Path) -> Answer {
        self.locks.retain(|path, _| !path.starts_with(above));
        Answer::Done
    }

    pub fn read_locks(&self, paths: &[Path]) -> Answer {
        let owner = |path| answer::name(self.locks.get(path).map(|lock| &lock.owner));
        Answer::Seen(paths.iter().map(owner).collect())
    }
}
