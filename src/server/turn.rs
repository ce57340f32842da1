//! One turn of the loop after the other.

use super::accept::{Acceptor, Occasionally};
use super::busy_poll::BusyPoll;
use super::connection::{Connection, Phase};
use super::inbox::Tasks;
use super::limits::{EVENTS_PER_POLL, LINGER_MAX, MESSAGES_PER_TURN, READ_BYTES_PER_TURN};
use super::pool::Pool;
use super::room::Held;
use super::service::{BatchError, Handled, Job, Service};
use super::statistics::Totals;
use super::table::{Key, Table};
use super::waiting::Waiting;
use super::{Admission, LISTENERS, Limits, Server, ServerError, ServiceManager};
use crate::clock::{Clock, Timestamp};
use coordinated_client::cborrpc::framing::FrameError;
use mio::{Events, Poll, Waker};
use signal_hook_mio::v1_0::Signals;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The running loop.
pub(super) struct EventLoop<'a, S: Service, C> {
    pub(super) limits: Limits,
    pub(super) admission: Admission,
    pub(super) acceptor: Acceptor,
    pub(super) connections: Table<Connection<S::Session>>,
    /// Connections that may have something to do, in the order of their turns.
    pub(super) ready: VecDeque<Key>,
    pub(super) held: Held,
    /// The connections whose long reads have not begun, in order.
    pub(super) waiting_jobs: VecDeque<Key>,
    /// False once the loop is stopping: what has not been read by then never is.
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
    /// Wakes the poll, for the pool and whoever may stop the loop. Kept for as long as the poll.
    _waker: Arc<Waker>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) signals: Option<Signals>,
    /// A signal has asked for statistics.
    pub(super) statistics_wanted: bool,
    pub(super) totals: Totals,
    pub(super) service_manager: ServiceManager,
    pub(super) pool: Pool,
    /// The token of the connection in slot 0.
    pub(super) first_connection: usize,
    /// Where each turn notes whose turn it is; kept for its memory.
    pub(super) turn: Vec<Key>,
    /// Who goes on with the next turn; kept for its memory.
    put_off: Vec<Key>,
    /// Connections with a step in the open batch of a message that is handled again.
    in_batch: Vec<Key>,
    /// Who waits until the service can write.
    pub(super) waiting: Waiting,
    /// What other threads have submitted.
    pub(super) tasks: Tasks<S>,
    /// What has been handled and waits for the commit, in order.
    batch: Vec<Pending<S::Answer>>,
    /// Some connection was not read from because of what all together are to be sent.
    pub(super) held_up: bool,
    /// When a connection may have been without progress for so long that it makes room for others.
    pub(super) next_room: Option<Instant>,
    /// Connections that are about to be closed, by the time to do it in any case.
    pub(super) lingering: VecDeque<(Instant, Key)>,
    pub(super) next_tick: Timestamp,
    pub(super) tick_failed: bool,
    pub(super) next_sweep: Instant,
    /// When to try again to set the clock, after a failure.
    pub(super) next_clock_step: Instant,
    pub(super) refused_peers: Occasionally,
    pub(super) refused_connections: Occasionally,
    pub(super) refused_messages: Occasionally,
    too_much_unsent: Occasionally,
    pub(super) too_much_unsent_in_all: Occasionally,
    pub(super) rolled_back: Occasionally,
}

/// What a connection gets when the batch has ended.
enum Pending<A> {
    Answer(Key, A),
    Refusal(Key, FrameError),
    Job(Key, Job),
}

/// How a connection goes on after a step.
enum Step {
    /// There may be another message: after the others, in this turn.
    Again,
    /// There may be more, but not in this turn.
    NextTurn,
    /// Nothing to do until something happens.
    Wait,
    /// Its message waits until the service can write.
    WaitToWrite,
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
            held: Held::default(),
            waiting_jobs: VecDeque::new(),
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
            statistics_wanted: false,
            totals: Totals::since(instant),
            service_manager: server.service_manager,
            pool,
            turn: Vec::new(),
            put_off: Vec::new(),
            in_batch: Vec::new(),
            waiting: Waiting::default(),
            tasks,
            batch: Vec::new(),
            held_up: false,
            next_room: None,
            lingering: VecDeque::new(),
            next_tick: now,
            tick_failed: false,
            next_sweep: instant,
            next_clock_step: instant,
            refused_peers: Occasionally::default(),
            refused_connections: Occasionally::default(),
            refused_messages: Occasionally::default(),
            too_much_unsent: Occasionally::default(),
            too_much_unsent_in_all: Occasionally::default(),
            rolled_back: Occasionally::default(),
        }
    }

    /// Turns until something asks for a stop, then stops.
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
            self.take_finished_jobs();
            self.accept();
            self.close_lingering();
            self.close_stalled();
            self.handle_ready()?;
            self.tick()?;
        }
        Ok(())
    }

    /// The middle of a turn: everybody in `ready` is read from, has messages handled, and is sent
    /// the answers after the commit.
    pub(super) fn handle_ready(&mut self) -> Result<(), ServerError> {
        let has_begun = self.end_waits();
        self.turn.clear();
        self.turn.extend(&self.ready);
        self.read();
        let outcome = if self.handle_messages() | has_begun {
            self.service.commit()
        } else {
            Ok(())
        };
        // A peer's time to take its answers begins now, however long the disk took.
        self.instant = Instant::now();
        self.answer(&outcome);
        self.report_rollback(&outcome);
        self.tasks.end_batch(&outcome);
        for index in 0..self.turn.len() {
            if let Some(key) = self.turn.get(index) {
                self.settle(*key);
            }
        }
        self.make_room_for_messages();
        self.make_room_for_answers();
        self.start_jobs();
        self.release_held_up();
        match outcome {
            Ok(()) => Ok(()),
            Err(BatchError::RolledBack(reason)) => {
                if let Some(unsaid) = self.rolled_back.say(self.instant) {
                    tracing::warn!(unsaid, "a batch was rolled back: {reason}");
                }
                Ok(())
            }
            Err(BatchError::Unknown(reason)) => Err(ServerError::OutcomeUnknown(reason)),
            Err(BatchError::Gone(reason)) => Err(ServerError::Gone(reason)),
        }
    }

    fn read(&mut self) {
        for key in &self.turn {
            let Some(connection) = self.connections.get_mut(*key) else {
                continue;
            };
            connection.messages_left = MESSAGES_PER_TURN;
            let has_room = self.held.unread <= self.limits.unread_total_bytes_max;
            let may_read = self.reading && has_room && self.held.may_take(connection, &self.limits);
            if may_read && connection.wants_to_read() {
                connection.fill(&mut self.scratch, self.instant);
                self.held.count(connection);
            }
        }
    }

    /// Hands messages to the service, one of each connection after the other and a task after each, until there are
    /// none, everybody has had a turn's worth, or the batch is full. True if there is something to commit.
    fn handle_messages(&mut self) -> bool {
        let mut handled = false;
        self.tasks.begin_turn();
        while !self.ready.is_empty() || self.tasks.may_have_some() {
            if self.service.batch_is_full() {
                handled = true;
                break;
            }
            let key = self.ready.pop_front();
            if let Some(key) = key {
                match self.step(key, &mut handled) {
                    Step::Again => self.ready.push_back(key),
                    Step::NextTurn => self.put_off.push(key),
                    Step::Wait => {
                        if let Some(connection) = self.connections.get_mut(key) {
                            connection.queued = false;
                        }
                    }
                    Step::WaitToWrite => {
                        self.waiting
                            .push(key, self.instant, self.limits.write_wait_max);
                    }
                }
            }
            let ran = self.tasks.run_next(self.service, self.now);
            if self.tasks.waiting() > 0 {
                self.waiting.begin(self.instant, self.limits.write_wait_max);
            }
            handled |= ran;
            if key.is_none() && !ran {
                break;
            }
        }
        self.ready.extend(self.put_off.drain(..));
        handled
    }

    fn step(&mut self, key: Key, handled: &mut bool) -> Step {
        let Some(connection) = self.connections.get_mut(key) else {
            return Step::Wait;
        };
        if !self.held.may_take(connection, &self.limits) {
            self.held_up |= self.held.is_crowded(&self.limits);
            self.log_held_up(key);
            return Step::Wait;
        }
        if connection.phase == Phase::Open {
            if connection.messages_left == 0 {
                return Step::NextTurn;
            }
            let peer = connection.peer;
            match connection.next_message() {
                Ok(None) => {}
                Ok(Some((session, message))) => {
                    *handled = true;
                    // Names the peer in what is logged about the message.
                    let _message = tracing::debug_span!("message", peer = %peer).entered();
                    let length = message.len();
                    let handled = self.service.handle(session, message, self.now);
                    self.totals.messages += u64::from(!matches!(
                        handled,
                        Handled::Again { .. } | Handled::Wait { .. }
                    ));
                    connection.note_making(0, self.instant);
                    match handled {
                        Handled::Answer(answer) => self.batch.push(Pending::Answer(key, answer)),
                        Handled::Later(job) => {
                            connection.busy = true;
                            connection.job_message = length;
                            self.batch.push(Pending::Job(key, job));
                        }
                        Handled::Again { held } => {
                            connection.note_making(held, self.instant);
                            connection.put_back();
                            self.in_batch.push(key);
                            return Step::NextTurn;
                        }
                        Handled::Wait { held } => {
                            connection.note_making(held, self.instant);
                            connection.put_back();
                            return Step::WaitToWrite;
                        }
                        Handled::Refuse(error) => {
                            connection.end();
                            self.refuse(key, error);
                        }
                        Handled::Close => connection.end(),
                    }
                    return Step::Again;
                }
                Err(error) => {
                    self.refuse(key, error);
                    return Step::Again;
                }
            }
        }
        if self.reading && connection.wants_to_read() {
            Step::NextTurn
        } else {
            Step::Wait
        }
    }

    /// Says why a connection is not read from: it can't be told, for it takes no answers.
    fn log_held_up(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let (peer, unsent) = (connection.peer, connection.unsent());
        let (limit, limit_of_all) = (
            self.limits.unsent_bytes_max,
            self.limits.unsent_total_bytes_max,
        );
        if unsent > limit
            && let Some(unsaid) = self.too_much_unsent.say(self.instant)
        {
            tracing::warn!(%peer, unsaid, limit, "not read from until it takes answers (--max-unsent)");
        }
        if unsent > 0
            && self.held.is_crowded(&self.limits)
            && let Some(unsaid) = self.too_much_unsent_in_all.say(self.instant)
        {
            tracing::warn!(
                %peer, unsaid, limit = limit_of_all,
                "not read from until answers are taken, by anybody (--max-unsent-total)"
            );
        }
    }

    /// Lets a connection that sent what can't be read be told so, after the answers before it.
    fn refuse(&mut self, key: Key, error: FrameError) {
        if let Some(unsaid) = self.refused_messages.say(self.instant) {
            let peer = self
                .connections
                .get_mut(key)
                .map(|connection| connection.peer);
            let peer = peer.map(tracing::field::display);
            tracing::info!(peer, unsaid, "refused a message: {error}");
        }
        self.batch.push(Pending::Refusal(key, error));
    }

    /// Puts the answers of the batch among what their connections are to be sent, and lets the long reads
    /// wait for their turns.
    fn answer(&mut self, outcome: &Result<(), BatchError>) {
        let service = &*self.service;
        for pending in self.batch.drain(..) {
            let (Pending::Answer(key, _) | Pending::Refusal(key, _) | Pending::Job(key, _)) =
                &pending;
            let key = *key;
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            match pending {
                Pending::Answer(_, answer) => connection.append(self.instant, |out| {
                    service.write_answer(answer, outcome, out);
                }),
                Pending::Refusal(_, error) => {
                    connection.append(self.instant, |out| service.write_refusal(&error, out));
                }
                Pending::Job(..)
                    if matches!(outcome, Err(BatchError::Unknown(_) | BatchError::Gone(_))) => {}
                Pending::Job(_, job) => {
                    connection.job = Some(job);
                    self.waiting_jobs.push_back(key);
                }
            }
        }
    }

    /// Tells the service which connections had a step of a message in a batch that did not commit.
    fn report_rollback(&mut self, outcome: &Result<(), BatchError>) {
        for key in self.in_batch.drain(..) {
            if let Err(error) = outcome
                && let Some(connection) = self.connections.get_mut(key)
            {
                self.service.rolled_back(connection.session(), error);
            }
        }
    }

    /// The end of a turn for one connection: sends what can be sent, and closes what has come to
    /// its end.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let sent = connection.flush(self.instant);
        connection.give_memory_back();
        self.held.count(connection);
        match sent {
            Ok(written) => {
                // Who was not read from for having too much unsent is looked at again.
                let goes_on = written > 0 && connection.has_input();
                if goes_on || connection.wants_to_write() {
                    enqueue(&mut self.ready, key, connection);
                }
            }
            Err(error) => {
                tracing::debug!(peer = %connection.peer, "cannot send: {error}");
                self.reset(key);
                return;
            }
        }
        if !connection.phase_is_over() {
            return;
        }
        if connection.phase == Phase::Ending && !connection.is_at_end() {
            match connection.shutdown_write() {
                Ok(()) => self.lingering.push_back((self.instant + LINGER_MAX, key)),
                Err(_) => self.reset(key),
            }
        } else {
            self.close(key);
        }
    }

    fn remove(&mut self, key: Key) -> Option<Connection<S::Session>> {
        let connection = self.connections.remove(key)?;
        self.held.forget(&connection);
        if connection.job.is_some() {
            self.waiting_jobs.retain(|waiting| *waiting != key);
        }
        tracing::debug!(peer = %connection.peer, "connection closed");
        Some(connection)
    }

    /// Closes a connection, whatever it was to be sent.
    pub(super) fn close(&mut self, key: Key) {
        drop(self.remove(key));
    }

    /// Closes a connection at once. What it has not yet received is lost.
    pub(super) fn reset(&mut self, key: Key) {
        if let Some(connection) = self.remove(key) {
            connection.into_socket().reset();
        }
    }
}

/// Gives a connection its turn, once.
pub(super) fn enqueue<T>(ready: &mut VecDeque<Key>, key: Key, connection: &mut Connection<T>) {
    if !connection.queued {
        connection.queued = true;
        ready.push_back(key);
    }
}
