//! What an operation answers, in a form that the store and the model share. Names are shown with their
//! form (text or bytes), data as the bytes that they are.

use super::operations::Json;
use coordinated::clock::Timestamp;
use coordinated::coordinate::{Added, AttemptStatus, Cancelled, Counts, Meta, Name, UnitStatus};
use std::collections::BTreeMap;
use std::fmt;
use test_support::world;

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Done,
    Count(u64),
    Cancelled(Cancelled),
    Added(Added),
    /// Of each path, whether it was locked.
    Locked(Vec<bool>),
    Work(Work),
    Failed(Failure),
    /// What was asked for, a line for each thing.
    Seen(Vec<Line>),
}

/// A text that is shown as it is.
#[derive(Clone, PartialEq)]
pub struct Line(pub String);

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an operation did nothing. Texts are for people, and not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    NoSuchWorkSpec,
    NoSuchWorkUnit,
    NoSuchWorker,
    Refused,
    Invalid,
}

/// What `get_work` gave: of each unit the spec, and a line with the rest. And how many units of
/// each spec have failed by now, since it fails those that have had all their retries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    pub given: Vec<(String, Line)>,
    pub failed: BTreeMap<String, u64>,
}

pub fn encoded(data: &Json) -> Vec<u8> {
    world::cbor(&data.0)
}

fn show_bytes(data: &[u8]) -> String {
    data.escape_ascii().to_string()
}

fn show_name<'a>(name: impl Into<Option<&'a Name>>) -> String {
    name.into()
        .map_or_else(|| "nobody".to_owned(), |name| format!("{name:?}"))
}

fn show_time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| time.to_string())
}

pub fn unit_status(
    status: UnitStatus,
    expiration: Option<Timestamp>,
    worker: Option<&Name>,
    traceback: Option<&[u8]>,
    (failures, lost, retry_at): (u64, u64, Option<Timestamp>),
    cancelled: Option<(Timestamp, Option<&str>)>,
) -> Line {
    let (worker, until) = (show_name(worker), show_time(expiration));
    let traceback = traceback.map_or_else(String::new, show_bytes);
    let retry_at = show_time(retry_at);
    Line(format!(
        "{status:?} by {worker} until {until} {traceback}, {failures} failures and {lost} lost, again at {retry_at}, \
         cancelled {cancelled:?}"
    ))
}

pub fn unit_data(name: &Name, data: Option<&[u8]>) -> Line {
    let data = data.map_or_else(|| "not there".to_owned(), show_bytes);
    Line(format!("{name:?}: {data}"))
}

pub fn given_unit(name: &Name, data: &[u8], number: u64, expiration: Timestamp) -> Line {
    let data = show_bytes(data);
    Line(format!(
        "{name:?}: {data}, attempt {number} until {expiration}"
    ))
}

pub fn held_unit(
    work_spec: &Name,
    name: &Name,
    data: &[u8],
    owner: Option<&Name>,
    expiration: Option<Timestamp>,
) -> Line {
    let (owner, until) = (show_name(owner), show_time(expiration));
    let data = show_bytes(data);
    Line(format!(
        "{work_spec:?} {name:?}: {data}, {owner} has it until {until}"
    ))
}

pub fn worker(
    name: &Name,
    parent: Option<&Name>,
    mode: Option<&Name>,
    heartbeat: Timestamp,
    expiration: Timestamp,
) -> Line {
    let (parent, mode) = (show_name(parent), show_name(mode));
    Line(format!(
        "{name:?} of {parent}, mode {mode}, heard at {heartbeat}, until {expiration}"
    ))
}

pub fn worker_stats(workers: u64, children: u64) -> Line {
    Line(format!("{workers} of which {children} have a parent"))
}

pub fn attempt(
    number: u64,
    status: AttemptStatus,
    worker: Option<&Name>,
    end: Option<Timestamp>,
    expiration: Timestamp,
    data: Option<&[u8]>,
) -> Line {
    let (worker, end) = (show_name(worker), show_time(end));
    let data = data.map_or_else(|| "unchanged".to_owned(), show_bytes);
    Line(format!(
        "{number} {status:?} by {worker} until {expiration}, ended {end}: {data}"
    ))
}

/// Why something is not handed out, and how many units come before it, if that is why.
pub fn reason(code: &str, units_ahead: Option<usize>) -> Line {
    Line(format!("{code} {}", units_ahead.unwrap_or_default()))
}

/// A spec, with when the bucket of its rate is full, and how many attempts have failed in a row.
pub fn spec(
    definition: &[u8],
    counts: &Counts,
    meta: &Meta,
    past: (Option<Timestamp>, u64),
) -> Line {
    let definition = show_bytes(definition);
    Line(format!("{counts:?} {meta:?} {past:?} {definition}"))
}

/// A name, or that there is none.
pub fn name<'a>(name: impl Into<Option<&'a Name>>) -> Line {
    Line(show_name(name))
}

pub fn not_there() -> Line {
    Line("not there".to_owned())
}
