//! The columns of a work spec and its counts, read and written.

use super::cached_specs::{CachedSpec, CompletedAfter};
use crate::clock::Timestamp;
use crate::coordinate::{
    Counts, FailureRate, HaltAfter, MaxRate, Meta, Missed, Order, Outcomes, Overlap, Pause, Recent,
    RetryPolicy, Schedule, WorkSpec,
};
use rusqlite::Row;
use rusqlite::types::FromSql;
use std::time::Duration;

/// Microseconds for a column.
pub(super) fn us(duration: Option<Duration>) -> Option<i64> {
    duration.map(|duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

/// The columns of a schedule.
const SCHEDULE_COLUMNS: usize = 7;

/// The columns of a row, one after the other: looking each one up by its name takes longer than all else there is
/// to loading work specs.
pub(super) struct Columns<'r>(pub(super) &'r Row<'r>, pub(super) usize);

impl Columns<'_> {
    pub(super) fn next<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.1 += 1;
        self.0.get(self.1 - 1)
    }

    pub(super) fn next_pause(&mut self) -> rusqlite::Result<Option<Pause>> {
        let is_paused: bool = self.next()?;
        let pause = Pause {
            reason: self.next()?,
            by: self.next()?,
            since: self.next()?,
        };
        // Another program may have resumed it.
        Ok(is_paused.then_some(pause))
    }

    pub(super) fn next_limit(&mut self) -> rusqlite::Result<Option<u64>> {
        let limit: Option<i64> = self.next()?;
        Ok(limit.and_then(|limit| u64::try_from(limit).ok()))
    }

    pub(super) fn next_duration(&mut self) -> rusqlite::Result<Option<Duration>> {
        let us: Option<i64> = self.next()?;
        Ok(us.map(|us| Duration::from_micros(u64::try_from(us).unwrap_or(0))))
    }

    /// All of its columns are null if there is none.
    pub(super) fn next_retry_policy(&mut self) -> rusqlite::Result<Option<RetryPolicy>> {
        let retries = self.next_limit()?;
        let policy = RetryPolicy {
            retries: retries.unwrap_or_default(),
            delay: self.next_duration()?.unwrap_or_default(),
            backoff: self.next::<Option<f64>>()?.unwrap_or(1.0),
            delay_max: self.next_duration()?.unwrap_or(RetryPolicy::DELAY_MAX),
            jitter: self.next::<Option<f64>>()?.unwrap_or(0.0),
        };
        Ok(retries.is_some().then_some(policy))
    }

    /// The same.
    pub(super) fn next_schedule(&mut self) -> rusqlite::Result<Option<Box<Schedule>>> {
        let expression: Option<String> = self.next()?;
        let Some(expression) = expression else {
            self.1 += SCHEDULE_COLUMNS - 1;
            return Ok(None);
        };
        let timezone: Option<String> = self.next()?;
        let overlap: Option<String> = self.next()?;
        let missed: Option<String> = self.next()?;
        let overlap = Overlap::ALL
            .into_iter()
            .find(|one| Some(one.word()) == overlap.as_deref());
        let missed = Missed::ALL
            .into_iter()
            .find(|one| Some(one.word()) == missed.as_deref());
        Ok(Some(Box::new(Schedule {
            expression,
            timezone: timezone.unwrap_or_default(),
            // Another program may have written another word.
            overlap: overlap.unwrap_or_default(),
            missed: missed.unwrap_or_default(),
            next: self.next()?,
            last: self.next()?,
            skipped: self.next()?,
        })))
    }

    /// None if another program has written what is no rate.
    pub(super) fn next_max_rate(&mut self) -> rusqlite::Result<Option<MaxRate>> {
        let rate: Option<String> = self.next()?;
        let burst: Option<u32> = self.next()?;
        let rate = rate.and_then(|rate| MaxRate::from_text(&rate));
        Ok(rate.map(|rate| rate.with_burst(burst.unwrap_or(1))))
    }

    /// All of its columns are null if there is none.
    pub(super) fn next_halt_after(&mut self) -> rusqlite::Result<Option<HaltAfter>> {
        let failures = self.next_limit()?;
        let (share, min) = (self.next::<Option<f64>>()?, self.next_limit()?);
        let rate = share.map(|share| FailureRate {
            share,
            min: min.unwrap_or(FailureRate::MIN_DEFAULT),
        });
        Ok((failures.is_some() || rate.is_some()).then_some(HaltAfter { failures, rate }))
    }

    pub(super) fn next_recent(&mut self) -> rusqlite::Result<Recent> {
        Ok(Recent {
            full_at: self.next()?,
            outcomes: Outcomes {
                failed_in_a_row: self.next_count()?,
                attempts: self.next_count()?,
                finished: self.next()?,
                failed: self.next()?,
            },
        })
    }

    pub(super) fn next_count(&mut self) -> rusqlite::Result<u64> {
        Ok(u64::try_from(self.next::<i64>()?).unwrap_or(0))
    }

    pub(super) fn next_counts(&mut self) -> rusqlite::Result<Counts> {
        Ok(Counts {
            available: self.next_count()?,
            delayed: self.next_count()?,
            retrying: self.next_count()?,
            pending: self.next_count()?,
            finished: self.next_count()?,
            failed: self.next_count()?,
            archived_finished: self.next_count()?,
            archived_failed: self.next_count()?,
        })
    }

    pub(super) fn next_waiting_since(
        &mut self,
        counts: &Counts,
    ) -> rusqlite::Result<Option<Timestamp>> {
        let since: Option<Timestamp> = self.next()?;
        // Another program may have changed one of them without the other.
        Ok(since.filter(|_| counts.available > 0))
    }
}

/// A row of `LOAD_WORK_SPECS` (specs.rs).
pub(super) fn row_to_cached(row: &Row<'_>) -> rusqlite::Result<CachedSpec> {
    let mut columns = Columns(row, 0);
    let (id, namespace, name) = (columns.next()?, columns.next()?, columns.next()?);
    // Fields are evaluated in the order in which they are written.
    let meta = Meta {
        paused: columns.next_pause()?,
        weight: columns.next()?,
        priority: columns.next()?,
        continuous: columns.next()?,
        can_be_continuous: columns.next()?,
        interval: columns.next_duration()?,
        next_continuous: columns.next()?,
        max_running: columns.next_limit()?,
        max_getwork: columns.next_limit()?,
        max_retries: columns.next_limit()?,
        retry: columns.next_retry_policy()?,
        max_lost: columns.next_limit()?,
        then: columns.next()?,
        runtime: columns.next()?,
        min_gb: columns.next()?,
        schedule: columns.next_schedule()?,
        order: match columns.next()? {
            true => Order::Added,
            false => Order::Name,
        },
        fair: columns.next()?,
        max_running_per_group: columns.next_limit()?,
        max_rate: columns.next_max_rate()?,
        halt_after: columns.next_halt_after()?,
    };
    let counts = columns.next_counts()?;
    let passed_name = columns.next()?;
    let waiting_since = columns.next_waiting_since(&counts)?;
    let completed_after = CompletedAfter {
        finished: columns.next()?,
        failed: columns.next()?,
    };
    let (sequence, former_queue) = (columns.next()?, columns.next()?);
    let recent = columns.next_recent()?;
    Ok(CachedSpec {
        namespace,
        spec: WorkSpec {
            id,
            name,
            meta,
            counts,
            waiting_since,
            groups_are_full: false,
            recent,
        },
        passed_name,
        completed_after,
        sequence,
        former_queue,
    })
}

/// A limit for a column: what is beyond SQLite's integers is no limit in practice.
pub(super) fn limit_column(limit: Option<u64>) -> Option<i64> {
    limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX))
}
