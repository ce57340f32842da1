//! The wire of CBOR-RPC: framing, envelopes, and the forms that values take in them.
//!
//! Pure functions over bytes. Knows neither sockets nor jobs.

pub mod envelope;
pub mod framing;
