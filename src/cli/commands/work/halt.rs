//! `--halt-after`: ends the worker when its programs fail one after the other.

use coordinated_client::worker::{Ending, Stopper};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the units that have failed in a row.
pub(super) struct Halt {
    /// After how many the worker ends.
    after: Option<u64>,
    in_a_row: AtomicU64,
    stopper: Stopper,
}

impl Halt {
    pub(super) fn new(after: Option<u64>, stopper: Stopper) -> Self {
        Self {
            after,
            in_a_row: AtomicU64::new(0),
            stopper,
        }
    }

    /// Counts a unit, and lets the worker end if it was one too many. Then it returns what to tell.
    ///
    /// Once that has happened, the units that are still running change nothing.
    pub(super) fn count(&self, ending: &Ending) -> Option<String> {
        let after = self.after?;
        let before = self.in_a_row.load(Ordering::Relaxed);
        if before >= after {
            return None;
        }
        match ending {
            Ending::Failed(_) | Ending::Retried { .. } => {}
            Ending::Finished => {
                self.in_a_row.store(0, Ordering::Relaxed);
                return None;
            }
            Ending::GivenBack(_) | Ending::Lost(_) => return None,
        }
        self.in_a_row.store(before + 1, Ordering::Relaxed);
        if before + 1 < after {
            return None;
        }
        self.stopper.drain();
        Some(format!(
            "{}: waiting for running programs to end",
            in_words(after)
        ))
    }

    /// # Errors
    /// If too many units have failed in a row.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.after {
            Some(after) if self.in_a_row.load(Ordering::Relaxed) >= after => {
                Err(format!("ended since {} (--halt-after)", in_words(after)))
            }
            _ => Ok(()),
        }
    }
}

fn in_words(count: u64) -> String {
    match count {
        1 => "a unit has failed".to_owned(),
        count => format!("{count} units in a row have failed"),
    }
}
