//! A connected stream socket, TCP or Unix, and its ends: shutdown, reset, and whether all bytes have arrived.

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// The other end of a connection, for the log.
#[derive(Clone, Copy)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    Unix,
}

impl Peer {
    /// Its IP address. None for a Unix socket, where the permissions of the file say who may connect.
    pub(super) fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("a unix socket"),
        }
    }
}

/// The socket of one connection; never blocks.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Registers for all events, once. Events come only at changes, so the owner has to remember whether the socket is
    /// readable and writable.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    /// Shuts our side down. The peer can still send.
    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Closes with a reset, after which a Coordinate client retries; it takes an end of file for "no data yet". Bytes
    /// that the peer's system has not confirmed are lost. A Unix socket has no resets, and is just closed.
    pub(super) fn reset(self) {
        if let Self::Tcp(stream) = &self
            && let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!("cannot reset a connection, so it is closed: {error}");
        }
    }

    /// How many sent bytes the peer's system has not confirmed yet. 0 for a Unix socket, which delivers them even after
    /// it was closed.
    pub(super) fn undelivered(&self) -> usize {
        let Self::Tcp(stream) = self else { return 0 };
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open as long as `stream` lives, and TIOCOUTQ writes one c_int.
        let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        if result == 0 {
            usize::try_from(bytes).unwrap_or(0)
        } else {
            0
        }
    }
}
