//! A framework for workers: functions that run for work units, on any number of threads.
//!
//! A [`Worker`] requests units of the work specs that have a function, runs the function for each unit, and reports the
//! outcome. Meanwhile a thread in the background renews the leases, sends heartbeats, and handles failures:
//!
//! - If a function returns an error or panics, its unit fails, with the message as traceback. It is tried again as often
//!   as `retries` of its work spec says.
//! - If the daemon is restarted or the network breaks, the worker waits. Functions go on, and their outcomes are reported
//!   later.
//! - If a lease is lost to another worker nevertheless, [`Context::is_cancelled`] tells the function, and its outcome does
//!   not count.
//! - If somebody cancels a unit, [`Context::is_cancelled`] tells the function within about 20 seconds. It has some time to end
//!   then; unless it finishes the unit, that stays failed.
//! - If a worker is killed, its units are handed out again when their leases end. So a unit may be run twice, and functions
//!   must allow for that.
//!
//! Units that take little time are prefetched some tenths of a second ahead, and their outcomes are reported together.
//!
//! ```
//! use coordinated_client::cbor::Value;
//! use coordinated_client::{Coordinate, NewUnit};
//! use coordinated_client::worker::{Outcome, Worker};
//!
//! # test_support::example::with_daemon(|address| {
//! let mut daemon = Coordinate::connect(address)?;
//! daemon.set_work_spec(&Value::map([("name", Value::from("squares"))]))?;
//! let units = (0..100).map(|n| NewUnit::new(n.to_string().as_str(), Value::map([("n", n.into())])));
//! daemon.add_work_units(&"squares".into(), units)?;
//!
//! let tally = Worker::new(address)
//!     .threads(2)
//!     .until_empty()
//!     .on("squares", |unit| {
//!         let n = unit.data().get("n").and_then(Value::as_i64).ok_or("there is no n")?;
//!         Ok(Outcome::finished_with(Value::map([("square", Value::from(n * n))])))
//!     })
//!     .run()?;
//! assert_eq!((tally.finished, tally.failed), (100, 0));
//! # Ok::<(), coordinated_client::Error>(())
//! # }).unwrap();
//! ```

mod context;
mod dispatcher;
mod heartbeat;
mod outage;
mod outcome;
mod report;
mod runner_pool;
mod work_waiter;

pub use context::{Cancellation, Context};
pub use dispatcher::{run, work_specs_with_runtimes};
pub use outcome::{Ending, Outcome, Retry, Tally};
pub use runner_pool::{RunnerPool, Stopper};

use crate::address::Address;
use crate::{Error, Name, Result, Tls, Token};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The default length of leases. If a worker is killed, no other worker gets its units for this time; if the network
/// breaks for no longer than this, no work is done twice.
const LEASE: Duration = Duration::from_secs(60);

type Function = Box<dyn Fn(&Context) -> Result<Outcome, Box<dyn std::error::Error>> + Send + Sync>;

/// Functions for work specs, and the options for running them.
pub struct Worker {
    address: Address,
    plan: Plan,
    functions: HashMap<Name, Function>,
    runners: Arc<RunnerPool>,
}

impl Worker {
    /// A worker that serves the daemon at `address` with one thread until it is told to stop. Its name consists of the
    /// host, the process id and a random number.
    #[must_use]
    pub fn new(address: &Address) -> Self {
        Self {
            address: address.clone(),
            plan: Plan::of_this_process(),
            functions: HashMap::new(),
            runners: Arc::new(RunnerPool::default()),
        }
    }

    /// Runs `function` for the units of the work spec with this name. What all its units have in common is in the work
    /// spec's definition ([`Context::definition`]).
    ///
    /// If the function returns an error, the unit fails with the error's message as traceback, as with
    /// [`Outcome::Failed`].
    #[must_use]
    pub fn on<F>(mut self, work_spec: impl Into<Name>, function: F) -> Self
    where
        F: Fn(&Context) -> Result<Outcome, Box<dyn std::error::Error>> + Send + Sync + 'static,
    {
        let work_spec = work_spec.into();
        self.plan.work_specs.push(work_spec.clone());
        self.functions.insert(work_spec, Box::new(function));
        self
    }

    /// The number of functions to run in parallel; 1 by default.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.plan.threads = threads.max(1);
        self
    }

    /// The worker's name. No two workers may have the same one.
    #[must_use]
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.plan.name = name.into();
        self
    }

    /// The length of leases, from 1 s to a day; 60 s by default. They are renewed after a third of that.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.plan.lease = lease.clamp(Duration::from_secs(1), Duration::from_secs(86_400));
        self
    }

    /// Also serves work specs with this runtime; by default, only those without one. Only `coordinated` supports runtimes.
    #[must_use]
    pub fn runtime(mut self, runtime: impl Into<Name>) -> Self {
        if self.plan.runtimes.is_empty() {
            self.plan.runtimes.push("".into());
        }
        self.plan.runtimes.push(runtime.into());
        self
    }

    /// Which servers to trust at a `tls:` address, and how to show who we are.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.plan.tls = tls;
        self
    }

    /// The token that each connection shows the daemon; without one, none is shown. Only `coordinated` supports tokens.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.plan.token = Some(token);
        self
    }

    /// Ends when all units of the work specs are finished or failed, including delayed ones and those of other workers.
    #[must_use]
    pub fn until_empty(mut self) -> Self {
        self.plan.until_empty = true;
        self
    }

    /// A handle that stops it from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper::of(&self.runners)
    }

    /// Works until it is told to stop or, after [`Worker::until_empty`], until nothing is left. Returns how many units ended
    /// in which way. Without any function it ends at once and requests nothing.
    ///
    /// # Errors
    /// `Unreachable` if there is no daemon at the start; the daemon's error if it only answers with errors for a minute;
    /// the error of the connection if the worker is told to stop at once while the daemon can't be reached.
    pub fn run(self) -> Result<Tally> {
        if self.functions.is_empty() {
            // A request without names of work specs would get units of all of them.
            return Ok(Tally::default());
        }
        let functions = Functions(self.functions);
        dispatcher::run(self.address, &self.plan, &self.runners, &functions)
    }
}

/// Which work to request, and how to do it, for workers with their own [`Handler`] ([`run`]).
#[derive(Clone, Debug)]
pub struct Plan {
    /// The worker's name, by which servers know it.
    pub name: Name,
    /// Number of handlers that run in parallel.
    pub threads: usize,
    /// Number of units that one handler gets at a time.
    pub batch: usize,
    /// How long units are held without being renewed.
    pub lease: Duration,
    /// Take units of these work specs; of all if there is none.
    pub work_specs: Vec<Name>,
    /// As in [`crate::GetWork`].
    pub runtimes: Vec<Name>,
    /// End as soon as there is no more work.
    pub until_empty: bool,
    /// Which servers to trust at a `tls:` address, and how to show who we are.
    pub tls: Tls,
    /// The token that each connection shows the daemon.
    pub token: Option<Token>,
}

impl Plan {
    /// A plan for a worker with the name of this host and process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Self {
            name: heartbeat::name_of_this_process(),
            threads: 1,
            batch: 1,
            lease: LEASE,
            work_specs: Vec::new(),
            runtimes: Vec::new(),
            until_empty: false,
            tls: Tls::default(),
            token: None,
        }
    }
}

/// Runs units, several at once if it wants to, and is told what became of them.
pub trait Handler: Sync {
    /// Runs some units of the same work spec. Returns an outcome for each, in order.
    fn run(&self, units: &[Context]) -> Vec<Outcome>;

    /// Called when a unit's outcome has been reported, or can't be.
    fn ended(&self, _unit: &Context, _ending: &Ending, _took: Duration) {}

    /// Called when the daemon can't be reached or answers with an error, before the worker retries.
    fn outage_began(&self, error: &Error) {
        tracing::warn!("waiting for the daemon: {error}");
    }

    /// Called when the daemon works again.
    fn outage_ended(&self) {
        tracing::info!("the daemon can be reached again");
    }
}

struct Functions(HashMap<Name, Function>);

impl Handler for Functions {
    fn run(&self, units: &[Context]) -> Vec<Outcome> {
        let run = |unit: &Context| match self.0.get(unit.work_spec()) {
            Some(function) => {
                function(unit).unwrap_or_else(|error| Outcome::failed(error.to_string()))
            }
            // An original server without the option `work_spec_names` hands out units of all work specs.
            None => Outcome::given_back(Duration::from_secs(1)),
        };
        units.iter().map(run).collect()
    }

    fn ended(&self, unit: &Context, ending: &Ending, _took: Duration) {
        let (work_spec, key) = (unit.work_spec(), unit.key());
        match ending {
            Ending::Failed(why) => tracing::warn!(%work_spec, %key, "failed: {why}"),
            Ending::Retried { traceback, delay } => {
                tracing::warn!(%work_spec, %key, ?delay, "failed, will be tried again: {traceback}");
            }
            Ending::Lost(why) => tracing::warn!(%work_spec, %key, "lost: {why}"),
            Ending::Cancelled(why) => tracing::warn!(%work_spec, %key, "{why}"),
            Ending::Finished | Ending::GivenBack(_) => {}
        }
    }
}
