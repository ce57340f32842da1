//! Pausing a work spec whose units fail.

use super::attempt_units::traceback_of;
use crate::coordinate::failure::failure_message;
use crate::coordinate::halt::HALTED_BY;
use crate::coordinate::storage::Storage;
use crate::coordinate::{AttemptStatus, Operation, Outcomes, Pause, Result, WorkSpecId};
use crate::limits;

impl<S: Storage> Operation<'_, S> {
    /// Counts an attempt that has ended with this status for the `halt_after` of its work spec, if there is one, and pauses
    /// the work spec if too many have failed. `data` may hold the traceback of a failure.
    ///
    /// Nothing is counted while the work spec is paused: attempts that were under way say nothing about what was changed
    /// meanwhile.
    pub(super) fn count_outcome(
        &mut self,
        id: WorkSpecId,
        status: AttemptStatus,
        data: Option<&[u8]>,
    ) -> Result<()> {
        let Some(spec) = self.store.get_work_spec(id) else {
            return Ok(());
        };
        let Some(halt_after) = spec.meta.halt_after.filter(|_| spec.meta.paused.is_none()) else {
            return Ok(());
        };
        let mut recent = spec.recent;
        let has_failed = status == AttemptStatus::Failed;
        if let Some(why) = halt_after.count(&mut recent.outcomes, has_failed) {
            let mut meta = spec.meta.clone();
            let reason = with_last_message(why, data);
            tracing::warn!(work_spec = %spec.name, reason, "paused by halt_after");
            let pause = Pause {
                reason: Some(reason),
                by: Some(HALTED_BY.to_owned()),
                since: None,
            };
            meta.pause(pause, self.now);
            self.store.update_work_spec_meta(id, &meta)?;
            recent.outcomes = Outcomes::default();
        }
        self.store.set_recent(id, recent);
        Ok(())
    }
}

/// Why a work spec is paused, with the message of the last failure if it has one. Messages of failures are for people, as
/// the reasons of pauses are.
fn with_last_message(why: String, data: Option<&[u8]>) -> String {
    let Some(traceback) = data.and_then(traceback_of) else {
        return why;
    };
    let message = failure_message(Some(&traceback));
    let mut reason = format!("{why}; the last one: {message}");
    reason.truncate(reason.floor_char_boundary(limits::PAUSE_TEXT_BYTES_MAX));
    reason
}
