//! The options of a database.

use rusqlite::Connection;
use std::time::Duration;

/// What survives a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Everything that was answered.
    #[default]
    Full,
    /// Everything except the last moments. The file is never damaged.
    Normal,
    /// Possibly nothing: the file may be damaged.
    Off,
}

/// How to open a database.
#[derive(Clone, Debug)]
pub struct Options {
    /// What survives a power cut.
    pub synchronous: Synchronous,
    /// How long leases and workers that expired while the database was closed stay valid after opening it.
    pub lease_grace: Duration,
    /// Size of the WAL in bytes beyond which nothing is written. It gets that large only while another program reads
    /// in a transaction that does not end, because until then the WAL can't be reset.
    pub wal_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            synchronous: Synchronous::Full,
            lease_grace: Duration::from_secs(30),
            wal_bytes_max: 8 << 30,
        }
    }
}

/// Sets how much a connection syncs.
pub(super) fn set_synchronous(connection: &Connection, options: &Options) -> rusqlite::Result<()> {
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
        Synchronous::Off => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)
}
