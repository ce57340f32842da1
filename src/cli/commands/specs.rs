//! `work_specs`, `work_spec` and `control`.

use super::names::{Spec, as_json, shown};
use super::output::{ForPrograms, Format, Output};
use super::pause;
use super::schedule;
use super::server::Server;
use coordinated_client::cbor::json::to_json;
use coordinated_client::{Control, SpecLimits};
use serde_json::{Value as Json, json};
use std::error::Error;
use std::str::FromStr;

/// The arguments of `work_specs`.
#[derive(clap::Args)]
#[command(after_long_help = "JSON: a list of names.")]
pub(in crate::cli) struct WorkSpecsArgs {
    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `work_spec`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Prints the definition as it was set, as YAML or, with --json, as JSON. Values that these formats lack are shown as \
objects with one key: a byte string that is not UTF-8 as {\"$bytes\": \"\\\\xff\"}, a map with keys that are not \
strings as {\"$map\": [[key, value], ...]}, a tagged value as {\"$tag\": [tag, value]}. Without --yaml and --json the next three runs of a schedule follow, as \
comments. With --meta it prints the \
current scheduling instead: status (runnable or paused), weight, interval, max_running, continuous; and, if the daemon \
reports them, pause: an object with reason, by and since (in seconds since 1970), or null; retries and retrying, the \
number of units that will be retried; max_rate and max_rate_burst, or null; rate_until, the time from which on the rate \
allows the next unit, or null if it allows one now; halt_after: an object with failures, rate and min, or null; \
failed_in_a_row, the number of attempts that have failed since one was last finished, if that is counted; and schedule: an \
object with timezone, next (the next three runs), last (the last run that made a unit) and skipped (the last one that made \
none), or null.")]
pub(in crate::cli) struct WorkSpecArgs {
    #[command(flatten)]
    spec: Spec,

    /// Print the current scheduling instead of the definition
    #[arg(long)]
    meta: bool,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `control`.
#[derive(clap::Args)]
#[command(after_long_help = "\
`load` and `flow` keep these settings, unless their file has a key for them. Other programs that set the work spec may \
reset them.")]
pub(in crate::cli) struct ControlArgs {
    #[command(flatten)]
    spec: Spec,

    /// Share of the work among work specs of the same priority
    #[arg(long, value_name = "N", allow_negative_numbers = true, required_unless_present_any = ["interval", "max_running", "continuous"])]
    weight: Option<i64>,

    /// Seconds between two continuous units, or none
    #[arg(long, value_name = "SECONDS")]
    interval: Option<OrNone<f64>>,

    /// Maximum number of pending units, or none for no limit
    #[arg(long, value_name = "N")]
    max_running: Option<OrNone<u64>>,

    /// Whether to create continuous units, if the definition allows it
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
                .map_err(|_| "expected a number or none"),
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

/// Prints the definition of a work spec, or its scheduling.
pub(super) fn work_spec(args: &WorkSpecArgs) -> Result<(), Box<dyn Error>> {
    let name = args.spec.read()?;
    let mut daemon = args.server.connect()?;
    let json = if args.meta {
        let meta = daemon.client.get_work_spec_meta(&name)?;
        let mut object = json!({
            "status": if meta.paused { "paused" } else { "runnable" },
            "weight": meta.weight,
            "interval": meta.interval,
            "max_running": meta.max_running,
            "continuous": meta.continuous,
        });
        if let Some(pauses) = daemon.pauses_of(std::slice::from_ref(&name))? {
            object["pause"] = pause::to_json(pauses.first().and_then(Option::as_ref));
        }
        if daemon.has("max_rate") {
            add_limits(&mut object, &daemon.client.get_work_spec_limits(&name)?);
        }
        if let Some(schedules) = daemon.schedules_of(std::slice::from_ref(&name))? {
            object["schedule"] = schedule::to_json(schedules.first().and_then(Option::as_ref));
        }
        object
    } else {
        let definition = daemon.client.get_work_spec(&name)?;
        to_json(&definition.ok_or_else(|| format!("there is no work spec {name}"))?)
    };
    let form = args.format.for_programs().unwrap_or(ForPrograms::Yaml);
    let mut output = Output::new();
    output.document(form, &json)?;
    if !args.meta
        && args.format.for_programs().is_none()
        && let Some(schedule) = daemon.schedule_of(&name)?
    {
        for run in schedule::next_runs(&schedule) {
            output.line(format!("# next run: {run}"))?;
        }
    }
    Ok(output.flush()?)
}

fn add_limits(object: &mut Json, limits: &SpecLimits) {
    object["retries"] = json!(limits.retries);
    object["retrying"] = json!(limits.retrying);
    object["max_rate"] = json!(limits.max_rate);
    object["max_rate_burst"] = json!(limits.max_rate_burst);
    object["rate_until"] = json!(limits.rate_until);
    object["halt_after"] = limits.halt_after.map_or(
        Json::Null,
        |halt| json!({"failures": halt.failures, "rate": halt.rate, "min": halt.min}),
    );
    object["failed_in_a_row"] = json!(limits.failed_in_a_row);
}

/// Changes how a work spec is scheduled.
pub(super) fn control(args: &ControlArgs) -> Result<(), Box<dyn Error>> {
    let control = Control {
        weight: args.weight,
        interval: args.interval.map(|interval| interval.0),
        max_running: args.max_running.map(|limit| limit.0),
        continuous: args.continuous,
        ..Control::default()
    };
    let name = args.spec.read()?;
    let mut client = args.server.connect()?.client;
    Ok(client.control_work_spec(&name, &control)?)
}
