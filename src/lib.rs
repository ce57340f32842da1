//! A job-queue daemon for Coordinate clients: one binary, one SQLite file.
//!
//! What is where, from the sockets down:
//!
//! - [`cli`] reads the command line and starts everything;
//! - [`server`] is the event loop: it knows bytes and batches, no jobs;
//! - [`jobserver`] translates CBOR-RPC calls into operations and back;
//! - [`http`] has the same calls for HTTP clients, on a thread of its own;
//! - [`engine`] runs operations, in batches, and does what is due by itself;
//! - [`coordinate`] is the operations and their rules, in plain types;
//! - [`store`] keeps everything in SQLite;
//! - [`tls`] has the daemon's certificate;
//! - [`counting`] has the counters and histograms of metrics;
//! - [`clock`] tells the time, [`limits`] says how much is too much, `number` reads loosely typed
//!   numbers, `id_file` opens files with a process id.
//!
//! What clients share with the daemon is the crate [`coordinated_client`]: CBOR, the wire, names and addresses. Its
//! client and worker are what the commands are made of. The load generator is the crate [`coordinated_bench`].
//!
//! ARCHITECTURE.md has the way of a request and the invariants.

#![warn(missing_docs, unreachable_pub)]

pub mod cli;
pub mod clock;
pub mod coordinate;
pub mod counting;
pub mod engine;
pub mod http;
mod id_file;
pub mod jobserver;
pub mod limits;
mod number;
pub mod server;
pub mod store;
pub mod tls;
