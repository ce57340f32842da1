//! A client for a running daemon: for `coordinated`, or any other server that speaks CBOR-RPC.
//!
//! [`Coordinate`] has a function for each method. It uses a [`Connection`], which calls any method with [`Value`]s, and
//! can send several requests before the first answer ([`Connection::pipeline`]). Both block; use one for each thread.
//!
//! Names may be text or byte strings, and come back in the form in which they were sent ([`Name`]). The documentation says
//! what only `coordinated` supports; [`Coordinate::server_info`] returns whether a server does.
//!
//! ```
//! use coordinated_client::cbor::Value;
//! use coordinated_client::{Coordinate, GetWork, NewUnit, Update};
//!
//! # test_support::example::with_daemon(|address| {
//! let mut daemon = Coordinate::connect(address)?;
//! daemon.set_work_spec(&Value::map([("name", Value::from("squares"))]))?;
//! daemon.add_work_units(&"squares".into(), [NewUnit::new("n7", Value::map([("n", Value::from(7))]))])?;
//!
//! let work = daemon.get_work(&"worker-1".into(), &GetWork::default())?;
//! for unit in &work {
//!     let n = unit.data.get("n").and_then(Value::as_i64).unwrap_or(0);
//!     let data = Value::map([("square", Value::from(n * n))]);
//!     daemon.update_work_unit(&unit.work_spec, &unit.key, &Update::finished().with_data(data))?;
//! }
//! assert_eq!(daemon.count_work_units(&"squares".into())?.finished, 1);
//! # Ok::<(), coordinated_client::Error>(())
//! # }).unwrap();
//! ```

mod answer;
mod audit;
mod connection;
mod daemon;
mod error;
mod link;
mod locks;
mod pipeline;
mod request;
mod specs;
mod stream;
mod tokens;
mod units;
mod work;
mod workers;

pub use audit::AuditEntry;
pub use connection::{Connection, Options, Resend};
pub use daemon::ServerInfo;
pub use error::{Error, Result};
pub(crate) use link::Hurry;
pub use locks::{HeldLock, ListLocks, LockPath};
pub use pipeline::Pipeline;
pub use request::Request;
pub use specs::{Control, HaltAfter, ListSpecs, Meta, Pause, Schedule, SpecLimits, SpecSummary};
pub use tokens::{NewToken, Token, TokenExpiry, TokenInfo};
pub use units::{
    Added, Attempt, CANCEL_GRACE, Cancel, Cancellation, Cancelled, Counts, Deletion, FailureGroup,
    IfExists, NewUnit, ParseStatusError, Priority, Reason, Status, Unit, UnitQuery, UnitStatus,
};
pub use work::{BegunAttempt, GetWork, NextTry, Update, Work};
pub use workers::{Heartbeat, HeldUnit, WorkerStats};

use crate::cbor::Value;
use crate::{Address, Name};
use answer::Answer;

/// The methods of a server, each as a function.
///
/// # Errors
/// All of them fail as [`Connection::call`] does, and with [`Error::Refused`] if the result says that the server refused
/// the call: there is no such work spec, the lease is lost, a lock is held.
#[derive(Debug)]
pub struct Coordinate {
    connection: Connection,
}

impl Coordinate {
    /// Connects, with the default [`Options`].
    ///
    /// # Errors
    /// `Unreachable` or `Tls` if no server accepts the connection.
    pub fn connect(address: &Address) -> Result<Self> {
        Connection::open(address.clone(), Options::default()).map(Self::new)
    }

    /// Calls methods over a connection.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// The connection, for methods without a function here.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    fn call(&mut self, request: &Request) -> Result<Answer> {
        let value = self.connection.call(request)?;
        Ok(Answer::new(request.method(), value))
    }

    fn call_with<const N: usize>(&mut self, method: &str, params: [Value; N]) -> Result<Answer> {
        self.call(&Request::new(method, params))
    }
}

/// The options of a call that are given.
fn options<const N: usize>(options: [(&str, Option<Value>); N]) -> Value {
    let given = options.into_iter();
    Value::map(given.filter_map(|(name, value)| Some((name, value?))))
}

/// Names as a list.
fn names<'n>(names: impl IntoIterator<Item = &'n Name>) -> Value {
    names
        .into_iter()
        .map(Value::from)
        .collect::<Vec<_>>()
        .into()
}
