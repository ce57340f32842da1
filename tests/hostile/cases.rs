//! What hostile bytes are tried on: each function takes any bytes and panics if something is wrong.
//!
//! The fuzz targets (`tests/fuzz/`) and the tests of this folder run the same functions.

use super::shaper::Shaper;
use coordinated::clock::Timestamp;
use coordinated::coordinate::Retention;
use coordinated::engine::{self, Engine};
use coordinated::jobserver::{Anonymous, JobServer, Settings};
use coordinated::limits::RequestLimits;
use coordinated::server::{Handled, Service};
use coordinated::store::{Options, SqliteStore};
use coordinated_client::cbor::{Item, Kind, Writer, scan};
use coordinated_client::cborrpc::envelope::{self, Message, Request};
use coordinated_client::cborrpc::framing::{Frame, FrameError, FrameLimits, Framer};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

const START: Timestamp = Timestamp(1_700_000_000_000_000);

/// As the daemon has them, but that a message must be shorter: a limit has to be reached to be tested.
const FRAME_LIMITS: FrameLimits = FrameLimits {
    message_bytes_max: 64 << 10,
    depth_max: 100,
};

/// Much lower than the daemon's, for the same reason.
const LOW_LIMITS: RequestLimits = RequestLimits {
    unit_name_bytes_max: 1000,
    spec_name_bytes_max: 100,
    get_work_units_max: 10,
    batch_requests_max: 20,
    list_items_max: 1000,
    session_attempts_max: 5,
};

/// Low for the same reason.
const LOW_RETENTION: Retention = Retention {
    count: Some(3),
    age: Some(LONG),
};

type Case = fn(&[u8]);

/// All cases, by the names of their fuzz targets.
pub const CASES: [(&str, Case); 5] = [
    ("framing", framing),
    ("envelope", envelope),
    ("wire", wire),
    ("methods", methods),
    ("stored", stored),
];

// --- framing ---

/// Cuts messages off a stream. However it arrives, the same messages come out, and whatever is cut off
/// is within what has arrived.
pub fn framing(bytes: &[u8]) {
    let Some((pieces, stream)) = bytes.split_first() else {
        return;
    };
    let at_once = cut(stream, stream.len().max(1));
    let in_pieces = cut(stream, usize::from(*pieces % 16) + 1);
    match (&at_once.1, &in_pieces.1) {
        // In pieces, a message that never ends is refused before the rest has come.
        (Some(one), Some(other)) => assert_eq!(kind_of(one), kind_of(other)),
        (None, None) => {}
        (one, other) => panic!("at once: {one:?}, in pieces: {other:?}"),
    }
    assert_eq!(at_once.0, in_pieces.0);
}

fn kind_of(error: &FrameError) -> std::mem::Discriminant<FrameError> {
    std::mem::discriminant(error)
}

/// The messages of a stream that arrives in pieces of a size, and how it ended.
fn cut(stream: &[u8], size: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut framer = Framer::new(FRAME_LIMITS);
    let mut messages = Vec::new();
    let mut buffered = Vec::new();
    for piece in stream.chunks(size) {
        buffered.extend_from_slice(piece);
        loop {
            match framer.next(&buffered) {
                Ok(Frame::Incomplete) => break,
                Ok(Frame::Complete { message, consumed }) => {
                    assert!(consumed > 0 && consumed <= buffered.len());
                    assert!(message.end <= consumed && consumed <= FRAME_LIMITS.message_bytes_max);
                    let content = envelope::content(&buffered[message]);
                    assert!(content.len() <= consumed);
                    messages.push(content.into_owned());
                    buffered.drain(..consumed);
                }
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

// --- envelopes ---

/// Reads a message, and walks all that is in it.
pub fn envelope(bytes: &[u8]) {
    // Bytes that were never checked are walked wrongly, but without a panic.
    walk(Item::from_checked(bytes), 0);
    let depth_max = 10;
    match Message::parse(bytes, depth_max) {
        Ok(Message::Single(request)) => give_back(&Request::from_map(request)),
        Ok(Message::List(requests)) => {
            for request in requests {
                give_back(&Request::from_map(request));
            }
        }
        Ok(Message::Goodbye) => assert!(Item::from_checked(bytes).is_null()),
        Err(_) => return,
    }
    assert!(walk(Item::from_checked(bytes), 0) <= depth_max);
}

/// A response to a request is a well-formed map with its id in it.
fn give_back(request: &Request<'_>) {
    let mut response = Vec::new();
    envelope::write_failure(&mut response, request.id_bytes(), "no", None);
    scan::check(&response, FRAME_LIMITS.depth_max).expect("a well-formed response");
    let id = Item::from_checked(&response).get("id").expect("an id");
    assert_eq!(id.bytes(), request.id_bytes());
}

/// Looks at everything in an item, and gives the levels of containers that it has.
fn walk(item: Item<'_>, level: usize) -> usize {
    let _ = (
        item.kind_name(),
        item.is_null(),
        item.is_text(),
        item.get("output"),
    );
    if level > FRAME_LIMITS.depth_max {
        return level;
    }
    match item.kind() {
        Kind::Array(items) => items.map(|item| walk(item, level + 1)).max(),
        Kind::Map(entries) => entries
            .map(|(key, value)| walk(key, level + 1).max(walk(value, level + 1)))
            .max(),
        Kind::Tag(_, content) => Some(walk(content, level + 1)),
        _ => None,
    }
    .unwrap_or(level)
}

// --- requests ---

thread_local! {
    /// The database that the last case left, empty again, and its time: making one takes longer than most
    /// cases do.
    static STORE: Cell<Option<(SqliteStore, Timestamp)>> = const { Cell::new(None) };
}

/// How far the time of a database goes until another one is made, so that it never comes to its end.
const STORE_LIFE: Duration = Duration::from_secs(1000 * 365 * 86_400);

/// Longer than any lease, delay, worker or lock lasts, but for delays.
const LONG: Duration = Duration::from_secs(20 * 86_400);

/// A daemon without sockets, on a database in memory.
struct Daemon {
    service: JobServer<SqliteStore>,
    session: <JobServer<SqliteStore> as Service>::Session,
    now: Timestamp,
}

impl Daemon {
    fn start(limits: RequestLimits) -> Self {
        let left = STORE
            .take()
            .filter(|(_, now)| now.since(START) < STORE_LIFE);
        let (store, now) = left.unwrap_or_else(|| {
            let store = SqliteStore::open(Path::new(":memory:"), &Options::default(), START);
            (store.expect("the database opens"), START)
        });
        let settings = engine::Settings {
            retention: LOW_RETENTION,
            limits,
            ..engine::Settings::default()
        };
        let random = Box::new(SmallRng::seed_from_u64(1));
        let engine = Engine::new(store, settings, random, now).expect("it starts");
        let settings = Settings {
            anonymous: Anonymous::default(),
            config: vec![0xa0],
            depth_max: FRAME_LIMITS.depth_max,
        };
        let mut service = JobServer::new(engine, settings);
        let session = service.open_session(None);
        Self {
            service,
            session,
            now,
        }
    }

    /// A daemon with two work specs, the second of which gets the output of the first.
    fn with_specs(limits: RequestLimits) -> Self {
        let mut daemon = Self::start(limits);
        daemon.ask(b"\xa3\x42id\x01\x46method\x4dset_work_spec\x46params\x81\xa2\x44name\x42ws\x44then\x44next");
        daemon.ask(b"\xa3\x42id\x02\x46method\x4dset_work_spec\x46params\x81\xa1\x44name\x44next");
        daemon
    }

    /// Lets the daemon have a message: its answer, out of its frame, unless it closes the connection.
    fn ask(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let (handled, outcome) = loop {
            let handled = self.service.handle(&mut self.session, message, self.now);
            let outcome = self.service.commit();
            assert!(outcome.is_ok(), "{outcome:?}");
            match handled {
                Handled::Again { .. } => {}
                Handled::Sleep { .. } => self.service.end_sleep(&mut self.session),
                handled => break (handled, outcome),
            }
        };
        let mut frame = Vec::new();
        match handled {
            Handled::Answer(answer) => self.service.write_answer(answer, &outcome, &mut frame),
            Handled::Later(job) => frame = job(),
            Handled::Refuse(error) => {
                self.service.write_refusal(&error, &mut frame);
                check_answer(&frame);
                return None;
            }
            Handled::Close => return None,
            Handled::Again { .. } | Handled::Sleep { .. } => unreachable!("it is handled above"),
            Handled::Wait { .. } => panic!("nobody else has the database"),
        }
        Some(check_answer(&frame))
    }

    /// Lets time pass, and with it whatever is over then.
    fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
        self.service.tick(self.now).expect("a tick");
    }

    /// Ends the daemon: what it has in memory must be what is in the database, and nothing is left of
    /// what is deleted or over.
    fn end(mut self) {
        self.check_counts();
        self.ask(&request("clear", b"\x80"));
        self.now = self.now.plus(LONG);
        let more_to_do = Duration::from_secs(1);
        while self.service.tick(self.now).expect("a tick") < more_to_do {}
        let workers = self.ask(&request("worker_stats", b"\x80"));
        let none = b"\x4bnum_workers\x00";
        assert!(workers.is_some_and(|answer| answer.windows(none.len()).any(|part| part == none)));
        STORE.set(Some((self.service.into_store(), self.now)));
    }

    fn check_counts(&mut self) {
        let specs = self.result("list_work_specs", b"\x81\xa0");
        let pair = Item::from_checked(&specs);
        let specs = pair
            .as_list()
            .and_then(|mut pair| pair.next())
            .expect("specs");
        for spec in specs.as_list().expect("a list") {
            let name = spec.get("name").expect("a name");
            let counts = self.result("count_work_units", &[b"\x81", name.bytes()].concat());
            let counts: HashMap<u64, u64> = first(Item::from_checked(&counts))
                .as_map()
                .expect("a map")
                .map(|(status, count)| (unsigned(status), unsigned(count)))
                .collect();
            for status in [1, 3, 4, 5] {
                // {'limit': 10000, 'state': status}
                let options = [&b"\xa2\x45limit\x19\x27\x10\x45state"[..], &[status]].concat();
                let params = [b"\x82", name.bytes(), &options].concat();
                let units = self.result("get_work_units", &params);
                let listed = first(Item::from_checked(&units))
                    .as_list()
                    .expect("a list")
                    .count();
                let counted = counts.get(&u64::from(status)).copied().unwrap_or(0);
                let archived = counted.checked_sub(listed as u64);
                // Of completed ones there may have been more.
                let is_right = archived.is_some_and(|archived| archived == 0 || status >= 4);
                assert!(
                    is_right,
                    "{name:?} in status {status}: {counted} counted, {listed} listed"
                );
            }
        }
    }

    /// The result of a call that succeeds.
    fn result(&mut self, method: &str, params: &[u8]) -> Vec<u8> {
        let answer = self.ask(&request(method, params)).expect("an answer");
        let result = Item::from_checked(&answer).get("result");
        result.expect("a result").bytes().to_vec()
    }
}

/// The first item of a list.
fn first(list: Item<'_>) -> Item<'_> {
    list.as_list()
        .and_then(|mut items| items.next())
        .expect("an item")
}

fn unsigned(item: Item<'_>) -> u64 {
    match item.kind() {
        Kind::Unsigned(number) => number,
        _ => panic!("no number: {item:?}"),
    }
}

/// An answer is one frame around well-formed CBOR, and never tells of a failure of the database.
fn check_answer(frame: &[u8]) -> Vec<u8> {
    scan::check(frame, 2).expect("one frame");
    let content = envelope::content(match Item::from_checked(frame).kind() {
        Kind::Tag(24, content) => match content.kind() {
            Kind::Bytes(_) => frame,
            _ => panic!("no byte string in {frame:02x?}"),
        },
        _ => panic!("no frame: {frame:02x?}"),
    })
    .into_owned();
    scan::check(&content, FRAME_LIMITS.depth_max + 10).expect("a well-formed answer");
    let answer = Item::from_checked(&content);
    let one = |answer: Item<'_>| {
        let error = answer
            .get("error")
            .and_then(|error| error.get("message")?.as_string_bytes());
        assert_ne!(answer.get("result").is_some(), error.is_some());
        let error = String::from_utf8_lossy(error.as_deref().unwrap_or_default()).into_owned();
        let is_of_database = ["database", "disk", "outcome"].iter().any(|word| {
            let message = error.split_once(": ").map_or("", |(_, message)| message);
            message.starts_with(word)
        });
        assert!(!is_of_database && error.len() < 10_000, "{error}");
    };
    match answer.as_list() {
        Some(answers) => answers.for_each(one),
        None => one(answer),
    }
    content
}

/// Sends bytes down a connection of the daemon.
pub fn wire(bytes: &[u8]) {
    let (messages, _) = cut(bytes, bytes.len().max(1));
    let mut daemon = Daemon::with_specs(LOW_LIMITS);
    for message in messages {
        if daemon.ask(&message).is_none() {
            break;
        }
        daemon.pass(Duration::from_millis(100));
    }
    daemon.end();
}

/// Calls methods with parameters that are more or less what they want.
pub fn methods(bytes: &[u8]) {
    let methods: Vec<_> = JobServer::<SqliteStore>::methods().collect();
    let mut shaper = Shaper::new(bytes);
    let mut daemon = Daemon::with_specs(LOW_LIMITS);
    while !shaper.is_empty() {
        let method = methods[shaper.choose(methods.len())];
        let mut params = Vec::new();
        shaper.params(method.params, &mut params);
        daemon
            .ask(&request(method.name, &params))
            .expect("what is well-formed is answered");
        daemon.pass(Duration::from_secs([0, 0, 1, 400][shaper.choose(4)]));
    }
    daemon.end();
}

/// One large request to a daemon.
pub fn large(request: &[u8]) {
    let mut daemon = Daemon::with_specs(RequestLimits::default());
    daemon
        .ask(request)
        .expect("what is well-formed is answered");
    daemon.end();
}

/// Cuts messages off a stream, be they as large as the daemon allows.
pub fn generous_framer() -> Framer {
    Framer::new(FrameLimits {
        message_bytes_max: 64 << 20,
        ..FRAME_LIMITS
    })
}

/// A request in its encoding.
pub fn request(method: &str, params: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    let mut writer = Writer::new(&mut message);
    writer.map(3);
    writer.bytes(b"id");
    writer.unsigned(7);
    writer.bytes(b"method");
    writer.bytes(method.as_bytes());
    writer.bytes(b"params");
    writer.encoded(params);
    message
}

/// The params that are a work spec, a key and one more value.
fn with_key(work_spec: &str, key: &[u8], last: &[u8]) -> Vec<u8> {
    let mut params = Vec::new();
    let mut writer = Writer::new(&mut params);
    writer.array(3);
    writer.bytes(work_spec.as_bytes());
    writer.bytes(key);
    writer.encoded(last);
    params
}

/// Keeps data, gives them back, and reads fields out of them: as a unit's own data, as a report's, and
/// as what chaining finds in them.
pub fn stored(bytes: &[u8]) {
    let mut shaped = Vec::new();
    let data = if scan::check(bytes, 50).is_ok() && Item::from_checked(bytes).as_map().is_some() {
        bytes
    } else {
        // A map with the fields that somebody looks at, of any kind.
        let mut shaper = Shaper::new(bytes);
        Writer::new(&mut shaped).map(4);
        for field in ["output", "traceback", "name", "output"] {
            Writer::new(&mut shaped).bytes(field.as_bytes());
            shaper.value(&mut shaped, 5);
        }
        &shaped
    };
    let mut daemon = Daemon::with_specs(LOW_LIMITS);
    let mut call = |method: &str, params: &[u8]| daemon.ask(&request(method, params));

    let mut units = Vec::new();
    let mut writer = Writer::new(&mut units);
    writer.array(2);
    writer.bytes(b"ws");
    writer.array(1);
    writer.array(2);
    writer.bytes(b"k");
    writer.encoded(data);
    let added = call("add_work_units", &units).expect("an answer");
    let Some(result) = Item::from_checked(&added).get("result") else {
        return;
    };
    let was_added = result.as_list().and_then(|mut pair| pair.next());
    assert!(matches!(was_added.map(Item::kind), Some(Kind::Bool(true))));

    // ('ws', 'k', data), byte for byte.
    let given = call("get_work", b"\x82\x41w\xa0").expect("an answer");
    let given = Item::from_checked(&given).get("result").expect("a unit");
    let unit = first(given);
    let back = unit
        .as_list()
        .and_then(|mut unit| unit.nth(2))
        .expect("data");
    assert_eq!(back.bytes(), data);

    let mut options = Vec::new();
    let mut writer = Writer::new(&mut options);
    writer.map(2);
    writer.bytes(b"status");
    writer.unsigned(if bytes.len().is_multiple_of(2) { 4 } else { 5 });
    writer.bytes(b"data");
    writer.encoded(data);
    call("update_work_unit", &with_key("ws", b"k", &options));
    for params in [&b"\x82\x42ws\xa0"[..], b"\x82\x44next\xa0"] {
        call("get_work_units", params);
    }
    call("get_work_unit_status", b"\x82\x42ws\x81\x41k");
    call("set_work_spec", &[b"\x81", data].concat());
    call(
        "worker_heartbeat",
        &[b"\x85\x41w\x43RUN\x18\x3c", data, b"\xf6"].concat(),
    );
    call("get_worker_info", b"\x81\x41w");
    call("get_work", b"\x82\x41w\xa1\x48max_jobs\x05");
    daemon.end();
}
