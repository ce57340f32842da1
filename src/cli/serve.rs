//! `coordinated serve`: the daemon.

use super::config;
use super::http::HttpArgs;
use super::pid_file::PidFile;
use super::tls::TlsArgs;
use super::tokens::TokenArgs;
use super::values::{parse_bytes, parse_duration, parse_mode};
use crate::clock::{Clock, SystemClock};
use crate::engine::{self, Engine};
use crate::http::{self, Http};
use crate::jobserver::{JobServer, Settings, Submitter};
use crate::limits::{Pace, RequestLimits};
use crate::server::{Admission, BindError, Limits, Network, Server, ServerError, ServiceManager};
use crate::store::{Options, ScheduledBackups, SqliteStore, Synchronous};
use clap::ValueEnum;
use coordinated_client::Address;
use coordinated_client::cbor::EMPTY_MAP;
use coordinated_client::cborrpc::framing::FrameLimits;
use std::error::Error;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The arguments of `serve`. Every flag can also be set in the environment.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The database file, created if missing; `:memory:` for one that is lost at exit
    #[arg(
        long,
        env = "COORDINATED_DB",
        value_name = "FILE",
        default_value = "coordinate.db",
        help_heading = "Database"
    )]
    db: PathBuf,

    /// What survives a power failure: `full`, every answered request; `normal`, all but the last moments;
    /// `off`, possibly nothing. A crash of the daemon alone loses nothing in any mode
    #[arg(
        long,
        env = "COORDINATED_SYNCHRONOUS",
        value_name = "MODE",
        default_value = "full",
        help_heading = "Database"
    )]
    synchronous: SynchronousMode,

    /// Where to listen: HOST:PORT, [IPV6]:PORT, tls:HOST:PORT with --tls-cert, or unix:PATH; repeatable
    #[arg(
        long,
        env = "COORDINATED_LISTEN",
        value_name = "ADDR",
        value_delimiter = ',',
        default_value = Address::DEFAULT,
        help_heading = "Network"
    )]
    listen: Vec<Address>,

    /// Networks that may connect over TCP, such as 10.0.0.0/8 or fd00::/8, separated by commas. Required if
    /// --listen has an address that is not a loopback address. The list is complete: local clients need
    /// 127.0.0.0/8 in it
    #[arg(
        long,
        env = "COORDINATED_ALLOW",
        value_name = "CIDR",
        value_delimiter = ',',
        help_heading = "Network"
    )]
    allow: Vec<Network>,

    /// Permissions of Unix sockets: a user with write permission can connect
    #[arg(
        long,
        env = "COORDINATED_SOCKET_MODE",
        value_name = "MODE",
        default_value = "0600",
        value_parser = parse_mode,
        help_heading = "Network"
    )]
    socket_mode: u32,

    /// How long to poll for the next request before sleeping, while requests follow each other closely. Lowers the
    /// latency of clients that send one request at a time, at the cost of some CPU time. 0s never polls; neither
    /// does a machine with a single processor
    #[arg(
        long,
        env = "COORDINATED_BUSY_POLL",
        value_name = "TIME",
        default_value = "100us",
        value_parser = parse_duration,
        help_heading = "Network"
    )]
    busy_poll: Duration,

    /// The namespace that CBOR-RPC clients see
    #[arg(
        long,
        env = "COORDINATED_NAMESPACE",
        value_name = "NAME",
        default_value = "",
        help_heading = "Jobs"
    )]
    namespace: String,

    /// A YAML file that get_config returns to clients. The daemon itself only uses its limits on completed units
    #[arg(
        long,
        env = "COORDINATED_CONFIG",
        value_name = "FILE",
        help_heading = "Jobs"
    )]
    config: Option<PathBuf>,

    /// Grace period after a start for leases and workers that expired while the daemon was down
    #[arg(
        long,
        env = "COORDINATED_LEASE_GRACE",
        value_name = "TIME",
        default_value = "30s",
        value_parser = parse_duration,
        help_heading = "Jobs"
    )]
    lease_grace: Duration,

    /// How much to log to standard error
    #[arg(
        long,
        env = "COORDINATED_LOG",
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Process and log"
    )]
    log: LogLevel,

    /// Format of log lines
    #[arg(
        long,
        env = "COORDINATED_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Process and log"
    )]
    log_format: LogFormat,

    /// A file for the process id, written once clients can connect and removed at exit
    #[arg(
        long,
        env = "COORDINATED_PID_FILE",
        value_name = "FILE",
        help_heading = "Process and log"
    )]
    pid_file: Option<PathBuf>,

    #[command(flatten)]
    retention: super::retention::RetentionArgs,

    #[command(flatten)]
    backups: super::backup::ScheduleArgs,

    #[command(flatten)]
    http: HttpArgs,

    #[command(flatten)]
    tls: TlsArgs,
    #[command(flatten)]
    tokens: TokenArgs,

    #[command(flatten)]
    limits: LimitArgs,
}

/// The limits, each with its reason, shown by `serve --help`.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Size of one message. The original clients send at most a tenth of the default
    #[arg(long, env = "COORDINATED_MAX_MESSAGE", value_name = "SIZE", default_value = "64MiB", value_parser = parse_bytes)]
    max_message: usize,

    /// Nesting depth of a message: far more than hand-written data needs
    #[arg(
        long,
        env = "COORDINATED_MAX_DEPTH",
        value_name = "N",
        default_value = "100"
    )]
    max_depth: NonZeroUsize,

    /// Number of open connections: each takes a few KiB of memory and a file descriptor
    #[arg(
        long,
        env = "COORDINATED_MAX_CONNECTIONS",
        value_name = "N",
        default_value = "10000"
    )]
    max_connections: NonZeroUsize,

    /// Unsent answers of one connection; beyond it, the daemon stops reading from that connection
    #[arg(long, env = "COORDINATED_MAX_UNSENT", value_name = "SIZE", default_value = "64MiB", value_parser = parse_bytes)]
    max_unsent: usize,

    /// Memory for the unsent answers of all connections. Beyond it, connections are reset, starting with the one
    /// that has not read for longest. Beyond half of it, long lists wait, and the daemon stops reading from
    /// connections with unsent answers
    #[arg(long, env = "COORDINATED_MAX_UNSENT_TOTAL", value_name = "SIZE", default_value = "512MiB", value_parser = parse_bytes)]
    max_unsent_total: usize,

    /// Memory for incomplete messages of all connections; beyond it, the connection with the most is refused
    #[arg(long, env = "COORDINATED_MAX_UNREAD_TOTAL", value_name = "SIZE", default_value = "512MiB", value_parser = parse_bytes)]
    max_unread_total: usize,

    /// How long an incomplete message or an unread answer may make no progress before the connection is closed.
    /// Idle connections are never closed
    #[arg(long, env = "COORDINATED_STALL_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    stall_timeout: Duration,

    /// Length of a work unit's name. Names are index keys
    #[arg(long, env = "COORDINATED_MAX_UNIT_NAME", value_name = "SIZE", default_value = "64KiB", value_parser = parse_bytes)]
    max_unit_name: usize,

    /// Length of the name of a work spec, a worker or a lock owner. These are kept in memory
    #[arg(long, env = "COORDINATED_MAX_SPEC_NAME", value_name = "SIZE", default_value = "1KiB", value_parser = parse_bytes)]
    max_spec_name: usize,

    /// Size of the write-ahead log (WAL) beside the database; beyond it, nothing is written. It grows to more than
    /// 128MiB only while another program reads in a transaction that does not end. 8GiB if not given
    #[arg(long, env = "COORDINATED_MAX_WAL", value_name = "SIZE", value_parser = parse_bytes)]
    max_wal: Option<usize>,

    /// The former name of --max-wal
    #[arg(long, env = "COORDINATED_MAX_LOG", value_name = "SIZE", value_parser = parse_bytes, hide = true)]
    max_log: Option<usize>,

    /// Work units that one get_work hands out; other clients wait meanwhile
    #[arg(
        long,
        env = "COORDINATED_MAX_JOBS",
        value_name = "N",
        default_value = "10000"
    )]
    max_jobs: NonZeroUsize,

    /// Requests in one list of requests; all answers wait for the last one
    #[arg(
        long,
        env = "COORDINATED_MAX_BATCH",
        value_name = "N",
        default_value = "10000"
    )]
    max_batch: NonZeroUsize,

    /// Items of one list in a request, such as units to add; they take memory while it runs
    #[arg(
        long,
        env = "COORDINATED_MAX_ITEMS",
        value_name = "N",
        default_value = "1000000"
    )]
    max_items: NonZeroUsize,

    /// Handed-out units remembered for each connection, to recognize late reports
    #[arg(
        long,
        env = "COORDINATED_MAX_REMEMBERED",
        value_name = "N",
        default_value_t = 1_000
    )]
    max_remembered: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum SynchronousMode {
    Full,
    Normal,
    Off,
}

/// What to do about [`BindError::NobodyAllowed`].
const ALLOW_HINT: &str = "so add --allow with the networks that may connect, for example \
    --allow 127.0.0.0/8,10.0.0.0/8 (everybody: --allow 0.0.0.0/0,::/0)";

/// Adds to an error of binding what to do about it.
pub(super) fn bind_error(error: BindError) -> Box<dyn Error> {
    match error {
        BindError::NobodyAllowed { .. } => format!("{error}, {ALLOW_HINT}").into(),
        error => error.into(),
    }
}

/// A certificate that is not used may mean that somebody believes that everything is encrypted.
const NO_TLS_ADDRESS: &str = "--tls-cert is given, but no address has TLS: add one as --listen tls:HOST:PORT or --http \
    tls:HOST:PORT, or remove --tls-cert";

/// Serves until a signal ends it.
///
/// # Errors
/// If the daemon can't start, or has to stop because of a disk error.
pub(super) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    start_log(args.log, args.log_format);
    let config = read_config(args.config.as_deref())?;
    let retention = args.retention.limits(&config).map_err(|error| {
        let path = args.config.as_deref().unwrap_or(Path::new(""));
        format!("configuration {}: {error}", path.display())
    })?;
    // A write beyond the file size limit (ulimit -f) must fail, not kill the process.
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default())?;
    let mut clock = SystemClock::start();
    let now = clock.now();

    let options = Options {
        synchronous: match args.synchronous {
            SynchronousMode::Full => Synchronous::Full,
            SynchronousMode::Normal => Synchronous::Normal,
            SynchronousMode::Off => Synchronous::Off,
        },
        lease_grace: args.lease_grace,
        wal_bytes_max: args.limits.wal_bytes_max(),
    };
    let store = SqliteStore::open(&args.db, &options, now)?;
    let limits = &args.limits;
    let settings = engine::Settings {
        namespace: args.namespace.clone(),
        limits: RequestLimits {
            unit_name_bytes_max: limits.max_unit_name,
            spec_name_bytes_max: limits.max_spec_name,
            get_work_units_max: limits.max_jobs.get(),
            batch_requests_max: limits.max_batch.get(),
            list_items_max: limits.max_items.get(),
            session_attempts_max: limits.max_remembered,
        },
        pace: Pace::default(),
        retention,
        audit_kept: Some(args.tokens.audit_kept()),
    };
    let engine = Engine::new(store, settings, Box::new(rand::rng()), now)?;
    let settings = Settings {
        config,
        depth_max: limits.max_depth.get(),
        anonymous: args.tokens.anonymous(),
    };
    let mut service = JobServer::new(engine, settings);

    let admission = Admission {
        allow: args.allow.clone(),
        socket_mode: args.socket_mode,
    };
    let server_limits = Limits {
        busy_poll_max: args.busy_poll,
        ..limits.for_server()
    };
    let tls = args.tls.read()?;
    let mut server = Server::bind(&args.listen, admission.clone(), server_limits, tls.clone())
        .map_err(bind_error)?;
    let http_sockets = args.http.bind(
        &admission,
        tls.as_ref(),
        service.doorkeeper().http_needs_token(),
    )?;
    if tls.is_some()
        && !args.http.uses_tls()
        && !args
            .listen
            .iter()
            .any(|at| matches!(at, Address::Tls { .. }))
    {
        return Err(NO_TLS_ADDRESS.into());
    }
    service.tell_http(args.http.urls(&http_sockets)?);
    server.handle_signals()?;
    server.notify(ServiceManager::from_environment());
    let pid_file = args.pid_file.as_deref().map(PidFile::write).transpose()?;
    tracing::debug!(db = %args.db.display(), "database is open");
    if retention.has_limits() {
        let count = retention.count.map(tracing::field::display);
        let age = retention.age.map(tracing::field::debug);
        tracing::info!(
            count,
            age,
            "completed units beyond these limits are archived: removed, but counted"
        );
    }
    let backups = args.backups.start(&args.db)?;
    let (inbox, tasks) = server.inbox(args.http.tasks_max());
    let http = args.http.start(
        http_sockets,
        http::Settings {
            admission,
            namespace: args.namespace.clone(),
            metrics: http::Sources {
                // Without links: the write-ahead log is beside the file itself.
                database: args.db.canonicalize().ok(),
                totals: server.totals(),
                backups: backups.as_ref().map(ScheduledBackups::status),
                ..http::Sources::default()
            },
            ..http::Settings::default()
        },
        &server_limits,
        Submitter::new(inbox, service.doorkeeper()),
        server.stopper(),
    )?;
    let served = server.run_with(&mut service, &mut clock, tasks);
    let http = http.map(Http::stop).unwrap_or(Ok(()));
    // A running backup reads the database, which would keep the WAL from being emptied.
    drop(backups);
    log_calls(&service);
    if served.is_ok()
        && let Err(error) = service.finish(clock.now())
    {
        // Nothing that was answered is missing. The next start notes from when on something may be.
        tracing::warn!("the rates of the last seconds could not be written: {error}");
    }
    let store = service.into_store();
    match served {
        Ok(()) => {
            store.close()?;
            http?;
        }
        Err(error @ ServerError::Gone(_)) => {
            // The error of `close` also says where the data are.
            store.close()?;
            return Err(error.into());
        }
        Err(error) => {
            store.abandon();
            return Err(error.into());
        }
    }
    drop(pid_file);
    tracing::info!("stopped");
    Ok(())
}

impl LimitArgs {
    fn wal_bytes_max(&self) -> u64 {
        let given = self.max_wal.or(self.max_log);
        given.map_or(Options::default().wal_bytes_max, |bytes| bytes as u64)
    }

    fn for_server(&self) -> Limits {
        Limits {
            frame: FrameLimits {
                message_bytes_max: self.max_message,
                depth_max: self.max_depth.get(),
            },
            connections_max: self.max_connections.get(),
            unsent_bytes_max: self.max_unsent,
            unsent_total_bytes_max: self.max_unsent_total,
            unread_total_bytes_max: self.max_unread_total,
            stall_max: self.stall_timeout,
            ..Limits::default()
        }
    }
}

fn start_log(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        // Without this, a log line that can't be written panics.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}

fn read_config(path: Option<&Path>) -> Result<Vec<u8>, String> {
    let Some(path) = path else {
        return Ok(EMPTY_MAP.to_vec());
    };
    let shown = path.display();
    let yaml = std::fs::read_to_string(path)
        .map_err(|error| format!("can't read configuration {shown}: {error}; check --config"))?;
    config::encode_yaml(&yaml).map_err(|error| format!("configuration {shown}: {error}"))
}

fn log_calls(service: &JobServer<SqliteStore>) {
    let mut calls: Vec<_> = service.calls().collect();
    calls.sort();
    for (method, count) in calls {
        tracing::debug!(method, count, "calls served");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Limits {
        #[command(flatten)]
        args: LimitArgs,
    }

    #[test]
    fn the_limit_of_the_wal_can_be_given_by_its_former_name() {
        for (arguments, expected) in [
            (&[][..], 8 << 30),
            (&["--max-log", "1MiB"], 1 << 20),
            (&["--max-wal", "2MiB"], 2 << 20),
            (&["--max-log", "1MiB", "--max-wal", "2MiB"], 2 << 20),
        ] {
            let parsed = Limits::try_parse_from(["serve"].iter().chain(arguments)).expect("limits");
            assert_eq!(parsed.args.wal_bytes_max(), expected, "{arguments:?}");
        }
    }
}
