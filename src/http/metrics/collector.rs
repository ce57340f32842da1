//! Everything that one answer shows. docs/metrics.md lists all of it, as a test checks.

use super::counted::Metrics;
use super::daemon::OfDaemon;
use super::families::Families;
use super::files::Sizes;
use super::process::Resources;
use super::work_specs::WorkSpecs;
use crate::coordinate::storage::Storage;
use crate::jobserver::{JobServer, Scrape};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::sync::Arc;

/// Everything that one answer shows.
pub(super) struct Collected {
    work_specs: WorkSpecs,
    /// `None` if only some work specs are asked for.
    of_daemon: Option<OfDaemon>,
}

impl fmt::Debug for Collected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collected").finish_non_exhaustive()
    }
}

impl Collected {
    /// Asks the system and the database for the rest of what is shown. Blocks.
    pub(super) fn of<S: Storage>(scrape: Scrape, metrics: Arc<Metrics>, of_daemon: bool) -> Self {
        let mut snapshot = scrape.snapshot;
        let specs = std::mem::take(&mut snapshot.work_specs);
        let others = snapshot.others.take();
        let work_specs = WorkSpecs::new(snapshot.namespace.clone(), specs, others);
        let of_daemon = of_daemon.then(|| {
            let database = metrics.sources.database.as_deref();
            OfDaemon {
                snapshot,
                methods: JobServer::<S>::methods().collect(),
                requests: scrape.requests,
                census: (scrape.census)(),
                sizes: database.map(Sizes::of).unwrap_or_default(),
                resources: Resources::of_this_process(),
                metrics,
            }
        });
        Self {
            work_specs,
            of_daemon,
        }
    }
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Families(&mut encoder);
        self.work_specs.write(&mut out)?;
        match &self.of_daemon {
            Some(of_daemon) => of_daemon.write(&mut out),
            None => Ok(()),
        }
    }
}
