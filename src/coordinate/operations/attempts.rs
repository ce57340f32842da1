//! Attempts by their ids, for clients that know the id of each: what their workers make of them, and what others do.
//!
//! An attempt whose unit was taken away before its lease ended may still be finished, failed or retried by its worker, which
//! may not know: that is noted in the history, and the unit stays as it is. One that its worker has given back has no lease
//! any more, and ends for good.

use super::report::RETRY;
use crate::clock::Timestamp;
use crate::coordinate::handed_out::HandedOutUnit;
use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Attempt, AttemptChange, AttemptDetails, AttemptId, AttemptOutcome, AttemptStatus, Change,
    Lease, Name, Operation, Outcome, Report, ReportKind, Result, UnitStatus, WorkUnit,
};
use std::time::Duration;

impl<S: Storage> Operation<'_, S> {
    /// An attempt at a unit, with the data that it left or, if it left none, those of the unit.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `NoSuchWorkUnit`, `NoSuchAttempt`, `Storage`.
    pub fn attempt_details(
        &mut self,
        work_spec: &Name,
        name: &Name,
        id: AttemptId,
    ) -> Result<AttemptDetails> {
        let unit = self.work_unit(work_spec, name)?;
        let attempt = self.existing_attempt_at(&unit, id)?;
        self.with_details(work_spec, name, &unit, attempt)
    }

    /// Gives a unit to a worker, whatever its status and its delay. If another attempt at it is pending, that one loses
    /// the unit.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `NoSuchWorkUnit`, `Storage`.
    pub fn make_attempt(
        &mut self,
        worker: &Name,
        work_spec: &Name,
        name: &Name,
        lease: Duration,
    ) -> Result<AttemptDetails> {
        let mut unit = self.work_unit(work_spec, name)?;
        let before = unit.counted();
        if before.status == UnitStatus::Pending {
            self.expire_active_attempt(&unit)?;
        }
        self.lift_cancellation(&unit)?;
        let attempt = self.open_attempt(&mut unit, Some(worker), lease)?;
        self.store.update_work_unit(self.now, before, &unit)?;
        let given = HandedOutUnit::new(self.namespace, worker, unit.id, work_spec, name);
        self.effects.handed_out.push(given);
        self.with_details(work_spec, name, &unit, attempt)
    }

    /// Takes a unit away from its active attempt: it becomes available, with its own data. A completed one may have all
    /// its retries again.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `NoSuchWorkUnit`, `Storage`.
    pub fn clear_active_attempt(&mut self, work_spec: &Name, name: &Name) -> Result<()> {
        let unit = self.work_unit(work_spec, name)?;
        if unit.active.is_some() {
            self.make_available_again(unit)?;
            self.effects.audit(Change::of(RETRY, 1).on(work_spec));
        }
        Ok(())
    }

    /// The same for a unit that was found.
    pub(super) fn make_available_again(&mut self, mut unit: WorkUnit) -> Result<()> {
        let before = unit.counted();
        if unit.active.is_none() {
            return Ok(());
        }
        if before.status == UnitStatus::Pending {
            self.expire_active_attempt(&unit)?;
        } else {
            unit.start_over(self.attempts_so_far(&unit)?);
        }
        self.lift_cancellation(&unit)?;
        unit.make_available(self.now, self.queueing_of(&unit));
        Ok(self.store.update_work_unit(self.now, before, &unit)?)
    }

    /// Takes a unit away from its active attempt (`clears`), and sets its priority and until when it is delayed.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `NoSuchWorkUnit`, `Storage`.
    pub fn change_work_unit(
        &mut self,
        work_spec: &Name,
        name: &Name,
        clears: bool,
        schedule: Option<(f64, Option<Timestamp>)>,
    ) -> Result<()> {
        let unit = self.work_unit(work_spec, name)?;
        let mut details = Vec::new();
        if clears {
            self.make_available_again(unit)?;
            details.push("attempt cleared".to_owned());
        }
        if let Some((priority, not_before)) = schedule {
            self.schedule_work_unit(work_spec, name, priority, not_before)?;
            details.push(format!("priority {priority}"));
            details.extend(not_before.map(|_| "delayed".to_owned()));
        }
        if !details.is_empty() {
            let change = Change::of("change_work_unit", 1).on(work_spec);
            self.effects.audit(change.with(details.join(", ")));
        }
        Ok(())
    }

    /// Changes an attempt. `data` are the unit's data as it leaves them, if it changes them. If the attempt is not
    /// pending, or is no longer the active one, the outcome says so.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `NoSuchWorkUnit`, `NoSuchAttempt`, `Storage`.
    pub fn change_attempt(
        &mut self,
        work_spec: &Name,
        name: &Name,
        id: AttemptId,
        change: AttemptChange,
        data: Option<&[u8]>,
    ) -> Result<AttemptOutcome> {
        use AttemptChange as To;
        use AttemptStatus as Is;
        let unit = self.work_unit(work_spec, name)?;
        let mut attempt = self.existing_attempt_at(&unit, id)?;
        let may_change = match (change, attempt.status) {
            (To::Expire, Is::Expired) => return Ok(AttemptOutcome::Done),
            (To::Renew(_), Is::Expired) | (To::Finish, Is::Failed) | (_, Is::Pending) => true,
            (To::Finish | To::Fail | To::Retry(_), Is::Expired) => !attempt.lost_its_lease(),
            _ => false,
        };
        if !may_change {
            return Ok(AttemptOutcome::NotPending);
        }
        if unit.active != Some(id) {
            return self.change_inactive_attempt(attempt, change, data);
        }
        let mut report = Report {
            kind: ReportKind::Pending,
            lease: None,
            data,
            attempt: Some(id),
            worker: None,
            delay: None,
            is_final: false,
        };
        if let Some(cancellation) = self.cancellation_of(&unit)? {
            report.kind = match change {
                To::Renew(lease) => {
                    report.lease = Some(Lease::For(lease));
                    ReportKind::Renew
                }
                To::Expire | To::Retry(_) => ReportKind::Available,
                To::Finish => ReportKind::Finished,
                To::Fail => ReportKind::Failed,
            };
            let outcome = self.report_on_cancelled(unit, Some(attempt), &report, &cancellation)?;
            return Ok(match outcome {
                Outcome::Accepted => AttemptOutcome::Done,
                Outcome::Refused(_) => AttemptOutcome::LostLease,
            });
        }
        if matches!(change, To::Expire) {
            attempt.expiration = self.now;
        }
        let attempt = Some(attempt);
        match change {
            To::Renew(lease) => {
                report.lease = Some(Lease::For(lease));
                self.renew(attempt, &report)?;
            }
            To::Expire => self.give_back(unit, attempt, &report, true)?,
            To::Retry(delay) => {
                report.delay = Some(delay);
                self.give_back(unit, attempt, &report, true)?;
            }
            To::Finish => self.complete(unit, attempt, Is::Finished, &report)?,
            To::Fail => self.complete(unit, attempt, Is::Failed, &report)?,
        }
        Ok(AttemptOutcome::Done)
    }

    /// Notes a change of an attempt that does not decide the status of its unit.
    fn change_inactive_attempt(
        &mut self,
        mut attempt: Attempt,
        change: AttemptChange,
        data: Option<&[u8]>,
    ) -> Result<AttemptOutcome> {
        let ended_as = match change {
            AttemptChange::Finish => Some(AttemptStatus::Finished),
            AttemptChange::Fail => Some(AttemptStatus::Failed),
            AttemptChange::Retry(_) => Some(AttemptStatus::Retryable),
            AttemptChange::Renew(_) | AttemptChange::Expire => None,
        };
        match ended_as {
            Some(status) => attempt.end_as(status, self.now),
            None => attempt.expiration = attempt.lease_or_completion().min(attempt.expiration),
        }
        attempt.held = false;
        self.store.update_attempt(&attempt)?;
        if let Some(data) = data {
            self.store_attempt_data(&attempt, data)?;
        }
        Ok(match ended_as {
            Some(_) => AttemptOutcome::Done,
            None => AttemptOutcome::LostLease,
        })
    }

    fn with_details(
        &mut self,
        work_spec: &Name,
        name: &Name,
        unit: &WorkUnit,
        attempt: Attempt,
    ) -> Result<AttemptDetails> {
        let data = match self.store.attempt_data(attempt.id)? {
            Some(data) => data,
            None => self.store.work_unit_data(unit.id)?,
        };
        self.effects.answer_bytes += data.len();
        Ok(AttemptDetails {
            attempt,
            work_spec: work_spec.clone(),
            unit: name.clone(),
            data,
        })
    }
}
