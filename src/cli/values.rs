//! How values are written on the command line: sizes as `64MiB`, spans of time as `30s`; and which
//! database a command is about.

use std::path::PathBuf;
use std::time::Duration;

/// The database of a command that is not the daemon.
#[derive(clap::Args)]
pub(super) struct Database {
    /// The database file, named as `serve` names it
    #[arg(
        long,
        env = "COORDINATED_DB",
        value_name = "FILE",
        default_value = "coordinate.db",
        value_parser = parse_file
    )]
    pub(super) db: PathBuf,
}

fn parse_file(text: &str) -> Result<PathBuf, String> {
    match text {
        ":memory:" => Err("a database in memory has no file".to_owned()),
        path => Ok(path.into()),
    }
}

/// A number of bytes, for people.
pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// A number of bytes.
pub(super) fn parse_bytes(text: &str) -> Result<usize, String> {
    let size: bytesize::ByteSize = text
        .parse()
        .map_err(|_| "write a size as 65536, 512KiB or 64MiB".to_owned())?;
    usize::try_from(size.as_u64()).map_err(|_| "too large for this machine".to_owned())
}

/// Permission bits in octal.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "write permissions in octal, as 0600 or 0660".to_owned())
}

/// A span of time.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a span of time as 30s, 5m or 1h".to_owned())
}
