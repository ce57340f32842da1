//! `coordinated check`: checks a database file and repairs its counters.

use super::progress::spinner;
use super::values::{Database, printable};
use crate::store::FileError;
use crate::store::check::{self, Report};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `check`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Checks the file itself (SQLite's integrity check), references between tables, the stored counters against a \
recount, the invariants of work units and their attempts, and that all stored CBOR can be decoded. It reads the file \
several times, all from one snapshot. It can run while the daemon runs; the daemon's write-ahead log (the file that \
ends in -wal) then grows until the check has ended.

--repair recounts the counters (except those of archived units, which are counted nowhere else), fixes the entries by \
which the daemon finds units to hand out or to archive, and clears the mark of attempts that are wrongly marked as \
held. It changes nothing else, since that would be a guess. It does not touch a damaged file: restore a backup instead.

The exit code is 0 if the database is sound (with --repair: afterwards), 1 if there are errors, and 2 if it could not \
be checked, because the file can't be read, is not a database of coordinated, or was written by a newer version.")]
pub(super) struct Args {
    /// The database to check, instead of the one of --db
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    database: Database,

    /// Repair what can be repaired without guessing; the daemon must be stopped
    #[arg(long)]
    repair: bool,
}

/// Checks the database and prints what is wrong. Returns the exit code.
///
/// # Errors
/// If it could not be checked.
pub(super) fn run(args: &Args) -> Result<ExitCode, FileError> {
    let db = args.file.as_ref().unwrap_or(&args.database.db);
    let spinner = spinner();
    let begin = |name: &str| spinner.set_message(format!("checking {name}"));
    let checked = if args.repair {
        check::repair(db, &begin)
    } else {
        check::check(db, &begin).map(|report| (report, Vec::new()))
    };
    spinner.finish_and_clear();
    let (report, repaired) = checked?;
    // Standard output may be closed; the exit code is enough then.
    let _ = print_report(&db.display().to_string(), &report, &repaired, args.repair);
    Ok(if report.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_report(db: &str, report: &Report, repaired: &[&str], repair: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !repaired.is_empty() {
        writeln!(out, "{db}: repaired {}", repaired.join(", "))?;
    }
    let (specs, units, attempts) = (report.work_specs, report.work_units, report.attempts);
    let verdict = if report.faults.is_empty() {
        "no errors"
    } else {
        "errors found"
    };
    writeln!(
        out,
        "{db}: {verdict}; work specs: {specs}, work units: {units}, attempts: {attempts}"
    )?;
    for fault in &report.faults {
        writeln!(out, "{}: {} found", fault.name, fault.total)?;
        for example in &fault.examples {
            writeln!(out, "  {}", printable(example))?;
        }
        let omitted = fault.total - u64::try_from(fault.examples.len()).unwrap_or(0);
        if omitted > 0 {
            writeln!(out, "  and {omitted} more")?;
        }
    }
    let repairable = report.faults.iter().filter(|fault| fault.can_be_repaired);
    let names: Vec<&str> = repairable.map(|fault| fault.name).collect();
    if report.is_damaged() {
        writeln!(out, "the file is damaged: restore a backup")?;
    } else if !repair && !names.is_empty() {
        let names = names.join(" and ");
        writeln!(
            out,
            "stop the daemon and run with --repair to repair {names}"
        )?;
    }
    Ok(())
}
