//! Which daemon a command talks to.

use super::output::note;
use crate::address::Address;
use crate::client::{Connection, Coordinate, Error, Options, ServerInfo};

/// Where the daemon is that a command talks to.
#[derive(Clone, clap::Args)]
pub(super) struct Server {
    /// The daemon: HOST:PORT, [IPV6]:PORT or unix:PATH
    #[arg(
        long,
        env = "COORDINATED_SERVER",
        value_name = "ADDR",
        default_value = Address::DEFAULT
    )]
    server: Address,
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

impl Server {
    /// Where it is.
    pub(super) fn address(&self) -> &Address {
        &self.server
    }

    /// Connects, and asks what is there.
    ///
    /// # Errors
    /// If nobody answers, at once; nothing is tried again.
    pub(super) fn connect(&self) -> Result<Daemon, Box<dyn std::error::Error>> {
        self.connect_with(Options::default())
    }

    /// The same, with other options for what comes after.
    ///
    /// # Errors
    /// If nobody answers.
    pub(super) fn connect_with(
        &self,
        options: Options,
    ) -> Result<Daemon, Box<dyn std::error::Error>> {
        let connection = match Connection::open(self.server.clone(), options) {
            Err(Error::Unreachable { address, source }) => {
                let start = match address.to_string().as_str() {
                    Address::DEFAULT => "coordinated".to_owned(),
                    address => format!("coordinated --listen {address}"),
                };
                let why = source.to_string();
                return Err(NoDaemon {
                    address,
                    why,
                    start,
                }
                .into());
            }
            other => other?,
        };
        let mut client = Coordinate::new(connection);
        let info = client.server_info()?;
        Ok(Daemon { client, info })
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
