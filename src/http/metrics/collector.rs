//! Every metric: its name, its type, what it means, and its values. docs/metrics.md has the same list, as a test checks.

use super::counted::Metrics;
use super::files::Sizes;
use super::process::Resources;
use crate::coordinate::storage::Storage;
use crate::coordinate::{AttemptEnd, Census, Completed, Name, UnitStatus};
use crate::counting::Histogram;
use crate::engine::{Activity, Snapshot, SpecState};
use crate::jobserver::{JobServer, MethodInfo, Requests, Scrape};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use std::collections::HashSet;
use std::fmt::{self, Write};
use std::sync::Arc;

/// The label of the work specs that are summed. One with this name is summed with them.
const OTHERS: &str = "(other)";

/// How many work specs have histograms of their own: each has many series.
const HISTOGRAMS_MAX: usize = 100;

/// Everything that one answer shows.
pub(super) struct Collected {
    namespace: String,
    /// With their labels, no two of which are the same.
    work_specs: Vec<(String, SpecState)>,
    /// `None` if only some work specs are asked for.
    of_daemon: Option<OfDaemon>,
}

/// What is not about single work specs.
struct OfDaemon {
    snapshot: Snapshot,
    methods: Vec<&'static MethodInfo>,
    requests: Requests,
    census: Option<Census>,
    sizes: Sizes,
    resources: Option<Resources>,
    metrics: Arc<Metrics>,
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
        let work_specs = labelled(specs, snapshot.others.take());
        let namespace = snapshot.namespace.clone();
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
            namespace,
            work_specs,
            of_daemon,
        }
    }
}

/// Work specs with their labels. Those that would have the label of another one join the others: two series with the
/// same labels would spoil all of the answer.
fn labelled(specs: Vec<SpecState>, others: Option<SpecState>) -> Vec<(String, SpecState)> {
    let mut others = others;
    let mut labelled = Vec::with_capacity(specs.len());
    let mut labels = HashSet::from([OTHERS.to_owned()]);
    for spec in specs {
        let label = label_of(&spec.name);
        if labels.insert(label.clone()) {
            labelled.push((label, spec));
        } else {
            add_to(&mut others, &spec);
        }
    }
    labelled.extend(others.map(|others| (OTHERS.to_owned(), others)));
    labelled
}

fn add_to(sum: &mut Option<SpecState>, spec: &SpecState) {
    match sum {
        Some(sum) => sum.add(spec),
        None => *sum = Some(spec.clone()),
    }
}

/// A name as text: one that is not UTF-8 has `\xNN` in place of each byte that is not, and `\\` for a backslash.
fn label_of(name: &Name) -> String {
    if let Ok(text) = std::str::from_utf8(name.bytes()) {
        return text.to_owned();
    }
    let mut label = String::new();
    for chunk in name.bytes().utf8_chunks() {
        label.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(label, "\\x{byte:02x}");
        }
    }
    label
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Families(&mut encoder);
        self.write_units(&mut out)?;
        self.write_activity(&mut out)?;
        self.write_run_times(&mut out)?;
        if let Some(of_daemon) = &self.of_daemon {
            of_daemon.write_queue(&self.namespace, &mut out)?;
            of_daemon.write_requests(&mut out)?;
            of_daemon.write_batches(&mut out)?;
            of_daemon.write_connections(&mut out)?;
            of_daemon.write_files(&mut out)?;
            of_daemon.write_http(&mut out)?;
            of_daemon.write_process(&mut out)?;
        }
        Ok(())
    }
}

impl Collected {
    /// Each work spec with its labels.
    fn specs(&self) -> impl Iterator<Item = ([Label<'_>; 2], &SpecState)> {
        let namespace = ("namespace", &*self.namespace);
        let specs = self.work_specs.iter();
        specs.map(move |(label, spec)| ([namespace, ("work_spec", &**label)], spec))
    }

    fn write_units(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        out.gauges(
            "coordinate_work_units",
            "Work units by status, without archived ones",
            self.specs().flat_map(|(labels, spec)| {
                let counts = spec.counts;
                UnitStatus::ALL.map(|status| {
                    let (word, count) = match status {
                        UnitStatus::Available => ("available", counts.available),
                        UnitStatus::Delayed => ("delayed", counts.delayed),
                        UnitStatus::Pending => ("pending", counts.pending),
                        UnitStatus::Finished => ("finished", counts.finished),
                        UnitStatus::Failed => ("failed", counts.failed),
                    };
                    (with(labels, ("status", word)), count)
                })
            }),
        )?;
        out.gauges(
            "coordinated_work_units_archived",
            "Completed work units that were removed and are only counted",
            self.specs().flat_map(|(labels, spec)| {
                Completed::BOTH.map(|status| {
                    let word = match status {
                        Completed::Finished => "finished",
                        Completed::Failed => "failed",
                    };
                    let count = spec.counts.archived(status);
                    (with(labels, ("status", word)), count)
                })
            }),
        )?;
        out.gauges(
            "coordinated_work_spec_paused",
            "1 if the work spec is paused",
            self.specs()
                .map(|(labels, spec)| (labels, u64::from(spec.paused == spec.work_specs))),
        )?;
        out.gauges(
            "coordinated_available_since_timestamp_seconds",
            "Since when there have been available work units without a break; absent if there are none",
            self.specs().filter_map(|(labels, spec)| {
                let since = spec.waiting_since?;
                Some((labels, since.as_seconds()))
            }),
        )
    }

    fn write_activity(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        out.gauges(
            "coordinated_last_attempt_started_timestamp_seconds",
            "When an attempt was last started; absent if none was since the daemon started",
            self.specs().filter_map(|(labels, spec)| {
                let at = spec.activity.last_started?;
                Some((labels, at.as_seconds()))
            }),
        )?;
        out.counters(
            "coordinated_units_added",
            "Work units that were added, or added again",
            self.specs()
                .map(|(labels, spec)| (labels, spec.activity.added)),
        )?;
        out.counters(
            "coordinated_attempts_started",
            "Attempts at work units that were started",
            self.specs()
                .map(|(labels, spec)| (labels, spec.activity.started)),
        )?;
        out.counters(
            "coordinated_attempts_ended",
            "Attempts at work units that have ended, by outcome",
            self.specs().flat_map(|(labels, spec)| {
                let ended = ended(&spec.activity);
                ended.map(move |(outcome, count)| (with(labels, outcome), count))
            }),
        )
    }

    fn write_run_times(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let is_other = |label: &str| label == OTHERS;
        let own = self.specs().take(HISTOGRAMS_MAX);
        let own = own.filter(|([_, (_, label)], _)| !is_other(label));
        let own = own.map(|(labels, spec)| (labels, spec.activity.run));
        let mut rest = None;
        for (index, (label, spec)) in self.work_specs.iter().enumerate() {
            if index >= HISTOGRAMS_MAX || is_other(label) {
                add_to(&mut rest, spec);
            }
        }
        let labels = [("namespace", &*self.namespace), ("work_spec", OTHERS)];
        let rest = rest.map(|rest| (labels, rest.activity.run));
        out.histograms(
            "coordinated_run_seconds",
            "How long attempts ran, from their start to their end",
            own.chain(rest),
        )
    }
}

impl OfDaemon {
    fn write_queue(&self, namespace: &str, out: &mut Families<'_, '_>) -> fmt::Result {
        let (snapshot, all) = (&self.snapshot, &self.snapshot.all);
        let namespace = ("namespace", namespace);
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
            std::time::Duration::from_nanos(busy).as_secs_f64(),
        )
    }

    fn write_connections(&self, out: &mut Families<'_, '_>) -> fmt::Result {
        let (totals, http) = (&self.metrics.sources.totals, &self.metrics);
        let (cborrpc, over_http) = (("interface", "cborrpc"), ("interface", "http"));
        let (network, limit) = (("reason", "network"), ("reason", "limit"));
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
            "Connections that were closed at once: their network is not allowed, or too many were open",
            [
                ([cborrpc, network], totals.refused_networks.get()),
                ([cborrpc, limit], totals.refused_connections.get()),
                ([over_http, network], http.refused_networks.get()),
                ([over_http, limit], http.refused_connections.get()),
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
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let help = "The version of the daemon";
        out.0
            .encode_descriptor("coordinated_build", help, None, MetricType::Info)?
            .encode_info(&version)?;
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

/// How many attempts have ended, with the label of each outcome.
fn ended(activity: &Activity) -> impl Iterator<Item = (Label<'static>, u64)> {
    let words = AttemptEnd::ALL.map(|end| match end {
        AttemptEnd::Finished => "finished",
        AttemptEnd::Failed => "failed",
        AttemptEnd::Expired => "expired",
        AttemptEnd::Released => "released",
    });
    let outcomes = words.map(|word| ("outcome", word)).into_iter();
    outcomes.zip(activity.ended)
}

/// Name and value.
type Label<'a> = (&'static str, &'a str);

fn with<'a>([namespace, work_spec]: [Label<'a>; 2], last: Label<'a>) -> [Label<'a>; 3] {
    [namespace, work_spec, last]
}

/// Writes whole families of metrics.
struct Families<'e, 'w>(&'e mut DescriptorEncoder<'w>);

impl Families<'_, '_> {
    fn gauges<'l, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], V)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(name, help, [([], value)])
    }

    /// The names of counters are without `_total`, which the format adds.
    fn counters<'l, const N: usize, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], V)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        self.counters(name, help, [([], value)])
    }

    fn histograms<'l, const N: usize, const B: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label<'l>; N], Histogram<B>)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, value) in values {
            let buckets: Vec<_> = value.buckets().collect();
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(value.sum(), value.count(), &buckets, None)?;
        }
        Ok(())
    }

    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let family = self
            .0
            .encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinate::Counts;

    fn spec(name: &[u8]) -> SpecState {
        SpecState {
            name: Name::from_bytes(name),
            work_specs: 1,
            counts: Counts::default(),
            paused: 0,
            waiting_since: None,
            activity: Activity::default(),
        }
    }

    // The daemon takes no such names, but earlier ones did.
    #[test]
    fn a_name_that_is_not_utf_8_is_shown_with_the_bytes_that_are_not() {
        assert_eq!(label_of(&Name::from_bytes("a\\b\nü")), "a\\b\nü");
        let name = Name::from_bytes(b"a\\\xff\xc3\xbc\xc3".to_vec());
        assert_eq!(label_of(&name), "a\\\\\\xffü\\xc3");
    }

    #[test]
    fn no_two_work_specs_have_the_same_label() {
        let specs = [&b"a"[..], b"\xff", b"\\xff", b"(other)"];
        let shown = labelled(specs.map(spec).to_vec(), Some(spec(b"")));
        let shown: Vec<_> = shown
            .iter()
            .map(|(label, spec)| (&**label, spec.work_specs))
            .collect();
        assert_eq!(shown, [("a", 1), ("\\xff", 1), (OTHERS, 3)]);
    }
}
