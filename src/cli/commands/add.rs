//! `add` and `prioritize`: new units, and which come first.

use super::names::{NameParser, SpecNameParser, units};
use super::output::Output;
use super::server::Server;
use super::set_spec::tell_if_paused;
use crate::cli::values::{parse_duration, parse_yaml, text_of};
use coordinated_client::{Name, NewUnit, Priority};
use std::error::Error;
use std::ffi::OsString;
use std::time::Duration;

/// What `add` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Units that are there already get the new data, and become available again, also if they are finished.")]
pub(in crate::cli) struct AddArgs {
    /// The work spec; it must be there
    #[arg(value_name = "SPEC", value_parser = SpecNameParser)]
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

/// What `prioritize` can be told.
#[derive(clap::Args)]
pub(in crate::cli) struct PrioritizeArgs {
    /// The work spec
    #[arg(value_name = "SPEC", value_parser = SpecNameParser)]
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
    let mut daemon = args.server.connect()?;
    if args.delay.is_some() {
        daemon.tell_of_delays();
    }
    daemon.client.add_work_units(&args.spec, new)?;
    tell_if_paused(&mut daemon.client, &args.spec);
    let mut output = Output::new();
    output.line(format!("Added {}.", units(args.keys.len() as u64)))?;
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
