//! Making the units of schedules.

use crate::clock::Timestamp;
use crate::coordinate::schedule::{Missed, Overlap, Schedule};
use crate::coordinate::storage::{InsertedUnit, Storage};
use crate::coordinate::{Event, Name, Operation, Result, WorkSpecId};
use crate::limits;
use coordinated_client::cbor::Writer;

/// The key of a unit's data that has the time of its run.
const TIME_KEY: &str = "scheduled";

impl<S: Storage> Operation<'_, S> {
    /// Makes the units whose time has come, of a limited number of work specs.
    pub(super) fn run_schedules(&mut self) -> Result<()> {
        for _ in 0..limits::SWEEP_SCHEDULES {
            match self.store.next_scheduled() {
                Some((time, id)) if time <= self.now => self.run_schedule(id)?,
                _ => break,
            }
        }
        Ok(())
    }

    /// Makes the unit of a work spec whose time has come, or skips it, and plans the next run. All times that have passed
    /// since the planned one are one run, with the last of them.
    fn run_schedule(&mut self, id: WorkSpecId) -> Result<()> {
        let Some(spec) = self.store.get_work_spec(id) else {
            return Ok(());
        };
        let mut meta = spec.meta.clone();
        let Some(schedule) = &mut meta.schedule else {
            return Ok(());
        };
        let Some(planned) = schedule.next else {
            return Ok(());
        };
        let time = schedule.last_until(planned, self.now);
        schedule.next = schedule.next_after(self.now);
        let is_missed = self.now.since(time) > Schedule::LATE_MAX;
        let is_skipped = meta.paused.is_some()
            || (is_missed && schedule.missed == Missed::Skip)
            || (schedule.overlap == Overlap::Skip && self.last_run_is_open(id, schedule)?);
        if is_skipped {
            schedule.skipped = Some(time);
        } else {
            self.make_scheduled_unit(id, schedule, time)?;
            schedule.last = Some(time);
        }
        Ok(self.store.update_work_spec_meta(id, &meta)?)
    }

    /// True if the unit of the last run has not completed. Units that it left before it are not looked at: they had
    /// completed then, or are to queue.
    fn last_run_is_open(&mut self, id: WorkSpecId, schedule: &Schedule) -> Result<bool> {
        let Some(last) = schedule.last else {
            return Ok(false);
        };
        let name = Name::from_text(Schedule::unit_name(last));
        let unit = self.store.find_work_unit(id, &name)?;
        Ok(unit.is_some_and(|unit| !unit.status.is_completed()))
    }

    fn make_scheduled_unit(
        &mut self,
        id: WorkSpecId,
        schedule: &Schedule,
        time: Timestamp,
    ) -> Result<()> {
        let name = Name::from_text(Schedule::unit_name(time));
        if self.store.find_work_unit(id, &name)?.is_some() {
            // The clock was set back, and this time was there before.
            return Ok(());
        }
        let mut data = Vec::new();
        let mut writer = Writer::new(&mut data);
        writer.map(1);
        writer.text(TIME_KEY);
        writer.text(&schedule.local_time(time));
        let unit = InsertedUnit {
            name: &name,
            priority: 0.0,
            not_before: None,
            group: None,
            data: &data,
        };
        self.store.insert_work_unit(self.now, id, unit)?;
        self.effects.note(id, Event::Added(1));
        Ok(())
    }
}
