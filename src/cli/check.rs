//! `coordinated check`: whether a database is in order.

use super::progress::spinner;
use super::values::{Database, printable};
use crate::store::FileError;
use crate::store::check::{self, Report};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// What `check` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Checks the file itself (SQLite's integrity check), references between tables, the kept counts against a \
recount, what must be true of work units and their attempts, and that all stored CBOR can be decoded. It reads the file several times over, \
in the state of one moment, and works while a daemon runs: that goes on, but its write-ahead log (the file that ends \
in -wal) grows by what it writes until the check's end.

--repair counts kept counts anew (but not archived units, which are counted nowhere else), has units found \
that would not be handed out or archived, and takes the mark of being held from attempts that can't be; \
nothing else, as it would be a guess. It leaves a damaged file alone: restore a backup then.

The exit code is 0 if all is well (with --repair: afterwards), 1 if something is wrong, and 2 if that \
could not be found out, because the file can't be read, is no database of coordinated, or a newer \
program has written it.")]
pub(super) struct Args {
    /// The database to check, instead of that of --db
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    database: Database,

    /// Mend what can be mended without a guess; no daemon may run
    #[arg(long)]
    repair: bool,
}

/// Checks the database, and says what is wrong on standard output. Gives the exit code.
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
    let (report, mended) = checked?;
    // The exit code tells it too, should nobody read this.
    let _ = tell(&db.display().to_string(), &report, &mended, args.repair);
    Ok(if report.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tell(db: &str, report: &Report, mended: &[&str], repair: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !mended.is_empty() {
        writeln!(out, "{db}: mended {}", mended.join(", "))?;
    }
    let (specs, units, attempts) = (report.work_specs, report.work_units, report.attempts);
    let verdict = if report.faults.is_empty() {
        "all is well"
    } else {
        "something is wrong"
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
        let untold = fault.total - u64::try_from(fault.examples.len()).unwrap_or(0);
        if untold > 0 {
            writeln!(out, "  and {untold} more")?;
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
            "with --repair, and no daemon running, {names} can be mended"
        )?;
    }
    Ok(())
}
