//! Beginning and ending attempts at work units.

use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Attempt, AttemptEnd, AttemptId, AttemptStatus, Error, Event, Name, Operation, Queueing, Result,
    WorkSpecId, WorkUnit,
};
use coordinated_client::cbor::{Item, Writer};
use std::time::Duration;

impl<S: Storage> Operation<'_, S> {
    /// Begins an attempt at a unit and makes it the active one. The unit is not stored yet.
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
        let since = unit.available_since.filter(|_| worker.is_some());
        unit.make_pending(attempt.id, self.queueing_of(unit));
        unit.last = Some(attempt.id);
        let started = Event::Started {
            at: self.now,
            waited: since.map(|since| self.now.since(since)),
        };
        self.effects.note(unit.work_spec, started);
        Ok(attempt)
    }

    /// Ends an attempt at a unit of a work spec, and stores it.
    pub(super) fn end_attempt(
        &mut self,
        work_spec: WorkSpecId,
        attempt: &mut Attempt,
        status: AttemptStatus,
    ) -> Result<()> {
        attempt.end_as(status, self.now);
        if let Some(end) = AttemptEnd::of(attempt) {
            let time = self.now.since(attempt.start);
            self.effects.note(work_spec, Event::Ended(end, time));
        }
        Ok(self.store.update_attempt(attempt)?)
    }

    /// How the work spec of a unit queues its units.
    pub(super) fn queueing_of(&self, unit: &WorkUnit) -> Queueing {
        let spec = self.store.get_work_spec(unit.work_spec);
        spec.map(|spec| spec.meta.queueing()).unwrap_or_default()
    }

    /// An attempt at this unit.
    pub(super) fn existing_attempt_at(
        &mut self,
        unit: &WorkUnit,
        id: AttemptId,
    ) -> Result<Attempt> {
        self.attempt_at(unit, id)?.ok_or(Error::NoSuchAttempt(id))
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
            self.end_attempt(unit.work_spec, &mut attempt, AttemptStatus::Expired)?;
        }
        Ok(())
    }

    /// Stores the data of an attempt, with the traceback that they may hold.
    pub(super) fn store_attempt_data(&mut self, attempt: &Attempt, data: &[u8]) -> Result<()> {
        let traceback = match attempt.status {
            AttemptStatus::Failed | AttemptStatus::Retryable => traceback_of(data),
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

/// A data dictionary with another `traceback`, or with one if it had none.
pub(super) fn with_traceback(data: &[u8], traceback: &str) -> Vec<u8> {
    let is_traceback = |key: Item<'_>| key.as_string_bytes().as_deref() == Some(b"traceback");
    let entries = Item::from_checked(data).as_map().into_iter().flatten();
    let others: Vec<_> = entries.filter(|(key, _)| !is_traceback(*key)).collect();
    let mut changed = Vec::with_capacity(data.len() + traceback.len());
    let mut writer = Writer::new(&mut changed);
    writer.map(others.len() + 1);
    for (key, value) in others {
        writer.encoded(key.bytes());
        writer.encoded(value.bytes());
    }
    // In text: with bytes among them, data that were JSON would no longer be.
    writer.text("traceback");
    writer.text(traceback);
    changed
}
