//! The unit that a function works on.

use crate::cbor::Value;
use crate::{Name, Work};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Why a function should stop working on its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// The lease was lost to another worker, or the unit was deleted. The outcome does not count.
    LeaseLost,
    /// The unit was cancelled. If the function ends it in time nevertheless, it is finished; any other outcome leaves it
    /// failed as cancelled.
    UnitCancelled,
    /// The worker was told to stop at once. The outcome counts; [`super::Outcome::given_back`] leaves the unit to another
    /// worker.
    Stopping,
}

/// A unit that a function works on.
#[derive(Clone, Debug)]
pub struct Context(Arc<Unit>);

#[derive(Debug)]
struct Unit {
    id: u64,
    work: Work,
    definition: Arc<Value>,
    attempt: u64,
    signal: Signal,
}

/// Tells a function to stop.
#[derive(Debug, Default)]
struct Signal(AtomicU8);

const LEASE_LOST: u8 = 1;
const STOPPING: u8 = 2;
const UNIT_CANCELLED: u8 = 4;

impl Signal {
    fn set(&self, cancellation: Cancellation) {
        let bit = match cancellation {
            Cancellation::LeaseLost => LEASE_LOST,
            Cancellation::Stopping => STOPPING,
            Cancellation::UnitCancelled => UNIT_CANCELLED,
        };
        self.0.fetch_or(bit, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Cancellation> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            bits if bits & LEASE_LOST != 0 => Some(Cancellation::LeaseLost),
            bits if bits & UNIT_CANCELLED != 0 => Some(Cancellation::UnitCancelled),
            _ => Some(Cancellation::Stopping),
        }
    }
}

impl Context {
    /// A unit with its own lease. `id` is unique within this worker.
    pub(super) fn new(id: u64, work: Work, definition: Arc<Value>, attempt: u64) -> Self {
        Self(Arc::new(Unit {
            id,
            work,
            definition,
            attempt,
            signal: Signal::default(),
        }))
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    pub(super) fn cancel(&self, cancellation: Cancellation) {
        self.0.signal.set(cancellation);
    }

    /// The name of its work spec.
    #[must_use]
    pub fn work_spec(&self) -> &Name {
        &self.0.work.work_spec
    }

    /// Its name.
    #[must_use]
    pub fn key(&self) -> &Name {
        &self.0.work.key
    }

    /// Its data.
    #[must_use]
    pub fn data(&self) -> &Value {
        &self.0.work.data
    }

    /// Its work spec's definition, as it was when the unit was handed out.
    #[must_use]
    pub fn definition(&self) -> &Value {
        &self.0.definition
    }

    /// The attempt number, from 1. The original servers don't tell it; with them, this counts the attempts of this worker
    /// since its start.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.0.attempt
    }

    /// The id of the attempt ([`crate::BegunAttempt::id`]), with which the function can fence what it writes elsewhere: the
    /// id is larger than that of every attempt before it. `None` if the server does not tell it.
    #[must_use]
    pub fn attempt_id(&self) -> Option<u64> {
        self.0.work.attempt.map(|attempt| attempt.id)
    }

    /// True if the function should end soon; check this now and then. [`Context::cancellation`] tells why.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancellation().is_some()
    }

    /// Why the function should end soon, if it should.
    #[must_use]
    pub fn cancellation(&self) -> Option<Cancellation> {
        self.0.signal.get()
    }
}
