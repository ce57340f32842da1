//! `coordinated compact`: returns the free pages of the database to the file system.

use super::progress::Progress;
use super::values::{Database, size};
use crate::store::Compaction;
use std::error::Error;
use std::io::Write;

/// The arguments of `compact`.
#[derive(clap::Args)]
#[command(after_long_help = "\
The daemon reuses the pages of deleted rows but never shrinks the file; this command does. Stop the daemon first: a \
database in use is refused.

The database is written to a new file beside the old one, checked, and then replaces it, so the disk needs room for a \
second copy; the command prints how much before it starts. If it is interrupted, the old file is unchanged.")]
pub(super) struct Args {
    #[command(flatten)]
    database: Database,
}

/// Compacts the database.
///
/// # Errors
/// If it failed, in which case the database is unchanged.
pub(super) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let db = args.database.db.display();
    let compaction = Compaction::begin(&args.database.db)?;
    let (before, free) = (size(compaction.bytes), size(compaction.free_bytes));
    let needed = size(compaction.bytes_needed());
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{db}: {before}, of which {free} are free pages; needs about {needed} of free disk space"
    )?;
    let progress = Progress::start("writing")?;
    let bytes = compaction.run(&progress.watch).map_err(|error| {
        format!("{error}; about {needed} of free disk space are needed beside {db}")
    })?;
    drop(progress);
    writeln!(out, "{db}: {} now, checked", size(bytes))?;
    Ok(())
}
