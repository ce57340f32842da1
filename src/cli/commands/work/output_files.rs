//! Files that programs can write their results to: `COORDINATED_OUTPUT`.

use super::collected::{Collected, RESULT_BYTES_MAX};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// What the names of the folders begin with.
const PREFIX: &str = "coordinated-work-";

/// A folder for them, which nobody else can read.
pub(super) struct OutputFiles {
    folder: TempDir,
    /// As long as this worker runs, its folder is locked. One that can be locked is that of a worker that was killed.
    _lock: File,
    last: AtomicU64,
}

impl OutputFiles {
    /// Makes a folder, and removes those that workers have left which were killed.
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
            // Before it was locked, another worker may have taken it for one that was left.
            if folder.path().exists() {
                return Ok(Self {
                    folder,
                    _lock: lock,
                    last: AtomicU64::new(0),
                });
            }
        }
    }

    /// The path of a file that is not there yet.
    pub(super) fn next(&self) -> PathBuf {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(number.to_string())
    }
}

/// Reads what a program has written, which is nothing if there is no file, and removes it.
///
/// # Errors
/// If it is no regular file, or can't be read.
pub(super) fn take(path: &Path) -> io::Result<Collected> {
    let written = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Collected::default()),
        other => other,
    };
    // What can't be removed now goes with the folder.
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    written
}

fn read(path: &Path) -> io::Result<Collected> {
    // A link could name any file that this user can read, and a FIFO would be waited for.
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
    // One byte more shows that there is more.
    let limit = RESULT_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes)?;
    let mut written = Collected::default();
    written.push(&bytes);
    Ok(written)
}

/// Removes folders whose workers are gone. What fails is left, for the next worker.
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
