//! Workers: who is alive, and what their children are busy with.

use super::attempt::Attempt;
use super::number::duration_from_seconds;
use super::storage::{NamedUnit, Storage};
use super::{Error, Name, Operation, Result};
use crate::clock::Timestamp;
use std::time::Duration;

/// The lifetime of a worker that asked for a negative one.
const LIFETIME_IF_NEGATIVE: Duration = Duration::from_secs(300);
/// The longest lifetime.
const LIFETIME_MAX: Duration = Duration::from_secs(86_400);
/// The lifetime of a worker that asked for a longer one (docs/protocol.md, "Constants").
const LIFETIME_IF_TOO_LONG: Duration = Duration::from_secs(3_600);

/// The lifetime of a worker that asks for so many seconds, and a note for it if that is another one.
#[must_use]
pub fn worker_lifetime(seconds: f64) -> (Duration, Option<&'static str>) {
    if seconds < 0.0 {
        (
            LIFETIME_IF_NEGATIVE,
            Some("negative expire_seconds: 5 minutes taken instead"),
        )
    } else if seconds > LIFETIME_MAX.as_secs_f64() {
        (
            LIFETIME_IF_TOO_LONG,
            Some("expire_seconds of more than a day: one hour taken instead"),
        )
    } else {
        (duration_from_seconds(seconds), None)
    }
}

/// A worker that is alive.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name.
    pub name: Name,
    /// The worker that looks after it.
    pub parent: Option<Name>,
    /// What it says that it is doing: RUN, IDLE, TERMINATE, or anything else.
    pub mode: Option<Name>,
    /// When it was last heard of.
    pub heartbeat: Timestamp,
    /// When it counts as dead if it is not heard of again.
    pub expiration: Timestamp,
}

/// How many workers there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// All that are alive.
    pub workers: u64,
    /// Those that have a parent.
    pub children: u64,
}

/// A unit that a worker is busy with, maybe in vain.
#[derive(Debug)]
pub struct HeldUnit {
    /// The name of its work spec.
    pub work_spec: Name,
    /// Its name.
    pub name: Name,
    /// Its data dictionary, encoded.
    pub data: Vec<u8>,
    /// Who has the unit at present, or had it when it was completed.
    pub owner: Option<Name>,
    /// The end of that owner's lease, or the time of completion.
    pub expiration: Option<Timestamp>,
}

/// A heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat<'a> {
    /// Who is alive.
    pub worker: &'a Name,
    /// What it says that it is doing.
    pub mode: Option<Name>,
    /// For how long it is to count as alive.
    pub lifetime: Duration,
    /// What it says of itself: a dictionary, encoded.
    pub environment: Option<&'a [u8]>,
    /// The worker that looks after it.
    pub parent: Option<Name>,
}

impl<S: Storage> Operation<'_, S> {
    /// Registers a worker, or notes that it is still alive.
    ///
    /// # Errors
    /// `Storage`.
    pub fn heartbeat(&mut self, heartbeat: Heartbeat<'_>) -> Result<()> {
        let worker = Worker {
            name: heartbeat.worker.clone(),
            parent: heartbeat.parent,
            mode: heartbeat.mode,
            heartbeat: self.now,
            expiration: self.now.plus(heartbeat.lifetime),
        };
        Ok(self
            .store
            .upsert_worker(self.namespace, &worker, heartbeat.environment)?)
    }

    /// Removes a worker from all lists. Its leases go on.
    ///
    /// # Errors
    /// `NoSuchWorker`, `Storage`.
    pub fn unregister_worker(&mut self, name: &Name) -> Result<()> {
        if self.store.delete_worker(self.namespace, name)? {
            Ok(())
        } else {
            Err(Error::NoSuchWorker(name.clone()))
        }
    }

    /// All workers that are alive, sorted by the bytes of their names.
    ///
    /// # Errors
    /// `Storage`.
    pub fn workers(&mut self) -> Result<Vec<Worker>> {
        Ok(self.store.workers(self.namespace)?)
    }

    /// A worker with what it says of itself, if it is alive.
    ///
    /// # Errors
    /// `Storage`.
    pub fn worker(&mut self, name: &Name) -> Result<Option<(Worker, Option<Vec<u8>>)>> {
        Ok(self.store.find_worker(self.namespace, name)?)
    }

    /// How many workers are alive.
    ///
    /// # Errors
    /// `Storage`.
    pub fn worker_stats(&mut self) -> Result<WorkerStats> {
        Ok(self.store.worker_stats(self.namespace)?)
    }

    /// The living children of a worker.
    ///
    /// # Errors
    /// `Storage`.
    pub fn children(&mut self, parent: &Name) -> Result<Vec<Name>> {
        Ok(self.store.children(self.namespace, parent)?)
    }

    /// The units that a worker is busy with. One whose lease it has lost stays among them, so that its
    /// parent can see that it works in vain. [`Operation::held_unit`] tells more of each.
    ///
    /// # Errors
    /// `Storage`.
    pub fn held_units(&mut self, worker: &Name) -> Result<Vec<NamedUnit>> {
        Ok(self.store.held_units(self.namespace, worker)?)
    }

    /// A unit that some worker is busy with, with its data and its present owner.
    ///
    /// # Errors
    /// `Storage`.
    pub fn held_unit(&mut self, held: NamedUnit) -> Result<HeldUnit> {
        let data = self.effective_data(&held.unit)?;
        let active = self.active_attempt(&held.unit)?;
        Ok(HeldUnit {
            work_spec: held.work_spec,
            name: held.name,
            data,
            expiration: active.as_ref().map(Attempt::lease_or_completion),
            owner: active.and_then(|attempt| attempt.worker),
        })
    }
}
