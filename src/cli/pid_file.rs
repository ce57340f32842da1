//! The file with the daemon's process id.
//!
//! It is not a lock: the lock file beside the database is. So an existing file with a process id is overwritten; any
//! other file is not.

use crate::id_file::{self, IdFile};
use rustix::process::getpid;
use std::fs;
use std::path::{Path, PathBuf};

/// Supervisors of other users read it.
const READABLE: u32 = 0o644;

/// A file with our process id, removed when this is dropped.
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file.
    ///
    /// # Errors
    /// If it can't be written, or the existing file is not such a file.
    pub(super) fn write(path: &Path) -> Result<Self, String> {
        let written = IdFile::open(path, READABLE).and_then(|mut file| file.write_own());
        written.map_err(|error| {
            let path = path.display();
            format!("can't write the process id to {path}: {error}; check --pid-file")
        })?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Another daemon may have been started with the same file.
        let is_ours = id_file::read(&self.path) == Some(getpid());
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, "can't remove the file with the process id: {error}");
        }
    }
}
