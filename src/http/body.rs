//! Reading the bodies of requests, and counting the memory that bodies and answers take.

use super::limits::{Limits, memory_units};
use super::problem::{self, Problem};
use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory that several requests share.
#[derive(Clone)]
pub(super) struct Memory(Arc<Semaphore>);

impl Memory {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(memory_units(bytes) as usize)))
    }

    /// A share of it; `None` if there is not that much left.
    fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = memory_units(bytes);
        Arc::clone(&self.0).try_acquire_many_owned(units).ok()
    }

    /// Counts the bytes of an answer.
    ///
    /// # Errors
    /// If there is not enough memory left.
    pub(super) fn hold(&self, bytes: Vec<u8>) -> Result<Held, Problem> {
        let share = self.share::<Problem>(bytes.len())?;
        Ok(Held {
            bytes,
            _share: share,
        })
    }

    /// A share for a body that is not kept as a whole.
    ///
    /// # Errors
    /// If there is not enough memory left.
    pub(super) fn share_of_bodies(&self, bytes: usize) -> Result<Share, Problem> {
        self.take(bytes).map(Share).ok_or_else(no_room_for_bodies)
    }

    /// A share for what an answer is made of, which is given back when it is dropped.
    ///
    /// # Errors
    /// If there is not enough memory left.
    pub(super) fn share<E: From<Problem>>(&self, bytes: usize) -> Result<Share, E> {
        let detail =
            "other answers take all the memory for answers; what the request changes is changed";
        self.take(bytes)
            .map(Share)
            .ok_or_else(|| Problem::new(problem::BUSY, detail).into())
    }
}

/// A share of the memory.
pub(super) struct Share(
    #[expect(dead_code, reason = "it is held until it is dropped")] OwnedSemaphorePermit,
);

/// Bytes with their share of the memory, which they give back when they are dropped.
pub(super) struct Held {
    bytes: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Held> for Body {
    fn from(held: Held) -> Self {
        Self::from(Bytes::from_owner(held))
    }
}

/// A request's body, with its share of the memory.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

impl Received {
    /// Drops the bytes, and keeps the share for what was made of them.
    pub(super) fn into_share(self) -> Option<OwnedSemaphorePermit> {
        self.share
    }
}

/// Reads all of a body.
///
/// # Errors
/// If it is too large, takes too long, breaks off, or if there is no memory for it.
pub(super) async fn read(
    body: Body,
    memory: &Memory,
    limits: &Limits,
) -> Result<Received, Problem> {
    let reading = read_within(body, memory, limits.body_bytes_max);
    match tokio::time::timeout(limits.body_time_max, reading).await {
        Ok(received) => received,
        Err(_) => Err(Problem::new(
            problem::TIMED_OUT,
            format!(
                "the body did not arrive within {} (limit http-body-timeout)",
                humantime::format_duration(limits.body_time_max)
            ),
        )),
    }
}

fn no_room_for_bodies() -> Problem {
    let detail = "other requests take all the memory for bodies (limit max-unread-total)";
    Problem::new(problem::BUSY, detail)
}

async fn read_within(
    mut body: Body,
    memory: &Memory,
    bytes_max: usize,
) -> Result<Received, Problem> {
    let too_large = || {
        Problem::new(
            problem::TOO_LARGE,
            format!("at most {bytes_max} bytes are allowed (limit max-message)"),
        )
    };
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(too_large());
    }
    let mut received = Received {
        bytes: Vec::new(),
        share: None,
    };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(problem::INVALID, format!("the body broke off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if received.bytes.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        let before = memory_units(received.bytes.len());
        received.bytes.extend_from_slice(&data);
        let more = memory_units(received.bytes.len()) - before;
        let share = Arc::clone(&memory.0).try_acquire_many_owned(more);
        match (share, &mut received.share) {
            (Ok(share), None) => received.share = Some(share),
            (Ok(share), Some(held)) => held.merge(share),
            (Err(_), _) => {
                return Err(no_room_for_bodies());
            }
        }
    }
    Ok(received)
}
