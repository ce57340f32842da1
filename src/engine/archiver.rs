//! Archiving completed units beyond the configured limits, by itself.

use super::Engine;
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{Archival, Result};
use crate::limits;
use std::time::Duration;

/// How long the daemon waits from one look for units to archive to the next. Their numbers are beyond the
/// limit by what is completed meanwhile, and each look has to find only that.
const ARCHIVE_PAUSE: Duration = Duration::from_secs(10);

/// How far archiving has come.
#[derive(Default)]
pub(super) struct Archiver {
    /// The pass that has begun and is not over.
    archival: Option<Archival>,
    /// When the next pass begins.
    pub(super) next: Timestamp,
    /// How many rows had been written after the last step, by it and others.
    rows_written: u64,
}

impl<S: Storage> Engine<S> {
    /// Archives some of what is beyond the limits, when a pass is due: as many rows as others have written since the
    /// last step, within bounds. Gives the time of the next step, which is now if there is more to do; `None` if there
    /// are no limits.
    pub(super) fn archive(&mut self, now: Timestamp) -> Result<Option<Timestamp>> {
        let retention = self.settings.retention;
        if !retention.has_limits() {
            return Ok(None);
        }
        if self.archiver.archival.is_none() && now < self.archiver.next {
            return Ok(Some(self.archiver.next));
        }
        let pass = self.archiver.archival.take();
        if pass.is_none() {
            self.archiver.rows_written = self.store.rows_written();
        }
        let by_others = self.store.rows_written() - self.archiver.rows_written;
        let rows_max = usize::try_from(by_others)
            .unwrap_or(usize::MAX)
            .clamp(limits::SWEEP_REMOVED, limits::SWEEP_ARCHIVED_MAX);
        let (pass, archived) = self.operation(Access::Write, now, |mut operation| {
            let mut pass = pass.unwrap_or_else(|| operation.begin_archival(None));
            let archived = operation.archive_some(&retention, &mut pass, rows_max)?;
            Ok((pass, archived))
        })?;
        self.archiver.rows_written = self.store.rows_written();
        if archived > 0 {
            tracing::debug!(units = archived, "archived");
        }
        if pass.is_over() {
            self.archiver.next = now.plus(ARCHIVE_PAUSE);
            return Ok(Some(self.archiver.next));
        }
        self.archiver.archival = Some(pass);
        Ok(Some(now))
    }
}
