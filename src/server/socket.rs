//! A connected stream socket, TCP, TCP with TLS, or Unix, and its ends: shutdown, reset, and whether all bytes have arrived.

use super::tls_socket::{TlsFailure, TlsSocket};
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

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
    Tls(Box<TlsSocket>),
    Unix(UnixStream),
}

/// What one read gave.
pub(super) struct Read {
    /// Bytes in the buffer.
    pub(super) bytes: usize,
    /// Bytes that the system gave. With TLS, these may be some while there are none in the buffer. 0 is the end.
    pub(super) wire_bytes: usize,
    /// True if the system had no more, so that the next byte causes an event. The end of the stream may not.
    pub(super) is_drained: bool,
}

/// What one write did.
pub(super) struct Written {
    /// Bytes that were taken, and need not be kept.
    pub(super) bytes: usize,
    /// Bytes that the system took.
    pub(super) wire_bytes: usize,
    /// True if the system takes no more, so that there will be an event.
    pub(super) is_blocked: bool,
}

impl Socket {
    /// Registers for all events, once. Events come only at changes, so the owner has to remember whether the socket is
    /// readable and writable.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interest),
            Self::Tls(socket) => socket.stream_mut().register(registry, token, interest),
            Self::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        let bytes = match self {
            Self::Tcp(stream) => stream.read(buffer)?,
            Self::Unix(stream) => stream.read(buffer)?,
            Self::Tls(socket) => return socket.read(buffer),
        };
        Ok(Read {
            bytes,
            wire_bytes: bytes,
            is_drained: bytes < buffer.len(),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Written> {
        let written = match self {
            Self::Tcp(stream) => stream.write(bytes)?,
            Self::Unix(stream) => stream.write(bytes)?,
            Self::Tls(socket) => return socket.write(bytes),
        };
        Ok(Written {
            bytes: written,
            wire_bytes: written,
            is_blocked: written < bytes.len(),
        })
    }

    /// Bytes of a TLS record that is not complete.
    pub(super) fn partial(&self) -> usize {
        match self {
            Self::Tls(socket) => socket.partial(),
            Self::Tcp(_) | Self::Unix(_) => 0,
        }
    }

    /// Bytes that were taken, and that the system has not.
    pub(super) fn unsent(&self) -> usize {
        match self {
            Self::Tls(socket) => socket.unsent(),
            Self::Tcp(_) | Self::Unix(_) => 0,
        }
    }

    /// When its TLS handshake began, if that is not over.
    pub(super) fn handshake_since(&self) -> Option<Instant> {
        match self {
            Self::Tls(socket) => socket.handshake_since(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Why there is no TLS with the peer, once.
    pub(super) fn take_failure(&mut self) -> Option<TlsFailure> {
        match self {
            Self::Tls(socket) => socket.take_failure(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Tells the peer that the TLS session is over: what comes now is the end, not an accident.
    pub(super) fn close_session(&mut self) {
        if let Self::Tls(socket) = self {
            socket.close_session();
        }
    }

    /// The TCP socket, if it is one.
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Tls(socket) => Some(socket.stream()),
            Self::Unix(_) => None,
        }
    }

    /// Shuts our side down. The peer can still send.
    pub(super) fn shutdown_write(&mut self) -> io::Result<()> {
        self.close_session();
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(socket) => socket.stream().shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Closes with a reset, after which a Coordinate client retries; it takes an end of file for "no data yet". Bytes
    /// that the peer's system has not confirmed are lost. A Unix socket has no resets, and is just closed.
    pub(super) fn reset(self) {
        if let Some(stream) = self.tcp()
            && let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!("cannot reset a connection, so it is closed: {error}");
        }
    }

    /// How many sent bytes the peer's system has not confirmed yet. 0 for a Unix socket, which delivers them even after
    /// it was closed.
    pub(super) fn undelivered(&self) -> usize {
        let Some(stream) = self.tcp() else { return 0 };
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
