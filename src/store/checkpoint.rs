//! Moving the write-ahead log into the file, without holding clients up.
//!
//! An automatic checkpoint runs within a commit, and lets whoever waits for that wait for the log's
//! pages to be written all over the file. So the bulk is done on a thread and a connection of its own,
//! by passive passes, which hold nobody up. Under steady load these never reach the end of the log, so
//! it would grow for ever; when it has become large, the rest is moved between two batches, and the
//! next one begins the log anew.
//!
//! The log can't begin anew while another program reads in a transaction that was begun before, and
//! nobody can end that one but its owner. So the daemon says so when the log has become very large, again
//! and again, and at a limit writes no more: an error that is seen comes before a full disk.

use super::database_file::DatabaseFile;
use super::open::{BUSY_TIMEOUT, Options, set_synchronous};
use super::{SqliteStore, full_if_beyond_limit};
use crate::coordinate::StorageError;
use crate::coordinate::storage::LogPages;
use rusqlite::{Connection, OpenFlags};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// Commits between two looks at a log that is not large: a look costs as much as a short statement.
const COMMITS_BETWEEN_LOOKS: u32 = 16;

/// Pages in the log that are worth a pass, 16 MiB: each pass syncs the file, and commits that sync the
/// log meanwhile take longer.
const PAGES_FOR_A_PASS: i64 = 4_000;

/// Pages in the log beyond which it should begin anew: 64 MiB.
const LOG_PAGES_MAX: i64 = 16_000;

/// Pages that may be moved between two batches: some milliseconds.
const PAGES_BETWEEN_BATCHES: i64 = 1_500;

/// The same after a batch that wrote many itself, as multiples of that: nobody expects the next one to be
/// quick, and the thread can't come closer to the end of the log than a batch or two.
const BATCHES_BETWEEN_BATCHES: i64 = 4;

/// But never more than this: some ten milliseconds.
const PAGES_BETWEEN_LARGE_BATCHES: i64 = 6_000;

/// Pages in the log beyond which the thread is told to make way, and what is left is moved between two
/// batches, however much it is: 1 GiB. That far it comes only where the disk is too slow for the thread
/// to keep up for long.
const LOG_PAGES_AT_ANY_PRICE: i64 = 256_000;

/// Bytes of a page in the log: a header, and the page, of which our files have the usual size.
const PAGE_BYTES: u64 = 24 + 4096;

/// Warnings on the way to the largest log that is allowed.
const WARNINGS: i64 = 8;
/// Moves nothing, and tells how long the log is.
const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";

const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// The thread that runs passive passes, one at a time.
pub(super) struct Checkpointer {
    passes: Option<SyncSender<()>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Commits until the next look.
    commits_left: u32,
    /// Pages in the log at the last look.
    log_pages: i64,
    /// Pages in the log beyond which nothing is written.
    log_pages_max: i64,
    /// Pages in the log at which to warn next.
    warn_at: i64,
}

#[derive(Default)]
struct Shared {
    is_running: AtomicBool,
    /// The thread should end after the present pass: two can't run at a time.
    must_make_way: AtomicBool,
    /// Why what is on the disk is not known any more: a later sync may seem to succeed though the pages
    /// are lost, and would then let the log be overwritten that still has them.
    failure: OnceLock<StorageError>,
}

impl Shared {
    fn note(&self, connection: &Connection, error: rusqlite::Error) {
        let error = full_if_beyond_limit(connection, error.into());
        tracing::warn!(%error, "checkpoint failed");
        if matches!(error, StorageError::Unknown(_)) {
            // Only the first one counts.
            let _ = self.failure.set(error);
        }
    }
}

impl Checkpointer {
    /// Starts the thread for a database.
    pub(super) fn start(file: &DatabaseFile, options: &Options) -> rusqlite::Result<Self> {
        let connection = file.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        set_synchronous(&connection, options)?;
        let (passes, receiver) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || run_passes(&connection, &receiver, &of_thread));
        Ok(Self {
            passes: Some(passes),
            shared,
            thread: Some(thread),
            commits_left: 0,
            log_pages: 0,
            log_pages_max: i64::try_from(options.log_bytes_max / PAGE_BYTES).unwrap_or(i64::MAX),
            warn_at: 0,
        })
    }

    /// Takes note of the size of the log, and warns when it has grown by much.
    fn note_size(&mut self, pages: i64, moved: i64) {
        let step = (self.log_pages_max / WARNINGS).max(1);
        if pages < self.log_pages || self.warn_at == 0 {
            self.warn_at = step;
        }
        self.log_pages = pages;
        if pages < self.warn_at {
            return;
        }
        self.warn_at = (pages / step + 1).saturating_mul(step);
        tracing::warn!(
            log_mib = mib(pages),
            to_be_moved_mib = mib(pages - moved),
            limit_mib = mib(self.log_pages_max),
            "the write-ahead log grows and can't begin anew: most likely another program (sqlite3?) reads \
             the database in a transaction that does not end; end it"
        );
    }

    /// Why nothing may be committed any more, if that is so.
    pub(super) fn failure(&self) -> Option<&StorageError> {
        self.shared.failure.get()
    }

    /// True if the thread is at work.
    fn is_passing(&self) -> bool {
        let is_alive = self
            .thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished());
        is_alive && self.shared.is_running.load(Ordering::Relaxed)
    }

    fn request_pass(&self) {
        if !self.shared.is_running.swap(true, Ordering::Relaxed)
            && let Some(passes) = &self.passes
        {
            // It fails only if the thread has ended, and then the log is moved between batches.
            let _ = passes.try_send(());
        }
    }
}

fn run_passes(connection: &Connection, passes: &Receiver<()>, shared: &Shared) {
    while passes.recv().is_ok() {
        // What was written during a pass is left for the next one, which is the shorter.
        let mut done = 0;
        loop {
            match connection.query_row(PASSIVE, [], |row| row.get::<_, i64>("checkpointed")) {
                Ok(moved)
                    if moved - done > PAGES_BETWEEN_BATCHES
                        && !shared.must_make_way.load(Ordering::Relaxed) =>
                {
                    done = moved;
                }
                Ok(_) => break,
                Err(error) => {
                    shared.note(connection, error);
                    break;
                }
            }
        }
        shared.is_running.store(false, Ordering::Relaxed);
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.passes = None;
        if let Some(thread) = self.thread.take() {
            // Nothing is lost by a pass that did not end well.
            let _ = thread.join();
        }
    }
}

fn mib(pages: i64) -> u64 {
    (u64::try_from(pages).unwrap_or(0) * PAGE_BYTES) >> 20
}

impl SqliteStore {
    /// Refuses to write any more while the log is too large and can't begin anew.
    ///
    /// # Errors
    /// `Busy` if so.
    pub(super) fn check_log_size(&mut self) -> Result<(), StorageError> {
        let Some(checkpointer) = &mut self.checkpointer else {
            return Ok(());
        };
        // A pass that runs would be in the way as a reader is, but it ends by itself.
        if checkpointer.log_pages <= checkpointer.log_pages_max || checkpointer.is_passing() {
            return Ok(());
        }
        let connection = self.statements.connection();
        let restart = "PRAGMA wal_checkpoint(RESTART)";
        if connection.query_row(restart, [], |row| row.get::<_, bool>("busy"))? {
            return Err(StorageError::Busy(format!(
                "it reads in a transaction that does not end, and so the write-ahead log has come to its \
                 limit of {} MiB (--max-log); end that transaction",
                mib(checkpointer.log_pages_max)
            )));
        }
        checkpointer.log_pages = 0;
        Ok(())
    }

    /// Sees to the log, after a commit that wrote to it. That stands, whatever becomes of this.
    pub(super) fn tend_log(&mut self) {
        if let Err(error) = self.look_at_log()
            && let Some(checkpointer) = &self.checkpointer
        {
            checkpointer
                .shared
                .note(self.statements.connection(), error);
        }
    }

    /// The length of the log; `None` if there is none.
    pub(super) fn look_at_log_pages(&mut self) -> rusqlite::Result<Option<LogPages>> {
        if self.checkpointer.is_none() {
            return Ok(None);
        }
        self.statements.prepared(LOOK)?.query_row(&[], |row| {
            // -1 before the log is used for the first time.
            let pages = |name| {
                row.get::<_, i64>(name)
                    .map(|pages| u64::try_from(pages).unwrap_or(0))
            };
            Ok(Some(LogPages {
                pages: pages("log")?,
                in_file: pages("checkpointed")?,
            }))
        })
    }

    fn look_at_log(&mut self) -> rusqlite::Result<()> {
        let Some(checkpointer) = &mut self.checkpointer else {
            return Ok(());
        };
        if checkpointer.commits_left > 0 {
            checkpointer.commits_left -= 1;
            return Ok(());
        }
        let look = self.statements.prepared(LOOK)?;
        let (pages, moved): (i64, i64) =
            look.query_row(&[], |row| Ok((row.get("log")?, row.get("checkpointed")?)))?;
        let written = pages - checkpointer.log_pages;
        checkpointer.note_size(pages, moved);
        if pages < LOG_PAGES_MAX {
            checkpointer.commits_left = COMMITS_BETWEEN_LOOKS;
        }
        let left = pages - moved;
        let movable = (written * BATCHES_BETWEEN_BATCHES)
            .clamp(PAGES_BETWEEN_BATCHES, PAGES_BETWEEN_LARGE_BATCHES);
        let at_any_price = pages > LOG_PAGES_AT_ANY_PRICE;
        let shared = &checkpointer.shared;
        shared.must_make_way.store(at_any_price, Ordering::Relaxed);
        if at_any_price && checkpointer.is_passing() {
            return Ok(());
        }
        if at_any_price || pages > LOG_PAGES_MAX && left < movable {
            self.statements
                .prepared(PASSIVE)?
                .query_row(&[], |_| Ok(()))?;
        } else if left > PAGES_FOR_A_PASS {
            checkpointer.request_pass();
        }
        Ok(())
    }
}
