//! Single calls on a connection of their own: the count that all is checked by, and the probes of `scale`.

use super::connection::Connection;
use super::failure::Failure;
use super::ledger::Counts;
use super::wire::{Answer, Call, Protocol, Request};
use coordinated_client::cbor::Kind;
use coordinated_client::{Address, Tls};
use mio::{Events, Poll, Token};
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// A connection that waits for each answer.
pub(super) struct Control {
    pub(super) connection: Connection,
    poll: Poll,
    events: Events,
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// `NoServer`.
    pub(super) fn open(address: &Address, tls: &Tls) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let mut connection = Connection::open(address, tls, Protocol::CborRpc, 0)?;
        connection.register(poll.registry(), Token(0))?;
        Ok(Self {
            connection,
            poll,
            events: Events::with_capacity(8),
        })
    }

    /// Sends a request and waits for its answer, which `read` reads. Also says how long that took.
    ///
    /// # Errors
    /// `Broken`, `Unreadable`, or what `read` returns.
    pub(super) fn exchange<T>(
        &mut self,
        request: &Request,
        mut read: impl FnMut(&Answer<'_>, Instant) -> Result<T, Failure>,
    ) -> Result<(T, Duration), Failure> {
        self.connection.calls.send(request);
        self.connection.flush()?;
        loop {
            match self.poll.poll(&mut self.events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            self.connection.flush()?;
            let mut found = None;
            for event in &self.events {
                self.connection.receive(event, |waiting, answer, _| {
                    let time = waiting.since.elapsed();
                    found = Some((read(answer, waiting.since)?, time));
                    Ok(())
                })?;
            }
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// The numbers of units by status.
    ///
    /// # Errors
    /// `Refused`, or see [`Control::exchange`].
    pub(super) fn counts(&mut self, request: &Request) -> Result<(Counts, Duration), Failure> {
        self.exchange(request, |answer, _| {
            let entries = answer.value()?.as_map();
            let entries = entries.ok_or_else(|| answer.unreadable("a map was expected"))?;
            let mut counts = Counts::default();
            for (status, count) in entries {
                let (Kind::Unsigned(status), Kind::Unsigned(count)) = (status.kind(), count.kind())
                else {
                    return Err(answer.unreadable("expected numbers by status"));
                };
                match status {
                    1 => counts.available = count,
                    3 => counts.pending = count,
                    4 => counts.finished = count,
                    5 => counts.failed = count,
                    _ => {}
                }
            }
            Ok(counts)
        })
    }
}

/// The request for the numbers of units by status.
pub(super) fn count_request(spec: &str) -> Request {
    Request::new(Call::Count, |writer| {
        writer.array(1);
        writer.bytes(spec.as_bytes());
    })
}
