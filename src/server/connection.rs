//! One connection: its buffers, and how far it has come.

use super::limits::{IDLE_BUFFER_BYTES, MESSAGES_PER_TURN};
use super::room::Held;
use super::service::Job;
use super::socket::{Peer, Socket};
use coordinated_client::cborrpc::framing::{Frame, FrameError, FrameLimits, Framer};
use mio::event::Event;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What is still to come on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages and answers.
    Open,
    /// Only answers: the peer asked for the end, or sent what can't be read. What it sends is
    /// dropped.
    Ending,
    /// Nothing: our side is shut, and what the peer sends is dropped until it closes too.
    Lingering,
}

/// Why a connection has been without progress for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stall {
    /// It sent half a message.
    HalfAMessage,
    /// It doesn't take its answers.
    UnmovingAnswers,
}

/// A peer, what it has sent and what it will be sent.
pub(super) struct Connection<S> {
    pub(super) peer: Peer,
    pub(super) phase: Phase,
    /// In the queue of the connections that have something to do.
    pub(super) queued: bool,
    /// A long read is under way, or waits to begin, and messages wait for its end.
    pub(super) busy: bool,
    /// The long read, while it waits to begin.
    pub(super) job: Option<Job>,
    /// Bytes of the message that the long read answers: it may have kept a copy of all of them.
    pub(super) job_message: usize,
    /// Bytes of the answer that is made in several turns, so far.
    making: usize,
    /// Messages that may still be handled in this turn.
    pub(super) messages_left: u32,
    /// The message that was taken last, within what was unread before, and how much of that it took.
    last: (Range<usize>, usize),
    /// True if it was put back, and is the next one.
    is_put_back: bool,
    socket: Socket,
    session: S,
    framer: Framer,
    input: Buffer,
    output: Buffer,
    /// The system may have more bytes for us. Events come only at changes, so this has to be kept.
    readable: bool,
    /// The system may take more bytes from us.
    writable: bool,
    /// The peer has closed its side, so the end of file comes without another event.
    hung_up: bool,
    /// The end of file was read.
    at_end: bool,
    /// No whole message is left in `input`.
    starved: bool,
    input_moved: Instant,
    output_moved: Instant,
    /// The share of this connection in what the loop counts.
    pub(super) counted: Held,
}

impl<S> Connection<S> {
    pub(super) fn new(
        socket: Socket,
        peer: Peer,
        session: S,
        limits: FrameLimits,
        now: Instant,
    ) -> Self {
        Self {
            peer,
            phase: Phase::Open,
            queued: false,
            busy: false,
            job: None,
            job_message: 0,
            making: 0,
            messages_left: MESSAGES_PER_TURN,
            last: (0..0, 0),
            is_put_back: false,
            socket,
            session,
            framer: Framer::new(limits),
            input: Buffer::default(),
            output: Buffer::default(),
            readable: true,
            writable: true,
            hung_up: false,
            at_end: false,
            starved: true,
            input_moved: now,
            output_moved: now,
            counted: Held::default(),
        }
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Gives the socket back, to close it in a way of its own.
    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Bytes that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.output.len()
    }

    /// The memory that answers take: those that wait to be sent, and one in the making.
    pub(super) fn unsent_memory(&self) -> usize {
        self.output.memory() + self.making
    }

    /// The memory that messages take: what was received and is no handled message yet, and what a long read
    /// answers.
    pub(super) fn unread_memory(&self) -> usize {
        let answered = if self.busy { self.job_message } else { 0 };
        self.input.memory() + answered
    }

    /// Takes note of how much there is of an answer that is made in several turns.
    pub(super) fn note_making(&mut self, bytes: usize, now: Instant) {
        self.making = bytes;
        if self.output.is_empty() {
            self.output_moved = now;
        }
    }

    /// When the peer last took some of its answers, or one was begun when it had taken all.
    pub(super) fn answers_moved(&self) -> Instant {
        self.output_moved
    }

    /// Bytes that were sent and have not been confirmed.
    pub(super) fn undelivered(&self) -> usize {
        self.socket.undelivered()
    }

    /// Takes note of what the system said. Errors are met by reading and writing.
    pub(super) fn note(&mut self, event: &Event) {
        let error = event.is_error();
        self.readable |= event.is_readable() || event.is_read_closed() || error;
        self.writable |= event.is_writable() || event.is_write_closed() || error;
        self.hung_up |= event.is_read_closed() || error;
    }

    /// True if there are bytes to be had that are wanted, whenever messages may be taken.
    pub(super) fn wants_to_read(&self) -> bool {
        self.readable && !self.at_end && (self.starved || self.phase != Phase::Open)
    }

    /// True if a turn may find a message here, or the bytes for one.
    pub(super) fn has_input(&self) -> bool {
        self.phase == Phase::Open && (!self.starved || self.wants_to_read())
    }

    /// Reads once, into `scratch`, and keeps what belongs to messages. A read that fails is the end
    /// of the input like any other: what came whole before it still counts.
    pub(super) fn fill(&mut self, scratch: &mut [u8], now: Instant) {
        let read = match self.socket.read(scratch) {
            Ok(0) => {
                self.end_of_input();
                return;
            }
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return;
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer, "cannot read: {error}");
                self.end_of_input();
                return;
            }
        };
        // A stream that gave less than was asked for is empty, and its next byte is an event; only
        // an end of file that is already there is not.
        if read < scratch.len() && !self.hung_up {
            self.readable = false;
        }
        if self.phase == Phase::Open {
            self.input.append(scratch.get(..read).unwrap_or_default());
            self.starved = false;
            self.input_moved = now;
        }
    }

    /// Reads all that is there, whether or not there was an event for it. From a peer that sends
    /// faster than that, `enough` bytes are taken and a little more.
    pub(super) fn fill_all(&mut self, scratch: &mut [u8], enough: usize, now: Instant) {
        let mut asked = 0;
        self.readable = true;
        while self.phase == Phase::Open && self.readable && !self.at_end && asked <= enough {
            asked += scratch.len();
            self.fill(scratch, now);
        }
    }

    fn end_of_input(&mut self) {
        self.readable = false;
        self.at_end = true;
    }

    /// What the service remembers for it.
    pub(super) fn session(&mut self) -> &mut S {
        &mut self.session
    }

    /// The next whole message, which is now taken from the input, and the session to handle it
    /// with.
    pub(super) fn next_message(&mut self) -> Result<Option<(&mut S, &[u8])>, FrameError> {
        if self.input.is_empty() {
            self.starved = true;
            return Ok(None);
        }
        if !std::mem::take(&mut self.is_put_back) {
            match self.framer.next(self.input.bytes()) {
                Ok(Frame::Incomplete) => {
                    self.starved = true;
                    return Ok(None);
                }
                Ok(Frame::Complete { message, consumed }) => self.last = (message, consumed),
                Err(error) => {
                    self.end();
                    return Err(error);
                }
            }
        }
        self.messages_left = self.messages_left.saturating_sub(1);
        let (message, consumed) = self.last.clone();
        let bytes = self.input.take(consumed);
        let message = bytes.get(message).unwrap_or_default();
        Ok(Some((&mut self.session, message)))
    }

    /// Puts the message that was taken last back, to be taken once more. Its end is not looked for again, which for
    /// a long one may take longer than what is done with it.
    pub(super) fn put_back(&mut self) {
        self.input.put_back(self.last.1);
        self.is_put_back = true;
    }

    /// From now on only what was answered before is sent.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Ending;
        self.input = Buffer::default();
    }

    /// Appends bytes to send.
    pub(super) fn append(&mut self, now: Instant, write: impl FnOnce(&mut Vec<u8>)) {
        if self.output.is_empty() {
            self.output_moved = now;
        }
        self.output.append_with(write);
    }

    /// Gives the memory of both buffers back that they have no more use for. To be called at the end of a turn.
    pub(super) fn give_memory_back(&mut self) {
        self.input.shrink();
        self.output.shrink();
    }

    /// Sends what the system takes in one write, and gives how much that was.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<usize> {
        if self.output.is_empty() || !self.writable {
            return Ok(0);
        }
        match self.socket.write(self.output.bytes()) {
            Ok(written) => {
                self.output.take(written);
                self.writable = self.output.is_empty();
                self.output_moved = now;
                Ok(written)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            // The connection stays writable and is tried again.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// True if there is something to send that the system may take.
    pub(super) fn wants_to_write(&self) -> bool {
        self.writable && !self.output.is_empty()
    }

    /// True if nothing is left to do for this phase. In the phase `Ending` what follows is to shut
    /// our side, unless the peer has closed too.
    pub(super) fn phase_is_over(&self) -> bool {
        !self.busy
            && self.output.is_empty()
            && match self.phase {
                Phase::Open => self.at_end && self.starved,
                Phase::Ending => true,
                Phase::Lingering => self.at_end,
            }
    }

    /// True if the peer has closed its side, or is gone.
    pub(super) fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn shutdown_write(&mut self) -> io::Result<()> {
        self.phase = Phase::Lingering;
        self.socket.shutdown_write()
    }

    /// Why this connection should be closed, if it has not moved for `stall_max`. One that has an
    /// event to be dealt with is not stalled, however long the loop was held up.
    pub(super) fn stall(&self, stall_max: Duration, now: Instant) -> Option<Stall> {
        let long_since = |moved| now.saturating_duration_since(moved) >= stall_max;
        if !self.output.is_empty() {
            let stalled = !self.writable && long_since(self.output_moved);
            return stalled.then_some(Stall::UnmovingAnswers);
        }
        let half_a_message = self.starved && !self.input.is_empty();
        let stalled =
            half_a_message && !self.busy && !self.readable && long_since(self.input_moved);
        stalled.then_some(Stall::HalfAMessage)
    }
}

/// Bytes that are appended at the end and taken from the front.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Where the bytes begin that have not been taken.
    start: usize,
}

impl Buffer {
    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Appends what was received. A buffer that has to grow grows by an eighth, since what it takes counts against the
    /// limit of all messages.
    fn append(&mut self, more: &[u8]) {
        self.make_room();
        let needed = self.bytes.len() + more.len();
        if needed > self.bytes.capacity() {
            self.bytes.reserve_exact(more.len() + needed / 8);
        }
        self.bytes.extend_from_slice(more);
    }

    fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.make_room();
        write(&mut self.bytes);
    }

    /// Moves what is left to the front, once it is no more than what was taken: so no byte is moved
    /// more often than another one is taken.
    fn make_room(&mut self) {
        if self.start > 0 && self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Takes `count` bytes from the front, at most all. They can be looked at until the next
    /// change.
    fn take(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start = from.saturating_add(count).min(self.bytes.len());
        self.bytes.get(from..self.start).unwrap_or_default()
    }

    /// Undoes a [`Self::take`] of so many bytes, if nothing has changed since.
    fn put_back(&mut self, count: usize) {
        self.start = self.start.saturating_sub(count);
    }

    /// The bytes of memory that it takes; none if it is empty, as it then keeps next to nothing.
    fn memory(&self) -> usize {
        if self.is_empty() {
            0
        } else {
            self.bytes.capacity()
        }
    }

    /// Gives memory back if less than a quarter of it is in use: so no byte is moved more often than another one
    /// is taken.
    fn shrink(&mut self) {
        let capacity = self.bytes.capacity();
        if capacity > IDLE_BUFFER_BYTES && self.len() < capacity / 4 {
            self.bytes.drain(..self.start);
            self.start = 0;
            self.bytes.shrink_to(2 * self.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_gives_the_bytes_in_order_and_keeps_no_more_than_twice_what_it_holds() {
        let mut buffer = Buffer::default();
        let mut expected = 0u8;
        let mut next = 0u8;
        for _ in 0..1000 {
            let piece: Vec<u8> = (0..100).map(|offset| next.wrapping_add(offset)).collect();
            next = next.wrapping_add(100);
            buffer.append(&piece);
            let taken = buffer.take(97).to_vec();
            assert_eq!(taken.first(), Some(&expected));
            expected = expected.wrapping_add(97);
            assert!(buffer.bytes.len() <= 2 * buffer.len() + 200);
        }
    }

    #[test]
    fn a_buffer_takes_little_more_memory_than_what_it_holds_and_next_to_none_when_it_is_empty() {
        let mut buffer = Buffer::default();
        buffer.append(&vec![7; 1 << 20]);
        for left in (1..8).map(|halvings| (1 << 20) >> halvings) {
            buffer.take(buffer.len() - left);
            buffer.shrink();
            assert_eq!(buffer.bytes(), vec![7; left]);
            assert!(buffer.memory() <= 4 * left, "{}", buffer.memory());
        }
        buffer.take(buffer.len());
        for size in [1 << 20, 100] {
            buffer.append(&vec![0; size]);
            buffer.take(size);
            buffer.shrink();
            assert_eq!(buffer.memory(), 0);
            assert!(buffer.bytes.capacity() <= IDLE_BUFFER_BYTES);
        }
    }
}
