//! The limits of what one request may hold or ask for, each with its reason.
//!
//! What bounds messages and connections is in [`crate::server::Limits`]. Every field of the two has a
//! flag; the constants here follow from the protocol, or are how the work is cut into steps.

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
    /// Requests in one batch message: they run one after the other while all others wait.
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

/// Work units, attempts or locks that are listed when the client does not say how many (docs/protocol.md,
/// "Constants").
pub const LIST_DEFAULT: usize = 1_000;

/// The same at the most.
pub const LIST_MAX: usize = 10_000;

/// How many of them are listed within the loop. Longer lists are made beside it, so that they hold
/// nobody up; for short ones the way there would take longer than the list.
pub const LIST_INLINE_MAX: usize = 200;

/// Leases that end in one step, before somebody else gets a turn. More than any number of workers
/// holds in practice, since until the next step the others look as if they still ran: a quarter of a
/// second of work at the worst.
pub const SWEEP_LEASES: usize = 10_000;

/// Delayed units that become available before somebody else gets a turn: a few milliseconds of work.
pub const SWEEP_DELAYED: usize = 500;

/// Units of deleted specs that are removed, or rows (of units and of attempts at them) that are archived,
/// before somebody else gets a turn: a millisecond of work. But each may be on a page of its own, and
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
