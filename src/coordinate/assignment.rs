//! What a worker asks for, and what it gets.

use super::{AttemptId, Name, WorkUnitId};
use crate::clock::Timestamp;
use std::time::Duration;

/// What a worker asks for.
#[derive(Debug)]
pub struct WorkRequest<'a> {
    /// At most this many units, and no more than the limit on one call. All of them will be of one work spec.
    pub max_units: usize,
    /// For how long.
    pub lease: Duration,
    /// Of which work specs; of any if empty.
    pub work_specs: &'a [Name],
    /// Of specs with which runtimes.
    pub runtimes: &'a [String],
}

/// A unit that was handed out.
#[derive(Debug)]
pub struct Assignment {
    /// Its identity.
    pub unit: WorkUnitId,
    /// The attempt that holds it now.
    pub attempt: AttemptId,
    /// Its number among the attempts at the unit, from 1.
    pub number: u64,
    /// When its lease ends.
    pub expiration: Timestamp,
    /// The name of its work spec.
    pub work_spec: Name,
    /// Its name.
    pub name: Name,
    /// Its data dictionary, encoded.
    pub data: Vec<u8>,
}
