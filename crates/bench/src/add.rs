//! `bench add`, and the role of a client that adds units.

use super::connection::{Calls, Waiting};
use super::drive::{Role, Wake, drive};
use super::failure::Failure;
use super::names::{NAME_BYTES, Names};
use super::run::{Counting, Run};
use super::session::Session;
use super::wire::{Answer, Call, Request};
use super::{Outcome, parse_count, parse_number};
use coordinated_client::cbor::Writer;
use serde_json::json;
use std::collections::VecDeque;

/// Options of `bench add`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Units to add in all
    #[arg(long, value_name = "N", default_value = "100k", value_parser = parse_number)]
    units: u64,

    /// Connections that add
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    connections: usize,

    /// Calls in flight on each connection
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    depth: usize,
}

pub(super) fn run(args: &Args, session: &mut Session<'_>) -> Result<Outcome, Failure> {
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        clients.push(session.client(session.adder(args.units, args.depth))?);
    }
    session.run.show("adding", Counting::Added, args.units);
    let figures = session.measure(|session| drive(&mut clients, &mut session.run))?;
    session.check_counts(false)?;
    Ok(Outcome::new(
        json!({"units": args.units, "connections": args.connections, "depth": args.depth}),
        figures,
    ))
}

/// Adds units in batches until so many have been sent by all adders together.
pub(super) struct Adder {
    spec: String,
    template: UnitTemplate,
    batch: usize,
    depth: usize,
    /// How many units there shall be.
    total: u64,
    request: Request,
    /// The sizes of the batches in flight.
    in_flight: VecDeque<usize>,
}

/// A unit as a parameter of add_work_units, but for its name.
pub(super) struct UnitTemplate {
    bytes: Vec<u8>,
}

/// Where the name begins in it: behind the heads of the list and of the name.
const NAME_AT: usize = 2;

impl UnitTemplate {
    /// A unit whose data is a map with one byte string of `data_bytes` bytes.
    pub(super) fn new(data_bytes: usize) -> Self {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        writer.array(2);
        writer.bytes(&[0; NAME_BYTES]);
        writer.map(1);
        writer.bytes(b"data");
        writer.bytes(&vec![b'x'; data_bytes]);
        Self { bytes }
    }
}

impl Adder {
    pub(super) fn new(
        spec: &str,
        template: UnitTemplate,
        batch: usize,
        total: u64,
        depth: usize,
    ) -> Self {
        Self {
            spec: spec.to_owned(),
            template,
            batch,
            depth,
            total,
            request: Request::new(Call::Add, |writer| writer.array(0)),
            in_flight: VecDeque::new(),
        }
    }

    fn add_more(&mut self, calls: &mut Calls, run: &mut Run) {
        while !run.stopping && self.in_flight.len() < self.depth {
            let left = self.total.saturating_sub(run.ledger.sent());
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.batch);
            if count == 0 {
                return;
            }
            let first = run.ledger.send(count);
            self.write_batch(first, count, run.ledger.names());
            self.in_flight.push_back(count);
            calls.send(&self.request);
        }
    }

    fn write_batch(&mut self, first: u64, count: usize, names: Names) {
        let template = &mut self.template.bytes;
        self.request.rewrite(|writer| {
            writer.array(2);
            writer.bytes(self.spec.as_bytes());
            writer.array(count);
            for number in first..first + count as u64 {
                template[NAME_AT..NAME_AT + NAME_BYTES].copy_from_slice(&names.name(number));
                writer.encoded(template);
            }
        });
    }
}

impl Role for Adder {
    fn wake(&mut self, calls: &mut Calls, run: &mut Run) -> Result<Wake, Failure> {
        self.add_more(calls, run);
        Ok(None)
    }

    fn answered(
        &mut self,
        _: &Waiting,
        answer: &Answer<'_>,
        calls: &mut Calls,
        run: &mut Run,
    ) -> Result<Wake, Failure> {
        answer.value()?;
        run.ledger.added += self.in_flight.pop_front().unwrap_or(0) as u64;
        self.add_more(calls, run);
        Ok(None)
    }
}

/// Adds units until there are `total`, unmeasured.
///
/// # Errors
/// Whatever ends the benchmark.
pub(super) fn prepare(session: &mut Session<'_>, total: u64) -> Result<(), Failure> {
    let missing = total.saturating_sub(session.run.ledger.sent());
    session.run.show("preparing", Counting::Added, missing);
    let mut clients = [session.client(session.adder(total, PREPARE_DEPTH))?];
    drive(&mut clients, &mut session.run)?;
    session.run.check_interrupt()
}

/// Calls in flight while preparing: the next is there when the server has done one.
const PREPARE_DEPTH: usize = 2;
