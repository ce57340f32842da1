//! The event loop: listeners, connections, buffers, deadlines, signals and group commits.
//!
//! It knows bytes, batches and time. What a message means is up to a [`Service`]. One thread does everything except
//! long reads, in turns:
//!
//! 1. wait for events, and read from the connections that have some;
//! 2. hand complete messages to the service, one of each connection in turn;
//! 3. commit, with one sync for all of them;
//! 4. send the answers, in the order of each connection's messages.
//!
//! So no answer is sent before its changes are on disk. A connection without events costs no time and almost no
//! memory.

mod accept;
mod admission;
mod bind_error;
mod buffer;
mod busy_poll;
mod connection;
mod deadlines;
mod event_loop;
mod events;
mod inbox;
mod limits;
mod listen;
mod log_throttle;
mod memory;
mod pool;
mod room;
mod service;
mod service_manager;
mod sleeping;
mod socket;
mod statistics;
mod stop;
mod table;
#[cfg(test)]
mod tests;
mod tls_socket;
mod turn;
mod unix_socket;
mod waiting;

pub use admission::{Admission, Network, ParseNetworkError};
pub use bind_error::BindError;
pub use inbox::{Inbox, Reply, SubmitError, Task, TaskProgress, Tasks};
pub use limits::Limits;
pub use listen::BoundSocket;
pub use service::{BatchError, Handled, LongRead, Service, Ticket};
pub use service_manager::ServiceManager;
pub use statistics::Totals;
pub use unix_socket::SocketFile;

use crate::clock::Clock;
use crate::tls::TlsServer;
use coordinated_client::Address;
use event_loop::EventLoop;
use listen::Listener;
use mio::{Interest, Poll, Token, Waker};
use pool::Pool;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Everything that can wake the loop: the waker, a signal, a listener (tokens from `LISTENERS` on), or a connection
/// (tokens after the last listener).
const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const LISTENERS: usize = 2;

/// Why the loop ended without being told to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A commit failed, and it is unknown what is on the disk until the file is opened again.
    #[error(
        "the disk failed, and it is unknown which of the last operations it holds ({0}); check the \
         disk, then start the daemon again"
    )]
    OutcomeUnknown(String),
    /// The file that the service writes to is gone.
    #[error("{0}")]
    Gone(String),
    /// The system failed to report events.
    #[error("cannot wait for events: {0}")]
    Poll(io::Error),
    /// The system can't start the threads for long reads.
    #[error(
        "cannot start the threads for long reads: {0}; raise the limit of processes (ulimit -u)"
    )]
    Threads(io::Error),
}

/// Sockets that listen. Clients can connect already, and wait until [`Server::run`].
pub struct Server {
    poll: Poll,
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    admission: Admission,
    limits: Limits,
    tls: Option<Arc<TlsServer>>,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    signals: Option<Signals>,
    service_manager: ServiceManager,
    totals: Arc<Totals>,
}

impl Server {
    /// Listens at each of the addresses, and raises the limit of open files for the connections. `tls:` addresses need
    /// `tls`.
    ///
    /// # Errors
    /// See [`BindError`]. Then nothing listens.
    pub fn bind(
        listen: &[Address],
        admission: Admission,
        limits: Limits,
        tls: Option<Arc<TlsServer>>,
    ) -> Result<Self, BindError> {
        limits::ensure_open_files(&limits);
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listeners = Vec::new();
        for address in listen {
            listeners.extend(Listener::bind(address, &admission, tls.as_ref())?);
        }
        if listeners.is_empty() {
            return Err(BindError::NoAddress);
        }
        let mut addresses = Vec::new();
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener.register(poll.registry(), Token(LISTENERS + index))?;
            addresses.push(listener.local_address()?);
        }
        let stop = Arc::default();
        Ok(Self {
            poll,
            listeners,
            addresses,
            admission,
            limits,
            tls,
            waker,
            stop,
            signals: None,
            service_manager: ServiceManager::none(),
            totals: Arc::default(),
        })
    }

    /// The addresses that it is bound to, with the ports that the system chose. They are more than were asked for if a
    /// name has several.
    #[must_use]
    pub fn local_addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Makes SIGTERM and SIGINT stop the loop cleanly, SIGUSR1 write statistics to the log, and SIGHUP reload the
    /// certificate. This holds for the whole process from now on: signals that come before [`Server::run`] take effect then.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn handle_signals(&mut self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
        self.poll
            .registry()
            .register(&mut signals, SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Notifies a service manager when the loop begins to serve, while it runs, and when it stops.
    pub fn notify(&mut self, service_manager: ServiceManager) {
        self.service_manager = service_manager;
    }

    /// A handle that stops the loop from another thread, as a signal does.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper {
            stop: Arc::clone(&self.stop),
            waker: Arc::clone(&self.waker),
        }
    }

    /// What the loop counts while it runs.
    #[must_use]
    pub fn totals(&self) -> Arc<Totals> {
        Arc::clone(&self.totals)
    }

    /// A queue for tasks from other threads, of which `capacity` may wait: the inbox to submit them to, and the tasks
    /// for [`Server::run_with`].
    #[must_use]
    pub fn inbox<S: Service>(&self, capacity: usize) -> (Inbox<S>, Tasks<S>) {
        inbox::inbox(capacity, &self.waker)
    }

    /// Serves without tasks from other threads. See [`Server::run_with`].
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn run<S: Service, C: Clock>(
        self,
        service: &mut S,
        clock: &mut C,
    ) -> Result<(), ServerError> {
        self.run_with(service, clock, Tasks::none())
    }

    /// Serves until it is told to stop. Then it answers what was received, waits at most a few seconds until the
    /// answers have arrived, and resets every connection.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn run_with<S: Service, C: Clock>(
        self,
        service: &mut S,
        clock: &mut C,
        tasks: Tasks<S>,
    ) -> Result<(), ServerError> {
        let pool =
            Pool::start(self.limits.reader_threads, &self.waker).map_err(ServerError::Threads)?;
        for address in &self.addresses {
            tracing::info!("listening on {address}");
        }
        self.service_manager.ready(&self.addresses);
        EventLoop::new(self, pool, service, clock, tasks).run()
    }
}

/// Stops a running [`Server`]. See [`Server::stopper`].
#[derive(Clone)]
pub struct Stopper {
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stopper {
    /// Asks for a clean stop, and returns at once. Does nothing if the server has ended.
    ///
    /// # Errors
    /// If the loop can't be woken. It then stops at its next event.
    pub fn stop(&self) -> io::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.waker.wake()
    }
}
