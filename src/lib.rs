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
//! - [`engine`] runs operations, in batches, and does what is due by itself;
//! - [`coordinate`] is the operations and their rules, in plain types;
//! - [`store`] keeps everything in SQLite;
//! - [`cbor`] walks and writes CBOR bytes, [`name`] is what everything is called by, [`address`] says where
//!   a daemon is, [`clock`] tells the time, [`limits`] says how much is too much, `id_file` opens files with a
//!   process id.
//!
//! ARCHITECTURE.md has the way of a request and the invariants.
//!
//! The feature `daemon`, which is there by default, is the daemon and its command line. Without it the crate
//! is what clients and workers need, with few dependencies.

#![warn(missing_docs, unreachable_pub)]

pub mod address;
pub mod cbor;
pub mod cborrpc;
#[cfg(feature = "daemon")]
pub mod cli;
pub mod client;
#[cfg(feature = "daemon")]
pub mod clock;
#[cfg(feature = "daemon")]
pub mod coordinate;
#[cfg(feature = "daemon")]
pub mod engine;
#[cfg(feature = "daemon")]
#[doc(hidden)]
pub mod example;
#[cfg(feature = "daemon")]
mod id_file;
#[cfg(feature = "daemon")]
pub mod jobserver;
#[cfg(feature = "daemon")]
pub mod limits;
pub mod name;
#[cfg(feature = "daemon")]
pub mod server;
#[cfg(feature = "daemon")]
pub mod store;
pub mod worker;
