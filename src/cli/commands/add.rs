//! `add` and `prioritize`: add units by name, and change their priority.

use super::existing::{Existing, in_words};
use super::names::{NameParser, SpecNameParser};
use super::output::Output;
use super::server::Server;
use super::set_spec::note_if_paused;
use crate::cli::values::{parse_duration, parse_yaml, text_of};
use coordinated_client::{Added, Name, NewUnit, Priority};
use std::error::Error;
use std::ffi::OsString;
use std::time::Duration;

/// The arguments of `add`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Units that exist already are skipped. Original servers can't skip them: they get the new data and become available \
again, as with --reset.")]
pub(in crate::cli) struct AddArgs {
    /// The work spec, which must exist
    #[arg(value_name = "SPEC", value_parser = SpecNameParser)]
    spec: Name,

    /// Names of the units
    #[arg(value_name = "KEY", value_parser = NameParser, required = true)]
    keys: Vec<Name>,

    /// Units of higher priority are handed out first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    priority: Option<f64>,

    /// Time before the units can be handed out; the Python server ignores it
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    delay: Option<Duration>,

    /// The group of the units, for a work spec with fair or max_running_per_group
    #[arg(long, value_name = "TEXT")]
    group: Option<String>,

    /// The data of each unit, an object
    #[arg(long, value_name = "JSON", default_value = "{}")]
    data: OsString,

    #[command(flatten)]
    existing: Existing,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `prioritize`.
#[derive(clap::Args)]
pub(in crate::cli) struct PrioritizeArgs {
    /// The work spec
    #[arg(value_name = "SPEC", value_parser = SpecNameParser)]
    spec: Name,

    /// Names of the units; unknown ones are ignored
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

    /// Add this to the current priority instead
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
        group: args.group.clone(),
    });
    let mut daemon = args.server.connect()?;
    daemon.warn_about_options_of_units(args.delay, args.group.as_deref());
    let added = match args.existing.rule(&mut daemon, &args.spec) {
        Some(rule) => daemon.client.add_work_units_if(&args.spec, new, rule)?,
        None => {
            daemon.client.add_work_units(&args.spec, new)?;
            Added {
                new: args.keys.len() as u64,
                ..Added::default()
            }
        }
    };
    if added.new + added.reset > 0 {
        note_if_paused(&mut daemon, &args.spec);
    }
    let mut output = Output::new();
    output.line(format!("Added {}.", in_words(added)))?;
    Ok(output.flush()?)
}

/// Changes the priority of units.
pub(super) fn prioritize(args: &PrioritizeArgs) -> Result<(), Box<dyn Error>> {
    let priority = args
        .adjust
        .map_or(Priority::Set(args.priority), Priority::Adjust);
    let mut client = args.server.connect()?.client;
    Ok(client.prioritize_work_units(&args.spec, &args.keys, priority)?)
}
