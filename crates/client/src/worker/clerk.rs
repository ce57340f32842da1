//! The one thread of a worker that talks to the daemon: it asks for work, reports, renews leases, says that the
//! worker is alive, and waits for a daemon that is away.

use super::away::Away;
use super::crew::{AHEAD_UNITS_MAX, Crew, Phase};
use super::heartbeat::{self, heartbeat};
use super::report::{Report, with_traceback};
use super::{Context, Ending, Handler, Outcome, Plan, Tally};
use crate::address::Address;
use crate::cbor::Value;
use crate::{
    Connection, Coordinate, Error, GetWork, ListSpecs, Name, Options, Result, ServerInfo, Update,
    Work,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Pauses between two questions for work, while there is none. They double.
const ASK_EVERY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Reports that are sent in one call, and the bytes of their data.
const REPORTS_MAX: usize = 500;
const REPORT_BYTES_MAX: usize = 8 << 20;
/// Units that are remembered as given back, for the number of their attempts.
const TRIES_MAX: usize = 10_000;
/// The longest lease that a server grants.
const LEASE_MAX: Duration = Duration::from_secs(86_400);

/// Runs a handler as the plan says, until it is told to stop.
///
/// # Errors
/// As [`super::Worker::run`].
pub fn run(address: Address, plan: &Plan, crew: &Crew, handler: &impl Handler) -> Result<Tally> {
    // Waiting and trying again are done here, where it can be told to stop.
    let options = Options {
        retries: 0,
        answer_timeout: Some(Duration::from_secs(30)),
        silence_timeout: None,
        ..Options::default()
    };
    let mut client = Coordinate::new(Connection::open(address, options)?);
    let info = client.server_info()?;
    let mut clerk = Clerk {
        client,
        info,
        plan,
        crew,
        handler,
        handed_out: None,
        outbox: Vec::new(),
        tries: HashMap::new(),
        last_id: 0,
        tally: Tally::default(),
        ask_at: Instant::now(),
        ask_every: ASK_EVERY.0,
        heartbeat_at: Instant::now(),
    };
    thread::scope(|scope| {
        for number in 0..plan.threads {
            let thread = thread::Builder::new();
            if let Err(error) = thread.spawn_scoped(scope, || crew.run(plan, handler)) {
                if number == 0 {
                    crew.close();
                    return Err(Error::NoThread(error));
                }
                let threads = number;
                tracing::warn!(threads, "no more threads can be started: {error}");
                break;
            }
        }
        let result = clerk.work();
        if result.is_err() {
            // Whatever comes of it, nobody will be told.
            crew.stop();
        }
        crew.close();
        result
    })?;
    Ok(clerk.tally)
}

/// Why the daemon has not taken an update.
enum NotTaken {
    /// The unit is another worker's, or gone.
    Refused(String),
    /// The message is too long for it.
    TooLarge(String),
}

impl NotTaken {
    fn into_message(self) -> String {
        match self {
            Self::Refused(message) | Self::TooLarge(message) => message,
        }
    }
}

struct Clerk<'w, H> {
    client: Coordinate,
    /// `None` of an original.
    info: Option<ServerInfo>,
    plan: &'w Plan,
    crew: &'w Crew,
    handler: &'w H,
    /// Units that runners don't yet have, and when they were asked for.
    handed_out: Option<(Vec<Work>, Instant)>,
    /// What the daemon does not yet know.
    outbox: Vec<Report>,
    /// How often this worker has tried units that it gave back, where the daemon does not count.
    tries: HashMap<(Name, Name), u64>,
    last_id: u64,
    tally: Tally,
    ask_at: Instant,
    ask_every: Duration,
    heartbeat_at: Instant,
}

impl<H: Handler> Clerk<'_, H> {
    fn work(&mut self) -> Result<()> {
        let mut away: Option<Away> = None;
        loop {
            let error = match self.turn() {
                Ok(is_over) => {
                    if away.take().is_some() {
                        self.handler.back();
                    }
                    if is_over {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => error,
            };
            let away = away.get_or_insert_with(|| {
                self.handler.away(&error);
                Away::new()
            });
            let phase = self.crew.wait_for_daemon(away.next_pause());
            if away.is_over(&error, phase) {
                return Err(error);
            }
        }
    }

    /// Does what is due; true if there is nothing left to do.
    fn turn(&mut self) -> Result<bool> {
        let renew_after = self.plan.lease / 3;
        let look_again = Instant::now() + (renew_after / 4).min(Duration::from_secs(1));
        let at_latest = match self.outbox.is_empty() && self.handed_out.is_none() {
            true => look_again.min(self.heartbeat_at),
            false => Instant::now(),
        };
        let turn = self.crew.next_turn(self.plan, at_latest, self.ask_at);
        self.outbox
            .extend(turn.reports.into_iter().map(Report::bounded));
        self.report()?;
        self.hand_on()?;
        self.renew(renew_after)?;
        if turn.is_over && self.crew.is_over() {
            self.client
                .worker_unregister(&self.plan.name)
                .or_else(ignore_refusal)?;
            return Ok(true);
        }
        if Instant::now() >= self.heartbeat_at {
            self.say_alive(turn.phase, turn.is_idle)?;
        }
        if turn.wanted > 0 {
            self.ask_for(turn.wanted.min(AHEAD_UNITS_MAX), turn.is_idle)?;
        }
        Ok(false)
    }

    fn has(&self, feature: &str) -> bool {
        self.info.as_ref().is_some_and(|info| info.has(feature))
    }

    fn say_alive(&mut self, phase: Phase, is_idle: bool) -> Result<()> {
        let mode = match (phase, is_idle) {
            (Phase::Working, true) => "IDLE",
            (Phase::Working, false) => "RUN",
            _ => "TERMINATE",
        };
        let heartbeat = heartbeat(&self.plan.name, mode, self.plan.threads);
        // A server that does not want it can do without.
        self.client
            .worker_heartbeat(&heartbeat)
            .map(|_| ())
            .or_else(ignore_refusal)?;
        self.heartbeat_at = Instant::now() + heartbeat::EVERY;
        Ok(())
    }

    fn ask_for(&mut self, units: usize, is_idle: bool) -> Result<()> {
        let asked = Instant::now();
        let wanted = GetWork {
            max_units: Some(units as u64),
            lease: Some(self.plan.lease),
            work_specs: self.plan.work_specs.clone(),
            runtimes: self.plan.runtimes.clone(),
        };
        let work = self.client.get_work(&self.plan.name, &wanted)?;
        if work.is_empty() {
            if is_idle && self.plan.until_empty && self.is_all_done()? {
                self.crew.close();
            }
            self.ask_at = Instant::now() + self.ask_every;
            self.ask_every = (self.ask_every * 2).min(ASK_EVERY.1);
            return Ok(());
        }
        self.ask_every = ASK_EVERY.0;
        self.ask_at = Instant::now();
        self.handed_out = Some((work, asked));
        self.hand_on()
    }

    /// Gives the runners what was handed out. If the connection breaks meanwhile it is done later.
    fn hand_on(&mut self) -> Result<()> {
        if let Some((work, asked)) = &self.handed_out {
            let (work, asked) = (work.clone(), *asked);
            let units = self.contexts(work)?;
            self.handed_out = None;
            self.crew.add(units, asked);
        }
        Ok(())
    }

    /// Adds what the handler wants to know beside the data.
    fn contexts(&mut self, work: Vec<Work>) -> Result<Vec<Context>> {
        let mut definitions: HashMap<Name, Arc<Value>> = HashMap::new();
        for unit in &work {
            if !definitions.contains_key(&unit.work_spec) {
                let definition = self.client.get_work_spec(&unit.work_spec)?;
                let definition = definition.unwrap_or(Value::EMPTY_MAP);
                definitions.insert(unit.work_spec.clone(), Arc::new(definition));
            }
        }
        let numbers = match self.has("get_attempts") {
            true => self.client.attempt_numbers(&work)?,
            false => Vec::new(),
        };
        let mut numbers = numbers.into_iter();
        let mut contexts = Vec::with_capacity(work.len());
        for unit in work {
            let attempt = numbers.next().flatten().unwrap_or_else(|| {
                let tries = self.tries.get(&(unit.work_spec.clone(), unit.key.clone()));
                tries.map_or(1, |tries| tries + 1)
            });
            let definition = Arc::clone(&definitions[&unit.work_spec]);
            self.last_id += 1;
            contexts.push(Context::new(self.last_id, unit, definition, attempt));
        }
        Ok(contexts)
    }

    /// True if no unit is available, delayed or pending, whoever has it.
    fn is_all_done(&mut self) -> Result<bool> {
        for work_spec in self.served()? {
            let counts = match self.client.count_work_units(&work_spec) {
                // There is no such work spec any more, and so no unit.
                Err(Error::Refused { .. }) => continue,
                counts => counts?,
            };
            if counts.available + counts.pending > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The work specs that there is work from.
    fn served(&mut self) -> Result<Vec<Name>> {
        if !self.plan.work_specs.is_empty() {
            return Ok(self.plan.work_specs.clone());
        }
        work_specs_with_runtimes(&mut self.client, &self.plan.runtimes)
    }

    fn renew(&mut self, age: Duration) -> Result<()> {
        for (work_spec, units) in by_work_spec(self.crew.held_longer_than(age), |unit| unit) {
            let since = Instant::now();
            let update = || Update::renewed(self.plan.lease).by_worker(self.plan.name.clone());
            let updates: Vec<_> = units
                .iter()
                .map(|unit| (unit.key().clone(), update()))
                .collect();
            let answers = self.update(&work_spec, updates)?;
            for (unit, answer) in units.into_iter().zip(answers) {
                match answer {
                    Ok(()) => self.crew.renewed(&unit, since),
                    Err(why) => {
                        if self.crew.lost(&unit) {
                            let lost = Ending::Lost(why.into_message());
                            self.ended(&unit, &lost, Duration::ZERO);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Reports what is to be reported. What the daemon has not confirmed stays to be reported.
    fn report(&mut self) -> Result<()> {
        // One after the other where that is how they are sent, so that none is sent again that was answered.
        let at_once = match self.has("update_work_units") {
            true => REPORTS_MAX,
            false => 1,
        };
        while let Some(first) = self.outbox.first() {
            let work_spec = first.unit.work_spec().clone();
            let mut bytes = 0;
            let mut updates = Vec::new();
            for report in self.outbox.iter().take(at_once) {
                bytes += report.bytes();
                let is_alike = *report.unit.work_spec() == work_spec;
                if !is_alike || (bytes > REPORT_BYTES_MAX && !updates.is_empty()) {
                    break;
                }
                updates.push((report.unit.key().clone(), self.update_for(report)));
            }
            let answers = self.update(&work_spec, updates)?;
            let reported: Vec<Report> = self.outbox.drain(..answers.len()).collect();
            for (report, answer) in reported.into_iter().zip(answers) {
                if let Err(NotTaken::TooLarge(message)) = answer {
                    self.outbox.push(report.smaller(&message));
                    continue;
                }
                let ending = match (answer, report.outcome) {
                    (Err(why), _) => Ending::Lost(why.into_message()),
                    (Ok(()), Outcome::Finished { .. }) => Ending::Finished,
                    (Ok(()), Outcome::Failed { traceback }) => Ending::Failed(traceback),
                    (Ok(()), Outcome::GivenBack { delay }) => Ending::GivenBack(delay),
                };
                self.remember_try(&report.unit, &ending);
                self.ended(&report.unit, &ending, report.took);
            }
            // What ended may have made more work.
            self.ask_every = ASK_EVERY.0;
            self.ask_at = Instant::now();
        }
        Ok(())
    }

    fn update_for(&self, report: &Report) -> Update {
        let update = match &report.outcome {
            Outcome::Finished { data: None } => Update::finished(),
            Outcome::Finished { data: Some(data) } => Update::finished().with_data(data.clone()),
            Outcome::Failed { .. } if report.is_bare => Update::failed(),
            Outcome::Failed { traceback } => {
                Update::failed().with_data(with_traceback(report.unit.data(), traceback))
            }
            Outcome::GivenBack { delay } if delay.is_zero() => Update::given_back(),
            Outcome::GivenBack { delay } if self.has("delay") => Update::available_after(*delay),
            // The originals know no delay, but a lease that nobody renews is one.
            Outcome::GivenBack { delay } => {
                Update::renewed((*delay).clamp(Duration::from_secs(1), LEASE_MAX))
            }
        };
        update.by_worker(self.plan.name.clone())
    }

    /// Sends updates; gives for each why it was not taken, if it was not.
    fn update(
        &mut self,
        work_spec: &Name,
        updates: Vec<(Name, Update)>,
    ) -> Result<Vec<Result<(), NotTaken>>> {
        if self.has("update_work_units") && updates.len() > 1 {
            match self.client.update_work_units(work_spec, &updates) {
                // The work spec is gone, one of them is unreadable, or together they are too long: one by one, then.
                Err(Error::Failed { .. } | Error::Refused { .. }) => {}
                Err(error) => return Err(error),
                Ok(answers) => {
                    let answers = answers.into_iter();
                    return Ok(answers
                        .map(|answer| answer.map_err(NotTaken::Refused))
                        .collect());
                }
            }
        }
        let mut answers = Vec::with_capacity(updates.len());
        for (key, update) in &updates {
            answers.push(match self.client.update_work_unit(work_spec, key, update) {
                Ok(()) => Ok(()),
                Err(Error::Refused { message, .. }) => Err(NotTaken::Refused(message)),
                Err(error) if error.is_too_large() => Err(NotTaken::TooLarge(error.to_string())),
                // Some of the originals say so that there is no such unit.
                Err(Error::Failed { message, .. }) if self.info.is_none() => {
                    Err(NotTaken::Refused(message))
                }
                Err(error) => return Err(error),
            });
        }
        Ok(answers)
    }

    fn remember_try(&mut self, unit: &Context, ending: &Ending) {
        let name = (unit.work_spec().clone(), unit.key().clone());
        match ending {
            Ending::GivenBack(delay) if !delay.is_zero() && !self.has("get_attempts") => {
                if self.tries.len() < TRIES_MAX {
                    self.tries.insert(name, unit.attempt());
                }
            }
            _ => {
                self.tries.remove(&name);
            }
        }
    }

    fn ended(&mut self, unit: &Context, ending: &Ending, took: Duration) {
        self.tally.count(ending);
        self.handler.ended(unit, ending, took);
    }
}

/// The names of the work specs that have one of these runtimes; with an empty list, of those without a runtime.
///
/// # Errors
/// As [`Coordinate::list_work_specs`].
pub fn work_specs_with_runtimes(client: &mut Coordinate, runtimes: &[Name]) -> Result<Vec<Name>> {
    let (definitions, _) = client.list_work_specs(&ListSpecs::default())?;
    let is_served = |definition: &Value| {
        let runtime = definition.get_some("runtime").and_then(Name::from_value);
        let runtime = runtime.unwrap_or_else(|| "".into());
        match runtimes {
            [] => runtime.bytes().is_empty(),
            _ => runtimes.contains(&runtime),
        }
    };
    let served = definitions
        .iter()
        .filter(|definition| is_served(definition));
    let names = served.filter_map(|definition| Name::from_value(definition.get("name")?));
    Ok(names.collect())
}

fn ignore_refusal(error: Error) -> Result<()> {
    match error {
        Error::Failed { .. } | Error::Refused { .. } => Ok(()),
        error => Err(error),
    }
}

/// Groups, in no order.
fn by_work_spec<T>(items: Vec<T>, unit: impl Fn(&T) -> &Context) -> HashMap<Name, Vec<T>> {
    let mut groups: HashMap<Name, Vec<T>> = HashMap::new();
    for item in items {
        let work_spec = unit(&item).work_spec().clone();
        groups.entry(work_spec).or_default().push(item);
    }
    groups
}
