//! The path of a database: one file with one name, and the files that SQLite keeps beside it.
//!
//! SQLite finds the write-ahead log (WAL) of a database by the database's name. A file with two names (hard links, or a
//! mount of the file alone) would have two WALs, each with a part of what was written, and a WAL whose database is gone
//! belongs to nothing. Such places are refused here, before anything opens them.

use super::error::OpenError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What SQLite appends to the name of a database for its WAL.
const WAL: &str = "-wal";

/// Files that SQLite keeps beside a database.
const SIDE_FILES: [&str; 3] = [WAL, "-shm", "-journal"];

/// Bytes of a path that must be percent-encoded in a URI.
const OUTSIDE_URI: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/');

/// The path of a database, whether or not it exists.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseFile {
    /// Absolute and without symbolic links, so that SQLite takes it literally: a name that begins with `file:` would be a
    /// URI, and `:memory:` or an empty name no file at all.
    path: PathBuf,
}

impl DatabaseFile {
    /// Resolves a path. What exists there is a regular file.
    ///
    /// # Errors
    /// `CannotOpen` if there can't be a database.
    pub(crate) fn at(path: &Path) -> Result<Self, OpenError> {
        match resolve(path) {
            Ok(path) => Ok(Self { path }),
            Err(error) => Err(OpenError::CannotOpen {
                path: path.to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    /// As [`DatabaseFile::at`], for a database that must exist.
    ///
    /// # Errors
    /// As there, and if it does not exist.
    pub(crate) fn existing(path: &Path) -> Result<Self, OpenError> {
        let file = Self::at(path)?;
        file.refuse_wal_without_database()?;
        match file.path.exists() {
            true => Ok(file),
            false => Err(OpenError::CannotOpen {
                path: path.to_owned(),
                reason: "there is no such file".to_owned(),
            }),
        }
    }

    /// As [`DatabaseFile::at`], for a file that will be replaced or created. A symbolic link is refused: somebody may have
    /// put it there to have its target replaced.
    ///
    /// # Errors
    /// As there, and for a link.
    pub(crate) fn to_replace(path: &Path) -> Result<Self, OpenError> {
        let file = Self::at(path)?;
        match path.is_symlink() {
            false => Ok(file),
            true => Err(OpenError::Unusable {
                path: path.to_owned(),
                reason: format!(
                    "it is a symbolic link: give the path of its target, {}",
                    file.path.display()
                ),
            }),
        }
    }

    /// Refuses a WAL whose database is missing: SQLite would delete it.
    ///
    /// # Errors
    /// `WalWithoutDatabase` if so.
    pub(crate) fn refuse_wal_without_database(&self) -> Result<(), OpenError> {
        let has_database = self.path.metadata().is_ok_and(|file| file.len() > 0);
        let wal = self.wal();
        match has_database || !wal.exists() {
            true => Ok(()),
            false => Err(OpenError::WalWithoutDatabase {
                path: self.path.clone(),
                wal,
            }),
        }
    }

    /// Refuses a file that has another name, since its WAL may be beside that one.
    ///
    /// # Errors
    /// `Unusable` if so.
    pub(crate) fn refuse_other_names(&self) -> Result<(), OpenError> {
        match self.other_names() {
            None => Ok(()),
            Some(reason) => Err(OpenError::Unusable {
                path: self.path.clone(),
                reason,
            }),
        }
    }

    /// What is wrong with a file that has another name, and what to do about it.
    pub(crate) fn other_names(&self) -> Option<String> {
        let names = self.path.metadata().map_or(1, |file| file.nlink());
        if names > 1 {
            return Some(format!(
                "the file has {names} names (hard links), but its WAL is beside only one of them: remove the others, \
                 or use a copy"
            ));
        }
        is_mount_point(&self.path).then(|| {
            "it is mounted as a single file, without its WAL: mount the folder that it is in"
                .to_owned()
        })
    }

    /// True if it is on a mount where nobody can write.
    pub(crate) fn is_on_read_only_mount(&self) -> bool {
        rustix::fs::statvfs(&self.path).is_ok_and(|system| {
            system
                .f_flag
                .contains(rustix::fs::StatVfsMountFlags::RDONLY)
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the WAL is.
    pub(crate) fn wal(&self) -> PathBuf {
        self.beside(WAL)
    }

    /// The file beside it whose name has this suffix.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        with_suffix(&self.path, suffix)
    }

    /// Opens it with SQLite.
    ///
    /// # Errors
    /// Those of SQLite.
    pub(crate) fn connect(&self, flags: OpenFlags) -> rusqlite::Result<Connection> {
        connect(&self.path, flags)
    }

    /// Opens it with SQLite as a file that nobody changes: without locks, and without its WAL.
    ///
    /// # Errors
    /// Those of SQLite.
    pub(crate) fn connect_unchanging(&self) -> rusqlite::Result<Connection> {
        let encoded = percent_encode(self.path.as_os_str().as_bytes(), OUTSIDE_URI);
        let uri = format!("file:{encoded}?immutable=1");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        Connection::open_with_flags(uri, flags)
    }
}

/// Opens a file, given by an absolute path without links, with SQLite.
///
/// # Errors
/// Those of SQLite.
pub(crate) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    assert!(path.is_absolute(), "SQLite may take {path:?} for a URI");
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(path, flags)
}

/// The files that SQLite may keep beside a database.
pub(crate) fn side_files(path: &Path) -> [PathBuf; 3] {
    SIDE_FILES.map(|suffix| with_suffix(path, suffix))
}

/// True if an open file is the file at a path.
pub(crate) fn is_at(open: &Metadata, path: &Path) -> bool {
    let there = std::fs::symlink_metadata(path);
    there.is_ok_and(|there| (open.dev(), open.ino()) == (there.dev(), there.ino()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(OsStr::new(suffix));
    path.into()
}

/// The absolute path, without links, of a file that may not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let refused = |why| Err(io::Error::other(why));
    match path.canonicalize() {
        Ok(found) if found.is_file() => return Ok(found),
        Ok(_) => return refused("it is not a regular file"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // A link to a file that does not exist yet. A circle of links is an error above.
    if let Ok(target) = path.read_link() {
        let folder = path.parent().unwrap_or(Path::new("/"));
        return resolve(&folder.join(target));
    }
    let Some(name) = path.file_name() else {
        return refused("it does not name a file");
    };
    let folder = std::path::absolute(path)?;
    let folder = folder.parent().unwrap_or(Path::new("/"));
    Ok(folder.canonicalize()?.join(name))
}

/// True if something is mounted at a path. False if the system does not tell, as Linux before 5.8 does not.
fn is_mount_point(path: &Path) -> bool {
    let mount = |path: &Path| {
        let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
        (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
    };
    let Some(folder) = path.parent() else {
        return true;
    };
    matches!((mount(path), mount(folder)), (Some(file), Some(folder)) if file != folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_told_from_a_file_in_a_folder() {
        assert!(is_mount_point(Path::new("/proc")));
        assert!(!is_mount_point(Path::new("/proc/self/status")));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("write");
        assert!(!is_mount_point(&file));
    }

    #[test]
    fn a_path_is_resolved_though_the_file_is_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("a path");
        for name in ["new.db", "file:new.db?mode=memory", ":memory:"] {
            let place = DatabaseFile::at(&folder.path().join(name)).expect("a place");
            assert_eq!(place.path(), real.join(name));
        }
        assert!(DatabaseFile::at(Path::new("")).is_err());
        assert!(DatabaseFile::at(Path::new("/")).is_err());
        assert!(DatabaseFile::at(&folder.path().join("none/new.db")).is_err());
        let name = DatabaseFile::at(Path::new("file:new.db")).expect("a place");
        assert!(name.path().is_absolute());
    }
}
