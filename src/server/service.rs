//! What the loop serves: the boundary between bytes and their meaning.

use crate::clock::{ClockStep, Timestamp};
use coordinated_client::cborrpc::framing::FrameError;
use std::net::IpAddr;
use std::time::Duration;

/// A read that runs beside the loop, on another thread: it reads committed state and returns the bytes of one answer.
pub type LongRead = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// Names a message that sleeps. No two messages have the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// What came of a message.
pub enum Handled<A> {
    /// It was handled in the current batch. The answer is valid once the batch has been committed.
    Answer(A),
    /// A long read. It starts once the batch has been committed and there is room for its answer. The connection's
    /// next message waits for its end, so that answers keep their order and reads see what came before them. It
    /// keeps no more memory than its message.
    Later(LongRead),
    /// A step was done in the current batch, and there are more: the same message is to be handled again, with the
    /// same session, in the connection's next turn.
    Again {
        /// Bytes that the session keeps until then, such as the answer so far.
        held: usize,
    },
    /// The message has to wait: it writes, and another program keeps the service from writing. It is to be handled
    /// again, with the same session, when [`Service::can_write`] is true, or after [`Service::end_waiting`].
    Wait {
        /// As with `Again`.
        held: usize,
    },
    /// The message waits for something to happen in the service. It is to be handled again, with the same session, when
    /// [`Service::next_awake`] returns its ticket, or after [`Service::end_sleep`]. The connection's next message waits
    /// for its answer.
    Sleep {
        /// Its ticket, which stays the same if it sleeps again.
        ticket: Ticket,
        /// As with `Again`.
        held: usize,
    },
    /// The message can't be read, and what follows it can't be trusted. As after a framing error, the peer gets
    /// [`Service::write_refusal`], and the connection is closed.
    Refuse(FrameError),
    /// The peer asked for the connection to be closed.
    Close,
}

/// Why a batch was not committed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BatchError {
    /// The batch was rolled back. The next one may succeed: the disk was full, or another program held a lock.
    #[error("nothing was changed: {0}")]
    RolledBack(String),
    /// A write or a sync failed, so it is unknown what is on the disk until the file is opened again. The loop must
    /// answer this batch and stop with a failure.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The batch was rolled back, and so would be every other one, since the file is gone. The loop must answer this
    /// batch and stop with a failure.
    #[error("nothing was changed: {0}")]
    Gone(String),
}

/// Handles messages in batches. It knows no sockets, and the loop does not know what messages mean.
pub trait Service {
    /// The state of one connection.
    type Session;
    /// An answer that waits for the commit of its batch.
    type Answer;

    /// Makes the state of a new connection. `peer` is where it comes from, or `None` for a Unix socket.
    fn open_session(&mut self, peer: Option<IpAddr>) -> Self::Session;

    /// Handles one message in the current batch. Begins a batch if there is none.
    fn handle(
        &mut self,
        session: &mut Self::Session,
        message: &[u8],
        now: Timestamp,
    ) -> Handled<Self::Answer>;

    /// Called before a message is handled again ([`Handled::Again`]), if the batch of its last step was rolled back.
    fn rolled_back(&mut self, session: &mut Self::Session, error: &BatchError) {
        let _ = (session, error);
    }

    /// True if a message that waits ([`Handled::Wait`]) can be handled now; then this has begun a batch. Cheap.
    fn can_write(&mut self) -> bool {
        true
    }

    /// Called before a message is handled again that has waited for too long. Where it would wait, it must fail.
    fn end_waiting(&mut self, _session: &mut Self::Session) {}

    /// The next message that sleeps and is to be handled again. Asked after each message, so this must be cheap.
    fn next_awake(&mut self, _now: Timestamp) -> Option<Ticket> {
        None
    }

    /// When [`Service::next_awake`] has another one, if nothing else happens until then.
    fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    /// Called before a message that sleeps is handled again because its peer has closed its side, or because the loop is
    /// stopping. It must not sleep any more.
    fn end_sleep(&mut self, _session: &mut Self::Session) {}

    /// Called when a connection is closed.
    fn close_session(&mut self, _session: &mut Self::Session) {}

    /// True if the batch should be committed before another message is handled: it is large, or can't go on.
    fn batch_is_full(&self) -> bool;

    /// Commits the current batch. What it wrote is on disk when this returns `Ok`. Cheap if it wrote nothing.
    ///
    /// # Errors
    /// See [`BatchError`].
    fn commit(&mut self) -> Result<(), BatchError>;

    /// Appends the bytes of an answer, given the outcome of its batch.
    fn write_answer(
        &self,
        answer: Self::Answer,
        outcome: &Result<(), BatchError>,
        out: &mut Vec<u8>,
    );

    /// Appends the bytes that tell a peer why its connection is closed.
    fn write_refusal(&self, error: &FrameError, out: &mut Vec<u8>);

    /// Does the service's own work that is due (expired leases, a step of cleanup) in a batch of its own, which is
    /// committed when this returns. Returns how long the next call may wait, unless [`Service::due`] becomes earlier.
    ///
    /// # Errors
    /// See [`BatchError`].
    fn tick(&mut self, now: Timestamp) -> Result<Duration, BatchError>;

    /// Moves all times that are compared with the clock (ends of leases, deadlines) by `step`, in a batch of its own,
    /// which is committed when this returns. The loop then sets the clock by `step`, to `now`.
    ///
    /// # Errors
    /// See [`BatchError`]. Then the clock must not be set.
    fn move_times(&mut self, step: ClockStep, now: Timestamp) -> Result<(), BatchError>;

    /// Writes the service's statistics to the log.
    fn log_statistics(&mut self) {}

    /// The earliest time at which [`Service::tick`] may have something to do. It may change with each message.
    fn due(&self) -> Option<Timestamp> {
        None
    }
}
