//! Setting, controlling, looking up and deleting work specs.

use crate::coordinate::storage::Storage;
use crate::coordinate::work_spec::name_of;
use crate::coordinate::{
    Change, Control, Error, Meta, Name, Operation, Result, WorkSpec, WorkSpecId,
};
use coordinated_client::cbor::Item;

impl<S: Storage> Operation<'_, S> {
    /// Creates a work spec, or replaces its dictionary and all that derives from it. Its units stay,
    /// and so does the time of its next continuous unit. If it stays paused, so do who paused it, when and why.
    ///
    /// # Errors
    /// `Invalid` if the dictionary has no proper name, or a value that can't be converted.
    pub fn set_work_spec(&mut self, definition: Item<'_>) -> Result<()> {
        let name = name_of(definition, self.limits.spec_name_bytes_max)?;
        let mut meta = Meta::from_definition(definition)?;
        match self
            .store
            .find_work_spec(self.namespace, &name)
            .map(|spec| (spec.id, spec.meta.next_continuous, spec.meta.paused.clone()))
        {
            Some((id, next_continuous, paused)) => {
                meta.next_continuous = next_continuous;
                if meta.paused.is_some() && paused.is_some() {
                    meta.paused = paused;
                }
                self.store
                    .replace_work_spec(id, &name, definition.bytes(), &meta)?;
            }
            None => {
                self.store
                    .insert_work_spec(self.namespace, &name, definition.bytes(), &meta)?;
            }
        }
        self.effects.note(Change::of("set_work_spec", 1).on(&name));
        Ok(())
    }

    /// The work spec of a name.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`.
    pub fn work_spec(&self, name: &Name) -> Result<&WorkSpec> {
        self.store
            .find_work_spec(self.namespace, name)
            .ok_or_else(|| Error::NoSuchWorkSpec(name.clone()))
    }

    /// The dictionary of a work spec, as it came.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn work_spec_definition(&mut self, name: &Name) -> Result<Vec<u8>> {
        let id = self.work_spec(name)?.id;
        Ok(self.store.work_spec_definition(id)?)
    }

    /// All work specs, sorted by the bytes of their names.
    pub fn work_specs(&self) -> impl Iterator<Item = &WorkSpec> {
        self.store.work_specs(self.namespace)
    }

    /// Changes how a work spec is scheduled.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`; `Refused` if it can't be continuous.
    pub fn control_work_spec(&mut self, name: &Name, control: &Control) -> Result<()> {
        let spec = self.work_spec(name)?;
        let (id, mut meta) = (spec.id, spec.meta.clone());
        if control.continuous == Some(true) && !meta.can_be_continuous {
            return Err(Error::Refused(format!(
                "work spec {name} can't be made continuous: its definition does not say continuous"
            )));
        }
        match &control.paused {
            None => {}
            Some(None) => meta.paused = None,
            Some(Some(pause)) => meta.pause(pause.clone(), self.now),
        }
        meta.weight = control.weight.unwrap_or(meta.weight);
        meta.interval = control.interval.unwrap_or(meta.interval);
        meta.max_running = control.max_running.unwrap_or(meta.max_running);
        meta.continuous = control.continuous.unwrap_or(meta.continuous);
        self.store.update_work_spec_meta(id, &meta)?;
        let change = Change::of("control_work_spec", 1).on(name);
        self.effects.note(change.with(control.to_string()));
        Ok(())
    }

    /// Deletes a work spec with its units and their attempts. It is gone at once for all who ask;
    /// what it leaves in the file is removed in small steps later.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn delete_work_spec(&mut self, name: &Name) -> Result<()> {
        let id = self.work_spec(name)?.id;
        self.store.discard_work_spec(id)?;
        self.effects
            .note(Change::of("delete_work_spec", 1).on(name));
        Ok(())
    }

    /// Deletes all work specs; returns how many there were.
    ///
    /// # Errors
    /// `Storage`.
    pub fn clear(&mut self) -> Result<usize> {
        let ids: Vec<WorkSpecId> = self
            .store
            .work_specs(self.namespace)
            .map(|spec| spec.id)
            .collect();
        for id in &ids {
            self.store.discard_work_spec(*id)?;
        }
        let change = Change::of("clear", ids.len() as u64);
        self.effects.note(change.with("all work specs"));
        Ok(ids.len())
    }
}
