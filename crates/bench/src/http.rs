//! Calls over HTTP/1.1: `POST /rpc/METHOD` with JSON. Roles write parameters and read results as CBOR, whatever is spoken;
//! here is the translation.

use super::failure::Failure;
use super::token;
use super::wire::Call;
use coordinated_client::Token;
use coordinated_client::cbor::json::AsJson;
use coordinated_client::cbor::json_text::ToCbor;
use coordinated_client::cbor::{Item, Writer};
use coordinated_client::cborrpc::framing::Frame;
use serde::de::DeserializeSeed;
use std::io::Write;
use std::ops::Range;
use std::sync::LazyLock;

/// Header lines of an answer; the daemon sends about six.
const HEADERS_MAX: usize = 32;

/// The header line with the token, if there is one.
static AUTHORIZATION: LazyLock<String> = LazyLock::new(|| {
    let token = token::from_environment().map(Token::reveal);
    token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    })
});

/// Appends a call.
pub(super) fn write_request(out: &mut Vec<u8>, method: &str, params: Item<'_>) {
    let body = AsJson(params).to_text();
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "POST /rpc/{method} HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        *AUTHORIZATION,
        body.len()
    );
}

/// Where the next whole response is in what came in.
///
/// # Errors
/// What is wrong with it.
pub(super) fn next_response(buffered: &[u8]) -> Result<Frame, String> {
    let Some(response) = Response::parse(buffered)? else {
        return Ok(Frame::Incomplete);
    };
    let end = response.body.end;
    Ok(if end > buffered.len() {
        Frame::Incomplete
    } else {
        Frame::Complete {
            message: 0..end,
            consumed: end,
        }
    })
}

/// Replaces `out` by the result of a call as CBOR, from its response: a pair of the value and null, or of null and a
/// message, as over CBOR-RPC.
///
/// # Errors
/// `Unreadable`.
pub(super) fn write_result(out: &mut Vec<u8>, response: &[u8], call: Call) -> Result<(), Failure> {
    let unreadable = |problem: String| Failure::Unreadable { call, problem };
    let parsed = Response::parse(response).map_err(unreadable)?;
    let parsed = parsed.ok_or_else(|| unreadable("its head is not complete".to_owned()))?;
    let body = response.get(parsed.body).unwrap_or_default();
    out.clear();
    Writer::new(out).array(2);
    if parsed.status == 200 {
        let mut json = serde_json::Deserializer::from_slice(body);
        ToCbor(out)
            .deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| unreadable(format!("it is not JSON: {error}")))?;
        Writer::new(out).null();
    } else {
        let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("no detail");
        let mut writer = Writer::new(out);
        writer.null();
        writer.bytes(format!("status {}: {detail}", parsed.status).as_bytes());
    }
    Ok(())
}

/// The head of a response.
#[derive(Debug, PartialEq, Eq)]
struct Response {
    status: u16,
    /// Where the body is.
    body: Range<usize>,
}

impl Response {
    /// `None` if the head is not complete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(bytes);
        let parsed = parsed.map_err(|error| format!("it is not HTTP: {error}"))?;
        let httparse::Status::Complete(body) = parsed else {
            return Ok(None);
        };
        let mut headers = head.headers.iter();
        let length = headers
            .find(|header| header.name.eq_ignore_ascii_case("content-length"))
            .and_then(|header| std::str::from_utf8(header.value).ok()?.parse().ok())
            .and_then(|length| body.checked_add(length));
        Ok(Some(Self {
            status: head.code.unwrap_or_default(),
            body: body..length.ok_or("it has no Content-Length")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinated_client::cbor::Value;

    #[test]
    fn a_response_is_complete_when_its_whole_body_is_there() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrueHTTP/1.1";
        let end = response.len() - "HTTP/1.1".len();
        for length in 0..end {
            let frame = next_response(&response[..length]).expect("a beginning");
            assert!(matches!(frame, Frame::Incomplete), "{length} bytes");
        }
        let frame = next_response(response).expect("a response");
        let Frame::Complete { message, consumed } = frame else {
            panic!("it is complete");
        };
        assert_eq!((message, consumed), (0..end, end));
        assert!(next_response(b"220 smtp.example.org\r\n\r\n").is_err());
        assert!(next_response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn results_and_problems_become_pairs() {
        let pair = |response: &str| {
            let mut out = vec![1, 2, 3];
            write_result(&mut out, response.as_bytes(), Call::GetWork).map(|()| out)
        };
        let found = pair("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue").expect("a result");
        let expected = Value::Array(vec![Value::Bool(true), Value::Null]);
        assert_eq!(found, expected.to_bytes());
        let problem = "HTTP/1.1 409 Conflict\r\nContent-Length: 15\r\n\r\n{\"detail\":\"no\"}";
        let found = pair(problem).expect("a problem");
        let message = Value::Bytes(b"status 409: no".to_vec());
        assert_eq!(found, Value::Array(vec![Value::Null, message]).to_bytes());
        assert!(pair("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope").is_err());
    }
}
