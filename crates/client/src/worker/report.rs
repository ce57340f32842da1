//! What is reported of a unit, and how much of it.

use super::{Context, Outcome};
use crate::cbor::{Value, scan};
use std::time::Duration;

/// The longest data of a report: half of what a daemon takes by default. One that takes less says so.
const DATA_BYTES_MAX: usize = 32 << 20;
/// The levels of containers in them: what a daemon takes by default, but for those of the message.
const DATA_DEPTH_MAX: usize = 90;
/// How much of a traceback's end is reported: 64 KiB that a program has written, and some words on its end.
const TRACEBACK_BYTES_MAX: usize = (64 << 10) + 1024;
/// The same where the daemon does not take as much.
const SHORT_TRACEBACK_BYTES_MAX: usize = 1024;

/// How a unit ended, for the daemon.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) unit: Context,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    /// True if the unit's data are left as they are, without a traceback: the daemon takes no more.
    pub(super) is_bare: bool,
}

impl Report {
    pub(super) fn new(unit: Context, outcome: Outcome, took: Duration) -> Self {
        Self {
            unit,
            outcome,
            took,
            is_bare: false,
        }
    }

    /// The report, or that no daemon would take it.
    pub(super) fn bounded(mut self) -> Self {
        match &mut self.outcome {
            Outcome::Failed { traceback } => keep_end(traceback, TRACEBACK_BYTES_MAX),
            Outcome::Finished { data: Some(data) } => {
                if let Some(problem) = problem_with(data) {
                    self.outcome = Outcome::failed(problem);
                }
            }
            Outcome::Finished { data: None } | Outcome::GivenBack { .. } => {}
        }
        self
    }

    /// What to report in its place, as the daemon did not take it for its size, by this message.
    pub(super) fn smaller(mut self, message: &str) -> Self {
        match &mut self.outcome {
            Outcome::Failed { traceback } if traceback.len() > SHORT_TRACEBACK_BYTES_MAX => {
                keep_end(traceback, SHORT_TRACEBACK_BYTES_MAX);
            }
            Outcome::Failed { .. } => self.is_bare = true,
            Outcome::Finished { .. } | Outcome::GivenBack { .. } => {
                let problem = format!("the daemon does not take its new data: {message}");
                self.outcome = Outcome::failed(problem);
            }
        }
        self
    }

    /// Roughly its bytes.
    pub(super) fn bytes(&self) -> usize {
        let data = |value: &Value| value.to_bytes().len();
        match &self.outcome {
            Outcome::Finished { data: Some(new) } => data(new),
            Outcome::Failed { traceback } => traceback.len() + data(self.unit.data()),
            Outcome::Finished { data: None } | Outcome::GivenBack { .. } => 0,
        }
    }
}

/// Why no daemon would take these data as those of a finished unit.
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

/// Cuts the beginning off, between two characters.
fn keep_end(text: &mut String, bytes_max: usize) {
    let begin = text.len().saturating_sub(bytes_max);
    text.drain(..text.ceil_char_boundary(begin));
}

/// The data, which say now why the unit failed.
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
        };
        let unit = Context::new(1, work, Arc::new(Value::EMPTY_MAP), 1);
        Report::new(unit, Outcome::failed(traceback), Duration::ZERO)
    }

    fn traceback(report: &Report) -> &str {
        match &report.outcome {
            Outcome::Failed { traceback } => traceback,
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
        assert!(!report.is_bare);
        assert!(report.smaller("too long").is_bare);
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
