//! Times and durations: RFC 3339, and nanoseconds.

use crate::clock::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What "no time" looks like.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// A time, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time(pub(super) Option<Timestamp>);

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(Some(time))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let written = self.0.and_then(|time| {
            let nanos = i128::from(time.0) * 1_000;
            let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
            time.format(&Rfc3339).ok()
        });
        json.serialize_str(written.as_deref().unwrap_or(NO_TIME))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(json)? else {
            return Ok(Self(None));
        };
        let time = OffsetDateTime::parse(&text, &Rfc3339)
            .map_err(|error| D::Error::custom(format!("{text:?} is not a time: {error}")))?;
        if time.year() <= 1 {
            return Ok(Self(None));
        }
        let micros = time.unix_timestamp_nanos().div_euclid(1_000);
        Ok(Self(i64::try_from(micros).ok().map(Timestamp)))
    }
}

/// A duration in nanoseconds. A negative one counts as none.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Nanoseconds(i64);

impl Nanoseconds {
    /// The duration; `None` for 0.
    pub(super) fn duration(self) -> Option<Duration> {
        let nanos = u64::try_from(self.0).ok().filter(|nanos| *nanos > 0);
        nanos.map(Duration::from_nanos)
    }
}

impl From<Option<Duration>> for Nanoseconds {
    fn from(duration: Option<Duration>) -> Self {
        let nanos = duration.unwrap_or_default().as_nanos();
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

impl Serialize for Nanoseconds {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        json.serialize_i64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_offset_and_written_in_utc_without_needless_digits() {
        for (given, written) in [
            (
                "2026-11-24T03:06:05.64106265Z",
                "2026-11-24T03:06:05.641062Z",
            ),
            ("2026-11-24T03:06:05Z", "2026-11-24T03:06:05Z"),
            ("2026-11-24T05:06:05.5+02:00", "2026-11-24T03:06:05.5Z"),
            ("0001-01-01T00:00:00Z", NO_TIME),
            ("0001-01-01T00:00:00+01:00", NO_TIME),
        ] {
            let time: Time = serde_json::from_value(given.into()).expect("a time");
            let text = serde_json::to_value(time).expect("text");
            assert_eq!(text, written, "{given}");
        }
        let time: Time = serde_json::from_str("null").expect("no time");
        assert_eq!(time, Time(None));
        assert!(serde_json::from_str::<Time>(r#""yesterday""#).is_err());
    }
}
