//! Setting, controlling, looking up and deleting work specs.

use crate::coordinate::storage::Storage;
use crate::coordinate::work_spec::name_of;
use crate::coordinate::{
    Change, Control, Error, MaxRate, Meta, MetaChange, Name, Operation, Outcomes, Recent, Result,
    Schedule, WorkSpec, WorkSpecId,
};
use coordinated_client::cbor::Item;

impl<S: Storage> Operation<'_, S> {
    /// Creates a work spec, or replaces its dictionary and all that derives from it. Its units stay,
    /// and so do the time of its next continuous unit, and that of its next run if its schedule has the same times. If it
    /// stays paused, so do who paused it, when and why.
    ///
    /// # Errors
    /// `Invalid` if the dictionary has no proper name, a value that can't be converted, or a schedule that never comes.
    pub fn set_work_spec(&mut self, definition: Item<'_>) -> Result<()> {
        let name = name_of(definition, self.limits.spec_name_bytes_max)?;
        let mut meta = Meta::from_definition(definition)?;
        let existing = self.store.find_work_spec(self.namespace, &name);
        let existing = existing.map(|spec| (spec.id, spec.meta.clone()));
        if let Some(schedule) = &mut meta.schedule {
            let before = existing.as_ref();
            let before = before.and_then(|(_, meta)| meta.schedule.as_deref());
            if !schedule.begin(before, self.now) {
                return Err(Error::Invalid(format!(
                    "work spec key \"schedule\": no day within {} years matches; check the day of the month and the month",
                    Schedule::YEARS_AHEAD
                )));
            }
        }
        match existing {
            Some((id, before)) => {
                meta.next_continuous = before.next_continuous;
                if meta.paused.is_some() && before.paused.is_some() {
                    meta.paused.clone_from(&before.paused);
                }
                self.store
                    .replace_work_spec(id, &name, definition.bytes(), &meta)?;
                self.keep_recent(id, &before);
            }
            None => {
                self.store
                    .insert_work_spec(self.namespace, &name, definition.bytes(), &meta)?;
            }
        }
        self.effects.audit(Change::of("set_work_spec", 1).on(&name));
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
    /// `NoSuchWorkSpec`; `Refused` if it can't be continuous; `Invalid` if the priority is no number.
    pub fn control_work_spec(&mut self, name: &Name, control: &Control) -> Result<()> {
        let spec = self.work_spec(name)?;
        let (id, before) = (spec.id, spec.meta.clone());
        let mut meta = before.clone();
        if control.priority.is_some_and(f64::is_nan) {
            return Err(Error::Invalid(
                "option priority: expected a number, got NaN".to_owned(),
            ));
        }
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
        meta.priority = control.priority.unwrap_or(meta.priority);
        meta.interval = control.interval.unwrap_or(meta.interval);
        meta.max_running = control.max_running.unwrap_or(meta.max_running);
        meta.continuous = control.continuous.unwrap_or(meta.continuous);
        self.store.update_work_spec_meta(id, &meta)?;
        self.keep_recent(id, &before);
        let change = Change::of("control_work_spec", 1).on(name);
        self.effects.audit(change.with(control.to_string()));
        Ok(())
    }

    /// Keeps what a work spec remembers of what has happened lately as far as that still matters, after it was changed from
    /// what it was `before`.
    fn keep_recent(&mut self, id: WorkSpecId, before: &Meta) {
        let Some(WorkSpec { meta, recent, .. }) = self.store.get_work_spec(id) else {
            return;
        };
        let is_resumed = before.paused.is_some() && meta.paused.is_none();
        let outcomes = match is_resumed || meta.halt_after != before.halt_after {
            true => Outcomes::default(),
            false => recent.outcomes,
        };
        let bounded = |(full_at, rate): (_, MaxRate)| rate.bounded(full_at, self.now);
        let full_at = recent.full_at.zip(meta.max_rate).map(bounded);
        let kept = Recent { full_at, outcomes };
        if kept != *recent {
            self.store.set_recent(id, kept);
        }
    }

    /// Sets how a work spec is scheduled.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn set_work_spec_meta(&mut self, name: &Name, change: &MetaChange) -> Result<()> {
        let spec = self.work_spec(name)?;
        let (id, before) = (spec.id, spec.meta.clone());
        let mut meta = before.clone();
        meta.change(change, self.now);
        self.store.update_work_spec_meta(id, &meta)?;
        self.keep_recent(id, &before);
        let detail = change.to_string();
        let change = Change::of("control_work_spec", 1).on(name);
        self.effects.audit(change.with(detail));
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
            .audit(Change::of("delete_work_spec", 1).on(name));
        Ok(())
    }

    /// Deletes all work specs; returns how many there were.
    ///
    /// # Errors
    /// `Storage`.
    pub fn clear(&mut self) -> Result<usize> {
        let count = self.discard_all()?;
        let change = Change::of("clear", count as u64);
        self.effects.audit(change.with("all work specs"));
        Ok(count)
    }

    /// The same, without a note for the audit.
    pub(super) fn discard_all(&mut self) -> Result<usize> {
        let ids: Vec<WorkSpecId> = self
            .store
            .work_specs(self.namespace)
            .map(|spec| spec.id)
            .collect();
        for id in &ids {
            self.store.discard_work_spec(*id)?;
        }
        Ok(ids.len())
    }
}
