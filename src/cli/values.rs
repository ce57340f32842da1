//! How values are written on the command line: sizes as `64MiB`, spans of time as `30s`.

use std::time::Duration;

/// A number of bytes.
pub(super) fn parse_bytes(text: &str) -> Result<usize, String> {
    let size: bytesize::ByteSize = text
        .parse()
        .map_err(|_| "write a size as 65536, 512KiB or 64MiB".to_owned())?;
    usize::try_from(size.as_u64()).map_err(|_| "too large for this machine".to_owned())
}

/// A span of time.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a span of time as 30s, 5m or 1h".to_owned())
}
