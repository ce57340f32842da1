//! The audit: what was changed by calls that control the queue, and by whom. Work itself is not in it.

use super::{AuditId, Control, MetaChange, Name, Pause, PriorityChange, UnitStatus};
use crate::clock::Timestamp;
use std::fmt;

/// How many entries are kept, a million: the oldest ones go first.
pub const AUDIT_ENTRIES_MAX: u64 = 1_000_000;

/// A change by an operation. It never has data of units or work specs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What was done, in one word.
    pub action: &'static str,
    /// The work spec that it concerns, if it is about one.
    pub work_spec: Option<Name>,
    /// More about it, for people.
    pub detail: String,
    /// How many things were changed.
    pub count: u64,
}

impl Change {
    /// A change of `count` things.
    pub(super) fn of(action: &'static str, count: u64) -> Self {
        Self {
            action,
            work_spec: None,
            detail: String::new(),
            count,
        }
    }

    /// The same, of a work spec.
    pub(super) fn on(mut self, work_spec: &Name) -> Self {
        self.work_spec = Some(work_spec.clone());
        self
    }

    /// The same, of units in some statuses.
    pub(super) fn in_statuses(self, statuses: &[UnitStatus]) -> Self {
        let names: Vec<String> = statuses
            .iter()
            .map(|status| format!("{status:?}").to_lowercase())
            .collect();
        self.with(names.join(", "))
    }

    /// The same, with more about it.
    pub(super) fn with(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// What a control changes.
impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paused = self.paused.as_ref().map(|paused| match paused {
            None => "resumed".to_owned(),
            Some(Pause { reason: None, .. }) => "paused".to_owned(),
            Some(Pause {
                reason: Some(reason),
                ..
            }) => format!("paused: {reason}"),
        });
        let interval = self.interval.map(|interval| {
            let seconds = interval.map_or(0.0, |interval| interval.as_secs_f64());
            format!("interval {seconds} s")
        });
        let parts = [
            paused,
            self.weight.map(|weight| format!("weight {weight}")),
            interval,
            self.max_running
                .map(|max| format!("max_running {}", limit(max))),
            self.continuous.map(|is| format!("continuous {is}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// What REST clients set; the rest is seldom changed.
impl fmt::Display for MetaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            priority,
            weight,
            paused,
            continuous,
            ..
        } = self;
        let interval = self.interval.unwrap_or_default().as_secs_f64();
        write!(
            f,
            "priority {priority}, weight {weight}, paused {paused}, continuous {continuous}, interval {interval} s, \
             max_running {}",
            limit(self.max_running)
        )
    }
}

/// How a priority is changed.
impl fmt::Display for PriorityChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(priority) => write!(f, "priority {priority}"),
            Self::Adjust(by) => write!(f, "priority changed by {by}"),
        }
    }
}

fn limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "none".to_owned(), |n| n.to_string())
}

/// Who changes something, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// The name of its token, if it has shown one.
    pub token: Option<String>,
    /// By which protocol it calls: `cborrpc` or `http`; `file` without one.
    pub interface: &'static str,
    /// Its address; `None` over a Unix socket.
    pub address: Option<String>,
}

/// An entry of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Identifies it. Later ones have larger ids.
    pub id: AuditId,
    /// The namespace in which it happened, by name: it may be gone.
    pub namespace: String,
    /// When it happened.
    pub at: Timestamp,
    /// See [`Author::token`].
    pub token: Option<String>,
    /// See [`Author::interface`].
    pub interface: String,
    /// See [`Author::address`].
    pub address: Option<String>,
    /// See [`Change::action`].
    pub action: String,
    /// See [`Change::work_spec`].
    pub work_spec: Option<Name>,
    /// See [`Change::detail`].
    pub detail: String,
    /// See [`Change::count`].
    pub count: u64,
}
