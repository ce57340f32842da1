//! `coordinated backup`: a copy of the database, even while the daemon runs. And the flags of `serve` for scheduled
//! backups.

use super::progress::Progress;
use super::values::{Database, parse_duration, size};
use crate::store::{self, BackupSchedule, ScheduledBackups};
use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The arguments of `backup`.
#[derive(clap::Args)]
#[command(after_long_help = "\
The copy is a snapshot of the database in one file that only its owner can read. It gets its name only when it is \
complete, on disk and checked: SQLite's integrity check, the stored counters, and that all stored CBOR can be \
decoded. A signal leaves no file behind; SIGKILL or a crash leaves at most a file whose name ends in .partial.

The daemon keeps running meanwhile. Its write-ahead log (the file that ends in -wal) grows until the copy is made; \
the space is reused afterwards.

To bring a backup back use `coordinated restore`, or copy it to the path of the database while the daemon is stopped. \
See docs/backup.md.")]
pub(super) struct Args {
    /// The file to create
    #[arg(value_name = "DEST")]
    dest: PathBuf,

    #[command(flatten)]
    database: Database,

    /// Replace DEST if it exists
    #[arg(long)]
    force: bool,
}

/// Makes a backup.
///
/// # Errors
/// If the backup could not be made.
pub(super) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let progress = Progress::start("copying")?;
    let bytes = store::backup(&args.database.db, &args.dest, args.force, &progress.watch)?;
    drop(progress);
    let (dest, size) = (args.dest.display(), size(bytes));
    writeln!(std::io::stdout(), "{dest}: {size}, checked")?;
    Ok(())
}

/// The flags of `serve` for scheduled backups.
#[derive(clap::Args)]
#[command(next_help_heading = "Backups")]
pub(super) struct ScheduleArgs {
    /// Make backups in this existing folder, named after the database and the time (UTC):
    /// coordinate-2026-11-24T101500Z.db
    #[arg(long, env = "COORDINATED_BACKUP_DIR", value_name = "DIR")]
    backup_dir: Option<PathBuf>,

    /// Time between two backups. The first is made when the newest one in DIR is older than this
    #[arg(
        long,
        env = "COORDINATED_BACKUP_EVERY",
        value_name = "TIME",
        default_value = "6h",
        value_parser = parse_interval,
        requires = "backup_dir"
    )]
    backup_every: Duration,

    /// Number of backups to keep: the oldest are removed after each new one
    #[arg(
        long,
        env = "COORDINATED_BACKUP_KEEP",
        value_name = "N",
        default_value = "7",
        requires = "backup_dir"
    )]
    backup_keep: NonZeroUsize,
}

impl ScheduleArgs {
    /// Starts scheduled backups of `db`, if --backup-dir is given.
    ///
    /// # Errors
    /// If the schedule can't start. Later errors are only logged.
    pub(super) fn start(&self, db: &Path) -> Result<Option<ScheduledBackups>, String> {
        let Some(folder) = &self.backup_dir else {
            return Ok(None);
        };
        if db == Path::new(":memory:") {
            return Err(
                "--backup-dir: a database in memory can't be backed up; name a file with --db"
                    .to_owned(),
            );
        }
        let schedule = BackupSchedule {
            db: db.to_owned(),
            folder: folder.clone(),
            every: self.backup_every,
            keep: self.backup_keep,
        };
        let started = ScheduledBackups::start(schedule);
        started.map(Some).map_err(|error| {
            let folder = folder.display();
            format!("can't use backup folder {folder}: {error}; make it, or check --backup-dir")
        })
    }
}

/// Names of backups have a resolution of one second.
fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        short if short < Duration::from_secs(1) => Err("must be at least 1s".to_owned()),
        interval => Ok(interval),
    }
}
