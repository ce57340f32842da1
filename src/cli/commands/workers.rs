//! `workers` and `worker_stats`.

use super::names::{as_json, shown};
use super::output::{Column, Format, Output, in_line, plain};
use super::server::Server;
use crate::cli::values::span;
use coordinated_client::cbor::Value;
use coordinated_client::cbor::json::to_json;
use serde_json::{Value as Json, json};
use std::error::Error;

/// What `workers` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Lists the workers that have given a sign of life in time.

JSON: a list of objects with worker and mode, and with --details its environment, as it gave it, with \
age_seconds since its last sign of life.")]
pub(in crate::cli) struct WorkersArgs {
    /// Print what the workers say of themselves, too
    #[arg(long)]
    details: bool,

    /// Without effect: servers know no dead workers
    #[arg(long, hide = true)]
    all: bool,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// What `worker_stats` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
JSON: an object with num_workers, num_children (those that have a parent) and num_expirable.")]
pub(in crate::cli) struct WorkerStatsArgs {
    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// Lists workers.
pub(super) fn workers(args: &WorkersArgs) -> Result<(), Box<dyn Error>> {
    let mut client = args.server.connect()?.client;
    let mut workers = Vec::new();
    for (name, mode) in client.list_worker_modes()? {
        let environment = match args.details {
            true => client.get_worker_info(&name)?,
            false => None,
        };
        workers.push((name, mode, environment));
    }
    let mut output = Output::new();
    if let Some(form) = args.format.for_programs() {
        let json = workers.iter().map(|(name, mode, environment)| {
            let mut object = json!({"worker": as_json(name), "mode": mode.as_ref().map(as_json)});
            if args.details {
                object["environment"] = environment.as_ref().map(to_json).into();
            }
            object
        });
        output.document(form, &json.collect::<Json>())?;
    } else if args.details {
        for (name, mode, environment) in &workers {
            let mode = mode.as_ref().map_or_else(|| "None".to_owned(), shown);
            output.line(format!("{} ({mode})", shown(name)))?;
            print_environment(environment.as_ref(), &mut output)?;
        }
    } else {
        let row = |(name, mode, _): &(_, Option<_>, _)| {
            vec![
                plain(shown(name)),
                plain(mode.as_ref().map_or_else(|| "-".to_owned(), shown)),
            ]
        };
        let columns = [Column::Text("Worker"), Column::Text("Mode")];
        output.table(&columns, workers.iter().map(row).collect())?;
    }
    Ok(output.flush()?)
}

fn print_environment(environment: Option<&Value>, output: &mut Output) -> std::io::Result<()> {
    for (key, value) in environment.and_then(Value::as_map).into_iter().flatten() {
        let value = match (key.as_string_bytes(), value.as_f64()) {
            (Some(b"age_seconds"), Some(age)) => span(age),
            _ => in_line(value),
        };
        output.line(format!("  {}: {value}", in_line(key)))?;
    }
    Ok(())
}

/// Counts workers.
pub(super) fn worker_stats(args: &WorkerStatsArgs) -> Result<(), Box<dyn Error>> {
    let stats = args.server.connect()?.client.worker_stats()?;
    let mut output = Output::new();
    match args.format.for_programs() {
        Some(form) => {
            let json = json!({
                "num_workers": stats.workers,
                "num_children": stats.children,
                "num_expirable": stats.expirable,
            });
            output.document(form, &json)?;
        }
        None => {
            let row = |what: &str, number: u64| vec![plain(what), plain(number.to_string())];
            let rows = vec![
                row("alive", stats.workers),
                row("with a parent", stats.children),
            ];
            output.table(&[Column::Text("Workers"), Column::Number("Number")], rows)?;
        }
    }
    Ok(output.flush()?)
}
