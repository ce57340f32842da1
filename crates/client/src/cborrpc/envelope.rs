//! Requests and responses.

use super::framing::FrameError;
use crate::cbor::item::Items;
use crate::cbor::scan::ScanError;
use crate::cbor::{Item, Kind, TAG_EMBEDDED_CBOR, Writer, scan};
use std::borrow::Cow;

/// One request: its parts as they came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The id, which the response repeats; null if absent.
    pub id: Option<Item<'a>>,
    /// The name of the method.
    pub method: Option<Item<'a>>,
    /// Its parameters.
    pub params: Option<Item<'a>>,
}

/// The content of a message.
#[derive(Debug)]
pub enum Message<'a> {
    /// A single request, a map, to be answered by a response.
    Single(Item<'a>),
    /// A list of requests, to be answered by a list of responses.
    List(Items<'a>),
    /// Null: the client is done with the connection.
    Goodbye,
}

/// The content of a message: without the tag 24 and the byte string, which it still has if the string came in chunks.
#[must_use]
pub fn content(message: &[u8]) -> Cow<'_, [u8]> {
    match Item::from_checked(message).kind() {
        Kind::Tag(TAG_EMBEDDED_CBOR, string) => match string.kind() {
            Kind::Bytes(bytes) => bytes,
            _ => Cow::Borrowed(message),
        },
        _ => Cow::Borrowed(message),
    }
}

impl<'a> Message<'a> {
    /// Checks the content of a message, and reads its form.
    ///
    /// # Errors
    /// `Malformed` or `NotARequest`.
    pub fn parse(bytes: &'a [u8], depth_max: usize) -> Result<Self, FrameError> {
        scan::check(bytes, depth_max)?;
        let item = Item::from_checked(bytes);
        match item.kind() {
            Kind::Map(_) => Ok(Self::Single(item)),
            Kind::Array(items) => Ok(Self::List(items)),
            Kind::Null => Ok(Self::Goodbye),
            _ => Err(FrameError::NotARequest {
                found: item.kind_name(),
            }),
        }
    }
}

impl<'a> Request<'a> {
    /// Reads a request from a map. Keys may be text or bytes, in any order; other keys are ignored.
    #[must_use]
    pub fn from_map(map: Item<'a>) -> Self {
        let mut request = Self {
            id: None,
            method: None,
            params: None,
        };
        for (key, value) in map.as_map().into_iter().flatten() {
            match key.as_string_bytes().as_deref() {
                Some(b"id") => request.id = Some(value),
                Some(b"method") => request.method = Some(value),
                Some(b"params") => request.params = Some(value),
                _ => {}
            }
        }
        request
    }

    /// The encoded id for the response.
    #[must_use]
    pub fn id_bytes(&self) -> &'a [u8] {
        self.id.map_or(NULL, Item::bytes)
    }
}

/// The response to one request.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The request's id.
    pub id: Option<Item<'a>>,
    /// The result of the method; the map of the error if it failed.
    pub outcome: Result<Item<'a>, Item<'a>>,
}

/// Why bytes are not a response.
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// They are not CBOR, or nested too deeply.
    #[error("{0}")]
    Malformed(#[from] ScanError),
    /// They are something else.
    #[error("expected a map with a result or an error, got {found}")]
    NotAResponse {
        /// What it is.
        found: &'static str,
    },
}

impl<'a> Response<'a> {
    /// Checks the content of a message, and reads a response from it. A result may be null, but must be there.
    ///
    /// # Errors
    /// See [`ResponseError`].
    pub fn parse(bytes: &'a [u8], depth_max: usize) -> Result<Self, ResponseError> {
        scan::check(bytes, depth_max)?;
        Self::from_item(Item::from_checked(bytes))
    }

    /// Reads a response from an item.
    ///
    /// # Errors
    /// `NotAResponse`.
    pub fn from_item(item: Item<'a>) -> Result<Self, ResponseError> {
        let outcome = match (item.get("result"), item.get_some("error")) {
            (Some(result), _) => Ok(result),
            (None, Some(error)) => Err(error),
            (None, None) => {
                let found = match item.as_map() {
                    Some(_) => "a map without both",
                    None => item.kind_name(),
                };
                return Err(ResponseError::NotAResponse { found });
            }
        };
        Ok(Self {
            id: item.get("id"),
            outcome,
        })
    }
}

/// Writes a request. All names are written as byte strings, which every known server accepts.
pub fn write_request(out: &mut Vec<u8>, id: u64, method: &str, params: &[u8]) {
    begin_request(out, id, method);
    Writer::new(out).encoded(params);
}

/// Begins a request; its parameters must be written next.
pub fn begin_request(out: &mut Vec<u8>, id: u64, method: &str) {
    let mut writer = Writer::new(out);
    writer.map(3);
    writer.bytes(b"id");
    writer.unsigned(id);
    writer.bytes(b"method");
    writer.bytes(method.as_bytes());
    writer.bytes(b"params");
}

/// The id of a response to a request without one.
pub const NULL: &[u8] = &[0xf6];

/// Begins a successful response; its result must be written next.
pub fn begin_success(out: &mut Vec<u8>, id: &[u8]) {
    let mut writer = Writer::new(out);
    writer.map(2);
    writer.bytes(b"id");
    writer.encoded(id);
    writer.bytes(b"result");
}

/// Writes a failed response. Its message is a byte string, since Python 2 can't print every text. The code, by which
/// programs know the error, is left out for clients that don't expect one.
pub fn write_failure(out: &mut Vec<u8>, id: &[u8], message: &str, code: Option<&str>) {
    let mut writer = Writer::new(out);
    writer.map(2);
    writer.bytes(b"id");
    writer.encoded(id);
    writer.bytes(b"error");
    writer.map(if code.is_some() { 2 } else { 1 });
    writer.bytes(b"message");
    writer.bytes(message.as_bytes());
    if let Some(code) = code {
        writer.bytes(b"code");
        writer.bytes(code.as_bytes());
    }
}

/// Puts a request, a response, or a list of them, into a frame.
pub fn write_frame(out: &mut Vec<u8>, content: &[u8]) {
    out.reserve(content.len() + FRAME_HEAD_MAX);
    let mut writer = Writer::new(out);
    writer.tag(TAG_EMBEDDED_CBOR);
    writer.bytes(content);
}

/// Bytes of a tag 24 and the longest byte string head.
const FRAME_HEAD_MAX: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_with_keys_in_any_form_and_order() {
        let bytes = b"\xa4\x66params\x80\x46method\x43now\x61x\x00\x42id\x18\x2a";
        let Ok(Message::Single(request)) = Message::parse(bytes, 10) else {
            panic!("not a request")
        };
        let request = Request::from_map(request);
        assert_eq!(request.id_bytes(), b"\x18\x2a");
        assert_eq!(request.method.map(Item::bytes), Some(&b"\x43now"[..]));
        assert_eq!(request.params.map(Item::bytes), Some(&b"\x80"[..]));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert!(matches!(
            Message::parse(b"\x05", 10),
            Err(FrameError::NotARequest { .. })
        ));
        assert!(matches!(
            Message::parse(b"\xa1\x05", 10),
            Err(FrameError::Malformed(_))
        ));
        assert!(matches!(
            Message::parse(b"\xa0\xa0", 10),
            Err(FrameError::Malformed(_))
        ));
        assert!(matches!(
            Message::parse(b"", 10),
            Err(FrameError::Malformed(_))
        ));
    }

    #[test]
    fn a_written_request_is_read_again() {
        let mut out = Vec::new();
        write_request(&mut out, 300, "now", b"\x80");
        let Ok(Message::Single(request)) = Message::parse(&out, 10) else {
            panic!("not a request")
        };
        let request = Request::from_map(request);
        assert_eq!(request.id_bytes(), b"\x19\x01\x2c");
        assert_eq!(request.method.map(Item::bytes), Some(&b"\x43now"[..]));
        assert_eq!(request.params.map(Item::bytes), Some(&b"\x80"[..]));
    }

    #[test]
    fn responses_have_a_result_or_an_error() {
        let null = Response::parse(b"\xa2\x42id\x01\x46result\xf6", 10).expect("a response");
        assert!(null.outcome.is_ok_and(Item::is_null));
        assert_eq!(null.id.map(Item::bytes), Some(&b"\x01"[..]));
        let mut failure = Vec::new();
        write_failure(&mut failure, NULL, "no", None);
        let failed = Response::parse(&failure, 10).expect("a response");
        assert!(
            failed
                .outcome
                .is_err_and(|error| error.get("message").is_some())
        );
        for (bytes, message) in [
            (&b"\xa1\x42id\x01"[..], "a map without both"),
            (b"\x05", "an integer"),
            (b"\xa1\x01", "expected one item"),
        ] {
            let error = Response::parse(bytes, 10)
                .expect_err("no response")
                .to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn responses_are_framed_with_their_length() {
        let (mut response, mut out) = (Vec::new(), Vec::new());
        write_failure(&mut response, NULL, "no", None);
        write_frame(&mut out, &response);
        assert_eq!(
            out,
            b"\xd8\x18\x57\xa2\x42id\xf6\x45error\xa1\x47message\x42no"
        );
    }
}
