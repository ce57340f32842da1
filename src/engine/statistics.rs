//! How much the engine has done, and what is in its queue.

use super::Engine;
use crate::coordinate::storage::{Storage, StorageStatistics};
use crate::coordinate::{Counts, StorageError};
use crate::counting::{Histogram, LATENCY_BOUNDS};
use std::time::Duration;

/// Bounds for the operations in a batch.
const OPERATION_BOUNDS: [f64; 10] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0,
];

/// Counters since the start.
#[derive(Clone, Copy, Debug)]
pub struct Totals {
    batches: u64,
    commits: u64,
    operations: u64,
    committed_operations: u64,
    /// Batches that may have written: those that were committed, that were rolled back, and of which it is not known.
    pub outcomes: [u64; 3],
    /// How long the commits of these took, in seconds.
    pub commit_time: Histogram<{ LATENCY_BOUNDS.len() }>,
    /// How many operations were in each of them that had some.
    pub batch_operations: Histogram<{ OPERATION_BOUNDS.len() }>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            batches: 0,
            commits: 0,
            operations: 0,
            committed_operations: 0,
            outcomes: [0; 3],
            commit_time: Histogram::new(&LATENCY_BOUNDS),
            batch_operations: Histogram::new(&OPERATION_BOUNDS),
        }
    }
}

impl Totals {
    /// Counts a batch that ends.
    #[expect(clippy::cast_precision_loss, reason = "a batch has few operations")]
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
            self.batch_operations.observe(operations as f64);
        }
    }

    /// Counts the commit of a batch that may have written.
    pub(super) fn count_commit(&mut self, time: Duration, outcome: &Result<(), StorageError>) {
        self.commit_time.observe(time.as_secs_f64());
        let index = match outcome {
            Ok(()) => 0,
            Err(StorageError::Unknown(_)) => 2,
            Err(_) => 1,
        };
        self.outcomes[index] += 1;
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
            units += spec.counts;
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
