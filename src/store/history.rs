//! What has happened in each work spec, by minute and by hour.

use super::SqliteStore;
use super::statement::{prepared, statements};
use crate::clock::Timestamp;
use crate::coordinate::storage::{ArchiveStore, HistoryStore, StorageResult};
use crate::coordinate::{
    Completed, Counts, Error, Period, Result, StorageError, Tally, WorkSpecId,
};
use rusqlite::{Connection, OptionalExtension, named_params};
use std::time::Duration;

statements! {
    ADD_TO_HISTORY = "
        INSERT INTO history (work_spec_id, period_s, start_us, added, started, finished, failed, expired, run_us)
        VALUES (:spec, :period, :start, :added, :started, :finished, :failed, :expired, :run)
            ON CONFLICT (work_spec_id, period_s, start_us)
            DO UPDATE SET added = added + :added, started = started + :started, finished = finished + :finished,
                          failed = failed + :failed, expired = expired + :expired, run_us = run_us + :run";

    DELETE_OLD_HISTORY = "
        DELETE FROM history WHERE work_spec_id = :spec AND period_s = :period AND start_us < :before";

    /// Of a deleted work spec. There are at most as many rows as are kept of one.
    DELETE_HISTORY = "DELETE FROM history WHERE work_spec_id = :spec";

    LIST_HISTORY = "
        SELECT start_us, added, started, finished, failed, expired, run_us
          FROM history
         WHERE work_spec_id = :spec AND period_s = :period AND start_us >= :from
         ORDER BY start_us";

    PUT_WRITTEN = "
        INSERT INTO history_written (id, at_us, mark) VALUES (1, :at, :mark)
            ON CONFLICT (id) DO UPDATE SET at_us = :at, mark = :mark";

    SELECT_WRITTEN = "SELECT at_us FROM history_written WHERE id = 1 AND mark <> :mark";

    PUT_GAP = "
        INSERT INTO history_gap (start_us, end_us) VALUES (:start, :end)
            ON CONFLICT (start_us) DO UPDATE SET end_us = :end";

    DELETE_OLD_GAPS = "DELETE FROM history_gap WHERE start_us < :before";

    LIST_GAPS = "SELECT start_us, end_us FROM history_gap WHERE start_us >= :oldest ORDER BY start_us";
}

fn seconds_of(period: Period) -> u64 {
    period.length().as_secs()
}

impl SqliteStore {
    /// Removes the history of a deleted spec.
    pub(super) fn delete_history_of(&mut self, spec: WorkSpecId) -> StorageResult<()> {
        self.statements
            .prepared(DELETE_HISTORY)?
            .execute(named_params! {":spec": spec})?;
        Ok(())
    }

    /// What the queue is like now. It is another one whenever something has happened that the history tells.
    fn history_mark(&self) -> String {
        let mut all = Counts::default();
        for cached in self.specs.by_id.values() {
            all += cached.spec.counts;
        }
        format!(
            "{} {} {} {} {}",
            self.newest_attempt().0,
            all.available + all.delayed,
            all.pending,
            all.shown(Completed::Finished),
            all.shown(Completed::Failed)
        )
    }
}

impl HistoryStore for SqliteStore {
    fn add_to_history(
        &mut self,
        spec: WorkSpecId,
        minute: Timestamp,
        tally: &Tally,
    ) -> StorageResult<()> {
        let run = i64::try_from(tally.run.as_micros()).unwrap_or(i64::MAX);
        for period in Period::BOTH {
            self.statements
                .prepared(ADD_TO_HISTORY)?
                .execute(named_params! {
                    ":spec": spec,
                    ":period": seconds_of(period),
                    ":start": period.start(minute),
                    ":added": tally.added,
                    ":started": tally.started,
                    ":finished": tally.finished,
                    ":failed": tally.failed,
                    ":expired": tally.expired,
                    ":run": run,
                })?;
            self.statements
                .prepared(DELETE_OLD_HISTORY)?
                .execute(named_params! {
                    ":spec": spec,
                    ":period": seconds_of(period),
                    ":before": period.start(minute.minus(period.kept())),
                })?;
        }
        Ok(())
    }

    fn end_history(&mut self, now: Timestamp) -> StorageResult<()> {
        let mark = self.history_mark();
        self.statements
            .prepared(PUT_WRITTEN)?
            .execute(named_params! {":at": now, ":mark": mark})?;
        Ok(())
    }

    fn begin_history(&mut self, now: Timestamp) -> StorageResult<()> {
        let mark = self.history_mark();
        let written: Option<Timestamp> = self
            .statements
            .prepared(SELECT_WRITTEN)?
            .query_row(named_params! {":mark": mark}, |row| row.get(0))
            .optional()?;
        if let Some(written) = written {
            self.statements
                .prepared(PUT_GAP)?
                .execute(named_params! {":start": written, ":end": now})?;
            self.statements
                .prepared(DELETE_OLD_GAPS)?
                .execute(named_params! {":before": now.minus(Period::Hour.kept())})?;
        }
        self.end_history(now)
    }
}

/// Shows `visit` the periods of a work spec from `from` on in which something happened, in their order.
pub(super) fn list_history(
    connection: &Connection,
    spec: WorkSpecId,
    period: Period,
    from: Timestamp,
    visit: &mut dyn FnMut(Timestamp, &Tally) -> Result<()>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let mut statement = prepared(connection, LIST_HISTORY).map_err(storage)?;
    let mut rows = statement
        .query(named_params! {":spec": spec, ":period": seconds_of(period), ":from": from})
        .map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        let tally = || {
            Ok(Tally {
                added: row.get(1)?,
                started: row.get(2)?,
                finished: row.get(3)?,
                failed: row.get(4)?,
                expired: row.get(5)?,
                run: Duration::from_micros(row.get(6)?),
            })
        };
        visit(row.get(0).map_err(storage)?, &tally().map_err(storage)?)?;
    }
    Ok(())
}

/// The times that ended after `from` of which something may be missing, in their order.
pub(super) fn history_gaps(
    connection: &Connection,
    from: Timestamp,
) -> Result<Vec<(Timestamp, Timestamp)>> {
    let gaps = || {
        let mut statement = prepared(connection, LIST_GAPS)?;
        let oldest = from.minus(Period::Hour.kept());
        let rows = statement.query_map(named_params! {":oldest": oldest}, |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
        rows.collect::<rusqlite::Result<Vec<(Timestamp, Timestamp)>>>()
    };
    let mut gaps = gaps().map_err(StorageError::from)?;
    gaps.retain(|(_, end)| *end > from);
    Ok(gaps)
}
