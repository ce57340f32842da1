//! Names, numbers and times as people read them.

use crate::clock::Timestamp;
use crate::coordinate::{Name, UnitStatus};
use std::fmt::Write;
use std::time::Duration;

/// Characters of a name that are shown.
const NAME_CHARS_MAX: usize = 200;

/// A name as text, on one line. What can't be seen, and what would turn the text around it, is escaped.
pub(super) fn name(name: &Name) -> String {
    match std::str::from_utf8(name.bytes()) {
        Ok("") => "(empty)".to_owned(),
        Ok(text) => visible(text, NAME_CHARS_MAX),
        Err(_) => visible(&name.bytes().escape_ascii().to_string(), NAME_CHARS_MAX),
    }
}

/// A text on one line, at most so many characters of it.
pub(super) fn visible(text: &str, chars_max: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(chars_max.saturating_mul(4)));
    for (index, char) in text.chars().enumerate() {
        if index == chars_max {
            shown.push_str("...");
            break;
        }
        match char {
            char if char.is_control() || changes_direction(char) => {
                shown.extend(char.escape_debug())
            }
            char => shown.push(char),
        }
    }
    shown
}

/// Marks that change the direction in which the text after them is written.
fn changes_direction(char: char) -> bool {
    matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number with commas.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A duration with two units at most, such as `2 h 5 min`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if (1..1_000).contains(&duration.as_micros()) => {
            format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
        }
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

fn two(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    let mut shown = format!("{large} {unit}");
    if small > 0 {
        // Fails never: it writes to memory.
        let _ = write!(shown, " {small} {small_unit}");
    }
    shown
}

/// How often something happens, given how often in a second.
pub(super) fn rate(per_second: f64) -> String {
    let (rate, unit) = match per_second {
        ..=0.0 => return "–".to_owned(),
        1.0.. => (per_second, "s"),
        rate if rate * 60.0 >= 1.0 => (rate * 60.0, "min"),
        rate => (rate * 3_600.0, "h"),
    };
    match rate {
        10.0.. => format!("{rate:.0}/{unit}"),
        _ => format!("{rate:.1}/{unit}"),
    }
}

/// A size in bytes.
pub(super) fn bytes(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// A time, for `<time>`.
#[derive(Clone, Debug)]
pub(super) struct When {
    /// For programs, and shown on request.
    pub(super) exact: String,
    /// How far it is from the present.
    pub(super) relative: String,
}

impl When {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        let relative = if at <= now {
            format!("{} ago", duration(now.since(at)))
        } else {
            format!("in {}", duration(at.since(now)))
        };
        Self {
            exact: exact(at),
            relative,
        }
    }
}

/// A time in UTC; one of which there is no date is its number.
pub(super) fn exact(at: Timestamp) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => at.to_string(),
    }
}

/// The word for a status.
pub(super) fn status(status: UnitStatus) -> &'static str {
    match status {
        UnitStatus::Available => "available",
        UnitStatus::Delayed => "delayed",
        UnitStatus::Pending => "pending",
        UnitStatus::Finished => "finished",
        UnitStatus::Failed => "failed",
    }
}

/// The status that a word is.
pub(super) fn status_of(word: &str) -> Option<UnitStatus> {
    UnitStatus::ALL.into_iter().find(|it| status(*it) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_on_one_line_without_marks_that_turn_the_text_around_them() {
        for (name_bytes, shown) in [
            (&b""[..], "(empty)"),
            (b"a b", "a b"),
            (b"a\nb", "a\\nb"),
            ("\u{202e}abc\u{2066}".as_bytes(), "\\u{202e}abc\\u{2066}"),
            ("\u{e9}\u{5d0}".as_bytes(), "\u{e9}\u{5d0}"),
            (b"\xff\x00", "\\xff\\x00"),
        ] {
            assert_eq!(name(&Name::from_bytes(name_bytes)), shown);
        }
        let long = name(&Name::from_text("x".repeat(1_000_000)));
        assert_eq!(long.len(), NAME_CHARS_MAX + 3);
    }

    #[test]
    fn numbers_and_durations_are_short() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_234_567), "1,234,567");
        for (seconds, shown) in [
            (5, "5 s"),
            (65, "1 min 5 s"),
            (3_600, "1 h"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), shown);
        }
        assert_eq!(duration(Duration::from_millis(12)), "12 ms");
        assert_eq!(duration(Duration::from_micros(500)), "0.5 ms");
        assert_eq!(duration(Duration::ZERO), "0 ms");
        for (per_second, shown) in [
            (0.0, "–"),
            (1_234.4, "1234/s"),
            (2.25, "2.2/s"),
            (0.5, "30/min"),
            (0.001, "3.6/h"),
        ] {
            assert_eq!(rate(per_second), shown);
        }
    }

    #[test]
    fn a_time_without_a_date_is_its_number() {
        let now = Timestamp(1_700_000_000_000_000);
        assert_eq!(When::new(now, now).exact, "2023-11-14T22:13:20.000Z");
        assert_eq!(
            When::new(Timestamp(i64::MAX), now).exact,
            "9223372036854.775391"
        );
    }
}
