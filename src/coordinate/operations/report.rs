//! Taking reports on work units: renewals, results, releases and retries.
//!
//! The rules are the two tables of docs/protocol.md, "Reports" and "Late reports": what a report does
//! in each status, and what becomes of one by a worker whose attempt is no longer the active one.

use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Attempt, AttemptId, AttemptStatus, Change, Completed, Event, HandedOut, LEASE_DEFAULT,
    LEASE_MAX, Lease, Name, Operation, Outcome, Report, ReportKind, Result, UnitStatus, WorkSpecId,
    WorkUnit,
};
use std::time::Duration;

/// How far back a unit's history is searched for the attempt of a worker that names itself. A unit
/// whose leases keep running out may have any number of attempts; the worker's is among the last.
const ATTEMPTS_SEARCHED_MAX: usize = 1_000;

/// What the audit calls it when somebody makes a unit available again.
pub(super) const RETRY: &str = "retry";

impl<S: Storage> Operation<'_, S> {
    /// Takes a report on a work unit. `handed_out` are the attempts of the connection that reports.
    ///
    /// # Errors
    /// `NoSuchWorkSpec`, `NoSuchWorkUnit`, `Storage`.
    pub fn report(
        &mut self,
        handed_out: &HandedOut,
        work_spec: &Name,
        name: &Name,
        report: &Report<'_>,
    ) -> Result<Outcome> {
        let unit = self.work_unit(work_spec, name)?;
        let work_spec_id = unit.work_spec;
        let own = match (report.attempt, &report.worker) {
            (Some(id), _) => self.attempt_at(&unit, id)?,
            (None, Some(worker)) => self.last_attempt_by(&unit, worker)?,
            (None, None) => self.last_attempt_of(&unit, handed_out)?,
        };
        if own.is_none()
            && let Some(reason) =
                self.why_not_without_attempt(handed_out, work_spec, name, &unit, report)
        {
            return Ok(Outcome::Refused(reason));
        }
        if let Some(cancellation) = self.cancellation_of(&unit)? {
            let has_lost_it = own.as_ref().is_some_and(|own| unit.active != Some(own.id));
            if unit.status == UnitStatus::Failed || !has_lost_it {
                return self.report_on_cancelled(unit, own, report, &cancellation);
            }
        }
        match own {
            Some(attempt) if unit.active != Some(attempt.id) => {
                let outcome = self.report_late(unit, attempt, name, report)?;
                let counts = outcome == Outcome::Accepted;
                self.effects.note(work_spec_id, Event::LateReport(counts));
                Ok(outcome)
            }
            own => {
                let by_holder = own.is_some();
                let active = match own {
                    Some(attempt) => Some(attempt),
                    None => self.active_attempt(&unit)?,
                };
                self.report_in_turn(unit, active, report, by_holder)?;
                Ok(Outcome::Accepted)
            }
        }
    }

    /// An attempt, if it is one at this unit.
    pub(super) fn attempt_at(&mut self, unit: &WorkUnit, id: AttemptId) -> Result<Option<Attempt>> {
        let attempt = self.store.get_attempt(id)?;
        Ok(attempt.filter(|attempt| attempt.unit == unit.id))
    }

    /// The last attempt at a unit that was handed out on a connection. One that was not committed is
    /// not there.
    fn last_attempt_of(
        &mut self,
        unit: &WorkUnit,
        handed_out: &HandedOut,
    ) -> Result<Option<Attempt>> {
        for id in handed_out.attempts_at(unit.id) {
            if let Some(attempt) = self.store.get_attempt(id)? {
                return Ok(Some(attempt));
            }
        }
        Ok(None)
    }

    fn last_attempt_by(&mut self, unit: &WorkUnit, worker: &Name) -> Result<Option<Attempt>> {
        let mut next = unit.last;
        for _ in 0..ATTEMPTS_SEARCHED_MAX {
            let Some(id) = next else { break };
            let Some(attempt) = self.store.get_attempt(id)? else {
                break;
            };
            if attempt.worker.as_ref() == Some(worker) {
                return Ok(Some(attempt));
            }
            next = attempt.previous;
        }
        Ok(None)
    }

    /// Why a report does not count for which no attempt at the unit was found, if it does not.
    fn why_not_without_attempt(
        &self,
        handed_out: &HandedOut,
        work_spec: &Name,
        name: &Name,
        unit: &WorkUnit,
        report: &Report<'_>,
    ) -> Option<String> {
        if let Some(AttemptId(id)) = report.attempt {
            return Some(format!(
                "attempt {id} is not an attempt at work unit {name}, or the unit was deleted and added again since: \
                 get it again"
            ));
        }
        let had_namesake = || match &report.worker {
            Some(worker) => {
                let by_worker = &self.memory.handed_out;
                by_worker.has_namesake_of(self.namespace, worker, unit.id, work_spec, name)
            }
            None => handed_out.has_namesake_of(unit.id, work_spec, name),
        };
        (unit.status == UnitStatus::Pending && had_namesake()).then(|| {
            format!(
                "work unit {name} was deleted and added again since it was handed out, and another \
                 worker has it now"
            )
        })
    }

    /// A report by the holder of the active attempt (`by_holder`), or by a worker without an attempt at the unit.
    fn report_in_turn(
        &mut self,
        unit: WorkUnit,
        active: Option<Attempt>,
        report: &Report<'_>,
        by_holder: bool,
    ) -> Result<()> {
        use UnitStatus as Is;
        match (unit.status, report.kind) {
            (Is::Available | Is::Delayed, ReportKind::Available | ReportKind::Renew) => {
                self.amend(unit, report)
            }
            (Is::Pending, ReportKind::Available) => self.give_back(unit, active, report, by_holder),
            (Is::Finished | Is::Failed, ReportKind::Available) => self.retry(unit, report),

            (Is::Pending, ReportKind::Pending | ReportKind::Renew) => match report.lease {
                Some(Lease::Over) => self.give_back(unit, active, report, by_holder),
                _ => self.renew(active, report),
            },
            (_, ReportKind::Pending) => self.take(unit, report),
            (Is::Finished | Is::Failed, ReportKind::Renew) => Ok(()),

            (Is::Finished, ReportKind::Finished) | (Is::Failed, ReportKind::Failed) => {
                self.amend_completed(active, report)
            }
            (Is::Finished, ReportKind::Failed) => Ok(()),
            (Is::Available | Is::Delayed, ReportKind::Failed)
                if !report.is_final && self.waits_for_retry(&unit)? =>
            {
                // The failure that it waits for was reported again, by somebody who gives no name.
                Ok(())
            }
            (_, ReportKind::Finished) => {
                self.complete(unit, active, AttemptStatus::Finished, report)
            }
            (_, ReportKind::Failed) => self.complete(unit, active, AttemptStatus::Failed, report),
        }
    }

    /// A report by a worker whose attempt is not, or no longer, the active one.
    fn report_late(
        &mut self,
        mut unit: WorkUnit,
        mut own: Attempt,
        name: &Name,
        report: &Report<'_>,
    ) -> Result<Outcome> {
        if report.kind == ReportKind::Available && unit.status.is_completed() {
            self.retry(unit, report)?;
            return Ok(Outcome::Accepted);
        }
        if own.status.is_reported() {
            if unit.last == Some(own.id) && self.waits_for_retry(&unit)? {
                self.report_after_failure(unit, own, report)?;
            }
            return Ok(Outcome::Accepted);
        }
        self.note_late_data(&mut own, report)?;
        if unit
            .superseded
            .is_some_and(|superseded| own.number <= superseded)
        {
            return Ok(Outcome::Refused(format!(
                "work unit {name} was added again with new data since it was handed out: get it again"
            )));
        }
        match (unit.status, report.kind) {
            (UnitStatus::Available | UnitStatus::Delayed, kind) => {
                let ends_now = report.lease == Some(Lease::Over)
                    && matches!(kind, ReportKind::Pending | ReportKind::Renew);
                if kind == ReportKind::Available || ends_now {
                    // It is given back already; what is left to do is to let it wait.
                    self.delay(unit, report)?;
                    return Ok(Outcome::Accepted);
                }
                self.reactivate(&mut unit, &mut own)?;
                self.report_in_turn(unit, Some(own), report, true)?;
                Ok(Outcome::Accepted)
            }
            (
                UnitStatus::Finished | UnitStatus::Failed,
                ReportKind::Finished | ReportKind::Failed,
            ) => Ok(Outcome::Accepted),
            _ => {
                let active = self.active_attempt(&unit)?;
                let holder = match active.and_then(|attempt| attempt.worker) {
                    Some(worker) => format!("worker {worker}"),
                    None => "another worker".to_owned(),
                };
                Ok(Outcome::Refused(format!(
                    "the lease of work unit {name} was lost; {holder} has it now"
                )))
            }
        }
    }

    /// Another report by the worker whose failure a unit waits to be retried for.
    fn report_after_failure(
        &mut self,
        mut unit: WorkUnit,
        own: Attempt,
        report: &Report<'_>,
    ) -> Result<()> {
        match report.kind {
            ReportKind::Finished => {
                unit.active = Some(own.id);
                self.complete(unit, Some(own), AttemptStatus::Finished, report)
            }
            ReportKind::Available | ReportKind::Failed => {
                self.report_in_turn(unit, None, report, false)
            }
            ReportKind::Pending | ReportKind::Renew => Ok(()),
        }
    }

    /// Keeps what a late report says in the history of its attempt.
    fn note_late_data(&mut self, own: &mut Attempt, report: &Report<'_>) -> Result<()> {
        if let Some(data) = report.data {
            self.store_attempt_data(own, data)?;
        }
        let has_let_go = report.lease == Some(Lease::Over)
            || !matches!(report.kind, ReportKind::Pending | ReportKind::Renew);
        if own.held && has_let_go {
            own.held = false;
            self.store.update_attempt(own)?;
        }
        Ok(())
    }

    /// True if a unit has failed and is to be tried again, and nobody has got it since.
    fn waits_for_retry(&mut self, unit: &WorkUnit) -> Result<bool> {
        let waits = matches!(unit.status, UnitStatus::Available | UnitStatus::Delayed);
        let last = match unit.last {
            Some(last) if waits && unit.failures > 0 => self.store.get_attempt(last)?,
            _ => None,
        };
        Ok(last.is_some_and(|last| last.status == AttemptStatus::Failed))
    }

    /// Makes an attempt whose lease ran out the active one of its available unit again.
    fn reactivate(&mut self, unit: &mut WorkUnit, own: &mut Attempt) -> Result<()> {
        let before = unit.counted();
        if own.lost_its_lease() {
            unit.lost = unit.lost.saturating_sub(1);
        }
        own.status = AttemptStatus::Pending;
        own.end = None;
        own.held = own.worker.is_some();
        let (shortest, longest) = (self.now.plus(LEASE_DEFAULT), self.now.plus(LEASE_MAX));
        own.expiration = own.expiration.clamp(shortest, longest);
        self.store.update_attempt(own)?;
        unit.make_pending(own.id, self.queueing_of(unit));
        Ok(self.store.update_work_unit(self.now, before, unit)?)
    }

    /// Stores data of a unit that no worker has, and delays it if the report asks for that.
    fn amend(&mut self, unit: WorkUnit, report: &Report<'_>) -> Result<()> {
        if let Some(data) = report.data {
            self.store.set_work_unit_data(unit.id, data)?;
        }
        self.delay(unit, report)
    }

    /// Delays a unit that no worker has, if the report asks for that.
    fn delay(&mut self, mut unit: WorkUnit, report: &Report<'_>) -> Result<()> {
        if let Some(delay) = report.delay {
            let before = unit.counted();
            unit.not_before = Some(self.now.plus(delay));
            unit.make_available(self.now, self.queueing_of(&unit));
            self.store.update_work_unit(self.now, before, &unit)?;
        }
        Ok(())
    }

    /// Ends the active attempt of a pending unit and makes the unit available. Its worker is still
    /// believed to be working on it, unless it was the worker that gave it back.
    pub(super) fn give_back(
        &mut self,
        mut unit: WorkUnit,
        active: Option<Attempt>,
        report: &Report<'_>,
        by_holder: bool,
    ) -> Result<()> {
        if let Some(mut attempt) = active {
            let status = match report.delay {
                Some(_) => AttemptStatus::Retryable,
                None => AttemptStatus::Expired,
            };
            attempt.held &= !by_holder;
            self.end_attempt(unit.work_spec, &mut attempt, status)?;
            if let Some(data) = report.data {
                self.store_attempt_data(&attempt, data)?;
            }
        }
        if let Some(delay) = report.delay {
            unit.not_before = Some(self.now.plus(delay));
        }
        let before = unit.counted();
        unit.make_available(self.now, self.queueing_of(&unit));
        Ok(self.store.update_work_unit(self.now, before, &unit)?)
    }

    /// Makes a finished or failed unit available again, with its own data. History is kept.
    pub(super) fn retry(&mut self, mut unit: WorkUnit, report: &Report<'_>) -> Result<()> {
        let before = unit.counted();
        self.lift_cancellation(&unit)?;
        if let Some(data) = report.data {
            self.store.set_work_unit_data(unit.id, data)?;
        }
        unit.not_before = report.delay.map(|delay| self.now.plus(delay));
        unit.start_over(self.attempts_so_far(&unit)?);
        unit.make_available(self.now, self.queueing_of(&unit));
        self.store.update_work_unit(self.now, before, &unit)?;
        if let Some(spec) = self.store.get_work_spec(unit.work_spec) {
            self.effects.audit(Change::of(RETRY, 1).on(&spec.name));
        }
        Ok(())
    }

    /// Renews the lease of the active attempt of a pending unit.
    pub(super) fn renew(&mut self, active: Option<Attempt>, report: &Report<'_>) -> Result<()> {
        let Some(mut attempt) = active else {
            return Ok(());
        };
        if let Some(Lease::For(lease)) = report.lease {
            attempt.expiration = self.now.plus(lease);
        }
        if let Some(worker) = &report.worker {
            attempt.worker = Some(worker.clone());
            attempt.held = true;
        }
        self.store.update_attempt(&attempt)?;
        if let Some(data) = report.data {
            self.store_attempt_data(&attempt, data)?;
        }
        Ok(())
    }

    /// Begins an attempt for a worker that reports the unit as pending.
    fn take(&mut self, mut unit: WorkUnit, report: &Report<'_>) -> Result<()> {
        let before = unit.counted();
        let lease = match report.lease {
            Some(Lease::For(lease)) => lease,
            Some(Lease::Over) if before.status.is_completed() => return Ok(()),
            Some(Lease::Over) => return self.amend(unit, report),
            None => LEASE_DEFAULT,
        };
        let attempt = self.open_attempt(&mut unit, report.worker.as_ref(), lease)?;
        if let Some(data) = report.data {
            self.store_attempt_data(&attempt, data)?;
        }
        Ok(self.store.update_work_unit(self.now, before, &unit)?)
    }

    /// Ends the active attempt, or a new one if there is none, with a result. A unit that has failed may be tried again.
    pub(super) fn complete(
        &mut self,
        mut unit: WorkUnit,
        active: Option<Attempt>,
        status: AttemptStatus,
        report: &Report<'_>,
    ) -> Result<()> {
        let before = unit.counted();
        let mut attempt = match active {
            Some(attempt) => attempt,
            None => self.open_attempt(&mut unit, report.worker.as_ref(), Duration::ZERO)?,
        };
        self.end_attempt(unit.work_spec, &mut attempt, status)?;
        if let Some(data) = report.data {
            self.store_attempt_data(&attempt, data)?;
        }
        if status == AttemptStatus::Finished {
            unit.complete(Completed::Finished);
        } else if let Some(delay) = self.count_failure(&mut unit, report) {
            unit.not_before = Some(self.now.plus(delay));
            unit.make_available(self.now, self.queueing_of(&unit));
        } else {
            unit.complete(Completed::Failed);
        }
        self.store.update_work_unit(self.now, before, &unit)?;
        self.count_outcome(unit.work_spec, status, report.data)?;
        self.effects.completed += usize::from(unit.status.is_completed());
        if unit.status == UnitStatus::Finished {
            self.chain_output(&unit, report.data)?;
        }
        Ok(())
    }

    /// Counts a failure of a unit, and says after how long it is tried again. `None` if the failure is final.
    fn count_failure(&mut self, unit: &mut WorkUnit, report: &Report<'_>) -> Option<Duration> {
        let policy = self.store.get_work_spec(unit.work_spec)?.meta.retry?;
        unit.failures += 1;
        if report.is_final || unit.failures > policy.retries {
            return None;
        }
        let by_policy = || policy.delay(unit.failures, self.random);
        Some(report.delay.unwrap_or_else(by_policy))
    }

    /// Stores the data of a repeated result.
    fn amend_completed(&mut self, active: Option<Attempt>, report: &Report<'_>) -> Result<()> {
        if let Some(data) = report.data
            && let Some(attempt) = active
        {
            self.store_attempt_data(&attempt, data)?;
        }
        Ok(())
    }

    /// Fails an available unit that has had all its retries, in the name of `worker`, which would have got it.
    pub(super) fn fail_after_too_many_retries(
        &mut self,
        mut unit: WorkUnit,
        worker: &Name,
    ) -> Result<()> {
        let before = unit.counted();
        let mut attempt = self.open_attempt(&mut unit, Some(worker), Duration::ZERO)?;
        self.end_attempt(unit.work_spec, &mut attempt, AttemptStatus::Failed)?;
        self.store_attempt_data(&attempt, TOO_MANY_RETRIES)?;
        unit.complete(Completed::Failed);
        self.effects.completed += 1;
        Ok(self.store.update_work_unit(self.now, before, &unit)?)
    }

    /// Looks up the spec of a unit's successor, if it has one that exists.
    pub(super) fn successor_of(&self, spec: WorkSpecId) -> Option<(Name, Option<WorkSpecId>)> {
        let then = self.store.get_work_spec(spec)?.meta.then.clone()?;
        let id = self
            .store
            .find_work_spec(self.namespace, &then)
            .map(|spec| spec.id);
        Some((then, id))
    }
}

/// `{"traceback": "too many retries"}`, in text, which JSON has too.
const TOO_MANY_RETRIES: &[u8] = b"\xa1\x69traceback\x70too many retries";
