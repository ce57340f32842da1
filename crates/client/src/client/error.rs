//! What can go wrong with a call.

use crate::address::Address;
use crate::cborrpc::framing::TOO_LARGE;
use std::io;
use std::time::Duration;

/// Why a call has no result.
///
/// ```
/// use coordinated_client::{Coordinate, Error};
/// let nobody = "unix:/nonexistent".parse()?;
/// match Coordinate::connect(&nobody) {
///     Err(error @ Error::Unreachable { .. }) => assert!(!error.is_outcome_unknown()),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), coordinated_client::ParseAddressError>(())
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server could be reached. Nothing was executed.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// The server's address.
        address: Address,
        /// The system's error at the last attempt.
        source: io::Error,
    },
    /// The server was reached, but no TLS connection came about: one side does not trust the other, or does not speak TLS.
    /// Nothing was executed.
    #[error("cannot connect to {address}: {problem}")]
    Tls {
        /// The server's address.
        address: Address,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The connection broke before the answer came. It is unknown whether the request was executed.
    #[error(
        "the connection to {address} broke before the answer to {method} came ({source}): the request may or \
         may not have been executed"
    )]
    Lost {
        /// The server's address.
        address: Address,
        /// The method that was called.
        method: String,
        /// The system's error.
        source: io::Error,
    },
    /// No answer came in time, or the server did not respond. It is unknown whether the request was executed, or will be.
    #[error(
        "{address} has not answered {method} within {}: the request may or may not have been executed",
        humantime::format_duration(*.after)
    )]
    Timeout {
        /// The server's address.
        address: Address,
        /// The method that was called.
        method: String,
        /// How long the client waited.
        after: Duration,
    },
    /// No thread could be started for the work. No request was sent.
    #[error("cannot start a thread: {0}")]
    NoThread(io::Error),
    /// The answer can't be read. It is unknown whether the request was executed.
    #[error("the answer to {method} can't be read: {problem}")]
    Unreadable {
        /// The method that was called.
        method: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The server could not execute the request, and changed nothing.
    #[error("{}", with_method(.method, .message))]
    Failed {
        /// The method that was called.
        method: String,
        /// The server's message.
        message: String,
    },
    /// The server refused the call: there is no such work spec, the lease is lost, a lock is held. Nothing was changed.
    #[error("{message}")]
    Refused {
        /// The method that was called.
        method: String,
        /// The server's message.
        message: String,
    },
}

/// A failure's message, with the method. Messages of `coordinated` begin with the method already.
fn with_method(method: &str, message: &str) -> String {
    if message.starts_with(method) {
        message.to_owned()
    } else {
        format!("{method}: {message}")
    }
}

impl Error {
    /// True if it is unknown whether the request was executed, or will be.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Timeout { .. } | Self::Unreadable { .. } => true,
            Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::NoThread(_)
            | Self::Failed { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// True if `coordinated` has refused the request because it is longer than `--max-message`. Nothing was executed, and
    /// the same request will always fail.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Failed { message, .. } if message.contains(TOO_LARGE))
    }
}

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;
