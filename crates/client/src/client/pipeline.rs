//! Sending requests without waiting for each answer.

use super::connection::Tries;
use super::{Connection, Error, Request, Result};
use crate::cbor::Value;

/// Requests in flight. Answers come in the order of the requests.
///
/// Sending blocks while the server does not read, as when many megabytes of answers wait to be received: keep a few
/// requests in flight, not thousands.
///
/// If the connection breaks, all unanswered requests are lost, and [`Pipeline::receive`] returns one error for them. The
/// next request is sent on a new connection. Dropping a pipeline with unanswered requests closes the connection.
///
/// ```
/// use coordinated_client::{Connection, Options, Request};
/// # test_support::example::with_daemon(|address| {
/// let mut connection = Connection::open(address.clone(), Options::default())?;
/// let mut pipeline = connection.pipeline();
/// for _ in 0..10 {
///     pipeline.send(&Request::new("now", []))?;
/// }
/// while let Some(answer) = pipeline.receive() {
///     assert!(answer?.as_i64().is_some());
/// }
/// # Ok::<(), coordinated_client::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Pipeline<'c> {
    connection: &'c mut Connection,
}

impl<'c> Pipeline<'c> {
    pub(super) fn new(connection: &'c mut Connection) -> Self {
        Self { connection }
    }

    /// How many requests have no answer yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        let link = self.connection.link.as_ref();
        link.map_or(0, |link| link.unanswered())
    }

    /// Sends one more request. If there is no connection and no unanswered request, it retries as [`super::Options`] says.
    ///
    /// # Errors
    /// `Unreachable` if it could not be sent, and no other request was unanswered; `Lost` if one was.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        let mut tries = Tries::new(&self.connection.options);
        loop {
            match self.connection.send(request) {
                Err(Error::Unreachable { .. }) if tries.wait_for_next() => {}
                sent => return sent,
            }
        }
    }

    /// Waits for the answer to the oldest request that has none; `None` if there is no such request.
    ///
    /// # Errors
    /// `Failed` has the server's error about this one request. After any other error the connection is closed, and no
    /// request is unanswered.
    pub fn receive(&mut self) -> Option<Result<Value>> {
        (self.unanswered() > 0).then(|| self.connection.receive())
    }
}

impl Drop for Pipeline<'_> {
    fn drop(&mut self) {
        if self.unanswered() > 0 {
            self.connection.link = None;
        }
    }
}
