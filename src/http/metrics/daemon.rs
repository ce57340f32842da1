//! The metrics that are not about single work specs.

use super::counted::Metrics;
use super::families::Families;
use super::files::Sizes;
use super::process::Resources;
use super::work_specs::ended;
use crate::coordinate::Census;
use crate::engine::Snapshot;
use crate::jobserver::{MethodInfo, Requests};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is not about single work specs.
pub(super) struct OfDaemon {
    /// Its work specs are shown elsewhere.
    pub(super) snapshot: Snapshot,
    pub(super) methods: Vec<&'static MethodInfo>,
    pub(super) requests: Requests,
    pub(super) census: Option<Census>,
    pub(super) sizes: Sizes,
    pub(super) resources: Option<Resources>,
    pub(super) metrics: Arc<Metrics>,
}

impl OfDaemon {
    /// All of them.
    pub(super) fn write(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        self.write_queue(out)?;
        self.write_requests(out)?;
        self.write_batches(out)?;
        self.write_connections(out)?;
        self.write_files(out)?;
        self.write_http(out)?;
        self.write_process(out)
    }

    fn write_queue(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let (snapshot, all) = (&self.snapshot, &self.snapshot.all);
        let namespace = ("namespace", &*snapshot.namespace);
        out.gauge(
            "coordinated_work_specs",
            "Work specs",
            snapshot.work_specs_total as u64,
        )?;
        out.counter(
            "coordinated_all_units_added",
            "Work units that were added, or added again, in all work specs, deleted ones included",
            all.added,
        )?;
        out.counter(
            "coordinated_all_attempts_started",
            "Attempts that were started in all work specs, deleted ones included",
            all.started,
        )?;
        out.counters(
            "coordinated_all_attempts_ended",
            "Attempts that have ended in all work specs, deleted ones included, by outcome",
            ended(all).map(|(outcome, count)| ([outcome], count)),
        )?;
        let [refused, accepted] = all.late_reports;
        out.counters(
            "coordinated_late_reports",
            "Reports whose worker had lost the work unit: those that counted all the same, and those that were refused",
            [
                ([("outcome", "accepted")], accepted),
                ([("outcome", "refused")], refused),
            ],
        )?;
        out.gauge(
            "coordinated_overdue_seconds",
            "For how long a lease, a delay, a worker or a lock has been over without being ended",
            snapshot.overdue.as_secs_f64(),
        )?;
        let Some(census) = &self.census else {
            return Ok(());
        };
        out.gauges(
            "coordinated_workers",
            "Workers that are alive, by the mode that they report",
            [
                ("run", census.running),
                ("idle", census.idle),
                ("terminate", census.terminating),
                ("other", census.others),
            ]
            .map(|(mode, count)| ([namespace, ("mode", mode)], count)),
        )?;
        out.gauge("coordinated_locks", "Locks that are held", census.locks)
    }

    fn write_requests(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let methods = self.methods.iter().flat_map(|method| {
            self.requests
                .ended(method)
                .into_iter()
                .flat_map(|(interface, ended)| {
                    [("ok", ended.ok), ("failed", ended.failed)].map(|(outcome, count)| {
                        let labels = [
                            ("interface", interface),
                            ("method", method.name),
                            ("outcome", outcome),
                        ];
                        (labels, count)
                    })
                })
        });
        let unknown = self.requests.unknown().map(|(interface, count)| {
            let labels = [
                ("interface", interface),
                ("method", "(unknown)"),
                ("outcome", "failed"),
            ];
            (labels, count)
        });
        out.counters(
            "coordinated_requests",
            "Requests that were answered, by interface, method and outcome",
            methods.chain(unknown),
        )?;
        let totals = &self.metrics.sources.totals;
        out.histograms(
            "coordinated_request_seconds",
            "From when the event loop woke up until a message was answered and its changes were on disk",
            [
                (
                    [("interface", "cborrpc")],
                    totals.message_time.histogram(),
                ),
                ([("interface", "http")], totals.task_time.histogram()),
            ],
        )
    }

    fn write_batches(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let totals = &self.snapshot.totals;
        let [committed, rolled_back, unknown] = totals.outcomes;
        out.counters(
            "coordinated_batches",
            "Batches of operations that may have written, by outcome",
            [
                ([("outcome", "committed")], committed),
                ([("outcome", "rolled_back")], rolled_back),
                ([("outcome", "unknown")], unknown),
            ],
        )?;
        out.histograms(
            "coordinated_batch_operations",
            "Operations in a batch that may have written",
            [([], totals.batch_operations)],
        )?;
        out.histograms(
            "coordinated_commit_seconds",
            "How long commits took, which sync the disk",
            [([], totals.commit_time)],
        )?;
        let busy = self.metrics.sources.totals.busy_nanoseconds.get();
        out.counter(
            "coordinated_loop_busy_seconds",
            "Time in which the event loop did not wait",
            Duration::from_nanos(busy).as_secs_f64(),
        )
    }

    fn write_connections(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let (totals, http) = (&self.metrics.sources.totals, &self.metrics);
        let (cborrpc, over_http) = (("interface", "cborrpc"), ("interface", "http"));
        let (network, limit) = (("reason", "network"), ("reason", "limit"));
        let tls = ("reason", "tls");
        out.gauges(
            "coordinated_connections",
            "Open connections",
            [
                ([cborrpc], totals.connections.get()),
                ([over_http], http.open_connections()),
            ],
        )?;
        out.counters(
            "coordinated_connections_refused",
            "Connections that were closed at once: their network is not allowed, too many were open, or TLS failed",
            [
                ([cborrpc, network], totals.refused_networks.get()),
                ([cborrpc, limit], totals.refused_connections.get()),
                ([cborrpc, tls], totals.failed_tls.get()),
                ([over_http, network], http.refused_networks.get()),
                ([over_http, limit], http.refused_connections.get()),
                ([over_http, tls], http.failed_tls.get()),
            ],
        )?;
        out.counter(
            "coordinated_messages_refused",
            "CBOR-RPC messages that could not be read, after which their connections were closed",
            totals.refused_messages.get(),
        )?;
        out.counter(
            "coordinated_received_bytes",
            "Bytes that CBOR-RPC clients have sent",
            totals.received_bytes.get(),
        )?;
        out.counter(
            "coordinated_sent_bytes",
            "Bytes that were sent to CBOR-RPC clients",
            totals.sent_bytes.get(),
        )?;
        out.gauge(
            "coordinated_unread_bytes",
            "Memory for CBOR-RPC messages that are incomplete or not handled yet",
            totals.unread_bytes.get(),
        )?;
        out.gauge(
            "coordinated_unsent_bytes",
            "Memory for answers that CBOR-RPC clients have not received yet",
            totals.unsent_bytes.get(),
        )
    }

    fn write_files(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        if let Some(bytes) = self.sizes.database {
            let help = "Size of the database file";
            out.gauge("coordinated_database_bytes", help, bytes)?;
        }
        if let Some(bytes) = self.sizes.wal {
            let help = "Size of the file of the write-ahead log (WAL)";
            out.gauge("coordinated_wal_bytes", help, bytes)?;
        }
        if let Some(bytes) = self.sizes.free {
            let help = "Free space in the file system of the database";
            out.gauge("coordinated_disk_free_bytes", help, bytes)?;
        }
        let Some(backups) = &self.metrics.sources.backups else {
            return Ok(());
        };
        out.gauges(
            "coordinated_backup_last_success_timestamp_seconds",
            "When the newest scheduled backup was made; absent if there is none",
            backups.newest().map(|at| ([], at)),
        )?;
        out.gauge(
            "coordinated_backup_interval_seconds",
            "The time between two scheduled backups",
            backups.every().as_secs_f64(),
        )?;
        out.counter(
            "coordinated_backup_failures",
            "Scheduled backups that have failed",
            backups.failures(),
        )
    }

    fn write_http(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        out.metric(
            "coordinated_http_requests",
            "HTTP requests that were answered, by route and status",
            &self.metrics.requests,
        )?;
        out.metric(
            "coordinated_http_request_seconds",
            "How long HTTP requests took, time waiting for work included",
            &self.metrics.request_time,
        )?;
        out.metric(
            "coordinated_http_problems",
            "HTTP requests that have failed, by the type of the problem",
            &self.metrics.problems,
        )?;
        out.metric(
            "coordinate_summary_seconds",
            "Seconds required to gather the summary of the queue for this page",
            &self.metrics.summary_time,
        )
    }

    fn write_process(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let version = ("version", env!("CARGO_PKG_VERSION"));
        out.info("coordinated_build", "The version of the daemon", version)?;
        let Some(resources) = &self.resources else {
            return Ok(());
        };
        out.counter(
            "process_cpu_seconds",
            "Processor time of the daemon",
            resources.cpu_seconds,
        )?;
        out.gauge(
            "process_open_fds",
            "Open file descriptors",
            resources.open_files,
        )?;
        if let Some(max) = resources.open_files_max {
            out.gauge("process_max_fds", "Limit of open file descriptors", max)?;
        }
        out.gauge(
            "process_resident_memory_bytes",
            "Resident memory",
            resources.resident_bytes,
        )?;
        out.gauge(
            "process_virtual_memory_bytes",
            "Virtual memory",
            resources.virtual_bytes,
        )?;
        out.gauge(
            "process_start_time_seconds",
            "When the daemon was started",
            resources.started_at,
        )
    }
}
