//! An open socket, and the requests on it that wait for their answers.

use super::Request;
use crate::address::Address;
use crate::cbor::{Item, Value};
use crate::cborrpc::envelope::{self, Response};
use crate::cborrpc::framing::{Frame, FrameError, FrameLimits, Framer};
use socket2::{Domain, SockAddr, Socket, Type};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::ToSocketAddrs;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Levels of containers that an answer may have: more than the daemon takes by default, and little enough
/// to walk by recursion.
const DEPTH_MAX: usize = 256;
/// How much is read at once.
const PIECE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
    received: Vec<u8>,
    /// How many of the received bytes are done with.
    used: usize,
    framer: Framer,
    waiting: VecDeque<Waiting>,
    next_id: u64,
}

/// A request that has no answer yet.
#[derive(Debug)]
struct Waiting {
    id: u64,
    method: String,
}

/// Why no answer came. The link can't be used any further.
pub(super) enum LinkError {
    Broken(io::Error),
    TimedOut(Duration),
    Unreadable(String),
    /// The server does not take the request, for this reason, and ends the connection.
    NotTaken(String),
}

/// A result, or the message of a failure.
type Answer = Result<Value, String>;

impl Link {
    /// Connects; answers of more than `answer_bytes_max` bytes will not be read.
    pub(super) fn open(
        address: &Address,
        timeout: Duration,
        answer_bytes_max: usize,
    ) -> io::Result<Self> {
        let socket = match address {
            Address::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.connect(&SockAddr::unix(path)?)?;
                socket
            }
            Address::Tcp { host, port } => connect_tcp(host, *port, timeout)?,
        };
        Ok(Self {
            socket,
            received: Vec::new(),
            used: 0,
            framer: Framer::new(FrameLimits {
                message_bytes_max: answer_bytes_max,
                depth_max: DEPTH_MAX,
            }),
            waiting: VecDeque::new(),
            next_id: 1,
        })
    }

    /// How many requests wait for their answers.
    pub(super) fn unanswered(&self) -> usize {
        self.waiting.len()
    }

    /// True if nothing is waited for, and the server has closed the connection, or says something that nobody
    /// asked for.
    pub(super) fn is_stale(&self) -> bool {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let mut room = [std::mem::MaybeUninit::uninit()];
        self.waiting.is_empty()
            && !self
                .socket
                .recv_with_flags(&mut room, flags)
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends a request.
    pub(super) fn send(&mut self, request: &Request, timeout: Option<Duration>) -> io::Result<()> {
        let (mut content, mut frame) = (Vec::new(), Vec::new());
        envelope::write_request(
            &mut content,
            self.next_id,
            request.method(),
            request.params(),
        );
        envelope::write_frame(&mut frame, &content);
        self.socket.set_write_timeout(timeout)?;
        self.socket
            .write_all(&frame)
            .map_err(|error| match error.kind() {
                ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "it takes nothing"),
                _ => error,
            })?;
        self.waiting.push_back(Waiting {
            id: self.next_id,
            method: request.method().to_owned(),
        });
        self.next_id += 1;
        Ok(())
    }

    /// Waits for the answer to the oldest request that has none. Gives its method, too.
    pub(super) fn receive(
        &mut self,
        timeout: Option<Duration>,
    ) -> (String, Result<Answer, LinkError>) {
        let Some(waiting) = self.waiting.pop_front() else {
            let nothing = LinkError::Unreadable("nothing was asked".to_owned());
            return (String::new(), Err(nothing));
        };
        let answer = self
            .receive_message(timeout)
            .and_then(|message| self.read_answer(message, waiting.id));
        (waiting.method, answer)
    }

    fn read_answer(&self, message: Range<usize>, id: u64) -> Result<Answer, LinkError> {
        let unreadable = |problem: String| LinkError::Unreadable(problem);
        let bytes = self.received.get(message).unwrap_or_default();
        // Its tag 24 is still there if the byte string in it came in pieces.
        let content = envelope::content(bytes);
        let response =
            Response::parse(&content, DEPTH_MAX).map_err(|error| unreadable(error.to_string()))?;
        let found = response.id.map(Value::from_item);
        let message_of = |error: Item<'_>| {
            let message = error.get("message").and_then(|message| {
                let message = Value::from_item(message);
                message.as_text_lossy().map(Cow::into_owned)
            });
            message.unwrap_or_else(|| "the server does not say why".to_owned())
        };
        // Of a message that it does not take, the server has not read the id.
        if let (Some(Value::Null), Err(error)) = (&found, response.outcome) {
            return Err(LinkError::NotTaken(message_of(error)));
        }
        if found.as_ref().and_then(Value::as_u64) != Some(id) {
            return Err(unreadable(format!(
                "it has the id {found:?} instead of {id}"
            )));
        }
        Ok(response.outcome.map(Value::from_item).map_err(message_of))
    }

    /// Waits for a whole message: where it is among the received bytes.
    fn receive_message(&mut self, timeout: Option<Duration>) -> Result<Range<usize>, LinkError> {
        let deadline = timeout.map(|timeout| (Instant::now() + timeout, timeout));
        loop {
            let received = self.received.get(self.used..).unwrap_or_default();
            match self.framer.next(received).map_err(unreadable_frame)? {
                Frame::Complete { message, consumed } => {
                    let range = self.used + message.start..self.used + message.end;
                    self.used += consumed;
                    return Ok(range);
                }
                Frame::Incomplete => self.read_more(deadline)?,
            }
        }
    }

    fn read_more(&mut self, deadline: Option<(Instant, Duration)>) -> Result<(), LinkError> {
        self.received.drain(..self.used);
        self.used = 0;
        let left = match deadline {
            None => None,
            Some((at, timeout)) => match at.saturating_duration_since(Instant::now()) {
                Duration::ZERO => return Err(LinkError::TimedOut(timeout)),
                left => Some(left),
            },
        };
        self.socket
            .set_read_timeout(left)
            .map_err(LinkError::Broken)?;
        let end = self.received.len();
        self.received.resize(end + PIECE_BYTES, 0);
        let read = self.socket.read(&mut self.received[end..]);
        self.received.truncate(end + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => {
                let why = "the server closed it";
                let error = io::Error::new(ErrorKind::UnexpectedEof, why);
                Err(LinkError::Broken(error))
            }
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                // The deadline is looked at before the next read.
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(()),
                _ => Err(LinkError::Broken(error)),
            },
        }
    }
}

/// Connects to the first of the addresses of a host that answers.
fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<Socket> {
    let mut failure = None;
    for address in (host, port).to_socket_addrs()? {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        match socket.connect_timeout(&address.into(), timeout) {
            Ok(()) => {
                // Each request is sent in one go, and should not wait for a confirmation of the last one.
                socket.set_tcp_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => failure = Some(error),
        }
    }
    let nothing = || io::Error::new(ErrorKind::NotFound, "the name has no address");
    Err(failure.unwrap_or_else(nothing))
}

/// A framing error, in words for who reads an answer.
fn unreadable_frame(error: FrameError) -> LinkError {
    LinkError::Unreadable(match error {
        FrameError::TooLarge { limit } => format!("it is longer than {limit} bytes"),
        FrameError::NotARequest { found } => format!("expected a map, got {found}"),
        FrameError::Malformed(error) => error.to_string(),
        // Servers have this limit, and no client.
        FrameError::Crowded { .. } => error.to_string(),
    })
}
