//! What is remembered from one operation to the next beside the store, and what an operation adds to it.

use super::WorkSpecId;
use super::activity::{Event, Happening};
use super::handed_out::{HandedOutByWorker, HandedOutUnit};
use super::{Change, Token};
use crate::clock::{ClockStep, Timestamp};
use crate::limits;

/// What is remembered beside the store. It is lost when the daemon ends.
#[derive(Debug)]
pub struct Memory {
    /// When the daemon was started.
    pub started: Timestamp,
    /// When somebody last asked for work; `None` if nobody has since the start.
    pub asked_for_work: Option<Timestamp>,
    pub(super) handed_out: HandedOutByWorker,
}

/// What an operation changes beside the store. It is applied only if the operation succeeds: one that is run again
/// begins with none.
#[derive(Debug, Default)]
pub struct Effects {
    /// When the operation asked for work.
    pub asked_for_work: Option<Timestamp>,
    /// Units that it handed out.
    pub(super) handed_out: Vec<HandedOutUnit>,
    /// How many units it has completed.
    pub completed: usize,
    /// Bytes of what it found for the caller, which wait in memory for the commit.
    pub answer_bytes: usize,
    /// What it did, for statistics.
    pub happened: Vec<Happening>,
    /// What is to be kept in the audit.
    pub change: Option<Change>,
    /// All tokens, if it has changed some.
    pub tokens: Option<Vec<Token>>,
}

impl Effects {
    /// Forgets all, but keeps its memory for the next operation.
    pub fn clear(&mut self) {
        self.asked_for_work = None;
        self.handed_out.clear();
        self.completed = 0;
        self.answer_bytes = 0;
        self.happened.clear();
        self.change = None;
        self.tokens = None;
    }

    /// Notes what happened in a work spec.
    pub(super) fn note(&mut self, work_spec: WorkSpecId, event: Event) {
        self.happened.push(Happening { work_spec, event });
    }

    /// Notes a change for the audit. An operation has only changes of one kind, which are added up.
    pub(super) fn audit(&mut self, change: Change) {
        match &mut self.change {
            Some(earlier) => earlier.count += change.count,
            None => self.change = Some(change),
        }
    }
}

impl Memory {
    /// The memory of a daemon that starts now.
    #[must_use]
    pub fn new(started: Timestamp) -> Self {
        Self {
            started,
            asked_for_work: None,
            handed_out: HandedOutByWorker::new(limits::REMEMBERED_BY_WORKER_MAX),
        }
    }

    /// Remembers what an operation that has succeeded did.
    pub fn apply(&mut self, effects: &mut Effects) {
        self.asked_for_work = effects.asked_for_work.or(self.asked_for_work);
        for unit in effects.handed_out.drain(..) {
            self.handed_out.remember(unit);
        }
    }

    /// Moves the times in it by a step of the clock.
    pub fn move_times(&mut self, step: ClockStep) {
        self.started = self.started.moved(step);
        self.asked_for_work = self.asked_for_work.map(|at| at.moved(step));
    }
}
