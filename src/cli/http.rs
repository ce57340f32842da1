//! The arguments of `serve` about HTTP.

use super::serve::bind_error;
use super::values::parse_duration;
use crate::coordinate::storage::Storage;
use crate::http::{self, Host, Http, Origin};
use crate::jobserver::Submitter;
use crate::server::{self, Admission, BoundSocket, Network, Stopper};
use crate::tls::TlsServer;
use coordinated_client::{Address, ParseAddressError};
use std::error::Error;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Where HTTP is served if nothing else is said: the port of the Go daemons.
const DEFAULT: &str = "127.0.0.1:5980";

/// What `--http` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum HttpAddress {
    Off,
    At(Address),
}

impl FromStr for HttpAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At),
        }
    }
}

#[derive(clap::Args)]
#[command(next_help_heading = "HTTP")]
pub(super) struct HttpArgs {
    /// Where to serve HTTP: HOST:PORT, [IPV6]:PORT, tls:HOST:PORT for HTTPS with --tls-cert, or unix:PATH; repeatable;
    /// `off` for nowhere. 127.0.0.1:5980 if not given; if that is in use, the daemon warns and runs without HTTP
    #[arg(
        long,
        env = "COORDINATED_HTTP",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    http: Vec<HttpAddress>,

    /// A host name by which HTTP clients may know the daemon, beside its addresses and localhost; repeatable
    #[arg(
        long,
        env = "COORDINATED_HTTP_HOST",
        value_name = "NAME",
        value_delimiter = ','
    )]
    http_host: Vec<Host>,

    /// An origin, such as https://tools.example.org, whose web pages may send HTTP requests and read the answers (CORS);
    /// repeatable. As long as no token was made, they may do everything
    #[arg(
        long,
        env = "COORDINATED_HTTP_CORS",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    http_cors: Vec<Origin>,

    /// Networks of reverse proxies, such as 127.0.0.0/8, separated by commas. Their header X-Forwarded-For says from where a
    /// request comes, for the audit and for counting wrong tokens. Other clients' headers are ignored
    #[arg(
        long,
        env = "COORDINATED_HTTP_TRUSTED_PROXY",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    http_trusted_proxy: Vec<Network>,

    /// A path before all others, such as /jobs, for a reverse proxy
    #[arg(
        long,
        env = "COORDINATED_HTTP_BASE_PATH",
        value_name = "PATH",
        default_value = "",
        hide_default_value = true,
        value_parser = parse_base_path
    )]
    http_base_path: String,

    /// Serve HTTP at an address that other machines can reach without TLS, or with TLS but without checking who the
    /// clients are (--tls-client-ca). Each client from a network in --allow may then do everything
    #[arg(long, env = "COORDINATED_HTTP_INSECURE")]
    http_insecure: bool,

    /// Number of open HTTP connections. Further ones are closed at once
    #[arg(
        long,
        env = "COORDINATED_HTTP_MAX_CONNECTIONS",
        value_name = "N",
        default_value = "1000"
    )]
    http_max_connections: NonZeroUsize,

    /// Number of HTTP requests that are handled or wait for work at a time. Further ones get the status 503
    #[arg(
        long,
        env = "COORDINATED_HTTP_MAX_REQUESTS",
        value_name = "N",
        default_value = "1000"
    )]
    http_max_requests: NonZeroUsize,

    /// How long an HTTP connection may take to send the head of its next request, and so how long it may be idle
    #[arg(long, env = "COORDINATED_HTTP_HEAD_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    http_head_timeout: Duration,

    /// How long the body of an HTTP request may take
    #[arg(long, env = "COORDINATED_HTTP_BODY_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    http_body_timeout: Duration,

    /// A key of data whose values the web page does not show, such as password; repeatable. Programs get them all the same
    #[arg(
        long,
        env = "COORDINATED_REDACT",
        value_name = "KEY",
        value_delimiter = ','
    )]
    redact: Vec<String>,

    /// Number of work specs that have metrics of their own at /metrics, the oldest ones. Of the others there is the sum
    #[arg(
        long,
        env = "COORDINATED_METRICS_WORK_SPECS",
        value_name = "N",
        default_value = "500"
    )]
    metrics_work_specs: usize,
}

fn parse_base_path(text: &str) -> Result<String, String> {
    let is_path = text
        .strip_prefix('/')
        .is_some_and(|rest| !rest.contains(['{', '}', '?', '#', ' ']) && !text.contains("//"));
    if text.is_empty() || is_path {
        Ok(text.to_owned())
    } else {
        Err("write a path that begins with a slash, for example /jobs".to_owned())
    }
}

impl HttpArgs {
    /// Binds the sockets; none if HTTP is off.
    ///
    /// # Errors
    /// If an address that was asked for can't be had.
    pub(super) fn bind(
        &self,
        admission: &Admission,
        tls: Option<&Arc<TlsServer>>,
        has_tokens: bool,
    ) -> Result<Vec<BoundSocket>, Box<dyn Error>> {
        if self.http.is_empty() {
            let default: Address = DEFAULT.parse()?;
            return match BoundSocket::bind(&default, &Admission::default(), None) {
                Ok(sockets) => Ok(sockets),
                Err(error) => {
                    tracing::warn!("running without HTTP: {error}; --http sets another address");
                    Ok(Vec::new())
                }
            };
        }
        if self.http.contains(&HttpAddress::Off) && self.http.len() > 1 {
            return Err("--http off can't be combined with an address".into());
        }
        let mut sockets = Vec::new();
        for address in &self.http {
            let HttpAddress::At(address) = address else {
                continue;
            };
            let bound = BoundSocket::bind(address, admission, tls).map_err(bind_error)?;
            for socket in &bound {
                self.check_reach(address, socket, has_tokens)?;
            }
            sockets.extend(bound);
        }
        Ok(sockets)
    }

    /// Fails if other machines can reach a socket, and nobody said that they may.
    fn check_reach(
        &self,
        address: &Address,
        socket: &BoundSocket,
        has_tokens: bool,
    ) -> Result<(), Box<dyn Error>> {
        let (listener, missing) = match socket {
            BoundSocket::Unix(..) => return Ok(()),
            BoundSocket::Tcp(listener) => (
                listener,
                "nothing is encrypted there: write it as tls:HOST:PORT and add --tls-cert and --tls-key",
            ),
            BoundSocket::Tls(_, tls) if has_tokens || tls.checks_clients() => return Ok(()),
            BoundSocket::Tls(listener, _) => (
                listener,
                "everybody there may do everything: make a token with `coordinated token create`, or add --tls-client-ca to \
                 check the clients' certificates",
            ),
        };
        if self.http_insecure || listener.local_addr()?.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(format!(
            "--http {address} can be reached from other machines, and {missing}; or use a loopback address behind a proxy; \
             or allow it as it is with --http-insecure"
        )
        .into())
    }

    /// True if HTTP is served with TLS somewhere.
    pub(super) fn uses_tls(&self) -> bool {
        let has_tls = |at: &HttpAddress| matches!(at, HttpAddress::At(Address::Tls { .. }));
        self.http.iter().any(has_tls)
    }

    /// The URLs at which the sockets serve.
    ///
    /// # Errors
    /// If the system does not tell an address.
    pub(super) fn urls(&self, sockets: &[BoundSocket]) -> Result<Vec<String>, Box<dyn Error>> {
        let base_path = &self.http_base_path;
        let url = |socket: &BoundSocket| {
            Ok(match socket.local_address()? {
                address @ Address::Tcp { .. } => format!("http://{address}{base_path}"),
                Address::Tls { host, port } => {
                    let address = Address::Tcp { host, port };
                    format!("https://{address}{base_path}")
                }
                address @ Address::Unix(_) => address.to_string(),
            })
        };
        sockets.iter().map(url).collect()
    }

    /// How many tasks may wait for the loop.
    pub(super) fn tasks_max(&self) -> usize {
        // Each request has one task at a time, and one more if its client goes away while it waits.
        self.http_max_requests.get().saturating_mul(2)
    }

    /// Starts to serve HTTP at the sockets, if there are any, as `settings` and these arguments say.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(super) fn start<S: Storage + 'static>(
        &self,
        sockets: Vec<BoundSocket>,
        settings: http::Settings,
        limits: &server::Limits,
        submitter: Submitter<S>,
        stopper: Stopper,
    ) -> Result<Option<Http>, Box<dyn Error>> {
        if sockets.is_empty() {
            return Ok(None);
        }
        for url in self.urls(&sockets)? {
            tracing::info!("serving HTTP at {url}");
        }
        let settings = http::Settings {
            limits: http::Limits {
                connections_max: self.http_max_connections.get(),
                requests_max: self.http_max_requests.get(),
                head_time_max: self.http_head_timeout,
                body_time_max: self.http_body_timeout,
                stall_max: limits.stall_max,
                body_bytes_max: limits.frame.message_bytes_max,
                depth_max: limits.frame.depth_max,
                bodies_bytes_max: limits.unread_total_bytes_max,
                answers_bytes_max: limits.unsent_total_bytes_max,
            },
            hosts: self.http_host.clone(),
            origins: self.http_cors.clone(),
            trusted_proxies: self.http_trusted_proxy.clone(),
            base_path: self.http_base_path.clone(),
            redacted: self.redact.clone(),
            metrics: http::Sources {
                work_specs_max: self.metrics_work_specs,
                ..settings.metrics
            },
            ..settings
        };
        Http::start(sockets, settings, submitter, stopper)
            .map(Some)
            .map_err(|error| format!("cannot start to serve HTTP: {error}").into())
    }
}
