//! The event loop: its state, and the order of what it does in a turn.

use super::accept::Acceptor;
use super::busy_poll::BusyPoll;
use super::connection::Connection;
use super::inbox::Tasks;
use super::limits::{EVENTS_PER_POLL, READ_BYTES_PER_TURN};
use super::log_throttle::LogThrottle;
use super::memory::Memory;
use super::pool::Pool;
use super::service::{Service, Ticket};
use super::statistics::Totals;
use super::table::{Key, Table};
use super::turn::Pending;
use super::waiting::Waiting;
use super::{Admission, LISTENERS, Limits, Server, ServerError, ServiceManager};
use crate::clock::{Clock, Timestamp};
use crate::tls::TlsServer;
use mio::{Events, Poll, Waker};
use signal_hook_mio::v1_0::Signals;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The running loop.
///
/// Its methods are in several files, by subject: `turn.rs`, `events.rs`, `deadlines.rs`, `room.rs`, `sleeping.rs`,
/// `waiting.rs`, `statistics.rs` and `stop.rs`. So these files and this one use each other.
pub(super) struct EventLoop<'a, S: Service, C> {
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    pub(super) acceptor: Acceptor,
    pub(super) connections: Table<Connection<S::Session>>,
    /// Connections that may have something to do, in the order of their turns. They are marked as queued.
    pub(super) ready: VecDeque<Key>,
    pub(super) memory: Memory,
    /// Connections whose long reads have not started, in order.
    pub(super) waiting_reads: VecDeque<Key>,
    /// False once the loop is stopping: what was not read by then is never read.
    pub(super) reading: bool,
    pub(super) scratch: Box<[u8]>,
    /// The monotonic clock as of the last poll or commit.
    pub(super) instant: Instant,
    pub(super) service: &'a mut S,
    pub(super) clock: &'a mut C,
    /// What `clock` said after the last poll.
    pub(super) now: Timestamp,
    pub(super) poll: Poll,
    pub(super) events: Events,
    pub(super) busy_poll: BusyPoll,
    /// Wakes the poll, for the pool, the inbox and [`super::Stopper`]. Kept as long as the poll.
    _waker: Arc<Waker>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) signals: Option<Signals>,
    /// What to read again at SIGHUP.
    pub(super) tls: Option<Arc<TlsServer>>,
    /// True if a signal has asked for statistics.
    pub(super) statistics_wanted: bool,
    pub(super) totals: Arc<Totals>,
    pub(super) started: Instant,
    /// When the last poll returned.
    pub(super) woken_at: Instant,
    pub(super) service_manager: ServiceManager,
    pub(super) pool: Pool,
    /// The token of the connection in slot 0.
    pub(super) first_connection: usize,
    /// The connections that were ready when the present turn began. Kept between turns for its memory.
    pub(super) turn: Vec<Key>,
    /// The connections that go on in the next turn. Kept between turns for its memory.
    pub(super) put_off: Vec<Key>,
    /// Connections with a message that did a step in the current batch and is to be handled again.
    pub(super) in_batch: Vec<Key>,
    /// The connections with a message that sleeps.
    pub(super) sleeping: HashMap<Ticket, Key>,
    /// Those that are being woken. Kept for its memory.
    pub(super) woken: Vec<Key>,
    /// Connections and tasks that wait until the service can write.
    pub(super) waiting: Waiting,
    /// Tasks that other threads have submitted.
    pub(super) tasks: Tasks<S>,
    /// What connections get after the commit of the current batch, in order.
    pub(super) batch: Vec<Pending<S::Answer>>,
    /// True if some connection is not read from because of the memory of all unsent answers.
    pub(super) has_paused: bool,
    /// When to check whether a connection has made no progress for so long that it is reset to make room for others.
    pub(super) next_room_check: Option<Instant>,
    /// Connections whose side is shut down, with the time at which they are closed in any case.
    pub(super) lingering: VecDeque<(Instant, Key)>,
    pub(super) next_tick: Timestamp,
    pub(super) tick_failed: bool,
    pub(super) next_sweep: Instant,
    /// When to try again to set the clock, after a failure.
    pub(super) next_clock_step: Instant,
    pub(super) refused_peers: LogThrottle,
    pub(super) refused_connections: LogThrottle,
    pub(super) refused_messages: LogThrottle,
    pub(super) failed_tls: LogThrottle,
    pub(super) too_much_unsent: LogThrottle,
    pub(super) too_much_unsent_in_all: LogThrottle,
    pub(super) rolled_back: LogThrottle,
}

impl<'a, S: Service, C: Clock> EventLoop<'a, S, C> {
    pub(super) fn new(
        server: Server,
        pool: Pool,
        service: &'a mut S,
        clock: &'a mut C,
        tasks: Tasks<S>,
    ) -> Self {
        let instant = Instant::now();
        let now = clock.now();
        Self {
            first_connection: LISTENERS + server.listeners.len(),
            limits: server.limits,
            admission: server.admission,
            acceptor: Acceptor::new(server.listeners),
            connections: Table::new(),
            ready: VecDeque::new(),
            memory: Memory::default(),
            waiting_reads: VecDeque::new(),
            reading: true,
            scratch: vec![0; READ_BYTES_PER_TURN].into_boxed_slice(),
            instant,
            service,
            clock,
            now,
            poll: server.poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            busy_poll: BusyPoll::new(server.limits.busy_poll_max),
            _waker: server.waker,
            stop: server.stop,
            signals: server.signals,
            tls: server.tls,
            statistics_wanted: false,
            totals: server.totals,
            started: instant,
            woken_at: instant,
            service_manager: server.service_manager,
            pool,
            turn: Vec::new(),
            put_off: Vec::new(),
            in_batch: Vec::new(),
            sleeping: HashMap::new(),
            woken: Vec::new(),
            waiting: Waiting::default(),
            tasks,
            batch: Vec::new(),
            has_paused: false,
            next_room_check: None,
            lingering: VecDeque::new(),
            next_tick: now,
            tick_failed: false,
            next_sweep: instant,
            next_clock_step: instant,
            refused_peers: LogThrottle::default(),
            refused_connections: LogThrottle::default(),
            refused_messages: LogThrottle::default(),
            failed_tls: LogThrottle::default(),
            too_much_unsent: LogThrottle::default(),
            too_much_unsent_in_all: LogThrottle::default(),
            rolled_back: LogThrottle::default(),
        }
    }

    /// Runs turns until something asks for a stop, then stops.
    pub(super) fn run(mut self) -> Result<(), ServerError> {
        let result = self.serve();
        self.service_manager.stopping();
        match result {
            Ok(()) => self.stop_cleanly(),
            Err(error) => {
                self.stop_after_failure();
                Err(error)
            }
        }
    }

    fn serve(&mut self) -> Result<(), ServerError> {
        while !self.stop.load(Ordering::Acquire) {
            self.wait(self.sleep())?;
            self.follow_wall_clock()?;
            self.service_manager.keep_alive(self.instant);
            if std::mem::take(&mut self.statistics_wanted) {
                self.log_statistics();
            }
            self.take_finished_reads();
            self.accept();
            self.close_lingering();
            self.close_stalled();
            if self.has_sleeping() {
                // What is due goes to those that wait for it, before others ask for it.
                self.tick()?;
            }
            self.handle_ready()?;
            self.tick()?;
            self.wake_sleeping();
        }
        Ok(())
    }
}

/// Puts a connection into the queue of those that may have something to do, unless it is there.
pub(super) fn enqueue<T>(ready: &mut VecDeque<Key>, key: Key, connection: &mut Connection<T>) {
    if !connection.queued {
        connection.queued = true;
        ready.push_back(key);
    }
}
