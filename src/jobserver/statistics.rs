//! What the service has done so far, and has in its queue: written to the log when somebody asks.

use super::JobServer;
use crate::coordinate::Counts;
use crate::coordinate::storage::Storage;

/// Counters since the start.
#[derive(Default)]
pub(super) struct Totals {
    /// Batches in which there was an operation.
    batches: u64,
    /// Those of them that may have written, so that their commit cost a sync.
    commits: u64,
    operations: u64,
    /// Operations in the batches that may have written.
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

impl<S: Storage> JobServer<S> {
    /// Writes to the log how much was done, how many units are in which status over all work specs,
    /// how long the write-ahead log is, and how often each method was called.
    pub fn log_statistics(&mut self) {
        let totals = &self.totals;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a mean for people, with one digit behind the point"
        )]
        let mean = totals.committed_operations as f64 / totals.commits.max(1) as f64;
        tracing::info!(
            operations = totals.operations,
            batches = totals.batches,
            commits = totals.commits,
            operations_per_commit = %format_args!("{mean:.1}"),
            "statistics of batches"
        );
        let log = self.world.store.log_pages();
        let log = log.inspect_err(|error| tracing::warn!("no log length: {error}"));
        let log = log.ok().flatten();
        let (mut work_specs, mut counts) = (0, Counts::default());
        for spec in self.world.store.work_specs(self.world.namespace) {
            work_specs += 1;
            counts.available += spec.counts.available;
            counts.delayed += spec.counts.delayed;
            counts.pending += spec.counts.pending;
            counts.finished += spec.counts.finished;
            counts.failed += spec.counts.failed;
            counts.archived_finished += spec.counts.archived_finished;
            counts.archived_failed += spec.counts.archived_failed;
        }
        tracing::info!(
            work_specs,
            available = counts.available,
            delayed = counts.delayed,
            pending = counts.pending,
            finished = counts.finished,
            failed = counts.failed,
            archived_finished = counts.archived_finished,
            archived_failed = counts.archived_failed,
            log_pages = log.map(|log| log.pages),
            log_pages_in_file = log.map(|log| log.in_file),
            "statistics of the queue"
        );
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_unstable();
        for (method, count) in calls {
            tracing::info!(method, count, "statistics of calls");
        }
    }
}
