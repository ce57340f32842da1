//! How units end.

use crate::cbor::Value;
use std::time::Duration;

/// How a unit ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is done.
    Finished {
        /// The data that it has now; `None` leaves those it had. An `output` in them adds units to the work spec
        /// that `then` names.
        data: Option<Value>,
    },
    /// It can't be done.
    Failed {
        /// What went wrong, for people; failures are grouped by its last line.
        traceback: String,
    },
    /// It is to be tried again later.
    GivenBack {
        /// Not before so much time has passed.
        delay: Duration,
    },
}

impl Outcome {
    /// It is done, and its data stay as they are.
    #[must_use]
    pub fn finished() -> Self {
        Self::Finished { data: None }
    }

    /// It is done, and has these data now: a map.
    #[must_use]
    pub fn finished_with(data: Value) -> Self {
        Self::Finished { data: Some(data) }
    }

    /// It can't be done, for this reason.
    pub fn failed(traceback: impl Into<String>) -> Self {
        Self::Failed {
            traceback: traceback.into(),
        }
    }

    /// It is to be tried again, by whatever worker, but not before this time has passed.
    #[must_use]
    pub fn given_back(delay: Duration) -> Self {
        Self::GivenBack { delay }
    }
}

/// How many units of a worker ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that are done.
    pub finished: u64,
    /// Those that can't be done.
    pub failed: u64,
    /// Those that were given back for later.
    pub given_back: u64,
    /// Those that were lost to another worker, or deleted meanwhile.
    pub lost: u64,
}

/// What became of a unit in the end.
#[derive(Debug)]
pub enum Ending {
    /// It is finished.
    Finished,
    /// It failed, with this traceback.
    Failed(String),
    /// It is to be tried again after this time.
    GivenBack(Duration),
    /// The daemon refused the report, or the renewal of the lease, for this reason.
    Lost(String),
}

impl Tally {
    pub(super) fn count(&mut self, ending: &Ending) {
        *match ending {
            Ending::Finished => &mut self.finished,
            Ending::Failed(_) => &mut self.failed,
            Ending::GivenBack(_) => &mut self.given_back,
            Ending::Lost(_) => &mut self.lost,
        } += 1;
    }
}
