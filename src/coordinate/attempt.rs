//! Attempts: one worker's try at one work unit.

use super::storage::Storage;
use super::work_unit::{UnitStatus, WorkUnit, WorkUnitId};
use super::{Name, Operation, Result};
use crate::cbor::Item;
use crate::clock::Timestamp;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Identifies an attempt in the file. Later attempts have larger ones; never used again while the
/// daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId(pub i64);

/// The status of an attempt. The numbers are those in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptStatus {
    /// The worker has the unit.
    Pending = 3,
    /// Reported as done.
    Finished = 4,
    /// Reported as failed.
    Failed = 5,
    /// The lease ran out, or was given up.
    Expired = 6,
    /// Given back for a later retry.
    Retryable = 7,
}

impl AttemptStatus {
    /// True if the attempt ended because somebody reported its result.
    #[must_use]
    pub fn is_reported(self) -> bool {
        matches!(self, Self::Finished | Self::Failed)
    }
}

/// An attempt without its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// Its identity.
    pub id: AttemptId,
    /// The unit that it is about.
    pub unit: WorkUnitId,
    /// The attempt at the same unit before it.
    pub previous: Option<AttemptId>,
    /// 1 for the first attempt at the unit.
    pub number: u64,
    /// Who makes it; unknown if somebody reported on a unit without having been given it.
    pub worker: Option<Name>,
    /// Where it stands.
    pub status: AttemptStatus,
    /// As far as is known, the worker is busy with it, maybe in vain.
    pub held: bool,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// When its lease runs out, or would have.
    pub expiration: Timestamp,
}

impl Attempt {
    /// The end of the lease of an attempt that runs, or the time when it ended.
    #[must_use]
    pub fn lease_or_completion(&self) -> Timestamp {
        self.end.unwrap_or(self.expiration)
    }

    /// Notes the end of the attempt. Its worker is busy with it still, unless that is what it said.
    pub fn end_as(&mut self, status: AttemptStatus, now: Timestamp) {
        self.status = status;
        self.end = Some(now);
        self.held &= !status.is_reported();
    }
}

/// The attempts that were handed out on one connection, by which late reports are told from timely
/// ones. The oldest are forgotten beyond a limit.
#[derive(Debug)]
pub struct HandedOut {
    attempts: VecDeque<Entry>,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    unit: WorkUnitId,
    attempt: AttemptId,
    /// Of the names of the work spec and the unit, by which another unit of the same name is known.
    names_hash: u64,
}

impl HandedOut {
    /// A memory for at most `limit` attempts.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            attempts: VecDeque::new(),
            limit,
        }
    }

    /// Notes that `attempt` at `unit` was handed out here.
    pub fn remember(
        &mut self,
        unit: WorkUnitId,
        attempt: AttemptId,
        work_spec: &Name,
        name: &Name,
    ) {
        if self.attempts.len() >= self.limit {
            self.attempts.pop_front();
        }
        let names_hash = hash_names(work_spec, name);
        self.attempts.push_back(Entry {
            unit,
            attempt,
            names_hash,
        });
    }

    /// The attempts at `unit` that were handed out here, the last one first. The newest are looked at
    /// first, since reports are mostly about them.
    pub fn attempts_at(&self, unit: WorkUnitId) -> impl Iterator<Item = AttemptId> {
        let newest_first = self.attempts.iter().rev();
        newest_first
            .filter(move |entry| entry.unit == unit)
            .map(|entry| entry.attempt)
    }

    /// True if another unit than `unit` was handed out here under its name: one that has been deleted.
    #[must_use]
    pub fn has_namesake_of(&self, unit: WorkUnitId, work_spec: &Name, name: &Name) -> bool {
        let names_hash = hash_names(work_spec, name);
        let mut attempts = self.attempts.iter();
        attempts.any(|entry| entry.names_hash == names_hash && entry.unit != unit)
    }
}

fn hash_names(work_spec: &Name, name: &Name) -> u64 {
    let mut hasher = DefaultHasher::new();
    (work_spec, name).hash(&mut hasher);
    hasher.finish()
}

impl<S: Storage> Operation<'_, S> {
    /// Opens a pending attempt at a unit and makes it the active one. The unit is not stored yet.
    pub(super) fn open_attempt(
        &mut self,
        unit: &mut WorkUnit,
        worker: Option<&Name>,
        lease: Duration,
    ) -> Result<Attempt> {
        let number = self.attempts_so_far(unit)? + 1;
        let mut attempt = Attempt {
            id: AttemptId(0),
            unit: unit.id,
            previous: unit.last,
            number,
            worker: worker.cloned(),
            status: AttemptStatus::Pending,
            held: worker.is_some(),
            start: self.now,
            end: None,
            expiration: self.now.plus(lease),
        };
        attempt.id = self.store.insert_attempt(&attempt)?;
        unit.active = Some(attempt.id);
        unit.last = Some(attempt.id);
        unit.status = UnitStatus::Pending;
        Ok(attempt)
    }

    /// The attempt that decides a unit's status, if one does.
    pub(super) fn active_attempt(&mut self, unit: &WorkUnit) -> Result<Option<Attempt>> {
        match unit.active {
            Some(id) => Ok(self.store.get_attempt(id)?),
            None => Ok(None),
        }
    }

    /// How many attempts at a unit there have been.
    pub(super) fn attempts_so_far(&mut self, unit: &WorkUnit) -> Result<u64> {
        Ok(match unit.last {
            Some(last) => self.store.get_attempt(last)?.map_or(0, |last| last.number),
            None => 0,
        })
    }

    /// Ends the active attempt of a pending unit as expired. The unit is not changed.
    pub(super) fn expire_active_attempt(&mut self, unit: &WorkUnit) -> Result<()> {
        if let Some(mut attempt) = self.active_attempt(unit)? {
            attempt.end_as(AttemptStatus::Expired, self.now);
            self.store.update_attempt(&attempt)?;
        }
        Ok(())
    }

    /// Stores the data of an attempt, with the traceback that they may hold.
    pub(super) fn store_attempt_data(&mut self, attempt: &Attempt, data: &[u8]) -> Result<()> {
        let traceback = match attempt.status {
            AttemptStatus::Failed => traceback_of(data),
            _ => None,
        };
        Ok(self
            .store
            .set_attempt_data(attempt.id, data, traceback.as_deref())?)
    }
}

/// The `traceback` in a data dictionary, as text for people.
pub(super) fn traceback_of(data: &[u8]) -> Option<String> {
    let bytes = Item::from_checked(data)
        .get("traceback")?
        .as_string_bytes()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempt_of_a_unit_is_remembered_and_the_oldest_forgotten() {
        let spec = Name::from_text("spec");
        let mut handed_out = HandedOut::new(3);
        let mut remember = |unit: i64, attempt| {
            let name = Name::from_text(unit.to_string());
            handed_out.remember(WorkUnitId(unit), AttemptId(attempt), &spec, &name);
        };
        for (unit, attempt) in [(2, 20), (1, 10), (1, 11), (3, 30)] {
            remember(unit, attempt);
        }
        let attempts_at = |unit| handed_out.attempts_at(WorkUnitId(unit)).collect::<Vec<_>>();
        assert_eq!(attempts_at(1), [AttemptId(11), AttemptId(10)]);
        assert_eq!(attempts_at(2), []);
        let named = |text: &str| Name::from_bytes(text);
        assert!(handed_out.has_namesake_of(WorkUnitId(9), &spec, &named("3")));
        assert!(!handed_out.has_namesake_of(WorkUnitId(3), &spec, &named("3")));
        assert!(!handed_out.has_namesake_of(WorkUnitId(9), &spec, &named("2")));
    }
}
