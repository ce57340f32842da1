//! Whether the files of an open database are still in place.

use super::database_file::DatabaseFile;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two checks of the files: each takes a tenth of the time of a quick commit.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The identities of the files of an open database.
pub(crate) struct Presence {
    files: [(PathBuf, Option<Identity>); 3],
    looked: Instant,
}

/// Device and inode number.
type Identity = (u64, u64);

impl Presence {
    /// Remembers the files of a database that has just been opened. Until it is closed, SQLite creates no others.
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

    /// [`Presence::first_gone`], checked only now and then.
    pub(crate) fn first_gone_now_and_then(&mut self) -> Option<&Path> {
        if self.looked.elapsed() < BETWEEN_LOOKS {
            return None;
        }
        self.looked = Instant::now();
        self.first_gone()
    }

    /// The first file that is no longer in its place.
    pub(crate) fn first_gone(&self) -> Option<&Path> {
        let is_gone = |path: &Path, identity: Option<Identity>| {
            // If it can't be examined, that does not mean that it is gone.
            identity_at(path).is_ok_and(|now| now != identity)
        };
        let mut files = self.files.iter();
        let gone = files.find(|(path, identity)| is_gone(path, *identity));
        gone.map(|(path, _)| &**path)
    }
}

/// The identity of the file at a path. `None` if there is none.
fn identity_at(path: &Path) -> io::Result<Option<Identity>> {
    match path.symlink_metadata() {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The message about a file that is gone.
pub(crate) fn gone(path: &Path) -> String {
    let path = path.display();
    format!("{path} was moved, deleted or replaced while it was in use")
}
