//! The file of the write-ahead log, to which a commit is written by one call of the system.
//!
//! SQLite writes each page of a commit by two calls, its frame's header and its content: ten for a get_work,
//! hundreds for a batch, of which each takes longer than copying what it writes. So the connection that writes
//! opens its log through a VFS that puts together what follows on one another, and hands it on with the frame
//! that ends a transaction, or before anything else is done to the file. What SQLite is told stays true where
//! it matters: a commit is in the file before the call that writes its last frame returns, so before it is
//! synced, and before other connections hear of it. Until then the frames are nobody's but the transaction's,
//! which fails as a whole if they can't be written. What is left of one that is rolled back is forgotten: its place
//! in the log may be another program's by the time of the next write.
//!
//! All other files, and all else of this one, are left to the default VFS.

use rusqlite::ffi::{self, sqlite3, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_vfs};
use rusqlite::{Connection, OpenFlags};
use std::ffi::{CStr, c_int, c_void};
use std::path::Path;
use std::sync::OnceLock;

/// The name of the VFS, for opening a connection.
const NAME: &CStr = c"coordinated";

/// Bytes that are handed on at the latest, once there are so many. With another frame that is still less than the
/// 128 KiB which are the most that SQLite's VFS for Unix writes in one call.
const KEPT_MAX: usize = 56 * 1024;

/// What comes before each page in the log: the page's number, then, if the page is the last one of a commit, how
/// many pages the database has then, and 0 otherwise; then what is of no interest here. See "The WAL File
/// Format" in SQLite's documentation.
const FRAME_HEADER: usize = 24;
const SIZE_AFTER_COMMIT: std::ops::Range<usize> = 4..8;

/// The VFS that ours hands everything on to.
struct DefaultVfs(*mut sqlite3_vfs);

// SAFETY: SQLite uses a VFS from all threads, and one that is registered stays.
unsafe impl Send for DefaultVfs {}
// SAFETY: as above.
unsafe impl Sync for DefaultVfs {}

static DEFAULT: OnceLock<DefaultVfs> = OnceLock::new();

/// Opens a connection that writes its log with fewer calls.
///
/// # Errors
/// As [`Connection::open`].
pub(super) fn open_to_write(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags_and_vfs(path, OpenFlags::default(), vfs()?)?;
    // SAFETY: the handle is only used by the hook, which ends with the connection.
    let handle = Handle(unsafe { connection.handle() });
    connection.rollback_hook(Some(move || handle.forget_what_is_kept()))?;
    Ok(connection)
}

/// The connection whose hook it is for.
struct Handle(*mut sqlite3);

// SAFETY: the hook is called by its connection, on whichever thread that is used.
unsafe impl Send for Handle {}

impl Handle {
    /// Forgets the frames of the transaction that has been rolled back. Those that were handed on are behind the
    /// end of the log, where they mean nothing.
    fn forget_what_is_kept(&self) {
        let mut log: *mut sqlite3_file = std::ptr::null_mut();
        // SAFETY: the connection is open, and gives the file of its log while it has one. If that has our methods
        // it is ours, and nothing else is done to it meanwhile.
        unsafe {
            let journal = ffi::SQLITE_FCNTL_JOURNAL_POINTER;
            ffi::sqlite3_file_control(self.0, c"main".as_ptr(), journal, (&raw mut log).cast());
            if !log.is_null() && std::ptr::eq((*log).pMethods, &METHODS) {
                *kept(log) = Kept::default();
            }
        }
    }
}

/// The name of the VFS by which the log is written with fewer calls.
///
/// # Errors
/// None but if SQLite can't start at all.
fn vfs() -> rusqlite::Result<&'static CStr> {
    static REGISTERED: OnceLock<c_int> = OnceLock::new();
    let result = *REGISTERED.get_or_init(|| {
        // SAFETY: starting SQLite twice does nothing; the default VFS stays, and so does its copy, which is leaked.
        // Its methods find what they need in the fields that are copied.
        unsafe {
            let result = ffi::sqlite3_initialize();
            let default = ffi::sqlite3_vfs_find(std::ptr::null());
            if result != ffi::SQLITE_OK || default.is_null() {
                return result.max(ffi::SQLITE_ERROR);
            }
            let ours = Box::leak(Box::new(*default));
            ours.zName = NAME.as_ptr();
            ours.szOsFile += const { size_of::<LogFile>() as c_int };
            ours.pNext = std::ptr::null_mut();
            ours.xOpen = Some(open);
            DEFAULT.get_or_init(|| DefaultVfs(default));
            ffi::sqlite3_vfs_register(ours, 0)
        }
    });
    match result {
        ffi::SQLITE_OK => Ok(NAME),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

/// An open log. The default VFS's own follows it in memory.
#[repr(C)]
struct LogFile {
    base: sqlite3_file,
    kept: Kept,
}

/// What is written to the log but not handed on yet: frames that follow on one another.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Where these belong.
    offset: sqlite3_int64,
    /// Where the last write ended, kept or not.
    end: sqlite3_int64,
    /// What comes next, if a frame's header was the last that is kept.
    page: Option<Page>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    OfMany,
    LastOfCommit,
}

/// What to do with a write.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is kept.
    Keep,
    /// It is kept, and now it is time to hand all of it on.
    HandOn,
    /// It is not kept: what is has to be handed on, then this.
    PassOn,
}

impl Kept {
    /// Keeps what is written, if that is a frame that follows on what was written before. Anything else is passed
    /// on as it comes: the log's own header, the first frame after it was opened, frames that are written again
    /// because their transaction had more pages than SQLite keeps in memory.
    fn push(&mut self, bytes: &[u8], offset: sqlite3_int64) -> Step {
        let follows = offset == self.end;
        self.end = offset + bytes.len() as sqlite3_int64;
        let page = self.page.take();
        let is_header = page.is_none() && bytes.len() == FRAME_HEADER;
        if !follows || page.is_none() && !is_header {
            return Step::PassOn;
        }
        if self.bytes.is_empty() {
            self.offset = offset;
        }
        self.bytes.extend_from_slice(bytes);
        if is_header {
            let is_last = bytes[SIZE_AFTER_COMMIT] != [0; 4];
            self.page = Some(if is_last {
                Page::LastOfCommit
            } else {
                Page::OfMany
            });
            Step::Keep
        } else if page == Some(Page::LastOfCommit) || self.bytes.len() >= KEPT_MAX {
            Step::HandOn
        } else {
            Step::Keep
        }
    }
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let Some(DefaultVfs(default)) = DEFAULT.get() else {
        return ffi::SQLITE_CANTOPEN;
    };
    // SAFETY: the arguments are SQLite's, and there is room at `file` for ours and the default's.
    unsafe {
        let Some(open) = (**default).xOpen else {
            return ffi::SQLITE_CANTOPEN;
        };
        if flags & ffi::SQLITE_OPEN_WAL == 0 {
            return open(*default, name, file, flags, flags_out);
        }
        (*file).pMethods = std::ptr::null();
        (*inner(file)).pMethods = std::ptr::null();
        let result = open(*default, name, inner(file), flags, flags_out);
        if result == ffi::SQLITE_OK {
            file.cast::<LogFile>().write(LogFile {
                base: sqlite3_file { pMethods: &METHODS },
                kept: Kept::default(),
            });
        }
        result
    }
}

/// What is kept for a file.
///
/// # Safety
/// The file was opened by `open` and is not closed. SQLite uses a file for one thing at a time, so that nobody else
/// has the reference.
unsafe fn kept<'a>(file: *mut sqlite3_file) -> &'a mut Kept {
    // SAFETY: it is one of ours, so that is where it is.
    unsafe { &mut (*file.cast::<LogFile>()).kept }
}

/// The default VFS's file.
///
/// # Safety
/// `file` has as much room as our VFS asks for.
unsafe fn inner(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` has room for both.
    unsafe { file.cast::<LogFile>().add(1).cast() }
}

/// Calls the method of the default VFS's file.
macro_rules! inner {
    ($file:ident . $method:ident ($($argument:expr),*)) => {
        // SAFETY: the arguments are SQLite's or valid as SQLite's, and the file is open as long as ours.
        unsafe {
            let file = inner($file);
            match (*(*file).pMethods).$method {
                Some(method) => method(file $(, $argument)*),
                None => ffi::SQLITE_IOERR,
            }
        }
    };
}

/// Hands on what is kept. Whether that succeeds or not, nothing is kept then: SQLite gives up the transaction
/// that it belongs to.
fn hand_on(file: *mut sqlite3_file, kept: &mut Kept) -> c_int {
    if kept.bytes.is_empty() {
        return ffi::SQLITE_OK;
    }
    let Ok(length) = c_int::try_from(kept.bytes.len()) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    let result = inner!(file.xWrite(kept.bytes.as_ptr().cast(), length, kept.offset));
    kept.bytes.clear();
    result
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: the file is ours, and SQLite gives as many bytes as it says.
    let (kept, content) = unsafe {
        let content = bytes.cast::<u8>();
        let length = usize::try_from(length).unwrap_or(0);
        (kept(file), std::slice::from_raw_parts(content, length))
    };
    match kept.push(content, offset) {
        Step::Keep => ffi::SQLITE_OK,
        Step::HandOn => hand_on(file, kept),
        Step::PassOn => match hand_on(file, kept) {
            ffi::SQLITE_OK => inner!(file.xWrite(bytes, length, offset)),
            failed => failed,
        },
    }
}

/// A method that first hands on what is kept, and then calls the default's.
macro_rules! after_what_is_kept {
    ($name:ident($($argument:ident: $type:ty),*) calls $method:ident) => {
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $argument: $type)*) -> c_int {
            // SAFETY: the file is ours.
            match hand_on(file, unsafe { kept(file) }) {
                ffi::SQLITE_OK => inner!(file.$method($($argument),*)),
                failed => failed,
            }
        }
    };
}

after_what_is_kept!(read(to: *mut c_void, length: c_int, offset: sqlite3_int64) calls xRead);
after_what_is_kept!(truncate(size: sqlite3_int64) calls xTruncate);
after_what_is_kept!(sync(flags: c_int) calls xSync);
after_what_is_kept!(file_size(size: *mut sqlite3_int64) calls xFileSize);

/// What is kept then is of a transaction that was not committed.
unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let closed = inner!(file.xClose());
    // SAFETY: the file is ours, and SQLite closes it once and doesn't look at it afterwards.
    unsafe { std::ptr::drop_in_place(kept(file)) };
    closed
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    inner!(file.xLock(level))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    inner!(file.xUnlock(level))
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, is_held: *mut c_int) -> c_int {
    inner!(file.xCheckReservedLock(is_held))
}

unsafe extern "C" fn file_control(
    file: *mut sqlite3_file,
    what: c_int,
    argument: *mut c_void,
) -> c_int {
    inner!(file.xFileControl(what, argument))
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    inner!(file.xSectorSize())
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    inner!(file.xDeviceCharacteristics())
}

/// Version 1: no memory is mapped or shared through a log.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: [u8; 4096] = [7; 4096];

    fn header(size_after_commit: u32) -> [u8; FRAME_HEADER] {
        let mut header = [0; FRAME_HEADER];
        header[SIZE_AFTER_COMMIT].copy_from_slice(&size_after_commit.to_be_bytes());
        header
    }

    #[test]
    fn the_frames_of_a_commit_are_handed_on_together_with_its_last_one() {
        let mut kept = Kept::default();
        let log_header = [1; 32];
        assert_eq!(kept.push(&log_header, 0), Step::PassOn);
        assert_eq!(kept.push(&header(0), 32), Step::Keep);
        assert_eq!(kept.push(&PAGE, 56), Step::Keep);
        assert_eq!(kept.push(&header(9), 4152), Step::Keep);
        assert_eq!(kept.push(&PAGE, 4176), Step::HandOn);
        let frames = [&header(0)[..], &PAGE, &header(9), &PAGE].concat();
        assert_eq!((kept.offset, kept.bytes), (32, frames));
    }

    #[test]
    fn frames_without_end_are_handed_on_when_there_are_many() {
        let mut kept = Kept::default();
        let mut offset = 0;
        let mut frames = 0;
        loop {
            assert_eq!(kept.push(&header(0), offset), Step::Keep);
            let step = kept.push(&PAGE, offset + 24);
            offset += 24 + 4096;
            frames += 1;
            if step == Step::HandOn {
                break;
            }
        }
        assert_eq!(frames, 14);
        assert_eq!(kept.bytes.len(), 14 * (24 + 4096));
    }

    #[test]
    fn what_does_not_follow_on_the_write_before_is_passed_on_with_what_comes_after_it() {
        let mut kept = Kept::default();
        // A header that is written again, for its page is in the file already.
        assert_eq!(kept.push(&header(9), 4152), Step::PassOn);
        // The first frame of a log that was there.
        assert_eq!(kept.push(&header(9), 80_000), Step::PassOn);
        assert_eq!(kept.push(&PAGE, 80_024), Step::PassOn);
        assert_eq!(kept.push(&header(9), 84_120), Step::Keep);
        // A page that is written again.
        assert_eq!(kept.push(&PAGE, 56), Step::PassOn);
    }

    fn rows_in_copy(database: &Path) -> (i64, String) {
        let copy = tempfile::tempdir().expect("a folder");
        let to = copy.path().join("copy.db");
        std::fs::copy(database, &to).expect("a copy");
        let log = |path: &Path| path.with_extension("db-wal");
        std::fs::copy(log(database), log(&to)).expect("a copy of the log");
        let copy = Connection::open(to).expect("a database");
        let rows = copy.query_row("SELECT count(*) FROM t", [], |row| row.get(0));
        let check = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0));
        (rows.expect("a count"), check.expect("a check"))
    }

    #[test]
    fn a_commit_is_in_the_files_when_it_returns_though_it_is_not_synced_and_pages_were_written_twice()
     {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log.db");
        let db = open_to_write(&path).expect("a database");
        // So few pages are kept in memory that those of a large transaction are written before its commit, some
        // of them twice, and the headers of their frames once more.
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = 10;
             PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (n, x); CREATE INDEX i ON t (x);",
        )
        .expect("tables");
        for (rows, after) in [(1, 1), (3_000, 3_001), (1, 3_002), (500, 3_502)] {
            db.execute_batch("BEGIN").expect("a transaction");
            for n in 0..rows {
                let insert = "INSERT INTO t VALUES (?1, hex(randomblob(60)))";
                db.execute(insert, [n]).expect("a row");
            }
            if rows > 1 {
                assert_ne!(rows_in_copy(&path).0, after, "nothing of it stands yet");
            }
            db.execute_batch("COMMIT").expect("a commit");
            assert_eq!(rows_in_copy(&path), (after, "ok".to_owned()));
        }
        let rolled_back = "BEGIN; DELETE FROM t; ROLLBACK; INSERT INTO t VALUES (0, 'after')";
        db.execute_batch(rolled_back).expect("one more row");
        assert_eq!(rows_in_copy(&path), (3_503, "ok".to_owned()));
    }

    #[test]
    fn what_is_kept_of_a_transaction_that_is_rolled_back_is_never_written_over_what_others_commit()
    {
        // As many rows as fill one to many of the pages that are kept, in each way in which they can end.
        for rows in (100..3_000).step_by(97) {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("log.db");
            let ours = open_to_write(&path).expect("a database");
            ours.execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = 10;
                 PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (n INTEGER PRIMARY KEY, x);
                 WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000)
                 INSERT INTO t SELECT n, hex(zeroblob(100)) FROM c;
                 PRAGMA wal_checkpoint(TRUNCATE); BEGIN IMMEDIATE;",
            )
            .expect("a table");
            let update = "UPDATE t SET x = 'undone' || x WHERE n <= ?1";
            ours.execute(update, [rows]).expect("an update");
            // By itself, or by a failure.
            let undo = ["ROLLBACK", "INSERT OR ROLLBACK INTO t VALUES (1, 'twice')"][rows % 2];
            let _ = ours.execute(undo, []);
            assert!(ours.is_autocommit());
            let other = Connection::open(&path).expect("another connection");
            other
                .execute_batch("PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = NORMAL")
                .expect("settings");
            let update = "UPDATE t SET x = 'other' || x WHERE n % 30 < 20";
            other.execute(update, []).expect("an update");
            ours.execute("INSERT INTO t VALUES (10000, 'ours')", [])
                .expect("a row");
            let count = |which: &str| {
                let sql = format!("SELECT count(*) FROM t WHERE x LIKE '{which}%'");
                other.query_row(&sql, [], |row| row.get::<_, i64>(0))
            };
            let counts = ["other", "undone", "ours"].map(|which| count(which).expect("a count"));
            assert_eq!(counts, [2_000, 0, 1], "{rows}");
            assert_eq!(rows_in_copy(&path), (3_001, "ok".to_owned()), "{rows}");
        }
    }
}
