//! How values are written on the command line, and shown to people: sizes as `64MiB`, spans of time as `30s`,
//! data as YAML or JSON; and which database a command is about.

use coordinated_client::cbor::escape::is_deceptive;
use coordinated_client::cbor::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// The text with what could act on a terminal escaped: much of what is printed comes from workers.
pub(super) fn printable(text: &str) -> String {
    let escaped = |c: char| match is_deceptive(c) && c != '\t' {
        true => c.escape_unicode().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// JSON of the same value with what could act on a terminal escaped. That can only be within strings, but for ends
/// of lines.
pub(super) fn printable_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_deceptive(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// A moment, in seconds since 1970, for people: in UTC.
pub(super) fn moment(seconds: f64) -> String {
    let at = Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| UNIX_EPOCH.checked_add(since));
    match at {
        // Later ones have no such form.
        Some(at) if seconds < 253_402_300_800.0 => {
            let text = humantime::format_rfc3339_seconds(at).to_string();
            text.replace('T', " ").replace('Z', " UTC")
        }
        _ => format!("{seconds}"),
    }
}

/// A span of time, for people: in its two largest units, or with a tenth of a second if it is short.
pub(super) fn span(seconds: f64) -> String {
    if (0.05..9.95).contains(&seconds) {
        return format!("{seconds:.1}s");
    }
    let rounded = Duration::try_from_secs_f64(seconds.round()).unwrap_or_default();
    let text = humantime::format_duration(rounded).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// This machine's clock, in seconds since 1970.
pub(super) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// Reads YAML or JSON.
///
/// # Errors
/// In one line, with the place.
pub(super) fn parse_yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let parsed: serde_json::Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            format!(
                "not readable as YAML: {}",
                error.to_string().replace('\n', " ")
            )
        })?;
    json::from_json(&parsed).map_err(|error| error.to_string())
}

/// The text that an argument is, which must be UTF-8.
pub(super) fn text_of(argument: &OsString) -> Result<&str, String> {
    argument
        .to_str()
        .ok_or_else(|| format!("'{}' is not UTF-8", argument.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_act_on_a_terminal_is_escaped() {
        for (text, shown) in [
            ("grün 猫\t❤\u{fe0f}", "grün 猫\t❤\u{fe0f}"),
            ("\u{1b}[31m\u{7f}\u{9b}2J", "\\u{1b}[31m\\u{7f}\\u{9b}2J"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("a\u{e0041}b", "a\\u{e0041}b"),
        ] {
            assert_eq!(printable(text), shown);
            let json = serde_json::json!({ text: [text] });
            for json_text in [json.to_string(), format!("{json:#}")] {
                let shown = printable_json(&json_text);
                assert!(!shown.chars().any(|c| is_deceptive(c) && c != '\n'));
                let read: serde_json::Value = serde_json::from_str(&shown).expect(&shown);
                assert_eq!(read, json);
            }
        }
    }

    #[test]
    fn spans_and_moments_are_short() {
        for (seconds, expected) in [
            (0.0, "0s"),
            (1.26, "1.3s"),
            (59.6, "1m"),
            (3_723.4, "1h 2m"),
            (90_061.0, "1day 1h"),
            (-1.0, "0s"),
        ] {
            assert_eq!(span(seconds), expected);
        }
        assert_eq!(moment(0.5), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(1e300), format!("{}", 1e300));
    }
}
