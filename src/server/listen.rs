//! Where the daemon listens: addresses as people write them, and the sockets behind them.

use super::admission::Admission;
use super::limits::BACKLOG;
use super::socket::{Peer, Socket};
use super::unix_socket::{self, SocketFile};
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// A place to listen at: `127.0.0.1:5932`, `[::1]:5932`, `localhost:5932` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port of one address, or of all that a name stands for.
    Tcp {
        /// A name or an address, without the brackets of IPv6.
        host: String,
        /// The port; 0 lets the system choose one.
        port: u16,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// A text that is no [`ListenAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot listen on '{0}': \
     write HOST:PORT, [IPV6]:PORT or unix:PATH, for example 127.0.0.1:5932"
)]
pub struct ParseListenAddressError(String);

/// Why the daemon can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there, or has the port.
    #[error(
        "cannot listen on {address}: it is in use; \
         stop the program that has it (an earlier coordinated?) or choose another address"
    )]
    InUse {
        /// The address as it was asked for.
        address: ListenAddress,
    },
    /// This user may not listen there.
    #[error(
        "cannot listen on {address}: permission denied; \
         choose a port from 1024 up or a path in a folder that you may write to"
    )]
    Denied {
        /// The address as it was asked for.
        address: ListenAddress,
    },
    /// The name stands for no address.
    #[error(
        "cannot listen on {address}: the name can't be resolved ({source}); \
         check it or write an IP address"
    )]
    Unresolved {
        /// The address as it was asked for.
        address: ListenAddress,
        /// What the resolver said.
        source: io::Error,
    },
    /// The address is none of this machine's.
    #[error(
        "cannot listen on {address}: this machine doesn't have that address; \
         choose one of its own, or 0.0.0.0 for all of them"
    )]
    NotLocal {
        /// The address as it was asked for.
        address: ListenAddress,
    },
    /// Machines elsewhere could connect, and nobody has said which of them may.
    #[error(
        "cannot listen on {address}: other machines can reach it, so add --allow with the networks \
         that may connect, for example --allow 127.0.0.0/8,10.0.0.0/8 (everybody: \
         --allow 0.0.0.0/0,::/0)"
    )]
    NobodyAllowed {
        /// The address as it was asked for.
        address: ListenAddress,
    },
    /// A file that is in the way and is not ours to remove.
    #[error(
        "cannot listen on {address}: a file that is no socket is there; \
         move it away or choose another path"
    )]
    NotASocket {
        /// The address as it was asked for.
        address: ListenAddress,
    },
    /// Anything else that the system said.
    #[error("cannot listen on {address}: {source}; choose another address")]
    Other {
        /// The address as it was asked for.
        address: ListenAddress,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to listen at.
    #[error("no address to listen on: give at least one, for example 127.0.0.1:5932")]
    NoAddress,
    /// The system has no means left to wait for events with.
    #[error("cannot set up the event loop: {0}; raise the limit of open files (ulimit -n)")]
    Setup(#[from] io::Error),
}

impl FromStr for ListenAddress {
    type Err = ParseListenAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseListenAddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(wrong())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        if host.is_empty() || (bracketed.is_none() && host.contains(':')) {
            return Err(wrong());
        }
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

/// One bound socket; never blocks.
pub(super) enum Listener {
    Tcp(TcpListener),
    /// The listener, and the file that goes with it.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Binds an address, or all that its name stands for.
    pub(super) fn bind(
        address: &ListenAddress,
        admission: &Admission,
    ) -> Result<Vec<Self>, BindError> {
        match address {
            ListenAddress::Tcp { host, port } => bind_tcp(address, host, *port, admission),
            ListenAddress::Unix(path) => {
                let (listener, file) = unix_socket::bind(address, path, admission.socket_mode)?;
                Ok(vec![Self::Unix(listener, file)])
            }
        }
    }

    /// The address that it really has.
    pub(super) fn local_address(&self) -> io::Result<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddress::from),
            Self::Unix(_, file) => Ok(ListenAddress::Unix(file.path().to_owned())),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
            Self::Unix(listener, _) => registry.register(listener, token, Interest::READABLE),
        }
    }

    /// The next waiting connection. TCP sends each answer at once, without waiting for a
    /// confirmation of the one before: each is written in one go.
    pub(super) fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, "TCP_NODELAY can't be set: {error}");
                }
                Ok((Socket::Tcp(stream), Peer::Tcp(peer)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                Ok((Socket::Unix(stream), Peer::Unix))
            }
        }
    }
}

fn bind_tcp(
    address: &ListenAddress,
    host: &str,
    port: u16,
    admission: &Admission,
) -> Result<Vec<Listener>, BindError> {
    let mut resolved: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(ip) => vec![(ip, port).into()],
        Err(_) => (host, port)
            .to_socket_addrs()
            .map_err(|source| BindError::Unresolved {
                address: address.clone(),
                source,
            })?
            .collect(),
    };
    resolved.sort_unstable();
    resolved.dedup();
    if !resolved.iter().all(|at| admission.may_listen(at.ip())) {
        return Err(BindError::NobodyAllowed {
            address: address.clone(),
        });
    }
    let mut listeners = Vec::new();
    let mut not_local = Vec::new();
    for socket_address in resolved {
        // Sets SO_REUSEADDR, without which a restart would have to wait for a minute.
        match TcpListener::bind(socket_address) {
            Ok(listener) => {
                // Mio asks for a queue of 128, too short for hundreds of workers that come back at
                // once: whoever finds it full tries again only after a second.
                socket2::SockRef::from(&listener)
                    .listen(BACKLOG)
                    .map_err(|error| bind_error(address, error))?;
                listeners.push(Listener::Tcp(listener));
            }
            // "localhost" often names an IPv6 address on machines that have none.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => not_local.push(error),
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => not_local.push(error),
            Err(error) => return Err(bind_error(address, error)),
        }
    }
    match not_local.pop() {
        Some(error) if listeners.is_empty() => Err(bind_error(address, error)),
        _ => Ok(listeners),
    }
}

/// What a failed bind means.
pub(super) fn bind_error(address: &ListenAddress, source: io::Error) -> BindError {
    let address = address.clone();
    match source.kind() {
        ErrorKind::AddrInUse => BindError::InUse { address },
        ErrorKind::PermissionDenied => BindError::Denied { address },
        ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
        _ => BindError::Other { address, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Result<Vec<Listener>, BindError> {
        Listener::bind(&text.parse().unwrap(), &Admission::default())
    }

    fn message_of(result: Result<Vec<Listener>, BindError>) -> String {
        match result {
            Ok(_) => panic!("bound"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn addresses_are_displayed_as_they_are_written() {
        for text in [
            "127.0.0.1:5932",
            "[::1]:5932",
            "localhost:0",
            "unix:/run/coordinated.sock",
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn texts_that_are_no_address_are_refused_with_an_example() {
        for text in [
            "",
            "localhost",
            ":5932",
            "::1:5932",
            "host:65536",
            "host:",
            "unix:",
            "[]:1",
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:5932"), "{error}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named_in_the_error() {
        let first = bind("127.0.0.1:0").unwrap();
        let address = first[0].local_address().unwrap().to_string();
        let message = message_of(bind(&address));
        assert!(
            message.contains(&address) && message.contains("in use"),
            "{message}"
        );
    }

    #[test]
    fn a_name_is_bound_at_an_address_that_this_machine_has() {
        assert!(!bind("localhost:0").unwrap().is_empty());
        let admission = Admission {
            allow: vec!["192.0.2.0/24".parse().unwrap()],
            ..Admission::default()
        };
        let elsewhere = "192.0.2.1:0".parse().unwrap();
        let message = message_of(Listener::bind(&elsewhere, &admission));
        assert!(message.contains("doesn't have that address"), "{message}");
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused_unless_somebody_says_who_may_connect() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let message = message_of(bind(address));
            assert!(
                message.contains(address) && message.contains("--allow"),
                "{message}"
            );
        }
    }
}
