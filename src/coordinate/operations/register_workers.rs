//! Registering workers, and telling who is alive and what they are working on.

use crate::coordinate::storage::{NamedUnit, Storage};
use crate::coordinate::{
    Attempt, Error, Heartbeat, HeldUnit, Name, Operation, Result, Worker, WorkerStats,
};

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

    /// The units that a worker is believed to be working on. One whose lease it has lost stays among them, so that its
    /// parent can see that the work is lost. [`Operation::held_unit`] has more about each.
    ///
    /// # Errors
    /// `Storage`.
    pub fn held_units(&mut self, worker: &Name) -> Result<Vec<NamedUnit>> {
        Ok(self.store.held_units(self.namespace, worker)?)
    }

    /// A unit that a worker is believed to be working on, with its data and its present owner.
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
