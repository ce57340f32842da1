//! How much the engine has done, and what is in its queue.

use super::Engine;
use crate::coordinate::Counts;
use crate::coordinate::storage::{Storage, StorageStatistics};

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    batches: u64,
    commits: u64,
    operations: u64,
    committed_operations: u64,
}

impl Totals {
    /// Counts a batch that ends.
    pub(super) fn count(&mut self, operations: usize, may_have_written: bool) {
        if operations == 0 {
            return;
        }
        let operations = operations as u64;
        self.batches += 1;
        self.operations += operations;
        if may_have_written {
            self.commits += 1;
            self.committed_operations += operations;
        }
    }
}

/// What an engine has done since its start, and what is in its queue.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// Operations that were run.
    pub operations: u64,
    /// Batches in which there was an operation.
    pub batches: u64,
    /// Those of them that may have written, so that their commit cost a sync.
    pub commits: u64,
    /// Operations in these.
    pub committed_operations: u64,
    /// Work specs that there are.
    pub work_specs: u64,
    /// The units of all of them, by status.
    pub units: Counts,
    /// What the store tells about itself.
    pub store: StorageStatistics,
}

impl Statistics {
    /// The mean of the operations in a batch that may have written.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a mean for people")]
    pub fn operations_per_commit(&self) -> f64 {
        self.committed_operations as f64 / self.commits.max(1) as f64
    }
}

impl<S: Storage> Engine<S> {
    /// What it has done, and what is in its queue. Goes through the work specs in memory, and queries no units.
    pub fn statistics(&mut self) -> Statistics {
        let store = self.store.statistics();
        let store =
            store.inspect_err(|error| tracing::warn!("no statistics of the store: {error}"));
        let (mut work_specs, mut units) = (0, Counts::default());
        for spec in self.store.work_specs(self.namespace) {
            work_specs += 1;
            units.available += spec.counts.available;
            units.delayed += spec.counts.delayed;
            units.pending += spec.counts.pending;
            units.finished += spec.counts.finished;
            units.failed += spec.counts.failed;
            units.archived_finished += spec.counts.archived_finished;
            units.archived_failed += spec.counts.archived_failed;
        }
        Statistics {
            operations: self.totals.operations,
            batches: self.totals.batches,
            commits: self.totals.commits,
            committed_operations: self.totals.committed_operations,
            work_specs,
            units,
            store: store.unwrap_or_default(),
        }
    }
}
