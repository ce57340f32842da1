//! Tries to break the promise that no bytes from outside make the daemon panic, take memory without
//! bound or time out of proportion: random bytes, mutated recordings, and large inputs of the worst
//! shapes. The fuzz targets in `tests/fuzz/` run the same cases for longer.

mod cases;
mod http;
mod memory;
mod shaper;

use cases::CASES;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::OnceLock;

#[global_allocator]
static MEMORY: memory::Counting = memory::Counting;

/// Bytes that a case may have at a time, for its database and the like, however few bytes it is given.
const BASE_BYTES: usize = 16 << 20;

/// Bytes that a case may have at a time for each byte that it is given. One that stands for a work unit
/// becomes a row of some hundred bytes.
const BYTES_PER_BYTE: usize = 2_000;

/// Runs a case and looks at the memory that it takes.
fn run(case: fn(&[u8]), bytes: &[u8]) {
    let used = memory::while_running(|| case(bytes));
    let allowed = BASE_BYTES + BYTES_PER_BYTE * bytes.len();
    assert!(
        used.peak <= allowed,
        "{} bytes of memory, allowed {allowed}",
        used.peak
    );
}

fn run_all(bytes: &[u8]) {
    for (_, case) in CASES {
        run(case, bytes);
    }
}

/// What the original client sent in tests of its own, one message after the other.
fn recorded() -> &'static [Vec<u8>] {
    static RECORDED: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    RECORDED.get_or_init(|| {
        include_str!("../data/transcripts.jsonl")
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                let hex = line["request_hex"].as_str().expect("a request");
                (0..hex.len() / 2)
                    .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
                    .collect()
            })
            .collect()
    })
}

/// What is done to a recorded message.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    /// Puts a piece of another message there.
    Splice(usize, usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0..500_usize;
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at.clone(), vec(any::<u8>(), 1..10)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at.clone(), 1..20_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        (at.clone(), any::<prop::sample::Index>(), at).prop_map(|(at, other, from)| {
            Mutation::Splice(at, other.index(recorded().len()), from)
        }),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let end = bytes.len();
    match mutation {
        Mutation::Set(at, byte) => {
            if let Some(old) = bytes.get_mut(at % end.max(1)) {
                *old = *byte;
            }
        }
        Mutation::Insert(at, more) => {
            bytes.splice(at % (end + 1)..at % (end + 1), more.iter().copied());
        }
        Mutation::Remove(at, count) => {
            let at = at % (end + 1);
            bytes.drain(at..(at + count).min(end));
        }
        Mutation::Splice(at, other, from) => {
            let other = &recorded()[*other];
            let piece = other[from % other.len()..].iter().copied();
            bytes.splice(at % (end + 1)..at % (end + 1), piece);
        }
    }
}

/// A number of cases for each test, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
        run_all(&bytes);
    }

    #[test]
    fn any_requests_do_no_harm(bytes in vec(any::<u8>(), 0..600)) {
        run(cases::methods, &bytes);
    }

    #[test]
    fn any_bodies_over_http_do_no_harm(bytes in vec(any::<u8>(), 0..600)) {
        http::bodies(&bytes);
    }

    #[test]
    fn any_stored_data_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        run(cases::stored, &bytes);
    }

    #[test]
    fn recordings_with_changes_do_no_harm(
        which in any::<prop::sample::Index>(),
        count in 1..6_usize,
        mutations in vec(mutation(), 0..6),
    ) {
        let first = which.index(recorded().len());
        let messages = recorded().iter().skip(first).take(count);
        let mut bytes: Vec<u8> = messages.flatten().copied().collect();
        for one in &mutations {
            mutate(&mut bytes, one);
        }
        run_all(&bytes);
        // Without the frame, whose length is mostly wrong now.
        if let Some(map) = bytes.iter().position(|byte| byte >> 5 == 5) {
            run(cases::wire, &bytes[map..]);
            run(cases::envelope, &bytes[map..]);
        }
    }
}

#[test]
fn recordings_do_no_harm() {
    for messages in recorded().chunks(50) {
        run_all(&messages.concat());
    }
}

/// A CBOR head.
fn head(major: u8, number: usize) -> Vec<u8> {
    let mut bytes = vec![major << 5 | 26];
    bytes.extend_from_slice(&u32::try_from(number).expect("a number").to_be_bytes());
    bytes
}

/// Values of about so many items that are awkward in some way.
fn awkward(items: usize) -> Vec<(&'static str, Vec<u8>)> {
    let numbered = |major: u8, each: &dyn Fn(&mut Vec<u8>, usize)| {
        let mut bytes = head(major, items);
        (0..items).for_each(|i| each(&mut bytes, i));
        bytes
    };
    let name = |bytes: &mut Vec<u8>, i: usize| bytes.extend(format!("\x46{i:06}").bytes());
    let nested = [vec![0x81; 90], numbered(4, &|bytes, _| bytes.push(0x80))].concat();
    vec![
        ("a list of numbers", numbered(4, &|bytes, _| bytes.push(1))),
        ("a list of names", numbered(4, &name)),
        (
            "a list of lists",
            numbered(4, &|bytes, i| {
                bytes.push(0x81);
                name(bytes, i);
            }),
        ),
        (
            "a list of equal paths",
            numbered(4, &|bytes, _| {
                bytes.extend(b"\x83\x41a\x41b\x41c");
            }),
        ),
        (
            "a list of pairs",
            numbered(4, &|bytes, i| {
                bytes.push(0x82);
                name(bytes, i);
                bytes.push(0xa0);
            }),
        ),
        (
            "a map of names",
            numbered(5, &|bytes, i| {
                name(bytes, i);
                bytes.push(1);
            }),
        ),
        (
            "a map of one name",
            numbered(5, &|bytes, _| bytes.extend(b"\x46status\x04")),
        ),
        (
            "a string in pieces",
            [vec![0x5f], [0x41, 0].repeat(items), vec![0xff]].concat(),
        ),
        (
            "a list without a length",
            [vec![0x9f], [0x9f, 0xff].repeat(items), vec![0xff]].concat(),
        ),
        ("deep within", nested),
        ("a long string", [head(2, items), vec![0; items]].concat()),
    ]
}

/// Every awkward value as every parameter of every method, the others being as they should.
fn awkward_requests(items: usize, mut each: impl FnMut(&str, &[u8])) {
    type Server = coordinated::jobserver::JobServer<coordinated::store::SqliteStore>;
    let awkward = awkward(items);
    for method in Server::methods() {
        for awkward_param in 0..method.params.len() {
            for (what, value) in &awkward {
                let mut params = vec![0x80 | method.params.len() as u8];
                for (index, name) in method.params.iter().enumerate() {
                    if index == awkward_param {
                        params.extend_from_slice(value);
                        continue;
                    }
                    params.extend_from_slice(match *name {
                        "work_spec_name" => b"\x42ws",
                        "timeout" | "expire_seconds" => b"\x18\x3c",
                        "options" | "data" => b"\xa0",
                        "keys" => b"\x81\x81\x41a",
                        _ => b"\x41a",
                    });
                }
                each(
                    &format!("{} with {what}", method.name),
                    &cases::request(method.name, &params),
                );
            }
        }
    }
}

#[test]
fn twice_as_large_a_request_takes_about_twice_the_memory_and_no_more_than_its_share() {
    let allocated = |items: usize| {
        let mut all = Vec::new();
        awkward_requests(items, |what, request| {
            let used = memory::while_running(|| cases::large(request));
            let allowed = BASE_BYTES + BYTES_PER_BYTE * request.len();
            assert!(
                used.peak <= allowed,
                "{what}: {} bytes of {allowed}",
                used.peak
            );
            all.push((what.to_owned(), used.total));
        });
        all
    };
    let small = allocated(4_000);
    let large = allocated(8_000);
    for ((what, small), (_, large)) in small.iter().zip(&large) {
        // What is the same for both is there in both, so it can only make the ratio smaller.
        assert!(*large < 3 * small, "{what}: {small} bytes, then {large}");
    }
}

#[test]
fn of_a_long_name_that_is_unknown_the_answer_has_only_the_beginning() {
    type Server = coordinated::jobserver::JobServer<coordinated::store::SqliteStore>;
    let long = [head(2, 100_000), vec![0; 100_000]].concat();
    let params = [&b"\xa1"[..], &long, b"\x01"].concat();
    for method in Server::methods() {
        // Which is looked at there.
        cases::large(&cases::request(method.name, &params));
    }
    cases::large(&[b"\xa1\x46method", &*long].concat());
}

#[test]
fn a_large_message_may_come_a_byte_at_a_time() {
    // Were it looked at from its start at each byte, this would take hours.
    for (what, value) in awkward(500_000) {
        let message = [b"\xa1\x46params".to_vec(), value].concat();
        let mut framer = cases::generous_framer();
        for end in 0..message.len() {
            let frame = framer.next(&message[..end]);
            assert_eq!(
                frame,
                Ok(coordinated_client::cborrpc::framing::Frame::Incomplete),
                "{what}"
            );
        }
        assert!(framer.next(&message).is_ok_and(|frame| {
            frame != coordinated_client::cborrpc::framing::Frame::Incomplete
        }));
    }
}
