//! Reports on work units: what they say, and what became of them.

use super::lease::Lease;
use super::{AttemptId, Name};
use std::time::Duration;

/// What a report wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// Give the unit back, or retry it.
    Available,
    /// Take the unit, or keep it.
    Pending,
    /// It is done.
    Finished,
    /// It can't be done.
    Failed,
    /// Keep the unit if it is pending.
    Renew,
}

/// A report on a unit.
#[derive(Debug)]
pub struct Report<'a> {
    /// What it wants.
    pub kind: ReportKind,
    /// The new lease, if one is given.
    pub lease: Option<Lease>,
    /// The new data dictionary, if one is given.
    pub data: Option<&'a [u8]>,
    /// Which attempt at the unit it is about, if that is said. Otherwise it is the last one of the worker or, if that is
    /// not said either, of the connection.
    pub attempt: Option<AttemptId>,
    /// Who reports, if that is said.
    pub worker: Option<Name>,
    /// How long a unit that is given back, or that is tried again after this failure, must wait.
    pub delay: Option<Duration>,
    /// The failure is final, even if the work spec retries failed units.
    pub is_final: bool,
}

/// What a report did. A refusal is not an error: what it said is kept in the attempt's history.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It counts, or was a repeat of one that did.
    Accepted,
    /// It does not count, for this reason.
    Refused(String),
}
