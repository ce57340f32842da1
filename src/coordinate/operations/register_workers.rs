//! Registering workers, and telling who is alive and what they are working on.

use crate::coordinate::storage::{NamedUnit, Storage};
use crate::coordinate::{
    Attempt, Error, Heartbeat, HeldUnit, Name, Operation, Result, Worker, WorkerChange, WorkerStats,
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
            is_active: true,
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
        let worker = self.store.find_worker(self.namespace, name)?;
        Ok(worker.filter(|(worker, _)| worker.is_active))
    }

    /// A worker with what it says of itself, even if it is inactive.
    ///
    /// # Errors
    /// `Storage`.
    pub fn known_worker(&mut self, name: &Name) -> Result<Option<(Worker, Option<Vec<u8>>)>> {
        let worker = self.store.find_worker(self.namespace, name)?;
        if let Some((_, Some(environment))) = &worker {
            self.effects.answer_bytes += environment.len();
        }
        Ok(worker)
    }

    /// The same, of one that is registered if it is not known.
    ///
    /// # Errors
    /// `Invalid` if the name is too long; `Storage`.
    pub fn known_or_new_worker(&mut self, name: &Name) -> Result<(Worker, Option<Vec<u8>>)> {
        if let Some(known) = self.known_worker(name)? {
            return Ok(known);
        }
        let (len, bytes_max) = (name.bytes().len(), self.limits.spec_name_bytes_max);
        if len > bytes_max {
            return Err(Error::Invalid(format!(
                "worker {name}: {len} bytes long, at most {bytes_max} are allowed"
            )));
        }
        let worker = Worker::new(name.clone(), self.now);
        self.store.upsert_worker(self.namespace, &worker, None)?;
        Ok((worker, None))
    }

    /// Changes what is known of a worker, which is registered if it is not known. So is its new parent.
    ///
    /// # Errors
    /// `Invalid` if a name is too long; `Storage`.
    pub fn change_worker(&mut self, name: &Name, change: &WorkerChange<'_>) -> Result<()> {
        let (mut worker, known) = self.known_or_new_worker(name)?;
        let mut environment = known.as_deref();
        match change {
            WorkerChange::Parent(parent) => {
                if let Some(parent) = parent {
                    self.known_or_new_worker(parent)?;
                }
                worker.parent.clone_from(parent);
            }
            WorkerChange::Update {
                mode,
                environment: said,
                heartbeat,
                expiration,
            } => {
                worker.mode.clone_from(mode);
                worker.update_times(*heartbeat, *expiration, self.now);
                worker.is_active = true;
                environment = *said;
            }
            WorkerChange::Deactivate => worker.is_active = false,
        }
        Ok(self
            .store
            .upsert_worker(self.namespace, &worker, environment)?)
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
