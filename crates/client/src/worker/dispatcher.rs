//! The dispatcher: the only thread of a worker that talks to the daemon. It requests work, sends reports and heartbeats,
//! renews leases, and waits while the daemon can't be reached.

use super::heartbeat::{self, heartbeat};
use super::outage::Outage;
use super::outcome::{is_cancelled, message_of};
use super::report::{Report, with_traceback};
use super::runner_pool::{PREFETCH_UNITS_MAX, Phase, RunnerPool};
use super::work_waiter::WorkWaiter;
use super::{Context, Ending, Handler, Outcome, Plan, Retry, Tally};
use crate::address::Address;
use crate::cbor::Value;
use crate::{
    Connection, Coordinate, Error, GetWork, ListSpecs, Name, NextTry, Options, Result, ServerInfo,
    Update, Work,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The first and the longest pause between two requests for work while there is none. Pauses double.
const REQUEST_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a request waits at a daemon that can wait, unless a quarter of a lease is less: a unit may have been leased
/// when the request was sent, for all that the worker knows.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a worker that ends waits for the answer to such a request.
const LAST_ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long the connection for it may take to open.
const WAIT_CONNECT_MAX: Duration = Duration::from_secs(3);
/// The most reports in one call, and the most bytes of their data.
const REPORTS_MAX: usize = 500;
const REPORT_BYTES_MAX: usize = 8 << 20;
/// How often a worker asks whether units that it has were cancelled, unless it renews their leases more often, which tells
/// it too.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Units that were given back and whose attempts are counted.
const ATTEMPT_COUNTS_MAX: usize = 10_000;
/// The longest lease that a server accepts.
const LEASE_MAX: Duration = Duration::from_secs(86_400);

/// Runs a handler as the plan says, until it is told to stop.
///
/// # Errors
/// As [`super::Worker::run`].
pub fn run(
    address: Address,
    plan: &Plan,
    runners: &RunnerPool,
    handler: &impl Handler,
) -> Result<Tally> {
    // The dispatcher itself waits and retries, so that it can be told to stop.
    let options = Options {
        retries: 0,
        answer_timeout: Some(Duration::from_secs(30)),
        silence_timeout: None,
        tls: plan.tls.clone(),
        token: plan.token.clone(),
        ..Options::default()
    };
    let mut client = Coordinate::new(Connection::open(address.clone(), options.clone())?);
    let info = client.server_info()?;
    let waiter = WorkWaiter::default();
    let options = Options {
        connect_timeout: WAIT_CONNECT_MAX,
        ..options
    };
    let wait = || waiter.run(&address, &options, &plan.name, runners);
    let mut dispatcher = Dispatcher {
        client,
        info,
        plan,
        runners,
        handler,
        waiter: None,
        handed_out: None,
        outbox: Vec::new(),
        attempts: HashMap::new(),
        last_id: 0,
        tally: Tally::default(),
        request_at: Instant::now(),
        request_pause: REQUEST_PAUSE.0,
        heartbeat_at: Instant::now(),
        look_at: Instant::now() + LOOK_EVERY,
    };
    thread::scope(|scope| {
        for number in 0..plan.threads {
            let thread = thread::Builder::new();
            if let Err(error) = thread.spawn_scoped(scope, || runners.run(plan, handler)) {
                if number == 0 {
                    runners.close();
                    return Err(Error::NoThread(error));
                }
                let threads = number;
                tracing::warn!(threads, "cannot start more threads: {error}");
                break;
            }
        }
        if dispatcher.has("wait") {
            match thread::Builder::new().spawn_scoped(scope, wait) {
                Ok(_) => dispatcher.waiter = Some(&waiter),
                Err(error) => tracing::warn!("cannot start a thread that waits: {error}"),
            }
        }
        let result = dispatcher.work();
        waiter.close();
        if result.is_err() {
            // Outcomes can't be reported any more.
            runners.stop();
        }
        runners.close();
        result
    })?;
    Ok(dispatcher.tally)
}

/// Why the daemon has rejected an update.
enum Rejection {
    /// Another worker has the unit, or it is gone.
    Refused(String),
    /// The message is too long for the daemon.
    TooLarge(String),
}

impl Rejection {
    fn into_message(self) -> String {
        match self {
            Self::Refused(message) | Self::TooLarge(message) => message,
        }
    }
}

struct Dispatcher<'w, H> {
    client: Coordinate,
    /// `None` for an original server.
    info: Option<ServerInfo>,
    plan: &'w Plan,
    runners: &'w RunnerPool,
    handler: &'w H,
    /// Waits for work, if the daemon can.
    waiter: Option<&'w WorkWaiter>,
    /// Units that runners don't have yet, and when they were requested.
    handed_out: Option<(Vec<Work>, Instant)>,
    /// Reports that the daemon has not confirmed yet.
    outbox: Vec<Report>,
    /// How often this worker has tried units that it gave back, if the daemon does not count attempts.
    attempts: HashMap<(Name, Name), u64>,
    last_id: u64,
    tally: Tally,
    request_at: Instant,
    request_pause: Duration,
    heartbeat_at: Instant,
    look_at: Instant,
}

impl<H: Handler> Dispatcher<'_, H> {
    fn work(&mut self) -> Result<()> {
        let mut outage: Option<Outage> = None;
        loop {
            let error = match self.turn() {
                Ok(is_over) => {
                    if outage.take().is_some() {
                        self.handler.outage_ended();
                    }
                    if is_over {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => error,
            };
            let outage = outage.get_or_insert_with(|| {
                self.handler.outage_began(&error);
                Outage::new()
            });
            let phase = self.runners.wait_for_daemon(outage.next_pause());
            if outage.is_too_long(&error, phase) {
                return Err(error);
            }
        }
    }

    /// Does what is due. True if there is nothing left to do.
    fn turn(&mut self) -> Result<bool> {
        let renew_after = self.plan.lease / 3;
        let look_again = Instant::now() + (renew_after / 4).min(Duration::from_secs(1));
        let at_latest = match self.outbox.is_empty() && self.handed_out.is_none() {
            true => look_again.min(self.heartbeat_at),
            false => Instant::now(),
        };
        let is_waiting = self.waiter.is_some_and(WorkWaiter::is_busy);
        let request_at = match is_waiting {
            true => at_latest + WAIT_MAX,
            false => self.request_at,
        };
        let turn = self.runners.next_turn(self.plan, at_latest, request_at);
        self.outbox
            .extend(turn.reports.into_iter().map(Report::bounded));
        self.report()?;
        self.take_waited();
        self.hand_over()?;
        self.renew(renew_after)?;
        if renew_after > LOOK_EVERY && Instant::now() >= self.look_at {
            self.look_for_cancellations()?;
        }
        if turn.phase != Phase::Working {
            self.end_wait(turn.is_over)?;
        }
        if turn.is_over && self.runners.is_over() {
            self.client
                .worker_unregister(&self.plan.name)
                .or_else(ignore_refusal)?;
            return Ok(true);
        }
        if Instant::now() >= self.heartbeat_at {
            self.send_heartbeat(turn.phase, turn.is_idle)?;
        }
        if turn.wanted > 0 && !is_waiting {
            self.request_work(turn.wanted.min(PREFETCH_UNITS_MAX), turn.is_idle)?;
        }
        Ok(false)
    }

    fn has(&self, feature: &str) -> bool {
        self.info.as_ref().is_some_and(|info| info.has(feature))
    }

    fn send_heartbeat(&mut self, phase: Phase, is_idle: bool) -> Result<()> {
        let mode = match (phase, is_idle) {
            (Phase::Working, true) => "IDLE",
            (Phase::Working, false) => "RUN",
            _ => "TERMINATE",
        };
        let heartbeat = heartbeat(&self.plan.name, mode, self.plan.threads);
        // A server may refuse it, which does no harm.
        self.client
            .worker_heartbeat(&heartbeat)
            .map(|_| ())
            .or_else(ignore_refusal)?;
        self.heartbeat_at = Instant::now() + heartbeat::EVERY;
        Ok(())
    }

    fn request_work(&mut self, units: usize, is_idle: bool) -> Result<()> {
        let asked = Instant::now();
        let wanted = GetWork {
            max_units: Some(units as u64),
            lease: Some(self.plan.lease),
            work_specs: self.plan.work_specs.clone(),
            runtimes: self.plan.runtimes.clone(),
            attempts: self.has("attempts"),
            wait: None,
        };
        let work = self.client.get_work(&self.plan.name, &wanted)?;
        if work.is_empty() {
            if is_idle && self.plan.until_empty && self.is_all_done()? {
                self.runners.close();
                return Ok(());
            }
            let pause = self.next_pause();
            match self.waiter {
                Some(waiter) => {
                    let wait = match self.plan.until_empty {
                        // Other workers may end the last units meanwhile.
                        true => pause,
                        false => WAIT_MAX,
                    };
                    let wait = Some(wait.min(self.plan.lease / 4));
                    waiter.ask(GetWork { wait, ..wanted });
                }
                None => self.request_at = Instant::now() + pause,
            }
            return Ok(());
        }
        self.request_pause = REQUEST_PAUSE.0;
        self.request_at = Instant::now();
        self.handed_out = Some((work, asked));
        self.hand_over()
    }

    /// How long to wait before the next request for work.
    fn next_pause(&mut self) -> Duration {
        let pause = self.request_pause;
        self.request_pause = (pause * 2).min(REQUEST_PAUSE.1);
        pause
    }

    /// Takes the work that a waiting request has got.
    fn take_waited(&mut self) {
        let Some(waited) = self.waiter.and_then(WorkWaiter::take_answer) else {
            return;
        };
        self.request_at = Instant::now();
        if !waited.work.is_empty() {
            self.request_pause = REQUEST_PAUSE.0;
            self.handed_out = Some((waited.work, waited.asked));
        } else if !waited.is_whole {
            // The daemon is stopping, or can't be reached on another connection.
            self.request_at = Instant::now() + self.next_pause();
        }
    }

    /// Waits for work no longer. What the daemon has given already is handed over, and so given back.
    fn end_wait(&mut self, is_over: bool) -> Result<()> {
        let Some(waiter) = self.waiter else {
            return Ok(());
        };
        waiter.hurry();
        if is_over {
            waiter.wait_for_last_answer(LAST_ANSWER_MAX);
            self.take_waited();
            self.hand_over()?;
        }
        Ok(())
    }

    /// Hands the units to the runners. If the connection breaks meanwhile, this is done later.
    fn hand_over(&mut self) -> Result<()> {
        if let Some((work, asked)) = &self.handed_out {
            let (work, asked) = (work.clone(), *asked);
            let units = self.contexts(work)?;
            self.handed_out = None;
            self.runners.add(units, asked);
        }
        Ok(())
    }

    /// Adds what handlers need besides the data.
    fn contexts(&mut self, work: Vec<Work>) -> Result<Vec<Context>> {
        let mut definitions: HashMap<Name, Arc<Value>> = HashMap::new();
        for unit in &work {
            if !definitions.contains_key(&unit.work_spec) {
                let definition = self.client.get_work_spec(&unit.work_spec)?;
                let definition = definition.unwrap_or(Value::EMPTY_MAP);
                definitions.insert(unit.work_spec.clone(), Arc::new(definition));
            }
        }
        // Earlier daemons tell the number only when they are asked.
        let numbers = match self.has("get_attempts") && !self.has("attempts") {
            true => self.client.attempt_numbers(&work)?,
            false => Vec::new(),
        };
        let mut numbers = numbers.into_iter();
        let mut contexts = Vec::with_capacity(work.len());
        for unit in work {
            let told = unit.attempt.map(|attempt| attempt.number);
            let attempt = told.or(numbers.next().flatten()).unwrap_or_else(|| {
                let attempts = self
                    .attempts
                    .get(&(unit.work_spec.clone(), unit.key.clone()));
                attempts.map_or(1, |attempts| attempts + 1)
            });
            let definition = Arc::clone(&definitions[&unit.work_spec]);
            self.last_id += 1;
            contexts.push(Context::new(self.last_id, unit, definition, attempt));
        }
        Ok(contexts)
    }

    /// True if no unit is available, delayed, or pending with any worker.
    fn is_all_done(&mut self) -> Result<bool> {
        for work_spec in self.served()? {
            let counts = match self.client.count_work_units(&work_spec) {
                // The work spec is gone, and so are its units.
                Err(Error::Refused { .. }) => continue,
                counts => counts?,
            };
            if counts.available + counts.pending > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The work specs that this worker serves.
    fn served(&mut self) -> Result<Vec<Name>> {
        if !self.plan.work_specs.is_empty() {
            return Ok(self.plan.work_specs.clone());
        }
        work_specs_with_runtimes(&mut self.client, &self.plan.runtimes)
    }

    fn renew(&mut self, age: Duration) -> Result<()> {
        for (work_spec, units) in by_work_spec(self.runners.held_longer_than(age), |unit| unit) {
            let since = Instant::now();
            let update = |unit| self.identified(Update::renewed(self.plan.lease), unit);
            let updates: Vec<_> = units
                .iter()
                .map(|unit| (unit.key().clone(), update(unit)))
                .collect();
            let answers = self.update(&work_spec, updates)?;
            for (unit, answer) in units.into_iter().zip(answers) {
                match answer {
                    Ok(_) => self.runners.renewed(&unit, since),
                    Err(why) => {
                        let why = why.into_message();
                        if is_cancelled(&why) {
                            self.runners.cancelled(&unit, why);
                        } else if self.runners.lost(&unit) {
                            self.ended(&unit, &Ending::Lost(why), Duration::ZERO);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks whether units were cancelled.
    fn look_for_cancellations(&mut self) -> Result<()> {
        self.look_at = Instant::now() + LOOK_EVERY;
        if !self.has("cancel") {
            return Ok(());
        }
        for (work_spec, units) in
            by_work_spec(self.runners.held_longer_than(Duration::ZERO), |unit| unit)
        {
            let keys: Vec<Name> = units.iter().map(|unit| unit.key().clone()).collect();
            let statuses = match self.client.get_work_unit_status(&work_spec, &keys) {
                // The work spec is gone, which the next renewal tells.
                Err(Error::Refused { .. }) => continue,
                statuses => statuses?,
            };
            for (unit, status) in units.iter().zip(statuses) {
                if let Some(status) = status
                    && let Some(cancellation) = status.cancelled
                    && status.worker.as_ref() == Some(&self.plan.name)
                {
                    self.runners.cancelled(unit, message_of(&cancellation));
                }
            }
        }
        Ok(())
    }

    /// Sends the reports. Those that the daemon does not confirm stay in the outbox.
    fn report(&mut self) -> Result<()> {
        // Without `update_work_units` each report is a call, so that none is sent again that was answered.
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
                if let Err(Rejection::TooLarge(message)) = answer {
                    self.outbox.push(report.smaller(&message));
                    continue;
                }
                let ending = match (answer, report.outcome, report.cancelled) {
                    (Err(why), _, _) => Ending::of_refused(why.into_message()),
                    (Ok(_), Outcome::Finished { .. }, _) => Ending::Finished,
                    (Ok(_), _, Some(message)) => Ending::Cancelled(message),
                    (Ok(None), Outcome::Failed { traceback, .. }, None) => {
                        Ending::Failed(traceback)
                    }
                    (Ok(Some(next)), Outcome::Failed { traceback, .. }, None) => Ending::Retried {
                        traceback,
                        delay: next.delay,
                    },
                    (Ok(_), Outcome::GivenBack { delay, .. }, None) => Ending::GivenBack(delay),
                };
                self.count_attempt(&report.unit, &ending);
                self.ended(&report.unit, &ending, report.took);
            }
            // A finished unit may have added work.
            self.request_pause = REQUEST_PAUSE.0;
            self.request_at = Instant::now();
        }
        Ok(())
    }

    fn update_for(&self, report: &Report) -> Update {
        let update = match &report.outcome {
            Outcome::Finished { data: None } => Update::finished(),
            Outcome::Finished { data: Some(data) } => Update::finished().with_data(data.clone()),
            Outcome::Failed { traceback, retry } => {
                let update = match retry {
                    Retry::After(delay) if self.has("retries") => {
                        Update::failed().retried_after(*delay)
                    }
                    Retry::Never if self.has("retries") => Update::failed().for_good(),
                    _ => Update::failed(),
                };
                match report.omits_traceback {
                    true => update,
                    false => update.with_data(with_traceback(report.unit.data(), traceback)),
                }
            }
            Outcome::GivenBack { delay, .. } if delay.is_zero() => Update::given_back(),
            Outcome::GivenBack { delay, traceback } if self.has("delay") => {
                let update = Update::available_after(*delay);
                match traceback {
                    None => update,
                    Some(traceback) => {
                        update.with_data(with_traceback(report.unit.data(), traceback))
                    }
                }
            }
            // The original servers have no delays, but a lease that is not renewed has the same effect.
            Outcome::GivenBack { delay, .. } => {
                Update::renewed((*delay).clamp(Duration::from_secs(1), LEASE_MAX))
            }
        };
        self.identified(update, &report.unit)
    }

    /// The update with the attempt that it is about and, for daemons that don't know attempts, the worker.
    fn identified(&self, update: Update, unit: &Context) -> Update {
        let update = update.by_worker(self.plan.name.clone());
        match unit.attempt_id() {
            Some(id) => update.of_attempt(id),
            None => update,
        }
    }

    /// Sends updates. Returns for each when its unit will be tried again if it failed and will be, or why the update was
    /// not accepted.
    fn update(
        &mut self,
        work_spec: &Name,
        updates: Vec<(Name, Update)>,
    ) -> Result<Vec<Result<Option<NextTry>, Rejection>>> {
        let tells_retry = self.has("tell_retry");
        if self.has("update_work_units") && updates.len() > 1 {
            match self.client.update_many(work_spec, &updates, tells_retry) {
                // The work spec is gone, one update is invalid, or they are too long together: send them one by one.
                Err(Error::Failed { .. } | Error::Refused { .. }) => {}
                Err(error) => return Err(error),
                Ok(answers) => {
                    let answers = answers.into_iter();
                    return Ok(answers
                        .map(|answer| answer.map_err(Rejection::Refused))
                        .collect());
                }
            }
        }
        let mut answers = Vec::with_capacity(updates.len());
        for (key, update) in &updates {
            let answer = self.client.update_one(work_spec, key, update, tells_retry);
            answers.push(match answer {
                Ok(next_try) => Ok(next_try),
                Err(Error::Refused { message, .. }) => Err(Rejection::Refused(message)),
                Err(error) if error.is_too_large() => Err(Rejection::TooLarge(error.to_string())),
                // Some original servers report a missing unit like this.
                Err(Error::Failed { message, .. }) if self.info.is_none() => {
                    Err(Rejection::Refused(message))
                }
                Err(error) => return Err(error),
            });
        }
        Ok(answers)
    }

    fn count_attempt(&mut self, unit: &Context, ending: &Ending) {
        let name = (unit.work_spec().clone(), unit.key().clone());
        match ending {
            Ending::GivenBack(delay) if !delay.is_zero() && !self.has("get_attempts") => {
                if self.attempts.len() < ATTEMPT_COUNTS_MAX {
                    self.attempts.insert(name, unit.attempt());
                }
            }
            _ => {
                self.attempts.remove(&name);
            }
        }
    }

    fn ended(&mut self, unit: &Context, ending: &Ending, took: Duration) {
        self.tally.count(ending);
        self.handler.ended(unit, ending, took);
    }
}

/// The names of the work specs with one of these runtimes. An empty runtime stands for none.
///
/// # Errors
/// As [`Coordinate::list_work_specs`].
pub fn work_specs_with_runtimes(client: &mut Coordinate, runtimes: &[Name]) -> Result<Vec<Name>> {
    let (definitions, _) = client.list_work_specs(&ListSpecs::default())?;
    let is_served = |definition: &Value| {
        let runtime = definition.get_some("runtime").and_then(Name::from_value);
        let runtime = runtime.unwrap_or_else(|| "".into());
        runtimes.contains(&runtime)
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

/// Groups items by work spec, in no particular order.
fn by_work_spec<T>(items: Vec<T>, unit: impl Fn(&T) -> &Context) -> HashMap<Name, Vec<T>> {
    let mut groups: HashMap<Name, Vec<T>> = HashMap::new();
    for item in items {
        let work_spec = unit(&item).work_spec().clone();
        groups.entry(work_spec).or_default().push(item);
    }
    groups
}
