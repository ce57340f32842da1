//! Which daemon a command talks to.

use super::output::note;
use crate::cli::values::parse_duration;
use coordinated_client::Address;
use coordinated_client::{Connection, Coordinate, Error as CallError, Options, ServerInfo};
use std::error::Error;
use std::time::Duration;

/// The daemon that a command talks to, and how long it is waited for.
#[derive(Clone, clap::Args)]
pub(super) struct Server {
    #[command(flatten)]
    place: Place,

    /// How long to wait for a daemon that gives no sign of life
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        value_parser = parse_timeout
    )]
    timeout: Duration,
}

/// Where the daemon is that a command talks to.
#[derive(Clone, clap::Args)]
pub(super) struct Place {
    /// The daemon: HOST:PORT, [IPV6]:PORT or unix:PATH
    #[arg(
        long,
        env = "COORDINATED_SERVER",
        value_name = "ADDR",
        default_value = Address::DEFAULT
    )]
    server: Address,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        timeout if timeout < Duration::from_millis(1) => {
            Err("write a span of time of at least 1ms".to_owned())
        }
        timeout => Ok(timeout),
    }
}

/// The daemon that a command talks to, and what it can do.
pub(super) struct Daemon {
    pub(super) client: Coordinate,
    info: Option<ServerInfo>,
}

/// Nobody answers.
#[derive(Debug, thiserror::Error)]
#[error(
    "no daemon answers at {address} ({why}): start one with `{start}`, or name another with --server"
)]
pub(super) struct NoDaemon {
    address: Address,
    why: String,
    start: String,
}

/// Something accepts connections, and says nothing.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} accepts connections, but has not answered within {}: the daemon there is stopped or overloaded, or it \
     is another program; --timeout waits longer",
    humantime::format_duration(*.after)
)]
struct NoAnswer {
    address: Address,
    after: Duration,
}

impl Server {
    /// Where it is.
    pub(super) fn address(&self) -> &Address {
        self.place.address()
    }

    /// Connects, and asks what is there.
    ///
    /// # Errors
    /// If nobody answers, at once; nothing is tried again.
    pub(super) fn connect(&self) -> Result<Daemon, Box<dyn Error>> {
        self.connect_with(Options::default())
    }

    /// The same, with other options for what comes after, but for the time-outs that `--timeout` sets.
    ///
    /// # Errors
    /// If nobody answers.
    pub(super) fn connect_with(&self, options: Options) -> Result<Daemon, Box<dyn Error>> {
        let longest = options
            .answer_timeout
            .map(|timeout| timeout.max(self.timeout));
        self.place.connect_with(Options {
            connect_timeout: self.timeout,
            silence_timeout: Some(self.timeout),
            answer_timeout: longest,
            ..options
        })
    }
}

impl Place {
    /// Where it is.
    pub(super) fn address(&self) -> &Address {
        &self.server
    }

    /// Connects, and asks what is there.
    ///
    /// # Errors
    /// If nobody answers, at once; nothing is tried again.
    pub(super) fn connect(&self) -> Result<Daemon, Box<dyn Error>> {
        self.connect_with(Options::default())
    }

    fn connect_with(&self, options: Options) -> Result<Daemon, Box<dyn Error>> {
        // What is there has to say so at once, whatever it is.
        let greeting = Options {
            answer_timeout: options.silence_timeout,
            ..options
        };
        let connection = Connection::open(self.server.clone(), greeting).map_err(explained)?;
        let mut client = Coordinate::new(connection);
        let info = client.server_info().map_err(explained)?;
        *client.connection().options() = options;
        Ok(Daemon { client, info })
    }
}

/// The error that nobody answers, with what to do.
fn explained(error: CallError) -> Box<dyn Error> {
    match error {
        CallError::Unreachable { address, source } => {
            let start = match address.to_string().as_str() {
                Address::DEFAULT => "coordinated".to_owned(),
                address => format!("coordinated --listen {address}"),
            };
            let why = source.to_string();
            let no_daemon = NoDaemon {
                address,
                why,
                start,
            };
            no_daemon.into()
        }
        CallError::Timeout { address, after, .. } => NoAnswer { address, after }.into(),
        error => error.into(),
    }
}

impl Daemon {
    /// True if the daemon has something that the originals lack.
    pub(super) fn has(&self, feature: &str) -> bool {
        self.info.as_ref().is_some_and(|info| info.has(feature))
    }

    /// Tells people what becomes of a delay that the daemon may not know.
    pub(super) fn tell_of_delays(&self) {
        if self.is_original() {
            note("this server may not know --delay: then the units are available at once");
        }
    }

    /// What it calls itself, with its version.
    pub(super) fn description(&self) -> String {
        let info = self.info.as_ref();
        info.map_or_else(
            || "an original server".to_owned(),
            |info| format!("{} {}", info.server, info.version),
        )
    }

    /// True if the daemon is one of the originals.
    pub(super) fn is_original(&self) -> bool {
        self.info.is_none()
    }
}
