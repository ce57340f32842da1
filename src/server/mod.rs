//! The event loop: listeners, connections, buffers, deadlines, signals and group commits.
//!
//! It knows bytes, batches and time, and leaves what a message means to a [`Service`]. One thread
//! does everything but the long reads, in turns:
//!
//! 1. wait for events and read from the connections that have some;
//! 2. hand their whole messages to the service, one of each connection after the other;
//! 3. commit, so that all of them share one sync;
//! 4. write the answers, in the order of each connection's messages.
//!
//! So nothing is answered that is not on disk. A connection without events costs no time, and next
//! to no memory.

mod accept;
mod admission;
mod busy_poll;
mod connection;
mod deadlines;
mod events;
mod inbox;
mod limits;
mod listen;
mod pool;
mod room;
mod service;
mod service_manager;
mod socket;
mod statistics;
mod stop;
mod table;
#[cfg(test)]
mod tests;
mod turn;
mod unix_socket;
mod waiting;

pub use admission::{Admission, Network, ParseNetworkError};
pub use inbox::{Inbox, Reply, SubmitError, Task, TaskProgress, Tasks};
pub use limits::Limits;
pub use listen::BindError;
pub use service::{BatchError, Handled, Job, Service};
pub use service_manager::ServiceManager;

use crate::clock::Clock;
use coordinated_client::Address;
use listen::Listener;
use mio::{Interest, Poll, Token, Waker};
use pool::Pool;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use turn::EventLoop;

/// Everything that can wake the loop: this, a signal, a listener (from `LISTENERS` on), or a
/// connection (after the last listener).
const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const LISTENERS: usize = 2;

/// Why the loop ended other than by a stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A commit failed in a way that leaves open what is on the disk. Opening the file anew tells.
    #[error(
        "the disk failed, and what it holds of the last operations is unknown ({0}); check the \
         disk and start anew"
    )]
    OutcomeUnknown(String),
    /// What the service writes to is gone.
    #[error("{0}")]
    Gone(String),
    /// The system failed to say what happens on the sockets.
    #[error("cannot wait for events: {0}")]
    Poll(io::Error),
    /// The system has no means left for the threads of long reads.
    #[error(
        "cannot start the threads for long reads: {0}; raise the limit of processes (ulimit -u)"
    )]
    Threads(io::Error),
}

/// Sockets that listen, not yet served. Clients can connect already; they wait.
pub struct Server {
    poll: Poll,
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    admission: Admission,
    limits: Limits,
    waker: Arc<Waker>,
    stop: Arc<AtomicBool>,
    signals: Option<Signals>,
    service_manager: ServiceManager,
}

impl Server {
    /// Listens at each of the addresses for those who may connect, and raises the limit of open files
    /// for the connections to come.
    ///
    /// # Errors
    /// See [`BindError`]; then nothing listens.
    pub fn bind(
        listen: &[Address],
        admission: Admission,
        limits: Limits,
    ) -> Result<Self, BindError> {
        limits::make_room_for(&limits);
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listeners = Vec::new();
        for address in listen {
            listeners.extend(Listener::bind(address, &admission)?);
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
            waker,
            stop,
            signals: None,
            service_manager: ServiceManager::none(),
        })
    }

    /// The addresses that it really listens at, with the ports that the system chose. More than
    /// were asked for if a name stands for several.
    #[must_use]
    pub fn local_addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Makes SIGTERM and SIGINT stop the loop cleanly, SIGUSR1 write statistics to the log, and SIGHUP
    /// harmless. They hold for the whole process, from now on: what comes before [`Server::run`] counts
    /// too.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn heed_signals(&mut self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
        self.poll
            .registry()
            .register(&mut signals, SIGNALS, Interest::READABLE)?;
        self.signals = Some(signals);
        Ok(())
    }

    /// Lets a service manager know when the loop serves, that it goes on, and when it stops.
    pub fn report_to(&mut self, service_manager: ServiceManager) {
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

    /// Where other threads submit tasks, of which `capacity` may wait, and the tasks for [`Server::run_with`].
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

    /// Serves until it is told to stop: then it answers what was received, waits a few seconds at
    /// most for the answers to arrive, and closes every connection by a reset.
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
            Pool::start(self.limits.job_threads, &self.waker).map_err(ServerError::Threads)?;
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
    /// Asks for a clean stop and returns at once. Without effect on a server that has ended.
    ///
    /// # Errors
    /// If the loop can't be woken; it then stops at its next event.
    pub fn stop(&self) -> io::Result<()> {
        self.stop.store(true, Ordering::Release);
        self.waker.wake()
    }
}
