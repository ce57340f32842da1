//! `audit`: who has changed what.

use super::names::{as_json, shown};
use super::output::{Column, Format, Output, plain};
use super::server::Server;
use crate::cli::values::moment;
use coordinated_client::AuditEntry;
use serde_json::{Value as Json, json};
use std::error::Error;

/// How many entries are asked for at a time.
const PAGE: u64 = 1_000;

/// The arguments of `audit`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Lists what was changed by calls that control the queue, the newest first: work specs that were set, paused, controlled or \
deleted, units that were deleted, cancelled, archived, prioritized or made available again after they had failed, locks that \
were broken, namespaces that were removed, and tokens. Work itself is not in it. The daemon keeps entries for `serve --audit-days`.

JSON: a list of objects with id, namespace, time (seconds since 1970), token (its name, or null), interface (cborrpc, http, or \
file for `token` with --db), address (or null over a Unix socket), action, work_spec (or null), detail and count.")]
pub(in crate::cli) struct AuditArgs {
    /// The number of entries to list
    #[arg(long, value_name = "N", default_value = "100")]
    limit: u64,

    #[command(flatten)]
    format: Format,

    #[command(flatten)]
    server: Server,
}

/// Lists the audit.
pub(super) fn audit(args: &AuditArgs) -> Result<(), Box<dyn Error>> {
    let mut daemon = args.server.connect()?;
    if !daemon.has("audit") {
        return Err(format!("{} has no audit", daemon.description()).into());
    }
    let mut entries: Vec<AuditEntry> = Vec::new();
    loop {
        let left = args.limit - entries.len() as u64;
        let before = entries.last().map(|entry| entry.id);
        let page = daemon.client.list_audit(before, left.min(PAGE))?;
        let is_last = page.is_empty();
        entries.extend(page);
        if is_last || entries.len() as u64 >= args.limit {
            break;
        }
    }
    let mut output = Output::new();
    if let Some(form) = args.format.for_programs() {
        let list = entries.iter().map(|entry| {
            json!({
                "id": entry.id,
                "namespace": entry.namespace,
                "time": entry.time,
                "token": entry.token,
                "interface": entry.interface,
                "address": entry.address,
                "action": entry.action,
                "work_spec": entry.work_spec.as_ref().map(as_json),
                "detail": entry.detail,
                "count": entry.count,
            })
        });
        output.document(form, &list.collect::<Json>())?;
        return Ok(output.flush()?);
    }
    let rows = entries.iter().map(|entry| {
        let address = match (&entry.address, &*entry.interface) {
            (Some(address), _) => address,
            (None, "file") => "the file",
            (None, _) => "a Unix socket",
        };
        let who = match &entry.token {
            Some(token) => format!("{token}, {address}"),
            None => address.to_owned(),
        };
        vec![
            plain(moment(entry.time)),
            plain(who),
            plain(format!("{:?}", entry.namespace)),
            plain(&entry.action),
            plain(entry.work_spec.as_ref().map(shown).unwrap_or_default()),
            plain(entry.count.to_string()),
            plain(&entry.detail),
        ]
    });
    let columns = [
        Column::Text("Time"),
        Column::Text("Who"),
        Column::Text("Namespace"),
        Column::Text("Action"),
        Column::Text("Work spec"),
        Column::Number("Number"),
        Column::Text("Detail"),
    ];
    output.table(&columns, rows.collect())?;
    Ok(output.flush()?)
}
