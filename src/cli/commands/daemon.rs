//! `config`, `locks` and `rpc`.

use super::names::{NameParser, as_json, shown};
use super::output::{Column, ForPrograms, Format, Output, in_line, plain, yaml};
use super::server::{Daemon, Server};
use crate::cli::values::{now, parse_yaml, span, text_of};
use coordinated_client::cbor::json::to_json;
use coordinated_client::cbor::{Value, json};
use coordinated_client::{Error as CallError, HeldLock, ListLocks, LockPath, Name, Request};
use serde_json::{Value as Json, json};
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `config` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Prints the configuration that the daemon was started with (serve --config), as YAML unless --json is given.")]
pub(in crate::cli) struct ConfigArgs {
    /// Write it to a file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// What `locks` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Lists locks by path, in which labels are set apart by slashes. The original servers can't tell which locks \
there are.

JSON: a list of objects with path (a list of labels), owner and expires (seconds since 1970).")]
pub(in crate::cli) struct LocksArgs {
    /// Only locks at and below this path, label by label
    #[arg(value_name = "LABEL", value_parser = NameParser)]
    under: Vec<Name>,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// What `rpc` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Calls any method and prints its result as it is, as JSON unless --yaml is given. Parameters are JSON or \
YAML, one argument each: a plain word is a text. What JSON lacks is written and shown as `work_spec \
--help` says.

The exit code is 1 if the method fails. A result that says no within itself, such as [false, \"no such work \
spec\"], is a result.")]
pub(in crate::cli) struct RpcArgs {
    /// The method's name
    #[arg(value_name = "METHOD")]
    method: String,

    /// Its parameters, in order
    #[arg(value_name = "PARAM", allow_negative_numbers = true)]
    params: Vec<OsString>,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// Prints the daemon's configuration.
pub(super) fn config(args: &ConfigArgs) -> Result<(), Box<dyn Error>> {
    let config = to_json(&args.server.connect()?.client.get_config()?);
    let form = args.format.for_programs().unwrap_or(ForPrograms::Yaml);
    if let Some(path) = &args.output {
        let text = match form {
            ForPrograms::Json => format!("{config:#}\n"),
            ForPrograms::Yaml => yaml(&config)?,
        };
        return std::fs::write(path, text)
            .map_err(|error| format!("can't write {}: {error}", path.display()).into());
    }
    let mut output = Output::new();
    output.document(form, &config)?;
    Ok(output.flush()?)
}

/// Lists locks.
pub(super) fn locks(args: &LocksArgs) -> Result<(), Box<dyn Error>> {
    let mut daemon = args.server.connect()?;
    if !daemon.has("list_locks") {
        return Err(
            "this server can't tell which locks there are; `rpc readlock` asks for single ones"
                .into(),
        );
    }
    let locks = all_locks(&mut daemon, args.under.iter().map(Value::from).collect())?;
    let mut output = Output::new();
    match args.format.for_programs() {
        Some(form) => {
            let json = locks.iter().map(|lock| {
                json!({
                    "path": lock.path.iter().map(to_json).collect::<Json>(),
                    "owner": as_json(&lock.owner),
                    "expires": lock.expires,
                })
            });
            output.document(form, &json.collect::<Json>())?;
        }
        None => {
            let now = now();
            let row = |lock: &HeldLock| {
                let labels: Vec<String> = lock.path.iter().map(in_line).collect();
                vec![
                    plain(format!("/{}", labels.join("/"))),
                    plain(shown(&lock.owner)),
                    plain(span(lock.expires - now)),
                ]
            };
            let columns = [
                Column::Text("Lock"),
                Column::Text("Owner"),
                Column::Number("Ends in"),
            ];
            output.table(&columns, locks.iter().map(row).collect())?;
        }
    }
    Ok(output.flush()?)
}

fn all_locks(daemon: &mut Daemon, under: LockPath) -> Result<Vec<HeldLock>, CallError> {
    const PAGE: u64 = 1_000;
    let mut locks: Vec<HeldLock> = Vec::new();
    let mut which = ListLocks {
        under,
        start: None,
        limit: Some(PAGE),
    };
    loop {
        let page = daemon.client.list_locks(&which)?;
        let was_full = page.len() as u64 == PAGE;
        // A page begins with what the last one ended with, unless that lock is gone.
        let last = locks.last().map(|lock| lock.path.clone());
        locks.extend(
            page.into_iter()
                .filter(|lock| Some(&lock.path) != last.as_ref()),
        );
        if !was_full {
            return Ok(locks);
        }
        which.start = locks.last().map(|lock| lock.path.clone());
    }
}

/// Calls any method.
pub(super) fn rpc(args: &RpcArgs) -> Result<(), Box<dyn Error>> {
    let mut params = Vec::new();
    for (index, param) in args.params.iter().enumerate() {
        let value = text_of(param).and_then(parse_yaml);
        params.push(value.map_err(|error| format!("parameter {}: {error}", index + 1))?);
    }
    let request = Request::new(args.method.as_str(), params);
    let result = args.server.connect()?.client.connection().call(&request)?;
    let form = args.format.for_programs().unwrap_or(ForPrograms::Json);
    let mut output = Output::new();
    output.document(form, &json::to_json(&result))?;
    Ok(output.flush()?)
}
