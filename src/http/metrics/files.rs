//! The sizes of the database's files, and the room beside them.

use std::ffi::OsString;
use std::path::Path;

/// Sizes in bytes. What the system does not tell is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Sizes {
    pub(in super::super) database: Option<u64>,
    pub(in super::super) wal: Option<u64>,
    /// What the daemon's user may still write.
    pub(in super::super) free: Option<u64>,
}

impl Sizes {
    /// Those of the database at a path.
    pub(super) fn of(database: &Path) -> Self {
        let size = |path: &Path| path.metadata().ok().map(|file| file.len());
        let mut wal = OsString::from(database);
        wal.push("-wal");
        let system = rustix::fs::statvfs(database).ok();
        Self {
            database: size(database),
            wal: size(Path::new(&wal)),
            free: system.map(|system| system.f_bavail.saturating_mul(system.f_frsize)),
        }
    }
}
