//! Work units: their states, and the operations on them that are not about doing the work.

use super::attempt::AttemptId;
use super::new_unit::NewUnit;
use super::storage::{InStatusQuery, Storage};
use super::{Error, Name, Operation, Result, WorkSpecId};
use crate::clock::Timestamp;
use crate::limits;
use coordinated_client::cbor::Item;
use std::collections::HashMap;

/// Identifies a work unit in the file. Never used again while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkUnitId(pub i64);

/// The status of a work unit. The numbers are those in the file; all but `Delayed` are on the wire too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnitStatus {
    /// Waiting to be handed out.
    Available = 1,
    /// To become available at a given time.
    Delayed = 2,
    /// Leased to a worker.
    Pending = 3,
    /// Done.
    Finished = 4,
    /// Given up, until somebody retries it.
    Failed = 5,
}

impl UnitStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Available,
        Self::Delayed,
        Self::Pending,
        Self::Finished,
        Self::Failed,
    ];

    /// True for finished and failed units.
    #[must_use]
    pub fn is_completed(self) -> bool {
        matches!(self, Self::Finished | Self::Failed)
    }
}

/// The statuses of a unit with which nothing more is done unless somebody asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Completed {
    /// Done.
    Finished,
    /// Given up.
    Failed,
}

impl Completed {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Finished, Self::Failed];

    /// The one that a status is, if it is one.
    #[must_use]
    pub fn from_status(status: UnitStatus) -> Option<Self> {
        match status {
            UnitStatus::Finished => Some(Self::Finished),
            UnitStatus::Failed => Some(Self::Failed),
            UnitStatus::Available | UnitStatus::Delayed | UnitStatus::Pending => None,
        }
    }
}

impl From<Completed> for UnitStatus {
    fn from(status: Completed) -> Self {
        match status {
            Completed::Finished => Self::Finished,
            Completed::Failed => Self::Failed,
        }
    }
}

/// A work unit without its name and data: what decides over its changes.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkUnit {
    /// Its identity.
    pub id: WorkUnitId,
    /// The work spec that it belongs to.
    pub work_spec: WorkSpecId,
    /// Where it stands.
    pub status: UnitStatus,
    /// Higher ones are handed out first.
    pub priority: f64,
    /// Not handed out before this time; forgotten when the unit becomes available.
    pub not_before: Option<Timestamp>,
    /// The attempt that decides the status: there is one if it is pending, finished or failed.
    pub active: Option<AttemptId>,
    /// The newest attempt.
    pub last: Option<AttemptId>,
    /// The number of the newest attempt from before the unit was added again, if it was: that one and those before
    /// it are superseded.
    pub superseded: Option<u64>,
    /// How many attempts there were when the unit was last added again or retried: these don't count
    /// towards `max_retries`.
    pub attempts_before: u64,
}

impl WorkUnit {
    /// Makes the unit available, or delayed if its time has not come.
    pub fn make_available(&mut self, now: Timestamp) {
        self.active = None;
        self.not_before = self.not_before.filter(|not_before| *not_before > now);
        self.status = match self.not_before {
            Some(_) => UnitStatus::Delayed,
            None => UnitStatus::Available,
        };
    }
}

/// What `get_work_unit_status` tells of a unit.
#[derive(Debug)]
pub struct UnitReport {
    /// Its status.
    pub status: UnitStatus,
    /// The end of the lease, or the time of completion.
    pub expiration: Option<Timestamp>,
    /// Who has it, or had it when it was completed.
    pub worker: Option<Name>,
    /// The `traceback` in its data, encoded.
    pub traceback: Option<Vec<u8>>,
}

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
    /// How far the names have been gone through.
    after: Option<Name>,
    /// The last name when it began: what is added behind it is not looked at, so that there is an end.
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

/// How to change a priority.
#[derive(Clone, Copy, Debug)]
pub enum PriorityChange {
    /// To this value.
    Set(f64),
    /// By this value.
    Adjust(f64),
}

impl<S: Storage> Operation<'_, S> {
    /// Adds units, or gives those that exist new data and priority and makes them available again.
    /// The last of several with the same name counts.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn add_work_units(&mut self, work_spec: &Name, units: &[NewUnit<'_>]) -> Result<()> {
        let spec = self.work_spec(work_spec)?.id;
        self.add_units_to(spec, units)
    }

    pub(super) fn add_units_to(&mut self, spec: WorkSpecId, units: &[NewUnit<'_>]) -> Result<()> {
        let mut last_of_name = HashMap::with_capacity(units.len());
        for (index, unit) in units.iter().enumerate() {
            last_of_name.insert(&unit.name, index);
        }
        for (index, unit) in units.iter().enumerate() {
            if last_of_name.get(&unit.name) == Some(&index) {
                self.add_unit(spec, unit)?;
            }
        }
        Ok(())
    }

    fn add_unit(&mut self, spec: WorkSpecId, new: &NewUnit<'_>) -> Result<()> {
        let priority = new.priority.unwrap_or(0.0);
        let not_before = new
            .delay
            .filter(|delay| !delay.is_zero())
            .map(|delay| self.now.plus(delay));
        let Some(mut unit) = self.store.find_work_unit(spec, &new.name)? else {
            self.store.insert_work_unit(
                self.now,
                spec,
                &new.name,
                priority,
                not_before,
                new.data.bytes(),
            )?;
            return Ok(());
        };
        let before = unit.status;
        if before == UnitStatus::Pending {
            // Its worker goes on in vain: what it reports is about data that is no longer there.
            self.expire_active_attempt(&unit)?;
        }
        unit.priority = priority;
        unit.not_before = not_before;
        unit.attempts_before = self.attempts_so_far(&unit)?;
        unit.superseded = unit.last.map(|_| unit.attempts_before);
        unit.make_available(self.now);
        self.store.update_work_unit(self.now, before, &unit)?;
        self.store.set_work_unit_data(unit.id, new.data.bytes())?;
        Ok(())
    }

    /// The data of the unit of a name: as its active attempt left it, else its own.
    ///
    /// # Errors
    /// `Storage`.
    pub fn find_work_unit_data(
        &mut self,
        spec: WorkSpecId,
        name: &Name,
    ) -> Result<Option<Vec<u8>>> {
        let standing = self.store.work_unit_standing(spec, name)?;
        Ok(standing.map(|unit| unit.data))
    }

    pub(super) fn effective_data(&mut self, unit: &WorkUnit) -> Result<Vec<u8>> {
        if let Some(active) = unit.active
            && let Some(data) = self.store.attempt_data(active)?
        {
            return Ok(data);
        }
        Ok(self.store.work_unit_data(unit.id)?)
    }

    /// Where the unit of a name stands; `None` for an unknown one.
    ///
    /// # Errors
    /// `Storage`.
    pub fn work_unit_report(
        &mut self,
        spec: WorkSpecId,
        name: &Name,
    ) -> Result<Option<UnitReport>> {
        let standing = self.store.work_unit_standing(spec, name)?;
        Ok(standing.map(|unit| UnitReport {
            status: unit.status,
            expiration: unit.lease_or_completion,
            worker: unit.worker,
            traceback: Item::from_checked(&unit.data)
                .get("traceback")
                .map(|value| value.bytes().to_vec()),
        }))
    }

    /// Changes the priority of the named units, whatever their status. Unknown ones are passed over.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`; `Invalid` if a priority would be no number any more; `Storage`.
    pub fn prioritize_work_units(
        &mut self,
        work_spec: &Name,
        names: &[Name],
        change: PriorityChange,
    ) -> Result<()> {
        let spec = self.work_spec(work_spec)?.id;
        for name in names {
            let Some(mut unit) = self.store.find_work_unit(spec, name)? else {
                continue;
            };
            unit.priority = match change {
                PriorityChange::Set(priority) => priority,
                PriorityChange::Adjust(by) => unit.priority + by,
            };
            if unit.priority.is_nan() {
                return Err(Error::Invalid(format!(
                    "priority of work unit {name}: the sum of infinities is no number"
                )));
            }
            self.store.update_work_unit(self.now, unit.status, &unit)?;
        }
        Ok(())
    }

    /// Deletes units with their attempts; gives how many. Those that were archived are among all, but have no
    /// names any more.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn delete_work_units(&mut self, work_spec: &Name, which: &Deletion<'_>) -> Result<u64> {
        let spec = self.work_spec(work_spec)?;
        let (id, total) = (spec.id, spec.counts.total());
        match *which {
            Deletion::All => {
                if total > 0 {
                    self.store.empty_work_spec(id)?;
                }
                Ok(total)
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
                Ok(deleted)
            }
        }
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

    /// Does a step of a deletion: deletes `units_max` units, or looks for them for some milliseconds. Gives what is
    /// left of it. Those that were archived in one of the statuses are among what is deleted last.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn delete_some(
        &mut self,
        deletion: &DeletionInStatus,
        units_max: usize,
    ) -> Result<DeletionInStatus> {
        let mut deletion = deletion.clone();
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
                return Ok(deletion);
            }
        }
        let statuses = deletion.statuses.iter().copied();
        for status in statuses.filter_map(Completed::from_status) {
            deletion.deleted += self.store.forget_archived(spec, status)?;
        }
        deletion.is_over = true;
        Ok(deletion)
    }
}
