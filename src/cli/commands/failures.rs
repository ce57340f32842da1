//! `failed` and `why`: failures by message, and why work is not handed out.

use super::WrongUsage;
use super::listing::Listing;
use super::names::{Spec, SpecAndKeys, as_json, shown, shown_or_dash, units};
use super::output::{Column, Format, Output, Tone, count, in_line, note, plain};
use super::server::{Daemon, Server};
use crate::cli::values::moment;
use coordinated_client::{Error as CallError, FailureGroup, Meta, Name, Reason, Status, Unit};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::error::Error;

/// The arguments of `failed`.
#[derive(clap::Args)]
#[command(after_long_help = "\
JSON: a list of objects with message (the last line of the tracebacks), count, first_key (one of the \
units) and last_failed (seconds since 1970, or null if the server does not report it), the most frequent first.")]
pub(in crate::cli) struct FailedArgs {
    #[command(flatten)]
    spec: Spec,

    /// Only the N most frequent messages
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `why`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Explains why a unit, or any unit of the work spec, is not handed out now, with the most important reason first.

JSON: a list of objects with code, an identifier for programs, and text.")]
pub(in crate::cli) struct WhyArgs {
    #[command(flatten)]
    units: SpecAndKeys,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// Lists failures, grouped by their messages.
pub(super) fn failed(args: &FailedArgs) -> Result<(), Box<dyn Error>> {
    let spec = args.spec.read()?;
    let mut daemon = args.server.connect()?;
    let mut groups = match daemon.has("list_failures") {
        true => daemon.client.list_failures(&spec, args.limit)?,
        false => group_here(&mut daemon, &spec)?,
    };
    if let Some(limit) = args.limit {
        groups.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let mut output = Output::new();
    match args.format.for_programs() {
        Some(form) => {
            let json = groups.iter().map(|group| {
                json!({
                    "message": group.message,
                    "count": group.count,
                    "first_key": as_json(&group.first_key),
                    "last_failed": group.last_failed,
                })
            });
            output.document(form, &json.collect::<Json>())?;
        }
        None => {
            print_groups(&groups, &mut output)?;
            if groups.iter().any(|group| group.last_failed.is_none()) {
                note("this server does not report when units failed");
            }
            note_retrying(&mut daemon, &spec)?;
        }
    }
    Ok(output.flush()?)
}

/// Says how many other units have failed, if they are tried again.
fn note_retrying(daemon: &mut Daemon, spec: &Name) -> Result<(), CallError> {
    if !daemon.has("retries") {
        return Ok(());
    }
    let summary = daemon.client.summary()?;
    let of_spec = summary.into_iter().find(|of| of.work_spec == *spec);
    match of_spec.map_or(0, |of_spec| of_spec.retrying) {
        0 => {}
        retrying => note(format!(
            "{} failed and will be retried; `work_unit` shows their failures",
            units(retrying)
        )),
    }
    Ok(())
}

fn print_groups(groups: &[FailureGroup], output: &mut Output) -> std::io::Result<()> {
    if groups.is_empty() {
        return output.line("No unit has failed.");
    }
    let columns = [
        Column::Number("Units"),
        Column::Text("Last failed"),
        Column::Text("One of them"),
        Column::Text("Message"),
    ];
    let row = |group: &FailureGroup| {
        let message = match group.message.as_str() {
            "" => "(no traceback)".to_owned(),
            message => coordinated_client::cbor::escape::escape(message.as_bytes()),
        };
        vec![
            count(group.count, Tone::Bad),
            plain(group.last_failed.map_or_else(|| "-".to_owned(), moment)),
            plain(shown(&group.first_key)),
            plain(message),
        ]
    };
    output.table(&columns, groups.iter().map(row).collect())
}

/// Groups failures in the client, for a server without list_failures.
fn group_here(daemon: &mut Daemon, spec: &Name) -> Result<Vec<FailureGroup>, CallError> {
    let listing = Listing {
        status: Some(Status::Failed),
        ..Listing::default()
    };
    let mut groups: HashMap<String, FailureGroup> = HashMap::new();
    let seen = listing.each_page(daemon, spec, |_, page| {
        for unit in page {
            let message = last_line(&unit);
            let group = groups
                .entry(message.clone())
                .or_insert_with(|| FailureGroup {
                    message,
                    count: 0,
                    first_key: unit.key,
                    last_failed: None,
                });
            group.count += 1;
        }
        Ok::<(), CallError>(())
    })?;
    seen.note_if_incomplete();
    let mut groups: Vec<FailureGroup> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        b.count
            .cmp(&a.count)
            .then_with(|| a.message.cmp(&b.message))
    });
    Ok(groups)
}

/// The last line of a unit's traceback that is not empty.
fn last_line(unit: &Unit) -> String {
    let traceback = unit
        .data
        .as_ref()
        .and_then(|data| data.get_some("traceback"));
    let text = traceback.map(|traceback| match traceback.as_text_lossy() {
        Some(text) => text.into_owned(),
        None => in_line(traceback),
    });
    let text = text.unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or_default().trim().to_owned()
}

/// Prints why work is not handed out.
pub(super) fn why(args: &WhyArgs) -> Result<(), Box<dyn Error>> {
    let (spec, keys) = args.units.read()?;
    let key = match keys.as_slice() {
        [] => None,
        [key] => Some(key),
        _ => return Err(WrongUsage("name at most one unit").into()),
    };
    let mut daemon = args.server.connect()?;
    let reasons = if daemon.has("explain_work") {
        daemon.client.explain_work(&spec, key)?
    } else {
        note("this server can't explain; these are the reasons that a client can find out");
        explain_here(&mut daemon, &spec, key)?
    };
    let mut output = Output::new();
    match args.format.for_programs() {
        Some(form) => {
            let json = reasons
                .iter()
                .map(|reason| json!({"code": reason.code, "text": reason.text}));
            output.document(form, &json.collect::<Json>())?;
        }
        None => {
            for reason in &reasons {
                output.line(&reason.text)?;
            }
        }
    }
    Ok(output.flush()?)
}

/// The reasons that a client can find out, for a server without explain_work.
fn explain_here(
    daemon: &mut Daemon,
    spec: &Name,
    key: Option<&Name>,
) -> Result<Vec<Reason>, Box<dyn Error>> {
    let mut reasons = Vec::new();
    let mut reason = |code: &str, text: String| {
        reasons.push(Reason {
            code: code.to_owned(),
            text,
        });
    };
    if let Some(key) = key {
        let known = daemon
            .client
            .get_work_unit_status(spec, std::slice::from_ref(key))?;
        let Some(unit) = known.into_iter().next().flatten() else {
            return Err(format!("{spec} has no work unit {key}").into());
        };
        let worker = shown_or_dash(unit.worker.as_ref());
        let until = unit.expiration.map(moment).unwrap_or_default();
        match unit.status {
            Status::Pending => reason("running", format!("worker {worker} holds it until {until}")),
            Status::Finished => reason("finished", format!("finished by {worker} at {until}")),
            Status::Failed => reason("failed", format!("failed by {worker} at {until}")),
            _ => {}
        }
        if unit.status != Status::Available {
            return Ok(reasons);
        }
    }
    let meta = daemon.client.get_work_spec_meta(spec)?;
    let counts = daemon.client.count_work_units(spec)?;
    if meta.paused {
        reason(
            "paused",
            "the work spec is paused; `resume` continues it".to_owned(),
        );
    }
    if let Some(limit) = limit_reached(&meta, counts.pending) {
        let pending = units(counts.pending);
        reason(
            "max_running",
            format!("{pending} are pending, and max_running is {limit}"),
        );
    }
    if counts.available == 0 {
        reason(
            "no_work",
            "no unit of the work spec is available".to_owned(),
        );
    }
    if daemon.client.worker_stats()?.workers == 0 {
        reason("no_worker", "no worker is alive".to_owned());
    }
    if reasons.is_empty() {
        reasons.push(Reason {
            code: "unknown".to_owned(),
            text:
                "ready, as far as a client can tell: the next worker that asks for such work should get it"
                    .to_owned(),
        });
    }
    Ok(reasons)
}

fn limit_reached(meta: &Meta, pending: u64) -> Option<u64> {
    meta.max_running.filter(|limit| pending >= *limit)
}
