//! `coordinated backup`: a copy of the database, also while a daemon runs on it. And the flags of `serve`
//! for those that the daemon makes by itself.

use super::progress::Progress;
use super::values::{Database, parse_duration, size};
use crate::store::{self, BackupSchedule, ScheduledBackups};
use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What `backup` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
The copy is the database's state at one moment, as one file that nobody but its owner can read. It \
takes its name only when it is on the disk, whole and checked: SQLite's integrity check, the kept \
counts, and whether all stored CBOR can be decoded. A signal leaves nothing behind; a kill or a crash, at most a file whose name ends in .partial.

The daemon goes on meanwhile. Its write-ahead log (the file that ends in -wal) grows by what it writes until the \
copy is made; afterwards that space is used again.

`coordinated restore` brings a backup back; so does copying it to the database's place while no daemon \
runs. docs/backup.md has more.")]
pub(super) struct Args {
    /// The file to make
    #[arg(value_name = "DEST")]
    dest: PathBuf,

    #[command(flatten)]
    database: Database,

    /// Replace DEST if it is there
    #[arg(long)]
    force: bool,
}

/// Makes a backup.
///
/// # Errors
/// If there is none afterwards.
pub(super) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let progress = Progress::start("copying")?;
    let bytes = store::backup(&args.database.db, &args.dest, args.force, &progress.watch)?;
    drop(progress);
    let (dest, size) = (args.dest.display(), size(bytes));
    writeln!(std::io::stdout(), "{dest}: {size}, checked")?;
    Ok(())
}

/// The flags of `serve` for backups that the daemon makes by itself.
#[derive(clap::Args)]
#[command(next_help_heading = "Backups")]
pub(super) struct ScheduleArgs {
    /// Make backups in this folder, which must be there, named after the database and the time (UTC):
    /// coordinate-2026-11-24T101500Z.db
    #[arg(long, env = "COORDINATED_BACKUP_DIR", value_name = "DIR")]
    backup_dir: Option<PathBuf>,

    /// How far apart backups are. The first is made when the newest one in DIR is older than that
    #[arg(
        long,
        env = "COORDINATED_BACKUP_EVERY",
        value_name = "TIME",
        default_value = "6h",
        value_parser = parse_interval,
        requires = "backup_dir"
    )]
    backup_every: Duration,

    /// How many backups to keep: after each one, the oldest are removed
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
    /// Starts to make backups of `db`, if that is wanted.
    ///
    /// # Errors
    /// If it can't be done; what goes wrong later is only logged.
    pub(super) fn start(&self, db: &Path) -> Result<Option<ScheduledBackups>, String> {
        let Some(folder) = &self.backup_dir else {
            return Ok(None);
        };
        if db == Path::new(":memory:") {
            return Err(
                "--backup-dir: a database in memory has no backups; name a file with --db"
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

/// Names of backups tell seconds.
fn parse_interval(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        short if short < Duration::from_secs(1) => Err("must be at least 1s".to_owned()),
        interval => Ok(interval),
    }
}
