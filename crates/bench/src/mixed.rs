//! `bench mixed`: workers, while others add units and page through all of them.

use super::connection::{Calls, Waiting};
use super::drive::{Role, Wake, drive};
use super::failure::Failure;
use super::names::NAME_BYTES;
use super::run::{Counting, Run};
use super::session::Session;
use super::wire::{Answer, Call, LONG_PAGE_UNITS, PAGE_UNITS, Request};
use super::work::{Style, WhenEmpty, parse_seconds};
use super::{Outcome, add, parse_count, parse_number};
use coordinated_client::cbor::Writer;
use serde_json::json;
use std::time::Duration;

/// Options of `bench mixed`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Worker connections; the client that adds and the two that page come on top
    #[arg(long, value_name = "N", default_value = "8", value_parser = parse_count)]
    connections: usize,

    #[command(flatten)]
    style: Style,

    /// Units that the one client adds; when it is done, all stop
    #[arg(long, value_name = "N", default_value = "100k", value_parser = parse_number)]
    units: u64,

    /// Stop after this time even if not all are added
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    seconds: Option<Duration>,

    /// Units to add before, which is not measured
    #[arg(long, value_name = "UNITS", default_value = "10k", value_parser = parse_number)]
    prepare: u64,
}

pub(super) fn run(args: &Args, session: &mut Session<'_>) -> Result<Outcome, Failure> {
    add::prepare(session, args.prepare)?;
    let total = args.prepare + args.units;
    let mut clients = Vec::new();
    for number in 0..args.connections {
        let worker = session.worker(number, args.style, WhenEmpty::AskAgain);
        clients.push(session.client(worker)?);
    }
    clients.push(session.client(session.adder(total, 1))?);
    for call in [Call::Page, Call::LongPage] {
        clients.push(session.client(Pager::new(&session.target.spec, call))?);
    }
    session.run.show("mixed", Counting::Added, args.units);
    session.stop_after(args.seconds);
    session.run.stop_when_added = Some(total);
    let figures = session.measure(|session| drive(&mut clients, &mut session.run))?;
    session.check_counts(false)?;
    Ok(Outcome::new(
        json!({
            "connections": args.connections,
            "jobs": args.style.jobs,
            "finish": args.style.finish.word(),
            "units": args.units,
            "seconds": args.seconds.map(|time| time.as_secs_f64()),
            "prepare": args.prepare,
        }),
        figures,
    ))
}

/// Pages through all units, again and again, and looks whether all are there.
struct Pager {
    spec: String,
    call: Call,
    request: Request,
    /// How many units there were when this pass began.
    at_begin: u64,
    seen: u64,
    last: [u8; NAME_BYTES],
}

impl Pager {
    fn new(spec: &str, call: Call) -> Self {
        Self {
            spec: spec.to_owned(),
            call,
            request: Request::new(call, |writer| writer.array(0)),
            at_begin: 0,
            seen: 0,
            last: [0; NAME_BYTES],
        }
    }

    fn limit(&self) -> usize {
        match self.call {
            Call::LongPage => LONG_PAGE_UNITS,
            _ => PAGE_UNITS,
        }
    }

    fn begin(&mut self, calls: &mut Calls, run: &Run) {
        (self.at_begin, self.seen) = (run.ledger.added, 0);
        let limit = self.limit();
        self.request
            .rewrite(|writer| write_page_params(writer, &self.spec, limit, None));
        self.send(calls, run);
    }

    /// Asks for what comes after the last unit: whether `start` is meant inclusively or not, which
    /// servers see differently, the name behind it is not left out and it does not come again.
    fn go_on(&mut self, calls: &mut Calls, run: &Run) {
        let mut behind = [0; NAME_BYTES + 1];
        behind[..NAME_BYTES].copy_from_slice(&self.last);
        let limit = self.limit();
        self.request
            .rewrite(|writer| write_page_params(writer, &self.spec, limit, Some(&behind)));
        self.send(calls, run);
    }

    fn send(&self, calls: &mut Calls, run: &Run) {
        if !run.stopping {
            calls.send(&self.request);
        }
    }
}

impl Role for Pager {
    fn wake(&mut self, calls: &mut Calls, run: &mut Run) -> Result<Wake, Failure> {
        self.begin(calls, run);
        Ok(None)
    }

    fn answered(
        &mut self,
        _: &Waiting,
        answer: &Answer<'_>,
        calls: &mut Calls,
        run: &mut Run,
    ) -> Result<Wake, Failure> {
        let mut count = 0;
        read_page(answer, |name| {
            let number = run.ledger.number(name)?;
            self.last = self.last.max(run.ledger.names().name(number as u64));
            count += 1;
            Ok(())
        })?;
        if count > self.limit() {
            return Failure::check(format!("a page of {} units has {count}", self.limit()));
        }
        self.seen += count as u64;
        if count == self.limit() {
            self.go_on(calls, run);
            return Ok(None);
        }
        if self.seen < self.at_begin {
            return Failure::check(format!(
                "paging through all units shows {}, but {} had been added before",
                self.seen, self.at_begin
            ));
        }
        self.last = [0; NAME_BYTES];
        self.begin(calls, run);
        Ok(None)
    }
}

/// Writes the parameters that ask for a page.
pub(super) fn write_page_params(
    writer: &mut Writer<'_>,
    spec: &str,
    limit: usize,
    start: Option<&[u8]>,
) {
    writer.array(2);
    writer.bytes(spec.as_bytes());
    writer.map(1 + usize::from(start.is_some()));
    writer.bytes(b"limit");
    writer.unsigned(limit as u64);
    if let Some(start) = start {
        writer.bytes(b"start");
        writer.bytes(start);
    }
}

/// Hands the name of each unit on a page to `take`.
///
/// # Errors
/// `Unreadable`, or what `take` returns.
pub(super) fn read_page(
    answer: &Answer<'_>,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let value = answer.value()?;
    if value.is_null() {
        return Ok(());
    }
    for unit in answer.list(value)? {
        let name = unit.as_list().and_then(|mut parts| parts.next());
        let name = name.and_then(|name| name.as_string_bytes());
        take(&name.ok_or_else(|| answer.unreadable("a unit's name and data were expected"))?)?;
    }
    Ok(())
}
