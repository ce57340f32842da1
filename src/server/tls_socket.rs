//! A connected TCP socket with TLS on it: bytes come out and go in as they are, and are encrypted on the wire.

use super::buffer::Buffer;
use super::limits::READ_BYTES_PER_TURN;
use super::socket::{Read as Got, Written};
use crate::tls::FIRST_BYTE;
use mio::net::TcpStream;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Instant;

/// Bytes read from the system at once: about the longest TLS record.
const PIECE_BYTES: usize = 16 << 10;
/// Room for what one piece can complete: the piece, and a record of which all but the end had come before.
const ROOM: usize = 3 * PIECE_BYTES;
/// Bytes encrypted before they are sent. At most so much waits here, beside what waits in the answers.
const SEAL_BYTES: usize = 64 << 10;

/// The socket.
pub(super) struct TlsSocket {
    stream: TcpStream,
    session: ServerConnection,
    state: State,
    /// Where the peer is within its present record.
    record: Record,
    /// Encrypted bytes that are not sent yet.
    sealed: Buffer,
    opened: Instant,
    failure: Option<TlsFailure>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has come.
    New,
    Tls,
    /// The peer has ended its side of the session.
    Ended,
    /// TLS has failed. An alert may be left to send; nothing more is read or encrypted.
    Failed,
    /// The peer does not speak TLS. What it is told now is not encrypted, and nothing more is read.
    Plain,
}

/// Why there is no TLS with a peer.
#[derive(Debug)]
pub(super) enum TlsFailure {
    /// It began with these bytes, which are not TLS.
    NotTls(Vec<u8>),
    /// The two sides do not agree, or what came is broken.
    Failed(rustls::Error),
}

/// How many bytes of the present TLS record have come, in plain or encrypted form.
#[derive(Default)]
struct Record {
    head: [u8; Record::HEAD_BYTES],
    got: usize,
}

impl Record {
    const HEAD_BYTES: usize = 5;

    /// Goes on by the bytes that have come.
    fn advance(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if let Some(place) = self.head.get_mut(self.got) {
                *place = *first;
                self.got += 1;
                bytes = bytes.get(1..).unwrap_or_default();
            } else {
                let taken = (self.length() - self.got).min(bytes.len());
                self.got += taken;
                bytes = bytes.get(taken..).unwrap_or_default();
            }
            if self.got >= Self::HEAD_BYTES && self.got == self.length() {
                self.got = 0;
            }
        }
    }

    fn length(&self) -> usize {
        let [.., high, low] = self.head;
        Self::HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]))
    }
}

impl TlsSocket {
    pub(super) fn new(
        stream: TcpStream,
        config: Arc<ServerConfig>,
        now: Instant,
    ) -> io::Result<Self> {
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        // What may wait is limited here.
        session.set_buffer_limit(None);
        Ok(Self {
            stream,
            session,
            state: State::New,
            record: Record::default(),
            sealed: Buffer::default(),
            opened: now,
            failure: None,
        })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// When the handshake began, if it is not over.
    pub(super) fn handshake_since(&self) -> Option<Instant> {
        let is_open = matches!(self.state, State::New | State::Tls);
        (is_open && self.session.is_handshaking()).then_some(self.opened)
    }

    /// Bytes of a record that is not complete.
    pub(super) fn partial(&self) -> usize {
        self.record.got
    }

    /// Encrypted bytes that are not sent yet.
    pub(super) fn unsent(&self) -> usize {
        self.sealed.len()
    }

    /// What went wrong since the last call.
    pub(super) fn take_failure(&mut self) -> Option<TlsFailure> {
        self.failure.take()
    }

    /// Reads until there is nothing more, or until `buffer` is almost full.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let mut got = Got {
            bytes: 0,
            wire_bytes: 0,
            is_drained: false,
        };
        let mut piece = [0; PIECE_BYTES];
        while self.state != State::Ended
            && buffer.len() - got.bytes >= ROOM
            && got.wire_bytes < READ_BYTES_PER_TURN
        {
            let count = match self.stream.read(&mut piece) {
                Ok(0) => return Ok(got),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock && got.wire_bytes > 0 => {
                    got.is_drained = true;
                    break;
                }
                // It fails again at the next read.
                Err(_) if got.wire_bytes > 0 => break,
                Err(error) => return Err(error),
            };
            got.wire_bytes += count;
            let sealed = piece.get(..count).unwrap_or_default();
            let rest = buffer.get_mut(got.bytes..).unwrap_or_default();
            got.bytes += self.open(sealed, rest)?;
            if count < PIECE_BYTES && self.state != State::Ended {
                got.is_drained = true;
                break;
            }
        }
        Ok(got)
    }

    /// Decrypts what has come. Returns how many bytes came out. A failure is noted.
    fn open(&mut self, mut sealed: &[u8], plain: &mut [u8]) -> io::Result<usize> {
        if self.state == State::New && sealed.first() != Some(&FIRST_BYTE) {
            self.state = State::Plain;
            self.failure = Some(TlsFailure::NotTls(sealed.to_vec()));
        }
        if matches!(self.state, State::Plain | State::Failed) {
            return Ok(0);
        }
        self.state = State::Tls;
        self.record.advance(sealed);
        let mut count = 0;
        while !sealed.is_empty() {
            self.session.read_tls(&mut sealed)?;
            let processed = self.session.process_new_packets();
            self.take_sealed()?;
            match processed {
                Ok(state) => {
                    let end = count + state.plaintext_bytes_to_read();
                    let place = plain.get_mut(count..end).ok_or(ErrorKind::InvalidData)?;
                    self.session.reader().read_exact(place)?;
                    count = end;
                    if state.peer_has_closed() {
                        self.state = State::Ended;
                        self.record.got = 0;
                        break;
                    }
                }
                Err(error) => {
                    self.state = State::Failed;
                    self.record.got = 0;
                    self.failure = Some(TlsFailure::Failed(error));
                    break;
                }
            }
        }
        Ok(count)
    }

    /// Takes what the session has to send.
    fn take_sealed(&mut self) -> io::Result<()> {
        if !self.session.wants_write() {
            return Ok(());
        }
        let mut result = Ok(0);
        self.sealed.append_with(|out| {
            while self.session.wants_write() && result.is_ok() {
                result = self.session.write_tls(out);
            }
        });
        result.map(|_| ())
    }

    /// Sends as much as the system takes, of what was encrypted before and of these bytes.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<Written> {
        let mut written = Written {
            bytes: 0,
            wire_bytes: 0,
            is_blocked: false,
        };
        loop {
            while !self.sealed.is_empty() {
                match self.stream.write(self.sealed.bytes()) {
                    Ok(count) => {
                        self.sealed.take(count);
                        written.wire_bytes += count;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        written.is_blocked = true;
                        self.sealed.shrink();
                        return Ok(written);
                    }
                    Err(error) => return Err(error),
                }
            }
            if bytes.is_empty() || written.wire_bytes >= READ_BYTES_PER_TURN {
                self.sealed.shrink();
                return Ok(written);
            }
            let (now, later) = bytes.split_at(bytes.len().min(SEAL_BYTES));
            match self.state {
                State::Plain => self.sealed.append(now),
                State::Failed => {}
                State::New | State::Tls | State::Ended => {
                    self.session.writer().write_all(now)?;
                    self.take_sealed()?;
                }
            }
            written.bytes += now.len();
            bytes = later;
        }
    }

    /// Tells the peer that nothing more comes, if the system takes it at once.
    pub(super) fn close_session(&mut self) {
        if matches!(self.state, State::Tls | State::Ended) {
            self.session.send_close_notify();
        }
        if self.take_sealed().is_ok() {
            let _ = self.write(&[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_counted_byte_by_byte_or_several_at_once() {
        let records = [
            &[22, 3, 1, 0, 2, 7, 7][..],
            &[23, 3, 3, 1, 0],
            &[0; 256],
            &[20, 3, 3, 0, 0],
        ];
        let bytes = records.concat();
        let mut one_by_one = Record::default();
        for (index, byte) in bytes.iter().enumerate() {
            one_by_one.advance(&[*byte]);
            let mut at_once = Record::default();
            at_once.advance(&bytes[..=index]);
            assert_eq!(one_by_one.got, at_once.got);
            assert_eq!(at_once.got == 0, [6, 267, 272].contains(&index), "{index}");
        }
    }
}
