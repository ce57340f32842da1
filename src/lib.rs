//! A job-queue daemon for Coordinate clients: one binary, one SQLite file.
//!
//! What is where, from the sockets down:
//!
//! - [`cli`] reads the command line and starts everything;
//! - [`worker`] runs functions for work units;
//! - [`client`] calls a running daemon, this one or another that speaks CBOR-RPC;
//! - [`server`] is the event loop: it knows bytes and batches, no jobs;
//! - [`cborrpc`] is the wire: frames and envelopes;
//! - [`jobserver`] translates CBOR-RPC calls into operations and back;
//! - [`coordinate`] is the operations and their rules, in plain types;
//! - [`store`] keeps everything in SQLite;
//! - [`cbor`] walks and writes CBOR bytes, [`address`] says where a daemon is, [`clock`] tells the time,
//!   [`limits`] says how much is too much.
//!
//! ARCHITECTURE.md has the way of a request and the invariants.

#![warn(missing_docs, unreachable_pub)]

pub mod address;
pub mod cbor;
pub mod cborrpc;
pub mod cli;
pub mod client;
pub mod clock;
pub mod coordinate;
#[doc(hidden)]
pub mod example;
pub mod jobserver;
pub mod limits;
pub mod server;
pub mod store;
pub mod worker;
