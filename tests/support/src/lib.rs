//! The plumbing of the black-box tests: a daemon of its own for each test, clients that speak to it
//! in bytes, and CBOR written in diagnostic notation, none of which uses the daemon's own code; and for tests of
//! operations a store with a clock that is set by hand.

pub mod cbor;
mod client;
pub mod example;
mod server;
pub mod state;
pub mod world;

pub use cbor::{Value, diag};
pub use client::{
    AVAILABLE, Client, FAILED, FINISHED, PENDING, Reply, UnitStatus, Work, frame, into_pair, reply,
    unframe, work,
};
pub use server::{Exit, Running, Server, binary, run_and_kill, run_to_end, run_with_input};

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: far more than it ever should, as the machine
/// may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds.
///
/// # Panics
/// If it doesn't within [`PATIENCE`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running daemon with one work spec `ws`, and a client of it.
pub fn server_with_spec() -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    (server, client)
}
