//! Where the daemon listens: the sockets behind addresses.

use super::admission::Admission;
use super::limits::BACKLOG;
use super::socket::{Peer, Socket};
use super::unix_socket::{self, SocketFile};
use coordinated_client::Address;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

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
        address: Address,
    },
    /// This user may not listen there.
    #[error(
        "cannot listen on {address}: permission denied; \
         choose a port from 1024 up or a path in a folder that you may write to"
    )]
    Denied {
        /// The address as it was asked for.
        address: Address,
    },
    /// The name stands for no address.
    #[error(
        "cannot listen on {address}: the name can't be resolved ({source}); \
         check it or write an IP address"
    )]
    Unresolved {
        /// The address as it was asked for.
        address: Address,
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
        address: Address,
    },
    /// Machines elsewhere could connect, and nobody has said which of them may.
    #[error(
        "cannot listen on {address}: other machines can reach it, so add --allow with the networks \
         that may connect, for example --allow 127.0.0.0/8,10.0.0.0/8 (everybody: \
         --allow 0.0.0.0/0,::/0)"
    )]
    NobodyAllowed {
        /// The address as it was asked for.
        address: Address,
    },
    /// A file that is in the way and is not ours to remove.
    #[error(
        "cannot listen on {address}: a file that is no socket is there; \
         move it away or choose another path"
    )]
    NotASocket {
        /// The address as it was asked for.
        address: Address,
    },
    /// Anything else that the system said.
    #[error("cannot listen on {address}: {source}; choose another address")]
    Other {
        /// The address as it was asked for.
        address: Address,
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

/// One bound socket; never blocks.
pub(super) enum Listener {
    Tcp(TcpListener),
    /// The listener, and the file that goes with it.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Binds an address, or all that its name stands for.
    pub(super) fn bind(address: &Address, admission: &Admission) -> Result<Vec<Self>, BindError> {
        match address {
            Address::Tcp { host, port } => bind_tcp(address, host, *port, admission),
            Address::Unix(path) => {
                let (listener, file) = unix_socket::bind(address, path, admission.socket_mode)?;
                Ok(vec![Self::Unix(listener, file)])
            }
        }
    }

    /// The address that it really has.
    pub(super) fn local_address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::from),
            Self::Unix(_, file) => Ok(Address::Unix(file.path().to_owned())),
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
    address: &Address,
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
pub(super) fn bind_error(address: &Address, source: io::Error) -> BindError {
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
