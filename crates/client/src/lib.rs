//! Client and worker for Coordinate job queues: for the daemon `coordinated`, and for every other server that speaks
//! CBOR-RPC.
//!
//! - [`Coordinate`] has a function for each method; [`Connection`] calls any method, also several before the first answer.
//! - [`worker`] runs functions for work units, on any number of threads.
//! - [`cbor`] holds the values that both send and receive.
//! - [`tls`] says which servers a client trusts.
//! - [`cborrpc`] is the wire: frames and envelopes. The daemon uses the same.

#![warn(missing_docs, unreachable_pub)]

mod address;
pub mod cbor;
pub mod cborrpc;
mod client;
mod name;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod tls;
pub mod worker;

pub use address::{Address, ParseAddressError};
pub use client::*;
pub use name::Name;
pub use tls::Tls;
