//! `coordinated restore`: brings a backup back.

use super::progress::Progress;
use super::values::{Database, size};
use crate::store;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

/// What `restore` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Stop the daemon first: a database in use is refused. The backup is copied and checked beside the \
database, and takes its place only then, so a restore that fails leaves all as it was. With --force, a \
database that is there is gone afterwards: copy it first if it may still be wanted.

Leases that ran out since the backup get the usual grace at the daemon's start. What was done since then is \
not known any more: units that were finished may be handed out again.")]
pub(super) struct Args {
    /// The backup; any file of a stopped daemon will do
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,

    #[command(flatten)]
    database: Database,

    /// Replace the database if it is there
    #[arg(long)]
    force: bool,
}

/// Restores a backup.
///
/// # Errors
/// If that could not be done; the database is as it was then.
pub(super) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let progress = Progress::start("copying")?;
    let db = &args.database.db;
    let bytes = store::restore(&args.backup, db, args.force, &progress.watch)?;
    drop(progress);
    writeln!(
        std::io::stdout(),
        "{}: {}, checked",
        db.display(),
        size(bytes)
    )?;
    Ok(())
}
