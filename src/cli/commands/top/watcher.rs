//! Asking the daemon, on a thread of its own, again and again and whatever happens to it.

use crate::cli::commands::change::retry_failed;
use crate::cli::commands::names::{shown, units};
use crate::cli::commands::server::{Daemon, Server};
use crate::cli::commands::summary::{History, Standing, see_all};
use crate::cli::values::now;
use coordinated_client::{
    Control, Error as CallError, FailureGroup, Name, Options, Status, UnitQuery,
};
use std::collections::HashMap;
use std::error::Error;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Running units, and groups of failures, that are asked for: more than fit on a screen.
const DETAILS_MAX: u64 = 100;

/// Work specs of which each is asked whether it is paused; of more, only the chosen one is.
const SPECS_ASKED_MAX: usize = 100;

/// The details of a work spec are looked at again after so many times as long as that took: to find the few
/// running units among millions is work for the daemon.
const REST_FACTOR: u32 = 20;

/// How long to wait for an answer before it is said that none comes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What a look has shown.
pub(super) enum Seen {
    /// How things stand.
    Picture(Picture),
    /// Why nothing can be seen.
    Nothing(String),
    /// What came of an order.
    Done(String),
}

/// How things stand.
#[derive(Default)]
pub(super) struct Picture {
    /// What the server calls itself.
    pub(super) server: String,
    /// By name.
    pub(super) specs: Vec<Standing>,
    /// Which work specs are paused, of those that are known.
    pub(super) paused: HashMap<Name, bool>,
    pub(super) workers: u64,
    /// Of the chosen work spec, if there is one.
    pub(super) details: Option<Details>,
}

/// What runs of a work spec, and what went wrong.
#[derive(Clone)]
pub(super) struct Details {
    pub(super) work_spec: Name,
    pub(super) running: Vec<Running>,
    /// The last ones first; `None` if the server does not tell.
    pub(super) failures: Option<Vec<FailureGroup>>,
}

/// A unit that a worker has.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) key: Name,
    pub(super) worker: Option<Name>,
    /// Seconds until the lease ends.
    pub(super) lease_left: Option<f64>,
}

/// What the watcher can be told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Order {
    /// Show the details of this one.
    Choose(Name),
    Pause(Name, bool),
    /// Make all failed units available.
    Retry(Name),
}

/// The thread.
pub(super) struct Watcher {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl Watcher {
    /// Starts to look, every `interval`. `tell` gets what is seen, and says whether it wants more.
    pub(super) fn start(
        server: Server,
        interval: Duration,
        tell: impl Fn(Seen) -> bool + Send + 'static,
    ) -> Self {
        let (orders, given) = channel();
        let thread = std::thread::spawn(move || {
            let mut look = Look::new(server);
            while tell(look.look()) && look.obey(&given, interval, &tell) {}
        });
        Self { orders, thread }
    }

    /// True if the thread has ended, which it does not do by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub(super) fn order(&self, order: Order) {
        // It is not heard if the thread has ended, which is noticed elsewhere.
        let _ = self.orders.send(order);
    }
}

struct Look {
    server: Server,
    daemon: Option<Daemon>,
    history: History,
    chosen: Option<Name>,
    details: Option<Details>,
    /// When to look at the details again.
    next_details: Instant,
}

impl Look {
    fn new(server: Server) -> Self {
        Self {
            server,
            daemon: None,
            history: History::default(),
            chosen: None,
            details: None,
            next_details: Instant::now(),
        }
    }

    /// Waits for the time of the next look and does meanwhile what is asked for. False if nobody is there.
    fn obey(
        &mut self,
        orders: &Receiver<Order>,
        interval: Duration,
        tell: &impl Fn(Seen) -> bool,
    ) -> bool {
        match orders.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
            Ok(order) => {
                for order in std::iter::once(order).chain(orders.try_iter()) {
                    if let Some(outcome) = self.carry_out(order)
                        && !tell(Seen::Done(outcome))
                    {
                        return false;
                    }
                }
            }
        }
        // What it has changed is shown at once.
        true
    }

    /// What came of it, in a sentence, if it is worth one.
    fn carry_out(&mut self, order: Order) -> Option<String> {
        if let Order::Choose(name) = order {
            self.choose(name);
            return None;
        }
        let Some(daemon) = &mut self.daemon else {
            return Some("nothing was changed: no daemon answers".to_owned());
        };
        self.next_details = Instant::now();
        let outcome = match order {
            Order::Choose(_) => return None,
            Order::Pause(name, paused) => {
                let control = Control {
                    paused: Some(paused),
                    ..Control::default()
                };
                let done = daemon.client.control_work_spec(&name, &control);
                let what = if paused { "paused" } else { "resumed" };
                done.map(|()| format!("{} is {what}", shown(&name)))
                    .map_err(Into::into)
            }
            Order::Retry(name) => retry_failed(daemon, &name, |_| true, |_| {}, |_| {})
                .map(|count| format!("retried {} of {}", units(count), shown(&name))),
        };
        Some(outcome.unwrap_or_else(|error: Box<dyn Error>| first_line(&*error)))
    }

    fn choose(&mut self, name: Name) {
        if self.chosen.as_ref() != Some(&name) {
            self.chosen = Some(name);
            self.details = None;
            self.next_details = Instant::now();
        }
    }

    fn look(&mut self) -> Seen {
        match self.picture() {
            Ok(picture) => Seen::Picture(picture),
            Err(error) => {
                // Whatever it was, it may go with a new connection.
                self.daemon = None;
                self.details = None;
                Seen::Nothing(first_line(&*error))
            }
        }
    }

    fn picture(&mut self) -> Result<Picture, Box<dyn Error>> {
        let daemon = match &mut self.daemon {
            Some(daemon) => daemon,
            None => self.daemon.insert(self.server.connect_with(Options {
                retries: 0,
                answer_timeout: Some(ANSWER_TIMEOUT),
                ..Options::default()
            })?),
        };
        let mut specs = see_all(daemon)?;
        self.history.measure(&mut specs);
        let is_there = |name: &Name| specs.iter().any(|spec| spec.name == *name);
        if !self.chosen.as_ref().is_some_and(is_there) {
            self.chosen = None;
            self.details = None;
        }
        let is_known = self.details.is_some() && Instant::now() < self.next_details;
        if let (Some(name), false) = (&self.chosen, is_known) {
            let begin = Instant::now();
            self.details = unless_refused(details(daemon, name))?;
            self.next_details = Instant::now() + begin.elapsed() * REST_FACTOR;
        }
        let asked = if specs.len() <= SPECS_ASKED_MAX {
            specs.iter().map(|spec| spec.name.clone()).collect()
        } else {
            Vec::from_iter(self.chosen.clone())
        };
        let mut paused = HashMap::new();
        for name in asked {
            if let Some(meta) = unless_refused(daemon.client.get_work_spec_meta(&name))? {
                paused.insert(name, meta.paused);
            }
        }
        Ok(Picture {
            server: daemon.description(),
            paused,
            workers: daemon.client.worker_stats()?.workers,
            details: self.details.clone(),
            specs,
        })
    }
}

/// Nothing if the server says no: the work spec was deleted meanwhile.
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
            // Those that have ended meanwhile do not run any more.
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
    })
}

fn first_line(error: &dyn Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
