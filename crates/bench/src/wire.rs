//! Requests as bytes that are made once and patched, and what is in the answers.
//!
//! All names go out as byte strings and all ids as four-byte integers, which is what each of the
//! known servers takes.

use super::failure::Failure;
use super::http;
use super::names::{NAME_BYTES, UnitName};
use coordinated_client::cbor::item::Items;
use coordinated_client::cbor::{Item, Kind, Writer, scan};
use coordinated_client::cborrpc::envelope::write_frame;
use std::borrow::Cow;

/// Units of the short page.
pub(super) const PAGE_UNITS: usize = 1_000;
/// Units of the long page: the most that the protocol allows.
pub(super) const LONG_PAGE_UNITS: usize = 10_000;

/// Nesting of an answer: our own data has one level.
const DEPTH_MAX: usize = 100;

/// What is called. Two calls of one method are told apart where their times must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// What a connection begins with if there is a token. Its time is not measured.
    Authenticate,
    Add,
    GetWork,
    Finish,
    FinishTogether,
    Count,
    Page,
    LongPage,
    Status,
    Heartbeat,
}

impl Call {
    pub(super) const ALL: [Self; 10] = [
        Self::Authenticate,
        Self::Add,
        Self::GetWork,
        Self::Finish,
        Self::FinishTogether,
        Self::Count,
        Self::Page,
        Self::LongPage,
        Self::Status,
        Self::Heartbeat,
    ];

    /// The method's name on the wire.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Add => "add_work_units",
            Self::GetWork => "get_work",
            Self::Finish => "update_work_unit",
            Self::FinishTogether => "update_work_units",
            Self::Count => "count_work_units",
            Self::Page | Self::LongPage => "get_work_units",
            Self::Status => "get_work_unit_status",
            Self::Heartbeat => "worker_heartbeat",
        }
    }

    /// The name under which its figures are reported.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Page => "get_work_units/1000",
            Self::LongPage => "get_work_units/10000",
            other => other.method(),
        }
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    CborRpc,
    Http,
}

/// A request in its frame, to be sent any number of times with another id each.
pub(super) struct Request {
    pub(super) call: Call,
    protocol: Protocol,
    content: Vec<u8>,
    frame: Vec<u8>,
    name_at: Option<usize>,
}

/// Where the four bytes of the id stand in a request: behind the heads of the map and of the key,
/// the key, and the id's own head.
const ID_AT: usize = 1 + 3 + 1;
/// Ids from here on take four bytes in their shortest form.
pub(super) const ID_FIRST: u32 = 0x1_0000;

impl Request {
    /// A request with the parameters that `write` writes: the head of a list, and its items.
    pub(super) fn new(call: Call, write: impl FnOnce(&mut Writer<'_>)) -> Self {
        Self::over(Protocol::CborRpc, call, write)
    }

    /// The same for a connection that may speak HTTP.
    pub(super) fn over(
        protocol: Protocol,
        call: Call,
        write: impl FnOnce(&mut Writer<'_>),
    ) -> Self {
        let mut request = Self {
            call,
            protocol,
            content: Vec::new(),
            frame: Vec::new(),
            name_at: None,
        };
        request.rewrite(write);
        request
    }

    /// Puts other parameters into the request. It keeps its memory.
    pub(super) fn rewrite(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        self.content.clear();
        self.frame.clear();
        let mut writer = Writer::new(&mut self.content);
        if self.protocol == Protocol::Http {
            write(&mut writer);
            let params = Item::from_checked(&self.content);
            http::write_request(&mut self.frame, self.call.method(), params);
            return;
        }
        writer.map(3);
        writer.bytes(b"id");
        writer.unsigned(u64::from(ID_FIRST));
        writer.bytes(b"method");
        writer.bytes(self.call.method().as_bytes());
        writer.bytes(b"params");
        write(&mut writer);
        write_frame(&mut self.frame, &self.content);
    }

    /// The request that finishes one unit; the unit is named later, by [`Request::set_name`].
    pub(super) fn finish(spec: &str) -> Self {
        let mut name_at = 0;
        let mut request = Self::new(Call::Finish, |writer| {
            writer.array(3);
            writer.bytes(spec.as_bytes());
            writer.bytes(&[0; NAME_BYTES]);
            name_at = writer.len() - NAME_BYTES;
            write_finished(writer, None);
        });
        request.name_at = Some(request.frame.len() - request.content.len() + name_at);
        request
    }

    /// Names the unit that the request is about.
    pub(super) fn set_name(&mut self, name: &UnitName) {
        if let Some(at) = self.name_at {
            self.frame[at..at + NAME_BYTES].copy_from_slice(name);
        }
    }

    /// Appends the frame to `out`. HTTP has no ids.
    pub(super) fn append_to(&self, out: &mut Vec<u8>, id: u32) {
        if self.protocol == Protocol::Http {
            out.extend_from_slice(&self.frame);
            return;
        }
        let id_at = out.len() + self.frame.len() - self.content.len() + ID_AT;
        out.extend_from_slice(&self.frame);
        out[id_at..id_at + 4].copy_from_slice(&id.to_be_bytes());
    }
}

/// The options of a report that a unit is finished, by an attempt if it is told.
pub(super) fn write_finished(writer: &mut Writer<'_>, attempt: Option<u64>) {
    writer.map(1 + usize::from(attempt.is_some()));
    writer.bytes(b"status");
    writer.unsigned(4);
    if let Some(attempt) = attempt {
        writer.bytes(b"attempt");
        writer.unsigned(attempt);
    }
}

/// What a server answered to one call.
pub(super) struct Answer<'a> {
    call: Call,
    content: Result<Item<'a>, Cow<'a, [u8]>>,
}

impl<'a> Answer<'a> {
    /// An answer with this result.
    pub(super) fn of_result(result: Item<'a>, call: Call) -> Self {
        Self {
            call,
            content: Ok(result),
        }
    }

    /// Reads the response with the given id.
    ///
    /// # Errors
    /// `Unreadable` if it is none.
    pub(super) fn parse(message: &'a [u8], call: Call, id: u32) -> Result<Self, Failure> {
        let unreadable = |problem: String| Failure::Unreadable { call, problem };
        scan::check(message, DEPTH_MAX).map_err(|error| unreadable(error.to_string()))?;
        let (mut found_id, mut result, mut error) = (None, None, None);
        let entries = Item::from_checked(message)
            .as_map()
            .ok_or_else(|| unreadable("it is no map".to_owned()))?;
        for (key, value) in entries {
            match key.as_string_bytes().as_deref() {
                Some(b"id") => found_id = Some(value),
                Some(b"result") => result = Some(value),
                Some(b"error") => error = Some(value),
                _ => {}
            }
        }
        match found_id.map(Item::kind) {
            Some(Kind::Unsigned(found)) if found == u64::from(id) => {}
            _ => return Err(unreadable("it has the id of another call".to_owned())),
        }
        let content = match (result, error) {
            (Some(result), None) => Ok(result),
            (_, Some(error)) => Err(error
                .get("message")
                .and_then(Item::as_string_bytes)
                .unwrap_or(Cow::Borrowed(b"an error without a message"))),
            (None, None) => return Err(unreadable("it has neither result nor error".to_owned())),
        };
        Ok(Self { call, content })
    }

    /// The message of an answer that is an error.
    pub(super) fn error(&self) -> Option<String> {
        self.content.as_ref().err().map(|text| one_line(text))
    }

    /// The bare result.
    ///
    /// # Errors
    /// `Refused` if the answer is an error.
    pub(super) fn result(&self) -> Result<Item<'a>, Failure> {
        match &self.content {
            Ok(result) => Ok(*result),
            Err(message) => Err(self.refused(message)),
        }
    }

    /// The value of a result that is a pair of a value and a message.
    ///
    /// # Errors
    /// `Refused` if the value is false or null and there is a message; `Unreadable` if it is no pair.
    pub(super) fn value(&self) -> Result<Item<'a>, Failure> {
        let mut items = self.list(self.result()?)?;
        let (Some(value), Some(message)) = (items.next(), items.next()) else {
            return Err(self.unreadable("a pair of a value and a message was expected"));
        };
        match message.as_string_bytes() {
            Some(message) if is_nothing(value) => Err(self.refused(&message)),
            _ => Ok(value),
        }
    }

    /// The items of a list or tuple.
    ///
    /// # Errors
    /// `Unreadable` if it is none.
    pub(super) fn list(&self, item: Item<'a>) -> Result<Items<'a>, Failure> {
        item.as_list().ok_or_else(|| {
            self.unreadable(&format!("a list was expected, not {}", item.kind_name()))
        })
    }

    pub(super) fn unreadable(&self, problem: &str) -> Failure {
        Failure::Unreadable {
            call: self.call,
            problem: problem.to_owned(),
        }
    }

    fn refused(&self, message: &[u8]) -> Failure {
        Failure::Refused {
            call: self.call,
            message: one_line(message),
        }
    }
}

/// True for what servers answer beside the message of a failure.
pub(super) fn is_nothing(value: Item<'_>) -> bool {
    value.is_null() || matches!(value.kind(), Kind::Bool(false))
}

/// A server's message for people: the originals send whole tracebacks.
pub(super) fn one_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("no message").chars().take(200).collect()
}
