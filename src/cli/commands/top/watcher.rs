//! Polling the daemon on its own thread, and reconnecting after errors.

use crate::cli::commands::change::retry_failed;
use crate::cli::commands::names::{shown, units};
use crate::cli::commands::server::{Daemon, Server};
use crate::cli::commands::summary::{History, SpecCounts, count_all};
use crate::cli::values::now;
use coordinated_client::{
    Error as CallError, FailureGroup, Name, Options, Pause, Schedule, Status, UnitQuery,
};
use std::collections::HashMap;
use std::error::Error;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The most running units and groups of failures to ask for: more than fit on a screen.
const DETAILS_MAX: u64 = 100;

/// Up to this number of work specs, each is asked for whether it is paused; beyond it, only the selected one.
const SPECS_ASKED_MAX: usize = 100;

/// After reading details, wait this many times as long as that took: finding the few running units among millions is
/// expensive for the daemon.
const REST_FACTOR: u32 = 20;

/// How long to wait for an answer before showing an error.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What the watcher reports.
pub(super) enum Update {
    /// The state of the daemon.
    Snapshot(Snapshot),
    /// Why the daemon can't be reached.
    Unavailable(String),
    /// The outcome of a command.
    Done(String),
}

/// The state of the daemon at one time.
#[derive(Default)]
pub(super) struct Snapshot {
    /// Name and version of the server.
    pub(super) server: String,
    /// By name.
    pub(super) specs: Vec<SpecCounts>,
    /// Who paused work specs, when and why: `None` for those that are not paused. Only those that were asked.
    pub(super) paused: HashMap<Name, Option<Pause>>,
    pub(super) workers: u64,
    /// Of the selected work spec, if any.
    pub(super) details: Option<Details>,
}

impl Snapshot {
    /// Who paused a work spec, when and why, if it is known to be paused.
    pub(super) fn pause_of(&self, work_spec: &Name) -> Option<&Pause> {
        self.paused.get(work_spec)?.as_ref()
    }
}

/// The running units and the failures of a work spec.
#[derive(Clone)]
pub(super) struct Details {
    pub(super) work_spec: Name,
    pub(super) running: Vec<Running>,
    /// The latest first; `None` if the server does not report them.
    pub(super) failures: Option<Vec<FailureGroup>>,
    /// The runs of its schedule, if it has one.
    pub(super) schedule: Option<Box<Schedule>>,
}

/// A unit held by a worker.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) key: Name,
    pub(super) worker: Option<Name>,
    /// Seconds until the lease ends.
    pub(super) lease_left: Option<f64>,
}

/// A command for the watcher.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command {
    /// Show the details of this work spec.
    Select(Name),
    Pause(Name, bool),
    /// Make all failed units available.
    Retry(Name),
}

/// The polling thread.
pub(super) struct Watcher {
    commands: Sender<Command>,
    thread: JoinHandle<()>,
}

impl Watcher {
    /// Starts polling every `interval`. `report` gets the updates, and returns false to stop.
    pub(super) fn start(
        server: Server,
        interval: Duration,
        report: impl Fn(Update) -> bool + Send + 'static,
    ) -> Self {
        let (commands, received) = channel();
        let thread = std::thread::spawn(move || {
            let mut poller = Poller::new(server);
            while report(poller.poll()) && poller.wait(&received, interval, &report) {}
        });
        Self { commands, thread }
    }

    /// True if the thread has ended, which only a panic can cause.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub(super) fn send(&self, command: Command) {
        // Fails only if the thread has ended, which `has_ended` reports.
        let _ = self.commands.send(command);
    }
}

struct Poller {
    server: Server,
    daemon: Option<Daemon>,
    history: History,
    selected: Option<Name>,
    details: Option<Details>,
    /// When to read the details again.
    next_details: Instant,
}

impl Poller {
    fn new(server: Server) -> Self {
        Self {
            server,
            daemon: None,
            history: History::default(),
            selected: None,
            details: None,
            next_details: Instant::now(),
        }
    }

    /// Waits for the time of the next poll, and runs commands meanwhile. False if the view is gone.
    fn wait(
        &mut self,
        commands: &Receiver<Command>,
        interval: Duration,
        report: &impl Fn(Update) -> bool,
    ) -> bool {
        match commands.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
            Ok(command) => {
                for command in std::iter::once(command).chain(commands.try_iter()) {
                    if let Some(outcome) = self.run(command)
                        && !report(Update::Done(outcome))
                    {
                        return false;
                    }
                }
            }
        }
        // Poll now, to show the change.
        true
    }

    /// Runs a command. Returns a message about the outcome, if there is something to say.
    fn run(&mut self, command: Command) -> Option<String> {
        if let Command::Select(name) = command {
            self.select(name);
            return None;
        }
        let Some(daemon) = &mut self.daemon else {
            return Some("nothing was changed: no daemon answers".to_owned());
        };
        self.next_details = Instant::now();
        let outcome = match command {
            Command::Select(_) => return None,
            Command::Pause(name, paused) => {
                let (done, what) = match paused {
                    true => (daemon.pause(&name, None), "paused"),
                    false => (daemon.resume(&name), "resumed"),
                };
                done.map(|()| format!("{} is {what}", shown(&name)))
                    .map_err(Into::into)
            }
            Command::Retry(name) => retry_failed(daemon, &name, |_| true, |_| {}, |_| {})
                .map(|count| format!("retried {} of {}", units(count), shown(&name))),
        };
        Some(outcome.unwrap_or_else(|error: Box<dyn Error>| first_line(&*error)))
    }

    fn select(&mut self, name: Name) {
        if self.selected.as_ref() != Some(&name) {
            self.selected = Some(name);
            self.details = None;
            self.next_details = Instant::now();
        }
    }

    fn poll(&mut self) -> Update {
        match self.snapshot() {
            Ok(snapshot) => Update::Snapshot(snapshot),
            Err(error) => {
                // A new connection may help.
                self.daemon = None;
                self.details = None;
                Update::Unavailable(first_line(&*error))
            }
        }
    }

    fn snapshot(&mut self) -> Result<Snapshot, Box<dyn Error>> {
        let daemon = match &mut self.daemon {
            Some(daemon) => daemon,
            None => self.daemon.insert(self.server.connect_with(Options {
                retries: 0,
                answer_timeout: Some(ANSWER_TIMEOUT),
                ..Options::default()
            })?),
        };
        let mut specs = count_all(daemon)?;
        self.history.measure(&mut specs);
        let is_there = |name: &Name| specs.iter().any(|spec| spec.name == *name);
        if !self.selected.as_ref().is_some_and(is_there) {
            self.selected = None;
            self.details = None;
        }
        let is_current = self.details.is_some() && Instant::now() < self.next_details;
        if let (Some(name), false) = (&self.selected, is_current) {
            let begin = Instant::now();
            self.details = unless_refused(details(daemon, name))?;
            self.next_details = Instant::now() + begin.elapsed() * REST_FACTOR;
        }
        let asked = if specs.len() <= SPECS_ASKED_MAX {
            specs.iter().map(|spec| spec.name.clone()).collect()
        } else {
            Vec::from_iter(self.selected.clone())
        };
        let mut paused = HashMap::new();
        for name in asked {
            if let Some(pause) = unless_refused(daemon.pause_of(&name))? {
                paused.insert(name, pause);
            }
        }
        Ok(Snapshot {
            server: daemon.description(),
            paused,
            workers: daemon.client.worker_stats()?.workers,
            details: self.details.clone(),
            specs,
        })
    }
}

/// `None` if the server refuses: the work spec was deleted meanwhile.
fn unless_refused<T>(answer: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match answer {
        Err(CallError::Refused { .. }) => Ok(None),
        other => other.map(Some),
    }
}

fn details(daemon: &mut Daemon, work_spec: &Name) -> Result<Details, CallError> {
    let pending = UnitQuery {
        statuses: vec![Status::Pending],
        limit: Some(DETAILS_MAX),
        ..UnitQuery::default()
    };
    let counts = daemon.client.count_work_units(work_spec)?;
    let mut running = Vec::new();
    if counts.pending > 0 {
        let found = daemon.client.get_work_units(work_spec, &pending)?;
        let keys: Vec<Name> = found.into_iter().map(|unit| unit.key).collect();
        let statuses = daemon.client.get_work_unit_status(work_spec, &keys)?;
        for (key, status) in keys.into_iter().zip(statuses) {
            // Some may have ended since the listing.
            if let Some(status) = status.filter(|status| status.status == Status::Pending) {
                running.push(Running {
                    key,
                    worker: status.worker,
                    lease_left: status.expiration.map(|at| at - now()),
                });
            }
        }
    }
    let failures = match (daemon.has("list_failures"), counts.failed) {
        (false, _) => None,
        (true, 0) => Some(Vec::new()),
        (true, _) => {
            let mut groups = daemon.client.list_failures(work_spec, Some(DETAILS_MAX))?;
            groups.sort_by(|a, b| {
                let last = |group: &FailureGroup| group.last_failed.unwrap_or(0.0);
                last(b).total_cmp(&last(a))
            });
            Some(groups)
        }
    };
    Ok(Details {
        work_spec: work_spec.clone(),
        running,
        failures,
        schedule: daemon.schedule_of(work_spec)?.map(Box::new),
    })
}

fn first_line(error: &dyn Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
