//! Retention: which finished and failed units stay. The others are archived: see [`super::operations`].

use std::time::Duration;

/// Which finished and failed units stay; all, if there are no limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How many finished ones each work spec keeps, and how many failed ones.
    pub count: Option<u64>,
    /// How long they are kept after their completion.
    pub age: Option<Duration>,
}

impl Retention {
    /// True if there is any limit.
    #[must_use]
    pub fn has_limits(&self) -> bool {
        self.count.is_some() || self.age.is_some()
    }
}
