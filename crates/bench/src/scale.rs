//! `bench scale`: what calls take as the queue, or what lies behind it, grows tenfold and tenfold.

use super::control::count_request;
use super::drive::drive;
use super::failure::Failure;
use super::latency::Summary;
use super::mixed::{read_page, write_page_params};
use super::report::{Figures, bytes, grouped, micros};
use super::run::Counting;
use super::session::Session;
use super::wire::{Answer, Call, PAGE_UNITS, Protocol, Request};
use super::work::{Finish, Style, WhenEmpty, get_work_request, read_work};
use super::{Outcome, add, parse_number};
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};
use std::fmt::Write;

/// Options of `bench scale`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The largest number of units; the first is a thousand
    #[arg(long, value_name = "N", default_value = "10M", value_parser = parse_number)]
    max_units: u64,

    /// How often each call is measured at each size
    #[arg(
        long,
        value_name = "N",
        default_value = "300",
        value_parser = RangedU64ValueParser::<u64>::new().range(1..=SIZE_FIRST / 2)
    )]
    rounds: u64,

    /// Finish the units of each size before it is measured: what it costs to have them behind
    #[arg(long)]
    finished: bool,
}

const SIZE_FIRST: u64 = 1_000;

/// What was measured at one size.
struct Size {
    units: u64,
    adding: Figures,
    probing: Figures,
}

pub(super) fn run(args: &Args, session: &mut Session<'_>) -> Result<Outcome, Failure> {
    let mut sizes = Vec::new();
    let mut units = SIZE_FIRST;
    while units <= args.max_units.max(SIZE_FIRST) {
        let adding = session.measure(|session| add::prepare(session, units))?;
        if args.finished {
            work_off(session)?;
            add::prepare(session, units + SIZE_FIRST)?;
        }
        let probing = session.measure(|session| probe(session, args.rounds))?;
        session.check_counts(false)?;
        sizes.push(Size {
            units,
            adding,
            probing,
        });
        units = units.saturating_mul(10);
    }
    Ok(Outcome {
        options: json!({
            "max_units": args.max_units,
            "rounds": args.rounds,
            "finished": args.finished,
        }),
        figures: None,
        extra: Some(("sizes", to_json(&sizes))),
        text: to_text(&sizes, args.finished),
    })
}

/// Finishes all units that there are.
fn work_off(session: &mut Session<'_>) -> Result<(), Failure> {
    const WORKERS: usize = 4;
    let style = Style {
        jobs: 1_000,
        finish: match session.server_name {
            Some(_) => Finish::Together,
            None => Finish::Pipelined,
        },
    };
    let mut clients = Vec::new();
    for number in 0..WORKERS {
        clients.push(session.client(session.worker(number, style, WhenEmpty::End))?);
    }
    let left = session.run.ledger.added - session.run.ledger.finished;
    session.run.show("finishing", Counting::Finished, left);
    drive(&mut clients, &mut session.run)?;
    session.run.check_interrupt()
}

/// Makes each call so many times, one after the other.
fn probe(session: &mut Session<'_>, rounds: u64) -> Result<(), Failure> {
    let spec = session.target.spec.as_str();
    let (control, run) = (&mut session.control, &mut session.run);
    let total = run.ledger.added;
    let names = run.ledger.names();
    let get_work = get_work_request(Protocol::CborRpc, spec, "bench-0", 1);
    let mut finish = Request::finish(spec);
    let count = count_request(spec);
    let middle = names.middle(total, PAGE_UNITS as u64);
    let page = Request::new(Call::Page, |writer| {
        write_page_params(writer, spec, PAGE_UNITS, Some(&middle));
    });
    let status = Request::new(Call::Status, |writer| {
        writer.array(2);
        writer.bytes(spec.as_bytes());
        writer.array(STATUS_UNITS);
        for index in 0..STATUS_UNITS as u64 {
            writer.bytes(&names.name(index * total / STATUS_UNITS as u64));
        }
    });
    for _ in 0..rounds {
        run.check_interrupt()?;
        let (unit, time) = control.exchange(&get_work, |answer, asked| {
            let mut unit = None;
            read_work(answer, spec, 1, |name, _| {
                unit = Some(run.ledger.hand_out(name, asked)?);
                Ok(())
            })?;
            match unit {
                Some(unit) => Ok(unit),
                None => Failure::check("get_work says that there is no work, but there is".into()),
            }
        })?;
        run.latencies.record(Call::GetWork, time);

        finish.set_name(&unit.name);
        let ((), time) = control.exchange(&finish, |answer, _| answer.value().map(drop))?;
        run.ledger.finish(&unit);
        run.cycles += 1;
        run.latencies.record(Call::Finish, time);

        let (counts, time) = control.counts(&count)?;
        run.ledger.compare(counts, false)?;
        run.latencies.record(Call::Count, time);

        let (found, time) = control.exchange(&page, |answer, _| {
            let mut found = 0;
            read_page(answer, |name| {
                found += 1;
                run.ledger.number(name).map(drop)
            })?;
            Ok(found)
        })?;
        // One less where `start` itself is left out, as one of the originals does.
        if found != PAGE_UNITS && found + 1 != PAGE_UNITS {
            return Failure::check(format!("a page of {PAGE_UNITS} units has {found}"));
        }
        run.latencies.record(Call::Page, time);

        let ((), time) = control.exchange(&status, check_status)?;
        run.latencies.record(Call::Status, time);
    }
    Ok(())
}

/// Units whose status is asked for in one call.
const STATUS_UNITS: usize = 100;

fn check_status(answer: &Answer<'_>, _: std::time::Instant) -> Result<(), Failure> {
    let mut found = 0;
    for status in answer.list(answer.value()?)? {
        if status.get_some("status").is_none() {
            return Failure::check("get_work_unit_status does not know an added unit".into());
        }
        found += 1;
    }
    if found != STATUS_UNITS {
        return Failure::check(format!("asked for {STATUS_UNITS} statuses, got {found}"));
    }
    Ok(())
}

/// How much longer a call takes than at the first size, by its median.
fn ratio(first: Option<&Size>, summary: &Summary) -> f64 {
    let at_first = first.and_then(|size| {
        let mut calls = size.probing.calls.iter();
        calls.find(|other| other.call == summary.call)
    });
    at_first.map_or(f64::NAN, |first| {
        summary.p50 / first.p50.max(f64::MIN_POSITIVE)
    })
}

fn to_json(sizes: &[Size]) -> Value {
    let size_to_json = |size: &Size| {
        let calls = size.probing.calls.iter();
        let ratios: serde_json::Map<_, _> = calls
            .map(|call| {
                (
                    call.call.label().to_owned(),
                    json!(ratio(sizes.first(), call)),
                )
            })
            .collect();
        json!({
            "units": size.units,
            "adding": size.adding.to_json(),
            "probing": size.probing.to_json(),
            "p50_ratios": ratios,
        })
    };
    sizes.iter().map(size_to_json).collect()
}

fn to_text(sizes: &[Size], finished: bool) -> String {
    let mut text = String::new();
    for size in sizes {
        let what = if finished { "finished" } else { "queued" };
        let rss = size.probing.server.as_ref();
        let rss = rss.map_or(String::new(), |server| {
            format!(", server's RSS {}", bytes(server.rss_bytes))
        });
        let added_per_s = size.adding.added as f64 / size.adding.seconds.max(1e-9);
        let _ = writeln!(
            text,
            "  {} units {what} (added at {}/s{rss})",
            grouped(size.units),
            grouped(added_per_s as u64)
        );
        for call in &size.probing.calls {
            let _ = writeln!(
                text,
                "    {:<22} p50 {:>9}  p99 {:>9}  max {:>9}  p50 is {:.2} times the first",
                call.call.label(),
                micros(call.p50),
                micros(call.p99),
                micros(call.max),
                ratio(sizes.first(), call)
            );
        }
    }
    text
}
