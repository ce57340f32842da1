//! Moving the write-ahead log into the file, without holding clients up.
//!
//! An automatic checkpoint runs within a commit, and lets whoever waits for that wait for the log's
//! pages to be written all over the file. So the bulk is done on a thread and a connection of its own,
//! by passive passes, which hold nobody up. Under steady load these never reach the end of the log, so
//! it would grow without end; when it has become large and little is left to move, the rest is moved between
//! two batches, and the next one begins the log anew. More than that little is never moved between batches.
//!
//! The log can't begin anew while another program reads in a transaction that was begun before, and
//! nobody can end that one but its owner. So the daemon says so when the log has become very large, again
//! and again, and at a limit writes no more: an error that is seen comes before a full disk. When that transaction has
//! ended, the thread catches up, and the file of the log is cut in pieces, one each time that the log begins anew.

use super::database_file::DatabaseFile;
use super::open::{BUSY_TIMEOUT, Options, Synchronous, set_synchronous};
use super::statement::Statements;
use super::{SqliteStore, full_if_beyond_limit};
use crate::coordinate::StorageError;
use crate::coordinate::storage::{StorageResult, WalPages};
use rusqlite::{Connection, OpenFlags, ffi};
use std::path::PathBuf;
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

/// Bytes of the log's file beyond which it is cut when the log begins anew: 128 MiB, twice what it mostly has.
const LOG_FILE_BYTES_MAX: u64 = 128 << 20;

/// Bytes that are cut off at a time: some ten milliseconds, since the system has to forget their pages.
const CUT_BYTES: u64 = 32 << 20;

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
    /// The log's file.
    path: PathBuf,
}

/// What there is in the log.
#[derive(Clone, Copy, Debug)]
struct Log {
    pages: i64,
    /// How many of them are in the database.
    moved: i64,
    /// The size of its file.
    file_bytes: u64,
}

/// What to do about the log between two batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// The thread is to make a pass.
    Pass,
    /// What is left is to be moved now.
    MoveRest,
}

impl Log {
    fn left(self) -> i64 {
        self.pages - self.moved
    }

    /// True if the file is to be cut.
    fn is_oversized(self) -> bool {
        self.file_bytes > LOG_FILE_BYTES_MAX
    }

    /// What to do, if so many pages were written since the last look.
    fn next_step(self, written: i64) -> Step {
        let movable = (written * BATCHES_BETWEEN_BATCHES)
            .clamp(PAGES_BETWEEN_BATCHES, PAGES_BETWEEN_LARGE_BATCHES);
        if (self.pages > LOG_PAGES_MAX || self.is_oversized()) && self.left() < movable {
            Step::MoveRest
        } else if self.left() > PAGES_FOR_A_PASS {
            Step::Pass
        } else {
            Step::Nothing
        }
    }
}

#[derive(Default)]
struct Shared {
    is_running: AtomicBool,
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
        let syncs = options.synchronous != Synchronous::Off;
        let thread =
            std::thread::spawn(move || run_passes(&connection, syncs, &receiver, &of_thread));
        Ok(Self {
            passes: Some(passes),
            shared,
            thread: Some(thread),
            commits_left: 0,
            log_pages: 0,
            log_pages_max: i64::try_from(options.log_bytes_max / PAGE_BYTES).unwrap_or(i64::MAX),
            warn_at: 0,
            path: file.log(),
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

    fn request_pass(&self) {
        if !self.shared.is_running.swap(true, Ordering::Relaxed)
            && let Some(passes) = &self.passes
        {
            // It fails only if the thread has panicked. Then the log grows to its limit.
            let _ = passes.try_send(());
        }
    }
}

/// Makes passes whenever they are asked for.
///
/// SQLite syncs the database only if a pass comes to the end of the log, which under load happens between two batches.
/// So what each pass has moved is synced here, lest clients wait for all of it there.
fn run_passes(connection: &Connection, syncs: bool, passes: &Receiver<()>, shared: &Shared) {
    let mut moved = 0;
    let mut pass = || -> rusqlite::Result<i64> {
        let before = moved;
        moved = connection.query_row(PASSIVE, [], |row| row.get("checkpointed"))?;
        if syncs && moved != before {
            sync_database(connection)?;
        }
        Ok(moved - before)
    };
    while passes.recv().is_ok() {
        // What was written during a pass is left for the next one, which is the shorter.
        loop {
            match pass() {
                Ok(pages) if pages > PAGES_BETWEEN_BATCHES => {}
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

/// Syncs the file of a connection's database.
fn sync_database(connection: &Connection) -> rusqlite::Result<()> {
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the connection is open, so it gives its open file, which has a method to sync, and nobody else uses it
    // meanwhile.
    let result = unsafe {
        let what = ffi::SQLITE_FCNTL_FILE_POINTER;
        let to = (&raw mut file).cast();
        match ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), what, to) {
            ffi::SQLITE_OK => match (*(*file).pMethods).xSync {
                Some(sync) => sync(file, ffi::SQLITE_SYNC_NORMAL),
                None => ffi::SQLITE_IOERR_FSYNC,
            },
            error => error,
        }
    };
    match result {
        ffi::SQLITE_OK => Ok(()),
        error => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(error), None)),
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

/// The pages in the log, and how many of them are in the database.
fn log_pages(statements: &mut Statements) -> rusqlite::Result<(i64, i64)> {
    statements
        .prepared(LOOK)?
        .query_row(&[], |row| Ok((row.get("log")?, row.get("checkpointed")?)))
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
        if checkpointer.log_pages <= checkpointer.log_pages_max {
            return Ok(());
        }
        let (pages, moved) = log_pages(&mut self.statements)?;
        if pages - moved <= PAGES_BETWEEN_LARGE_BATCHES {
            let restart = "PRAGMA wal_checkpoint(RESTART)";
            let connection = self.statements.connection();
            if !connection.query_row(restart, [], |row| row.get::<_, bool>("busy"))? {
                checkpointer.log_pages = 0;
                return Ok(());
            }
        } else {
            checkpointer.request_pass();
        }
        Err(StorageError::Busy(format!(
            "the write-ahead log has come to its limit of {} MiB (--max-log), and can't begin anew: most likely \
             another program reads the database in a transaction that does not end; end it",
            mib(checkpointer.log_pages_max)
        )))
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

    /// The pages of the write-ahead log; `None` if there is none, as for a database in memory.
    ///
    /// # Errors
    /// Any [`StorageError`].
    pub fn wal_pages(&mut self) -> StorageResult<Option<WalPages>> {
        if self.checkpointer.is_none() {
            return Ok(None);
        }
        let pages = self.statements.prepared(LOOK)?.query_row(&[], |row| {
            // -1 before the log is used for the first time.
            let pages = |name| {
                row.get::<_, i64>(name)
                    .map(|pages| u64::try_from(pages).unwrap_or(0))
            };
            Ok(Some(WalPages {
                pages: pages("log")?,
                in_file: pages("checkpointed")?,
            }))
        });
        Ok(pages?)
    }

    fn look_at_log(&mut self) -> rusqlite::Result<()> {
        let Some(checkpointer) = &mut self.checkpointer else {
            return Ok(());
        };
        if checkpointer.commits_left > 0 {
            checkpointer.commits_left -= 1;
            return Ok(());
        }
        let (pages, moved) = log_pages(&mut self.statements)?;
        let file = std::fs::metadata(&checkpointer.path);
        let log = Log {
            pages,
            moved,
            file_bytes: file.map_or(0, |file| file.len()),
        };
        let written = pages - checkpointer.log_pages;
        checkpointer.note_size(pages, moved);
        if pages < LOG_PAGES_MAX {
            checkpointer.commits_left = COMMITS_BETWEEN_LOOKS;
        }
        match log.next_step(written) {
            Step::Nothing => {}
            Step::Pass => checkpointer.request_pass(),
            Step::MoveRest => {
                if log.is_oversized() {
                    let size = LOG_FILE_BYTES_MAX.max(log.file_bytes - CUT_BYTES);
                    let connection = self.statements.connection();
                    connection.pragma_update(None, "journal_size_limit", size)?;
                }
                self.statements
                    .prepared(PASSIVE)?
                    .query_row(&[], |_| Ok(()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_more_than_a_few_pages_are_moved_between_two_batches(
            pages in 0_i64..4_000_000,
            moved in 0_i64..4_000_000,
            written in -4_000_000_i64..4_000_000,
            file_bytes in 0_u64..16 << 30,
        ) {
            let log = Log { pages, moved: moved.min(pages), file_bytes };
            if log.next_step(written) == Step::MoveRest {
                prop_assert!(log.left() <= PAGES_BETWEEN_LARGE_BATCHES);
            }
        }
    }

    #[test]
    fn a_log_that_has_been_moved_begins_anew_when_it_is_large_or_its_file_is() {
        let mut log = Log {
            pages: LOG_PAGES_MAX + 1,
            moved: LOG_PAGES_MAX,
            file_bytes: 64 << 20,
        };
        assert_eq!(log.next_step(10), Step::MoveRest);
        log.pages = 100;
        log.moved = 0;
        assert_eq!(log.next_step(10), Step::Nothing);
        log.file_bytes = LOG_FILE_BYTES_MAX + 1;
        assert_eq!(log.next_step(10), Step::MoveRest);
        log.pages = 2_000_000;
        assert_eq!(log.next_step(10), Step::Pass);
    }
}
