//! `--halt-after`: ends the worker when its programs fail one after the other.

use coordinated_client::worker::{Outcome, Stopper};
use std::sync::{Mutex, PoisonError};

/// Counts the units that have failed in a row.
pub(super) struct Halt {
    /// After how many the worker ends.
    after: Option<u64>,
    in_a_row: Mutex<u64>,
    stopper: Stopper,
}

impl Halt {
    pub(super) fn new(after: Option<u64>, stopper: Stopper) -> Self {
        Self {
            after,
            in_a_row: Mutex::new(0),
            stopper,
        }
    }

    /// Counts a unit as soon as its program has ended, and lets the worker end if it was one too many. Then it returns what
    /// to tell. After that, the units that are still running change nothing.
    pub(super) fn count(&self, outcome: &Outcome) -> Option<String> {
        let after = self.after?;
        let mut in_a_row = self.in_a_row.lock().unwrap_or_else(PoisonError::into_inner);
        if *in_a_row >= after {
            return None;
        }
        match outcome {
            Outcome::Failed { .. } => *in_a_row += 1,
            Outcome::Finished { .. } => *in_a_row = 0,
            Outcome::GivenBack { .. } => {}
        }
        if *in_a_row < after {
            return None;
        }
        self.stopper.drain();
        let what = in_words(after);
        Some(format!("{what}: waiting for running programs to end"))
    }

    /// # Errors
    /// If too many units have failed in a row.
    pub(super) fn check(&self) -> Result<(), String> {
        let in_a_row = *self.in_a_row.lock().unwrap_or_else(PoisonError::into_inner);
        match self.after {
            Some(after) if in_a_row >= after => {
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
