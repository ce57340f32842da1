//! An open socket, and its requests that wait for answers.

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
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How deeply an answer may be nested: more than the daemon accepts by default, and little enough for recursion.
const DEPTH_MAX: usize = 256;
/// How many bytes are read at once.
const PIECE_BYTES: usize = 64 * 1024;
/// When TCP keepalive probes begin on an idle connection, and how often they are sent. Without them a connection to a
/// machine that was cut off or restarted would look alive.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// The shortest time-out of a socket: less than a microsecond would mean none.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Link {
    socket: Socket,
    received: Vec<u8>,
    /// How many of the received bytes have been processed.
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
    /// How long the server may wait before it answers.
    wait: Duration,
}

/// Ends the wait of a server for a request ([`Request::waiting`]), so that it answers at once.
#[derive(Debug)]
pub(crate) struct Hurry(Socket);

impl Hurry {
    /// Sends no more on the connection, which the server takes as a sign to answer what it has received.
    pub(crate) fn end_wait(&self) {
        // If that fails, the connection is broken, and no answer comes anyway.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Closes the connection, so that nobody waits for an answer.
    pub(crate) fn close(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// How long to wait for a server.
pub(super) struct Wait {
    begin: Instant,
    /// When the server last received or sent something, or responded to a check.
    heard: Instant,
    total: Option<Duration>,
    silence: Option<Duration>,
}

/// Why no answer came. After any error except `Silent` the link can't be used any more.
pub(super) enum LinkError {
    Broken(io::Error),
    /// The server received and sent nothing for as long as it may be silent.
    Silent(Duration),
    TimedOut(Duration),
    Unreadable(String),
    /// The server does not accept the request, for this reason, and closes the connection.
    NotAccepted(String),
}

/// A result, or the message of a failure.
type Answer = Result<Value, String>;

impl Wait {
    /// A wait that begins now. `total` limits all of it, `silence` the time in which the server neither receives nor
    /// sends anything.
    pub(super) fn new(total: Option<Duration>, silence: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            begin: now,
            heard: now,
            total,
            silence,
        }
    }

    /// Notes that the server is alive.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// How long to wait for the next bytes; `None` for no limit.
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
    /// Connects. Answers of more than `answer_bytes_max` bytes are an error.
    pub(super) fn open(
        address: &Address,
        timeout: Duration,
        answer_bytes_max: usize,
    ) -> io::Result<Self> {
        let socket = match address {
            Address::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                // This applies to connecting too, which blocks while too many others wait to be accepted.
                socket.set_write_timeout(Some(timeout.max(TIMEOUT_MIN)))?;
                socket
                    .connect(&SockAddr::unix(path)?)
                    .map_err(name_timeout)?;
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

    /// True if no answer is expected, and the server has closed the connection or sent something.
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

    /// Sends requests in one message. [`Link::receive_list`] receives the answer.
    pub(super) fn send_list(&mut self, requests: &[Request], wait: Wait) -> Result<(), LinkError> {
        let mut content = Vec::new();
        Writer::new(&mut content).array(requests.len());
        for request in requests {
            self.write(request, &mut content);
        }
        self.send_content(&content, wait)
    }

    /// Writes a request, and notes that it waits for an answer.
    fn write(&mut self, request: &Request, content: &mut Vec<u8>) {
        let (id, method) = (self.next_id, request.method());
        envelope::write_request(content, id, method, request.params());
        self.waiting.push_back(Waiting {
            id,
            method: method.to_owned(),
            wait: request.wait(),
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

    /// How long the server may wait before it answers that request.
    pub(super) fn wait_of_oldest(&self) -> Duration {
        self.waiting
            .front()
            .map_or(Duration::ZERO, |waiting| waiting.wait)
    }

    /// A way to end the wait of the server for a request, from another thread.
    pub(super) fn hurry(&self) -> io::Result<Hurry> {
        Ok(Hurry(self.socket.try_clone()?))
    }

    /// Waits for the answer to the oldest request that has none. After `Silent` this can be called again.
    pub(super) fn receive(&mut self, wait: &mut Wait) -> Result<Answer, LinkError> {
        let message = self.receive_message(wait)?;
        let waiting = self.waiting.pop_front();
        let content = envelope::content(self.received.get(message).unwrap_or_default());
        // The tag 24 is still there if its byte string came in chunks.
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
            // The server has accepted none of them.
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
            false => Err(unreadable("it has fewer answers than there were requests")),
        }
    }

    /// Waits for a complete message. Returns where it is in the received bytes.
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
            // The remaining time is checked before the next read.
            Err(error) if is_time_out(&error) => Ok(()),
            Err(error) => Err(LinkError::Broken(error)),
        }
    }
}

fn unreadable(problem: impl ToString) -> LinkError {
    LinkError::Unreadable(problem.to_string())
}

/// The result, or the message of the failure, if the response belongs to this request.
fn read_answer(response: &Response<'_>, to: Option<&Waiting>) -> Result<Answer, LinkError> {
    let found = response.id.map(Value::from_item);
    let message_of = |error: Item<'_>| {
        let message = error.get("message").and_then(|message| {
            let message = Value::from_item(message);
            message.as_text_lossy().map(Cow::into_owned)
        });
        message.unwrap_or_else(|| "the server gave no reason".to_owned())
    };
    // The server has not read the id of a message that it does not accept.
    if let (Some(Value::Null), Err(error)) = (&found, response.outcome) {
        return Err(LinkError::NotAccepted(message_of(error)));
    }
    let expected = to.map(|waiting| waiting.id);
    match found.as_ref().and_then(Value::as_u64) == expected && expected.is_some() {
        true => Ok(response.outcome.map(Value::from_item).map_err(message_of)),
        false => Err(unreadable(format!(
            "it has the id {found:?} instead of {expected:?}"
        ))),
    }
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

/// A framing error in an answer. Servers of most other protocols begin with a line of text.
fn unreadable_frame(error: FrameError, received: &[u8]) -> LinkError {
    if let Some(line) = line_of_text(received) {
        return LinkError::Unreadable(format!(
            "the server there does not speak CBOR-RPC: it sent {line:?}"
        ));
    }
    LinkError::Unreadable(match error {
        FrameError::TooLarge { limit } => format!("it is longer than {limit} bytes"),
        FrameError::NotARequest { found } => format!("expected a map, got {found}"),
        FrameError::Malformed(error) => error.to_string(),
        // Only servers have this limit.
        FrameError::Crowded { .. } | FrameError::OtherProtocol(_) => error.to_string(),
    })
}

/// The first line, if it is printable ASCII, with which no answer begins.
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
