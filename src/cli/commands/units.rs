//! `work_units` and `work_unit`: looking at units.

use super::WrongUsage;
use super::listing::Listing;
use super::names::{NameParser, Spec, SpecAndKeys, as_json, parse_status, shown, shown_or_dash};
use super::output::{Column, Format, Output, Tone, in_line, note, plain};
use super::server::{Daemon, Server};
use crate::cli::values::{moment, span};
use coordinated_client::cbor::Value;
use coordinated_client::cbor::json::to_json;
use coordinated_client::{Attempt, Name, Status, Unit, UnitQuery, UnitStatus};
use serde_json::{Value as Json, json};
use std::error::Error;

/// What `work_units` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Prints a name in each line. Bytes that are not UTF-8, and control characters, are shown as \\xNN, \\n, \\r \
or \\t, and a backslash as \\\\; all commands take names in that form.

JSON: an object for each unit, in a line of its own, with its key and its data. What JSON lacks is shown \
as `work_spec --help` says; so is a key that is not UTF-8.")]
pub(in crate::cli) struct WorkUnitsArgs {
    #[command(flatten)]
    spec: Spec,

    /// Only N units
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,

    /// Only units that are available, pending, finished or failed
    #[arg(short, long, value_name = "STATUS", value_parser = parse_status)]
    status: Option<Status>,

    /// Only units whose names begin so
    #[arg(long, value_name = "TEXT", value_parser = NameParser)]
    prefix: Option<Name>,

    /// Print the data, too
    #[arg(long)]
    details: bool,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// What `work_unit` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
JSON: a list of objects with key, status, worker, expiration (the end of the lease, or when the unit was \
finished or failed; seconds since 1970), traceback, data, and attempts where the daemon keeps them: the last \
one first, each with number, worker, status, start, end, expiration and data.

The exit code is 1 if one of the units is not there.")]
pub(in crate::cli) struct WorkUnitArgs {
    #[command(flatten)]
    units: SpecAndKeys,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// Attempts that are shown of one unit.
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
        // Whoever reads along gets it page by page, and an end of the reading is noticed.
        Ok::<(), Box<dyn Error>>(output.flush()?)
    })?;
    seen.tell();
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

/// Takes a traceback of several lines out of data, to be shown below them.
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

/// What is known of one unit.
struct Known {
    key: Name,
    status: UnitStatus,
    data: Option<Value>,
    attempts: Option<Vec<Attempt>>,
}

/// Shows single units.
pub(super) fn work_unit(args: &WorkUnitArgs) -> Result<(), Box<dyn Error>> {
    let (spec, keys) = args.units.read()?;
    if keys.is_empty() {
        return Err(WrongUsage("no work unit is named").into());
    }
    let mut daemon = args.server.connect()?;
    let mut known = Vec::new();
    let mut missing = Vec::new();
    for (key, status) in keys
        .iter()
        .zip(daemon.client.get_work_unit_status(&spec, &keys)?)
    {
        match status {
            Some(status) => known.push(ask(&mut daemon, &spec, key, status)?),
            None => missing.push(key),
        }
    }
    let mut output = Output::new();
    match args.format.for_programs() {
        Some(form) => output.document(form, &known.iter().map(known_to_json).collect::<Json>())?,
        None => {
            for unit in &known {
                print_unit(&mut daemon, unit, &mut output)?;
            }
        }
    }
    output.flush()?;
    if daemon.is_original() {
        note("this server keeps no earlier attempts");
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

fn ask(
    daemon: &mut Daemon,
    spec: &Name,
    key: &Name,
    status: UnitStatus,
) -> Result<Known, Box<dyn Error>> {
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
    Ok(Known {
        key: key.clone(),
        status,
        data: unit.and_then(|unit| unit.data),
        attempts,
    })
}

fn known_to_json(unit: &Known) -> Json {
    let status = &unit.status;
    let mut object = json!({
        "key": as_json(&unit.key),
        "status": status.status.name(),
        "worker": status.worker.as_ref().map(as_json),
        "expiration": status.expiration,
        "traceback": status.traceback.as_ref().map(to_json),
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
    unit: &Known,
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
    let (data, traceback) = split_traceback(unit.data.as_ref().unwrap_or(&Value::Null));
    output.line(format!("  Data: {}", to_json(&data)))?;
    let reported = status.traceback.as_ref().map(in_reading);
    if let Some(traceback) = traceback.or(reported) {
        output.line("  Traceback:")?;
        output.indented(&traceback)?;
    }
    if let Some(attempts) = unit
        .attempts
        .as_ref()
        .filter(|attempts| !attempts.is_empty())
    {
        print_attempts(attempts, output)?;
    }
    Ok(())
}

/// A traceback as people read it: with its lines.
fn in_reading(traceback: &Value) -> String {
    let text = traceback.as_text_lossy().map(|text| text.into_owned());
    text.unwrap_or_else(|| in_line(traceback))
}

/// Where a worker says that it runs.
fn host_of(environment: &Value) -> Option<String> {
    let name = |key| environment.get_some(key).map(in_line);
    name("fqdn")
        .or_else(|| name("hostname"))
        .or_else(|| name("host"))
}

fn print_attempts(attempts: &[Attempt], output: &mut Output) -> Result<(), Box<dyn Error>> {
    let columns = [
        Column::Number("Attempt"),
        Column::Text("Worker"),
        Column::Text("Status"),
        Column::Text("Started"),
        Column::Number("Took"),
    ];
    let row = |attempt: &Attempt| {
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
        vec![
            plain(number.unwrap_or_default()),
            plain(shown_or_dash(attempt.worker.as_ref())),
            (attempt.status.name().to_owned(), tone),
            plain(attempt.start.map(moment).unwrap_or_default()),
            plain(took),
        ]
    };
    Ok(output.table(&columns, attempts.iter().map(row).collect())?)
}
