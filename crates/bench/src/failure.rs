//! Why a benchmark ends before its time. Each message is one line and says what to do.

use super::wire::Call;
use coordinated_client::Address;
use std::io;

/// What goes wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(
        "no server answers at {address} ({source}): start one with \
         `coordinated serve --listen {address}`, or name another with --server"
    )]
    NoServer { address: Address, source: io::Error },
    #[error(
        "nothing answers HTTP at {address} ({source}): give the address that the daemon was started \
         with, as --http=ADDR"
    )]
    NoHttp { address: Address, source: io::Error },
    #[error(
        "work spec '{0}' is there already: name another with --spec, or let --force delete it \
         with all its units"
    )]
    SpecExists(String),
    #[error("a connection broke {during}: {why}; look at the server's log")]
    Broken { during: String, why: String },
    #[error("can't open connection {number}: {source}; try fewer --connections, or ulimit -n")]
    NoConnection { number: usize, source: io::Error },
    #[error(transparent)]
    Call(#[from] coordinated_client::Error),
    #[error(transparent)]
    Tls(#[from] coordinated_client::tls::TlsFilesError),
    #[error("the answer to {} can't be understood: {problem}", call.method())]
    Unreadable { call: Call, problem: String },
    #[error("the server refuses {}: {message}", call.method())]
    Refused { call: Call, message: String },
    #[error(
        "the server has no update_work_units (it says: {0}): use --finish pipelined or --finish single"
    )]
    NoUpdateWorkUnits(String),
    #[error("CHECK FAILED: {0}")]
    Check(String),
    #[error("there is no process {0} on this machine: check --server-pid")]
    NoProcess(u32),
    #[error("interrupted before there was anything to measure")]
    Interrupted,
    #[error("can't wait for events: {0}")]
    Events(#[from] io::Error),
}

impl Failure {
    pub(super) fn check<T>(problem: String) -> Result<T, Self> {
        Err(Self::Check(problem))
    }
}
