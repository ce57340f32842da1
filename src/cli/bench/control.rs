//! Single calls on a connection of their own: what prepares, checks and cleans up, and the probes of
//! `scale`.

use super::connection::Connection;
use super::failure::Failure;
use super::ledger::Counts;
use super::wire::{Answer, Call, Request};
use crate::address::Address;
use crate::cbor::{Kind, Writer};
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
    pub(super) fn open(address: &Address) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let mut connection = Connection::open(address, 0)?;
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

    /// The name and version of the server, if it tells.
    ///
    /// # Errors
    /// See [`Control::exchange`].
    pub(super) fn server_name(&mut self) -> Result<Option<String>, Failure> {
        let request = Request::new(Call::ServerInfo, |writer| writer.array(0));
        let (name, _) =
            self.exchange(&request, |answer, _| {
                let Ok(info) = answer.result() else {
                    return Ok(None);
                };
                let text = |key| {
                    let value = info.get(key)?.as_string_bytes()?;
                    Some(String::from_utf8_lossy(&value).into_owned())
                };
                Ok(text("server")
                    .map(|name| format!("{name} {}", text("version").unwrap_or_default())))
            })?;
        Ok(name)
    }

    /// Whether there is such a work spec. One of the originals answers an error if there is none.
    ///
    /// # Errors
    /// See [`Control::exchange`].
    pub(super) fn has_spec(&mut self, spec: &str) -> Result<bool, Failure> {
        let request = Request::new(Call::GetWorkSpec, |writer| write_spec_only(writer, spec));
        let (is_there, _) = self.exchange(&request, |answer, _| {
            Ok(answer.result().is_ok_and(|spec| !spec.is_null()))
        })?;
        Ok(is_there)
    }

    /// Makes the work spec.
    ///
    /// # Errors
    /// `Refused`, or see [`Control::exchange`].
    pub(super) fn set_spec(&mut self, spec: &str) -> Result<(), Failure> {
        let request = Request::new(Call::SetWorkSpec, |writer| {
            writer.array(1);
            writer.map(2);
            writer.bytes(b"name");
            writer.bytes(spec.as_bytes());
            writer.bytes(b"min_gb");
            writer.unsigned(0);
        });
        self.exchange(&request, |answer, _| answer.value().map(drop))?;
        Ok(())
    }

    /// Deletes the work spec with its units.
    ///
    /// # Errors
    /// `Refused`, or see [`Control::exchange`].
    pub(super) fn delete_spec(&mut self, spec: &str) -> Result<(), Failure> {
        let request = Request::new(Call::DelWorkSpec, |writer| write_spec_only(writer, spec));
        self.exchange(&request, |answer, _| answer.value().map(drop))?;
        Ok(())
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
    Request::new(Call::Count, |writer| write_spec_only(writer, spec))
}

fn write_spec_only(writer: &mut Writer<'_>, spec: &str) {
    writer.array(1);
    writer.bytes(spec.as_bytes());
}
