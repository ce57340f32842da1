//! Moving the write-ahead log into the file, without holding clients up.
//!
//! An automatic checkpoint runs within a commit, and lets whoever waits for that wait for the log's
//! pages to be written all over the file. So the bulk is done on a thread and a connection of its own,
//! by passive passes, which hold nobody up. Under steady load these never reach the end of the log, so
//! it would grow for ever; when it has become large, the rest is moved between two batches, and the
//! next one begins the log anew.

use super::SqliteStore;
use super::open::{BUSY_TIMEOUT, Options, set_synchronous};
use crate::coordinate::StorageError;
use rusqlite::Connection;
use std::path::Path;
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

/// Pages in the log beyond which the thread is told to make way, and what is left is moved between two
/// batches, however much it is: 1 GiB. That far it comes only where the disk is too slow for the thread
/// to keep up for long.
const LOG_PAGES_AT_ANY_PRICE: i64 = 256_000;

const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// The thread that runs passive passes, one at a time.
pub(super) struct Checkpointer {
    passes: Option<SyncSender<()>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Commits until the next look.
    commits_left: u32,
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
    fn note(&self, error: rusqlite::Error) {
        let error = StorageError::from(error);
        tracing::warn!(%error, "checkpoint failed");
        if matches!(error, StorageError::Unknown(_)) {
            // Only the first one counts.
            let _ = self.failure.set(error);
        }
    }
}

impl Checkpointer {
    /// Starts the thread for the database at `path`.
    pub(super) fn start(path: &Path, options: &Options) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
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
        })
    }

    /// Why nothing may be committed any more, if that is so.
    pub(super) fn failure(&self) -> Option<&StorageError> {
        self.shared.failure.get()
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
                    shared.note(error);
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

impl SqliteStore {
    /// Sees to the log, after a commit that wrote to it. That stands, whatever becomes of this.
    pub(super) fn tend_log(&mut self) {
        if let Err(error) = self.look_at_log()
            && let Some(checkpointer) = &self.checkpointer
        {
            checkpointer.shared.note(error);
        }
    }

    fn look_at_log(&mut self) -> rusqlite::Result<()> {
        let Some(checkpointer) = &mut self.checkpointer else {
            return Ok(());
        };
        if checkpointer.commits_left > 0 {
            checkpointer.commits_left -= 1;
            return Ok(());
        }
        let look = self.statements.prepared("PRAGMA wal_checkpoint(NOOP)")?;
        let (pages, moved): (i64, i64) =
            look.query_row([], |row| Ok((row.get("log")?, row.get("checkpointed")?)))?;
        if pages < LOG_PAGES_MAX {
            checkpointer.commits_left = COMMITS_BETWEEN_LOOKS;
        }
        let left = pages - moved;
        let at_any_price = pages > LOG_PAGES_AT_ANY_PRICE;
        let shared = &checkpointer.shared;
        shared.must_make_way.store(at_any_price, Ordering::Relaxed);
        let thread = checkpointer.thread.as_ref();
        let is_alive = thread.is_some_and(|thread| !thread.is_finished());
        if at_any_price && is_alive && shared.is_running.load(Ordering::Relaxed) {
            return Ok(());
        }
        if at_any_price || pages > LOG_PAGES_MAX && left < PAGES_BETWEEN_BATCHES {
            self.statements
                .prepared(PASSIVE)?
                .query_row([], |_| Ok(()))?;
        } else if left > PAGES_FOR_A_PASS {
            checkpointer.request_pass();
        }
        Ok(())
    }
}
