//! Deleting work units.

use super::status_walk::StatusWalk;
use crate::coordinate::storage::Storage;
use crate::coordinate::{Change, Completed, Name, Operation, Result, UnitStatus};

/// What the audit calls it.
pub(super) const DELETE: &str = "delete_work_units";

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
    walk: StatusWalk,
    deleted: u64,
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
        self.walk.is_over
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
        self.effects.audit(change.with(detail));
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
        Ok(DeletionInStatus {
            walk: self.begin_walk(work_spec, statuses, None)?,
            deleted: 0,
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
        for unit in self.walk(&mut deletion.walk, units_max)? {
            self.store.delete_work_unit(&unit)?;
            deletion.deleted += 1;
        }
        let StatusWalk {
            work_spec,
            statuses,
            is_over,
            ..
        } = &deletion.walk;
        if *is_over {
            let spec = self.work_spec(work_spec)?.id;
            for status in statuses.iter().copied().filter_map(Completed::from_status) {
                deletion.deleted += self.store.forget_archived(spec, status)?;
            }
        }
        let change = Change::of(DELETE, deletion.deleted - deleted_before).on(work_spec);
        self.effects.audit(change.in_statuses(statuses));
        Ok(deletion)
    }
}
