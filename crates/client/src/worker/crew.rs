//! What the threads of a worker share: units that wait for a thread, units that are held, and outcomes that wait
//! to be reported.

use super::report::Report;
use super::{Cancellation, Context, Handler, Outcome, Plan};
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So much work is fetched ahead, and so much of it is lost to the others for a while if the worker is killed:
/// enough to hide the way to the daemon behind the work.
const AHEAD_SECONDS: f64 = 0.2;
/// No more units are fetched ahead.
pub(super) const AHEAD_UNITS_MAX: usize = 1_000;
/// Outcomes wait for others so long, to be reported in one go, as long as nobody waits for work.
const LINGER: Duration = Duration::from_millis(20);

/// The threads of a worker.
#[derive(Debug, Default)]
pub struct Crew {
    state: Mutex<State>,
    /// There is work for runners, or there will be none any more.
    for_runners: Condvar,
    /// There is something to do for the clerk.
    for_clerk: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Context>,
    held: HashMap<u64, Held>,
    reports: Vec<Report>,
    /// When the oldest of the reports came.
    reports_since: Option<Instant>,
    /// Runners that wait for work.
    idle: usize,
    phase: Phase,
    /// No more units will become ready.
    is_closed: bool,
    /// How long a unit takes, on average; `None` before the first has ended.
    seconds: Option<f64>,
}

/// A lease.
#[derive(Debug)]
struct Held {
    unit: Context,
    renewed: Instant,
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It asks for work.
    #[default]
    Working,
    /// It ends what runs, and asks for no more.
    Draining,
    /// It tells what runs to stop.
    Stopping,
}

/// Makes a [`super::Worker`] stop, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    crew: Arc<Crew>,
}

impl Stopper {
    /// Stops the threads of a worker.
    #[must_use]
    pub fn of(crew: &Arc<Crew>) -> Self {
        let crew = Arc::clone(crew);
        Self { crew }
    }

    /// Asks for no more work, lets what runs come to its end, and then ends the worker.
    pub fn drain(&self) {
        self.crew.enter(Phase::Draining);
    }

    /// The same, but tells what runs to stop ([`Context::is_cancelled`]).
    pub fn stop(&self) {
        self.crew.stop();
    }
}

/// What the clerk should do now.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) phase: Phase,
    pub(super) reports: Vec<Report>,
    /// How many more units there could be.
    pub(super) wanted: usize,
    /// True if nothing is held and nothing is to be reported.
    pub(super) is_idle: bool,
    /// True if there will be nothing to do any more.
    pub(super) is_over: bool,
}

impl Crew {
    /// Nothing that runs under the lock can leave it half done.
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
        self.for_clerk.notify_all();
    }

    /// Tells what runs to stop.
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

    /// Waits for units of one work spec whose leases are sure; `None` if there will be none.
    fn take(&self, plan: &Plan) -> Option<Vec<Context>> {
        let mut state = self.lock();
        state.idle += 1;
        self.for_clerk.notify_all();
        let units = loop {
            let units = state.take_ready(plan);
            if !units.is_empty() {
                break Some(units);
            }
            if state.is_closed {
                break None;
            }
            let waited = self.for_runners.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        };
        state.idle -= 1;
        if state.runs_short(plan) {
            self.for_clerk.notify_all();
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
        self.for_clerk.notify_all();
    }

    /// Waits until the clerk has something to do, and no longer than until `at_latest`. It asks for more work
    /// only from `ask_at` on.
    pub(super) fn next_turn(&self, plan: &Plan, at_latest: Instant, ask_at: Instant) -> Turn {
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
                Some(since) if !is_pressing => Some(since + LINGER),
                since => since,
            };
            let ask = (wanted > 0).then_some(ask_at);
            let is_idle = state.held.is_empty() && state.reports.is_empty();
            let is_over = state.is_over();
            let wake_at = [Some(at_latest), report_at, ask]
                .into_iter()
                .flatten()
                .min();
            let left = wake_at.unwrap_or(now).saturating_duration_since(now);
            if is_over || left.is_zero() {
                state.reports_since = None;
                return Turn {
                    phase: state.phase,
                    reports: std::mem::take(&mut state.reports),
                    wanted: if now < ask_at { 0 } else { wanted },
                    is_idle,
                    is_over,
                };
            }
            let waited = self.for_clerk.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits before the daemon is tried again; less long if the worker is to stop.
    pub(super) fn wait_for_daemon(&self, delay: Duration) -> Phase {
        let until = Instant::now() + delay;
        let mut state = self.lock();
        let phase = state.phase;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.phase != phase {
                return state.phase;
            }
            let waited = self.for_clerk.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Hands units to the runners, whose leases began at `leased` at the latest.
    pub(super) fn add(&self, units: Vec<Context>, leased: Instant) {
        let mut state = self.lock();
        for unit in units {
            if state.phase == Phase::Stopping {
                unit.cancel(Cancellation::Stopping);
            }
            let held = Held {
                unit: unit.clone(),
                renewed: leased,
            };
            state.held.insert(unit.id(), held);
            state.ready.push_back(unit);
        }
        self.for_runners.notify_all();
    }

    /// True if there will be nothing to do any more.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// No more units will come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.for_runners.notify_all();
    }

    /// The units whose leases are older than `age`.
    pub(super) fn held_longer_than(&self, age: Duration) -> Vec<Context> {
        let state = self.lock();
        let held = state.held.values();
        held.filter(|held| held.renewed.elapsed() >= age)
            .map(|held| held.unit.clone())
            .collect()
    }

    /// A unit's lease was renewed, after `since`.
    pub(super) fn renewed(&self, unit: &Context, since: Instant) {
        if let Some(held) = self.lock().held.get_mut(&unit.id()) {
            held.renewed = since;
        }
        self.for_runners.notify_all();
    }

    /// A lease is lost: a runner that has the unit is told; one that has not will not get it. True if it was
    /// still held.
    pub(super) fn lost(&self, lost: &Context) -> bool {
        lost.cancel(Cancellation::LeaseLost);
        let mut state = self.lock();
        state.ready.retain(|unit| unit.id() != lost.id());
        state.held.remove(&lost.id()).is_some()
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.is_closed && self.held.is_empty() && self.reports.is_empty()
    }

    fn report(&mut self, report: Report) {
        // A unit that was lost is held no more, and its outcome counts for nobody.
        if self.held.remove(&report.unit.id()).is_some() {
            self.reports_since.get_or_insert_with(Instant::now);
            self.reports.push(report);
        }
    }

    fn take_ready(&mut self, plan: &Plan) -> Vec<Context> {
        let mut units: Vec<Context> = Vec::new();
        while let Some(unit) = self.ready.front() {
            let held = self.held.get(&unit.id());
            // Else somebody else may have it by now; the clerk will find out.
            let is_sure = held.is_some_and(|held| held.renewed.elapsed() < plan.lease);
            let is_alike = units
                .first()
                .is_none_or(|first| first.work_spec() == unit.work_spec());
            if !is_sure || !is_alike || units.len() == plan.batch {
                break;
            }
            units.extend(self.ready.pop_front());
        }
        units
    }

    /// How many units are to be ready beside those that idle runners take at once.
    fn ahead(&self, plan: &Plan) -> usize {
        let Some(seconds) = self.seconds else {
            return 0;
        };
        let units = AHEAD_SECONDS / seconds.max(1e-6) * plan.threads as f64;
        // Not one for each runner, if they take long.
        (units as usize).min(AHEAD_UNITS_MAX)
    }

    fn wanted(&self, plan: &Plan) -> usize {
        let target = self.idle * plan.batch + self.ahead(plan);
        target.saturating_sub(self.ready.len())
    }

    /// True if more units should be fetched: half of what is fetched ahead has gone.
    fn runs_short(&self, plan: &Plan) -> bool {
        let wanted = self.wanted(plan);
        wanted > 0 && wanted >= self.ahead(plan) / 2
    }

    /// Gives back what nobody has begun with.
    fn close(&mut self) {
        self.is_closed = true;
        for unit in std::mem::take(&mut self.ready) {
            let outcome = Outcome::given_back(Duration::ZERO);
            self.report(Report::new(unit, outcome, Duration::ZERO));
        }
    }
}
