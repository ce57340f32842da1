//! The plumbing of the black-box tests: a daemon of its own for each test, clients that speak to it
//! in bytes, and CBOR written in diagnostic notation. Nothing here uses the daemon's own code.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test program uses a part of this"
)]

pub(crate) mod cbor;
mod client;
mod server;

pub(crate) use cbor::{Value, diag};
pub(crate) use client::{
    AVAILABLE, Client, FAILED, FINISHED, PENDING, Reply, UnitStatus, Work, frame, into_pair, reply,
    unframe, work,
};
pub(crate) use server::{Exit, Running, Server, run_and_kill, run_to_end, run_with_input};

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: far more than it ever should, as the machine
/// may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
///
/// # Panics
/// If it doesn't within [`PATIENCE`].
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running daemon with one work spec `ws`, and a client of it.
pub(crate) fn server_with_spec() -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    (server, client)
}
