//! `coordinated compact`: gives the database's free pages back to the file system.

use super::progress::Progress;
use super::values::{Database, size};
use crate::store::Compaction;
use std::error::Error;
use std::io::Write;

/// What `compact` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
A daemon uses the pages of what was deleted again, but never makes the file smaller; this does. Stop the \
daemon first: a database in use is refused.

The database is written anew beside the old file, checked, and takes its place at the end, so the disk \
must have room for it once more; how much that is, is told at the beginning. Whatever ends the command \
before leaves the old file as it was.")]
pub(super) struct Args {
    #[command(flatten)]
    database: Database,
}

/// Compacts the database.
///
/// # Errors
/// If that could not be done; the database is as it was then.
pub(super) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let db = args.database.db.display();
    let compaction = Compaction::begin(&args.database.db)?;
    let (before, free) = (size(compaction.bytes), size(compaction.free_bytes));
    let needed = size(compaction.bytes_needed());
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{db}: {before}, of which {free} are free pages; needs about {needed} of free space beside it"
    )?;
    let progress = Progress::start("writing")?;
    let bytes = compaction
        .run(&progress.watch)
        .map_err(|error| format!("{error}; about {needed} of free space are needed beside {db}"))?;
    drop(progress);
    writeln!(out, "{db}: {} now, checked", size(bytes))?;
    Ok(())
}
