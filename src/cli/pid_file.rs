//! A file that tells others the daemon's process id.
//!
//! It guards nothing: the lock beside the database does. So one that is there already is overwritten; any
//! other file is not.

use crate::id_file::{self, IdFile};
use rustix::process::getpid;
use std::fs;
use std::path::{Path, PathBuf};

/// Whoever supervises the daemon reads it.
const READABLE: u32 = 0o644;

/// A file with our process id, removed when this is dropped.
pub(super) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes the file.
    ///
    /// # Errors
    /// If that is not possible, or what is there is no such file, in a sentence.
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
        // Somebody may have begun another daemon with the same file.
        let is_ours = id_file::read(&self.path) == Some(getpid());
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            tracing::warn!(%path, "the file with the process id can't be removed: {error}");
        }
    }
}
