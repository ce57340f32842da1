//! The limits of what one request may hold or ask for, each with its reason.
//!
//! What bounds messages and connections is in [`crate::server::Limits`]. Every field of the two has a
//! flag; the constants here follow from the protocol, or are how the work is cut into steps.

use std::time::Duration;

/// What one request may hold.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Bytes of a work unit's name, or a lock's path. They are index keys: one that does not fit a
    /// page costs overflow pages at each look-up.
    pub unit_name_bytes_max: usize,
    /// Bytes of a work spec's, a worker's or a lock owner's name. They are kept in memory, and shown
    /// in lists.
    pub spec_name_bytes_max: usize,
    /// Work units that one `get_work` hands out: each costs some writes, and others wait meanwhile.
    pub get_work_units_max: usize,
    /// Requests in one batch message: their answers wait in memory for the last one.
    pub batch_requests_max: usize,
    /// Items of one list within a request: each takes some dozen bytes while the request runs, however
    /// few it took on the wire.
    pub list_items_max: usize,
    /// Handed-out attempts that are remembered for a connection, to recognise late reports: 24 bytes
    /// each, on each of thousands of connections.
    pub session_attempts_max: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            unit_name_bytes_max: 64 * 1024,
            spec_name_bytes_max: 1024,
            get_work_units_max: 10_000,
            batch_requests_max: 10_000,
            list_items_max: 1_000_000,
            session_attempts_max: 1_000,
        }
    }
}

/// How long others may have to wait: requests differ too much to be counted alone.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long requests of one list may run in one step, give or take one of them.
    pub list_step: Duration,
    /// How long a batch may last until it is committed, give or take one request, with everybody's answers
    /// waiting. A sync takes a small part of it.
    pub batch: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            list_step: Duration::from_millis(5),
            batch: Duration::from_millis(25),
        }
    }
}

/// Work units, attempts or locks that are listed when the client does not say how many (docs/protocol.md,
/// "Constants").
const LIST_DEFAULT: usize = 1_000;

/// The same at the most.
const LIST_MAX: usize = 10_000;

/// How many items are listed if a client asks for so many, or does not say.
#[must_use]
pub fn list_limit(limit: Option<i64>) -> usize {
    limit
        .map_or(LIST_DEFAULT, |limit| usize::try_from(limit).unwrap_or(0))
        .min(LIST_MAX)
}

/// How many of them are listed within the loop. Longer lists are made beside it, so that they hold
/// nobody up; for short ones the way there would take longer than the list.
pub const LIST_INLINE_MAX: usize = 200;

/// Work units of a spec, beyond which those in some state are not looked for within a list of requests: all
/// of their names may have to be passed, in one step.
pub const LIST_INLINE_PASSED_MAX: u64 = 10_000;

/// Bytes of the name of a unit's group: it is stored with each unit of the group.
pub const GROUP_BYTES_MAX: usize = 255;

/// Bytes of the reason for pausing a work spec, and of who did: they are kept in memory.
pub const PAUSE_TEXT_BYTES_MAX: usize = 1_024;

/// Bytes of the reason for cancelling units, and of who did: they are kept with each unit.
pub const CANCEL_TEXT_BYTES_MAX: usize = 1_024;

/// Units that are cancelled before somebody else gets a turn: a few milliseconds of work.
pub const SWEEP_CANCELLED: usize = 100;

/// Items of one call's list that are added or changed in one step: some milliseconds of work, and more than
/// most calls have.
pub const SLICE_ITEMS: usize = 1_000;

/// The next items of a list that make a slice: at most `len_max`, and no more once they have
/// [`SLICE_BYTES`].
pub fn slice_of<T>(
    items: &mut impl Iterator<Item = T>,
    len_max: usize,
    bytes_of: impl Fn(&T) -> usize,
) -> Vec<T> {
    let (mut slice, mut bytes) = (Vec::new(), 0);
    while slice.len() < len_max
        && bytes < SLICE_BYTES
        && let Some(item) = items.next()
    {
        bytes += bytes_of(&item);
        slice.push(item);
    }
    slice
}

/// Units that are looked up in one step: each may be on pages of its own, which have to be read.
pub const SLICE_LOOKED_UP: usize = 250;

/// Bytes of them after which a step ends.
pub const SLICE_BYTES: usize = 4 * 1024 * 1024;

/// How long a call may wait for work, or for a unit: less than what networks give an idle connection, and little
/// enough for a client to notice that a daemon is gone.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Units that one call may wait for: they are looked up in one step.
pub const WAIT_UNITS_MAX: usize = SLICE_LOOKED_UP;

/// Bytes of memory that an entry in an index of those that wait takes at most.
pub const INDEX_ENTRY_BYTES: usize = 256;

/// Items of a list of more than one slice that are looked through in one step, before any is taken.
pub const SLICE_CHECKED: usize = 10_000;

/// Requests of one list that are run in one step.
pub const LIST_STEP_REQUESTS: usize = 1_000;

/// Leases that end in one step, before somebody else gets a turn: less than ten milliseconds of work. Until the
/// next step the others look as if they still ran.
pub const SWEEP_LEASES: usize = 1_000;

/// Delayed units that become available before somebody else gets a turn: a few milliseconds of work.
pub const SWEEP_DELAYED: usize = 500;

/// Available units that are moved from the queue where their work spec had them to where it has them now, before somebody
/// else gets a turn: less than ten milliseconds of work.
pub const SWEEP_REQUEUED: usize = 500;

/// Workers whose time is over that are removed before somebody else gets a turn: a few milliseconds of work, if
/// they are busy with little.
pub const SWEEP_WORKERS: usize = 500;

/// Locks that are removed before somebody else gets a turn: a few milliseconds of work.
pub const SWEEP_LOCKS: usize = 5_000;

/// Work specs whose schedule makes a unit before somebody else gets a turn: less than ten milliseconds of work.
pub const SWEEP_SCHEDULES: usize = 100;

/// Paths that one call on locks may have: all are taken or none, in one step.
pub const LOCK_PATHS_MAX: usize = 10_000;

/// Labels of all of them together: each is a look-up.
pub const LOCK_LABELS_MAX: usize = 20_000;

/// Units of which it is remembered to which worker they were handed out, over all workers, in case they are deleted:
/// they take some 4 MiB.
pub const REMEMBERED_BY_WORKER_MAX: usize = 100_000;

/// Units that are deleted, or rows (of units and of attempts at them) of deleted specs that are removed or that
/// are archived, before somebody else gets a turn: a millisecond of work. But each may be on a page of its own, and
/// others wait while the disk takes all of these.
pub const SWEEP_REMOVED: usize = 100;

/// The same when others write much, so that archiving keeps up with whoever completes units.
pub const SWEEP_ARCHIVED_MAX: usize = 2_000;

/// Bytes of the data of units that are archived before somebody else gets a turn: of what does not fit a
/// page, each of its pages has to be read to be freed.
pub const SWEEP_BYTES: usize = 4 * 1024 * 1024;

/// Attempts that are looked at, in search of units to archive, before somebody else gets a turn: a few
/// milliseconds of work.
pub const SWEEP_LOOKED_AT: usize = 5_000;

/// Bytes of one answer, beyond which a listing is refused: what a client may send, it can read.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
