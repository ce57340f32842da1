//! A stream of bytes to a server: a socket, and the TLS session on it if there is one.

use crate::address::Address;
use crate::tls::{self, Tls};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::ClientConnection;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How many bytes are read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// When TCP keepalive probes begin on an idle connection, and how often they are sent. Without them a connection to a
/// machine that was cut off or restarted would look alive.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The shortest time-out of a socket: less than a microsecond would mean none.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    session: Option<Box<Session>>,
}

/// TLS on a socket.
#[derive(Debug)]
struct Session {
    tls: ClientConnection,
    /// The name of the server.
    host: String,
    /// True once the server has sent something that is not part of the handshake.
    has_received: bool,
}

/// Why a stream can't be opened.
pub(super) enum OpenError {
    Unreachable(io::Error),
    /// The server was reached, but TLS failed.
    Tls(String),
}

/// Why nothing more comes.
pub(super) enum StreamError {
    Closed,
    Broken(io::Error),
    /// The server has ended the session before it sent anything, so it has read no request.
    Tls(String),
}

impl Stream {
    /// Connects.
    pub(super) fn open(address: &Address, tls: &Tls, timeout: Duration) -> Result<Self, OpenError> {
        let deadline = Instant::now() + timeout;
        let (socket, session) = match address {
            Address::Unix(path) => (connect_unix(path, timeout), None),
            Address::Tcp { host, port } => (connect_tcp(host, *port, timeout), None),
            Address::Tls { host, port } => {
                let session = Session {
                    tls: tls.session(host).map_err(OpenError::Tls)?,
                    host: host.clone(),
                    has_received: false,
                };
                (connect_tcp(host, *port, timeout), Some(Box::new(session)))
            }
        };
        let socket = socket.map_err(OpenError::Unreachable)?;
        let mut stream = Self { socket, session };
        stream.shake_hands(deadline)?;
        Ok(stream)
    }

    /// The handshake of TLS. Afterwards it is certain who the server is, but not whether it accepts this client.
    fn shake_hands(&mut self, deadline: Instant) -> Result<(), OpenError> {
        while let Some(session) = &mut self.session {
            let mut flight = Vec::new();
            session
                .take_sealed(&mut flight)
                .map_err(OpenError::Unreachable)?;
            let is_over = !session.tls.is_handshaking();
            let left = || match deadline.saturating_duration_since(Instant::now()) {
                Duration::ZERO => Err(OpenError::Unreachable(io::Error::new(
                    ErrorKind::TimedOut,
                    "the TLS handshake timed out",
                ))),
                left => Ok(Some(left.max(TIMEOUT_MIN))),
            };
            let mut rest = flight.as_slice();
            while !rest.is_empty() {
                let sent = self.send(rest, left()?).map_err(OpenError::Unreachable)?;
                rest = rest.get(sent..).unwrap_or_default();
            }
            if is_over {
                break;
            }
            // Nothing but the handshake can come before it is over.
            match self.receive(&mut Vec::new(), left()?) {
                Ok(_) => {}
                Err(StreamError::Tls(problem)) => {
                    self.send_alert();
                    return Err(OpenError::Tls(problem));
                }
                Err(StreamError::Broken(error)) => return Err(OpenError::Unreachable(error)),
                Err(StreamError::Closed) => {
                    let problem = "the server closed the connection during the TLS handshake";
                    let error = io::Error::new(ErrorKind::UnexpectedEof, problem);
                    return Err(OpenError::Unreachable(error));
                }
            }
        }
        Ok(())
    }

    /// Tells the server why TLS failed, if it still listens.
    fn send_alert(&mut self) {
        let mut alert = Vec::new();
        if let Some(session) = &mut self.session
            && session.take_sealed(&mut alert).is_ok()
        {
            let _ = self.send(&alert, Some(TIMEOUT_MIN));
        }
    }

    /// The bytes to send for these: the same, or the same encrypted.
    pub(super) fn seal(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let Some(session) = &mut self.session else {
            return Ok(bytes);
        };
        session.tls.set_buffer_limit(None);
        io::Write::write_all(&mut session.tls.writer(), &bytes)?;
        let mut sealed = Vec::new();
        session.take_sealed(&mut sealed)?;
        Ok(sealed)
    }

    /// Sends some sealed bytes, and returns how many; none if a time-out or a signal ended it.
    pub(super) fn send(&self, sealed: &[u8], timeout: Option<Duration>) -> io::Result<usize> {
        let set = self.socket.set_write_timeout(timeout);
        match set.and_then(|()| self.socket.send(sealed)) {
            Err(error) if is_time_out(&error) => Ok(0),
            result => result,
        }
    }

    /// Appends to `received` what has come, and returns how many bytes the socket gave for it; none if a time-out or a
    /// signal ended it.
    pub(super) fn receive(
        &mut self,
        received: &mut Vec<u8>,
        timeout: Option<Duration>,
    ) -> Result<usize, StreamError> {
        self.socket
            .set_read_timeout(timeout)
            .map_err(StreamError::Broken)?;
        let end = received.len();
        received.resize(end + PIECE_BYTES, 0);
        let read = self.socket.read(&mut received[end..]);
        received.truncate(end + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(StreamError::Closed),
            Ok(count) => {
                if let Some(session) = &mut self.session {
                    let sealed = received.split_off(end);
                    session.open(&sealed, received)?;
                }
                Ok(count)
            }
            Err(error) if is_time_out(&error) => Ok(0),
            Err(error) => Err(StreamError::Broken(error)),
        }
    }

    /// True if the server has neither closed the connection nor sent anything.
    pub(super) fn is_quiet(&mut self) -> bool {
        let Some(session) = &mut self.session else {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            return rustix::net::recv(&self.socket, &mut [0], flags) == Err(Errno::WOULDBLOCK);
        };
        // The session itself may send something, such as a ticket for the next handshake.
        let mut received = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let got = rustix::net::recv(&self.socket, piece.as_mut_slice(), RecvFlags::DONTWAIT);
            match got {
                Err(Errno::WOULDBLOCK) => return received.is_empty(),
                Err(_) | Ok((0, _)) => return false,
                Ok((count, _)) => {
                    let sealed = piece.get(..count).unwrap_or_default();
                    if session.open(sealed, &mut received).is_err() || !received.is_empty() {
                        return false;
                    }
                }
            }
        }
    }

    /// The socket again, for another thread that shuts it down.
    pub(super) fn clone_socket(&self) -> io::Result<Socket> {
        self.socket.try_clone()
    }
}

impl Session {
    /// Appends what the session has to send.
    fn take_sealed(&mut self, sealed: &mut Vec<u8>) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(sealed)?;
        }
        Ok(())
    }

    /// Decrypts what has come, and appends it to `received`.
    fn open(&mut self, mut sealed: &[u8], received: &mut Vec<u8>) -> Result<(), StreamError> {
        while !sealed.is_empty() {
            self.tls
                .read_tls(&mut sealed)
                .map_err(StreamError::Broken)?;
            let state = match self.tls.process_new_packets() {
                Ok(state) => state,
                Err(error) if self.has_received => {
                    let error = io::Error::new(ErrorKind::InvalidData, error);
                    return Err(StreamError::Broken(error));
                }
                Err(error) => return Err(StreamError::Tls(tls::explain(&error, &self.host))),
            };
            let end = received.len();
            received.resize(end + state.plaintext_bytes_to_read(), 0);
            let plain = received.get_mut(end..).unwrap_or_default();
            self.has_received |= !plain.is_empty();
            self.tls
                .reader()
                .read_exact(plain)
                .map_err(StreamError::Broken)?;
            if state.peer_has_closed() {
                return match plain.is_empty() {
                    true => Err(StreamError::Closed),
                    // The end of the socket follows.
                    false => Ok(()),
                };
            }
        }
        Ok(())
    }
}

fn connect_unix(path: &std::path::Path, timeout: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // This applies to connecting too, which blocks while too many others wait to be accepted.
    socket.set_write_timeout(Some(timeout.max(TIMEOUT_MIN)))?;
    socket
        .connect(&SockAddr::unix(path)?)
        .map_err(name_timeout)?;
    Ok(socket)
}

/// True if a time-out or a signal ended the call, without an error of the socket.
fn is_time_out(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// An error of connecting to a Unix socket, with a time-out named as for TCP.
fn name_timeout(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "connection timed out"),
        _ => error,
    }
}

/// Connects to the first address of a host that accepts the connection.
fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<Socket> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    connect_to_first(&addresses, timeout)
}

/// Each address gets a share of the remaining time, so that there is time for the last one too.
fn connect_to_first(addresses: &[SocketAddr], timeout: Duration) -> io::Result<Socket> {
    let begin = Instant::now();
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for (address, still) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = timeout.saturating_sub(begin.elapsed());
        let share = left / u32::try_from(still).unwrap_or(u32::MAX);
        match connect_to(*address, share.max(TIMEOUT_MIN)) {
            Ok(socket) => return Ok(socket),
            // Other addresses may work, for example if this machine has no IPv6.
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn connect_to(address: SocketAddr, timeout: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.connect_timeout(&address.into(), timeout)?;
    // Each request is sent in one piece, and should not wait for the confirmation of the last one.
    socket.set_tcp_nodelay(true)?;
    let (time, interval) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn every_address_of_a_host_is_tried_also_behind_one_that_swallows_packets() {
        let closed = TcpListener::bind("127.0.0.1:0").expect("bind");
        let refusing = closed.local_addr().expect("address");
        drop(closed);
        // Connections that nobody accepts, until there is no room for more: the next ones get no answer.
        let full = Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket");
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .expect("bind");
        full.listen(0).expect("listen");
        let swallowing = full.local_addr().expect("address").as_socket().expect("IP");
        let wait = Duration::from_millis(100);
        let _waiting: Vec<Socket> =
            std::iter::from_fn(|| connect_to(swallowing, wait).ok()).collect();
        let open = TcpListener::bind("127.0.0.1:0").expect("bind");
        let open = open.local_addr().expect("address");
        let unknown = SocketAddr::from(([0x100, 0, 0, 0, 0, 0, 0, 1], 1));
        let addresses = [unknown, refusing, swallowing, open];
        let socket = connect_to_first(&addresses, Duration::from_secs(1)).expect("connect");
        let peer = socket.peer_addr().expect("peer").as_socket();
        assert_eq!(peer, Some(open));
    }
}
