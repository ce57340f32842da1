//! What the threads of a worker share: units that wait for a runner, units whose leases the worker holds, and outcomes
//! that wait to be reported.

use super::report::Report;
use super::{Cancellation, Context, Handler, Outcome, Plan};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much work is prefetched: enough to hide the time of requests to the daemon. If the worker is killed, no other
/// worker gets these units until their leases end.
const PREFETCH_SECONDS: f64 = 0.2;
/// The most units that are prefetched.
pub(super) const PREFETCH_UNITS_MAX: usize = 1_000;
/// How long an outcome waits for others, to be reported together, while no runner waits for work.
const REPORT_DELAY: Duration = Duration::from_millis(20);

/// The threads of a worker.
#[derive(Debug, Default)]
pub struct RunnerPool {
    state: Mutex<State>,
    /// Notified when there is work for runners, or when there will be no more.
    for_runners: Condvar,
    /// Notified when there is something to do for the dispatcher.
    for_dispatcher: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Context>,
    held: HashMap<u64, Held>,
    reports: Vec<Report>,
    /// When the oldest of the reports was added.
    reports_since: Option<Instant>,
    /// Runners that wait for work.
    idle: usize,
    phase: Phase,
    /// True if the dispatcher has something to do that is not in this state.
    is_called: bool,
    /// True if no more units will become ready.
    is_closed: bool,
    /// The mean time of a unit in seconds; `None` before the first has ended.
    seconds: Option<f64>,
}

/// A lease.
#[derive(Debug)]
struct Held {
    unit: Context,
    renewed: Instant,
    /// The message of its cancellation, if it was cancelled. Then its lease is not renewed.
    cancelled: Option<String>,
}

/// The phases of a worker, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It requests work.
    #[default]
    Working,
    /// It lets running functions end, and requests no more work.
    Draining,
    /// It tells running functions to stop.
    Stopping,
}

/// Makes a [`super::Worker`] stop, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    runners: Arc<RunnerPool>,
}

impl Stopper {
    /// Stops the threads of a worker.
    #[must_use]
    pub fn of(runners: &Arc<RunnerPool>) -> Self {
        let runners = Arc::clone(runners);
        Self { runners }
    }

    /// Stops requesting work, waits until running functions have ended, and then ends the worker.
    pub fn drain(&self) {
        self.runners.enter(Phase::Draining);
    }

    /// Like [`Stopper::drain`], but tells running functions to stop ([`Context::is_cancelled`]).
    pub fn stop(&self) {
        self.runners.stop();
    }
}

/// What the dispatcher should do now.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) phase: Phase,
    pub(super) reports: Vec<Report>,
    /// How many more units to request.
    pub(super) wanted: usize,
    /// True if no unit is held and no report waits.
    pub(super) is_idle: bool,
    /// True if there is nothing left to do.
    pub(super) is_over: bool,
}

impl RunnerPool {
    /// Locks the state, even if the lock is poisoned: no panic can leave the state inconsistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.lock();
        state.phase = state.phase.max(phase);
        if phase == Phase::Stopping {
            for held in state.held.values() {
                held.unit.cancel(Cancellation::Stopping);
            }
        }
        self.for_dispatcher.notify_all();
    }

    /// Tells running functions to stop.
    pub(super) fn stop(&self) {
        self.enter(Phase::Stopping);
    }

    /// Runs units until there are no more.
    pub(super) fn run(&self, plan: &Plan, handler: &impl Handler) {
        while let Some(units) = self.take(plan) {
            let began = Instant::now();
            let run = AssertUnwindSafe(|| handler.run(&units));
            let outcomes = catch_unwind(run).unwrap_or_else(|panic| {
                let message = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("without a message");
                vec![Outcome::failed(format!("panicked: {message}")); units.len()]
            });
            self.end(units, outcomes, began.elapsed());
        }
    }

    /// Waits for units of one work spec with valid leases; `None` if there will be none.
    fn take(&self, plan: &Plan) -> Option<Vec<Context>> {
        let mut state = self.lock();
        state.idle += 1;
        self.for_dispatcher.notify_all();
        let units = loop {
            // Otherwise what is ready is about to be given back.
            if state.phase == Phase::Working {
                let units = state.take_ready(plan);
                if !units.is_empty() {
                    break Some(units);
                }
            }
            if state.is_closed {
                break None;
            }
            let waited = self.for_runners.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        };
        state.idle -= 1;
        if state.runs_short(plan) {
            self.for_dispatcher.notify_all();
        }
        units
    }

    fn end(&self, units: Vec<Context>, outcomes: Vec<Outcome>, took: Duration) {
        let mut state = self.lock();
        let each = took.as_secs_f64() / units.len().max(1) as f64;
        state.seconds = Some(match state.seconds {
            Some(seconds) => seconds + (each - seconds) / 8.0,
            None => each,
        });
        let mut outcomes = outcomes.into_iter();
        for unit in units {
            let outcome = outcomes.next();
            let outcome = outcome.unwrap_or_else(|| Outcome::failed("it has no outcome"));
            state.report(Report::new(unit, outcome, took));
        }
        self.for_dispatcher.notify_all();
    }

    /// Waits until the dispatcher has something to do, at most until `at_latest`. It requests more work only from
    /// `request_at` on.
    pub(super) fn next_turn(&self, plan: &Plan, at_latest: Instant, request_at: Instant) -> Turn {
        let mut state = self.lock();
        loop {
            if state.phase != Phase::Working {
                state.close();
                self.for_runners.notify_all();
            }
            let now = Instant::now();
            let wanted = match state.is_closed {
                false if state.runs_short(plan) => state.wanted(plan),
                _ => 0,
            };
            let is_pressing = state.is_closed || (state.idle > 0 && state.ready.is_empty());
            let report_at = match state.reports_since {
                Some(since) if !is_pressing => Some(since + REPORT_DELAY),
                since => since,
            };
            let ask = (wanted > 0).then_some(request_at);
            let is_idle = state.held.is_empty() && state.reports.is_empty();
            let is_over = state.is_over();
            let wake_at = [Some(at_latest), report_at, ask]
                .into_iter()
                .flatten()
                .min();
            let left = wake_at.unwrap_or(now).saturating_duration_since(now);
            if is_over || left.is_zero() || std::mem::take(&mut state.is_called) {
                state.reports_since = None;
                return Turn {
                    phase: state.phase,
                    reports: std::mem::take(&mut state.reports),
                    wanted: if now < request_at { 0 } else { wanted },
                    is_idle,
                    is_over,
                };
            }
            let waited = self.for_dispatcher.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets the next turn of the dispatcher begin at once.
    pub(super) fn call_dispatcher(&self) {
        self.lock().is_called = true;
        self.for_dispatcher.notify_all();
    }

    /// Waits before the next attempt to reach the daemon, or until the phase changes.
    pub(super) fn wait_for_daemon(&self, delay: Duration) -> Phase {
        let until = Instant::now() + delay;
        let mut state = self.lock();
        let phase = state.phase;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.phase != phase {
                return state.phase;
            }
            let waited = self.for_dispatcher.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hands units to the runners. Their leases began at `leased` or later.
    pub(super) fn add(&self, units: Vec<Context>, leased: Instant) {
        let mut state = self.lock();
        for unit in units {
            if state.phase == Phase::Stopping {
                unit.cancel(Cancellation::Stopping);
            }
            let held = Held {
                unit: unit.clone(),
                renewed: leased,
                cancelled: None,
            };
            state.held.insert(unit.id(), held);
            state.ready.push_back(unit);
        }
        self.for_runners.notify_all();
    }

    /// True if there is nothing left to do.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Notes that no more units will come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.for_runners.notify_all();
    }

    /// The units whose leases are older than `age`.
    pub(super) fn held_longer_than(&self, age: Duration) -> Vec<Context> {
        let state = self.lock();
        let held = state.held.values();
        held.filter(|held| held.cancelled.is_none() && held.renewed.elapsed() >= age)
            .map(|held| held.unit.clone())
            .collect()
    }

    /// Notes that a unit's lease was renewed, at `since` or later.
    pub(super) fn renewed(&self, unit: &Context, since: Instant) {
        if let Some(held) = self.lock().held.get_mut(&unit.id()) {
            held.renewed = since;
        }
        self.for_runners.notify_all();
    }

    /// Notes that a unit's lease is lost: a runner that has the unit is told to stop, and otherwise no runner gets it. True
    /// if the worker still held it.
    pub(super) fn lost(&self, lost: &Context) -> bool {
        lost.cancel(Cancellation::LeaseLost);
        let mut state = self.lock();
        state.ready.retain(|unit| unit.id() != lost.id());
        state.held.remove(&lost.id()).is_some()
    }
}

impl RunnerPool {
    /// Notes that a unit was cancelled: a runner that has the unit is told to stop, and otherwise it is given back. The
    /// outcome is reported with the message.
    pub(super) fn cancelled(&self, unit: &Context, message: String) {
        unit.cancel(Cancellation::UnitCancelled);
        let mut state = self.lock();
        let waiting = state.ready.len();
        state.ready.retain(|ready| ready.id() != unit.id());
        let was_waiting = state.ready.len() < waiting;
        if let Some(held) = state.held.get_mut(&unit.id()) {
            held.cancelled = Some(message);
        }
        if was_waiting {
            let outcome = Outcome::given_back(Duration::ZERO);
            state.report(Report::new(unit.clone(), outcome, Duration::ZERO));
        }
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.is_closed && self.held.is_empty() && self.reports.is_empty()
    }

    fn report(&mut self, report: Report) {
        // The outcome of a unit whose lease was lost does not count.
        if let Some(held) = self.held.remove(&report.unit.id()) {
            self.reports_since.get_or_insert_with(Instant::now);
            self.reports.push(report.of_cancelled(held.cancelled));
        }
    }

    fn take_ready(&mut self, plan: &Plan) -> Vec<Context> {
        let mut units: Vec<Context> = Vec::new();
        while let Some(unit) = self.ready.front() {
            let held = self.held.get(&unit.id());
            // Otherwise another worker may have it by now, which the dispatcher will learn.
            let is_valid = held.is_some_and(|held| held.renewed.elapsed() < plan.lease);
            let is_alike = units
                .first()
                .is_none_or(|first| first.work_spec() == unit.work_spec());
            if !is_valid || !is_alike || units.len() == plan.batch {
                break;
            }
            units.extend(self.ready.pop_front());
        }
        units
    }

    /// How many units should be ready in addition to those that idle runners take at once.
    fn prefetch(&self, plan: &Plan) -> usize {
        let Some(seconds) = self.seconds else {
            return 0;
        };
        let units = PREFETCH_SECONDS / seconds.max(1e-6) * plan.threads as f64;
        // None for runners whose units take long.
        (units as usize).min(PREFETCH_UNITS_MAX)
    }

    fn wanted(&self, plan: &Plan) -> usize {
        let target = self.idle * plan.batch + self.prefetch(plan);
        target.saturating_sub(self.ready.len())
    }

    /// True if more units should be requested: half of the prefetched ones are used up.
    fn runs_short(&self, plan: &Plan) -> bool {
        let wanted = self.wanted(plan);
        wanted > 0 && wanted >= self.prefetch(plan) / 2
    }

    /// Gives back the units that no runner has started.
    fn close(&mut self) {
        self.is_closed = true;
        for unit in std::mem::take(&mut self.ready) {
            let outcome = Outcome::given_back(Duration::ZERO);
            self.report(Report::new(unit, outcome, Duration::ZERO));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor::Value;
    use crate::{Name, Work};

    fn unit(id: u64, work_spec: &str) -> Context {
        let work = Work {
            work_spec: work_spec.into(),
            key: Name::from_text(id.to_string()),
            data: Value::EMPTY_MAP,
            attempt: None,
        };
        Context::new(id, work, Arc::new(Value::EMPTY_MAP), 1)
    }

    fn ids(units: &[Context]) -> Vec<u64> {
        units.iter().map(Context::id).collect()
    }

    /// A pool with units of these work specs, whose leases are so old.
    fn pool_with(work_specs: &[&str], age: Duration) -> RunnerPool {
        let pool = RunnerPool::default();
        let units = (1..).zip(work_specs).map(|(id, spec)| unit(id, spec));
        pool.add(units.collect(), Instant::now() - age);
        pool
    }

    #[test]
    fn the_mean_time_of_a_unit_moves_by_an_eighth_to_that_of_each() {
        let pool = RunnerPool::default();
        for (units, took, mean) in [(1, 8, 8.0), (1, 0, 7.0), (2, 6, 6.5)] {
            let units: Vec<Context> = (0..units).map(|id| unit(id, "ws")).collect();
            pool.end(units, Vec::new(), Duration::from_secs(took));
            assert_eq!(pool.lock().seconds, Some(mean), "after {took} s");
        }
    }

    #[test]
    fn units_for_some_tenths_of_a_second_are_fetched_ahead() {
        let mut plan = Plan::of_this_process();
        plan.threads = 3;
        let mut state = State::default();
        for (seconds, expected) in [
            (None, 0),
            (Some(1.0), 0),
            (Some(0.1), 6),
            (Some(0.02), 30),
            (Some(1e-9), PREFETCH_UNITS_MAX),
        ] {
            state.seconds = seconds;
            assert_eq!(state.prefetch(&plan), expected, "{seconds:?}");
        }
    }

    #[test]
    fn more_is_fetched_when_half_of_it_has_gone() {
        let mut plan = Plan::of_this_process();
        (plan.threads, plan.batch) = (1, 5);
        let pool = pool_with(&["ws"; 20], Duration::ZERO);
        let mut state = pool.lock();
        state.seconds = Some(0.01);
        assert_eq!(state.prefetch(&plan), 20);
        for (ready, idle, wanted, is_short) in [
            (20, 0, 0, false),
            (11, 0, 9, false),
            (10, 0, 10, true),
            (20, 1, 5, false),
            (20, 2, 10, true),
            (0, 1, 25, true),
        ] {
            state.ready = (0..ready).map(|id| unit(id, "ws")).collect();
            state.idle = idle;
            let found = (state.wanted(&plan), state.runs_short(&plan));
            assert_eq!(found, (wanted, is_short), "{ready} ready, {idle} idle");
        }
        state.seconds = None;
        (state.idle, state.ready) = (0, VecDeque::new());
        assert!(!state.runs_short(&plan), "nobody waits");
    }

    #[test]
    fn units_are_taken_together_that_are_of_one_work_spec_and_surely_leased() {
        let mut plan = Plan::of_this_process();
        (plan.batch, plan.lease) = (2, Duration::from_secs(60));
        let pool = pool_with(&["a", "a", "a", "b"], Duration::from_secs(50));
        for expected in [vec![1, 2], vec![3], vec![4], vec![]] {
            assert_eq!(ids(&pool.lock().take_ready(&plan)), expected);
        }
        let pool = pool_with(&["a"], Duration::from_secs(60));
        assert!(pool.lock().take_ready(&plan).is_empty());
        pool.renewed(&unit(1, "a"), Instant::now());
        assert_eq!(ids(&pool.lock().take_ready(&plan)), [1]);
    }

    #[test]
    fn leases_of_some_age_are_renewed() {
        let pool = pool_with(&["a", "a"], Duration::from_secs(20));
        pool.renewed(&unit(2, "a"), Instant::now() - Duration::from_secs(10));
        let older = |seconds| {
            let mut held = ids(&pool.held_longer_than(Duration::from_secs(seconds)));
            held.sort_unstable();
            held
        };
        assert_eq!(older(5), [1, 2]);
        assert_eq!(older(20), [1]);
        assert!(older(30).is_empty());
    }

    #[test]
    fn a_lost_unit_is_neither_run_nor_reported_and_is_lost_once() {
        let plan = Plan::of_this_process();
        let pool = pool_with(&["a", "a"], Duration::ZERO);
        let running = pool.lock().take_ready(&plan).remove(0);
        assert!(pool.lost(&running));
        assert!(!pool.lost(&running));
        assert_eq!(running.cancellation(), Some(Cancellation::LeaseLost));
        pool.end(vec![running], vec![Outcome::finished()], Duration::ZERO);
        assert!(pool.lock().reports.is_empty());
        let waits = pool.lock().ready[0].clone();
        assert!(pool.lost(&waits));
        assert!(pool.lock().take_ready(&plan).is_empty());
        pool.close();
        assert!(pool.is_over());
    }

    #[test]
    fn a_cancelled_unit_is_not_renewed_and_is_reported_with_the_message() {
        let plan = Plan::of_this_process();
        let pool = pool_with(&["a", "a"], Duration::from_secs(20));
        let running = pool.lock().take_ready(&plan).remove(0);
        let waiting = pool.lock().ready[0].clone();
        for unit in [&running, &waiting] {
            pool.cancelled(unit, "cancelled: why".to_owned());
            assert_eq!(unit.cancellation(), Some(Cancellation::UnitCancelled));
        }
        assert!(pool.held_longer_than(Duration::ZERO).is_empty());
        // No runner gets the one that waits.
        assert!(pool.lock().take_ready(&plan).is_empty());
        pool.end(vec![running], vec![Outcome::finished()], Duration::ZERO);
        let reports = std::mem::take(&mut pool.lock().reports);
        let told = |report: &Report| (report.outcome.clone(), report.cancelled.clone());
        let message = Some("cancelled: why".to_owned());
        assert_eq!(
            reports.iter().map(told).collect::<Vec<_>>(),
            [
                (Outcome::given_back(Duration::ZERO), message.clone()),
                (Outcome::finished(), message)
            ]
        );
    }
}
