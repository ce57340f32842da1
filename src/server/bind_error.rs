//! Why the daemon can't listen at an address.

use coordinated_client::Address;
use std::io::{self, ErrorKind};

/// Why the daemon can't listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "cannot listen on {address}: it is in use; \
         stop the program that uses it (an earlier coordinated?) or choose another address"
    )]
    InUse {
        /// The address as it was asked for.
        address: Address,
    },
    /// This user has no permission to listen there.
    #[error(
        "cannot listen on {address}: permission denied; \
         choose a port from 1024 up, or a path in a folder that you can write to"
    )]
    Denied {
        /// The address as it was asked for.
        address: Address,
    },
    /// The name has no address.
    #[error(
        "cannot listen on {address}: the name can't be resolved ({source}); \
         check it, or use an IP address"
    )]
    Unresolved {
        /// The address as it was asked for.
        address: Address,
        /// The resolver's error.
        source: io::Error,
    },
    /// This machine does not have the address.
    #[error(
        "cannot listen on {address}: this machine doesn't have that address; \
         choose one that it has, or 0.0.0.0 for all of them"
    )]
    NotLocal {
        /// The address as it was asked for.
        address: Address,
    },
    /// The address is for TLS, and there is no certificate.
    #[error(
        "cannot listen on {address}: TLS needs a certificate and its key; add --tls-cert and --tls-key"
    )]
    NoCertificate {
        /// The address as it was asked for.
        address: Address,
    },
    /// Other machines can reach the address, and [`super::Admission`] names no networks that may connect.
    #[error("cannot listen on {address}: other machines can reach it")]
    NobodyAllowed {
        /// The address as it was asked for.
        address: Address,
    },
    /// Another file is at the socket's path.
    #[error(
        "cannot listen on {address}: there is a file that is not a socket; \
         move it away, or choose another path"
    )]
    NotASocket {
        /// The address as it was asked for.
        address: Address,
    },
    /// Any other error of the system.
    #[error("cannot listen on {address}: {source}; choose another address")]
    Other {
        /// The address as it was asked for.
        address: Address,
        /// The system's error.
        source: io::Error,
    },
    /// No address was given.
    #[error("no address to listen on: give at least one, for example 127.0.0.1:5932")]
    NoAddress,
    /// The system lacks the resources for an event loop.
    #[error("cannot set up the event loop: {0}; raise the limit of open files (ulimit -n)")]
    Setup(#[from] io::Error),
}

/// The meaning of a failed bind.
pub(super) fn bind_error(address: &Address, source: io::Error) -> BindError {
    let address = address.clone();
    match source.kind() {
        ErrorKind::AddrInUse => BindError::InUse { address },
        ErrorKind::PermissionDenied => BindError::Denied { address },
        ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
        _ => BindError::Other { address, source },
    }
}
