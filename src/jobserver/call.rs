//! One call of a method: what it works with, and how far it has come.

use super::doorkeeper::{Caller, Doorkeeper};
use super::params::Params;
use super::reply::Failures;
use super::requests::Requests;
use crate::coordinate::storage::{Lister, Storage};
use crate::coordinate::{Assignment, AuditId, HandedOut, Operation, Result, Retention, WaitsFor};
use crate::limits;
use std::time::Duration;

/// What a step of a call works with. Each step is one operation.
pub(super) struct Call<'a, S: Storage> {
    pub(super) operation: Operation<'a, S>,
    /// The units that the connection was given before this step.
    pub(super) handed_out: &'a HandedOut,
    /// Who calls.
    pub(super) caller: &'a Caller,
    pub(super) doorkeeper: &'a Doorkeeper,
    /// The result of `get_config`, encoded.
    pub(super) config: &'a [u8],
    /// The URLs at which HTTP is served.
    pub(super) http: &'a [String],
    pub(super) retention: &'a Retention,
    /// Those before and with this one.
    pub(super) requests: &'a Requests,
    /// The content of the message that the call came in.
    pub(super) message: &'a [u8],
    /// How the client is told of failures.
    pub(super) failures: Failures,
    /// True if it came as a single request, false if it came in a list of requests.
    pub(super) is_single: bool,
    /// True if it has waited ([`Progress::Sleep`]) for as long as it may.
    pub(super) wait_is_over: bool,
    /// The results of the items of the call's list so far, one after the other.
    pub(super) results: &'a mut Vec<u8>,
    /// Units that the step gives to the connection, which remembers them once the step has succeeded.
    pub(super) given: Vec<Assignment>,
    /// Who calls from now on, if the step has found out.
    pub(super) recognized: Option<Caller>,
}

/// What a call keeps from step to step.
#[derive(Default)]
pub(super) struct Kept {
    /// See [`Call::results`].
    pub(super) results: Vec<u8>,
    /// The entry of the audit about what its steps have changed.
    pub(super) audit: Option<AuditId>,
}

/// How far a call has come after a step.
pub(super) enum Progress<S: Storage> {
    /// Its result has been written.
    Done,
    /// A long read is to write its result: beside the loop, if the call came as a single request.
    Read(Read),
    /// There are further steps, in later batches.
    More(Box<dyn Continuation<S>>),
    /// It has changed nothing, and has to wait.
    Sleep(Sleep<S>),
}

/// A call that waits for something.
pub(super) struct Sleep<S: Storage> {
    /// The call, which is run again when that may have happened.
    pub(super) rest: Box<dyn Continuation<S>>,
    pub(super) waits_for: WaitsFor,
    /// How long it waits from its first step on.
    pub(super) at_most: Duration,
}

/// A long read, which writes the result of a call.
pub(super) type Read = Box<dyn Fn(&mut dyn Lister, &mut Vec<u8>) -> Result<()> + Send>;

/// What is left of a call that takes several steps, so that other connections get their turns in between.
pub(super) trait Continuation<S: Storage>: Send {
    /// Runs the next step, and returns what is left after it. An operation may be run again, so a step changes nothing
    /// of its own.
    ///
    /// # Errors
    /// What the operation fails with. The steps before this one are committed.
    fn step(&self, call: &mut Call<'_, S>, out: &mut Vec<u8>) -> Result<Progress<S>>;

    /// Bytes that it keeps in memory, if they are more than a few.
    fn held(&self) -> usize {
        0
    }
}

/// Runs the first step of a call, or all of it, and writes its result if that is known.
pub(super) type Run<S> = fn(&mut Call<'_, S>, &Params<'_>, &mut Vec<u8>) -> Result<Progress<S>>;

impl<S: Storage> Call<'_, S> {
    /// True if there are so many work specs that going through all of them would delay other connections.
    pub(super) fn has_many_work_specs(&self) -> bool {
        let mut specs = self.operation.work_specs();
        specs.nth(limits::LIST_INLINE_MAX).is_some()
    }

    /// Writes a list: now, or in a long read.
    pub(super) fn list(
        &mut self,
        may_be_long: bool,
        out: &mut Vec<u8>,
        write: impl Fn(&mut dyn Lister, &mut Vec<u8>) -> Result<()> + Send + 'static,
    ) -> Result<Progress<S>> {
        if may_be_long {
            return Ok(Progress::Read(Box::new(write)));
        }
        write(self.operation.store, out)?;
        Ok(Progress::Done)
    }
}
