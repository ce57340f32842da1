//! Reports on units, and limits for their size.

use super::{Context, Outcome};
use crate::cbor::{Value, scan};
use std::time::Duration;

/// The longest data of a report: half of what a daemon accepts by default. A daemon that accepts less rejects it.
const DATA_BYTES_MAX: usize = 32 << 20;
/// How deeply they may be nested: what a daemon accepts by default, less the levels of the message.
const DATA_DEPTH_MAX: usize = 90;
/// How much of the end of a traceback is reported: 64 KiB that a program has written, and some words about its end.
const TRACEBACK_BYTES_MAX: usize = (64 << 10) + 1024;
/// The same if the daemon rejects that much.
const SHORT_TRACEBACK_BYTES_MAX: usize = 1024;

/// The outcome of a unit, to be reported to the daemon.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) unit: Context,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    /// True if the unit's data stay as they are, without the traceback, since the daemon accepts no more.
    pub(super) omits_traceback: bool,
    /// The message of the unit's cancellation, if it was cancelled.
    pub(super) cancelled: Option<String>,
}

impl Report {
    pub(super) fn new(unit: Context, outcome: Outcome, took: Duration) -> Self {
        Self {
            unit,
            outcome,
            took,
            omits_traceback: false,
            cancelled: None,
        }
    }

    /// The report on a unit that was cancelled, if there is a message.
    pub(super) fn of_cancelled(self, message: Option<String>) -> Self {
        Self {
            cancelled: message,
            ..self
        }
    }

    /// The report within the limits; a failure instead if no daemon would accept it.
    pub(super) fn bounded(mut self) -> Self {
        match &mut self.outcome {
            Outcome::Failed { traceback, .. }
            | Outcome::GivenBack {
                traceback: Some(traceback),
                ..
            } => truncate_start(traceback, TRACEBACK_BYTES_MAX),
            Outcome::Finished { data: Some(data) } => {
                if let Some(problem) = problem_with(data) {
                    self.outcome = Outcome::failed(problem);
                }
            }
            Outcome::Finished { data: None } | Outcome::GivenBack { .. } => {}
        }
        self
    }

    /// A smaller report instead of one that the daemon rejected as too large, with this message.
    pub(super) fn smaller(mut self, message: &str) -> Self {
        match &mut self.outcome {
            Outcome::Failed { traceback, .. }
            | Outcome::GivenBack {
                traceback: Some(traceback),
                ..
            } if traceback.len() > SHORT_TRACEBACK_BYTES_MAX => {
                truncate_start(traceback, SHORT_TRACEBACK_BYTES_MAX);
            }
            Outcome::Failed { .. } => self.omits_traceback = true,
            Outcome::GivenBack {
                traceback: traceback @ Some(_),
                ..
            } => *traceback = None,
            Outcome::Finished { .. } | Outcome::GivenBack { .. } => {
                let problem = format!("the daemon rejected its new data: {message}");
                self.outcome = Outcome::failed(problem);
            }
        }
        self
    }

    /// Its approximate size in bytes.
    pub(super) fn bytes(&self) -> usize {
        let data = |value: &Value| value.to_bytes().len();
        match &self.outcome {
            Outcome::Finished { data: Some(new) } => data(new),
            Outcome::Failed { traceback, .. }
            | Outcome::GivenBack {
                traceback: Some(traceback),
                ..
            } => traceback.len() + data(self.unit.data()),
            Outcome::Finished { data: None } | Outcome::GivenBack { .. } => 0,
        }
    }
}

/// Why no daemon would accept these data as those of a finished unit.
fn problem_with(data: &Value) -> Option<String> {
    let bytes = data.to_bytes();
    if bytes.len() > DATA_BYTES_MAX {
        return Some(format!(
            "its new data have more than {DATA_BYTES_MAX} bytes"
        ));
    }
    if data.as_map().is_none() {
        return Some(format!("its new data are {}, not a map", data.kind_name()));
    }
    let error = scan::check(&bytes, DATA_DEPTH_MAX).err()?;
    Some(format!("its new data can't be sent: {error}"))
}

/// Removes the beginning, between two characters.
fn truncate_start(text: &mut String, bytes_max: usize) {
    let begin = text.len().saturating_sub(bytes_max);
    text.drain(..text.ceil_char_boundary(begin));
}

/// The data with the traceback of the failure.
pub(super) fn with_traceback(data: &Value, traceback: &str) -> Value {
    let entries = data.as_map().unwrap_or_default().iter();
    let others = entries.filter(|(key, _)| key.as_string_bytes() != Some(b"traceback"));
    let mut entries: Vec<_> = others.cloned().collect();
    entries.push((Value::from("traceback"), Value::from(traceback)));
    Value::Map(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Work;
    use std::sync::Arc;

    fn failed(traceback: String) -> Report {
        let work = Work {
            work_spec: "ws".into(),
            key: "a".into(),
            data: Value::EMPTY_MAP,
            attempt: None,
        };
        let unit = Context::new(1, work, Arc::new(Value::EMPTY_MAP), 1);
        Report::new(unit, Outcome::failed(traceback), Duration::ZERO)
    }

    fn traceback(report: &Report) -> &str {
        match &report.outcome {
            Outcome::Failed { traceback, .. } => traceback,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_a_long_traceback_the_end_is_kept_and_no_character_is_cut() {
        for (begin, kept) in [("", TRACEBACK_BYTES_MAX), ("x", TRACEBACK_BYTES_MAX)] {
            let report = failed(format!("{begin}{}", "é".repeat(TRACEBACK_BYTES_MAX)));
            assert_eq!(traceback(&report.bounded()).len(), kept);
        }
        // An odd number of bytes behind the place falls within a character.
        let report = failed(format!("{}x", "é".repeat(TRACEBACK_BYTES_MAX))).bounded();
        let end = format!("{}x", "é".repeat(TRACEBACK_BYTES_MAX / 2 - 1));
        assert_eq!(traceback(&report), end);
        let short = "é".repeat(10);
        assert_eq!(traceback(&failed(short.clone()).bounded()), short);
    }

    #[test]
    fn what_the_daemon_does_not_take_becomes_smaller_each_time() {
        let report = failed("é".repeat(TRACEBACK_BYTES_MAX)).smaller("too long");
        assert_eq!(traceback(&report).len(), SHORT_TRACEBACK_BYTES_MAX);
        assert!(!report.omits_traceback);
        assert!(report.smaller("too long").omits_traceback);
    }

    #[test]
    fn a_traceback_takes_the_place_of_all_those_that_the_data_have() {
        let entry = |key: Value, value: i64| (key, Value::from(value));
        let data = Value::Map(vec![
            entry(Value::from("traceback"), 1),
            entry(Value::from("n"), 2),
            entry(Value::Bytes(b"traceback".to_vec()), 3),
        ]);
        let expected = Value::Map(vec![
            entry(Value::from("n"), 2),
            (Value::from("traceback"), Value::from("why")),
        ]);
        assert_eq!(with_traceback(&data, "why"), expected);
    }
}
