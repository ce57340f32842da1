//! `cancel`: lets units fail, and their workers end them.

use super::WrongUsage;
use super::change::print;
use super::confirm::{Declined, WithoutTerminal, confirm};
use super::listing::Listing;
use super::names::{SpecAndKeys, examples, shown, units};
use super::pause::this_user;
use super::server::{Daemon, Server};
use crate::cli::values::{moment, parse_duration, printable};
use clap::builder::NonEmptyStringValueParser;
use coordinated_client::{Cancel, Cancellation, Cancelled, Counts, Name, Status};
use serde_json::{Value as Json, json};
use std::error::Error;
use std::time::Duration;

/// The arguments of `cancel`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Units that wait fail at once, with the message `cancelled: TEXT`. The worker of a running unit is told when it next \
asks the daemon or reports; `coordinated work` learns of it within about 20 seconds, and ends the program. If a worker \
finishes the unit before the grace ends, the unit is finished; otherwise it fails, and later reports are refused. \
Cancelled units are not tried again, whatever `retries` of the work spec says. Finished and failed units stay as they \
are.

`coordinated retry` makes cancelled units available again, and so does adding them again with --reset.

With --all, --status or --matching it asks for confirmation on a terminal, with the number of units.")]
pub(in crate::cli) struct CancelArgs {
    #[command(flatten)]
    units: SpecAndKeys,

    /// All units that wait or run
    #[arg(short, long, conflicts_with_all = ["matching", "status"])]
    all: bool,

    /// Only units with this text in their names
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    matching: Option<String>,

    /// Only units with this status: available (delayed units, too) or pending; repeatable
    #[arg(short, long, value_name = "STATUS", value_parser = parse_status)]
    status: Vec<Status>,

    /// Why, for other people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// How long workers may take to end the units that they run, up to a day
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    grace: Duration,

    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    server: Server,
}

/// Parses the status of units that can be cancelled.
fn parse_status(text: &str) -> Result<Status, String> {
    let status = text.parse::<Status>().ok();
    status
        .filter(|status| matches!(status, Status::Available | Status::Pending))
        .ok_or_else(|| "expected available or pending".to_owned())
}

/// Cancels units.
pub(super) fn cancel(args: &CancelArgs) -> Result<(), Box<dyn Error>> {
    let (spec, keys) = args.units.read()?;
    let is_selected = args.all || args.matching.is_some() || !args.status.is_empty();
    if is_selected != keys.is_empty() {
        let problem =
            "name the units to cancel, or select them with --status, --matching or --all, not both";
        return Err(WrongUsage(problem).into());
    }
    let mut daemon = args.server.connect()?;
    if !daemon.has("cancel") {
        return Err("this server can't cancel units".into());
    }
    let how = Cancel {
        reason: args.reason.clone(),
        by: Some(this_user()),
        grace: Some(args.grace),
    };
    if !keys.is_empty() {
        return cancel_named(&mut daemon, &spec, &keys, &how);
    }
    let statuses = match args.status.as_slice() {
        [] => vec![Status::Available, Status::Pending],
        some => some.to_vec(),
    };
    let (count, what) = match &args.matching {
        None => {
            let counts = daemon.client.count_work_units(&spec)?;
            let count = statuses.iter().map(|status| of_status(&counts, *status));
            (count.sum(), shown(&spec))
        }
        Some(text) => {
            let (mut count, mut some) = (0, Vec::new());
            each_matching(&mut daemon, &spec, &statuses, text, |_, keys| {
                count += keys.len() as u64;
                some.extend(keys.into_iter().take(4));
                some.truncate(4);
                Ok(())
            })?;
            (count, format!("{} ({})", shown(&spec), examples(&some)))
        }
    };
    if count == 0 {
        return print("Nothing to do.");
    }
    let act = format!("cancel {} of {what}", units(count));
    if !confirm(&act, args.yes, WithoutTerminal::Proceed)? {
        return Err(Declined.into());
    }
    let cancelled = match &args.matching {
        None => daemon
            .client
            .cancel_work_units(&spec, None, &statuses, &how)?,
        Some(text) => {
            let mut all = Cancelled::default();
            each_matching(&mut daemon, &spec, &statuses, text, |daemon, keys| {
                let page = daemon
                    .client
                    .cancel_work_units(&spec, Some(&keys), &statuses, &how)?;
                all.failed += page.failed;
                all.running += page.running;
                Ok(())
            })?;
            all
        }
    };
    print(outcome_in_words(cancelled, &how))
}

fn cancel_named(
    daemon: &mut Daemon,
    spec: &Name,
    keys: &[Name],
    how: &Cancel,
) -> Result<(), Box<dyn Error>> {
    let cancelled = daemon
        .client
        .cancel_work_units(spec, Some(keys), &[], how)?;
    let count = cancelled.failed + cancelled.running;
    if count > 0 {
        print(outcome_in_words(cancelled, how))?;
    }
    match (keys.len() as u64).saturating_sub(count) {
        0 => Ok(()),
        missed => Err(format!(
            "{} could not be cancelled: unknown, finished, or failed already",
            units(missed)
        )
        .into()),
    }
}

/// Calls `take` with the names of units with a text in them, page by page. A unit may get another status meanwhile.
fn each_matching(
    daemon: &mut Daemon,
    spec: &Name,
    statuses: &[Status],
    text: &str,
    mut take: impl FnMut(&mut Daemon, Vec<Name>) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let has_text = |key: &Name| String::from_utf8_lossy(key.bytes()).contains(text);
    for status in statuses {
        let listing = Listing {
            status: Some(*status),
            ..Listing::default()
        };
        let seen = listing.each_page(daemon, spec, |daemon, page| {
            let keys: Vec<Name> = page
                .into_iter()
                .map(|unit| unit.key)
                .filter(has_text)
                .collect();
            match keys.is_empty() {
                true => Ok(()),
                false => take(daemon, keys),
            }
        })?;
        seen.note_if_incomplete();
    }
    Ok(())
}

fn of_status(counts: &Counts, status: Status) -> u64 {
    match status {
        Status::Available => counts.available,
        Status::Pending => counts.pending,
        _ => 0,
    }
}

fn outcome_in_words(cancelled: Cancelled, how: &Cancel) -> String {
    let count = units(cancelled.failed + cancelled.running);
    let grace = humantime::format_duration(how.grace.unwrap_or_default());
    match (cancelled.failed, cancelled.running) {
        (_, 0) => format!("Cancelled {count}."),
        (0, 1) => format!("Cancelled {count}, which is running: its worker has {grace}."),
        (0, _) => format!("Cancelled {count}, all of them running: their workers have {grace}."),
        (_, 1) => format!("Cancelled {count}, 1 of them running: its worker has {grace}."),
        (_, running) => {
            format!("Cancelled {count}, {running} of them running: their workers have {grace}.")
        }
    }
}

/// Such as `2026-11-30 09:00:00 by USER@HOST: REASON`, on one line.
pub(super) fn in_words(cancellation: &Cancellation) -> String {
    let mut text = match cancellation.at {
        Some(at) => moment(at),
        None => "at an unknown time".to_owned(),
    };
    if let Some(by) = &cancellation.by {
        text = format!("{text} by {by}");
    }
    if let Some(reason) = &cancellation.reason {
        text = format!("{text}: {reason}");
    }
    printable(&text)
}

/// For programs: an object with reason, by and at, or null.
pub(super) fn to_json(cancellation: Option<&Cancellation>) -> Json {
    let object = |cancellation: &Cancellation| {
        let Cancellation { reason, by, at } = cancellation;
        json!({"reason": reason, "by": by, "at": at})
    };
    cancellation.map_or(Json::Null, object)
}
