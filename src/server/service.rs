//! What the loop serves: the boundary between bytes and jobs.

use crate::clock::{ClockStep, Timestamp};
use coordinated_client::cborrpc::framing::FrameError;
use std::time::Duration;

/// A piece of work that may run beside the loop, on a thread of its own: it reads committed state
/// and makes the bytes of one answer.
pub type Job = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// What became of one message.
pub enum Handled<A> {
    /// Done within the batch; the answer counts once the batch has committed.
    Answer(A),
    /// A long read. It starts once the batch has committed and there is room for its answer, and its
    /// connection's next message waits for its end, so answers keep their order and reads see what came before
    /// them. It keeps no more memory than its message.
    Later(Job),
    /// What was done within the batch stands if it commits, and there is more to do: the same message is to
    /// be handled once more, with the same session, in the connection's next turn.
    Again {
        /// Bytes that the session keeps until then, of the answer so far for example.
        held: usize,
    },
    /// The message has to wait: it writes, and another program keeps the service from writing. It is to be handled
    /// once more, with the same session, when [`Service::can_write`] says so, or after [`Service::end_waiting`].
    Wait {
        /// As with `Again`.
        held: usize,
    },
    /// The message can't be understood, and nothing behind it can be trusted: the peer is told so by
    /// [`Service::write_refusal`], and the connection is closed, as with a framing error.
    Refuse(FrameError),
    /// The peer asked for the connection to be closed.
    Close,
}

/// Why a batch did not commit.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Nothing of the batch stands, and the next one may succeed (a full disk, a lock held by
    /// another program).
    #[error("nothing was changed: {0}")]
    RolledBack(String),
    /// A write or a sync failed: nobody can know what is on the disk until the file is opened anew,
    /// so the loop must answer this batch and stop with a failure.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// Nothing of the batch stands, nor will any other, since what it would be written to is gone: the loop must
    /// answer this batch and stop with a failure.
    #[error("nothing was changed: {0}")]
    Gone(String),
}

/// A program that answers messages in batches. It knows nothing of sockets, the loop nothing of jobs.
pub trait Service {
    /// What is remembered for one connection.
    type Session;
    /// An answer that waits for its batch to commit.
    type Answer;

    /// The state of a new connection.
    fn open_session(&mut self) -> Self::Session;

    /// Runs one message in the current batch, which begins by itself.
    fn handle(
        &mut self,
        session: &mut Self::Session,
        message: &[u8],
        now: Timestamp,
    ) -> Handled<Self::Answer>;

    /// Tells that the batch in which a message was handled to [`Handled::Again`] did not commit, before the message is
    /// handled once more.
    fn rolled_back(&mut self, session: &mut Self::Session, error: &BatchError) {
        let _ = (session, error);
    }

    /// True if a message that waits ([`Handled::Wait`]) may be handled now: then a batch has begun. Cheap.
    fn can_write(&mut self) -> bool {
        true
    }

    /// Lets the message of a session that has waited for too long fail where it would wait.
    fn end_waiting(&mut self, _session: &mut Self::Session) {}

    /// True if the batch should commit before another message is handled: it is large, or broken.
    fn batch_is_full(&self) -> bool;

    /// Ends the batch: what it wrote is on disk when this returns `Ok`. Cheap if it wrote nothing.
    ///
    /// # Errors
    /// See [`BatchError`].
    fn commit(&mut self) -> Result<(), BatchError>;

    /// Appends the bytes of an answer, given what became of its batch.
    fn write_answer(
        &self,
        answer: Self::Answer,
        outcome: &Result<(), BatchError>,
        out: &mut Vec<u8>,
    );

    /// Appends the bytes that tell a peer why its connection is closed.
    fn write_refusal(&self, error: &FrameError, out: &mut Vec<u8>);

    /// Does what is due by itself (leases that ran out, clean-up in bounded steps) in a batch of its
    /// own, committed when this returns. Gives how long it may take until the next call, unless
    /// [`Service::due`] says otherwise by then.
    ///
    /// # Errors
    /// See [`BatchError`].
    fn tick(&mut self, now: Timestamp) -> Result<Duration, BatchError>;

    /// Moves all times that are kept to be compared with the present (ends of leases, what is due) by `step`, in a
    /// batch of its own, committed when this returns: by so much the clock is set next.
    ///
    /// # Errors
    /// See [`BatchError`]. The clock must not be set then.
    fn move_times(&mut self, step: ClockStep) -> Result<(), BatchError>;

    /// Writes to the log how much it has done and has to do.
    fn log_statistics(&mut self) {}

    /// A time before which [`Service::tick`] has nothing to do, and at which it may have: known after
    /// each message, since one may set a deadline that is nearer than any before.
    fn due(&self) -> Option<Timestamp> {
        None
    }
}
