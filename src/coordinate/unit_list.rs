//! Lists of work units for people: a page at a time, and how many there are.

use super::failure::failure_message;
use super::storage::{Lister, StandingQuery};
use super::{Name, NamespaceId, Result, UnitStatus};
use crate::clock::Timestamp;
use std::ops::ControlFlow;

/// Units that are looked at for one page: a fraction of a second. Those in a status may be few among many.
const LOOKED_AT_MAX: usize = 100_000;

/// Units that are looked at for a count: about a second's work, which keeps one of few threads.
const COUNTED_MAX: usize = 1_000_000;

/// Units that are counted in one read.
const COUNTED_AT_ONCE: usize = 10_000;

/// Which units are meant. All conditions must be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitFilter {
    /// Only those in this status.
    pub status: Option<UnitStatus>,
    /// Only those whose names begin with these bytes.
    pub prefix: Vec<u8>,
    /// Only failed ones with this message.
    pub message: Option<String>,
}

/// A work unit as a list shows it: without its data.
#[derive(Clone, Debug)]
pub struct ListedUnit {
    /// Its name.
    pub name: Name,
    /// Where it stands.
    pub status: UnitStatus,
    /// Its priority.
    pub priority: f64,
    /// The end of its delay.
    pub not_before: Option<Timestamp>,
    /// How many failures of it were reported, as far as that is counted.
    pub failures: u64,
    /// Its active attempt.
    pub attempt: Option<ListedAttempt>,
    /// What it failed with, in short.
    pub message: Option<String>,
}

/// The active attempt of a [`ListedUnit`].
#[derive(Clone, Debug)]
pub struct ListedAttempt {
    /// Who makes it, if that is known.
    pub worker: Option<Name>,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// When its lease runs out.
    pub expiration: Timestamp,
}

/// A part of a list of units.
#[derive(Debug, Default)]
pub struct UnitsListed {
    /// In the order of their names.
    pub units: Vec<ListedUnit>,
    /// The name after which there may be more; `None` if there are no more.
    pub next: Option<Name>,
    /// How many units were looked at to find them.
    pub looked_at: usize,
}

/// At most `limit` units that meet a filter, behind the name `after`: fewer if it takes long to find them.
///
/// # Errors
/// `NoSuchWorkSpec`, `Storage`.
pub fn list_units(
    lister: &mut dyn Lister,
    namespace: NamespaceId,
    work_spec: &Name,
    filter: &UnitFilter,
    after: Option<&Name>,
    limit: usize,
) -> Result<UnitsListed> {
    let prefix = Name::from_bytes(&*filter.prefix);
    let after = after.filter(|after| **after >= prefix);
    let query = StandingQuery {
        status: filter.status,
        from: after.map_or_else(|| prefix.clone(), first_behind),
    };
    let mut listed = UnitsListed::default();
    let mut looked_to = None;
    lister.list_standings(namespace, work_spec, &query, &mut |mut unit, traceback| {
        if !unit.name.bytes().starts_with(&filter.prefix) {
            return Ok(ControlFlow::Break(()));
        }
        if listed.looked_at == LOOKED_AT_MAX || listed.units.len() == limit {
            listed.next = looked_to.take();
            return Ok(ControlFlow::Break(()));
        }
        listed.looked_at += 1;
        looked_to = Some(unit.name.clone());
        if unit.status == UnitStatus::Failed {
            unit.message = Some(failure_message(traceback));
        }
        let is_meant = filter.status.is_none_or(|status| status == unit.status)
            && (filter.message.is_none() || filter.message == unit.message);
        if is_meant {
            listed.units.push(unit);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(listed)
}

/// How many units meet a filter, as far as they are found in about a second.
#[derive(Debug, Default)]
pub struct UnitsCounted {
    /// How many were found.
    pub count: u64,
    /// True if there are no others.
    pub is_all: bool,
    /// The first of them.
    pub samples: Vec<ListedUnit>,
}

/// Counts the units that meet a filter, with the first `samples` of them.
///
/// # Errors
/// `NoSuchWorkSpec`, `Storage`.
pub fn count_units(
    lister: &mut dyn Lister,
    namespace: NamespaceId,
    work_spec: &Name,
    filter: &UnitFilter,
    samples: usize,
) -> Result<UnitsCounted> {
    let mut counted = UnitsCounted::default();
    let (mut looked_at, mut after) = (0, None);
    while looked_at < COUNTED_MAX {
        // Each part is a read of its own, so that the WAL can be moved into the file between them.
        let (after_part, limit) = (after.as_ref(), COUNTED_AT_ONCE);
        let part = list_units(lister, namespace, work_spec, filter, after_part, limit)?;
        counted.count += part.units.len() as u64;
        let missing = samples - counted.samples.len();
        counted.samples.extend(part.units.into_iter().take(missing));
        looked_at += part.looked_at;
        after = part.next;
        if after.is_none() {
            counted.is_all = true;
            break;
        }
    }
    Ok(counted)
}

/// The first name behind another one.
fn first_behind(name: &Name) -> Name {
    Name::from_bytes([name.bytes(), b"\0"].concat())
}
