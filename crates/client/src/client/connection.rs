//! One connection, that is opened anew when it breaks.

use super::link::{Link, LinkError, Wait};
use super::{Error, Pipeline, Request, Result};
use crate::address::Address;
use crate::cbor::Value;
use std::io;
use std::thread;
use std::time::Duration;

/// How to connect, and how long to try.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long to wait for a connection. All addresses that a name stands for are tried within it.
    pub connect_timeout: Duration,
    /// How long a request may take to be sent, and then its answer to arrive, down to its last byte; `None`: for
    /// ever.
    pub answer_timeout: Option<Duration>,
    /// How long the server may neither take nor send anything meanwhile; `None`: for ever. In the second half of
    /// that time it is asked for a sign of life on another connection: a call that takes long does not fail as long
    /// as the server answers there.
    pub silence_timeout: Option<Duration>,
    /// How often to try again after the first time, if there is no connection.
    pub retries: u32,
    /// How long to wait before trying again; it doubles each time.
    pub retry_delay: Duration,
    /// What is sent again if the connection breaks before the answer.
    pub resend: Resend,
    /// The longest answer, in bytes.
    pub answer_bytes_max: usize,
}

/// What is sent again on a new connection, if the old one broke before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// What does no harm if it is carried out twice ([`Request::is_repeatable`]). The rest fails with
    /// [`Error::Lost`].
    Repeatable,
    /// Everything, as the Python client does. So a `get_work` may get units that nobody will work on until
    /// their leases end.
    Everything,
}

/// As the Python client has it where it has such a thing: five more tries after 0.5, 1, 2, 4 and 8 seconds.
/// Only what is repeatable is sent again. An answer is waited for an hour, but only 10 seconds if the server gives no
/// sign of life.
impl Default for Options {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Some(Duration::from_secs(3_600)),
            silence_timeout: Some(Duration::from_secs(10)),
            retries: 5,
            retry_delay: Duration::from_millis(500),
            resend: Resend::Repeatable,
            // More than the daemon's longest answer, with its default limits.
            answer_bytes_max: 1 << 30,
        }
    }
}

/// A connection to a server. It blocks; use one for each thread.
///
/// It is opened when it is first needed, and again when it was found broken. A request that certainly has
/// not been carried out is then sent again, and one for which nobody knows that as [`Options::resend`] says.
///
/// ```
/// use coordinated_client::cbor::{Value, json};
/// use coordinated_client::{Connection, Options, Request};
/// # test_support::example::with_daemon(|address| {
/// let mut connection = Connection::open(address.clone(), Options::default())?;
/// let answer = connection.call(&Request::new("get_work_spec_meta", [Value::from("none")]))?;
/// assert_eq!(json::to_json(&answer).to_string(), r#"[null,"no such work spec \"none\""]"#);
/// # Ok::<(), coordinated_client::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Connection {
    pub(super) address: Address,
    pub(super) options: Options,
    pub(super) link: Option<Link>,
}

impl Connection {
    /// A connection that is opened when it is first needed.
    #[must_use]
    pub fn new(address: Address, options: Options) -> Self {
        Self {
            address,
            options,
            link: None,
        }
    }

    /// A connection that is open now. This is tried once; later failures are met as `options` says.
    ///
    /// # Errors
    /// `Unreachable`.
    pub fn open(address: Address, options: Options) -> Result<Self> {
        let mut connection = Self::new(address, options);
        connection.link()?;
        Ok(connection)
    }

    /// Where the server is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How to connect and how long to try, from the next call on.
    pub fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Calls a method, and waits for its result.
    ///
    /// # Errors
    /// See [`Error`]; all but `Refused`, since what is within the result is not looked at.
    pub fn call(&mut self, request: &Request) -> Result<Value> {
        let mut tries = Tries::new(&self.options);
        loop {
            let sent = self.send(request);
            let error = match sent.and_then(|()| self.receive()) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let may_try_again = match (&error, self.options.resend) {
                (Error::Unreachable { .. }, _) => true,
                (Error::Lost { .. }, Resend::Everything) => true,
                (Error::Lost { .. }, Resend::Repeatable) => request.is_repeatable(),
                _ => false,
            };
            if !may_try_again || !tries.wait_for_next() {
                return Err(error);
            }
        }
    }

    /// Begins to send requests without waiting for the answer to each.
    pub fn pipeline(&mut self) -> Pipeline<'_> {
        Pipeline::new(self)
    }

    /// Calls methods by a list of requests in one message, and gives their results. This daemon runs them one after
    /// the other, and no requests of others in between unless they take more than a few milliseconds. The Go servers
    /// take no lists.
    ///
    /// # Errors
    /// As for [`Connection::call`], but nothing is tried again. If one of the calls fails, its error; the others may
    /// have been carried out.
    pub fn call_list(&mut self, requests: &[Request]) -> Result<Vec<Value>> {
        let Some(first) = requests.first() else {
            return Ok(Vec::new());
        };
        self.send_by(first.method(), |link, wait| link.send_list(requests, wait))?;
        match self.receive_by(Link::receive_list) {
            Ok(answers) => requests
                .iter()
                .zip(answers)
                .map(|(request, answer)| {
                    answer.map_err(|message| Error::Failed {
                        method: request.method().to_owned(),
                        message,
                    })
                })
                .collect(),
            Err(error) => Err(self.failed(first.method(), error)),
        }
    }

    /// Sends a request, on a new connection if there is none.
    pub(super) fn send(&mut self, request: &Request) -> Result<()> {
        self.send_by(request.method(), |link, wait| link.send(request, wait))
    }

    fn send_by(
        &mut self,
        method: &str,
        send: impl Fn(&mut Link, Wait) -> Result<(), LinkError>,
    ) -> Result<()> {
        let wait = Wait::new(self.options.answer_timeout, self.options.silence_timeout);
        let link = self.link()?;
        let was_alone = link.unanswered() == 0;
        let Err(error) = send(link, wait) else {
            return Ok(());
        };
        self.link = None;
        Err(match error {
            // Not all of it has gone out, so nobody can have carried it out.
            LinkError::Broken(source) if was_alone => Error::Unreachable {
                address: self.address.clone(),
                source,
            },
            error => self.failed(method, error),
        })
    }

    /// Waits for the answer to the oldest request that has none.
    ///
    /// # Errors
    /// As for [`Connection::call`]. After all but `Failed` the connection is closed; after that one too, if the
    /// server has not taken the request.
    pub(super) fn receive(&mut self) -> Result<Value> {
        let oldest = self.link.as_ref().and_then(Link::oldest);
        let method = oldest.unwrap_or("nothing").to_owned();
        match self.receive_by(Link::receive) {
            Ok(answer) => answer.map_err(|message| Error::Failed { method, message }),
            Err(error) => Err(self.failed(&method, error)),
        }
    }

    /// Waits for an answer. If that fails, the connection is closed.
    fn receive_by<T>(
        &mut self,
        receive: impl Fn(&mut Link, &mut Wait) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let Some(mut link) = self.link.take() else {
            return Err(LinkError::Broken(io::ErrorKind::NotConnected.into()));
        };
        // The other half is for the sign of life.
        let silence = self.options.silence_timeout.map(|timeout| timeout / 2);
        let mut wait = Wait::new(self.options.answer_timeout, silence);
        loop {
            match receive(&mut link, &mut wait) {
                Ok(answer) => {
                    self.link = Some(link);
                    return Ok(answer);
                }
                Err(LinkError::Silent(half)) if self.is_alive(half) => wait.heard(),
                Err(LinkError::Silent(half)) => return Err(LinkError::Silent(half * 2)),
                Err(error) => return Err(error),
            }
        }
    }

    /// True if the server answers on another connection.
    fn is_alive(&self, within: Duration) -> bool {
        let options = Options {
            connect_timeout: within,
            answer_timeout: Some(within),
            silence_timeout: None,
            ..self.options
        };
        let mut other = Self::new(self.address.clone(), options);
        // Servers that don't know it say so.
        let sent = other.send(&Request::new("server_info", []));
        let answer = sent.and_then(|()| other.receive());
        matches!(answer, Ok(_) | Err(Error::Failed { .. }))
    }

    fn failed(&self, method: &str, error: LinkError) -> Error {
        let method = method.to_owned();
        match error {
            LinkError::Broken(source) => self.lost(&method, source),
            LinkError::Silent(after) | LinkError::TimedOut(after) => Error::Timeout {
                address: self.address.clone(),
                method,
                after,
            },
            LinkError::Unreadable(problem) => Error::Unreadable { method, problem },
            LinkError::NotTaken(message) => Error::Failed { method, message },
        }
    }

    fn lost(&self, method: &str, source: io::Error) -> Error {
        Error::Lost {
            address: self.address.clone(),
            method: method.to_owned(),
            source,
        }
    }

    /// The open connection. One on which nothing is waited for, and which the server has closed, is opened
    /// anew: a daemon that has been restarted since is no reason for a failure.
    fn link(&mut self) -> Result<&mut Link> {
        if self.link.as_ref().is_some_and(Link::is_stale) {
            self.link = None;
        }
        let link = match self.link.take() {
            Some(link) => link,
            None => {
                let (timeout, bytes_max) =
                    (self.options.connect_timeout, self.options.answer_bytes_max);
                Link::open(&self.address, timeout, bytes_max).map_err(|source| {
                    let address = self.address.clone();
                    Error::Unreachable { address, source }
                })?
            }
        };
        Ok(self.link.insert(link))
    }
}

/// The tries that are left, and how long to wait before each.
pub(super) struct Tries {
    left: u32,
    delay: Duration,
}

impl Tries {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            left: options.retries,
            delay: options.retry_delay,
        }
    }

    /// Waits until it is time to try again; false if that was often enough.
    pub(super) fn wait_for_next(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        thread::sleep(self.delay);
        self.left -= 1;
        self.delay = self.delay.saturating_mul(2);
        true
    }
}
