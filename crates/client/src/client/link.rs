//! An open socket, and the requests on it that wait for their answers.

use super::Request;
use crate::address::Address;
use crate::cbor::{Item, Value, Writer, scan};
use crate::cborrpc::envelope::{self, Response};
use crate::cborrpc::framing::{Frame, FrameError, FrameLimits, Framer};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Levels of containers that an answer may have: more than the daemon takes by default, and little enough
/// to walk by recursion.
const DEPTH_MAX: usize = 256;
/// How much is read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// How soon, and how often, the system asks for a sign of life from a machine that sends nothing. Without it a
/// connection to one that was cut off or has lost its memory would look alive.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The shortest time-out of a socket: one of less than a microsecond would be none.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

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

/// How long a server is waited for.
pub(super) struct Wait {
    begin: Instant,
    /// When it took or sent something, or was found alive.
    heard: Instant,
    total: Option<Duration>,
    silence: Option<Duration>,
}

/// Why no answer came. But for `Silent` the link can't be used any further.
pub(super) enum LinkError {
    Broken(io::Error),
    /// The server took or sent nothing for as long as it may be silent.
    Silent(Duration),
    TimedOut(Duration),
    Unreadable(String),
    /// The server does not take the request, for this reason, and ends the connection.
    NotTaken(String),
}

/// A result, or the message of a failure.
type Answer = Result<Value, String>;

impl Wait {
    /// Waits from now on: so long in total, and so long while the server neither takes nor sends anything.
    pub(super) fn new(total: Option<Duration>, silence: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            begin: now,
            heard: now,
            total,
            silence,
        }
    }

    /// The server is alive.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// How long to wait for the next piece; `None`: for ever.
    fn left(&self) -> Result<Option<Duration>, LinkError> {
        let now = Instant::now();
        let total = self.total.map(|total| {
            let left = total.saturating_sub(now - self.begin);
            (left, LinkError::TimedOut(total))
        });
        let silence = self.silence.map(|silence| {
            let left = silence.saturating_sub(now - self.heard);
            (left, LinkError::Silent(silence))
        });
        let limits = [total, silence].into_iter().flatten();
        match limits.min_by_key(|(left, _)| *left) {
            Some((Duration::ZERO, error)) => Err(error),
            Some((left, _)) => Ok(Some(left.max(TIMEOUT_MIN))),
            None => Ok(None),
        }
    }
}

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
                // It holds for connecting, too, which blocks while too many others wait to be accepted.
                socket.set_write_timeout(Some(timeout.max(TIMEOUT_MIN)))?;
                socket.connect(&SockAddr::unix(path)?).map_err(in_words)?;
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
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        self.waiting.is_empty()
            && rustix::net::recv(&self.socket, &mut [0], flags) != Err(Errno::WOULDBLOCK)
    }

    /// Sends a request.
    pub(super) fn send(&mut self, request: &Request, wait: Wait) -> Result<(), LinkError> {
        let mut content = Vec::new();
        self.write(request, &mut content);
        self.send_content(&content, wait)
    }

    /// Sends requests in one message, to which [`Link::receive_list`] gets the answer.
    pub(super) fn send_list(&mut self, requests: &[Request], wait: Wait) -> Result<(), LinkError> {
        let mut content = Vec::new();
        Writer::new(&mut content).array(requests.len());
        for request in requests {
            self.write(request, &mut content);
        }
        self.send_content(&content, wait)
    }

    /// Writes a request, whose answer is to be waited for.
    fn write(&mut self, request: &Request, content: &mut Vec<u8>) {
        let (id, method) = (self.next_id, request.method());
        envelope::write_request(content, id, method, request.params());
        self.waiting.push_back(Waiting {
            id,
            method: method.to_owned(),
        });
        self.next_id += 1;
    }

    fn send_content(&self, content: &[u8], mut wait: Wait) -> Result<(), LinkError> {
        let mut frame = Vec::new();
        envelope::write_frame(&mut frame, content);
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            let timeout = self.socket.set_write_timeout(wait.left()?);
            match timeout.and_then(|()| self.socket.send(rest)) {
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    wait.heard();
                }
                Err(error) if is_time_out(&error) => {}
                Err(error) => return Err(LinkError::Broken(error)),
            }
        }
        Ok(())
    }

    /// The method of the oldest request that has no answer.
    pub(super) fn oldest(&self) -> Option<&str> {
        Some(&self.waiting.front()?.method)
    }

    /// Waits for the answer to the oldest request that has none. After `Silent` it can be waited for once more.
    pub(super) fn receive(&mut self, wait: &mut Wait) -> Result<Answer, LinkError> {
        let message = self.receive_message(wait)?;
        let waiting = self.waiting.pop_front();
        let content = envelope::content(self.received.get(message).unwrap_or_default());
        // Its tag 24 is still there if the byte string in it came in pieces.
        let response = Response::parse(&content, DEPTH_MAX).map_err(unreadable)?;
        read_answer(&response, waiting.as_ref())
    }

    /// Waits for the answers to all requests that have none, which were sent as a list.
    pub(super) fn receive_list(&mut self, wait: &mut Wait) -> Result<Vec<Answer>, LinkError> {
        let message = self.receive_message(wait)?;
        let content = envelope::content(self.received.get(message).unwrap_or_default());
        scan::check(&content, DEPTH_MAX).map_err(unreadable)?;
        let list = Item::from_checked(&content);
        let Some(items) = list.as_list() else {
            // The server has taken none of them.
            let response = Response::from_item(list).map_err(unreadable)?;
            return read_answer(&response, None).map(|answer| vec![answer]);
        };
        let waiting = std::mem::take(&mut self.waiting);
        let mut answers = Vec::new();
        for (index, item) in items.enumerate() {
            let response = Response::from_item(item).map_err(unreadable)?;
            answers.push(read_answer(&response, waiting.get(index))?);
        }
        match answers.len() == waiting.len() {
            true => Ok(answers),
            false => Err(unreadable("it answers fewer requests than were sent")),
        }
    }

    /// Waits for a whole message: where it is among the received bytes.
    fn receive_message(&mut self, wait: &mut Wait) -> Result<Range<usize>, LinkError> {
        loop {
            let received = self.received.get(self.used..).unwrap_or_default();
            match self.framer.next(received) {
                Ok(Frame::Complete { message, consumed }) => {
                    let range = self.used + message.start..self.used + message.end;
                    self.used += consumed;
                    return Ok(range);
                }
                Ok(Frame::Incomplete) => self.read_more(wait)?,
                Err(error) => return Err(unreadable_frame(error, received)),
            }
        }
    }

    fn read_more(&mut self, wait: &mut Wait) -> Result<(), LinkError> {
        self.received.drain(..self.used);
        self.used = 0;
        self.socket
            .set_read_timeout(wait.left()?)
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
            Ok(_) => {
                wait.heard();
                Ok(())
            }
            // What is left of the time is looked at before the next read.
            Err(error) if is_time_out(&error) => Ok(()),
            Err(error) => Err(LinkError::Broken(error)),
        }
    }
}

fn unreadable(problem: impl ToString) -> LinkError {
    LinkError::Unreadable(problem.to_string())
}

/// The result, or the message of the failure, if the response is one to this request.
fn read_answer(response: &Response<'_>, to: Option<&Waiting>) -> Result<Answer, LinkError> {
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
    let expected = to.map(|waiting| waiting.id);
    match found.as_ref().and_then(Value::as_u64) == expected && expected.is_some() {
        true => Ok(response.outcome.map(Value::from_item).map_err(message_of)),
        false => Err(unreadable(format!(
            "it has the id {found:?} instead of {expected:?}"
        ))),
    }
}

/// True if nothing has happened to the socket, but that time has passed.
fn is_time_out(error: &io::Error) -> bool {
    let kind = error.kind();
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// An error of connecting to a Unix socket, whose time-out has another name there.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "connection timed out"),
        _ => error,
    }
}

/// Connects to the first of the addresses of a host that answers.
fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<Socket> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    connect_to_first(&addresses, timeout)
}

/// Each address gets its share of the time that is left, so that the last one has some as well.
fn connect_to_first(addresses: &[SocketAddr], timeout: Duration) -> io::Result<Socket> {
    let begin = Instant::now();
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for (address, still) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let left = timeout.saturating_sub(begin.elapsed());
        let share = left / u32::try_from(still).unwrap_or(u32::MAX);
        match connect_to(*address, share.max(TIMEOUT_MIN)) {
            Ok(socket) => return Ok(socket),
            // This machine may know no such addresses, and yet be reached by others.
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn connect_to(address: SocketAddr, timeout: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.connect_timeout(&address.into(), timeout)?;
    // Each request is sent in one go, and should not wait for a confirmation of the last one.
    socket.set_tcp_nodelay(true)?;
    let (time, interval) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval);
    socket.set_tcp_keepalive(&keepalive)?;
    Ok(socket)
}

/// A framing error, in words for who reads an answer. Servers of most other protocols begin with a line of text.
fn unreadable_frame(error: FrameError, received: &[u8]) -> LinkError {
    if let Some(line) = line_of_text(received) {
        return LinkError::Unreadable(format!(
            "no daemon that speaks CBOR-RPC is there, but something that says {line:?}"
        ));
    }
    LinkError::Unreadable(match error {
        FrameError::TooLarge { limit } => format!("it is longer than {limit} bytes"),
        FrameError::NotARequest { found } => format!("expected a map, got {found}"),
        FrameError::Malformed(error) => error.to_string(),
        // Servers have this limit, and no client.
        FrameError::Crowded { .. } => error.to_string(),
    })
}

/// The first line, if it looks like one: printable ASCII, which no answer begins with.
fn line_of_text(received: &[u8]) -> Option<&str> {
    const SHOWN: usize = 80;
    let line = received.split(|byte| b"\r\n".contains(byte)).next()?;
    let line = line.get(..SHOWN).unwrap_or(line);
    let is_text = line.len() > 3 && line.iter().all(|byte| (b' '..=b'~').contains(byte));
    std::str::from_utf8(line).ok().filter(|_| is_text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_sign_of_life_begins_the_silence_anew_and_not_the_total() {
        let long_ago = Instant::now() - Duration::from_secs(100);
        let seconds = Duration::from_secs;
        let mut wait = Wait {
            begin: long_ago,
            heard: long_ago,
            total: Some(seconds(160)),
            silence: Some(seconds(30)),
        };
        assert!(matches!(wait.left(), Err(LinkError::Silent(limit)) if limit == seconds(30)));
        wait.heard();
        assert!(matches!(wait.left(), Ok(Some(left)) if left <= seconds(30) && left > seconds(20)));
        wait.silence = None;
        assert!(matches!(wait.left(), Ok(Some(left)) if left <= seconds(60) && left > seconds(50)));
        wait.total = Some(seconds(90));
        assert!(matches!(wait.left(), Err(LinkError::TimedOut(limit)) if limit == seconds(90)));
        wait.total = None;
        assert!(matches!(wait.left(), Ok(None)));
    }

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
