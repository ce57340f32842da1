//! A connection that is opened again when it breaks.

use super::link::{Hurry, Link, LinkError, Wait};
use super::stream::OpenError;
use super::{Error, Pipeline, Request, Result, Token};
use crate::address::Address;
use crate::cbor::Value;
use crate::tls::Tls;
use std::io;
use std::thread;
use std::time::Duration;

/// How to connect, and how long to try.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which servers to trust at `tls:` addresses, and how to show who we are.
    pub tls: Tls,
    /// How long to wait for a connection. All addresses of a name are tried within this time.
    pub connect_timeout: Duration,
    /// How long sending a request may take, and then how long its whole answer may take; `None` for no limit.
    pub answer_timeout: Option<Duration>,
    /// How long the server may neither receive nor send anything during that time; `None` for no limit. In the second
    /// half of this time, the client checks on another connection whether the server answers: a long call does not
    /// fail as long as it does.
    pub silence_timeout: Option<Duration>,
    /// How often to try again after the first attempt to connect has failed.
    pub retries: u32,
    /// How long to wait before trying again; it doubles each time.
    pub retry_delay: Duration,
    /// Which requests are sent again if the connection breaks before the answer.
    pub resend: Resend,
    /// The longest answer, in bytes.
    pub answer_bytes_max: usize,
    /// The token that each new connection shows the server before anything else. Only `coordinated` supports tokens.
    pub token: Option<Token>,
}

/// Which requests are sent again on a new connection, if the old one broke before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// Requests that can be executed twice without harm ([`Request::is_repeatable`]). Others fail with
    /// [`Error::Lost`].
    Repeatable,
    /// All requests, as with the Python client. A `get_work` may then be given units that no worker works on until
    /// their leases end.
    Everything,
}

/// The values of the Python client, where it has such options: five more attempts after 0.5, 1, 2, 4 and 8 seconds. Only
/// repeatable requests are sent again. An answer may take an hour, but only 10 seconds if the server does not respond.
impl Default for Options {
    fn default() -> Self {
        Self {
            tls: Tls::default(),
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Some(Duration::from_secs(3_600)),
            silence_timeout: Some(Duration::from_secs(10)),
            retries: 5,
            retry_delay: Duration::from_millis(500),
            resend: Resend::Repeatable,
            // More than the daemon's longest answer, with its default limits.
            answer_bytes_max: 1 << 30,
            token: None,
        }
    }
}

/// A connection to a server. It blocks; use one for each thread.
///
/// It is opened when it is first needed, and again when it is found broken. Then a request that certainly was not executed
/// is sent again; [`Options::resend`] decides about one that may have been executed.
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

    /// A connection that is open now. This connects once, without retries; later calls use `options`.
    ///
    /// # Errors
    /// `Unreachable` and `Tls`.
    pub fn open(address: Address, options: Options) -> Result<Self> {
        let mut connection = Self::new(address, options);
        connection.link()?;
        Ok(connection)
    }

    /// The server's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The options, which apply from the next call on.
    pub fn options(&mut self) -> &mut Options {
        &mut self.options
    }

    /// Calls a method, and waits for its result.
    ///
    /// # Errors
    /// See [`Error`]; all except `Refused`, since this does not look into the result.
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

    /// Begins to send requests without waiting for each answer.
    pub fn pipeline(&mut self) -> Pipeline<'_> {
        Pipeline::new(self)
    }

    /// Calls methods with a list of requests in one message, and returns their results. `coordinated` runs them one after
    /// the other, without other requests in between unless they take more than a few milliseconds. The Go servers don't
    /// support lists.
    ///
    /// # Errors
    /// As for [`Connection::call`], but without retries. If one of the calls fails, this returns its error; the others
    /// may have been executed.
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
            // It was not sent completely, so the server can't have executed it.
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
    /// As for [`Connection::call`]. After any error except `Failed` the connection is closed; after `Failed` too, if
    /// the server has not accepted the request.
    pub(super) fn receive(&mut self) -> Result<Value> {
        let oldest = self.link.as_ref().and_then(Link::oldest);
        let method = oldest.unwrap_or("nothing").to_owned();
        match self.receive_by(Link::receive) {
            Ok(answer) => answer.map_err(|message| Error::Failed { method, message }),
            Err(error) => Err(self.failed(&method, error)),
        }
    }

    /// A way to end the wait of the server for a request that was sent; `None` if there is no connection.
    pub(crate) fn hurry(&self) -> Option<Hurry> {
        self.link.as_ref()?.hurry().ok()
    }

    /// Waits for an answer. If that fails, the connection is closed.
    fn receive_by<T>(
        &mut self,
        receive: impl Fn(&mut Link, &mut Wait) -> Result<T, LinkError>,
    ) -> Result<T, LinkError> {
        let Some(mut link) = self.link.take() else {
            return Err(LinkError::Broken(io::ErrorKind::NotConnected.into()));
        };
        let longer = link.wait_of_oldest();
        // The other half is for checking whether the server responds.
        let half = self.options.silence_timeout.map(|timeout| timeout / 2);
        let total = self.options.answer_timeout.map(|timeout| timeout + longer);
        let mut wait = Wait::new(total, half.map(|half| half + longer));
        loop {
            match receive(&mut link, &mut wait) {
                Ok(answer) => {
                    self.link = Some(link);
                    return Ok(answer);
                }
                Err(LinkError::Silent(after)) => {
                    let half = after - longer;
                    if !self.is_alive(half) {
                        return Err(LinkError::Silent(after + half));
                    }
                    wait.heard();
                }
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
            token: None,
            ..self.options.clone()
        };
        let mut other = Self::new(self.address.clone(), options);
        // A server without this method answers with an error.
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
            LinkError::Tls(problem) => self.without_tls(problem),
            LinkError::Unreadable(problem) => Error::Unreadable { method, problem },
            LinkError::NotAccepted(message) => Error::Failed { method, message },
        }
    }

    fn lost(&self, method: &str, source: io::Error) -> Error {
        Error::Lost {
            address: self.address.clone(),
            method: method.to_owned(),
            source,
        }
    }

    fn without_tls(&self, problem: String) -> Error {
        Error::Tls {
            address: self.address.clone(),
            problem,
        }
    }

    /// The open connection. If no answer is expected on it and the server has closed it, it is opened again: calls don't
    /// fail because the daemon was restarted in between.
    fn link(&mut self) -> Result<&mut Link> {
        if self.link.as_mut().is_some_and(Link::is_stale) {
            self.link = None;
        }
        let link = match self.link.take() {
            Some(link) => link,
            None => {
                let link = Link::open(&self.address, &self.options);
                let link = link.map_err(|error| match error {
                    OpenError::Unreachable(source) => Error::Unreachable {
                        address: self.address.clone(),
                        source,
                    },
                    OpenError::Tls(problem) => self.without_tls(problem),
                })?;
                self.authenticate(link)?
            }
        };
        Ok(self.link.insert(link))
    }
}

impl Connection {
    /// Shows the token on a new connection, if there is one.
    ///
    /// # Errors
    /// `Unreachable` if the connection breaks: no request has been sent. `Failed` if the server does not accept the token.
    fn authenticate(&self, mut link: Link) -> Result<Link> {
        const METHOD: &str = "authenticate";
        let Some(token) = &self.options.token else {
            return Ok(link);
        };
        let request = Request::new(METHOD, [token.reveal().into()]);
        let wait = || Wait::new(self.options.answer_timeout, self.options.silence_timeout);
        let sent = link.send(&request, wait());
        match sent.and_then(|()| link.receive(&mut wait())) {
            Ok(Ok(_)) => Ok(link),
            Ok(Err(message)) => Err(Error::Failed {
                method: METHOD.to_owned(),
                message,
            }),
            Err(LinkError::Broken(source)) => Err(Error::Unreachable {
                address: self.address.clone(),
                source,
            }),
            Err(error) => Err(self.failed(METHOD, error)),
        }
    }
}

/// The retries that are left, and how long to wait before the next one.
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

    /// Waits before the next retry; false if none is left.
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
