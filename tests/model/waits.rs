//! Requests that wait, for work or for units to be completed: the store's part is `Waiters`, as the daemon uses it. The model
//! knows which of them wait, in the order of their arrival, and asks itself whether one can be answered.

use super::model::Model;
use super::operations::Request;
use coordinated::clock::{ClockStep, Timestamp};
use coordinated::coordinate::storage::{Storage, WorkSpecStore};
use coordinated::coordinate::{Name, WaiterId, Waiters, WaitsFor, Work};
use std::collections::BTreeMap;
use std::time::Duration;
use test_support::world::World;

/// So many wait at most.
const WAITING_MAX: usize = 8;

/// The requests that wait.
#[derive(Default)]
pub struct Waits {
    waiters: Waiters,
    waiting: BTreeMap<WaiterId, Waiting>,
    /// When the daemon looks again, if nothing happens until then.
    awake_at: Option<Timestamp>,
}

#[derive(Clone)]
pub struct Waiting {
    pub session: usize,
    pub awaited: Awaited,
    end: Timestamp,
}

/// What a request waits for.
#[derive(Clone)]
pub enum Awaited {
    /// A unit to be handed out.
    Work(Request),
    /// That one of these units of a work spec is completed or gone.
    Units(&'static str, Vec<Name>),
}

/// What becomes of the request that is woken next.
pub enum Next {
    /// Its time is over.
    Ended,
    /// It runs once more.
    Runs(WaiterId, Waiting),
}

impl Request {
    pub fn waits_for(&self) -> WaitsFor {
        let work = Work {
            work_specs: self.work_specs.iter().cloned().collect(),
            runtimes: self.runtimes.iter().cloned().collect(),
        };
        let max_units = self.max_units;
        WaitsFor::Work { work, max_units }
    }
}

impl Waiting {
    fn can_be_answered(&self, model: &Model) -> bool {
        match &self.awaited {
            Awaited::Work(request) => !model.candidates(request).is_empty(),
            Awaited::Units(spec, names) => !model.are_all_to_be_completed(spec, names),
        }
    }
}

impl Waits {
    pub fn are_none(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets a request wait that has found nothing.
    pub fn begin(
        &mut self,
        world: &mut World,
        session: usize,
        awaited: Awaited,
        waits_for: WaitsFor,
        wait: Duration,
    ) {
        if self.waiting.len() < WAITING_MAX && !wait.is_zero() {
            let end = world.now.plus(wait);
            let waiting = Waiting {
                session,
                awaited,
                end,
            };
            world.store.watch(true);
            let id = self.waiters.begin(waits_for, end);
            self.waiting.insert(id, waiting);
        }
    }

    /// The next request that is woken.
    pub fn next(&mut self, world: &mut World) -> Result<Option<Next>, String> {
        let news = world.store.take_news(world.namespace, world.now);
        self.waiters.note(news);
        let store = &world.store;
        let Some(id) = self.waiters.next(world.now, |id| store.get_work_spec(id)) else {
            return Ok(None);
        };
        let Some(waiting) = self.waiting.get(&id).cloned() else {
            return Err(format!("{id:?} was woken, and does not wait"));
        };
        if !self.waiters.is_over(id) {
            return Ok(Some(Next::Runs(id, waiting)));
        }
        self.remove(world, id);
        match waiting.end <= world.now {
            true => Ok(Some(Next::Ended)),
            false => Err(format!("{id:?} was ended before its time {}", waiting.end)),
        }
    }

    /// The first one that waits for work and can have a unit.
    pub fn first_in_turn(&self, model: &Model) -> Option<WaiterId> {
        let mut waiting = self.waiting.iter();
        let first = waiting.find(|(_, waiting)| {
            matches!(waiting.awaited, Awaited::Work(_)) && waiting.can_be_answered(model)
        })?;
        Some(*first.0)
    }

    /// Forgets one that was answered.
    pub fn answered(&mut self, world: &mut World, id: WaiterId) {
        self.remove(world, id);
    }

    /// Lets one wait on.
    pub fn sleep_again(&mut self, id: WaiterId, waits_for: WaitsFor) {
        self.waiters.sleep_again(id, waits_for);
    }

    /// No request is left that could be answered, or whose time is over.
    pub fn check_all_sleep(&mut self, world: &World, model: &Model) -> Result<(), String> {
        for (id, waiting) in &self.waiting {
            if waiting.can_be_answered(model) || waiting.end <= model.now {
                return Err(format!("{id:?} waits on, until {}", waiting.end));
            }
        }
        let times = [self.waiters.next_at(), world.store.due()];
        self.awake_at = times.into_iter().flatten().min();
        Ok(())
    }

    /// Time has passed, and nothing else has happened: no request can be answered before the daemon looks again.
    pub fn check_time(&self, model: &Model) -> Result<(), String> {
        if self.awake_at.is_none_or(|at| at <= model.now) {
            return Ok(());
        }
        let mut model = model.clone();
        model.expire();
        match self
            .waiting
            .iter()
            .find(|(_, waiting)| waiting.can_be_answered(&model))
        {
            Some((id, _)) => Err(format!(
                "{id:?} could be answered, and the daemon sleeps until {:?}",
                self.awake_at
            )),
            None => Ok(()),
        }
    }

    pub fn move_times(&mut self, step: ClockStep) {
        self.waiters.move_times(step);
        for waiting in self.waiting.values_mut() {
            waiting.end = waiting.end.moved(step);
        }
        self.awake_at = None;
    }

    fn remove(&mut self, world: &mut World, id: WaiterId) {
        self.waiting.remove(&id);
        self.waiters.remove(id);
        if self.waiters.is_empty() {
            world.store.watch(false);
        }
    }
}
