//! Plays a sequence on the store and on the model, and compares whatever can be seen.

use super::answer::Answer;
use super::model::Model;
use super::operations::{Json, Listing, Operation, Request, Step, Subject, Target, Token, Told};
use super::reports::Memory;
use super::scheduling::{Assignment, Outcome};
use super::strategies::{SESSIONS, SPECS};
use super::waits::{Awaited, Next, Waits};
use super::{on_model, on_store};
use coordinated::clock::{ClockStep, Timestamp};
use coordinated::coordinate::storage::{Storage, WorkSpecStore, WorkUnitStore};
use coordinated::coordinate::{AttemptId, Counts, Error, HandedOut, Name, StorageError, WaitsFor};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use test_support::world::{START, World};

/// Few, so that connections forget.
const REMEMBERED: usize = 6;

/// Where the store keeps its database.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    Memory,
    File,
}

/// A connection, as each of the two sees it.
struct Session {
    handed_out: HandedOut,
    memory: Memory,
}

struct Game {
    /// `None` only while the daemon is started anew.
    world: Option<World>,
    /// Of a database in a file.
    file: Option<(tempfile::TempDir, PathBuf)>,
    model: Model,
    /// The model when the present batch began, if that is going to be lost.
    before_batch: Option<Model>,
    sessions: Vec<Session>,
    /// The attempts that get_work has told, with the names of their units: the oldest first, also those whose units are
    /// gone.
    told: Vec<(String, Name, Token)>,
    /// How many of them are committed.
    told_for_sure: usize,
    waits: Waits,
    /// The clock was set, so that attempts did not begin in the order in which they are numbered: those that ran
    /// then moved with it. What is old is found only by looking at all of them, which the store does not do.
    clock_was_set: bool,
}

/// Plays all steps. The error says at which step, and how, the store and the model differ.
pub fn play(place: Place, steps: &[Step]) -> Result<(), String> {
    let mut game = Game::begin(place);
    for (number, step) in steps.iter().enumerate() {
        if number == 0 || steps[number - 1].ends_batch() {
            let end = steps[number..].iter().find(|step| step.ends_batch());
            game.before_batch = matches!(end, Some(Step::Lose)).then(|| game.model.clone());
        }
        game.take(step)
            .map_err(|error| format!("step {number}, {step:?}: {error}"))?;
    }
    game.end().map_err(|error| format!("at the end: {error}"))
}

fn new_sessions() -> Vec<Session> {
    let new = || Session {
        handed_out: HandedOut::new(REMEMBERED),
        memory: Memory::default(),
    };
    std::iter::repeat_with(new).take(SESSIONS).collect()
}

/// `Err` with both, if they differ.
fn agree<T: PartialEq + std::fmt::Debug>(what: &str, store: &T, model: &T) -> Result<(), String> {
    if store == model {
        return Ok(());
    }
    Err(format!(
        "{what} differs\n   store: {store:?}\n   model: {model:?}"
    ))
}

fn unforeseen(error: Error) -> String {
    format!("the store failed: {error}")
}

impl Game {
    fn begin(place: Place) -> Self {
        let file = match place {
            Place::Memory => None,
            Place::File => {
                let dir = tempfile::tempdir().expect("a temporary folder");
                let path = dir.path().join("jobs.db");
                Some((dir, path))
            }
        };
        let path = file
            .as_ref()
            .map_or(PathBuf::from(":memory:"), |(_, path)| path.clone());
        Self {
            world: Some(World::open_unsynced(&path, START)),
            file,
            model: Model::new(START),
            before_batch: None,
            sessions: new_sessions(),
            told: Vec::new(),
            told_for_sure: 0,
            waits: Waits::default(),
            clock_was_set: false,
        }
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("the daemon runs")
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Run(session, Operation::WaitForWork(request, wait)) => {
                if !self.get_work(*session, request)? {
                    let waits_for = request.waits_for();
                    let awaited = Awaited::Work(request.clone());
                    self.begin_to_wait(*session, awaited, waits_for, *wait);
                }
            }
            Step::Run(session, Operation::WaitForUnits(spec, names, wait)) => {
                self.statuses(*session, spec, names)?;
                if let Some(waits_for) = self.units_to_wait_for(spec, names)? {
                    let awaited = Awaited::Units(spec, names.clone());
                    self.begin_to_wait(*session, awaited, waits_for, *wait);
                }
            }
            Step::Run(session, operation) => self.run(*session, operation, false)?,
            Step::Undone(session, operation) => self.run(*session, operation, true)?,
            Step::Commit => self.commit()?,
            Step::Lose => self.lose()?,
            Step::Pass(time) => {
                let now = self.model.now.plus(*time);
                self.set_time(now);
                self.waits.check_time(&self.model)?;
            }
            Step::SetClock(seconds) => self.set_clock(*seconds)?,
            Step::Restart(time) => self.restart(*time)?,
        }
        if !self.waits.are_none() {
            self.wake()?;
            if step.ends_batch() {
                // What was handed out belongs to the batch that ends here: the model that is kept for the next one has it.
                self.commit()?;
            }
        }
        self.compare_counts()
    }

    /// Lets requests run that are woken, as the daemon does after each message, and when something is due.
    fn wake(&mut self) -> Result<(), String> {
        let world = self.world();
        if world.store.due().is_some_and(|due| due <= world.now) {
            world
                .operation(|running| running.expire())
                .map_err(unforeseen)?;
        }
        self.model.expire();
        loop {
            let world = self.world.as_mut().expect("the daemon runs");
            let (id, waiting) = match self.waits.next(world)? {
                None => break,
                Some(Next::Ended) => continue,
                Some(Next::Runs(id, waiting)) => (id, waiting),
            };
            let still_waits_for = match &waiting.awaited {
                Awaited::Work(request) => {
                    let in_turn = self.waits.first_in_turn(&self.model);
                    let has_units = self.get_work(waiting.session, request)?;
                    if has_units {
                        agree("who gets units", &Some(id), &in_turn)?;
                    }
                    (!has_units).then(|| request.waits_for())
                }
                Awaited::Units(spec, names) => self.units_to_wait_for(spec, names)?,
            };
            match still_waits_for {
                Some(waits_for) => self.waits.sleep_again(id, waits_for),
                None => {
                    let world = self.world.as_mut().expect("the daemon runs");
                    self.waits.answered(world, id);
                }
            }
        }
        let world = self.world.as_ref().expect("the daemon runs");
        self.waits.check_all_sleep(world, &self.model)
    }

    fn begin_to_wait(
        &mut self,
        session: usize,
        awaited: Awaited,
        waits_for: WaitsFor,
        wait: Duration,
    ) {
        let world = self.world.as_mut().expect("the daemon runs");
        self.waits.begin(world, session, awaited, waits_for, wait);
    }

    fn statuses(
        &mut self,
        session: usize,
        spec: &'static str,
        names: &[Name],
    ) -> Result<(), String> {
        self.run(session, &Operation::Status(spec, names.to_vec()), false)
    }

    /// What a request waits for that waits for these units, if all are there and none is completed.
    fn units_to_wait_for(
        &mut self,
        spec: &str,
        names: &[Name],
    ) -> Result<Option<WaitsFor>, String> {
        let found = self.world().operation(|running| {
            let spec = match running.work_spec(&Name::from_text(spec)) {
                Err(Error::NoSuchWorkSpec { .. }) => return Ok(None),
                spec => spec?.id,
            };
            let units = running.units_to_wait_for(spec, names)?;
            Ok(units.map(|units| WaitsFor::Units(spec, units)))
        });
        let found = found.map_err(unforeseen)?;
        self.model.expire();
        let expected = self.model.are_all_to_be_completed(spec, names);
        agree(
            "whether there are units to wait for",
            &found.is_some(),
            &expected,
        )?;
        Ok(found)
    }

    /// Asks for work. True if there was some.
    fn get_work(&mut self, session: usize, request: &Request) -> Result<bool, String> {
        let told = self.told.len();
        self.run(session, &Operation::GetWork(request.clone()), false)?;
        Ok(self.told.len() > told)
    }

    fn set_time(&mut self, now: Timestamp) {
        self.model.now = now;
        self.world().now = now;
    }

    fn run(&mut self, session: usize, operation: &Operation, undo: bool) -> Result<(), String> {
        let subject = match operation {
            Operation::Report(target, report) => {
                Some(self.subject(session, target, report.attempt.as_ref()))
            }
            Operation::Archive(_, limits) if limits.age.is_some() && self.clock_was_set => {
                return Ok(());
            }
            _ => None,
        };
        let world = self.world.as_mut().expect("the daemon runs");
        let Session { handed_out, memory } = &mut self.sessions[session];
        let (answer, begun) = on_store::run(world, handed_out, operation, subject.as_ref(), undo)
            .map_err(unforeseen)?;
        self.model.expire();
        let before = undo.then(|| self.model.clone());
        if let Operation::GetWork(request) | Operation::WaitForWork(request, _) = operation {
            let (model, given) = get_work(&self.model, request, &answer)?;
            if !undo {
                memory.remember(&given, REMEMBERED);
                self.tell(&given, &begun)?;
            }
            self.model = model;
            for given in given {
                let names = (request.worker.clone(), given.spec, given.name);
                self.model.by_worker.insert(names, given.unit);
            }
        } else {
            let expected = on_model::run(&mut self.model, memory, operation, subject.as_ref());
            agree("the answer", &answer, &expected)?;
        }
        if let Some(before) = before {
            let by_worker = before.by_worker.clone();
            self.go_back_to(before);
            self.model.by_worker = by_worker;
        }
        Ok(())
    }

    /// What happened since then is undone. Time goes on, no id is given out again, and what is remembered beside the
    /// file stays.
    fn go_back_to(&mut self, before: Model) {
        let undone = std::mem::replace(&mut self.model, before);
        self.model.now = undone.now;
        self.model.last_id = undone.last_id;
        self.model.by_worker = undone.by_worker;
    }

    /// Keeps the attempts that began for reports on them. The ids of the store must be larger than all before.
    fn tell(&mut self, given: &[Assignment], begun: &[AttemptId]) -> Result<(), String> {
        for (given, in_store) in given.iter().zip(begun) {
            let token = Token {
                in_store: *in_store,
                in_model: given.attempt,
            };
            if let Some((.., last)) = self.told.last()
                && last.in_store >= token.in_store
            {
                return Err(format!("{token:?} came after {last:?}"));
            }
            self.told
                .push((given.spec.clone(), given.name.clone(), token));
        }
        Ok(())
    }

    /// What a report is about. Without any attempt to tell, it tells none.
    fn subject(&self, here: usize, target: &Target, told: Option<&Told>) -> Subject {
        let (spec, name) = self.target(here, target);
        let attempt = told.and_then(|told| {
            let all = self.told.iter();
            let fitting: Vec<&Token> = all
                .filter(|(of, unit, _)| told.at_any_unit || (*of == spec && *unit == name))
                .map(|(.., token)| token)
                .collect();
            (!fitting.is_empty()).then(|| **told.index.get(&fitting))
        });
        Subject {
            spec,
            name,
            attempt,
        }
    }

    /// The unit that a report is about.
    fn target(&self, here: usize, target: &Target) -> (String, Name) {
        let handed_out = |session: usize, ago| {
            let mut newest_first = self.sessions[session].memory.handed_out.iter().rev();
            let given = newest_first.nth(ago)?;
            Some((given.spec.clone(), given.name.clone()))
        };
        let found = match target {
            Target::Named(spec, name) => Some(((*spec).to_owned(), name.clone())),
            Target::HandedOutHere(ago) => handed_out(here, *ago),
            Target::HandedOut(session, ago) => handed_out(*session, *ago),
            Target::AnyUnit(index) => {
                let specs = self.model.specs.iter();
                let units: Vec<(&String, &Name)> = specs
                    .flat_map(|(spec, of)| of.units.keys().map(move |unit| (spec, unit)))
                    .collect();
                let any = (!units.is_empty()).then(|| *index.get(&units));
                any.map(|(spec, unit)| (spec.clone(), unit.clone()))
            }
        };
        found.unwrap_or_else(|| (SPECS[0].to_owned(), Name::from_text("a")))
    }

    fn commit(&mut self) -> Result<(), String> {
        self.world()
            .store
            .commit()
            .map_err(|error| unforeseen(error.into()))?;
        self.told_for_sure = self.told.len();
        Ok(())
    }

    /// The disk is full in the middle of a batch.
    fn lose(&mut self) -> Result<(), String> {
        let full = || StorageError::Full("on purpose".to_owned());
        let world = self.world();
        let failed = world.operation(|_| Err::<(), _>(full().into()));
        if failed.is_ok() || !world.store.batch_is_broken() || world.store.commit().is_ok() {
            return Err("a full disk did not undo the batch".to_owned());
        }
        let before = self.before_batch.take();
        self.go_back_to(before.expect("kept since it was to be foreseen"));
        // Nobody was told, since the answers would have come after the commit.
        self.told.truncate(self.told_for_sure);
        // What is due expires with the first look. The model keeps that, so the next batch must not undo it.
        self.compare_all()?;
        self.commit()
    }

    fn set_clock(&mut self, seconds: i64) -> Result<(), String> {
        self.commit()?;
        self.world().set_clock(seconds);
        let step = ClockStep(seconds * 1_000_000);
        self.model.set_clock(step);
        self.waits.move_times(step);
        self.clock_was_set = true;
        self.compare_all()?;
        self.commit()
    }

    fn restart(&mut self, time: Duration) -> Result<(), String> {
        self.commit()?;
        let Some((_, path)) = &self.file else {
            return Ok(());
        };
        let now = self.model.now.plus(time);
        let random = {
            let world = self.world.take().expect("the daemon runs");
            world
                .store
                .close()
                .map_err(|error| unforeseen(error.into()))?;
            world.random
        };
        let world = World::open_unsynced(path, now);
        self.world = Some(World { random, ..world });
        self.model.now = now;
        self.model.restart();
        self.sessions = new_sessions();
        self.waits = Waits::default();
        self.compare_all()?;
        self.commit()
    }

    /// What the store keeps beside the units is what a count of the model's units says.
    fn compare_counts(&mut self) -> Result<(), String> {
        for name in SPECS {
            let world = self.world();
            let spec = world
                .store
                .find_work_spec(world.namespace, &Name::from_text(name));
            let kept: Option<Counts> = spec.map(|spec| spec.counts);
            let counted = self.model.specs.get(name).map(|spec| spec.counts());
            agree(&format!("the counts of {name}"), &kept, &counted)?;
        }
        Ok(())
    }

    /// Looks at everything that can be seen.
    fn compare_all(&mut self) -> Result<(), String> {
        self.run(0, &Operation::SpecNames(None), false)?;
        self.run(0, &Operation::Workers, false)?;
        let all_of = |spec| Operation::List(spec, everything());
        for spec in SPECS {
            let units = self
                .model
                .specs
                .get(spec)
                .map(|spec| spec.units.keys().cloned().collect());
            self.run(0, &Operation::Spec(spec), false)?;
            self.run(0, &all_of(spec), false)?;
            self.run(
                0,
                &Operation::Status(spec, units.unwrap_or_default()),
                false,
            )?;
            self.compare_priorities(spec)?;
        }
        for number in 0..4 {
            let worker = Name::from_text(format!("w{number}"));
            self.run(0, &Operation::Worker(worker.clone()), false)?;
            self.run(0, &Operation::Children(worker), false)?;
        }
        self.run(
            0,
            &Operation::ReadLocks(super::strategies::all_paths()),
            false,
        )
    }

    fn compare_priorities(&mut self, spec: &str) -> Result<(), String> {
        let Some(in_model) = self.model.specs.get(spec) else {
            return Ok(());
        };
        for (name, unit) in &in_model.units {
            let of_spec = Name::from_text(spec);
            let found = self
                .world
                .as_mut()
                .expect("the daemon runs")
                .operation(|running| {
                    let spec = running.work_spec(&of_spec)?.id;
                    Ok(running.store.find_work_unit(spec, name)?)
                });
            let priority = found.map_err(unforeseen)?.map(|unit| unit.priority);
            agree(
                &format!("the priority of {name}"),
                &priority,
                &Some(unit.priority),
            )?;
        }
        Ok(())
    }

    /// Commits, compares all, and at last takes everything that is available out of the queue, whose
    /// order shows then.
    fn end(&mut self) -> Result<(), String> {
        self.compare_all()?;
        self.commit()?;
        self.compare_reader()?;
        for spec in SPECS {
            if self.model.specs.contains_key(spec) {
                let definition = Json(json!({"name": spec}));
                self.run(0, &Operation::SetSpec(definition), false)?;
            }
            let request = Request {
                worker: Name::from_text("the last one"),
                max_units: 1_000,
                lease: Duration::from_secs(1),
                work_specs: vec![Name::from_text(spec)],
                runtimes: vec![String::new()],
            };
            self.run(0, &Operation::GetWork(request), false)?;
        }
        self.commit()?;
        self.compare_counts()
    }

    /// A reader beside the loop sees what was committed.
    fn compare_reader(&mut self) -> Result<(), String> {
        let world = self.world();
        let namespace = world.namespace;
        let Some(mut reader) = world.store.reader() else {
            return Ok(());
        };
        for spec in self.model.specs.keys() {
            let seen = on_store::list(&mut reader, namespace, spec, &everything());
            let expected = self.model.list(spec, &everything());
            let seen = Answer::Seen(seen.map_err(unforeseen)?);
            agree("what a reader sees", &seen, &expected)?;
        }
        Ok(())
    }
}

fn everything() -> Listing {
    Listing {
        statuses: None,
        start: None,
        limit: usize::MAX >> 1,
    }
}

/// Follows the store's choice among what chance allows.
fn get_work(
    model: &Model,
    request: &Request,
    answer: &Answer,
) -> Result<(Model, Vec<Assignment>), String> {
    let Answer::Work(work) = answer else {
        return Err(format!("get_work answered {answer:?}"));
    };
    let failed_before = |spec: &str| model.specs.get(spec).map_or(0, |spec| spec.counts().failed);
    let drawn: Vec<String> = SPECS
        .iter()
        .filter(|spec| {
            let gave = work.given.iter().any(|(from, _)| from == *spec);
            gave || work
                .failed
                .get(**spec)
                .is_some_and(|failed| *failed > failed_before(spec))
        })
        .map(|spec| (*spec).to_owned())
        .collect();
    let outcomes = model.get_work(request, &|spec| drawn.iter().any(|drawn| drawn == spec));
    let is_answer = |outcome: &Outcome| outcome.answer() == *answer;
    match outcomes.into_iter().find(is_answer) {
        Some(outcome) => Ok((outcome.model, outcome.given)),
        None => {
            let allowed = model.get_work(request, &|_| true);
            let allowed: Vec<Answer> = allowed.iter().map(Outcome::answer).collect();
            Err(format!(
                "the work differs\n   store: {answer:?}\n   model, any of: {allowed:?}"
            ))
        }
    }
}
