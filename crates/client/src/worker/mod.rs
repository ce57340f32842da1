//! A framework for workers: functions that are run for work units, on any number of threads.
//!
//! A [`Worker`] asks for units of the work specs that have a function, runs it for each, and reports how it
//! ended. Meanwhile one thread in the background renews the leases, tells the daemon that the worker is alive,
//! and takes care of what can go wrong:
//!
//! - A function that returns an error or panics fails its unit, with the message as traceback.
//! - A daemon that is restarted, and a network that breaks, are waited for. Functions go on, and are reported
//!   on later.
//! - Where a lease is lost to another worker nevertheless, [`Context::is_cancelled`] says so to the function,
//!   whose outcome counts no more.
//! - A worker that is killed loses nothing: its units are handed out again when their leases end. So a unit may
//!   be run twice, and a function must bear that.
//!
//! Short units are fetched some tenths of a second ahead and reported on together. They end, and come back, as
//! all others do.
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

mod away;
mod clerk;
mod context;
mod crew;
mod heartbeat;
mod outcome;
mod report;

pub use clerk::{run, work_specs_with_runtimes};
pub use context::{Cancellation, Context};
pub use crew::{Crew, Stopper};
pub use outcome::{Ending, Outcome, Tally};

use crate::address::Address;
use crate::{Error, Name, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long units are held without being renewed, if nothing else is said. A worker that is killed keeps its
/// units from others for so long, and a break of the network may last so long without work being done twice.
const LEASE: Duration = Duration::from_secs(60);

type Function = Box<dyn Fn(&Context) -> Result<Outcome, Box<dyn std::error::Error>> + Send + Sync>;

/// Functions for work specs, and how to run them.
pub struct Worker {
    address: Address,
    plan: Plan,
    functions: HashMap<Name, Function>,
    crew: Arc<Crew>,
}

impl Worker {
    /// A worker that will serve the daemon at `address` with one thread, as long as it is not told to stop. It
    /// is named after its host and process, with something random behind that.
    #[must_use]
    pub fn new(address: &Address) -> Self {
        Self {
            address: address.clone(),
            plan: Plan::of_this_process(),
            functions: HashMap::new(),
            crew: Arc::new(Crew::default()),
        }
    }

    /// Runs `function` for the units of the work spec with this name. What such units have in common stands in
    /// the work spec's definition ([`Context::definition`]).
    ///
    /// The error that the function returns becomes the traceback of a failure, as [`Outcome::Failed`].
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

    /// Runs so many functions at once; 1 if nothing is said.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.plan.threads = threads.max(1);
        self
    }

    /// What the daemon calls it. No two workers may have the same name.
    #[must_use]
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.plan.name = name.into();
        self
    }

    /// How long units are held without being renewed; 60 s if nothing is said. They are renewed after a third of
    /// that. From 1 s to a day.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.plan.lease = lease.clamp(Duration::from_secs(1), Duration::from_secs(86_400));
        self
    }

    /// Also serves work specs with this runtime; if nothing is said, only those without one. Only this daemon
    /// knows runtimes.
    #[must_use]
    pub fn runtime(mut self, runtime: impl Into<Name>) -> Self {
        if self.plan.runtimes.is_empty() {
            self.plan.runtimes.push("".into());
        }
        self.plan.runtimes.push(runtime.into());
        self
    }

    /// Ends when all units of the work specs are finished or failed, also those that other workers have or that
    /// are delayed.
    #[must_use]
    pub fn until_empty(mut self) -> Self {
        self.plan.until_empty = true;
        self
    }

    /// What makes it stop, from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper::of(&self.crew)
    }

    /// Works until it is told to stop, or nothing is left if that was asked for. Gives how the units ended. Without
    /// any function it ends at once, and asks for nothing.
    ///
    /// # Errors
    /// `Unreachable` if there is no daemon at the start; what the daemon says if it answers with errors only, for a
    /// minute; what is wrong with the connection if the worker is to stop at once meanwhile.
    pub fn run(self) -> Result<Tally> {
        if self.functions.is_empty() {
            // A request that names no work specs would be one for the units of all.
            return Ok(Tally::default());
        }
        let functions = Functions(self.functions);
        clerk::run(self.address, &self.plan, &self.crew, &functions)
    }
}

/// Which work to ask for, and how to do it, when a [`Handler`] of your own does it ([`run`]).
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
}

impl Plan {
    /// A plan for a worker that is named after its host and process.
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
        }
    }
}

/// Runs units, several at once if it wants to, and is told what became of them.
pub trait Handler: Sync {
    /// Runs some units of the same work spec. Returns an outcome for each, in order.
    fn run(&self, units: &[Context]) -> Vec<Outcome>;

    /// A unit's outcome has been reported, or can't be.
    fn ended(&self, _unit: &Context, _ending: &Ending, _took: Duration) {}

    /// The daemon can't be reached; it will be tried again.
    fn away(&self, error: &Error) {
        tracing::warn!("waiting for the daemon: {error}");
    }

    /// It can be reached again.
    fn back(&self) {
        tracing::info!("the daemon is there again");
    }
}

struct Functions(HashMap<Name, Function>);

impl Handler for Functions {
    fn run(&self, units: &[Context]) -> Vec<Outcome> {
        let run = |unit: &Context| match self.0.get(unit.work_spec()) {
            Some(function) => {
                function(unit).unwrap_or_else(|error| Outcome::failed(error.to_string()))
            }
            // An original that does not know the option `work_spec_names` hands out everything.
            None => Outcome::given_back(Duration::from_secs(1)),
        };
        units.iter().map(run).collect()
    }

    fn ended(&self, unit: &Context, ending: &Ending, _took: Duration) {
        let (work_spec, key) = (unit.work_spec(), unit.key());
        match ending {
            Ending::Failed(why) => tracing::warn!(%work_spec, %key, "failed: {why}"),
            Ending::Lost(why) => tracing::warn!(%work_spec, %key, "lost: {why}"),
            Ending::Finished | Ending::GivenBack(_) => {}
        }
    }
}
