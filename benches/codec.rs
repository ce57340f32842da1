//! What a message costs before and after its operation: cutting it off the stream, checking it, taking it
//! apart, and writing the answer.
//!
//! `cargo bench --bench codec`. The last of each message's benchmarks is all of that as the daemon does it:
//! a whole request, of which the operation finds at once that there is nothing to do.

use coordinated::coordinate::{Name, NewUnit};
use coordinated::engine::Engine;
use coordinated::jobserver::{Anonymous, JobServer, Settings};
use coordinated::limits::RequestLimits;
use coordinated::server::{Handled, Service};
use coordinated::store::SqliteStore;
use coordinated_client::cbor::{Item, Writer, scan};
use coordinated_client::cborrpc::envelope::{self, Message, Request};
use coordinated_client::cborrpc::framing::{Frame, FrameLimits, Framer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;
use test_support::world::START;

const DEPTH_MAX: usize = 100;
const FRAME_LIMITS: FrameLimits = FrameLimits {
    message_bytes_max: 64 << 20,
    depth_max: DEPTH_MAX,
};
const UNITS: usize = 1_000;

/// A request as the Python client sends it: strings are byte strings.
fn request(method: &str, params: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut content = Vec::new();
    let mut writer = Writer::new(&mut content);
    writer.map(3);
    writer.bytes(b"id");
    writer.unsigned(1_000);
    writer.bytes(b"method");
    writer.bytes(method.as_bytes());
    writer.bytes(b"params");
    params(&mut writer);
    content
}

fn get_work() -> Vec<u8> {
    request("get_work", |writer| {
        writer.array(2);
        writer.bytes(b"worker-0001");
        writer.map(3);
        writer.bytes(b"available_gb");
        writer.unsigned(1);
        writer.bytes(b"lease_time");
        writer.unsigned(300);
        writer.bytes(b"max_jobs");
        writer.unsigned(1);
    })
}

fn update_work_unit() -> Vec<u8> {
    request("update_work_unit", |writer| {
        writer.array(3);
        writer.bytes(b"spec");
        writer.bytes(b"unit000000000000");
        writer.map(3);
        writer.bytes(b"status");
        writer.unsigned(4);
        writer.bytes(b"worker_id");
        writer.bytes(b"worker-0001");
        writer.bytes(b"data");
        write_data(writer);
    })
}

fn add_work_units() -> Vec<u8> {
    request("add_work_units", |writer| {
        writer.array(2);
        writer.bytes(b"spec");
        writer.array(UNITS);
        for number in 0..UNITS {
            writer.tuple(2);
            writer.bytes(format!("unit{number:012}").as_bytes());
            write_data(writer);
        }
    })
}

/// A dictionary of 100 bytes.
fn write_data(writer: &mut Writer<'_>) {
    writer.map(1);
    writer.bytes(b"text");
    writer.bytes(&[b'x'; 92]);
}

fn frame(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    envelope::write_frame(&mut out, content);
    out
}

fn server() -> JobServer<SqliteStore> {
    let store = SqliteStore::open(Path::new(":memory:"), &Default::default(), START);
    let (settings, random) = (Default::default(), Box::new(SmallRng::seed_from_u64(1)));
    let engine = Engine::new(store.expect("a store"), settings, random, START);
    let settings = Settings {
        anonymous: Anonymous::default(),
        config: Vec::new(),
        depth_max: DEPTH_MAX,
    };
    JobServer::new(engine.expect("an engine"), settings)
}

fn next_frame(bytes: &[u8]) -> Frame {
    let mut framer = Framer::new(FRAME_LIMITS);
    framer.next(bytes).expect("a message")
}

fn read_units(request: &Request<'_>, limits: &RequestLimits) -> usize {
    let units = request.params.and_then(|params| params.as_list()?.nth(1));
    let units = units.and_then(Item::as_list).expect("a list of units");
    units
        .map(|unit| NewUnit::from_item(unit, limits).expect("a unit"))
        .collect::<Vec<_>>()
        .len()
}

fn parse(content: &[u8]) -> Request<'_> {
    match Message::parse(content, DEPTH_MAX) {
        Ok(Message::Single(request)) => Request::from_map(request),
        other => panic!("no request: {other:?}"),
    }
}

fn messages(criterion: &mut Criterion) {
    let limits = RequestLimits::default();
    for (name, content) in [
        ("get_work", get_work()),
        ("update_work_unit", update_work_unit()),
        ("add_work_units of 1,000", add_work_units()),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.measurement_time(Duration::from_secs(2));
        group.warm_up_time(Duration::from_millis(500));
        group.throughput(Throughput::Bytes(content.len() as u64));
        let framed = frame(&content);
        group.bench_function("framing, in tag 24", |bencher| {
            bencher.iter(|| next_frame(black_box(&framed)));
        });
        group.bench_function("framing, bare", |bencher| {
            bencher.iter(|| next_frame(black_box(&content)));
        });
        group.bench_function("checking", |bencher| {
            bencher.iter(|| scan::check(black_box(&content), DEPTH_MAX));
        });
        group.bench_function("envelope", |bencher| {
            let checked = Item::from_checked(&content);
            bencher.iter(|| Request::from_map(black_box(checked)));
        });
        if name.starts_with("add_work_units") {
            group.bench_function("units", |bencher| {
                let request = parse(&content);
                bencher.iter(|| read_units(black_box(&request), &limits));
            });
        }
        let mut server = server();
        let mut session = server.open_session(None);
        let mut out = Vec::new();
        group.bench_function("all but the operation", |bencher| {
            bencher.iter(|| {
                out.clear();
                let Frame::Complete { message, .. } = next_frame(black_box(&framed)) else {
                    panic!("a whole message")
                };
                match server.handle(&mut session, &framed[message], START) {
                    Handled::Answer(answer) => server.write_answer(answer, &Ok(()), &mut out),
                    _ => panic!("an answer"),
                }
            });
        });
    }
}

/// An answer with so many units, in its frame.
fn write_answer(units: &[(Name, Vec<u8>)], out: &mut Vec<u8>) {
    let mut response = Vec::new();
    envelope::begin_success(&mut response, b"\x01");
    let mut writer = Writer::new(&mut response);
    writer.array(2);
    writer.array(units.len());
    for (name, data) in units {
        writer.tuple(2);
        name.write(&mut writer);
        writer.encoded(data);
    }
    writer.null();
    envelope::write_frame(out, &response);
}

fn answers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("writing an answer");
    let mut data = Vec::new();
    write_data(&mut Writer::new(&mut data));
    for (what, count) in [("1 unit", 1), ("1,000 units", UNITS)] {
        let units: Vec<(Name, Vec<u8>)> = (0..count)
            .map(|number| (Name::from_text(format!("unit{number:012}")), data.clone()))
            .collect();
        let mut out = Vec::new();
        write_answer(&units, &mut out);
        group.measurement_time(Duration::from_secs(2));
        group.warm_up_time(Duration::from_millis(500));
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(what, |bencher| {
            bencher.iter(|| {
                out.clear();
                write_answer(black_box(&units), &mut out);
            });
        });
    }
}

criterion_group!(benches, messages, answers);
criterion_main!(benches);
