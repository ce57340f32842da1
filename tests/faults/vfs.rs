//! An SQLite VFS that asks a [`Disk`] before each call, tells it what was done, and leaves the rest
//! (locks, shared memory, the files themselves) to the system's own VFS.
//!
//! It becomes the default one of this program, so the daemon's code opens its files through it without
//! knowing. Files in folders that no disk stands for are the system's alone.

use super::disk::{Call, Disk, Event, Failure};
use rusqlite::ffi::{self, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_vfs};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

/// Makes it the default VFS.
pub fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // SAFETY: the system's VFS is there for as long as the program, and so is its copy, which is
        // leaked. Its methods take what they need from the copied fields.
        let result = unsafe {
            let system = ffi::sqlite3_vfs_find(std::ptr::null());
            let ours = Box::leak(Box::new(*system));
            ours.zName = c"faulty".as_ptr();
            ours.szOsFile += c_int::try_from(size_of::<File>()).expect("a small number");
            ours.pNext = std::ptr::null_mut();
            ours.xOpen = Some(open);
            ours.xDelete = Some(delete);
            ffi::sqlite3_vfs_register(ours, 1)
        };
        assert_eq!(result, ffi::SQLITE_OK);
    });
}

/// The system's VFS.
unsafe fn system() -> *mut sqlite3_vfs {
    // SAFETY: the name is a C string.
    unsafe { ffi::sqlite3_vfs_find(c"unix".as_ptr()) }
}

/// An open file. The system's own follows it in memory.
#[repr(C)]
struct File {
    base: sqlite3_file,
    /// Owned; null if no disk stands for the file's folder.
    disk: *const Disk,
    number: usize,
    /// True if the first sync of the file syncs the names in its folder too, as the system's VFS does
    /// for journals.
    syncs_names: bool,
}

unsafe fn ours<'a>(file: *mut sqlite3_file) -> &'a mut File {
    // SAFETY: every file with our methods was made by `open`.
    unsafe { &mut *file.cast::<File>() }
}

unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` has room for both.
    unsafe { file.cast::<File>().add(1).cast() }
}

unsafe fn disk<'a>(file: *mut sqlite3_file) -> Option<&'a Disk> {
    // SAFETY: it is owned by the file until that is closed.
    unsafe { ours(file).disk.as_ref() }
}

unsafe fn path_of(name: *const c_char) -> Option<PathBuf> {
    if name.is_null() {
        return None;
    }
    // SAFETY: SQLite gives C strings.
    let name = unsafe { CStr::from_ptr(name) };
    Some(Path::new(name.to_str().expect("a name in UTF-8")).to_owned())
}

/// Calls the system's method of the same name.
macro_rules! pass_on {
    ($file:ident . $method:ident ($($argument:expr),*)) => {
        // SAFETY: the arguments are SQLite's, and the system's file is open as long as ours.
        unsafe {
            let file = real($file);
            (*(*file).pMethods).$method.expect("a method")(file $(, $argument)*)
        }
    };
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives room for the file, and a name that it keeps as long as the file is open.
    unsafe {
        (*file).pMethods = std::ptr::null();
        let path = path_of(name);
        let disk = path.as_deref().and_then(Disk::of);
        if let Some(disk) = &disk
            && disk.enter(Call::Open, path.as_deref()).is_err()
        {
            return ffi::SQLITE_CANTOPEN;
        }
        let vfs = system();
        (*real(file)).pMethods = std::ptr::null();
        let result = (*vfs).xOpen.expect("a method")(vfs, name, real(file), flags, flags_out);
        if result != ffi::SQLITE_OK {
            return result;
        }
        let number = match (&disk, &path) {
            (Some(disk), Some(path)) => disk.note_open(path),
            _ => 0,
        };
        let is_journal = flags & (ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL) != 0;
        file.cast::<File>().write(File {
            base: sqlite3_file { pMethods: &METHODS },
            disk: disk.map_or(std::ptr::null(), Arc::into_raw),
            number,
            syncs_names: is_journal && flags & ffi::SQLITE_OPEN_CREATE != 0,
        });
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync_names: c_int) -> c_int {
    // SAFETY: the name is SQLite's.
    unsafe {
        let path = path_of(name);
        let disk = path.as_deref().and_then(Disk::of);
        if let Some(disk) = &disk
            && disk.enter(Call::Delete, path.as_deref()).is_err()
        {
            return ffi::SQLITE_IOERR_DELETE;
        }
        let vfs = system();
        let result = (*vfs).xDelete.expect("a method")(vfs, name, 0);
        if let (Some(disk), Some(path), ffi::SQLITE_OK) = (disk, path, result) {
            disk.note_delete(&path, sync_names != 0);
        }
        result
    }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let result = pass_on!(file.xClose());
    // SAFETY: it came from an `Arc`, and SQLite closes a file once.
    unsafe {
        let disk = ours(file).disk;
        if !disk.is_null() {
            drop(Arc::from_raw(disk));
        }
    }
    result
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    buffer: *mut c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: the file is ours.
    unsafe {
        if let Some(disk) = disk(file)
            && disk.enter_file(Call::Read, ours(file).number).is_err()
        {
            return ffi::SQLITE_IOERR_READ;
        }
    }
    pass_on!(file.xRead(buffer, amount, offset))
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    buffer: *const c_void,
    amount: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: the file is ours.
    let (Some(disk), number) = (unsafe { (disk(file), ours(file).number) }) else {
        return pass_on!(file.xWrite(buffer, amount, offset));
    };
    let entered = disk.enter_file(Call::Write, number);
    let written = match entered {
        Ok(()) => amount,
        Err(Failure::Error) => 0,
        Err(Failure::Torn | Failure::Full | Failure::Quota) => amount / 2,
    };
    if written > 0 {
        let result = pass_on!(file.xWrite(buffer, written, offset));
        if result != ffi::SQLITE_OK {
            return result;
        }
        let length = usize::try_from(written).expect("a length");
        // SAFETY: the buffer has more, or as much.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) };
        disk.note(Event::Write {
            file: number,
            offset: u64::try_from(offset).expect("an offset"),
            bytes: bytes.to_vec(),
        });
    }
    match entered {
        Ok(()) => ffi::SQLITE_OK,
        Err(Failure::Error | Failure::Torn) => ffi::SQLITE_IOERR_WRITE,
        Err(Failure::Full) => ffi::SQLITE_FULL,
        Err(Failure::Quota) => {
            // SAFETY: it is this thread's own.
            unsafe { *libc::__errno_location() = libc::EDQUOT };
            ffi::SQLITE_IOERR_WRITE
        }
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, size: sqlite3_int64) -> c_int {
    // SAFETY: the file is ours.
    unsafe {
        if let Some(disk) = disk(file) {
            let number = ours(file).number;
            if disk.enter_file(Call::Truncate, number).is_err() {
                return ffi::SQLITE_IOERR_TRUNCATE;
            }
            disk.note(Event::Truncate {
                file: number,
                size: u64::try_from(size).expect("a size"),
            });
        }
    }
    pass_on!(file.xTruncate(size))
}

/// Syncs nothing in fact: power is cut only in play.
unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file is ours.
    let (Some(disk), file) = (unsafe { (disk(file), ours(file)) }) else {
        return pass_on!(file.xSync(flags));
    };
    let entered = disk.enter_file(Call::Sync, file.number);
    disk.note(Event::Sync {
        file: file.number,
        succeeds: entered.is_ok(),
        with_names: std::mem::take(&mut file.syncs_names),
    });
    match entered {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_IOERR_FSYNC,
    }
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    memory: *mut *mut c_void,
) -> c_int {
    // SAFETY: the file is ours, and SQLite gives a place for the answer.
    unsafe {
        if let Some(disk) = disk(file)
            && disk.enter_file(Call::MapShared, ours(file).number).is_err()
        {
            *memory = std::ptr::null_mut();
            return ffi::SQLITE_IOERR_SHMMAP;
        }
    }
    pass_on!(file.xShmMap(region, size, extend, memory))
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    pass_on!(file.xFileSize(size))
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    pass_on!(file.xLock(level))
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    pass_on!(file.xUnlock(level))
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, is_held: *mut c_int) -> c_int {
    pass_on!(file.xCheckReservedLock(is_held))
}

unsafe extern "C" fn file_control(
    file: *mut sqlite3_file,
    what: c_int,
    argument: *mut c_void,
) -> c_int {
    pass_on!(file.xFileControl(what, argument))
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    pass_on!(file.xSectorSize())
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    pass_on!(file.xDeviceCharacteristics())
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    pass_on!(file.xShmLock(first, count, flags))
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    pass_on!(file.xShmBarrier());
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    pass_on!(file.xShmUnmap(delete))
}

/// Version 2: files are not mapped into memory, so every read and write goes by here.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
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
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};
