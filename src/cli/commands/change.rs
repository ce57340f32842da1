//! `retry`, `clear` and `delete`: change many units, page by page, after asking for confirmation.

use super::WrongUsage;
use super::confirm::{Declined, WithoutTerminal, confirm};
use super::listing::{Listing, PAGE_UNITS, Seen};
use super::names::{
    SpecAndKeys, SpecNameParser, counted, examples, parse_status, shown, units, units_of,
};
use super::output::{Output, note};
use super::server::{Daemon, Server};
use crate::cli::progress::bar_of;
use clap::builder::NonEmptyStringValueParser;
use coordinated_client::{
    Counts, Deletion, Error as CallError, Name, Status, Unit, UnitQuery, Update,
};
use indicatif::ProgressBar;
use std::error::Error;

/// The arguments of `retry`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Makes units available again: the named ones, whatever their status, or the failed ones selected by --all or \
--matching. With --all or --matching it asks for confirmation on a terminal, with the number of units.")]
pub(in crate::cli) struct RetryArgs {
    #[command(flatten)]
    units: SpecAndKeys,

    /// All failed units
    #[arg(short, long, conflicts_with = "matching")]
    all: bool,

    /// All failed units with this text in their traceback
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    matching: Option<String>,

    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `clear`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Removes units from a work spec, with their history: the named ones, those with a status, or all of them. With names \
and a status it removes the units that match both. On a terminal it asks for confirmation, with the number of units; \
without a terminal it requires --yes. The work spec itself is kept.")]
pub(in crate::cli) struct ClearArgs {
    #[command(flatten)]
    units: SpecAndKeys,

    /// Only units with this status: available, pending, finished or failed
    #[arg(short, long, value_name = "STATUS", value_parser = parse_status)]
    status: Option<Status>,

    /// All units of the work spec
    #[arg(short, long, conflicts_with = "status")]
    all: bool,

    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    server: Server,
}

/// The arguments of `delete`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Deletes work specs with all their units and history: the named ones, or with --all every work spec. On a terminal it \
asks for confirmation, with the number of units; without a terminal it requires --yes.")]
pub(in crate::cli) struct DeleteArgs {
    /// The work specs
    #[arg(value_name = "SPEC", value_parser = SpecNameParser)]
    specs: Vec<Name>,

    /// Every work spec of the daemon
    #[arg(short, long)]
    all: bool,

    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    server: Server,
}

/// Makes units available again.
pub(super) fn retry(args: &RetryArgs) -> Result<(), Box<dyn Error>> {
    let (spec, keys) = args.units.read()?;
    let text = args.matching.as_deref();
    let is_named = !args.all && text.is_none();
    if is_named == keys.is_empty() {
        let problem =
            "name the units to retry, or select failed ones with --all or --matching, not both";
        return Err(WrongUsage(problem).into());
    }
    let mut daemon = args.server.connect()?;
    if is_named {
        return retry_named(&mut daemon, &spec, keys);
    }
    let matches = |unit: &Unit| text.is_none_or(|text| has_in_traceback(unit, text));
    let failed = daemon.client.count_work_units(&spec)?.failed;
    // The number of all failed units is known; finding those that match means listing them.
    let (count, some) = match text {
        None => (failed, some_failed(&mut daemon, &spec)?),
        Some(_) => count_failed(&mut daemon, &spec, matches)?,
    };
    if count == 0 {
        return print("Nothing to do.");
    }
    let act = format!(
        "retry {} of {} ({})",
        units_of(count, Some(Status::Failed)),
        shown(&spec),
        examples(&some)
    );
    if !confirm(&act, args.yes, WithoutTerminal::Proceed)? {
        return Err(Declined.into());
    }
    let progress = progress("retrying", count);
    let retried = retry_failed(
        &mut daemon,
        &spec,
        matches,
        |retried| {
            progress.set_position(retried);
        },
        note,
    )?;
    progress.finish_and_clear();
    print(format!("Retried {}.", units(retried)))
}

/// Makes the failed units that match available, and returns their number. `progress` is called with the number so
/// far, `refused` with the reason for each unit that could not be retried.
///
/// # Errors
/// If a call fails; some units may have been retried by then.
pub(super) fn retry_failed(
    daemon: &mut Daemon,
    spec: &Name,
    matches: impl Fn(&Unit) -> bool,
    progress: impl Fn(u64),
    refused: impl Fn(String),
) -> Result<u64, Box<dyn Error>> {
    let mut retried = 0;
    loop {
        let before = retried;
        let seen = failed_units().each_page(daemon, spec, |daemon, page| {
            let chosen = page.into_iter().filter(&matches).map(|unit| unit.key);
            retried += make_available(daemon, spec, chosen.collect(), &refused)?;
            progress(retried);
            Ok::<(), Box<dyn Error>>(())
        })?;
        // A server that limits its lists can now list others.
        if seen == Seen::All || retried == before {
            return Ok(retried);
        }
    }
}

fn failed_units() -> Listing {
    Listing {
        status: Some(Status::Failed),
        ..Listing::default()
    }
}

fn has_in_traceback(unit: &Unit, text: &str) -> bool {
    let data = unit.data.as_ref();
    let traceback = data.and_then(|data| data.get("traceback")?.as_text_lossy());
    traceback.is_some_and(|traceback| traceback.contains(text))
}

fn some_failed(daemon: &mut Daemon, spec: &Name) -> Result<Vec<Name>, CallError> {
    let query = UnitQuery {
        statuses: vec![Status::Failed],
        limit: Some(4),
        ..UnitQuery::default()
    };
    let some = daemon.client.get_work_units(spec, &query)?;
    Ok(some.into_iter().map(|unit| unit.key).collect())
}

/// The number of failed units that match, and some of their names.
fn count_failed(
    daemon: &mut Daemon,
    spec: &Name,
    matches: impl Fn(&Unit) -> bool,
) -> Result<(u64, Vec<Name>), CallError> {
    let (mut count, mut some) = (0, Vec::new());
    let seen = failed_units().each_page(daemon, spec, |_, page| {
        for unit in page.into_iter().filter(&matches) {
            count += 1;
            if some.len() < 4 {
                some.push(unit.key);
            }
        }
        Ok::<(), CallError>(())
    })?;
    seen.note_if_incomplete();
    Ok((count, some))
}

fn retry_named(daemon: &mut Daemon, spec: &Name, keys: Vec<Name>) -> Result<(), Box<dyn Error>> {
    let asked = keys.len() as u64;
    let retried = make_available(daemon, spec, keys, &note)?;
    if retried > 0 {
        print(format!("Retried {}.", units(retried)))?;
    }
    match asked - retried {
        0 => Ok(()),
        missed => Err(format!("{} could not be retried", units(missed)).into()),
    }
}

/// Makes units available and returns the number of those that could be. `refused` gets the reasons of the others.
fn make_available(
    daemon: &mut Daemon,
    spec: &Name,
    keys: Vec<Name>,
    refused: &impl Fn(String),
) -> Result<u64, Box<dyn Error>> {
    let mut done = 0;
    for keys in keys.chunks(PAGE_UNITS as usize) {
        let outcomes = if daemon.has("update_work_units") {
            let updates = keys.iter().map(|key| (key.clone(), Update::available()));
            let updates: Vec<_> = updates.collect();
            daemon.client.update_work_units(spec, &updates)?
        } else {
            let mut outcomes = Vec::new();
            for key in keys {
                outcomes.push(
                    match daemon
                        .client
                        .update_work_unit(spec, key, &Update::available())
                    {
                        Ok(()) => Ok(()),
                        Err(CallError::Refused { message, .. }) => Err(message),
                        Err(error) => return Err(error.into()),
                    },
                );
            }
            outcomes
        };
        for (key, outcome) in keys.iter().zip(outcomes) {
            match outcome {
                Ok(()) => done += 1,
                Err(message) => refused(format!("{}: {message}", shown(key))),
            }
        }
    }
    Ok(done)
}

/// Removes units.
pub(super) fn clear(args: &ClearArgs) -> Result<(), Box<dyn Error>> {
    let (spec, keys) = args.units.read()?;
    let is_chosen = !keys.is_empty() || args.status.is_some();
    if args.all == is_chosen {
        let problem = "name the units to remove, or select them with --status or --all, not both";
        return Err(WrongUsage(problem).into());
    }
    let mut daemon = args.server.connect()?;
    let count = if keys.is_empty() {
        of_status(daemon.client.count_work_units(&spec)?, args.status)
    } else {
        count_named(&mut daemon, &spec, &keys, args.status)?
    };
    let removed = if count == 0 {
        0
    } else {
        let what = units_of(count, args.status);
        let act = format!("remove {what} of {}", shown(&spec));
        if !confirm(&act, args.yes, WithoutTerminal::Refuse)? {
            return Err(Declined.into());
        }
        let progress = progress("removing", count);
        let removed = match keys.as_slice() {
            [] => remove_all(&mut daemon, &spec, args.status, &progress)?,
            keys => remove_named(&mut daemon, &spec, keys, args.status, &progress)?,
        };
        progress.finish_and_clear();
        removed
    };
    print(format!("Removed {}.", units(removed)))
}

fn of_status(counts: Counts, status: Option<Status>) -> u64 {
    match status {
        None => counts.total(),
        Some(Status::Available) => counts.available,
        Some(Status::Pending) => counts.pending,
        Some(Status::Finished) => counts.finished,
        Some(Status::Failed) => counts.failed,
        Some(Status::Blocked | Status::Expired | Status::Retryable) => 0,
    }
}

fn count_named(
    daemon: &mut Daemon,
    spec: &Name,
    keys: &[Name],
    status: Option<Status>,
) -> Result<u64, CallError> {
    let known = daemon.client.get_work_unit_status(spec, keys)?;
    let fits = |unit: &&_| match (unit, status) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(coordinated_client::UnitStatus { status, .. }), Some(wanted)) => *status == wanted,
    };
    Ok(known.iter().filter(fits).count() as u64)
}

/// Removes all units, or all with a status, a page at a time so that no call takes long.
fn remove_all(
    daemon: &mut Daemon,
    spec: &Name,
    status: Option<Status>,
    progress: &ProgressBar,
) -> Result<u64, CallError> {
    let listing = Listing {
        status,
        ..Listing::default()
    };
    let mut removed = 0;
    loop {
        let before = removed;
        let seen = listing.each_page(daemon, spec, |daemon, page| {
            let keys: Vec<Name> = page.into_iter().map(|unit| unit.key).collect();
            removed += remove_named(daemon, spec, &keys, status, progress)?;
            Ok::<(), CallError>(())
        })?;
        // A server that limits its lists can now list others.
        if seen == Seen::All || removed == before {
            return Ok(removed);
        }
    }
}

fn remove_named(
    daemon: &mut Daemon,
    spec: &Name,
    keys: &[Name],
    status: Option<Status>,
    progress: &ProgressBar,
) -> Result<u64, CallError> {
    let mut removed = 0;
    for keys in keys.chunks(PAGE_UNITS as usize) {
        let which = Deletion::Named(keys.to_vec(), status);
        let count = daemon.client.del_work_units(spec, &which)?;
        progress.inc(count);
        removed += count;
    }
    Ok(removed)
}

/// Deletes work specs.
pub(super) fn delete(args: &DeleteArgs) -> Result<(), Box<dyn Error>> {
    if args.all != args.specs.is_empty() {
        let problem = "name the work specs to delete, or select all with --all, not both";
        return Err(WrongUsage(problem).into());
    }
    let mut daemon = args.server.connect()?;
    let specs = match args.all {
        true => daemon.client.work_spec_names()?,
        false => args.specs.clone(),
    };
    let mut count = 0;
    for spec in &specs {
        count += daemon.client.count_work_units(spec)?.total();
    }
    let number = counted(specs.len() as u64, "work spec");
    let what = match specs.as_slice() {
        [] => return print("Nothing to do."),
        _ if args.all => format!("ALL {number}"),
        [one] => format!("the work spec {}", shown(one)),
        some => format!("{number} ({})", examples(some)),
    };
    let act = format!("delete {what} with {}", units(count));
    if !confirm(&act, args.yes, WithoutTerminal::Refuse)? {
        return Err(Declined.into());
    }
    if args.all {
        daemon.client.clear()?;
    } else {
        for spec in &specs {
            daemon.client.del_work_spec(spec)?;
        }
    }
    print(format!("Deleted {number} with {}.", units(count)))
}

pub(super) fn print(text: impl AsRef<str>) -> Result<(), Box<dyn Error>> {
    let mut output = Output::new();
    output.line(text)?;
    Ok(output.flush()?)
}

/// A progress bar on standard error, if that is a terminal.
fn progress(what: &'static str, count: u64) -> ProgressBar {
    let bar = bar_of("{msg} {wide_bar} {pos}/{len} {rate:>12} {eta:>4}");
    bar.set_message(what);
    bar.set_length(count);
    bar
}
