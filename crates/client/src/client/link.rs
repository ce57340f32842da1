//! An open connection, and its requests that wait for answers.

use super::stream::{OpenError, Stream, StreamError, TIMEOUT_MIN};
use super::{Options, Request};
use crate::address::Address;
use crate::cbor::{Item, Value, Writer, scan};
use crate::cborrpc::envelope::{self, Response};
use crate::cborrpc::framing::{Frame, FrameError, FrameLimits, Framer};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How deeply an answer may be nested: more than the daemon accepts by default, and little enough for recursion.
const DEPTH_MAX: usize = 256;

#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
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
pub(crate) struct Hurry(socket2::Socket);

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
    /// The server has ended the TLS connection before it answered anything, so it has read no request.
    Tls(String),
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
    /// Connects, by these options.
    pub(super) fn open(address: &Address, options: &Options) -> Result<Self, OpenError> {
        Ok(Self {
            stream: Stream::open(address, &options.tls, options.connect_timeout)?,
            received: Vec::new(),
            used: 0,
            framer: Framer::new(FrameLimits {
                message_bytes_max: options.answer_bytes_max,
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
    pub(super) fn is_stale(&mut self) -> bool {
        self.waiting.is_empty() && !self.stream.is_quiet()
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

    fn send_content(&mut self, content: &[u8], mut wait: Wait) -> Result<(), LinkError> {
        let mut frame = Vec::new();
        envelope::write_frame(&mut frame, content);
        let frame = self.stream.seal(frame).map_err(LinkError::Broken)?;
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            match self.stream.send(rest, wait.left()?) {
                Ok(0) => {}
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    wait.heard();
                }
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
        Ok(Hurry(self.stream.clone_socket()?))
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
        match self.stream.receive(&mut self.received, wait.left()?) {
            Ok(0) => Ok(()),
            Ok(_) => {
                wait.heard();
                Ok(())
            }
            Err(StreamError::Closed) => {
                let why = "the server closed it";
                let error = io::Error::new(ErrorKind::UnexpectedEof, why);
                Err(LinkError::Broken(error))
            }
            Err(StreamError::Broken(error)) => Err(LinkError::Broken(error)),
            Err(StreamError::Tls(problem)) => Err(LinkError::Tls(problem)),
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
        FrameError::Crowded { .. } | FrameError::NotTls | FrameError::OtherProtocol(_) => {
            error.to_string()
        }
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
}
