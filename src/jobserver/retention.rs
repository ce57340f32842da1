//! Archiving completed units: when somebody asks for it, and by itself.

use super::JobServer;
use super::method::Call;
use super::params::Options;
use super::steps::Steps;
use crate::cbor::Writer;
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{Archival, Operation, Result, Retention};
use crate::limits;
use std::time::Duration;

/// How long the daemon waits from one look for units to archive to the next. Their numbers are beyond the
/// limit by what is completed meanwhile, and each look has to find only that.
const ARCHIVE_PAUSE: Duration = Duration::from_secs(10);

/// What the daemon does by itself.
#[derive(Default)]
pub(super) struct Archiver {
    /// What it is at.
    archival: Option<Archival>,
    /// When it looks again.
    next: Timestamp,
    /// How many rows had been written after its last step, by it and others.
    rows_written: u64,
}

/// Removes completed units beyond the configured limits; without any it does nothing. The answer waits until
/// all is done.
pub(super) fn archive<S: Storage>(call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<()> {
    let options = Options::read(call.params.get("options"))?;
    let names = options.get("work_spec_names").optional_names()?;
    let retention = *call.daemon.retention;
    if !retention.has_limits() {
        Writer::new(out).null();
        return Ok(());
    }
    let archival = call.operation.begin_archival(names.as_deref());
    call.begin(Steps::Archive(retention, archival), out)
}

impl<S: Storage> JobServer<S> {
    /// Archives some of what is beyond the limits, whenever it is time to look: as many rows as others have
    /// written since the last step, as far as that makes sense. Gives the time of the next look, which is
    /// now if there is more to do.
    pub(super) fn archive_by_itself(&mut self, now: Timestamp) -> Result<Option<Timestamp>> {
        let retention: Retention = self.settings.retention;
        if !retention.has_limits() {
            return Ok(None);
        }
        if self.archiver.archival.is_none() && now < self.archiver.next {
            return Ok(Some(self.archiver.next));
        }
        if self.archiver.archival.is_none() {
            self.archiver.rows_written = self.world.store.rows_written();
        }
        let by_others = self.world.store.rows_written() - self.archiver.rows_written;
        let rows_max = usize::try_from(by_others)
            .unwrap_or(usize::MAX)
            .clamp(limits::SWEEP_REMOVED, limits::SWEEP_ARCHIVED_MAX);
        let limits = &self.settings.limits;
        let underway = &mut self.archiver.archival;
        let archive = |mut operation: Operation<'_, S>| {
            let archival = underway.get_or_insert_with(|| operation.begin_archival(None));
            operation.archive_some(&retention, archival, rows_max)
        };
        let archived = self.world.operation(limits, Access::Write, now, archive)?;
        self.archiver.rows_written = self.world.store.rows_written();
        if archived > 0 {
            tracing::debug!(units = archived, "archived");
        }
        if self
            .archiver
            .archival
            .as_ref()
            .is_some_and(Archival::is_over)
        {
            self.archiver.archival = None;
            self.archiver.next = now.plus(ARCHIVE_PAUSE);
            return Ok(Some(self.archiver.next));
        }
        Ok(Some(now))
    }
}
