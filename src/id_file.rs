//! Files that hold a process id: the lock beside a database, and `--pid-file`.
//!
//! They often stand in folders where others can write, so opening one must never touch another file: no link is
//! followed, and what holds anything but a process id is refused.

use rustix::process::{Pid, getpid};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// More than the digits of any process id.
const BYTES_MAX: u64 = 32;

/// An open file that holds a process id, or nothing yet.
pub(crate) struct IdFile {
    file: File,
    id: Option<Pid>,
}

impl IdFile {
    /// Opens the file at `path`, or makes it with these permission bits.
    ///
    /// # Errors
    /// If that is not possible, or what stands there is a link, no regular file, or one with other content.
    pub(crate) fn open(path: &Path, mode: u32) -> io::Result<Self> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            match options.clone().create_new(true).mode(mode).open(path) {
                Ok(file) => {
                    // Whatever the umask.
                    file.set_permissions(Permissions::from_mode(mode))?;
                    return Ok(Self { file, id: None });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            match Self::open_existing(path, &mut options) {
                // It was removed just now.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
    }

    fn open_existing(path: &Path, options: &mut OpenOptions) -> io::Result<Self> {
        // A pipe would let us wait for somebody at its other end.
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options
            .open(path)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::ELOOP) => unusable(path, "is a symbolic link"),
                _ => error,
            })?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(unusable(path, "is not a regular file"));
        }
        if metadata.nlink() > 1 {
            return Err(unusable(path, "has another name (a hard link)"));
        }
        let id = read_id(&file)
            .map_err(|_| unusable(path, "holds something other than a process id"))?;
        Ok(Self { file, id })
    }

    /// The process id that it held when it was opened.
    pub(crate) fn id(&self) -> Option<Pid> {
        self.id
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Writes our own process id.
    ///
    /// # Errors
    /// If that is not possible.
    pub(crate) fn write_own(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        writeln!(self.file, "{}", getpid())
    }
}

/// The process id in the file at a path, if there is such a file and it has one.
pub(crate) fn read(path: &Path) -> Option<Pid> {
    let file = IdFile::open_existing(path, OpenOptions::new().read(true));
    file.ok()?.id
}

/// Reads the process id that a file holds; `None` if it is empty.
fn read_id(file: &File) -> io::Result<Option<Pid>> {
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    match text.trim_end() {
        "" => Ok(None),
        id => match id.parse().ok().filter(|id| *id > 0).and_then(Pid::from_raw) {
            None => Err(ErrorKind::InvalidData.into()),
            id => Ok(id),
        },
    }
}

fn unusable(path: &Path, why: &str) -> io::Error {
    io::Error::other(format!("{} {why}: move it away", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_that_holds_anything_but_an_id_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (notes, path) = (folder.path().join("notes"), folder.path().join("id"));
        std::fs::write(&notes, "keep me").expect("write");
        let refused = |word: &str| {
            let error = IdFile::open(&path, 0o600)
                .err()
                .expect("an error")
                .to_string();
            assert!(error.contains(word), "{error}");
            assert_eq!(std::fs::read(&notes).expect("read"), b"keep me");
            std::fs::remove_file(&path).expect("remove");
        };
        symlink(&notes, &path).expect("link");
        refused("symbolic link");
        std::fs::hard_link(&notes, &path).expect("link");
        refused("hard link");
        std::fs::copy(&notes, &path).expect("copy");
        refused("other than a process id");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
        refused("not a regular file");
    }

    #[test]
    fn an_id_is_written_over_a_longer_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("id");
        std::fs::write(&path, "1234567890\n").expect("write");
        let mut file = IdFile::open(&path, 0o600).expect("open");
        assert_eq!(file.id(), Pid::from_raw(1_234_567_890));
        file.write_own().expect("write");
        let text = std::fs::read_to_string(&path).expect("read");
        assert_eq!(text, format!("{}\n", std::process::id()));
    }
}
