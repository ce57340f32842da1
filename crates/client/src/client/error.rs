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
    /// Nobody answers there. Nothing was done.
    #[error("cannot connect to {address}: {source}")]
    Unreachable {
        /// The server's address.
        address: Address,
        /// What the system said, the last time.
        source: io::Error,
    },
    /// The connection broke before the answer came. Whether the request was carried out is not known.
    #[error(
        "the connection to {address} broke before the answer to {method} came ({source}): it may have been \
         carried out or not"
    )]
    Lost {
        /// The server's address.
        address: Address,
        /// What was asked.
        method: String,
        /// What the system said.
        source: io::Error,
    },
    /// No answer, or no sign of life, in time. Whether the request was carried out, or will be, is not known.
    #[error(
        "{address} has not answered {method} within {}: it may have been carried out or not",
        humantime::format_duration(*.after)
    )]
    Timeout {
        /// The server's address.
        address: Address,
        /// What was asked.
        method: String,
        /// How long was waited.
        after: Duration,
    },
    /// No thread can be started to work on. Nothing was asked.
    #[error("cannot start a thread: {0}")]
    NoThread(io::Error),
    /// What came back is no answer to this. Whether the request was carried out is not known.
    #[error("the answer to {method} can't be read: {problem}")]
    Unreadable {
        /// What was asked.
        method: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The server answered that it could not carry the request out, and changed nothing.
    #[error("{}", with_method(.method, .message))]
    Failed {
        /// What was asked.
        method: String,
        /// What the server said.
        message: String,
    },
    /// The server understood, and said no: there is no such work spec, the lease is lost, a lock is held.
    /// Nothing was changed.
    #[error("{message}")]
    Refused {
        /// What was asked.
        method: String,
        /// What the server said.
        message: String,
    },
}

/// A failure's message, with what was asked. This daemon's messages say that themselves.
fn with_method(method: &str, message: &str) -> String {
    if message.starts_with(method) {
        message.to_owned()
    } else {
        format!("{method}: {message}")
    }
}

impl Error {
    /// True if the request may have been carried out, or still be, and nobody knows.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Timeout { .. } | Self::Unreadable { .. } => true,
            Self::Unreachable { .. }
            | Self::NoThread(_)
            | Self::Failed { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// True if this daemon has not taken the request since it is longer than its `--max-message` allows. Nothing was
    /// done, and the same request will always fail.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Failed { message, .. } if message.contains(TOO_LARGE))
    }
}

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;
