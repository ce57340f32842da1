//! Archiving completed units beyond the configured limits, by itself.

use super::Engine;
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{ArchivePass, Result};
use crate::limits;
use std::time::Duration;

/// How long the daemon waits between two passes. Only what was completed meanwhile is beyond the limits by then,
/// and each pass has to find only that.
const ARCHIVE_PAUSE: Duration = Duration::from_secs(10);

/// Rows that one step may archive for each unit that was completed since the step before: those of three units with
/// one attempt each, so that archiving is faster than completing.
const ROWS_PER_COMPLETED: usize = 6;

/// How far archiving has come.
#[derive(Default)]
pub(super) struct Archiver {
    /// The pass that has begun and is not over.
    pass: Option<ArchivePass>,
    /// When the next pass begins.
    pub(super) next: Timestamp,
    /// How many units were completed since the last step.
    completed: usize,
}

impl Archiver {
    /// Counts units that were completed.
    pub(super) fn note_completed(&mut self, count: usize) {
        self.completed = self.completed.saturating_add(count);
    }
}

impl<S: Storage> Engine<S> {
    /// Does a step of archiving, if a pass is due: the more units were completed since the last step, the more it
    /// archives, within bounds. Returns the time of the next step, which is now if there is more to do; `None` if there
    /// are no limits.
    pub(super) fn archive(&mut self, now: Timestamp) -> Result<Option<Timestamp>> {
        let retention = self.settings.retention;
        if !retention.has_limits() {
            return Ok(None);
        }
        if self.archiver.pass.is_none() && now < self.archiver.next {
            return Ok(Some(self.archiver.next));
        }
        let begun = self.archiver.pass.take();
        let completed = std::mem::take(&mut self.archiver.completed);
        // What was completed between two passes is no measure of how much is completed now.
        let completed = if begun.is_some() { completed } else { 0 };
        let rows_max = completed
            .saturating_mul(ROWS_PER_COMPLETED)
            .clamp(limits::SWEEP_REMOVED, limits::SWEEP_ARCHIVED_MAX);
        let archived_before = begun.as_ref().map_or(0, ArchivePass::archived);
        let pass = self.operation(self.namespace, Access::Write, now, |mut operation| {
            let first;
            let pass = match &begun {
                Some(pass) => pass,
                None => {
                    first = operation.begin_archive_pass_everywhere();
                    &first
                }
            };
            operation.archive_some(&retention, pass, rows_max)
        })?;
        let archived = pass.archived() - archived_before;
        if archived > 0 {
            tracing::debug!(units = archived, "archived");
        }
        if pass.is_over() {
            self.archiver.next = now.plus(ARCHIVE_PAUSE);
            return Ok(Some(self.archiver.next));
        }
        self.archiver.pass = Some(pass);
        Ok(Some(now))
    }
}
