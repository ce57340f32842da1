//! Whether the files of an open database are still in their places.

use super::database_file::DatabaseFile;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How far apart looks at the files of an open database are: each takes as long as a tenth of a quick commit.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Which files those of an open database are.
pub(crate) struct Presence {
    files: [(PathBuf, Option<Identity>); 3],
    looked: Instant,
}

/// Device and inode number.
type Identity = (u64, u64);

impl Presence {
    /// Takes note of the files of a database that has just been opened. Until it is closed, SQLite makes no others.
    pub(crate) fn of(file: &DatabaseFile) -> Self {
        let files = [file.path().to_owned(), file.wal(), file.beside("-shm")];
        let files = files.map(|path| {
            let identity = identity_at(&path).unwrap_or_default();
            (path, identity)
        });
        Self {
            files,
            looked: Instant::now(),
        }
    }

    /// As [`Presence::first_gone`], but most often without looking.
    pub(crate) fn first_gone_now_and_then(&mut self) -> Option<&Path> {
        if self.looked.elapsed() < BETWEEN_LOOKS {
            return None;
        }
        self.looked = Instant::now();
        self.first_gone()
    }

    /// The first file that is not in its place any more.
    pub(crate) fn first_gone(&self) -> Option<&Path> {
        let is_gone = |path: &Path, identity: Option<Identity>| {
            // That it can't be looked at, for whatever reason, does not say that it is gone.
            identity_at(path).is_ok_and(|now| now != identity)
        };
        let mut files = self.files.iter();
        let gone = files.find(|(path, identity)| is_gone(path, *identity));
        gone.map(|(path, _)| &**path)
    }
}

/// What is at a path. `None` if nothing is.
fn identity_at(path: &Path) -> io::Result<Option<Identity>> {
    match path.symlink_metadata() {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Says what has happened to a file that is gone.
pub(crate) fn gone(path: &Path) -> String {
    let path = path.display();
    format!("{path} was moved, deleted or replaced while it was in use")
}
