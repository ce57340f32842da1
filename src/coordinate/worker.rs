//! Workers: who is alive, and what their children are working on.

use super::Name;
use crate::clock::Timestamp;
use crate::number::duration_from_seconds;
use std::time::Duration;

/// The lifetime of a worker that asked for a negative one.
const LIFETIME_IF_NEGATIVE: Duration = Duration::from_secs(300);
/// The longest lifetime.
const LIFETIME_MAX: Duration = Duration::from_secs(86_400);
/// The lifetime of a worker that asked for a longer one (docs/protocol.md, "Constants").
const LIFETIME_IF_TOO_LONG: Duration = Duration::from_secs(3_600);

/// The lifetime of a worker, from the seconds that it asks for, and a note for it if it gets another one.
#[must_use]
pub fn worker_lifetime(seconds: f64) -> (Duration, Option<&'static str>) {
    if seconds < 0.0 {
        (
            LIFETIME_IF_NEGATIVE,
            Some("negative expire_seconds: 5 minutes taken instead"),
        )
    } else if seconds > LIFETIME_MAX.as_secs_f64() {
        (
            LIFETIME_IF_TOO_LONG,
            Some("expire_seconds of more than a day: one hour taken instead"),
        )
    } else {
        (duration_from_seconds(seconds), None)
    }
}

/// A worker that is alive.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name.
    pub name: Name,
    /// The worker that looks after it.
    pub parent: Option<Name>,
    /// What it says that it is doing: RUN, IDLE, TERMINATE, or anything else.
    pub mode: Option<Name>,
    /// When it was last heard of.
    pub heartbeat: Timestamp,
    /// When it counts as dead if it is not heard of again.
    pub expiration: Timestamp,
}

/// How many workers there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// All that are alive.
    pub workers: u64,
    /// Those that have a parent.
    pub children: u64,
}

/// How many workers are in which mode, and how many locks there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Workers that say that they are working (RUN).
    pub running: u64,
    /// That have nothing to do (IDLE).
    pub idle: u64,
    /// That are ending (TERMINATE).
    pub terminating: u64,
    /// That say something else, or nothing.
    pub others: u64,
    /// Locks, in all namespaces.
    pub locks: u64,
}

/// A unit that a worker is believed to be working on, even if its lease was lost.
#[derive(Debug)]
pub struct HeldUnit {
    /// The name of its work spec.
    pub work_spec: Name,
    /// Its name.
    pub name: Name,
    /// Its data dictionary, encoded.
    pub data: Vec<u8>,
    /// Who has the unit at present, or had it when it was completed.
    pub owner: Option<Name>,
    /// The end of that owner's lease, or the time of completion.
    pub expiration: Option<Timestamp>,
}

/// A heartbeat.
#[derive(Clone, Debug)]
pub struct Heartbeat<'a> {
    /// Who is alive.
    pub worker: &'a Name,
    /// What it says that it is doing.
    pub mode: Option<Name>,
    /// For how long it is to count as alive.
    pub lifetime: Duration,
    /// What it says of itself: a dictionary, encoded.
    pub environment: Option<&'a [u8]>,
    /// The worker that looks after it.
    pub parent: Option<Name>,
}
