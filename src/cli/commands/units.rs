//! `work_units` and `work_unit`: list and show units.

use super::WrongUsage;
use super::cancel;
use super::listing::Listing;
use super::names::{NameParser, Spec, SpecAndKeys, as_json, parse_status, shown, shown_or_dash};
use super::output::{Column, Format, Output, Tone, in_line, note, plain};
use super::server::{Daemon, Server};
use crate::cli::values::{moment, span};
use coordinated_client::cbor::Value;
use coordinated_client::cbor::escape::escape;
use coordinated_client::cbor::json::to_json;
use coordinated_client::{Attempt, Name, Status, Unit, UnitQuery, UnitStatus};
use serde_json::{Value as Json, json};
use std::error::Error;

/// The arguments of `work_units`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Prints one name per line. Control characters and bytes that are not UTF-8 are shown as \\xNN, \\n, \\r or \\t, and a \
backslash as \\\\; all commands accept names in this form.

JSON: one object per unit and line, with key and data. For values that JSON lacks, and keys that are not UTF-8, see \
`work_spec --help`.")]
pub(in crate::cli) struct WorkUnitsArgs {
    #[command(flatten)]
    spec: Spec,

    /// At most N units
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,

    /// Only units with this status: available, pending, finished or failed
    #[arg(short, long, value_name = "STATUS", value_parser = parse_status)]
    status: Option<Status>,

    /// Only units whose names begin with this text
    #[arg(long, value_name = "TEXT", value_parser = NameParser)]
    prefix: Option<Name>,

    /// Also print the data
    #[arg(long)]
    details: bool,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `work_unit`.
#[derive(clap::Args)]
#[command(after_long_help = "\
JSON: a list of objects with key, status, worker, expiration (when the lease ends, or when the unit was finished or \
failed; in seconds since 1970), traceback, failures (how many times it has failed, if the work spec has retries), lost \
(how many leases of it were lost, if it has max_lost), retry_at (when it is tried again after a failure; seconds since \
1970), cancelled (an object with reason, by and at, if it was cancelled), group, data and, if the daemon keeps them, attempts: the last one first, each with number, worker, status, start, end, \
expiration and data.

The exit code is 1 if one of the units does not exist.")]
pub(in crate::cli) struct WorkUnitArgs {
    #[command(flatten)]
    units: SpecAndKeys,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// The most attempts shown of one unit.
const ATTEMPTS_SHOWN: u64 = 20;

/// Lists units.
pub(super) fn work_units(args: &WorkUnitsArgs) -> Result<(), Box<dyn Error>> {
    let spec = args.spec.read()?;
    let mut daemon = args.server.connect()?;
    let mut output = Output::new();
    let form = args.format.for_programs();
    let listing = Listing {
        status: args.status,
        prefix: args.prefix.clone(),
        limit: args.limit,
    };
    let seen = listing.each_page(&mut daemon, &spec, |_, page| {
        for unit in page {
            match form {
                Some(form) => output.item(form, &unit_to_json(&unit))?,
                None if args.details => print_details(&unit, &mut output)?,
                None => output.line(shown(&unit.key))?,
            }
        }
        // Flushed page by page, so that a reader sees progress and a closed pipe is noticed.
        Ok::<(), Box<dyn Error>>(output.flush()?)
    })?;
    seen.note_if_incomplete();
    Ok(())
}

fn unit_to_json(unit: &Unit) -> Json {
    json!({
        "key": as_json(&unit.key),
        "data": unit.data.as_ref().map(to_json),
    })
}

fn print_details(unit: &Unit, output: &mut Output) -> Result<(), Box<dyn Error>> {
    let data = unit.data.as_ref().unwrap_or(&Value::Null);
    let (rest, traceback) = split_traceback(data);
    output.line(format!("{}  {}", shown(&unit.key), to_json(&rest)))?;
    if let Some(traceback) = traceback {
        output.indented(&traceback)?;
    }
    Ok(())
}

/// Splits a traceback of several lines off the data, to print it below.
fn split_traceback(data: &Value) -> (Value, Option<String>) {
    let traceback = data.get("traceback").and_then(Value::as_text_lossy);
    let (Some(text), Some(entries)) = (traceback, data.as_map()) else {
        return (data.clone(), None);
    };
    let others = entries
        .iter()
        .filter(|(key, _)| key.as_string_bytes() != Some(b"traceback"));
    (
        Value::Map(others.cloned().collect()),
        Some(text.into_owned()),
    )
}

/// A unit with its status, data and attempts.
struct UnitDetails {
    key: Name,
    status: UnitStatus,
    data: Option<Value>,
    attempts: Option<Vec<Attempt>>,
}

/// Shows units with their status, data and attempts.
pub(super) fn work_unit(args: &WorkUnitArgs) -> Result<(), Box<dyn Error>> {
    let (spec, keys) = args.units.read()?;
    if keys.is_empty() {
        return Err(WrongUsage("name at least one unit").into());
    }
    let mut daemon = args.server.connect()?;
    let mut known = Vec::new();
    let mut missing = Vec::new();
    for (key, status) in keys
        .iter()
        .zip(daemon.client.get_work_unit_status(&spec, &keys)?)
    {
        match status {
            Some(status) => known.push(fetch(&mut daemon, &spec, key, status)?),
            None => missing.push(key),
        }
    }
    let mut output = Output::new();
    match args.format.for_programs() {
        Some(form) => {
            output.document(form, &known.iter().map(details_to_json).collect::<Json>())?
        }
        None => {
            for unit in &known {
                print_unit(&mut daemon, unit, &mut output)?;
            }
        }
    }
    output.flush()?;
    if daemon.is_original() {
        note("this server does not keep earlier attempts");
    }
    match missing.as_slice() {
        [] => Ok(()),
        [key] => Err(format!("{spec} has no work unit {key}").into()),
        [key, ..] => {
            let count = missing.len();
            Err(format!("{spec} has no work unit {key}, nor {} others", count - 1).into())
        }
    }
}

fn fetch(
    daemon: &mut Daemon,
    spec: &Name,
    key: &Name,
    status: UnitStatus,
) -> Result<UnitDetails, Box<dyn Error>> {
    let query = UnitQuery {
        keys: vec![key.clone()],
        ..UnitQuery::default()
    };
    let unit = daemon.client.get_work_units(spec, &query)?.pop();
    let attempts = match daemon.has("get_attempts") {
        true => Some(
            daemon
                .client
                .get_attempts(spec, key, Some(ATTEMPTS_SHOWN))?,
        ),
        false => None,
    };
    Ok(UnitDetails {
        key: key.clone(),
        status,
        data: unit.and_then(|unit| unit.data),
        attempts,
    })
}

fn details_to_json(unit: &UnitDetails) -> Json {
    let status = &unit.status;
    let mut object = json!({
        "key": as_json(&unit.key),
        "status": status.status.name(),
        "worker": status.worker.as_ref().map(as_json),
        "expiration": status.expiration,
        "traceback": status.traceback.as_ref().map(to_json),
        "failures": status.failures,
        "lost": status.lost,
        "retry_at": status.retry_at,
        "cancelled": cancel::to_json(status.cancelled.as_ref()),
        "group": status.group,
        "data": unit.data.as_ref().map(to_json),
    });
    if let Some(attempts) = &unit.attempts {
        object["attempts"] = attempts.iter().map(attempt_to_json).collect();
    }
    object
}

fn attempt_to_json(attempt: &Attempt) -> Json {
    json!({
        "number": attempt.number,
        "worker": attempt.worker.as_ref().map(as_json),
        "status": attempt.status.name(),
        "start": attempt.start,
        "end": attempt.end,
        "expiration": attempt.expiration,
        "data": attempt.data.as_ref().map(to_json),
    })
}

fn print_unit(
    daemon: &mut Daemon,
    unit: &UnitDetails,
    output: &mut Output,
) -> Result<(), Box<dyn Error>> {
    let status = &unit.status;
    output.line(format!("{}  {}", shown(&unit.key), status.status))?;
    if let Some(expiration) = status.expiration {
        let what = match status.status {
            Status::Pending => "Expires",
            _ => "Ended",
        };
        output.line(format!("  {what}: {}", moment(expiration)))?;
    }
    if let Some(worker) = &status.worker {
        let host = daemon.client.get_worker_info(worker)?;
        let host = host.as_ref().and_then(host_of);
        let host = host.map_or_else(String::new, |host| format!(" on {host}"));
        output.line(format!("  Worker: {}{host}", shown(worker)))?;
    }
    if let Some(group) = &status.group {
        output.line(format!("  Group: {group}"))?;
    }
    if status.failures > 0 {
        let (failures, retries) = (status.failures, status.retries);
        let next = status
            .retry_at
            .map_or_else(String::new, |at| format!(", tried again at {}", moment(at)));
        output.line(format!("  Failures: {failures} (retries: {retries}){next}"))?;
    }
    if status.lost > 0 {
        output.line(format!("  Lost leases: {}", status.lost))?;
    }
    if let Some(cancelled) = &status.cancelled {
        output.line(format!("  Cancelled: {}", cancel::in_words(cancelled)))?;
    }
    let (data, traceback) = split_traceback(unit.data.as_ref().unwrap_or(&Value::Null));
    output.line(format!("  Data: {}", to_json(&data)))?;
    let reported = status.traceback.as_ref().map(in_lines);
    if let Some(traceback) = traceback.or(reported) {
        output.line("  Traceback:")?;
        output.indented(&traceback)?;
    }
    if let Some(attempts) = unit
        .attempts
        .as_ref()
        .filter(|attempts| !attempts.is_empty())
    {
        // What an attempt left is among the unit's data above, unless the unit is available again.
        let shown = usize::from(status.status != Status::Available);
        print_attempts(attempts, shown, output)?;
    }
    Ok(())
}

/// A traceback with its lines, for people.
fn in_lines(traceback: &Value) -> String {
    let text = traceback.as_text_lossy().map(|text| text.into_owned());
    text.unwrap_or_else(|| in_line(traceback))
}

/// The host of a worker, from its environment.
fn host_of(environment: &Value) -> Option<String> {
    let name = |key| environment.get_some(key).map(in_line);
    name("fqdn")
        .or_else(|| name("hostname"))
        .or_else(|| name("host"))
}

/// The last line of an attempt's traceback, which says what went wrong.
fn message_of(attempt: &Attempt) -> Option<String> {
    let traceback = attempt.data.as_ref()?.get_some("traceback")?;
    let traceback = in_lines(traceback);
    let last = traceback.lines().rfind(|line| !line.trim().is_empty())?;
    Some(escape(last.trim().as_bytes()))
}

/// Prints the attempts. The messages of the first few were `shown` already.
fn print_attempts(
    attempts: &[Attempt],
    shown: usize,
    output: &mut Output,
) -> Result<(), Box<dyn Error>> {
    let mut columns = vec![
        Column::Number("Attempt"),
        Column::Text("Worker"),
        Column::Text("Status"),
        Column::Text("Started"),
        Column::Number("Took"),
    ];
    let messages: Vec<_> = attempts.iter().map(message_of).collect();
    let has_messages = messages.iter().skip(shown).any(Option::is_some);
    if has_messages {
        columns.push(Column::Text("Message"));
    }
    let row = |(attempt, message): (&Attempt, &Option<String>)| {
        let tone = match attempt.status {
            Status::Finished => Tone::Good,
            Status::Failed => Tone::Bad,
            Status::Pending => Tone::Busy,
            _ => Tone::Faint,
        };
        let took = match (attempt.start, attempt.end) {
            (Some(start), Some(end)) => span(end - start),
            _ => String::new(),
        };
        let number = attempt.number.map(|number| number.to_string());
        let mut row = vec![
            plain(number.unwrap_or_default()),
            plain(shown_or_dash(attempt.worker.as_ref())),
            (attempt.status.name().to_owned(), tone),
            plain(attempt.start.map(moment).unwrap_or_default()),
            plain(took),
        ];
        if has_messages {
            row.push(plain(message.clone().unwrap_or_default()));
        }
        row
    };
    let rows = attempts.iter().zip(&messages).map(row);
    Ok(output.table(&columns, rows.collect())?)
}
