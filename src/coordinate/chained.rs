//! How much the reports of one operation have chained.

use super::AttemptId;
use crate::limits;

/// What the finishes of one operation have chained.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chained {
    units: usize,
    bytes: usize,
    /// The attempt of whose output slices were kept for [`Operation::chain_slice_of`]. There is at most one in an
    /// operation that does nothing more once that is enough.
    pub unfinished: Option<AttemptId>,
}

impl Chained {
    /// True if that is as much as one operation should do.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.units >= limits::SLICE_ITEMS || self.bytes >= limits::SLICE_BYTES
    }

    /// Counts units that are added, and bytes of output that are read.
    pub(super) fn count(&mut self, units: usize, bytes: usize) {
        self.units += units;
        self.bytes += bytes;
    }
}
