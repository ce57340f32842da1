//! The wire of CBOR-RPC: framing, envelopes, and the forms that values take in them.
//!
//! Pure functions over bytes, without sockets, and without knowledge of the queue.

pub mod envelope;
pub mod framing;
