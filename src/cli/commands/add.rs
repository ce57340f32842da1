//! `add`, `addwork` and `prioritize`: new units, and which come first.

use super::WrongUsage;
use super::names::{NameParser, Otherwise, units};
use super::output::Output;
use super::server::Server;
use crate::cbor::Value;
use crate::cbor::json::from_json;
use crate::cli::values::{parse_duration, parse_yaml, text_of};
use crate::client::{Coordinate, Name, NewUnit, Priority};
use serde_json::Value as Json;
use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

/// What `add` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Units that are there already get the new data, and become available again, also if they are finished.")]
pub(in crate::cli) struct AddArgs {
    /// The work spec; it must be there
    #[arg(value_name = "SPEC", value_parser = NameParser)]
    spec: Name,

    /// Names of the units
    #[arg(value_name = "KEY", value_parser = NameParser, required = true)]
    keys: Vec<Name>,

    /// Units of higher priority are handed out first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    priority: Option<f64>,

    /// How long they must wait; the Python server does not know it
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    delay: Option<Duration>,

    /// The data of each, an object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    data: OsString,

    #[command(flatten)]
    server: Server,
}

/// What `addwork` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
In each line of the file stands a JSON object, with names of units as keys and their data as values. Empty \
lines, and those that begin with #, are passed over.")]
pub(in crate::cli) struct AddworkArgs {
    #[command(flatten)]
    spec: Otherwise,

    /// The file with the units; - is standard input
    #[arg(short = 'u', long, value_name = "FILE")]
    work_units: PathBuf,

    #[command(flatten)]
    server: Server,
}

/// What `prioritize` can be told.
#[derive(clap::Args)]
pub(in crate::cli) struct PrioritizeArgs {
    /// The work spec
    #[arg(value_name = "SPEC", value_parser = NameParser)]
    spec: Name,

    /// Names of the units; unknown ones are passed over
    #[arg(value_name = "KEY", value_parser = NameParser, required = true)]
    keys: Vec<Name>,

    /// The priority to set
    #[arg(
        long,
        value_name = "NUMBER",
        allow_negative_numbers = true,
        default_value = "1"
    )]
    priority: f64,

    /// What to add to the priority that they have, instead
    #[arg(
        long,
        value_name = "NUMBER",
        allow_negative_numbers = true,
        conflicts_with = "priority"
    )]
    adjust: Option<f64>,

    #[command(flatten)]
    server: Server,
}

/// Units that are sent in one call.
const BATCH_UNITS: usize = 1_000;

/// Adds units.
pub(super) fn add(args: &AddArgs) -> Result<(), Box<dyn Error>> {
    let data = parse_yaml(text_of(&args.data)?).map_err(|error| format!("--data: {error}"))?;
    if data.as_map().is_none() {
        return Err(format!("--data: expected an object, got {}", data.kind_name()).into());
    }
    let new = args.keys.iter().map(|key| NewUnit {
        key: key.clone(),
        data: data.clone(),
        priority: args.priority,
        delay: args.delay,
    });
    args.server
        .connect()?
        .client
        .add_work_units(&args.spec, new)?;
    told_added(args.keys.len())
}

/// Adds units from a file.
pub(super) fn addwork(args: &AddworkArgs) -> Result<(), Box<dyn Error>> {
    let missing = WrongUsage("no work spec is named: add -W NAME or -w FILE");
    let spec = args.spec.read()?.ok_or(missing)?;
    let shown = args.work_units.display().to_string();
    let reader: Box<dyn BufRead> = match shown.as_str() {
        "-" => Box::new(io::stdin().lock()),
        _ => {
            let file = File::open(&args.work_units);
            let file = file.map_err(|error| format!("can't read {shown}: {error}"))?;
            Box::new(BufReader::new(file))
        }
    };
    let mut client = args.server.connect()?.client;
    let mut batch = Vec::new();
    let mut added = 0;
    for (index, line) in reader.lines().enumerate() {
        let at = |problem: String| {
            format!(
                "{shown}, line {}: {problem}; {added} units were added",
                index + 1
            )
        };
        let line = line.map_err(|error| at(error.to_string()))?;
        batch.extend(units_in_line(&line).map_err(at)?);
        if batch.len() >= BATCH_UNITS {
            added += send(&mut client, &spec, &mut batch)?;
        }
    }
    added += send(&mut client, &spec, &mut batch)?;
    told_added(added)
}

fn send(
    client: &mut Coordinate,
    spec: &Name,
    batch: &mut Vec<NewUnit>,
) -> Result<usize, Box<dyn Error>> {
    let count = batch.len();
    client.add_work_units(spec, batch.drain(..))?;
    Ok(count)
}

fn units_in_line(line: &str) -> Result<Vec<NewUnit>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(Vec::new());
    }
    let json: Json = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let Json::Object(entries) = json else {
        return Err("expected an object with names of units and their data".to_owned());
    };
    let mut new = Vec::new();
    for (key, data) in entries {
        let data = from_json(&data).map_err(|error| format!("{key}: {error}"))?;
        if !matches!(data, Value::Map(_) | Value::Null) {
            return Err(format!(
                "{key}: expected an object, got {}",
                data.kind_name()
            ));
        }
        new.push(NewUnit::new(key.as_str(), data));
    }
    Ok(new)
}

fn told_added(count: usize) -> Result<(), Box<dyn Error>> {
    let mut output = Output::new();
    output.line(format!("Added {}.", units(count as u64)))?;
    Ok(output.flush()?)
}

/// Moves units to the front.
pub(super) fn prioritize(args: &PrioritizeArgs) -> Result<(), Box<dyn Error>> {
    let priority = args
        .adjust
        .map_or(Priority::Set(args.priority), Priority::Adjust);
    let mut client = args.server.connect()?.client;
    Ok(client.prioritize_work_units(&args.spec, &args.keys, priority)?)
}
