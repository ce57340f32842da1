//! Unix sockets that listen: files at their paths, permissions, and removing the file at the end.

use super::bind_error::{BindError, bind_error};
use coordinated_client::Address;
use mio::net::UnixListener;
use rustix::fs::Mode;
use rustix::process::umask;
use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Listens at a path, and sets the permission bits of its file. Removes a socket that an ended program left there
/// before.
pub(super) fn bind(
    address: &Address,
    path: &Path,
    mode: u32,
) -> Result<(UnixListener, SocketFile), BindError> {
    remove_abandoned_socket(address, path)?;
    let listener = bind_private(path).map_err(|error| bind_error(address, error))?;
    let file = SocketFile::at(path);
    set_mode(path, mode).map_err(|error| bind_error(address, error))?;
    Ok((listener, file))
}

/// Sets permission bits without following links: where others can write, the socket may have been replaced by one.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the path is a string that ends with a nul, and the call only reads it.
    match unsafe { libc::fchmodat(libc::AT_FDCWD, path.as_ptr(), mode, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Binds a socket that only this user can connect to, so that others can't connect before its mode is set.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    // The mask belongs to the whole process: files that other threads make meanwhile are private, too.
    let before = umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

/// The file of a Unix socket, removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, since a file that another program has put there must not be removed.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity_of(path),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some()
            && identity_of(&self.path) == self.identity
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(%path, "cannot remove the socket file: {error}");
        }
    }
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Removes the socket file of a program that has ended.
fn remove_abandoned_socket(address: &Address, path: &Path) -> Result<(), BindError> {
    let address = || address.clone();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(bind_error(&address(), error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket { address: address() });
        }
        Ok(_) => {}
    }
    // Mio's connect never blocks: the full queue of a busy program is an error here.
    match mio::net::UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(
                "removing {}, which an earlier program left behind",
                path.display()
            );
            fs::remove_file(path).map_err(|error| bind_error(&address(), error))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(BindError::Denied { address: address() })
        }
        Ok(_) | Err(_) => Err(BindError::InUse { address: address() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener as StdUnixListener;

    fn bind_at(path: &Path, mode: u32) -> Result<(UnixListener, SocketFile), BindError> {
        bind(&Address::Unix(path.to_owned()), path, mode)
    }

    fn message_at(path: &Path) -> String {
        match bind_at(path, 0o600) {
            Ok(_) => panic!("bound"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_socket_file_has_the_mode_that_was_asked_for_and_goes_with_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for mode in [0o600, 0o660, 0o666] {
            let listener = bind_at(&path, mode).unwrap();
            let found = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(found, mode);
            drop(listener);
            assert!(!path.exists());
        }
    }

    #[test]
    fn before_it_has_its_mode_a_socket_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let _listener = bind_private(&path).unwrap();
        let found = fs::metadata(&path).unwrap().permissions().mode() & 0o077;
        assert_eq!(found, 0);
    }

    #[test]
    fn the_mode_of_a_socket_is_not_given_to_what_a_link_in_its_place_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("secret"), folder.path().join("socket"));
        fs::write(&target, "").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        symlink(&target, &link).unwrap();
        let _ = set_mode(&link, 0o666);
        let mode = fs::metadata(&target).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn an_abandoned_socket_file_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(StdUnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves the file behind");
        let living = bind_at(&path, 0o600).unwrap();
        assert!(message_at(&path).contains("in use"));
        assert!(path.exists());
        drop(living);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, "keep me").unwrap();
        assert!(message_at(&path).contains("not a socket"));
        assert_eq!(fs::read(&path).unwrap(), b"keep me");
    }
}
