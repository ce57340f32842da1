//! `bench idle`: one worker beside many connections that only heartbeat.

use super::connection::{Calls, Waiting};
use super::drive::{Role, Wake, drive};
use super::failure::Failure;
use super::report::bytes;
use super::run::{Counting, Run};
use super::session::Session;
use super::wire::{Answer, Call, Request};
use super::work::{Finish, Style, WhenEmpty, parse_seconds};
use super::{Outcome, add, parse_count, parse_number};
use serde_json::json;
use std::time::{Duration, Instant};

/// Options of `bench idle`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Quiet connections. What memory each takes shows only in a server that was just started: one
    /// that has been busy has room already
    #[arg(long, value_name = "N", default_value = "1k", value_parser = parse_count)]
    connections: usize,

    /// How often each of them heartbeats
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_seconds)]
    heartbeat: Duration,

    /// How long to go on, unless the worker runs out of work before
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_seconds)]
    seconds: Duration,

    /// Units for the worker, which are added before
    #[arg(long, value_name = "UNITS", default_value = "100k", value_parser = parse_number)]
    prepare: u64,
}

const STYLE: Style = Style {
    jobs: 1,
    finish: Finish::Single,
};

pub(super) fn run(args: &Args, session: &mut Session<'_>) -> Result<Outcome, Failure> {
    add::prepare(session, args.prepare)?;
    let before = session.server_usage();
    let worker = session.worker(0, STYLE, WhenEmpty::StopAll);
    let mut clients = vec![session.client(worker)?];
    let begin = Instant::now();
    for number in 0..args.connections {
        // Spread evenly, as those of many machines are.
        let share = number as f64 / args.connections as f64;
        let quiet = Quiet {
            request: heartbeat(number),
            first: Some(begin + args.heartbeat.mul_f64(share)),
            interval: args.heartbeat,
        };
        clients.push(session.client(quiet)?);
    }
    let milliseconds = u64::try_from(args.seconds.as_millis()).unwrap_or(u64::MAX);
    session
        .run
        .show("idling", Counting::Milliseconds, milliseconds);
    session.stop_after(Some(args.seconds));
    let figures = session.measure(|session| drive(&mut clients, &mut session.run))?;
    let each = before.zip(session.server_usage()).map(|(before, after)| {
        after.rss_bytes.saturating_sub(before.rss_bytes) / clients.len() as u64
    });
    session.check_counts(false)?;
    let mut outcome = Outcome::new(
        json!({
            "connections": args.connections,
            "heartbeat": args.heartbeat.as_secs_f64(),
            "seconds": args.seconds.as_secs_f64(),
            "prepare": args.prepare,
        }),
        figures,
    );
    if let Some(each) = each {
        outcome.text = format!("  server: {} more for each connection\n", bytes(each));
    }
    outcome.extra = Some(("rss_bytes_per_connection", json!(each)));
    Ok(outcome)
}

fn heartbeat(number: usize) -> Request {
    Request::new(Call::Heartbeat, |writer| {
        writer.array(5);
        writer.bytes(format!("bench-quiet-{number}").as_bytes());
        writer.bytes(b"IDLE");
        writer.unsigned(LIFETIME_SECONDS);
        writer.null();
        writer.null();
    })
}

/// How long a worker lives without a heartbeat: it is forgotten some minutes after the benchmark.
const LIFETIME_SECONDS: u64 = 300;

/// Heartbeats, and is quiet otherwise.
struct Quiet {
    request: Request,
    /// When to begin, until it has begun.
    first: Option<Instant>,
    interval: Duration,
}

impl Role for Quiet {
    fn wake(&mut self, calls: &mut Calls, run: &mut Run) -> Result<Wake, Failure> {
        let first = self.first.take();
        if first.is_none() && !run.stopping {
            calls.send(&self.request);
        }
        Ok(first)
    }

    fn answered(
        &mut self,
        waiting: &Waiting,
        answer: &Answer<'_>,
        _: &mut Calls,
        _: &mut Run,
    ) -> Result<Wake, Failure> {
        answer.value()?;
        Ok(Some(waiting.since + self.interval))
    }
}
