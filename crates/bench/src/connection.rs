//! One connection to the server: requests out, answers in, in order.

use super::failure::Failure;
use super::http;
use super::token;
use super::wire::{Answer, Call, ID_FIRST, Protocol, Request};
use coordinated_client::cbor::Item;
use coordinated_client::cborrpc::framing::{Frame, FrameLimits, Framer};
use coordinated_client::{Address, Tls};
use mio::event::{Event, Source};
use mio::{Interest, Registry, Token};
use rustls::{ClientConnection, StreamOwned};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// What an answer may be: beyond the longest page of units with large data.
const ANSWER_LIMITS: FrameLimits = FrameLimits {
    message_bytes_max: 1 << 30,
    depth_max: 100,
};
/// Room for reading that a buffer begins with, and has at least: a few short answers.
const READ_ROOM: usize = 1 << 10;

/// A socket that never blocks.
enum Socket {
    Tcp(mio::net::TcpStream),
    Tls(Box<StreamOwned<ClientConnection, mio::net::TcpStream>>),
    Unix(mio::net::UnixStream),
}

/// An open connection.
pub(super) struct Connection {
    protocol: Protocol,
    socket: Socket,
    received: Received,
    /// The result of an answer that was not CBOR.
    translated: Vec<u8>,
    pub(super) calls: Calls,
}

/// What is to be sent, and what is waited for.
pub(super) struct Calls {
    output: Vec<u8>,
    written: usize,
    waiting: VecDeque<Waiting>,
    next_id: u32,
}

/// A call that has no answer yet.
#[derive(Clone, Copy)]
pub(super) struct Waiting {
    pub(super) call: Call,
    pub(super) since: Instant,
    id: u32,
}

/// Bytes that came in and are not used up.
struct Received {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// What cuts CBOR-RPC into messages; `None` for HTTP.
    framer: Option<Framer>,
}

impl Connection {
    /// Connects. Number 0 is the first connection, by which it shows whether there is a server.
    ///
    /// # Errors
    /// `NoServer` or `NoHttp` if nobody listens there, `NoConnection`.
    pub(super) fn open(
        address: &Address,
        tls: &Tls,
        protocol: Protocol,
        number: usize,
    ) -> Result<Self, Failure> {
        let socket = match address {
            Address::Tcp { host, port } => connect(host, *port).map(Socket::Tcp),
            Address::Tls { host, port } => connect(host, *port).and_then(|stream| {
                let session = tls.session(host).map_err(io::Error::other)?;
                Ok(Socket::Tls(Box::new(StreamOwned::new(session, stream))))
            }),
            Address::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_nonblocking(true)?;
                Ok(Socket::Unix(mio::net::UnixStream::from_std(stream)))
            }),
        };
        let socket = socket.map_err(|source| match number {
            _ if protocol == Protocol::Http && source.kind() == ErrorKind::ConnectionRefused => {
                Failure::NoHttp {
                    address: address.clone(),
                    source,
                }
            }
            0 => Failure::NoServer {
                address: address.clone(),
                source,
            },
            _ => Failure::NoConnection { number, source },
        })?;
        let framer = match protocol {
            Protocol::CborRpc => Some(Framer::new(ANSWER_LIMITS)),
            Protocol::Http => None,
        };
        let mut calls = Calls {
            output: Vec::new(),
            written: 0,
            waiting: VecDeque::new(),
            next_id: ID_FIRST,
        };
        if let (Some(token), Protocol::CborRpc) = (token::from_environment(), protocol) {
            calls.send(&Request::new(Call::Authenticate, |writer| {
                writer.array(1);
                writer.bytes(token.reveal().as_bytes());
            }));
        }
        Ok(Self {
            protocol,
            socket,
            received: Received {
                bytes: Vec::new(),
                start: 0,
                end: 0,
                framer,
            },
            translated: Vec::new(),
            calls,
        })
    }

    /// Asks for all events, once and for all.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match &mut self.socket {
            Socket::Tcp(stream) => stream.register(registry, token, interest),
            Socket::Tls(stream) => stream.sock.register(registry, token, interest),
            Socket::Unix(stream) => stream.register(registry, token, interest),
        }
    }

    /// Sends what is to be sent, as far as the socket takes it.
    ///
    /// # Errors
    /// `Broken`.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        while let Some(rest) = self.calls.output.get(self.calls.written..)
            && !rest.is_empty()
        {
            let written = match &mut self.socket {
                Socket::Tcp(stream) => stream.write(rest),
                Socket::Tls(stream) => stream.write(rest),
                Socket::Unix(stream) => stream.write(rest),
            };
            match written {
                Ok(count) => self.calls.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error.to_string())),
            }
        }
        self.calls.output.clear();
        self.calls.written = 0;
        if let Socket::Tls(stream) = &mut self.socket {
            return match stream.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    Err(self.broken(&error.to_string()))
                }
                _ => Ok(()),
            };
        }
        Ok(())
    }

    /// Reads what is there, after an event, and hands each whole answer to `take`, with the call that it belongs to
    /// and the calls that may follow.
    ///
    /// # Errors
    /// `Broken`, `Unreadable`, or what `take` returns.
    pub(super) fn receive(
        &mut self,
        event: &Event,
        mut take: impl FnMut(&Waiting, &Answer<'_>, &mut Calls) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        // A session has records of its own, and may keep what it has decrypted.
        let is_tls = matches!(self.socket, Socket::Tls(_));
        let mut more = true;
        while more {
            let room = self.received.make_room();
            let read = match &mut self.socket {
                Socket::Tcp(stream) => stream.read(room),
                Socket::Tls(stream) => stream.read(room),
                Socket::Unix(stream) => stream.read(room),
            };
            match read {
                Ok(0) => return Err(self.broken("the server closed it")),
                Ok(count) => {
                    // Less than there was room for: the socket is empty, no need to ask again. Except
                    // for its end, of which there is no event but this.
                    more = count == room.len() || event.is_read_closed() || is_tls;
                    self.received.end += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error.to_string())),
            }
            while let Some(message) = self.received.next().map_err(|why| self.broken(&why))? {
                let Some(waiting) = self.calls.waiting.pop_front() else {
                    return Err(self.broken("an answer came that nobody asked for"));
                };
                let message = &self.received.bytes[message];
                let answer = match self.protocol {
                    Protocol::CborRpc => Answer::parse(message, waiting.call, waiting.id)?,
                    Protocol::Http => {
                        http::write_result(&mut self.translated, message, waiting.call)?;
                        Answer::of_result(Item::from_checked(&self.translated), waiting.call)
                    }
                };
                if waiting.call == Call::Authenticate {
                    answer.result()?;
                } else {
                    take(&waiting, &answer, &mut self.calls)?;
                }
            }
        }
        Ok(())
    }

    fn broken(&self, why: &str) -> Failure {
        Failure::Broken {
            during: match self.calls.waiting.front() {
                Some(waiting) => format!("while {} was unanswered", waiting.call.method()),
                None => "while nothing was asked".to_owned(),
            },
            why: why.to_owned(),
        }
    }

    /// Both ends' addresses, if this is TCP.
    pub(super) fn tcp_ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        match &self.socket {
            Socket::Tcp(stream) => Some((stream.local_addr().ok()?, stream.peer_addr().ok()?)),
            Socket::Tls(stream) => {
                let stream = &stream.sock;
                Some((stream.local_addr().ok()?, stream.peer_addr().ok()?))
            }
            Socket::Unix(_) => None,
        }
    }

    /// The descriptor of a Unix socket, if this is one.
    pub(super) fn unix_stream(&self) -> Option<&mio::net::UnixStream> {
        match &self.socket {
            Socket::Tcp(_) | Socket::Tls(_) => None,
            Socket::Unix(stream) => Some(stream),
        }
    }
}

fn connect(host: &str, port: u16) -> io::Result<mio::net::TcpStream> {
    let stream = TcpStream::connect((host, port))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(mio::net::TcpStream::from_std(stream))
}

impl Calls {
    /// Makes one call more.
    pub(super) fn send(&mut self, request: &Request) {
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(ID_FIRST);
        request.append_to(&mut self.output, id);
        self.waiting.push_back(Waiting {
            call: request.call,
            since: Instant::now(),
            id,
        });
    }

    /// How many calls wait for their answer.
    pub(super) fn in_flight(&self) -> usize {
        self.waiting.len()
    }
}

impl Received {
    /// Where to read into.
    fn make_room(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() - self.end < READ_ROOM {
            self.bytes.resize((self.bytes.len() * 2).max(READ_ROOM), 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Where the next whole message is.
    fn next(&mut self) -> Result<Option<Range<usize>>, String> {
        let buffered = &self.bytes[self.start..self.end];
        let frame = match &mut self.framer {
            Some(framer) => framer.next(buffered).map_err(|error| error.to_string())?,
            None => http::next_response(buffered)?,
        };
        match frame {
            Frame::Incomplete => Ok(None),
            Frame::Complete { message, consumed } => {
                let range = self.start + message.start..self.start + message.end;
                self.start += consumed;
                Ok(Some(range))
            }
        }
    }
}
