//! Times in the file that are compared with the present, and what becomes of them when the clock is set.
//!
//! Ends of leases, of delays, of workers' lifetimes and of locks, next continuous units, when a rate allows a burst
//! again, and what ages are counted from, are times of the daemon's clock. While the daemon runs, they are moved with that
//! clock, so that everything keeps the time that it had left. Runs of schedules are times of the wall clock: they stay, and the
//! next one is planned anew whenever the clock may have been set back. If the clock was set while no daemon ran, the step is not
//! known, and the others are
//! clamped to what is possible. What has ended is history, and stays as it was recorded. The end of a token stays too: it is a
//! date that a person chose.

use super::SqliteStore;
use super::statement::statements;
use crate::clock::{ClockStep, SystemClock, Timestamp};
use crate::coordinate::storage::{Storage, StorageResult};
use crate::coordinate::{LEASE_MAX, LOCK_TIMEOUT_MAX, Meta};
use rusqlite::named_params;
use std::time::Duration;

statements! {
    /// Uses index attempt_pending.
    MOVE_LEASES = "
        UPDATE attempt SET start_us = start_us + :step, expiration_us = expiration_us + :step
         WHERE status = 3";

    /// Uses index work_unit_delayed.
    MOVE_DELAYS = "UPDATE work_unit SET not_before_us = not_before_us + :step WHERE status = 2";

    /// Units that were taken during their delay, which continues if they are given back. Uses index
    /// attempt_pending.
    MOVE_DELAYS_OF_PENDING = "
        UPDATE work_unit SET not_before_us = not_before_us + :step
         WHERE id IN (SELECT work_unit_id FROM attempt WHERE status = 3) AND not_before_us IS NOT NULL";

    MOVE_WORKERS = "
        UPDATE worker SET heartbeat_us = heartbeat_us + :step, expiration_us = expiration_us + :step";

    MOVE_LOCKS = "UPDATE lock SET expiration_us = expiration_us + :step";

    LAST_HEARTBEAT = "SELECT max(heartbeat_us) FROM worker";

    /// Uses index attempt_pending.
    BOUND_LEASES = "
        UPDATE attempt SET expiration_us = max(:earliest, min(:latest, expiration_us))
         WHERE status = 3 AND (expiration_us < :earliest OR expiration_us > :latest)";

    /// Uses index worker_by_expiration.
    BOUND_LIFETIMES = "
        UPDATE worker SET expiration_us = max(:earliest, min(:latest, expiration_us))
         WHERE expiration_us < :earliest OR expiration_us > :latest";

    /// Uses index lock_by_expiration.
    BOUND_LOCKS = "UPDATE lock SET expiration_us = :latest WHERE expiration_us > :latest";
}

impl SqliteStore {
    /// See [`Storage::move_times`].
    pub(super) fn move_all_times(&mut self, step: ClockStep, now: Timestamp) -> StorageResult<()> {
        for sql in [
            MOVE_LEASES,
            MOVE_DELAYS,
            MOVE_DELAYS_OF_PENDING,
            MOVE_WORKERS,
            MOVE_LOCKS,
        ] {
            self.statements
                .prepared(sql)?
                .execute(named_params! {":step": step.0})?;
        }
        self.change_spec_times(
            |_, next| next.moved(step),
            |since| since.moved(step),
            |_, full| full.moved(step),
        )?;
        self.plan_runs(now)?;
        self.refresh_due()
    }

    /// Brings times that were written before the daemon was down to what can still be true at its start. Leases and
    /// workers that ran out meanwhile get a grace, so that those who are still there can say so.
    ///
    /// If the clock was set back meanwhile, nothing may last longer for it. If a worker was heard of in what is the
    /// future now, the clock went back at least that far, and all times are moved back with it. What still is later than
    /// it can be ends when it would end if it had begun now. (A delay can have any length.)
    pub(super) fn settle_times(&mut self, grace: Duration, now: Timestamp) -> StorageResult<()> {
        let last_heartbeat: Option<Timestamp> = self
            .statements
            .prepared(LAST_HEARTBEAT)?
            .query_row(&[], |row| row.get(0))?;
        if let Some(to_come) = last_heartbeat.filter(|last| *last > now.plus(SystemClock::STEP_MIN))
        {
            let step = ClockStep::between(to_come, now);
            tracing::warn!("the wall clock was set {step} since the database was last in use");
            self.move_all_times(step, now)?;
        }
        let (earliest, latest) = (now.plus(grace), now.plus(LEASE_MAX.max(grace)));
        for sql in [BOUND_LEASES, BOUND_LIFETIMES] {
            self.statements
                .prepared(sql)?
                .execute(named_params! {":earliest": earliest, ":latest": latest})?;
        }
        self.statements
            .prepared(BOUND_LOCKS)?
            .execute(named_params! {":latest": now.plus(LOCK_TIMEOUT_MAX)})?;
        let latest_continuous = |meta: &Meta| now.plus(meta.interval.unwrap_or_default());
        self.change_spec_times(
            |meta, next| next.min(latest_continuous(meta)),
            |since| since.min(now),
            |meta, full| meta.max_rate.map_or(full, |rate| rate.bounded(full, now)),
        )?;
        self.plan_runs(now)?;
        self.refresh_due()
    }
}
