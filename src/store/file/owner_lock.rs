//! The lock of the one daemon, or command that changes a file, that owns a database.
//!
//! It is on two files. The one beside the database, whose name ends in `-lock`, stands for the place: what SQLite
//! keeps there, and what is to be put there. It tells the owner's process id. The one on the database itself stands
//! for the file, whatever it is called: it may have been moved away under its owner. Both go with the process, however
//! that ends; the file beside the database is removed unless the process was killed.

use super::database_file::{DatabaseFile, is_at};
use super::error::OpenError;
use crate::id_file::{self, IdFile};
use rustix::io::Errno;
use rustix::process::test_kill_process;
use std::ffi::c_int;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

/// The mode of the files that are made: whoever reads them reads everything.
const PRIVATE: u32 = 0o600;

/// The byte of the database that is locked: far behind those that SQLite locks, so that neither is in the other's way.
const LOCKED_BYTE: libc::off_t = libc::off_t::MAX - 1;

/// Held as long as the database is owned.
///
/// It has to be dropped after all connections to the database: closing any descriptor of a file, as this does, takes
/// away the locks that SQLite holds on it for the process.
pub(crate) struct OwnerLock {
    place: IdFile,
    place_path: PathBuf,
    /// The database; `None` if it was not there.
    database: Option<File>,
}

/// Where a file is whose owner has it open.
pub(crate) enum Place {
    Known(PathBuf),
    /// It has a name, which the system does not tell. This is its inode number.
    Unknown(u64),
    /// It has no name, and goes when it is closed.
    Deleted,
}

impl OwnerLock {
    /// Locks a place, and the database if there is one.
    ///
    /// # Errors
    /// `InUse` if another process owns either; `CannotOpen`.
    pub(crate) fn take(file: &DatabaseFile) -> Result<Self, OpenError> {
        let mut lock = Self::take_place(file)?;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(file.path());
        lock.database = match opened {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            opened => Some(opened.map_err(|error| cannot_open(file, &error))?),
        };
        lock.lock_database(file)?;
        Ok(lock)
    }

    /// The same, but makes an empty file that only its owner can read if there is none.
    ///
    /// # Errors
    /// As [`OwnerLock::take`].
    pub(crate) fn take_or_make(file: &DatabaseFile) -> Result<Self, OpenError> {
        let mut lock = Self::take(file)?;
        if lock.database.is_none() {
            // SQLite gives the files beside this one the same mode.
            lock.database = Some(make_private(file).map_err(|error| cannot_open(file, &error))?);
            lock.lock_database(file)?;
        }
        Ok(lock)
    }

    /// True if the process that owns a database seems to live. It may be another one that has got its number,
    /// but to try the lock could keep a daemon from starting.
    pub(crate) fn has_living_owner(file: &DatabaseFile) -> bool {
        let owner = id_file::read(&place_path(file));
        owner.is_some_and(|owner| {
            // A process of another user lives, but may not be sent signals.
            matches!(test_kill_process(owner), Ok(()) | Err(Errno::PERM))
        })
    }

    /// Where the database is by now.
    pub(crate) fn place(&self) -> Place {
        let Some((database, metadata)) = self
            .database
            .as_ref()
            .and_then(|database| Some((database, database.metadata().ok()?)))
        else {
            return Place::Deleted;
        };
        if metadata.nlink() == 0 {
            return Place::Deleted;
        }
        let link = format!("/proc/self/fd/{}", database.as_raw_fd());
        match std::fs::read_link(link) {
            Ok(path) if is_at(&metadata, &path) => Place::Known(path),
            _ => Place::Unknown(metadata.ino()),
        }
    }

    fn take_place(file: &DatabaseFile) -> Result<Self, OpenError> {
        let path = place_path(file);
        let cannot_open = |error: io::Error| cannot_open(file, &error);
        loop {
            let mut place = IdFile::open(&path, PRIVATE).map_err(cannot_open)?;
            match place.file().try_lock() {
                Ok(()) => {
                    // It may have been removed by its last owner after it was opened here.
                    if !is_at(&place.file().metadata().map_err(cannot_open)?, &path) {
                        continue;
                    }
                    // Without room for it, a second daemon can't say who has the database: no reason
                    // not to start.
                    let _ = place.write_own();
                    return Ok(Self {
                        place,
                        place_path: path,
                        database: None,
                    });
                }
                Err(TryLockError::WouldBlock) => {
                    let owner = place.id().map(|id| format!(" (process {id})"));
                    return Err(OpenError::InUse {
                        path: file.path().to_owned(),
                        owner: owner.unwrap_or_default(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(cannot_open(error)),
            }
        }
    }

    fn lock_database(&self, file: &DatabaseFile) -> Result<(), OpenError> {
        let Some(database) = &self.database else {
            return Ok(());
        };
        match set_lock(database, libc::F_WRLCK) {
            Ok(()) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EACCES) => Err(OpenError::InUse {
                    path: file.path().to_owned(),
                    owner: " under another name".to_owned(),
                }),
                // Not every file system and system has such locks. The place is locked in any case.
                Some(libc::EINVAL | libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP) => Ok(()),
                _ => Err(cannot_open(file, &error)),
            },
        }
    }
}

impl Drop for OwnerLock {
    /// Gives the database free. The file is removed while it is still locked, so nobody else's is.
    fn drop(&mut self) {
        if let Some(database) = &self.database {
            // A process that is being started may have a copy of the descriptor for a moment, and with it the lock. If
            // this fails, closing it is as good.
            let _ = set_lock(database, libc::F_UNLCK);
        }
        let metadata = self.place.file().metadata();
        if metadata.is_ok_and(|metadata| is_at(&metadata, &self.place_path))
            && let Err(error) = std::fs::remove_file(&self.place_path)
        {
            tracing::warn!(path = %self.place_path.display(), %error, "lock file could not be removed");
        }
    }
}

fn place_path(file: &DatabaseFile) -> PathBuf {
    file.beside("-lock")
}

fn cannot_open(file: &DatabaseFile, error: &io::Error) -> OpenError {
    OpenError::CannotOpen {
        path: file.path().to_owned(),
        reason: error.to_string(),
    }
}

/// Makes a file that is not there, which nobody but its owner may read, whatever the umask.
fn make_private(file: &DatabaseFile) -> io::Result<File> {
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(PRIVATE)
        .open(file.path())?;
    made.set_permissions(Permissions::from_mode(PRIVATE))?;
    Ok(made)
}

/// Locks a byte for an open file, and not for the process, or unlocks it. SQLite's own locks are of the other kind, and
/// end when the process closes the file anywhere. (rustix has only locks of that kind, and locks of whole files.)
fn set_lock(file: &File, lock_type: c_int) -> io::Result<()> {
    // SAFETY: all zeros is a value of this struct, which is plain numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = lock_type as libc::c_short;
    lock.l_whence = const { libc::SEEK_SET as libc::c_short };
    lock.l_start = LOCKED_BYTE;
    lock.l_len = 1;
    // SAFETY: the file is open, and the call only reads the struct.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
