//! A job-queue daemon for Coordinate clients: one binary, one SQLite file.

pub mod cbor;
pub mod cborrpc;
pub mod cli;
pub mod clock;
pub mod coordinate;
pub mod jobserver;
pub mod limits;
pub mod server;
pub mod store;
