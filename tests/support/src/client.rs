//! A client: bytes out, answers in, and short names for the calls that tests need all the time.

use crate::PATIENCE;
use crate::cbor::{DecodeError, Value, diag, diag_list, item_length};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection.
pub struct Client {
    socket: Socket,
    received: Vec<u8>,
    id: u64,
}

/// What came back for one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Result(Value),
    /// The message of an error envelope.
    Error(String),
}

/// One unit handed out by `get_work`.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    pub spec: String,
    pub key: Value,
    pub data: Value,
}

/// One answer of `get_work_unit_status`.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitStatus {
    pub status: u64,
    pub expiration: Option<f64>,
    pub worker: Option<String>,
    pub traceback: Option<Value>,
}

pub const AVAILABLE: u64 = 1;
pub const PENDING: u64 = 3;
pub const FINISHED: u64 = 4;
pub const FAILED: u64 = 5;

impl Client {
    /// Connects to an address as the daemon writes it: `HOST:PORT` or `unix:PATH`.
    pub fn connect(address: &str) -> Client {
        let socket = match address.strip_prefix("unix:") {
            Some(path) => {
                let stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("{address}: {e}"));
                stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
                stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
                Socket::Unix(stream)
            }
            None => {
                let stream =
                    TcpStream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}"));
                stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
                stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
                stream.set_nodelay(true).expect("no delay");
                Socket::Tcp(stream)
            }
        };
        Client {
            socket,
            received: Vec::new(),
            id: 0,
        }
    }

    // --- bytes ---

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("send");
    }

    /// Sends bytes that the daemon may not want to have.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write_all(bytes),
            Socket::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Says that nothing more will be sent.
    pub fn end_sending(&mut self) {
        match &self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
        .expect("shutdown");
    }

    /// Reads what is there into the buffer: how many bytes, 0 at the end.
    pub fn receive(&mut self) -> io::Result<usize> {
        let mut piece = vec![0; 1 << 16];
        let count = match &mut self.socket {
            Socket::Tcp(stream) => stream.read(&mut piece),
            Socket::Unix(stream) => stream.read(&mut piece),
        }?;
        self.received.extend_from_slice(&piece[..count]);
        Ok(count)
    }

    /// All bytes until the daemon closes the connection, by an end or by a reset.
    pub fn bytes_until_closed(&mut self) -> Vec<u8> {
        while self.receive().is_ok_and(|count| count > 0) {}
        std::mem::take(&mut self.received)
    }

    /// True if something has been received that was not read yet; waits for nothing.
    pub fn has_input(&mut self) -> bool {
        let nonblocking = |client: &Client, on| match &client.socket {
            Socket::Tcp(stream) => stream.set_nonblocking(on).expect("nonblocking"),
            Socket::Unix(stream) => stream.set_nonblocking(on).expect("nonblocking"),
        };
        nonblocking(self, true);
        let outcome = self.receive();
        nonblocking(self, false);
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => !self.received.is_empty(),
            // The end of the stream, or a reset, is something, too.
            _ => true,
        }
    }

    /// The bytes of the next answer, tag 24 included; `None` if the daemon closed the connection, an
    /// error if it did so within an answer.
    pub fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match item_length(&self.received) {
                Ok(length) => {
                    let rest = self.received.split_off(length);
                    return Ok(Some(std::mem::replace(&mut self.received, rest)));
                }
                Err(DecodeError::Malformed(why)) => {
                    panic!("answer is {why}: {:02x?}", self.received)
                }
                Err(DecodeError::Incomplete) => {}
            }
            if self.receive()? == 0 {
                return match self.received.len() {
                    0 => Ok(None),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// The next answer, out of its tag 24.
    pub fn next_answer(&mut self) -> Value {
        let frame = self
            .next_frame()
            .expect("an answer")
            .expect("an answer before the end of the connection");
        unframe(&frame)
    }

    /// Waits until the daemon closes this connection, by an end or by a reset. Gives the answers
    /// that came before.
    pub fn answers_until_closed(&mut self) -> Vec<Value> {
        let mut answers = Vec::new();
        loop {
            match self.next_frame() {
                Ok(Some(frame)) => answers.push(unframe(&frame)),
                Ok(None) => return answers,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return answers,
                Err(error) => panic!("waiting for the connection's end: {error}"),
            }
        }
    }

    // --- requests ---

    /// A request envelope as the Python client makes it, with the next id.
    pub fn envelope(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        Value::Map(vec![
            (Value::bytes("id"), Value::Unsigned(self.id)),
            (Value::bytes("method"), Value::bytes(method)),
            (Value::bytes("params"), params),
        ])
    }

    /// Sends one item in a frame and waits for the answer to it.
    pub fn exchange(&mut self, item: &Value) -> Value {
        self.send(&frame(item));
        self.next_answer()
    }

    /// Sends a request and waits for its answer, with any params.
    pub fn request(&mut self, method: &str, params: Value) -> Reply {
        let envelope = self.envelope(method, params);
        let answer = self.exchange(&envelope);
        assert_eq!(
            answer.at("id"),
            envelope.at("id"),
            "the answer's id, after {envelope}"
        );
        reply(&answer)
    }

    /// Calls a method that succeeds. `params` is written in diagnostic notation, without the outer
    /// brackets. A pair comes as a list, whether the daemon sent a list or a tuple.
    pub fn call(&mut self, method: &str, params: &str) -> Value {
        self.call_with(method, diag_list(params))
    }

    /// The same with params made elsewhere.
    pub fn call_with(&mut self, method: &str, params: Vec<Value>) -> Value {
        match self.request(method, Value::Array(params.clone())) {
            Reply::Result(Value::Tag(128, pair)) => *pair,
            Reply::Result(value) => value,
            Reply::Error(message) => panic!("{method}({}): {message}", Value::Array(params)),
        }
    }

    /// Calls a method that must answer an error envelope; gives its message.
    pub fn refused(&mut self, method: &str, params: &str) -> String {
        match self.request(method, Value::Array(diag_list(params))) {
            Reply::Error(message) => message,
            Reply::Result(value) => panic!("{method}({params}) succeeded: {value}"),
        }
    }

    /// Calls a method that answers `[value, message]`.
    pub fn pair(&mut self, method: &str, params: &str) -> (Value, Option<String>) {
        into_pair(self.call(method, params))
    }

    /// Calls a method that answers `[value, null]`; gives the value.
    pub fn value(&mut self, method: &str, params: &str) -> Value {
        let (value, message) = self.pair(method, params);
        assert_eq!(message, None, "{method}({params}) = {value}");
        value
    }

    /// Calls a method that answers `[true, null]`.
    pub fn done(&mut self, method: &str, params: &str) {
        assert_eq!(
            self.call(method, params),
            diag("[true, null]"),
            "{method}({params})"
        );
    }

    /// Calls a method that says no in the pair: `[value, message]`. Gives both.
    pub fn denied(&mut self, method: &str, params: &str) -> (Value, String) {
        let (value, message) = self.pair(method, params);
        let message =
            message.unwrap_or_else(|| panic!("{method}({params}) = {value} without a message"));
        assert!(
            !message.is_empty(),
            "{method}({params}) has an empty message"
        );
        (value, message)
    }

    // --- the calls that every test makes ---

    pub fn set_spec(&mut self, definition: &str) {
        self.done("set_work_spec", definition);
    }

    /// Adds units to a spec; `items` as in the list that `add_work_units` takes.
    pub fn add(&mut self, spec: &str, items: &str) {
        self.done("add_work_units", &format!("'{spec}', [{items}]"));
    }

    /// Asks for one unit, whatever it is.
    pub fn take(&mut self, worker: &str) -> Option<Work> {
        self.take_with(worker, "{}")
    }

    pub fn take_with(&mut self, worker: &str, options: &str) -> Option<Work> {
        work(&self.value("get_work", &format!("'{worker}', {options}")))
    }

    /// Asks for one unit and expects this one.
    pub fn take_key(&mut self, worker: &str, key: &str) -> Work {
        let work = self
            .take(worker)
            .unwrap_or_else(|| panic!("no work for {worker}, expected {key}"));
        assert_eq!(work.key, Value::bytes(key), "the unit that {worker} got");
        work
    }

    /// Asks for one unit and its attempt, and expects this unit; gives the id of the attempt.
    pub fn take_attempt(&mut self, worker: &str, key: &str) -> u64 {
        let unit = self.value("get_work", &format!("'{worker}', {{'attempts': true}}"));
        assert_eq!(unit.item(1), &Value::bytes(key), "the unit of {worker}");
        match unit.item(3).at("attempt") {
            Value::Unsigned(id) => *id,
            other => panic!("not an id: {other}"),
        }
    }

    /// Asks for several units.
    pub fn take_many(&mut self, worker: &str, options: &str) -> Vec<Work> {
        let list = self.value("get_work", &format!("'{worker}', {options}"));
        assert!(matches!(list, Value::Array(_)), "not a list: {list}");
        list.items()
            .iter()
            .map(|item| work(item).expect("a unit"))
            .collect()
    }

    pub fn update(&mut self, spec: &str, key: &str, options: &str) -> (bool, Option<String>) {
        let (value, message) =
            self.pair("update_work_unit", &format!("'{spec}', '{key}', {options}"));
        match value {
            Value::Bool(ok) => (ok, message),
            other => panic!("update_work_unit({spec}, {key}, {options}) = {other}"),
        }
    }

    /// Updates a unit, which must succeed.
    pub fn updated(&mut self, spec: &str, key: &str, options: &str) {
        let outcome = self.update(spec, key, options);
        assert_eq!(
            outcome,
            (true, None),
            "update_work_unit({spec}, {key}, {options})"
        );
    }

    /// Updates a unit, which must be refused; gives the message.
    pub fn not_updated(&mut self, spec: &str, key: &str, options: &str) -> String {
        match self.update(spec, key, options) {
            (false, Some(message)) if !message.is_empty() => message,
            other => panic!("update_work_unit({spec}, {key}, {options}) = {other:?}"),
        }
    }

    pub fn status(&mut self, spec: &str, key: &str) -> UnitStatus {
        let answer = self.value("get_work_unit_status", &format!("'{spec}', ['{key}']"));
        let entry = answer.item(0);
        assert!(!entry.is_null(), "there is no unit {key} in {spec}");
        UnitStatus {
            status: entry.at("status").number().expect("a status") as u64,
            expiration: entry.get("expiration").and_then(Value::number),
            worker: entry
                .get("worker_id")
                .map(|id| id.name().expect("a worker id")),
            traceback: entry.get("traceback").cloned(),
        }
    }

    /// The status of a unit without the rest.
    pub fn state(&mut self, spec: &str, key: &str) -> u64 {
        self.status(spec, key).status
    }

    /// The units of a spec with their data.
    pub fn units(&mut self, spec: &str, options: &str) -> Vec<(Value, Value)> {
        let list = self.value("get_work_units", &format!("'{spec}', {options}"));
        list.items()
            .iter()
            .map(|pair| {
                assert!(matches!(pair, Value::Tag(128, _)), "not a tuple: {pair}");
                (pair.item(0).clone(), pair.item(1).clone())
            })
            .collect()
    }

    /// The keys of a spec's units, in the order of the answer.
    pub fn keys(&mut self, spec: &str, options: &str) -> Vec<String> {
        self.units(spec, options)
            .into_iter()
            .map(|(key, _)| key.name().expect("a UTF-8 key"))
            .collect()
    }

    /// The data of one unit.
    pub fn data(&mut self, spec: &str, key: &str) -> Value {
        self.units(spec, &format!("{{'work_unit_keys': ['{key}']}}"))
            .remove(0)
            .1
    }

    /// The counts of a spec by status.
    pub fn counts(&mut self, spec: &str) -> BTreeMap<u64, u64> {
        let Value::Map(entries) = self.value("count_work_units", &format!("'{spec}'")) else {
            panic!("not a map")
        };
        let number = |value: &Value| match value {
            Value::Unsigned(n) => *n,
            other => panic!("not a count: {other}"),
        };
        entries
            .iter()
            .map(|(status, count)| (number(status), number(count)))
            .collect()
    }

    /// The names of all work specs, in the order of the answer.
    pub fn spec_names(&mut self) -> Vec<String> {
        let answer = self.call("list_work_specs", "{}");
        answer
            .item(0)
            .items()
            .iter()
            .map(|spec| spec.at("name").name().expect("a name"))
            .collect()
    }
}

/// A request as the Python client sends it: tag 24 around a byte string.
pub fn frame(item: &Value) -> Vec<u8> {
    Value::Tag(24, Box::new(Value::Bytes(item.encode()))).encode()
}

/// The answer inside a frame.
///
/// # Panics
/// If it is not tag 24 around a byte string that holds one item.
pub fn unframe(frame: &[u8]) -> Value {
    match Value::decode_all(frame) {
        Value::Tag(24, inner) => match *inner {
            Value::Bytes(bytes) => Value::decode_all(&bytes),
            other => panic!("tag 24 around {other}"),
        },
        other => panic!("an answer without tag 24: {other}"),
    }
}

/// Takes a response map apart, and checks that it is one.
pub fn reply(answer: &Value) -> Reply {
    match (answer.get("result"), answer.get("error")) {
        (Some(result), None) => Reply::Result(result.clone()),
        (None, Some(error)) => {
            let message = error
                .at("message")
                .name()
                .expect("a message that is a string");
            assert!(!message.is_empty(), "an empty message in {answer}");
            Reply::Error(message)
        }
        _ => panic!("neither a result nor an error: {answer}"),
    }
}

pub fn into_pair(value: Value) -> (Value, Option<String>) {
    match value.items() {
        [value, message] => {
            let text = if message.is_null() {
                None
            } else {
                Some(message.name().expect("a message"))
            };
            (value.clone(), text)
        }
        _ => panic!("not a pair: {value}"),
    }
}

/// A tuple of `get_work`, or `None` for three nulls.
pub fn work(value: &Value) -> Option<Work> {
    assert!(matches!(value, Value::Tag(128, _)), "not a tuple: {value}");
    match value.items() {
        [Value::Null, Value::Null, Value::Null] => None,
        [spec, key, data] => Some(Work {
            spec: spec.name().expect("a spec's name"),
            key: key.clone(),
            data: data.clone(),
        }),
        _ => panic!("not three items: {value}"),
    }
}
