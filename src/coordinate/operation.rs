//! One operation: what it works on.

use super::NamespaceId;
use super::chained::Chained;
use super::memory::{Effects, Memory};
use crate::clock::Timestamp;
use crate::limits::RequestLimits;
use rand::Rng;

/// One operation: what it works on. It is begun and ended by [`super::storage::Storage::operation`], and
/// either happens whole or not at all. It may be run again from its start, so what it changes beside the store is
/// returned, or is among its effects.
pub struct Operation<'a, S> {
    /// Where everything is kept.
    pub store: &'a mut S,
    /// The namespace that the caller works in.
    pub namespace: NamespaceId,
    /// The namespace of CBOR-RPC clients, which always exists.
    pub home: NamespaceId,
    /// The present time.
    pub now: Timestamp,
    /// What a request may hold.
    pub limits: &'a RequestLimits,
    /// What its finishes have chained so far.
    pub chained: Chained,
    /// What is remembered beside the store.
    pub memory: &'a Memory,
    /// What the operation adds to that.
    pub effects: &'a mut Effects,
    /// The source of chance. Numbers that were drawn stay drawn when the operation is run again. It borrows nothing, so an operation may be lent for as short as one likes.
    pub random: &'a mut (dyn Rng + 'static),
}
