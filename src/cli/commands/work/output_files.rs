//! Files that programs can write their results to: `COORDINATED_OUTPUT`.

use super::collected::{Collected, RESULT_BYTES_MAX};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// The beginning of the folders' names.
const PREFIX: &str = "coordinated-work-";

/// A folder for these files, which other users can't read.
pub(super) struct OutputFiles {
    folder: TempDir,
    /// The folder is locked while the worker runs. A folder that can be locked belongs to a worker that was killed.
    _lock: File,
    last: AtomicU64,
}

impl OutputFiles {
    /// Makes a folder, and removes the folders of workers that were killed.
    ///
    /// # Errors
    /// If no folder can be made.
    pub(super) fn new() -> io::Result<Self> {
        let parent = std::env::temp_dir();
        remove_left_folders(&parent);
        loop {
            let folder = tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(&parent)?;
            let lock = open_folder(folder.path())?;
            lock.lock()?;
            // Before it was locked, another worker may have removed it as one of a killed worker.
            if folder.path().exists() {
                return Ok(Self {
                    folder,
                    _lock: lock,
                    last: AtomicU64::new(0),
                });
            }
        }
    }

    /// The path of a file that does not exist yet.
    pub(super) fn next(&self) -> PathBuf {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(number.to_string())
    }
}

/// Reads the file that a program has written, and removes it. Without a file the result is empty.
///
/// # Errors
/// If it is not a regular file, or can't be read.
pub(super) fn take(path: &Path) -> io::Result<Collected> {
    let written = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Collected::default()),
        other => other,
    };
    // A file that can't be removed now is removed with the folder.
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    written
}

fn read(path: &Path) -> io::Result<Collected> {
    // A link could lead to any file that this user can read, and opening a FIFO would block.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => io::Error::other("it is a symbolic link"),
            _ => error,
        })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    // One byte beyond the limit shows that the file is too long.
    let limit = RESULT_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes)?;
    let mut written = Collected::default();
    written.push(&bytes);
    Ok(written)
}

/// Removes folders of workers that have ended. Errors are ignored: the next worker tries again.
fn remove_left_folders(parent: &Path) {
    let user = rustix::process::geteuid().as_raw();
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            continue;
        }
        let path = entry.path();
        let Ok(folder) = open_folder(&path) else {
            continue;
        };
        let is_ours = folder
            .metadata()
            .is_ok_and(|metadata| metadata.uid() == user);
        if is_ours && folder.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY)
        .open(path)
}
