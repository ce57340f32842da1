//! Moving the write-ahead log (WAL) into the database without making clients wait.
//!
//! An automatic checkpoint runs within a commit, and everybody who waits for that commit also waits for the pages to be
//! written all over the database. So most of the work is done on a thread and a connection of its own, by passive
//! checkpoints, which block nobody. Under steady load these never reach the end of the WAL, so it would grow without
//! bound. When it has become large and few pages are left to move, the rest is moved between two batches, and the next
//! batch writes at the beginning of the WAL again. No more than these few pages are ever moved between batches.
//!
//! The WAL can't be reset while another program reads in a transaction that began earlier, and only that program can
//! end it. So the daemon warns each time the WAL has grown by much, and stops writing at a limit: a visible error is
//! better than a full disk. When that transaction has ended, the thread catches up, and the WAL's file is truncated in
//! pieces, one each time that the WAL is reset.

use super::error::full_if_beyond_limit;
use super::file::{BUSY_TIMEOUT, DatabaseFile};
use super::options::{Options, Synchronous, set_synchronous};
use super::statement::Statements;
use crate::coordinate::StorageError;
use crate::coordinate::storage::{StorageResult, WalPages};
use rusqlite::{Connection, OpenFlags, ffi};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

/// Commits between two looks at a WAL that is not large: a look costs as much as a short statement.
const COMMITS_BETWEEN_LOOKS: u32 = 16;

/// Pages left to move that are worth a pass, 16 MiB: each pass syncs the database, and commits that sync the WAL at the
/// same time take longer.
const PAGES_FOR_A_PASS: i64 = 4_000;

/// Pages in the WAL beyond which it should be reset: 64 MiB.
const WAL_PAGES_MAX: i64 = 16_000;

/// Pages that may be moved between two batches: a few milliseconds.
const PAGES_BETWEEN_BATCHES: i64 = 1_500;

/// The same after a large batch, as a multiple of the pages that it wrote: nobody expects the next batch to be quick,
/// and the thread can't come closer to the end of the WAL than a batch or two.
const BATCHES_BETWEEN_BATCHES: i64 = 4;

/// But never more pages than this: some ten milliseconds.
const PAGES_BETWEEN_LARGE_BATCHES: i64 = 6_000;

/// Size of the WAL's file in bytes beyond which it is truncated when the WAL is reset: 128 MiB, twice its usual size.
const WAL_FILE_BYTES_MAX: u64 = 128 << 20;

/// Bytes that are cut off at a time: some ten milliseconds, since the system has to drop their pages from its cache.
const CUT_BYTES: u64 = 32 << 20;

/// Bytes of a page in the WAL: a header, and the page, which has the default size in our files.
const PAGE_BYTES: u64 = 24 + 4096;

/// How often the daemon warns before the WAL reaches its limit.
const WARNINGS: i64 = 8;

/// Moves nothing, and tells how long the WAL is.
const LOOK: &str = "PRAGMA wal_checkpoint(NOOP)";

const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// The thread that runs passes, which are passive checkpoints, one at a time.
pub(super) struct Checkpointer {
    passes: Option<SyncSender<()>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Commits until the next look.
    commits_left: u32,
    /// Pages in the WAL at the last look.
    wal_pages: i64,
    /// Pages in the WAL beyond which nothing is written.
    wal_pages_max: i64,
    /// Pages in the WAL at which to warn next.
    warn_at: i64,
    /// The WAL's file.
    path: PathBuf,
}

/// How large the WAL is.
#[derive(Clone, Copy, Debug)]
struct Wal {
    pages: i64,
    /// How many of them have been moved into the database.
    moved: i64,
    /// The size of its file.
    file_bytes: u64,
}

/// What to do about the WAL between two batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Let the thread make a pass.
    Pass,
    /// Move now what is left.
    MoveRest,
}

impl Wal {
    fn left(self) -> i64 {
        self.pages - self.moved
    }

    /// True if the file should be truncated.
    fn is_oversized(self) -> bool {
        self.file_bytes > WAL_FILE_BYTES_MAX
    }

    /// What to do, given how many pages were written since the last look.
    fn next_step(self, written: i64) -> Step {
        let movable = (written * BATCHES_BETWEEN_BATCHES)
            .clamp(PAGES_BETWEEN_BATCHES, PAGES_BETWEEN_LARGE_BATCHES);
        if (self.pages > WAL_PAGES_MAX || self.is_oversized()) && self.left() < movable {
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
    /// The failure after which nobody knows what is on the disk: a later sync may seem to succeed although pages are
    /// lost, and the WAL, which still has them, would then be overwritten.
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
            wal_pages: 0,
            wal_pages_max: i64::try_from(options.wal_bytes_max / PAGE_BYTES).unwrap_or(i64::MAX),
            warn_at: 0,
            path: file.wal(),
        })
    }

    /// Remembers the size of the WAL, and warns when it has grown by much.
    fn note_size(&mut self, pages: i64, moved: i64) {
        let step = (self.wal_pages_max / WARNINGS).max(1);
        if pages < self.wal_pages || self.warn_at == 0 {
            self.warn_at = step;
        }
        self.wal_pages = pages;
        if pages < self.warn_at {
            return;
        }
        self.warn_at = (pages / step + 1).saturating_mul(step);
        tracing::warn!(
            wal_mib = mib(pages),
            to_be_moved_mib = mib(pages - moved),
            limit_mib = mib(self.wal_pages_max),
            "the write-ahead log grows and can't be reset: most likely another program (sqlite3?) reads the database \
             in a transaction that does not end; end it"
        );
    }

    /// Why nothing may be committed any more, after a failure.
    pub(super) fn failure(&self) -> Option<&StorageError> {
        self.shared.failure.get()
    }

    fn request_pass(&self) {
        if !self.shared.is_running.swap(true, Ordering::Relaxed)
            && let Some(passes) = &self.passes
        {
            // It fails only if the thread has panicked. Then the WAL grows to its limit.
            let _ = passes.try_send(());
        }
    }
}

/// Makes a pass each time one is requested.
///
/// SQLite syncs the database only if a pass reaches the end of the WAL, which under load happens between two batches. So
/// each pass syncs what it has moved; otherwise clients would wait for all of it there.
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
        // What was written during a pass is left for the next one, which is shorter.
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
    // SAFETY: the connection is open, so SQLite returns its open file, whose methods are valid; only this thread uses
    // the connection.
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
            // Nothing is lost if a pass fails.
            let _ = thread.join();
        }
    }
}

/// The size of pages in the WAL, rounded to MiB.
fn mib(pages: i64) -> u64 {
    let bytes = u64::try_from(pages).unwrap_or(0).saturating_mul(PAGE_BYTES);
    bytes.saturating_add(1 << 19) >> 20
}

/// The pages in the WAL, and how many of them have been moved into the database.
fn wal_pages(statements: &mut Statements) -> rusqlite::Result<(i64, i64)> {
    statements
        .prepared(LOOK)?
        .query_row(&[], |row| Ok((row.get("log")?, row.get("checkpointed")?)))
}

impl Checkpointer {
    /// Refuses to write while the WAL is beyond its limit and can't be reset.
    ///
    /// # Errors
    /// `Busy` if so.
    pub(super) fn check_wal_size(&mut self, statements: &mut Statements) -> StorageResult<()> {
        if self.wal_pages <= self.wal_pages_max {
            return Ok(());
        }
        let (pages, moved) = wal_pages(statements)?;
        if pages - moved <= PAGES_BETWEEN_LARGE_BATCHES {
            let restart = "PRAGMA wal_checkpoint(RESTART)";
            let connection = statements.connection();
            if !connection.query_row(restart, [], |row| row.get::<_, bool>("busy"))? {
                self.wal_pages = 0;
                return Ok(());
            }
        } else {
            self.request_pass();
        }
        Err(StorageError::Busy(format!(
            "the write-ahead log has reached its limit of {} MiB and can't be reset: most likely another program \
             reads the database in a transaction that does not end; end it",
            mib(self.wal_pages_max)
        )))
    }

    /// Keeps the WAL short, after a commit that wrote to it. A failure does not affect that commit.
    pub(super) fn tend_wal(&mut self, statements: &mut Statements) {
        if let Err(error) = self.look_at_wal(statements) {
            self.shared.note(statements.connection(), error);
        }
    }

    fn look_at_wal(&mut self, statements: &mut Statements) -> rusqlite::Result<()> {
        if self.commits_left > 0 {
            self.commits_left -= 1;
            return Ok(());
        }
        let (pages, moved) = wal_pages(statements)?;
        let file = std::fs::metadata(&self.path);
        let wal = Wal {
            pages,
            moved,
            file_bytes: file.map_or(0, |file| file.len()),
        };
        let written = pages - self.wal_pages;
        self.note_size(pages, moved);
        if pages < WAL_PAGES_MAX {
            self.commits_left = COMMITS_BETWEEN_LOOKS;
        }
        match wal.next_step(written) {
            Step::Nothing => {}
            Step::Pass => self.request_pass(),
            Step::MoveRest => {
                if wal.is_oversized() {
                    let size = WAL_FILE_BYTES_MAX.max(wal.file_bytes - CUT_BYTES);
                    let connection = statements.connection();
                    connection.pragma_update(None, "journal_size_limit", size)?;
                }
                statements.prepared(PASSIVE)?.query_row(&[], |_| Ok(()))?;
            }
        }
        Ok(())
    }
}

/// The length of the WAL, for statistics.
pub(super) fn count_wal_pages(statements: &mut Statements) -> rusqlite::Result<WalPages> {
    let (pages, moved) = wal_pages(statements)?;
    // -1 before the WAL is used for the first time.
    let count = |pages| u64::try_from(pages).unwrap_or(0);
    Ok(WalPages {
        pages: count(pages),
        in_file: count(moved),
    })
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
            let wal = Wal { pages, moved: moved.min(pages), file_bytes };
            if wal.next_step(written) == Step::MoveRest {
                prop_assert!(wal.left() <= PAGES_BETWEEN_LARGE_BATCHES);
            }
        }
    }

    #[test]
    fn a_wal_that_has_been_moved_is_reset_when_it_or_its_file_is_large() {
        let mut wal = Wal {
            pages: WAL_PAGES_MAX + 1,
            moved: WAL_PAGES_MAX,
            file_bytes: 64 << 20,
        };
        assert_eq!(wal.next_step(10), Step::MoveRest);
        wal.pages = 100;
        wal.moved = 0;
        assert_eq!(wal.next_step(10), Step::Nothing);
        wal.file_bytes = WAL_FILE_BYTES_MAX + 1;
        assert_eq!(wal.next_step(10), Step::MoveRest);
        wal.pages = 2_000_000;
        assert_eq!(wal.next_step(10), Step::Pass);
    }
}
