//! Connecting a command to its daemon.

use super::output::note;
use crate::cli::values::parse_duration;
use coordinated_client::Address;
use coordinated_client::tls::TlsFiles;
use coordinated_client::{
    Connection, Coordinate, Error as CallError, Options, ServerInfo, Tls, Token,
};
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

/// The flags for the daemon's address and the time-out.
#[derive(Clone, clap::Args)]
pub(super) struct Server {
    #[command(flatten)]
    place: Place,

    /// How long to wait for a daemon that does not respond
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        value_parser = parse_timeout
    )]
    timeout: Duration,
}

/// The flag for the daemon's address.
#[derive(Clone, clap::Args)]
pub(super) struct Place {
    /// Address of the daemon: HOST:PORT, [IPV6]:PORT, tls:HOST:PORT or unix:PATH
    #[arg(
        long,
        env = "COORDINATED_SERVER",
        value_name = "ADDR",
        default_value = Address::DEFAULT
    )]
    server: Address,

    #[command(flatten)]
    tls: TlsFiles,

    /// A file with the token to show the daemon. Without it, the token is taken from the variable COORDINATED_TOKEN, if
    /// that is set
    #[arg(long, env = "COORDINATED_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        timeout if timeout < Duration::from_millis(1) => {
            Err("expected a duration of at least 1ms".to_owned())
        }
        timeout => Ok(timeout),
    }
}

/// A connection to a daemon, and what that daemon supports.
pub(super) struct Daemon {
    pub(super) client: Coordinate,
    info: Option<ServerInfo>,
}

/// No daemon listens at the address.
#[derive(Debug, thiserror::Error)]
#[error(
    "no daemon answers at {address} ({why}): start one with `{start}`, or name another with --server"
)]
pub(super) struct NoDaemon {
    address: Address,
    why: String,
    start: String,
}

/// Something accepts connections but does not answer.
#[derive(Debug, thiserror::Error)]
#[error(
    "{address} accepts connections but did not answer within {}: the daemon is stopped or overloaded, or another \
     program listens there; increase --timeout to wait longer",
    humantime::format_duration(*.after)
)]
struct NoAnswer {
    address: Address,
    after: Duration,
}

impl Server {
    /// The daemon's address.
    pub(super) fn address(&self) -> &Address {
        self.place.address()
    }

    /// Connects, and asks the server what it is.
    ///
    /// # Errors
    /// If no daemon answers. Nothing is retried.
    pub(super) fn connect(&self) -> Result<Daemon, Box<dyn Error>> {
        self.connect_with(Options::default())
    }

    /// True if a token is shown.
    ///
    /// # Errors
    /// As [`Place::token`].
    pub(super) fn has_token(&self) -> Result<bool, Box<dyn Error>> {
        Ok(self.place.token()?.is_some())
    }

    /// Connects with other options for the later calls, except for the time-outs that `--timeout` sets.
    ///
    /// # Errors
    /// If no daemon answers.
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
    /// The daemon's address.
    pub(super) fn address(&self) -> &Address {
        &self.server
    }

    /// Connects, and asks the server what it is.
    ///
    /// # Errors
    /// If no daemon answers. Nothing is retried.
    pub(super) fn connect(&self) -> Result<Daemon, Box<dyn Error>> {
        self.connect_with(Options::default())
    }

    /// The files for TLS.
    pub(super) fn tls_files(&self) -> &TlsFiles {
        &self.tls
    }

    /// Which servers to trust, and how to show who we are.
    ///
    /// # Errors
    /// If a file can't be used.
    pub(super) fn tls(&self) -> Result<Tls, Box<dyn Error>> {
        Ok(Tls::read(&self.tls)?)
    }

    /// The token to show.
    ///
    /// # Errors
    /// If the file can't be read or has none.
    pub(super) fn token(&self) -> Result<Option<Token>, Box<dyn Error>> {
        let text = match &self.token_file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| format!("can't read the token in {}: {error}", file.display()))?,
            None => std::env::var("COORDINATED_TOKEN").unwrap_or_default(),
        };
        match (text.trim(), &self.token_file) {
            ("", Some(file)) => Err(format!("{} has no token", file.display()).into()),
            ("", None) => Ok(None),
            (token, _) => Ok(Some(Token::from(token))),
        }
    }

    fn connect_with(&self, options: Options) -> Result<Daemon, Box<dyn Error>> {
        let options = Options {
            tls: self.tls()?,
            token: self.token()?,
            ..options
        };
        // Any kind of server answers the first call at once.
        let greeting = Options {
            answer_timeout: options.silence_timeout,
            ..options.clone()
        };
        let connection = Connection::open(self.server.clone(), greeting).map_err(explain)?;
        let mut client = Coordinate::new(connection);
        let info = client.server_info().map_err(explain)?;
        *client.connection().options() = options;
        Ok(Daemon { client, info })
    }
}

/// Turns the error of an unreachable or silent server into one that says what to do.
fn explain(error: CallError) -> Box<dyn Error> {
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
    /// True if the daemon has a feature that the originals lack.
    pub(super) fn has(&self, feature: &str) -> bool {
        self.info.as_ref().is_some_and(|info| info.has(feature))
    }

    /// Prints a note about each of these options of units that the daemon may not support.
    pub(super) fn warn_about_options_of_units(&self, delay: Option<Duration>, group: Option<&str>) {
        if self.is_original() && delay.is_some() {
            note("this server may not support --delay; then the units are available at once");
        }
        if self.is_original() && group.is_some() {
            note("this server does not support --group and ignores it");
        }
    }

    /// The URLs at which the daemon serves HTTP.
    pub(super) fn http(&self) -> &[String] {
        self.info.as_ref().map_or(&[], |info| &info.http)
    }

    /// The name and version of the server.
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
