//! Failed units, grouped by what went wrong.

use super::storage::Lister;
use super::{Name, NamespaceId, Result};
use crate::clock::Timestamp;
use std::cmp::Reverse;
use std::collections::HashMap;

/// How many groups there are, the last of which has all other messages. There may be as many messages as
/// failed units (a message may have the unit's name in it), and all groups are in memory at once.
const GROUPS_MAX: usize = 1_000;

/// Characters of a message: enough for the last line of a traceback, which may be of any length.
const MESSAGE_CHARS_MAX: usize = 500;

/// The message of a failed unit without a traceback.
const NO_TRACEBACK: &str = "(no traceback)";

/// The message of the group that has all other messages.
const OTHER_MESSAGES: &str = "(other messages)";

/// Failed units with the same message.
#[derive(Debug, PartialEq)]
pub struct FailureGroup {
    /// The last line of their tracebacks.
    pub message: String,
    /// How many there are.
    pub count: u64,
    /// The first of their names, by bytes.
    pub first: Name,
    /// When the latest of them failed.
    pub last_failed: Timestamp,
}

/// The message of a unit that failed because it has cost this many workers their lease.
pub(super) fn lost_leases(count: u64) -> String {
    let leases = if count == 1 { "lease" } else { "leases" };
    format!("lost {count} {leases}")
}

/// What went wrong in short: the last line of the traceback that is not blank.
pub(super) fn failure_message(traceback: Option<&str>) -> String {
    let lines = traceback
        .into_iter()
        .flat_map(|traceback| traceback.rsplit(['\n', '\r']));
    let mut lines = lines.map(str::trim).filter(|line| !line.is_empty());
    let line = lines.next().unwrap_or(NO_TRACEBACK);
    match line.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// The failed units of a work spec, grouped by their messages: the most frequent one first, then by the
/// message. If there are more messages than groups, the last group has the rest.
///
/// # Errors
/// `NoSuchWorkSpec`, `Storage`.
pub fn group_failures(
    lister: &mut dyn Lister,
    namespace: NamespaceId,
    work_spec: &Name,
) -> Result<Vec<FailureGroup>> {
    let mut groups = Groups::default();
    lister.list_failures(namespace, work_spec, &mut |name, traceback, at| {
        groups.add(name, failure_message(traceback), at);
        Ok(())
    })?;
    Ok(groups.into_sorted())
}

#[derive(Default)]
struct Groups {
    by_message: HashMap<String, FailureGroup>,
    others: Option<FailureGroup>,
}

impl Groups {
    /// Adds a unit. They come in the order of their names.
    fn add(&mut self, name: &Name, message: String, at: Timestamp) {
        let known = self.by_message.len();
        let group = match self.by_message.get_mut(&message) {
            Some(group) => group,
            None if known < GROUPS_MAX - 1 => {
                let key = message.clone();
                let group = FailureGroup::begin(message, name);
                self.by_message.entry(key).or_insert(group)
            }
            None => self
                .others
                .get_or_insert_with(|| FailureGroup::begin(OTHER_MESSAGES.to_owned(), name)),
        };
        group.count += 1;
        group.last_failed = group.last_failed.max(at);
    }

    fn into_sorted(self) -> Vec<FailureGroup> {
        let mut groups: Vec<_> = self.by_message.into_values().collect();
        groups.sort_by(|one, other| {
            let by_count = Reverse(one.count).cmp(&Reverse(other.count));
            by_count.then_with(|| one.message.cmp(&other.message))
        });
        groups.extend(self.others);
        groups
    }
}

impl FailureGroup {
    /// True if it has the units of all messages beyond the most that are told apart.
    #[must_use]
    pub fn has_other_messages(&self) -> bool {
        self.message == OTHER_MESSAGES
    }

    fn begin(message: String, first: &Name) -> Self {
        Self {
            message,
            count: 0,
            first: first.clone(),
            last_failed: Timestamp::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_the_last_line_that_says_something() {
        for (traceback, message) in [
            (
                Some("Traceback:\n  File x\nValueError: no\n\n  "),
                "ValueError: no",
            ),
            (Some("one line"), "one line"),
            (Some("a\r\nb\r\n"), "b"),
            (Some(" \n"), NO_TRACEBACK),
            (Some(""), NO_TRACEBACK),
            (None, NO_TRACEBACK),
        ] {
            assert_eq!(failure_message(traceback), message);
        }
        let long = "\u{e9}".repeat(MESSAGE_CHARS_MAX + 1);
        let message = failure_message(Some(&long));
        assert_eq!(message.chars().count(), MESSAGE_CHARS_MAX + 3);
        assert!(message.ends_with("\u{e9}..."));
    }

    #[test]
    fn messages_beyond_the_limit_are_in_one_last_group_and_every_unit_is_counted() {
        let mut groups = Groups::default();
        let units = 3 * GROUPS_MAX;
        for n in 0..units {
            // The first unit of each message, then a second one of half of the messages.
            let message = format!("message {}", n % (2 * GROUPS_MAX));
            let name = Name::from_text(format!("u{n:05}"));
            groups.add(&name, message, Timestamp(i64::try_from(n).expect("small")));
        }
        let sorted = groups.into_sorted();
        assert_eq!(sorted.len(), GROUPS_MAX);
        let total: u64 = sorted.iter().map(|group| group.count).sum();
        assert_eq!(total, units as u64);
        let last = sorted.last().expect("a last one");
        assert_eq!((&*last.message, last.count), (OTHER_MESSAGES, 1_002));
        assert_eq!(
            (last.first.bytes(), last.last_failed),
            (&b"u00999"[..], Timestamp(2_999))
        );
        assert_eq!((&*sorted[0].message, sorted[0].count), ("message 0", 2));
        assert_eq!(sorted[0].last_failed, Timestamp(2_000));
        assert_eq!(sorted[1].message, "message 1");
    }
}
