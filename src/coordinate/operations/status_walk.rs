//! Going through the units of a work spec that are in some statuses, in steps.

use crate::coordinate::storage::{InStatusQuery, Storage};
use crate::coordinate::{Name, Operation, Result, UnitStatus, WorkUnit};
use crate::limits;

/// How far a walk has come.
#[derive(Clone, Debug)]
pub(super) struct StatusWalk {
    pub(super) work_spec: Name,
    pub(super) statuses: Vec<UnitStatus>,
    /// The last name that was read.
    after: Option<Name>,
    /// The last name when it began: units that are added after it are left, so that the walk ends.
    until: Option<Name>,
    pub(super) is_over: bool,
}

impl<S: Storage> Operation<'_, S> {
    /// Begins to go through the units that are in some statuses, behind a name or from the first one on.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub(super) fn begin_walk(
        &mut self,
        work_spec: &Name,
        statuses: &[UnitStatus],
        after: Option<&Name>,
    ) -> Result<StatusWalk> {
        let spec = self.work_spec(work_spec)?.id;
        Ok(StatusWalk {
            work_spec: work_spec.clone(),
            statuses: statuses.to_vec(),
            after: after.cloned(),
            until: self.store.last_name(spec)?,
            is_over: false,
        })
    }

    /// The next units of a walk: at most `units_max`, or those found in some milliseconds.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub(super) fn walk(
        &mut self,
        walk: &mut StatusWalk,
        units_max: usize,
    ) -> Result<Vec<WorkUnit>> {
        let spec = self.work_spec(&walk.work_spec)?.id;
        let Some(until) = &walk.until else {
            walk.is_over = true;
            return Ok(Vec::new());
        };
        let found = self.store.work_units_in(&InStatusQuery {
            spec,
            statuses: &walk.statuses,
            after: walk.after.as_ref(),
            until,
            looked_at_max: limits::SWEEP_LOOKED_AT,
            limit: units_max,
        })?;
        walk.is_over = found.looked_to.is_none();
        walk.after = found.looked_to;
        Ok(found.units)
    }
}
