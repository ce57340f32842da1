//! Numbers as loosely typed clients send them.

use coordinated_client::cbor::{Item, Kind};
use std::time::Duration;

/// The longest span of time that is kept, in seconds: a hundred years.
const SECONDS_MAX: f64 = 100.0 * 365.25 * 86_400.0;

/// A float from an integer, a float or a boolean (which is a number in Python). `None` for anything
/// else.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "a number that a client gives where a float is due"
)]
pub(crate) fn as_float(item: Item<'_>) -> Option<f64> {
    match item.kind() {
        Kind::Unsigned(value) => Some(value as f64),
        Kind::Negative(value) => Some(-1.0 - value as f64),
        Kind::Float(value) => Some(value),
        Kind::Bool(value) => Some(f64::from(u8::from(value))),
        _ => None,
    }
}

/// An integer from an integer, a float (its fraction is cut off) or a boolean. `None` for anything
/// else, and for what is beyond 64 bits.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
pub(crate) fn as_integer(item: Item<'_>) -> Option<i64> {
    match item.kind() {
        Kind::Unsigned(value) => i64::try_from(value).ok(),
        Kind::Negative(value) => i64::try_from(value).ok().map(|value| -1 - value),
        Kind::Float(value) if value.abs() < 9e18 => Some(value as i64),
        Kind::Bool(value) => Some(i64::from(value)),
        _ => None,
    }
}

/// As [`as_float`], and strings of decimal digits too, as Python's `float()` takes them.
#[must_use]
pub(crate) fn as_float_or_numeral(item: Item<'_>) -> Option<f64> {
    as_float(item).or_else(|| numeral(item)?.parse().ok())
}

/// As [`as_integer`], and strings of decimal digits too, as Python's `int()` takes them.
#[must_use]
pub(crate) fn as_integer_or_numeral(item: Item<'_>) -> Option<i64> {
    as_integer(item).or_else(|| numeral(item)?.parse().ok())
}

/// As [`as_integer_or_numeral`], but not a float with a fraction.
#[must_use]
pub(crate) fn as_whole_number_or_numeral(item: Item<'_>) -> Option<i64> {
    let has_fraction = matches!(item.kind(), Kind::Float(value) if value.fract() != 0.0);
    as_integer_or_numeral(item).filter(|_| !has_fraction)
}

fn numeral(item: Item<'_>) -> Option<String> {
    let bytes = item.as_string_bytes()?;
    Some(std::str::from_utf8(&bytes).ok()?.trim().to_owned())
}

/// True as Python has it: null, false, zero and what is empty are false.
#[must_use]
pub(crate) fn is_true(item: Item<'_>) -> bool {
    match item.kind() {
        Kind::Null | Kind::Bool(false) | Kind::Unsigned(0) => false,
        Kind::Float(value) => value != 0.0,
        Kind::Bytes(bytes) => !bytes.is_empty(),
        Kind::Text(text) => !text.is_empty(),
        Kind::Array(mut items) => items.next().is_some(),
        Kind::Map(mut entries) => entries.next().is_some(),
        Kind::Tag(..) => item
            .as_list()
            .is_none_or(|mut items| items.next().is_some()),
        Kind::Bool(true) | Kind::Unsigned(_) | Kind::Negative(_) | Kind::Simple(_) => true,
    }
}

/// A span of time from seconds: nothing for what is negative or no number, and a hundred years at
/// the most.
#[must_use]
pub(crate) fn duration_from_seconds(seconds: f64) -> Duration {
    if seconds.is_nan() {
        return Duration::ZERO;
    }
    Duration::from_secs_f64(seconds.clamp(0.0, SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_from_what_python_takes_for_numbers() {
        for (bytes, integer, float) in [
            (&b"\x05"[..], Some(5), Some(5.0)),
            (b"\x24", Some(-5), Some(-5.0)),
            (b"\xf9\x3e\x00", Some(1), Some(1.5)),
            (b"\xf5", Some(1), Some(1.0)),
            (
                b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
                None,
                Some(1.844_674_407_370_955_2e19),
            ),
            (b"\x80", None, None),
            (b"\xf6", None, None),
        ] {
            let item = Item::from_checked(bytes);
            assert_eq!(
                (as_integer(item), as_float(item)),
                (integer, float),
                "{bytes:x?}"
            );
        }
        assert_eq!(
            as_integer_or_numeral(Item::from_checked(b"\x6310\x20")),
            Some(10)
        );
        assert_eq!(
            as_float_or_numeral(Item::from_checked(b"\x431.5")),
            Some(1.5)
        );
        assert_eq!(as_integer_or_numeral(Item::from_checked(b"\x61x")), None);
        for (bytes, expected) in [
            (&b"\xf9\x3e\x00"[..], None),
            (b"\xf9\x40\x00", Some(2)),
            (b"\x41\x33", Some(3)),
        ] {
            let item = Item::from_checked(bytes);
            assert_eq!(as_whole_number_or_numeral(item), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn odd_spans_of_time_are_brought_within_bounds() {
        assert_eq!(duration_from_seconds(f64::NAN), Duration::ZERO);
        assert_eq!(duration_from_seconds(-1.0), Duration::ZERO);
        assert_eq!(
            duration_from_seconds(f64::INFINITY),
            Duration::from_secs_f64(SECONDS_MAX)
        );
        assert_eq!(duration_from_seconds(0.25), Duration::from_millis(250));
    }
}
