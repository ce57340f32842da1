//! The lock of the process that owns a database: a daemon, or a command that changes the file.
//!
//! It consists of two locks. The one on the file beside the database whose name ends in `-lock` protects the path: the
//! files that SQLite keeps there, and a file that may replace the database. That file holds the owner's process id. The
//! lock on the database itself protects the file, whatever its name: it may have been moved while it was open. The
//! system releases both when the process ends. The file beside the database is removed unless the process was killed.

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

/// The mode of new files: they hold everything, so only their owner may read them.
const PRIVATE: u32 = 0o600;

/// The byte of the database that is locked: far behind those that SQLite locks, so that the locks do not conflict.
const LOCKED_BYTE: libc::off_t = libc::off_t::MAX - 1;

/// Held as long as the database is owned.
///
/// Drop it after all connections to the database: closing any descriptor of a file, as this does, releases the locks
/// that SQLite holds on it for the process.
pub(crate) struct OwnerLock {
    place: IdFile,
    place_path: PathBuf,
    /// The database; `None` if there was none.
    database: Option<File>,
}

/// Where an open file is now.
pub(crate) enum Place {
    Known(PathBuf),
    /// It has a name, but the system does not tell which. This is its inode number.
    Unknown(u64),
    /// It has no name, and is deleted when it is closed.
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

    /// As [`OwnerLock::take`], but creates the database, as an empty file that only its owner can read, if there is none.
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

    /// True if the process that owns a database seems to be alive. It may be another one that has got its id, but trying
    /// the lock could keep a daemon from starting.
    pub(crate) fn has_living_owner(file: &DatabaseFile) -> bool {
        let owner = id_file::read(&place_path(file));
        owner.is_some_and(|owner| {
            // A process of another user lives, but may not be sent signals.
            matches!(test_kill_process(owner), Ok(()) | Err(Errno::PERM))
        })
    }

    /// Where the database is now.
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
                    // Its last owner may have removed it after it was opened here.
                    if !is_at(&place.file().metadata().map_err(cannot_open)?, &path) {
                        continue;
                    }
                    // Without space for the id, a second daemon can't say who owns the database: no reason not to start.
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
                // Not all systems and file systems have such locks. The path is locked in any case.
                Some(libc::EINVAL | libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP) => Ok(()),
                _ => Err(cannot_open(file, &error)),
            },
        }
    }
}

impl Drop for OwnerLock {
    /// Releases the lock. The file is removed while it is still locked, so it can't be another owner's.
    fn drop(&mut self) {
        if let Some(database) = &self.database {
            // A process that is being started may have a copy of the descriptor, and so the lock, for a moment. If this
            // fails, closing the file does the same.
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

/// Creates a file that only its owner may read, whatever the umask.
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
