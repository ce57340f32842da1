//! `coordinated restore`: replaces the database with a backup.

use super::progress::Progress;
use super::values::{Database, size};
use crate::store;
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

/// The arguments of `restore`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Stop the daemon first: a database in use is refused. The backup is copied to a file beside the database and checked \
before it replaces the database, so a failed restore changes nothing. With --force an existing database is lost: copy \
it first if you may need it.

Leases that have expired since the backup get the usual grace period when the daemon starts. Everything done after \
the backup is unknown to the restored database: finished units may be handed out again.")]
pub(super) struct Args {
    /// The backup, or the database file of a stopped daemon
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,

    #[command(flatten)]
    database: Database,

    /// Replace the database if it exists
    #[arg(long)]
    force: bool,
}

/// Restores a backup.
///
/// # Errors
/// If it failed, in which case the database is unchanged.
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
