//! Where the daemon listens: the sockets behind addresses.

use super::admission::Admission;
use super::bind_error::{BindError, bind_error};
use super::limits::BACKLOG;
use super::socket::{Peer, Socket};
use super::tls_socket::TlsSocket;
use super::unix_socket::{self, SocketFile};
use crate::tls::TlsServer;
use coordinated_client::Address;
use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Interest, Registry, Token};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// One bound socket; never blocks.
pub(super) enum Listener {
    Tcp(TcpListener),
    /// A listener whose connections have TLS.
    Tls(TcpListener, Arc<TlsServer>),
    /// The listener, and the file that goes with it.
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Binds an address, or all addresses of its name.
    pub(super) fn bind(
        address: &Address,
        admission: &Admission,
        tls: Option<&Arc<TlsServer>>,
    ) -> Result<Vec<Self>, BindError> {
        match address {
            Address::Tcp { host, port } => {
                let listeners = bind_tcp(address, host, *port, admission)?;
                Ok(listeners.into_iter().map(Self::Tcp).collect())
            }
            Address::Tls { host, port } => {
                let Some(tls) = tls else {
                    let address = address.clone();
                    return Err(BindError::NoCertificate { address });
                };
                let listeners = bind_tcp(address, host, *port, admission)?.into_iter();
                Ok(listeners.map(|at| Self::Tls(at, Arc::clone(tls))).collect())
            }
            Address::Unix(path) => {
                let (listener, file) = unix_socket::bind(address, path, admission.socket_mode)?;
                Ok(vec![Self::Unix(listener, file)])
            }
        }
    }

    fn into_std(self) -> BoundSocket {
        match self {
            Self::Tcp(listener) => BoundSocket::Tcp(OwnedFd::from(listener).into()),
            Self::Tls(listener, tls) => BoundSocket::Tls(OwnedFd::from(listener).into(), tls),
            Self::Unix(listener, file) => BoundSocket::Unix(OwnedFd::from(listener).into(), file),
        }
    }

    /// The address that it is bound to.
    pub(super) fn local_address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::from),
            Self::Tls(listener, _) => listener.local_addr().map(with_tls),
            Self::Unix(_, file) => Ok(Address::Unix(file.path().to_owned())),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener, _) => {
                registry.register(listener, token, Interest::READABLE)
            }
            Self::Unix(listener, _) => registry.register(listener, token, Interest::READABLE),
        }
    }

    /// Accepts the next waiting connection. Nagle's algorithm is switched off, since each answer is written in one
    /// piece and must not wait for the confirmation of the one before.
    pub(super) fn accept(&self, now: Instant) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = accept_tcp(listener)?;
                Ok((Socket::Tcp(stream), Peer::Tcp(peer)))
            }
            Self::Tls(listener, tls) => {
                let (stream, peer) = accept_tcp(listener)?;
                let socket = TlsSocket::new(stream, tls.config(), now)?;
                Ok((Socket::Tls(Box::new(socket)), Peer::Tcp(peer)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                Ok((Socket::Unix(stream), Peer::Unix))
            }
        }
    }
}

/// A bound socket for another server than the loop. Never blocks.
#[derive(Debug)]
pub enum BoundSocket {
    /// A TCP listener.
    Tcp(std::net::TcpListener),
    /// A TCP listener for connections with TLS.
    Tls(std::net::TcpListener, Arc<TlsServer>),
    /// A listener at a Unix socket, and its file, which is removed when this is dropped.
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl BoundSocket {
    /// Binds an address, or all addresses of its name, by the same rules as [`super::Server::bind`].
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(
        address: &Address,
        admission: &Admission,
        tls: Option<&Arc<TlsServer>>,
    ) -> Result<Vec<Self>, BindError> {
        let listeners = Listener::bind(address, admission, tls)?;
        Ok(listeners.into_iter().map(Listener::into_std).collect())
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// If the system doesn't tell.
    pub fn local_address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::from),
            Self::Tls(listener, _) => listener.local_addr().map(with_tls),
            Self::Unix(_, file) => Ok(Address::Unix(file.path().to_owned())),
        }
    }
}

fn with_tls(address: SocketAddr) -> Address {
    Address::Tls {
        host: address.ip().to_string(),
        port: address.port(),
    }
}

fn accept_tcp(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, "cannot set TCP_NODELAY: {error}");
    }
    Ok((stream, peer))
}

fn bind_tcp(
    address: &Address,
    host: &str,
    port: u16,
    admission: &Admission,
) -> Result<Vec<TcpListener>, BindError> {
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
        // This sets SO_REUSEADDR, without which a restart would have to wait for a minute.
        match TcpListener::bind(socket_address) {
            Ok(listener) => {
                // Mio asks for a queue of 128, too short for hundreds of workers that reconnect at the same time: a
                // client that finds it full tries again only after a second.
                socket2::SockRef::from(&listener)
                    .listen(BACKLOG)
                    .map_err(|error| bind_error(address, error))?;
                listeners.push(listener);
            }
            // "localhost" often has an IPv6 address on machines without IPv6.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Result<Vec<Listener>, BindError> {
        Listener::bind(&text.parse().unwrap(), &Admission::default(), None)
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
        let message = message_of(Listener::bind(&elsewhere, &admission, None));
        assert!(message.contains("doesn't have that address"), "{message}");
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused_unless_somebody_says_who_may_connect() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let message = message_of(bind(address));
            assert!(
                message.contains(address) && message.contains("other machines can reach it"),
                "{message}"
            );
        }
    }
}
