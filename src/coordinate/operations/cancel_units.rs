//! Cancelling work units, and what becomes of reports on those that were cancelled.
//!
//! A unit that waits fails at once. One that runs keeps its attempt, and the lease of that ends with the grace: until
//! then its worker learns of the cancellation by its next report. docs/protocol.md, "Cancelling", has the rules.

use super::attempt_units::{traceback_of, with_traceback};
use super::status_walk::StatusWalk;
use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Attempt, AttemptStatus, Cancellation, Cancelled, Change, Completed, Counted, Lease, Name,
    Operation, Outcome, Report, ReportKind, Result, UnitStatus, WorkUnit,
};
use std::time::Duration;

/// The cancellation of all units of a work spec that are in some statuses, which is done in steps.
#[derive(Clone, Debug)]
pub struct CancellationInStatus {
    walk: StatusWalk,
    cancelled: Cancelled,
}

impl CancellationInStatus {
    /// How many units it has cancelled.
    #[must_use]
    pub fn cancelled(&self) -> Cancelled {
        self.cancelled
    }

    /// True if nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.walk.is_over
    }
}

impl<S: Storage> Operation<'_, S> {
    /// Cancels units by their names; if statuses are given, only units in one of these. The workers of running ones get
    /// a `grace`. Unknown units are skipped, and so are those that have finished or failed.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn cancel_work_units(
        &mut self,
        work_spec: &Name,
        names: &[Name],
        statuses: Option<&[UnitStatus]>,
        cancellation: &Cancellation,
        grace: Duration,
    ) -> Result<Cancelled> {
        let spec = self.work_spec(work_spec)?.id;
        let mut cancelled = Cancelled::default();
        for name in names {
            if let Some(unit) = self.store.find_work_unit(spec, name)?
                && statuses.is_none_or(|statuses| statuses.contains(&unit.status))
            {
                cancelled += self.cancel_unit(unit, cancellation, grace)?;
            }
        }
        let change = change_of(cancelled, work_spec, cancellation);
        self.effects.audit(change);
        Ok(cancelled)
    }

    /// Begins to cancel the units that are in some statuses.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn begin_cancellation(
        &mut self,
        work_spec: &Name,
        statuses: &[UnitStatus],
    ) -> Result<CancellationInStatus> {
        Ok(CancellationInStatus {
            walk: self.begin_walk(work_spec, statuses, None)?,
            cancelled: Cancelled::default(),
        })
    }

    /// Does a step of cancelling: at most `units_max` units, or some milliseconds of searching for them. Returns what is
    /// left of it.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `Storage`.
    pub fn cancel_some(
        &mut self,
        pass: &CancellationInStatus,
        cancellation: &Cancellation,
        grace: Duration,
        units_max: usize,
    ) -> Result<CancellationInStatus> {
        let mut pass = pass.clone();
        let mut cancelled = Cancelled::default();
        for unit in self.walk(&mut pass.walk, units_max)? {
            cancelled += self.cancel_unit(unit, cancellation, grace)?;
        }
        pass.cancelled += cancelled;
        let change = change_of(cancelled, &pass.walk.work_spec, cancellation);
        self.effects.audit(change);
        Ok(pass)
    }

    fn cancel_unit(
        &mut self,
        mut unit: WorkUnit,
        cancellation: &Cancellation,
        grace: Duration,
    ) -> Result<Cancelled> {
        const FAILED: Cancelled = Cancelled {
            failed: 1,
            running: 0,
        };
        const RUNNING: Cancelled = Cancelled {
            failed: 0,
            running: 1,
        };
        match unit.status {
            UnitStatus::Finished | UnitStatus::Failed => Ok(Cancelled::default()),
            UnitStatus::Available | UnitStatus::Delayed => {
                let before = unit.counted();
                let attempt = self.open_attempt(&mut unit, None, Duration::ZERO)?;
                self.store.put_cancellation(unit.id, cancellation)?;
                self.fail_cancelled(unit, before, attempt, cancellation, None)?;
                Ok(FAILED)
            }
            UnitStatus::Pending => {
                let Some(mut attempt) = self.active_attempt(&unit)? else {
                    return Ok(Cancelled::default());
                };
                // The first cancellation stays, and one that is sent again gives no more time.
                let first = self.cancellation_of(&unit)?;
                attempt.expiration = match &first {
                    Some(_) => attempt.expiration.min(self.now.plus(grace)),
                    None => self.now.plus(grace),
                };
                if first.is_none() {
                    self.store.put_cancellation(unit.id, cancellation)?;
                }
                if attempt.expiration > self.now {
                    self.store.update_attempt(&attempt)?;
                    return Ok(RUNNING);
                }
                let (before, cancellation) =
                    (unit.counted(), first.as_ref().unwrap_or(cancellation));
                self.fail_cancelled(unit, before, attempt, cancellation, None)?;
                Ok(FAILED)
            }
        }
    }

    /// Who cancelled a unit, when and why, if it was cancelled: it still runs, or has failed for it.
    pub(super) fn cancellation_of(&mut self, unit: &WorkUnit) -> Result<Option<Cancellation>> {
        let may_be = matches!(unit.status, UnitStatus::Pending | UnitStatus::Failed);
        match may_be && self.store.has_cancellations() {
            true => Ok(self.store.get_cancellation(unit.id)?),
            false => Ok(None),
        }
    }

    /// Forgets that a unit was cancelled, if it was.
    pub(super) fn lift_cancellation(&mut self, unit: &WorkUnit) -> Result<()> {
        if self.store.has_cancellations() {
            self.store.delete_cancellation(unit.id)?;
        }
        Ok(())
    }

    /// Fails a cancelled unit with its active attempt, whatever `retries` of the work spec says. It was counted as
    /// `before`. `reported` are the data that its worker has left, whose traceback stays above the message.
    pub(super) fn fail_cancelled(
        &mut self,
        mut unit: WorkUnit,
        before: Counted,
        mut attempt: Attempt,
        cancellation: &Cancellation,
        reported: Option<&[u8]>,
    ) -> Result<()> {
        let mut traceback = cancellation.message();
        if let Some(told) = reported.and_then(traceback_of)
            && !told.trim().is_empty()
        {
            traceback = format!("{}\n{traceback}", told.trim_end());
        }
        let data = match reported {
            Some(data) => with_traceback(data, &traceback),
            None => with_traceback(&self.effective_data(&unit)?, &traceback),
        };
        self.end_attempt(unit.work_spec, &mut attempt, AttemptStatus::Failed)?;
        self.store_attempt_data(&attempt, &data)?;
        unit.complete(Completed::Failed);
        self.effects.completed += 1;
        Ok(self.store.update_work_unit(self.now, before, &unit)?)
    }

    /// A report on a unit that was cancelled, by the holder of the active attempt (`own`), by a worker that has lost it,
    /// if the unit has failed since, or by somebody without an attempt at the unit.
    pub(super) fn report_on_cancelled(
        &mut self,
        unit: WorkUnit,
        own: Option<Attempt>,
        report: &Report<'_>,
        cancellation: &Cancellation,
    ) -> Result<Outcome> {
        let refused = Outcome::Refused(cancellation.message());
        if unit.status == UnitStatus::Failed {
            // A worker that gives the unit back too late does not want it to be tried again.
            let is_from_worker =
                own.is_some() && (report.attempt.is_some() || report.worker.is_some());
            if report.kind != ReportKind::Available || is_from_worker {
                return Ok(refused);
            }
            self.retry(unit, report)?;
            return Ok(Outcome::Accepted);
        }
        let is_from_worker = own.is_some();
        let active = match own {
            Some(attempt) => Some(attempt),
            None => self.active_attempt(&unit)?,
        };
        let Some(attempt) = active else {
            return Ok(refused);
        };
        match (report.kind, report.lease) {
            (ReportKind::Finished, _) => {
                // The work was done before the lease was taken.
                self.lift_cancellation(&unit)?;
                self.complete(unit, Some(attempt), AttemptStatus::Finished, report)?;
            }
            (ReportKind::Available, _) if !is_from_worker => {
                self.lift_cancellation(&unit)?;
                self.give_back(unit, Some(attempt), report, false)?;
            }
            (ReportKind::Failed | ReportKind::Available, _)
            | (ReportKind::Pending | ReportKind::Renew, Some(Lease::Over)) => {
                let before = unit.counted();
                self.fail_cancelled(unit, before, attempt, cancellation, report.data)?;
            }
            (ReportKind::Pending | ReportKind::Renew, _) => {
                if let Some(data) = report.data {
                    self.store_attempt_data(&attempt, data)?;
                }
                return Ok(refused);
            }
        }
        Ok(Outcome::Accepted)
    }
}

/// What the audit says of it.
fn change_of(cancelled: Cancelled, work_spec: &Name, cancellation: &Cancellation) -> Change {
    let count = cancelled.failed + cancelled.running;
    let change = Change::of("cancel_work_units", count).on(work_spec);
    change.with(cancellation.reason.as_deref().unwrap_or_default())
}
