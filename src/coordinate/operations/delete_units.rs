//! Deleting work units.

use crate::coordinate::storage::{InStatusQuery, Storage};
use crate::coordinate::{Change, Completed, Name, Operation, Result, UnitStatus};
use crate::limits;

/// What the audit calls it.
const DELETE: &str = "delete_work_units";

/// Which units to delete.
#[derive(Debug)]
pub enum Deletion<'a> {
    /// All of the work spec's.
    All,
    /// Those of these names; if a status set is given, only those that are in it.
    Named(&'a [Name], Option<&'a [UnitStatus]>),
}

/// The deletion of all units of a work spec that are in some statuses, which is done in steps.
#[derive(Clone, Debug)]
pub struct DeletionInStatus {
    work_spec: Name,
    statuses: Vec<UnitStatus>,
    /// The last name that was read.
    after: Option<Name>,
    /// The last name when it began: units that are added after it are left, so that the deletion ends.
    until: Option<Name>,
    deleted: u64,
    is_over: bool,
}

impl DeletionInStatus {
    /// How many units it has deleted.
    #[must_use]
    pub fn deleted(&self) -> u64 {
        self.deleted
    }

    /// True if nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}

impl<S: Storage> Operation<'_, S> {
    /// Deletes units with their attempts; returns how many. Archived units are counted among all, but can't be
    /// named.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn delete_work_units(&mut self, work_spec: &Name, which: &Deletion<'_>) -> Result<u64> {
        let spec = self.work_spec(work_spec)?;
        let (id, total) = (spec.id, spec.counts.total());
        let (deleted, detail) = match *which {
            Deletion::All => {
                if total > 0 {
                    self.store.empty_work_spec(id)?;
                }
                (total, "all")
            }
            Deletion::Named(names, statuses) => {
                let mut deleted = 0;
                for name in names {
                    if let Some(unit) = self.store.find_work_unit(id, name)?
                        && statuses.is_none_or(|statuses| statuses.contains(&unit.status))
                    {
                        self.store.delete_work_unit(&unit)?;
                        deleted += 1;
                    }
                }
                (deleted, "by name")
            }
        };
        let change = Change::of(DELETE, deleted).on(work_spec);
        self.effects.note(change.with(detail));
        Ok(deleted)
    }

    /// Begins to delete the units that are in some statuses.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn begin_deletion(
        &mut self,
        work_spec: &Name,
        statuses: &[UnitStatus],
    ) -> Result<DeletionInStatus> {
        let spec = self.work_spec(work_spec)?.id;
        Ok(DeletionInStatus {
            work_spec: work_spec.clone(),
            statuses: statuses.to_vec(),
            after: None,
            until: self.store.last_name(spec)?,
            deleted: 0,
            is_over: false,
        })
    }

    /// Does a step of a deletion: deletes at most `units_max` units, or searches for them for some milliseconds. Returns
    /// what is left of it. The last step includes the archived units in these statuses.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn delete_some(
        &mut self,
        deletion: &DeletionInStatus,
        units_max: usize,
    ) -> Result<DeletionInStatus> {
        let mut deletion = deletion.clone();
        let deleted_before = deletion.deleted;
        let spec = self.work_spec(&deletion.work_spec)?.id;
        if let Some(until) = &deletion.until {
            let found = self.store.work_units_in(&InStatusQuery {
                spec,
                statuses: &deletion.statuses,
                after: deletion.after.as_ref(),
                until,
                looked_at_max: limits::SWEEP_LOOKED_AT,
                limit: units_max,
            })?;
            for unit in &found.units {
                self.store.delete_work_unit(unit)?;
                deletion.deleted += 1;
            }
            if found.looked_to.is_some() {
                deletion.after = found.looked_to;
                self.note_deletion(&deletion, deleted_before);
                return Ok(deletion);
            }
        }
        let statuses = deletion.statuses.iter().copied();
        for status in statuses.filter_map(Completed::from_status) {
            deletion.deleted += self.store.forget_archived(spec, status)?;
        }
        deletion.is_over = true;
        self.note_deletion(&deletion, deleted_before);
        Ok(deletion)
    }

    fn note_deletion(&mut self, deletion: &DeletionInStatus, deleted_before: u64) {
        let statuses: Vec<String> = deletion
            .statuses
            .iter()
            .map(|status| format!("{status:?}").to_lowercase())
            .collect();
        let change = Change::of(DELETE, deletion.deleted - deleted_before).on(&deletion.work_spec);
        self.effects.note(change.with(statuses.join(", ")));
    }
}
