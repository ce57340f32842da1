//! Requests sent without waiting for the answer to each.

use super::connection::Tries;
use super::{Connection, Error, Request, Result};
use crate::cbor::Value;

/// Requests on their way. Answers come in the order of the requests.
///
/// Sending blocks while the server takes no more, which it may do when many megabytes of answers wait for
/// being received: have a handful of requests on their way, not thousands.
///
/// If the connection breaks, all that were unanswered are lost, and [`Pipeline::receive`] says so once. A
/// request that is sent then goes out on a new connection. When it is dropped with requests on their way, the
/// connection is closed.
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

    /// Sends one more request. If there is no connection and nothing is unanswered, it tries as often as
    /// [`super::Options`] says.
    ///
    /// # Errors
    /// `Unreachable` if it could not be sent, and nothing else was unanswered; `Lost` if something was.
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
    /// In `Failed` the server's error, which is about this one request. After all others the connection is
    /// closed, and nothing is unanswered any more.
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
