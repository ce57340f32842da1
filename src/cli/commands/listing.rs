//! Going through all units of a work spec, page by page.

use super::output::note;
use super::server::Daemon;
use coordinated_client::{Error, Name, Status, Unit, UnitQuery};

/// Units in a page: what takes some milliseconds.
pub(super) const PAGE_UNITS: u64 = 1_000;
/// The most that servers list at once.
const PAGE_UNITS_MAX: u64 = 10_000;

/// Which units to go through.
#[derive(Clone, Default)]
pub(super) struct Listing {
    pub(super) status: Option<Status>,
    pub(super) prefix: Option<Name>,
    pub(super) limit: Option<u64>,
}

impl Listing {
    /// Hands the units to `take`, by name, a page at a time.
    ///
    /// The Python server lists those of a status by priority, so that there is no going on where a page ended:
    /// there they come in one page, the largest.
    ///
    /// # Errors
    /// What a call or `take` returns.
    pub(super) fn each_page<E: From<Error>>(
        &self,
        daemon: &mut Daemon,
        work_spec: &Name,
        mut take: impl FnMut(&mut Daemon, Vec<Unit>) -> Result<(), E>,
    ) -> Result<Seen, E> {
        let in_one_page = daemon.is_original() && self.status.is_some();
        let page_units = if in_one_page {
            PAGE_UNITS_MAX
        } else {
            PAGE_UNITS
        };
        let mut left = self.limit.unwrap_or(u64::MAX);
        let mut start = self.prefix.clone().filter(|_| !in_one_page);
        while left > 0 {
            let asked = if in_one_page {
                page_units
            } else {
                left.min(page_units)
            };
            let query = UnitQuery {
                statuses: self.status.into_iter().collect(),
                start: start.take(),
                limit: Some(asked),
                ..UnitQuery::default()
            };
            let mut page = daemon.client.get_work_units(work_spec, &query)?;
            let was_full = page.len() as u64 == asked;
            start = page.last().map(|last| just_behind(&last.key));
            let has_prefix = |unit: &Unit| {
                let prefix = self.prefix.as_ref().map_or(&[][..], Name::bytes);
                unit.key.bytes().starts_with(prefix)
            };
            let all_had_prefix = page.last().is_none_or(has_prefix);
            page.retain(has_prefix);
            if in_one_page {
                page.sort_by(|a, b| a.key.cmp(&b.key));
                page.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            }
            left -= page.len() as u64;
            if !page.is_empty() {
                take(daemon, page)?;
            }
            if in_one_page && was_full && left > 0 {
                return Ok(Seen::Some);
            }
            if in_one_page || !was_full || !all_had_prefix {
                break;
            }
        }
        Ok(Seen::All)
    }
}

/// What a listing has gone through.
#[derive(Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Seen {
    /// All that was asked for.
    All,
    /// As much as the server lists at once.
    Some,
}

impl Seen {
    /// Tells people if they don't see all.
    pub(super) fn tell(self) {
        if self == Self::Some {
            note(format!(
                "this server lists no more than {PAGE_UNITS_MAX} units of a status: there may be more"
            ));
        }
    }
}

/// The first name that can come after another, in its form.
fn just_behind(name: &Name) -> Name {
    let mut bytes = name.bytes().to_vec();
    bytes.push(0);
    match name.as_text() {
        Some(text) => Name::from_text(format!("{text}\0")),
        None => Name::from_bytes(bytes),
    }
}
