//! Workers: who is alive, and what their children are working on.

use super::Name;
use crate::clock::Timestamp;
use crate::number::duration_from_seconds;
use std::time::Duration;

/// The lifetime of a worker that asked for a negative one.
const LIFETIME_IF_NEGATIVE: Duration = Duration::from_secs(300);
/// The lifetime of a worker that has not said anything of itself.
const LIFETIME_IF_UNKNOWN: Duration = Duration::from_secs(900);
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

/// A worker.
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
    /// False if it has said that it does nothing now. It is known until it expires, and is in no list.
    pub is_active: bool,
}

impl Worker {
    /// A worker of which nothing is known but its name, and that somebody asks for `now`.
    #[must_use]
    pub fn new(name: Name, now: Timestamp) -> Self {
        Self {
            name,
            parent: None,
            mode: None,
            heartbeat: now,
            expiration: now.plus(LIFETIME_IF_UNKNOWN),
            is_active: true,
        }
    }

    /// Takes over when the worker says that it spoke, and when it expires. Without these, it speaks `now` and lives for
    /// the usual time. It can't have spoken in the future, nor live longer than others.
    pub(super) fn update_times(
        &mut self,
        heartbeat: Option<Timestamp>,
        expiration: Option<Timestamp>,
        now: Timestamp,
    ) {
        self.heartbeat = heartbeat.map_or(now, |at| at.min(now));
        let usual = now.plus(LIFETIME_IF_UNKNOWN);
        self.expiration = expiration.unwrap_or(usual).min(now.plus(LIFETIME_MAX));
    }
}

/// A worker as a list shows it.
#[derive(Clone, Debug)]
pub struct ListedWorker {
    /// The worker.
    pub worker: Worker,
    /// How many attempts it is believed to be working on, at most [`ListedWorker::HELD_MAX`].
    pub held: u64,
    /// True if it is the parent of an active one.
    pub has_children: bool,
}

impl ListedWorker {
    /// Attempts of a worker that are counted for a list.
    pub const HELD_MAX: u64 = 1_000;
}

/// A change of what a worker says of itself.
#[derive(Clone, Debug)]
pub enum WorkerChange<'a> {
    /// It gets another parent, or none.
    Parent(Option<Name>),
    /// It is active, and says this of itself.
    Update {
        /// What it is doing.
        mode: Option<Name>,
        /// A dictionary, encoded.
        environment: Option<&'a [u8]>,
        /// When it said so.
        heartbeat: Option<Timestamp>,
        /// When it counts as dead.
        expiration: Option<Timestamp>,
    },
    /// It does nothing now.
    Deactivate,
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
