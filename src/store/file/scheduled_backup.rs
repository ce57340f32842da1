//! Backups that the daemon makes by itself, on a thread and a connection of its own, so that no client waits for them.

use super::backup::backup;
use super::database_file::side_files;
use super::error::FileError;
use super::new_file::{PARTIAL, Watch};
use std::io;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How long the thread sleeps at a time: backups are due by the wall clock, which may be set meanwhile.
const NAP: Duration = Duration::from_secs(60);

/// Which backups to make.
#[derive(Clone, Debug)]
pub struct BackupSchedule {
    /// The database.
    pub db: PathBuf,
    /// The folder to put them in.
    pub folder: PathBuf,
    /// The time between two of them, at least a second.
    pub every: Duration,
    /// How many are kept.
    pub keep: NonZeroUsize,
}

/// What became of scheduled backups, as other threads may read it.
#[derive(Debug)]
pub struct BackupStatus {
    /// The time between two of them.
    every: Duration,
    /// When the newest one was made, in seconds since the epoch; 0 if there is none.
    newest: AtomicU64,
    failures: AtomicU64,
}

impl BackupStatus {
    /// The time between two backups.
    #[must_use]
    pub fn every(&self) -> Duration {
        self.every
    }

    /// When the newest backup was made, in seconds since the epoch.
    #[must_use]
    pub fn newest(&self) -> Option<u64> {
        Some(self.newest.load(Ordering::Relaxed)).filter(|newest| *newest > 0)
    }

    /// How many backups have failed since the start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn note(&self, time: SystemTime) {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since_epoch.unwrap_or_default().as_secs();
        self.newest.store(seconds, Ordering::Relaxed);
    }
}

/// The thread that makes them. Dropping this ends it, and abandons a backup that is being made.
pub struct ScheduledBackups {
    status: Arc<BackupStatus>,
    must_stop: Arc<AtomicBool>,
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ScheduledBackups {
    /// Starts the thread. The first backup is due when the newest one in the folder is older than
    /// `every`, so at once if there is none.
    ///
    /// # Errors
    /// If there is no such folder. It is not created, since a disk may not be mounted.
    pub fn start(schedule: BackupSchedule) -> io::Result<Self> {
        let existing = schedule.existing()?;
        let now = SystemTime::now();
        let status = Arc::new(BackupStatus {
            every: schedule.every,
            newest: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        if let Some(newest) = newest_of(&existing, now) {
            status.note(newest);
        }
        let of_thread = Arc::clone(&status);
        let must_stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&must_stop);
        let watch: Watch = Arc::new(move |_| match stopped.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        });
        let (wake, woken) = channel::<()>();
        // Not on the thread: until that runs, something may be mounted on the folder.
        let mut due = newest_of(&existing, now).map_or(now, |newest| newest + schedule.every);
        let thread = std::thread::spawn(move || {
            loop {
                let now = SystemTime::now();
                if due <= now {
                    schedule.make(now, &watch, &of_thread);
                    due = now + schedule.every;
                }
                // The clock may have been set back.
                due = due.min(SystemTime::now() + schedule.every);
                let wait = due.duration_since(SystemTime::now()).unwrap_or_default();
                if woken.recv_timeout(wait.min(NAP)) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Ok(Self {
            status,
            must_stop,
            wake: Some(wake),
            thread: Some(thread),
        })
    }

    /// What became of them.
    #[must_use]
    pub fn status(&self) -> Arc<BackupStatus> {
        Arc::clone(&self.status)
    }
}

impl Drop for ScheduledBackups {
    fn drop(&mut self) {
        self.must_stop.store(true, Ordering::Relaxed);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // Nothing is lost if it panicked.
            let _ = thread.join();
        }
    }
}

impl BackupSchedule {
    /// Makes one backup and removes the oldest ones. A failure is logged, and the next backup is tried as usual.
    fn make(&self, now: SystemTime, watch: &Watch, status: &BackupStatus) {
        self.remove_leftovers();
        let path = self.folder.join(self.name_at(now));
        match backup(&self.db, &path, false, watch) {
            Ok(bytes) => {
                status.note(now);
                tracing::info!(path = %path.display(), bytes, "backup made");
            }
            Err(FileError::Stopped { .. }) => return,
            Err(error) => {
                status.failures.fetch_add(1, Ordering::Relaxed);
                let next = humantime::format_duration(self.every);
                tracing::warn!(%error, "no backup was made; the next one is due in {next}");
                return;
            }
        }
        if let Err(error) = self.remove_oldest(now) {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "old backups could not be removed");
        }
    }

    /// The backups in the folder with their times, the oldest first.
    fn existing(&self) -> io::Result<Vec<(SystemTime, PathBuf)>> {
        let mut all = Vec::new();
        for entry in self.folder.read_dir()? {
            let entry = entry?;
            if let Some(time) = entry
                .file_name()
                .to_str()
                .and_then(|name| self.time_of(name))
            {
                all.push((time, entry.path()));
            }
        }
        all.sort();
        Ok(all)
    }

    fn remove_oldest(&self, now: SystemTime) -> io::Result<()> {
        let mut all = self.existing()?;
        // Those from the future go first: the one that was just made must stay.
        all.sort_by_key(|(time, _)| *time <= now);
        let too_many = all.len().saturating_sub(self.keep.get());
        for (_, path) in &all[..too_many] {
            std::fs::remove_file(path)?;
            tracing::debug!(path = %path.display(), "old backup removed");
        }
        Ok(())
    }

    /// Removes what backups left behind that a crash interrupted.
    fn remove_leftovers(&self) {
        let Ok(entries) = self.folder.read_dir() else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let of_ours = name.to_str().and_then(|name| name.strip_prefix('.'));
            // SQLite's files beside it are removed with it.
            let is_leftover = of_ours.is_some_and(|name| {
                let name_length = self.stem().len() + STAMP_LENGTH;
                name.ends_with(PARTIAL)
                    && name
                        .get(..name_length)
                        .is_some_and(|name| self.time_of(name).is_some())
            });
            if is_leftover {
                let path = entry.path();
                tracing::debug!(path = %path.display(), "unfinished backup removed");
                for path in side_files(&path).into_iter().chain([path]) {
                    // A file that can't be removed does no harm.
                    let _ = std::fs::remove_file(path);
                }
            }
        }
    }

    /// How the names begin, so that databases with other names can share the folder.
    fn stem(&self) -> String {
        let stem = Path::new(&self.db).file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }

    /// `coordinate-2026-11-24T101500Z.db`
    fn name_at(&self, time: SystemTime) -> String {
        let stamp = humantime::format_rfc3339_seconds(time).to_string();
        format!("{}-{}.db", self.stem(), stamp.replace(':', ""))
    }

    /// The time in the name of a backup; `None` for any other name.
    fn time_of(&self, name: &str) -> Option<SystemTime> {
        let stamp = name.strip_prefix(&self.stem())?.strip_prefix('-')?;
        let (date_hours, rest) = stamp.split_at_checked(13)?;
        let (minutes, seconds) = rest.strip_suffix(".db")?.split_at_checked(2)?;
        let time = humantime::parse_rfc3339(&format!("{date_hours}:{minutes}:{seconds}")).ok()?;
        // Only what `name_at` writes.
        (self.name_at(time) == name).then_some(time)
    }
}

/// When the newest of some backups was made.
fn newest_of(backups: &[(SystemTime, PathBuf)], now: SystemTime) -> Option<SystemTime> {
    // Those from the future were made while the clock was wrong.
    let newest = backups.iter().rfind(|(time, _)| *time <= now);
    newest.map(|(time, _)| *time)
}

/// How long `-2026-11-24T101500Z.db` is.
const STAMP_LENGTH: usize = 22;
