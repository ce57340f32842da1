//! One connection: its socket, its buffers, and its phase.

use super::Limits;
use super::buffer::Buffer;
use super::limits::MESSAGES_PER_TURN;
use super::memory::Memory;
use super::service::{LongRead, Ticket};
use super::socket::{Peer, Socket};
use super::tls_socket::TlsFailure;
use crate::tls::HANDSHAKE_MAX;
use coordinated_client::cborrpc::framing::{Frame, FrameError, FrameLimits, Framer};
use mio::event::Event;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How far a connection is on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages are handled, and answers are sent.
    Open,
    /// Only answers are sent: the peer asked for the end, or sent something that can't be read. What it sends
    /// from now on is dropped.
    Ending,
    /// Our side is shut down. What the peer sends is dropped until it closes its side too.
    Lingering,
}

/// Why a connection has made no progress for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stall {
    /// The peer sent only a part of a message.
    PartialMessage,
    /// The peer does not read its answers.
    UntakenAnswers,
    /// The peer has not finished the TLS handshake.
    Handshake,
}

/// A connection to a peer: what the peer has sent, and what it will be sent.
pub(super) struct Connection<S> {
    pub(super) peer: Peer,
    pub(super) phase: Phase,
    /// True while it is in the queue of the connections that have something to do.
    pub(super) queued: bool,
    /// True while a long read runs or waits to start. Messages wait for its end.
    pub(super) busy: bool,
    /// The ticket of its message while that sleeps. Messages behind it wait for its end.
    pub(super) asleep: Option<Ticket>,
    /// True if its message has slept and is to be handled again, whatever memory others take: other messages may wait
    /// for what becomes of it.
    pub(super) has_woken: bool,
    /// The long read, while it waits to start.
    pub(super) long_read: Option<LongRead>,
    /// Bytes of the message that the long read answers. It may have copied all of them.
    pub(super) read_message_bytes: usize,
    /// Bytes of an answer that is made in several turns, so far.
    partial_answer: usize,
    /// Messages that may still be handled in this turn.
    pub(super) messages_left: u32,
    /// Where the last message is within the input as it was before, and how many bytes of the input it took.
    last: (Range<usize>, usize),
    /// True if that message was put back and is the next one.
    is_put_back: bool,
    socket: Socket,
    session: S,
    framer: Framer,
    input: Buffer,
    output: Buffer,
    /// True if the system may have more bytes for us. Events come only at changes, so this has to be remembered.
    readable: bool,
    /// True if the system may take more bytes from us.
    writable: bool,
    /// True if the peer has closed its side: the end of file then comes without another event.
    hung_up: bool,
    /// True if the end of file was read.
    at_end: bool,
    /// True if `input` has no complete message.
    starved: bool,
    input_moved: Instant,
    output_moved: Instant,
    /// The share of this connection in the memory that the loop counts.
    counted: Memory,
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
            asleep: None,
            has_woken: false,
            long_read: None,
            read_message_bytes: 0,
            partial_answer: 0,
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
            counted: Memory::default(),
        }
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Returns the socket, for a caller that closes it in its own way.
    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Bytes that wait to be sent.
    pub(super) fn unsent(&self) -> usize {
        self.output.len() + self.socket.unsent()
    }

    /// True until a TLS handshake is over.
    pub(super) fn is_shaking_hands(&self) -> bool {
        self.socket.handshake_since().is_some()
    }

    /// Why there is no TLS with the peer, once.
    pub(super) fn take_failure(&mut self) -> Option<TlsFailure> {
        self.socket.take_failure()
    }

    /// The memory that it took when it was last counted.
    pub(super) fn counted(&self) -> Memory {
        self.counted
    }

    /// Counts the memory that it takes now in the total of all connections.
    pub(super) fn count_memory(&mut self, total: &mut Memory) {
        let answered = if self.busy {
            self.read_message_bytes
        } else {
            0
        };
        let now = Memory {
            unread: self.input.memory() + self.socket.partial() + answered,
            unsent: self.output.memory() + self.socket.unsent() + self.partial_answer,
        };
        total.replace(self.counted, now);
        self.counted = now;
    }

    /// True if it may be read from and its messages may be handled, given the memory that all connections take.
    pub(super) fn may_be_served(&self, total: &Memory, limits: &Limits) -> bool {
        if self.phase != Phase::Open {
            // What the peer sends is dropped, and takes no memory.
            return true;
        }
        let unsent = self.unsent();
        !self.busy
            && unsent <= limits.unsent_bytes_max
            && (unsent == 0 || !total.is_crowded(limits))
    }

    /// Notes how many bytes there are of an answer that is made in several turns.
    pub(super) fn note_partial_answer(&mut self, bytes: usize, now: Instant) {
        self.partial_answer = bytes;
        if self.output.is_empty() {
            self.output_moved = now;
        }
    }

    /// When the peer last took bytes of its answers, or when an answer was begun after it had taken all.
    pub(super) fn answers_moved(&self) -> Instant {
        self.output_moved
    }

    /// Bytes that were sent and that the peer's system has not confirmed.
    pub(super) fn undelivered(&self) -> usize {
        self.socket.undelivered()
    }

    /// Notes an event. Errors show when the socket is read or written.
    pub(super) fn note(&mut self, event: &Event) {
        let error = event.is_error();
        self.readable |= event.is_readable() || event.is_read_closed() || error;
        self.writable |= event.is_writable() || event.is_write_closed() || error;
        self.hung_up |= event.is_read_closed() || error;
    }

    /// True if the system may have bytes that this connection can use.
    pub(super) fn wants_to_read(&self) -> bool {
        self.readable && !self.at_end && (self.starved || self.phase != Phase::Open)
    }

    /// True if there may be a message here, or bytes for one.
    pub(super) fn has_input(&self) -> bool {
        self.phase == Phase::Open && (!self.starved || self.wants_to_read())
    }

    /// Reads once, through `scratch`, and returns how many bytes the system gave. A read that fails ends the input as an
    /// end of file does: complete messages that came before it are still handled.
    pub(super) fn fill(&mut self, scratch: &mut [u8], now: Instant) -> usize {
        let read = match self.socket.read(scratch) {
            Ok(read) if read.wire_bytes == 0 => {
                self.end_of_input();
                return 0;
            }
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => return 0,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                return 0;
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer, "cannot read: {error}");
                self.end_of_input();
                return 0;
            }
        };
        // A stream that returned less than was asked for is empty, and its next byte causes an event. An end of
        // file that has come already does not.
        if read.is_drained && !self.hung_up {
            self.readable = false;
        }
        if self.phase == Phase::Open && read.bytes > 0 {
            self.input
                .append(scratch.get(..read.bytes).unwrap_or_default());
            self.starved = false;
        }
        self.input_moved = now;
        read.wire_bytes
    }

    /// Reads all that the system has, with or without an event. From a peer that sends faster than this reads, it
    /// takes a little more than `enough` bytes.
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

    /// The service's state for this connection.
    pub(super) fn session(&mut self) -> &mut S {
        &mut self.session
    }

    /// Takes the next complete message from the input. Returns it with the session.
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

    /// Puts the last message back, so that it is the next one again. Its end is not searched for again: for a long
    /// message that may take longer than a step of its call.
    pub(super) fn put_back(&mut self) {
        self.input.put_back(self.last.1);
        self.is_put_back = true;
    }

    /// Handles no more messages. Answers to earlier ones are still sent.
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

    /// Frees memory that the buffers no longer need. Call this at the end of a turn.
    pub(super) fn free_memory(&mut self) {
        self.input.shrink();
        self.output.shrink();
    }

    /// Sends what the system takes in one write. Returns how many bytes that were.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<usize> {
        if self.unsent() == 0 || !self.writable {
            return Ok(0);
        }
        match self.socket.write(self.output.bytes()) {
            Ok(written) => {
                self.output.take(written.bytes);
                self.writable = !written.is_blocked;
                if written.wire_bytes > 0 {
                    self.output_moved = now;
                }
                Ok(written.wire_bytes)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            // The connection stays writable, so the next turn tries again.
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// True if there are bytes to send and the system may take some.
    pub(super) fn wants_to_write(&self) -> bool {
        self.writable && self.unsent() > 0
    }

    /// True if nothing is left to do in this phase. After `Ending`, our side is shut down, unless the peer has closed
    /// its side too.
    pub(super) fn phase_is_over(&self) -> bool {
        !self.busy
            && self.unsent() == 0
            && match self.phase {
                Phase::Open => self.at_end && self.starved,
                Phase::Ending => true,
                Phase::Lingering => self.at_end,
            }
    }

    /// True if the peer has closed its side or is gone.
    pub(super) fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// True if the peer has closed its side or is gone, also if that was not read yet.
    pub(super) fn has_hung_up(&self) -> bool {
        self.hung_up || self.at_end
    }

    /// Shuts our side down.
    pub(super) fn shutdown_write(&mut self) -> io::Result<()> {
        self.phase = Phase::Lingering;
        self.socket.shutdown_write()
    }

    /// Why this connection should be closed, if it has made no progress for `stall_max`. A connection with an event
    /// that the loop has not handled yet is not stalled, however long the loop was busy.
    pub(super) fn stall(&self, stall_max: Duration, now: Instant) -> Option<Stall> {
        let long_since = |moved| now.saturating_duration_since(moved) >= stall_max;
        if let Some(since) = self.socket.handshake_since() {
            let waited = now.saturating_duration_since(since);
            let limit = HANDSHAKE_MAX.min(stall_max);
            // Time in which the loop did not come to it does not count, up to a point.
            let stalled = waited >= limit && (!self.readable || waited >= 2 * limit);
            return stalled.then_some(Stall::Handshake);
        }
        if self.unsent() > 0 {
            let stalled = !self.writable && long_since(self.output_moved);
            return stalled.then_some(Stall::UntakenAnswers);
        }
        let half_a_message = self.starved && (!self.input.is_empty() || self.socket.partial() > 0);
        let stalled =
            half_a_message && !self.busy && !self.readable && long_since(self.input_moved);
        stalled.then_some(Stall::PartialMessage)
    }
}
