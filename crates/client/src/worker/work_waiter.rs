//! Waiting for work, on a connection of its own: the dispatcher renews leases and sends reports meanwhile.

use super::RunnerPool;
use crate::address::Address;
use crate::client::Hurry;
use crate::{Connection, Coordinate, GetWork, Name, Options, Result, Work};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A request for work that waits at the daemon, in a thread.
#[derive(Debug, Default)]
pub(super) struct WorkWaiter {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The request that the thread is to send.
    wanted: Option<GetWork>,
    /// True from the request to its answer.
    is_busy: bool,
    /// Ends the wait, once the request was sent.
    hurry: Option<Hurry>,
    is_hurried: bool,
    answer: Option<Waited>,
    is_closed: bool,
}

/// The answer to a request that waited.
#[derive(Debug)]
pub(super) struct Waited {
    /// Empty if no work came, or if the request failed: the dispatcher's own requests show why.
    pub(super) work: Vec<Work>,
    /// When it was sent.
    pub(super) asked: Instant,
    /// True if it waited for as long as it was to.
    pub(super) is_whole: bool,
}

impl WorkWaiter {
    /// Locks the state, even if the lock is poisoned: no panic can leave the state inconsistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends requests and waits for their answers, until it is closed. Calls the dispatcher after each.
    pub(super) fn run(
        &self,
        address: &Address,
        options: &Options,
        worker: &Name,
        runners: &RunnerPool,
    ) {
        let mut client = None;
        while let Some(wanted) = self.next_wanted() {
            let asked = Instant::now();
            let connected = client.take().unwrap_or_else(|| {
                Coordinate::new(Connection::new(address.clone(), options.clone()))
            });
            let (work, kept) = self.wait(connected, worker, &wanted);
            client = kept;
            if let Err(error) = &work {
                tracing::debug!("waiting for work: {error}");
            }
            let mut state = self.lock();
            state.is_busy = false;
            state.hurry = None;
            state.answer = Some(Waited {
                work: work.unwrap_or_default(),
                asked,
                is_whole: asked.elapsed() >= wanted.wait.unwrap_or_default(),
            });
            drop(state);
            self.changed.notify_all();
            runners.call_dispatcher();
        }
    }

    /// The next request; `None` once it is closed.
    fn next_wanted(&self) -> Option<GetWork> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(wanted) = state.wanted.take() {
                return Some(wanted);
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for work. Returns the client too, if it can be used again.
    fn wait(
        &self,
        mut client: Coordinate,
        worker: &Name,
        wanted: &GetWork,
    ) -> (Result<Vec<Work>>, Option<Coordinate>) {
        if let Err(error) = client.send_get_work(worker, wanted) {
            return (Err(error), None);
        }
        let mut state = self.lock();
        let hurry = client.connection().hurry();
        match &hurry {
            Some(hurry) if state.is_closed => hurry.close(),
            Some(hurry) if state.is_hurried => hurry.end_wait(),
            _ => state.hurry = hurry,
        }
        drop(state);
        let work = client.receive_work(wanted);
        let can_be_used = work.is_ok() && !self.lock().is_hurried;
        (work, can_be_used.then_some(client))
    }

    /// Lets a request wait for work.
    pub(super) fn ask(&self, wanted: GetWork) {
        let mut state = self.lock();
        (state.is_busy, state.is_hurried) = (true, false);
        state.wanted = Some(wanted);
        self.changed.notify_all();
    }

    /// True if a request waits.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().is_busy
    }

    /// The answer to the request, once it has come.
    pub(super) fn take_answer(&self) -> Option<Waited> {
        self.lock().answer.take()
    }

    /// Lets the daemon answer the request now: with work, if it has given some already.
    pub(super) fn hurry(&self) {
        let mut state = self.lock();
        if state.is_busy && !state.is_hurried {
            state.is_hurried = true;
            if let Some(hurry) = &state.hurry {
                hurry.end_wait();
            }
        }
    }

    /// Waits for the answer to a hurried request, but not for long.
    pub(super) fn wait_for_last_answer(&self, at_most: Duration) {
        let state = self.lock();
        let is_busy = |state: &mut State| state.is_busy;
        // Whether it came in time is seen afterwards.
        let _ = self.changed.wait_timeout_while(state, at_most, is_busy);
    }

    /// Ends the thread, whatever it waits for.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        if let Some(hurry) = &state.hurry {
            hurry.close();
        }
        self.changed.notify_all();
    }
}
