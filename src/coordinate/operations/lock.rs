//! Taking, renewing and giving up locks.

use crate::coordinate::storage::Storage;
use crate::coordinate::{Change, Error, Lock, LockPath, Name, Operation, Result};
use crate::limits;
use std::time::Duration;

/// What the audit calls it when somebody else's locks are removed.
const DELETE_LOCKS: &str = "delete_locks";

impl<S: Storage> Operation<'_, S> {
    /// Locks all paths, or none. Paths within one call may lie above each other.
    ///
    /// # Errors
    /// `Refused` if one of them can't be locked; `Storage`.
    pub fn lock(&mut self, owner: &Name, timeout: Duration, paths: &[LockPath]) -> Result<()> {
        for path in paths {
            if !self.is_lockable(path)? {
                return Err(Error::Refused(format!("{:?} is not lockable", path.text())));
            }
        }
        for path in paths {
            self.take_lock(owner, timeout, path)?;
        }
        Ok(())
    }

    /// Locks those of the paths that can be locked, in order; says which these are.
    ///
    /// # Errors
    /// `Storage`.
    pub fn lock_some(
        &mut self,
        owner: &Name,
        timeout: Duration,
        paths: &[LockPath],
    ) -> Result<Vec<bool>> {
        let mut locked = Vec::with_capacity(paths.len());
        for path in paths {
            let lockable = self.is_lockable(path)?;
            if lockable {
                self.take_lock(owner, timeout, path)?;
            }
            locked.push(lockable);
        }
        Ok(locked)
    }

    /// Renews the locks of all paths, or of none.
    ///
    /// # Errors
    /// `Refused` if `owner` does not hold one of them; `Storage`.
    pub fn renew_locks(
        &mut self,
        owner: &Name,
        timeout: Duration,
        paths: &[LockPath],
    ) -> Result<()> {
        self.check_owner(owner, paths)?;
        for path in paths {
            self.take_lock(owner, timeout, path)?;
        }
        Ok(())
    }

    /// The owner of each path itself; a lock above or below it does not show.
    ///
    /// # Errors
    /// `Storage`.
    pub fn read_locks(&mut self, paths: &[LockPath]) -> Result<Vec<Option<Name>>> {
        let mut owners = Vec::with_capacity(paths.len());
        for path in paths {
            owners.push(self.store.find_lock(path.bytes())?.map(|lock| lock.owner));
        }
        Ok(owners)
    }

    /// Gives up the locks of all paths, or of none.
    ///
    /// # Errors
    /// `Refused` if `owner` does not hold one of them; `Storage`.
    pub fn unlock(&mut self, owner: &Name, paths: &[LockPath]) -> Result<()> {
        self.check_owner(owner, paths)?;
        for path in paths {
            self.store.delete_lock(path.bytes())?;
        }
        Ok(())
    }

    /// Removes locks of a path and of those below it, of any owner, for some milliseconds. True if none are
    /// left.
    ///
    /// # Errors
    /// `Storage`.
    pub fn delete_locks_under(&mut self, path: &LockPath) -> Result<bool> {
        let limit = limits::SWEEP_LOCKS;
        let deleted = self.store.delete_locks_under(path.bytes(), limit)?;
        let change = Change::of(DELETE_LOCKS, deleted as u64);
        self.effects.audit(change.with(path.text()));
        Ok(deleted < limit)
    }

    /// Removes the lock of this path alone, whatever its owner is.
    ///
    /// # Errors
    /// `Refused` if there is none; `Storage`.
    pub fn break_lock(&mut self, path: &LockPath) -> Result<()> {
        if self.store.find_lock(path.bytes())?.is_none() {
            let text = path.text();
            return Err(Error::Refused(format!("{text:?} is not locked")));
        }
        self.store.delete_lock(path.bytes())?;
        let change = Change::of(DELETE_LOCKS, 1);
        self.effects.audit(change.with(path.text()));
        Ok(())
    }

    fn is_lockable(&mut self, path: &LockPath) -> Result<bool> {
        for prefix in path.prefixes() {
            if self.store.find_lock(prefix)?.is_some() {
                return Ok(false);
            }
        }
        Ok(!self.store.is_locked_at_or_under(path.bytes())?)
    }

    fn take_lock(&mut self, owner: &Name, timeout: Duration, path: &LockPath) -> Result<()> {
        let lock = Lock {
            owner: owner.clone(),
            expiration: self.now.plus(timeout),
        };
        Ok(self.store.put_lock(path, &lock)?)
    }

    fn check_owner(&mut self, owner: &Name, paths: &[LockPath]) -> Result<()> {
        for path in paths {
            let holder = match self.store.find_lock(path.bytes())? {
                Some(lock) if lock.owner == *owner => continue,
                Some(lock) => lock.owner.to_string(),
                None => "nobody".to_owned(),
            };
            let text = path.text();
            return Err(Error::Refused(format!(
                "{text:?} is held by {holder}, not by {owner}"
            )));
        }
        Ok(())
    }
}
