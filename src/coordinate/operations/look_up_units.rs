//! Looking work units up by their names.

use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Completed, Error, Name, Operation, Result, UnitDetails, UnitReport, UnitStatus, WorkSpecId,
    WorkUnit, WorkUnitId,
};
use coordinated_client::cbor::Item;

impl<S: Storage> Operation<'_, S> {
    /// The unit of a name.
    pub(super) fn work_unit(&mut self, work_spec: &Name, name: &Name) -> Result<WorkUnit> {
        let spec = self.work_spec(work_spec)?.id;
        let unit = self.store.find_work_unit(spec, name)?;
        unit.ok_or_else(|| Error::NoSuchWorkUnit {
            work_spec: work_spec.clone(),
            name: name.clone(),
        })
    }

    /// The unit of a name with its data, as its active attempt left them, and that attempt.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `NoSuchWorkUnit`, `Storage`.
    pub fn unit_details(&mut self, work_spec: &Name, name: &Name) -> Result<UnitDetails> {
        let unit = self.work_unit(work_spec, name)?;
        let data = self.effective_data(&unit)?;
        self.effects.answer_bytes += data.len();
        Ok(UnitDetails {
            active: self.active_attempt(&unit)?,
            unit,
            data,
        })
    }

    /// How many attempts at the unit of a name there have been.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `NoSuchWorkUnit`, `Storage`.
    pub fn attempt_count(&mut self, work_spec: &Name, name: &Name) -> Result<u64> {
        let unit = self.work_unit(work_spec, name)?;
        self.attempts_so_far(&unit)
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

    /// The units of these names, if all are there and none has been completed: a caller may wait for one of them. `None`
    /// if there is nothing to wait for.
    ///
    /// # Errors
    /// `Storage`.
    pub fn units_to_wait_for(
        &mut self,
        spec: WorkSpecId,
        names: &[Name],
    ) -> Result<Option<Vec<WorkUnitId>>> {
        let mut units = Vec::with_capacity(names.len());
        for name in names {
            match self.store.find_work_unit(spec, name)? {
                Some(unit) if Completed::from_status(unit.status).is_none() => units.push(unit.id),
                _ => return Ok(None),
            }
        }
        Ok((!units.is_empty()).then_some(units))
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
        let policy = self
            .store
            .get_work_spec(spec)
            .and_then(|spec| spec.meta.retry);
        let retries = policy.map_or(0, |policy| policy.retries);
        let Some(unit) = standing else {
            return Ok(None);
        };
        let cancellation = match self.store.has_cancellations() {
            true => self.store.get_cancellation(unit.id)?,
            false => None,
        };
        Ok(Some(UnitReport {
            status: unit.status,
            expiration: unit.lease_or_completion,
            worker: unit.worker,
            traceback: Item::from_checked(&unit.data)
                .get("traceback")
                .map(|value| value.bytes().to_vec()),
            failures: unit.failures,
            retries,
            lost: unit.lost,
            retry_at: unit
                .not_before
                .filter(|_| unit.status == UnitStatus::Delayed && unit.failures > 0),
            cancellation,
            group: unit.group,
        }))
    }
}
