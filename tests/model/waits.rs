//! Requests for work that wait: the store's part is `Waiters`, as the daemon uses it. The model knows which of them wait, in
//! the order of their arrival, and asks itself whether a unit can be had.

use super::model::Model;
use super::operations::Request;
use coordinated::clock::{ClockStep, Timestamp};
use coordinated::coordinate::storage::{Storage, WorkSpecStore};
use coordinated::coordinate::{WaiterId, Waiters, WaitsFor, Work};
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
    pub request: Request,
    end: Timestamp,
}

/// What becomes of the request that is woken next.
pub enum Next {
    /// Its time is over.
    Ended,
    /// It looks for units.
    Runs(WaiterId, Waiting),
}

impl Waiting {
    fn waits_for(&self) -> WaitsFor {
        let work = Work {
            work_specs: self.request.work_specs.iter().cloned().collect(),
            runtimes: self.request.runtimes.iter().cloned().collect(),
        };
        let max_units = self.request.max_units;
        WaitsFor::Work { work, max_units }
    }

    fn can_have_a_unit(&self, model: &Model) -> bool {
        !model.candidates(&self.request).is_empty()
    }
}

impl Waits {
    pub fn are_none(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets a request wait that has found nothing.
    pub fn begin(&mut self, world: &mut World, session: usize, request: &Request, wait: Duration) {
        if self.waiting.len() < WAITING_MAX && !wait.is_zero() {
            let waiting = Waiting {
                session,
                request: request.clone(),
                end: world.now.plus(wait),
            };
            world.store.watch(true);
            let id = self.waiters.begin(waiting.waits_for(), waiting.end);
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

    /// The first one that can have a unit.
    pub fn first_in_turn(&self, model: &Model) -> Option<WaiterId> {
        let mut waiting = self.waiting.iter();
        let first = waiting.find(|(_, waiting)| waiting.can_have_a_unit(model))?;
        Some(*first.0)
    }

    /// Forgets one that got units.
    pub fn answered(&mut self, world: &mut World, id: WaiterId) {
        self.remove(world, id);
    }

    /// Lets one wait on that got nothing.
    pub fn sleep_again(&mut self, id: WaiterId) {
        if let Some(waiting) = self.waiting.get(&id) {
            self.waiters.sleep_again(id, waiting.waits_for());
        }
    }

    /// No request is left that could have a unit, or whose time is over.
    pub fn check_all_sleep(&mut self, world: &World, model: &Model) -> Result<(), String> {
        for (id, waiting) in &self.waiting {
            if waiting.can_have_a_unit(model) || waiting.end <= model.now {
                return Err(format!("{id:?} waits on, until {}", waiting.end));
            }
        }
        let times = [self.waiters.next_at(), world.store.due()];
        self.awake_at = times.into_iter().flatten().min();
        Ok(())
    }

    /// Time has passed, and nothing else has happened: nobody can have a unit before the daemon looks again.
    pub fn check_time(&self, model: &Model) -> Result<(), String> {
        if self.awake_at.is_none_or(|at| at <= model.now) {
            return Ok(());
        }
        let mut model = model.clone();
        model.expire();
        match self
            .waiting
            .iter()
            .find(|(_, waiting)| waiting.can_have_a_unit(&model))
        {
            Some((id, _)) => Err(format!(
                "{id:?} could have a unit, and the daemon sleeps until {:?}",
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
