//! `work_specs`, `work_spec`, `pause`, `resume` and `control`.

use super::names::{Spec, SpecNameParser, as_json, shown};
use super::output::{ForPrograms, Format, Output};
use super::server::Server;
use coordinated_client::cbor::json::to_json;
use coordinated_client::{Control, Name};
use serde_json::{Value as Json, json};
use std::error::Error;
use std::str::FromStr;

/// What `work_specs` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "JSON: a list of names.")]
pub(in crate::cli) struct WorkSpecsArgs {
    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// What `work_spec` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Prints the definition as it was set, as YAML unless --json is given. What neither has is shown in objects \
with one key: byte strings that are not UTF-8 as {\"$bytes\": \"\\\\xff\"}, maps with other keys than \
strings as {\"$map\": [[key, value], ...]}, tagged values as {\"$tag\": [tag, value]}. --meta adds how it \
is scheduled now: status (runnable or paused), weight, interval, max_running, continuous.")]
pub(in crate::cli) struct WorkSpecArgs {
    #[command(flatten)]
    spec: Spec,

    /// Print how the work spec is scheduled now, instead of its definition
    #[arg(long)]
    meta: bool,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// What `pause` and `resume` can be told.
#[derive(clap::Args)]
pub(in crate::cli) struct PauseArgs {
    /// The work spec
    #[arg(value_name = "SPEC", value_parser = SpecNameParser)]
    spec: Name,

    #[command(flatten)]
    server: Server,
}

/// What `control` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
`load` and `flow` keep what is set here, unless their file has a key for it; other programs that set the work spec may \
not.")]
pub(in crate::cli) struct ControlArgs {
    #[command(flatten)]
    spec: Spec,

    /// Its share of the work, among work specs of the same priority
    #[arg(long, value_name = "N", allow_negative_numbers = true, required_unless_present_any = ["interval", "max_running", "continuous"])]
    weight: Option<i64>,

    /// Seconds between two continuous units, or none
    #[arg(long, value_name = "SECONDS")]
    interval: Option<OrNone<f64>>,

    /// How many of its units may be pending at once, or none for no limit
    #[arg(long, value_name = "N")]
    max_running: Option<OrNone<u64>>,

    /// Whether to make continuous units, if the definition allows it
    #[arg(long, value_name = "BOOL")]
    continuous: Option<bool>,

    #[command(flatten)]
    server: Server,
}

/// A value, or the word none.
#[derive(Clone, Copy)]
struct OrNone<T>(Option<T>);

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            text => text
                .parse()
                .map(|value| Self(Some(value)))
                .map_err(|_| "write a number, or none"),
        }
    }
}

/// Prints the names of all work specs.
pub(super) fn work_specs(args: &WorkSpecsArgs) -> Result<(), Box<dyn Error>> {
    let names = args.server.connect()?.client.work_spec_names()?;
    let mut output = Output::new();
    match args.format.for_programs() {
        Some(form) => output.document(form, &names.iter().map(as_json).collect::<Json>())?,
        None => names.iter().try_for_each(|name| output.line(shown(name)))?,
    }
    Ok(output.flush()?)
}

/// Prints the definition of a work spec, or how it is scheduled.
pub(super) fn work_spec(args: &WorkSpecArgs) -> Result<(), Box<dyn Error>> {
    let name = args.spec.read()?;
    let mut client = args.server.connect()?.client;
    let json = if args.meta {
        let meta = client.get_work_spec_meta(&name)?;
        json!({
            "status": if meta.paused { "paused" } else { "runnable" },
            "weight": meta.weight,
            "interval": meta.interval,
            "max_running": meta.max_running,
            "continuous": meta.continuous,
        })
    } else {
        let definition = client.get_work_spec(&name)?;
        to_json(&definition.ok_or_else(|| format!("there is no work spec {name}"))?)
    };
    let form = args.format.for_programs().unwrap_or(ForPrograms::Yaml);
    let mut output = Output::new();
    output.document(form, &json)?;
    Ok(output.flush()?)
}

/// Stops or starts the handing out of a work spec's units.
pub(super) fn pause(args: &PauseArgs, paused: bool) -> Result<(), Box<dyn Error>> {
    let control = Control {
        paused: Some(paused),
        ..Control::default()
    };
    let mut client = args.server.connect()?.client;
    Ok(client.control_work_spec(&args.spec, &control)?)
}

/// Changes how a work spec is scheduled.
pub(super) fn control(args: &ControlArgs) -> Result<(), Box<dyn Error>> {
    let control = Control {
        paused: None,
        weight: args.weight,
        interval: args.interval.map(|interval| interval.0),
        max_running: args.max_running.map(|limit| limit.0),
        continuous: args.continuous,
    };
    let name = args.spec.read()?;
    let mut client = args.server.connect()?.client;
    Ok(client.control_work_spec(&name, &control)?)
}
