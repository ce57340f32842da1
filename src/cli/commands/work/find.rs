//! Finding a program as the system does, and explaining why it can't be run.

use rustix::fs::{Access, access};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The folders of programs if there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Why a program can't be run.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotRunnable {
    #[error("there is no file {} (a relative path begins in the worker's current folder)", .0.display())]
    NoFile(PathBuf),
    #[error("there is no program {} in the folders that PATH names", .0.display())]
    NotInPath(OsString),
    #[error(
        "there is no program {name} in the folders that PATH names; for the file in the current folder write ./{name}",
        name = .0.display()
    )]
    OnlyHere(OsString),
    #[error("{path} is not executable: allow it with `chmod +x {path}`", path = .0.display())]
    NotExecutable(PathBuf),
    #[error("{} is a folder, not a program", .0.display())]
    Folder(PathBuf),
    #[error("{} can't be run: {}", .0.display(), .1)]
    Unreachable(PathBuf, io::ErrorKind),
}

/// Finds a program: at its path if that has a slash, otherwise in the folders of PATH.
///
/// # Errors
/// Why the system would not run it, as far as this can be known from its file.
pub(super) fn find(program: &OsStr) -> Result<PathBuf, NotRunnable> {
    if program.as_bytes().contains(&b'/') {
        let path = PathBuf::from(program);
        return check(&path).map(|()| path);
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let mut problem = None;
    for folder in std::env::split_paths(&folders) {
        let path = folder.join(program);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err(why @ NotRunnable::NotExecutable(_)) => problem = problem.or(Some(why)),
            Err(_) => {}
        }
    }
    Err(
        problem.unwrap_or_else(|| match Path::new(program).is_file() {
            true => NotRunnable::OnlyHere(program.to_owned()),
            false => NotRunnable::NotInPath(program.to_owned()),
        }),
    )
}

fn check(path: &Path) -> Result<(), NotRunnable> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NotRunnable::NoFile(path.to_owned()),
        kind => NotRunnable::Unreachable(path.to_owned(), kind),
    })?;
    if metadata.is_dir() {
        return Err(NotRunnable::Folder(path.to_owned()));
    }
    match access(path, Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(_) => Err(NotRunnable::NotExecutable(path.to_owned())),
    }
}

/// Explains why the system has not started a program.
pub(super) fn explain(program: &OsStr, error: &io::Error) -> String {
    let shown = program.display();
    match (find(program), error.raw_os_error()) {
        (Err(why), _) => why.to_string(),
        (Ok(path), Some(libc::ENOEXEC)) => {
            let path = path.display();
            format!("{path} is not a program: a script needs a first line such as #!/bin/sh")
        }
        (Ok(path), Some(libc::ENOENT)) => {
            let path = path.display();
            format!("can't run {path}: the interpreter in its first line does not exist")
        }
        (Ok(_), _) => format!("can't run {shown}: {error}"),
    }
}
