//! One turn of the loop: reading, handling messages, committing, and sending the answers.

use super::ServerError;
use super::connection::{Connection, Phase};
use super::event_loop::{EventLoop, enqueue};
use super::limits::{HANDSHAKES_PER_TURN, LINGER_MAX, MESSAGES_PER_TURN};
use super::memory::Memory;
use super::service::{BatchError, Handled, LongRead, Service};
use super::table::Key;
use super::tls_socket::TlsFailure;
use crate::clock::Clock;
use coordinated_client::cborrpc::framing::FrameError;
use std::time::Instant;

/// What a connection gets after the end of the batch.
pub(super) enum Pending<A> {
    Answer(Key, A),
    Refusal(Key, FrameError),
    LongRead(Key, LongRead),
}

/// What a connection waits for.
enum WaitFor {
    /// The other connections, which come before it in this turn: there may be another message.
    OtherConnections,
    /// The next turn of the loop: there may be more to do.
    NextTurn,
    /// An event: there is nothing to do.
    Event,
    /// That the service can write.
    Write,
}

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// The main part of a turn: reads from the connections in `ready`, handles their messages, commits, and sends
    /// the answers.
    pub(super) fn handle_ready(&mut self) -> Result<(), ServerError> {
        let has_begun = self.end_waits();
        self.turn.clear();
        self.wake_sleeping();
        self.turn.extend(&self.ready);
        self.read();
        let messages_before = self.totals.messages.get();
        let outcome = if self.handle_messages() | has_begun {
            self.service.commit()
        } else {
            Ok(())
        };
        // A peer's time to read its answers begins now, however long the disk took.
        let answered_at = Instant::now();
        let messages = self.totals.messages.get() - messages_before;
        self.count_answered(answered_at, messages, self.tasks.done());
        self.instant = answered_at;
        self.append_answers(&outcome);
        self.notify_rolled_back(&outcome);
        self.tasks.end_batch(&outcome);
        for index in 0..self.turn.len() {
            if let Some(key) = self.turn.get(index) {
                self.settle(*key);
            }
        }
        self.make_room_for_messages();
        self.make_room_for_answers();
        self.start_long_reads();
        self.resume_paused();
        match outcome {
            Ok(()) => Ok(()),
            Err(BatchError::RolledBack(reason)) => {
                if let Some(suppressed) = self.rolled_back.permit(self.instant) {
                    tracing::warn!(suppressed, "a batch was rolled back: {reason}");
                }
                Ok(())
            }
            Err(BatchError::Unknown(reason)) => Err(ServerError::OutcomeUnknown(reason)),
            Err(BatchError::Gone(reason)) => Err(ServerError::Gone(reason)),
        }
    }

    fn read(&mut self) {
        let mut handshakes_left = HANDSHAKES_PER_TURN;
        let mut failures = Vec::new();
        for key in &self.turn {
            let Some(connection) = self.connections.get_mut(*key) else {
                continue;
            };
            connection.messages_left = MESSAGES_PER_TURN;
            let has_room = self.memory.unread <= self.limits.unread_total_bytes_max;
            let may_read =
                self.reading && has_room && connection.may_be_served(&self.memory, &self.limits);
            if may_read && connection.wants_to_read() {
                if connection.is_shaking_hands() {
                    let Some(left) = handshakes_left.checked_sub(1) else {
                        continue;
                    };
                    handshakes_left = left;
                }
                let received = connection.fill(&mut self.scratch, self.instant);
                self.totals.received_bytes.add(received as u64);
                connection.count_memory(&mut self.memory);
                failures.extend(connection.take_failure().map(|failure| (*key, failure)));
            }
        }
        for (key, failure) in failures {
            self.end_without_tls(key, failure);
        }
    }

    /// Ends a connection that has no TLS where it should have, or that has broken it.
    fn end_without_tls(&mut self, key: Key, failure: TlsFailure) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let peer = connection.peer;
        connection.end();
        match failure {
            TlsFailure::NotTls(bytes) => self.refuse(key, FrameError::not_tls(&bytes)),
            TlsFailure::Failed(error) => {
                self.totals.failed_tls.add(1);
                if let Some(suppressed) = self.failed_tls.permit(self.instant) {
                    tracing::info!(%peer, suppressed, "ended a connection: TLS failed: {error}");
                }
            }
        }
    }

    /// Hands messages to the service: one message of each connection in turn, and a task after each. Stops when there
    /// are none left, when each connection has used up its share of the turn, or when the batch is full. True if there
    /// is something to commit.
    fn handle_messages(&mut self) -> bool {
        let mut handled = false;
        self.tasks.begin_turn();
        while !self.ready.is_empty() || self.tasks.may_have_some() {
            if self.service.batch_is_full() {
                handled = true;
                break;
            }
            if self.tasks.run_woken(self.service, self.now) {
                handled = true;
                self.wait_with_tasks();
                self.wake_sleeping();
                continue;
            }
            let key = self.ready.pop_front();
            if let Some(key) = key {
                match self.handle_next_message(key, &mut handled) {
                    WaitFor::OtherConnections => self.ready.push_back(key),
                    WaitFor::NextTurn => self.put_off.push(key),
                    WaitFor::Event => {
                        if let Some(connection) = self.connections.get_mut(key) {
                            connection.queued = false;
                        }
                    }
                    WaitFor::Write => {
                        self.waiting
                            .push(key, self.instant, self.limits.write_wait_max);
                    }
                }
            }
            // Before others get what they wait for, in the same batch.
            self.wake_sleeping();
            if self.tasks.may_have_some() && self.is_next_woken() {
                continue;
            }
            let ran = self.tasks.run_next(self.service, self.now);
            self.wait_with_tasks();
            handled |= ran;
            if key.is_none() && !ran {
                break;
            }
        }
        self.ready.extend(self.put_off.drain(..));
        handled
    }

    /// Begins to wait until the service can write, if a task does.
    fn wait_with_tasks(&mut self) {
        if self.tasks.waiting() > 0 {
            self.waiting.begin(self.instant, self.limits.write_wait_max);
        }
    }

    /// Handles the next message of a connection, if there is one.
    fn handle_next_message(&mut self, key: Key, handled: &mut bool) -> WaitFor {
        if self.is_asleep(key) {
            return WaitFor::Event;
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return WaitFor::Event;
        };
        if !connection.has_woken && !connection.may_be_served(&self.memory, &self.limits) {
            self.has_paused |= self.memory.is_crowded(&self.limits);
            self.log_paused(key);
            return WaitFor::Event;
        }
        if connection.phase == Phase::Open {
            if connection.messages_left == 0 {
                return WaitFor::NextTurn;
            }
            let peer = connection.peer;
            match connection.next_message() {
                Ok(None) => {}
                Ok(Some((session, message))) => {
                    *handled = true;
                    // Adds the peer to log lines about the message.
                    let _message = tracing::debug_span!("message", peer = %peer).entered();
                    let length = message.len();
                    let handled = self.service.handle(session, message, self.now);
                    self.totals.messages.add(u64::from(!matches!(
                        handled,
                        Handled::Again { .. } | Handled::Wait { .. } | Handled::Sleep { .. }
                    )));
                    connection.note_partial_answer(0, self.instant);
                    connection.has_woken &=
                        matches!(handled, Handled::Again { .. } | Handled::Wait { .. });
                    match handled {
                        Handled::Answer(answer) => self.batch.push(Pending::Answer(key, answer)),
                        Handled::Later(read) => {
                            connection.busy = true;
                            connection.read_message_bytes = length;
                            self.batch.push(Pending::LongRead(key, read));
                        }
                        Handled::Again { held } => {
                            connection.note_partial_answer(held, self.instant);
                            connection.put_back();
                            self.in_batch.push(key);
                            return WaitFor::NextTurn;
                        }
                        Handled::Wait { held } => {
                            connection.note_partial_answer(held, self.instant);
                            connection.put_back();
                            return WaitFor::Write;
                        }
                        Handled::Sleep { ticket, held } => {
                            connection.note_partial_answer(held, self.instant);
                            connection.put_back();
                            if self.sleep_on(key, ticket) {
                                return WaitFor::Event;
                            }
                        }
                        Handled::Refuse(error) => {
                            connection.end();
                            self.refuse(key, error);
                        }
                        Handled::Close => connection.end(),
                    }
                    return WaitFor::OtherConnections;
                }
                Err(error) => {
                    self.refuse(key, error);
                    return WaitFor::OtherConnections;
                }
            }
        }
        if self.reading && connection.wants_to_read() {
            WaitFor::NextTurn
        } else {
            WaitFor::Event
        }
    }

    /// Logs why a connection is not read from. The peer can't be told, since it reads no answers.
    fn log_paused(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let (peer, unsent) = (connection.peer, connection.unsent());
        let (limit, limit_of_all) = (
            self.limits.unsent_bytes_max,
            self.limits.unsent_total_bytes_max,
        );
        if unsent > limit
            && let Some(suppressed) = self.too_much_unsent.permit(self.instant)
        {
            tracing::warn!(%peer, suppressed, limit, "paused reading until the peer reads its answers (limit of unsent bytes per connection)");
        }
        if unsent > 0
            && self.memory.is_crowded(&self.limits)
            && let Some(suppressed) = self.too_much_unsent_in_all.permit(self.instant)
        {
            tracing::warn!(
                %peer, suppressed, limit = limit_of_all,
                "paused reading until peers read their answers (limit of unsent bytes in total)"
            );
        }
    }

    /// Tells a peer that its message can't be read, after the answers to the messages before it.
    fn refuse(&mut self, key: Key, error: FrameError) {
        self.totals.refused_messages.add(1);
        if let Some(suppressed) = self.refused_messages.permit(self.instant) {
            let peer = self
                .connections
                .get_mut(key)
                .map(|connection| connection.peer);
            let peer = peer.map(tracing::field::display);
            tracing::info!(peer, suppressed, "refused a message: {error}");
        }
        self.batch.push(Pending::Refusal(key, error));
    }

    /// Appends the answers of the batch to what their connections are to be sent, and queues the long reads.
    fn append_answers(&mut self, outcome: &Result<(), BatchError>) {
        let service = &*self.service;
        for pending in self.batch.drain(..) {
            let (Pending::Answer(key, _) | Pending::Refusal(key, _) | Pending::LongRead(key, _)) =
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
                Pending::LongRead(..)
                    if matches!(outcome, Err(BatchError::Unknown(_) | BatchError::Gone(_))) => {}
                Pending::LongRead(_, read) => {
                    connection.long_read = Some(read);
                    self.waiting_reads.push_back(key);
                }
            }
        }
    }

    /// Tells the service which connections have a message with a step in a batch that was rolled back.
    fn notify_rolled_back(&mut self, outcome: &Result<(), BatchError>) {
        for key in self.in_batch.drain(..) {
            if let Err(error) = outcome
                && let Some(connection) = self.connections.get_mut(key)
            {
                self.service.rolled_back(connection.session(), error);
            }
        }
    }

    /// The end of a turn for one connection: sends what can be sent, and closes the connection if its last phase is
    /// over.
    pub(super) fn settle(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let sent = connection.flush(self.instant);
        connection.free_memory();
        connection.count_memory(&mut self.memory);
        match sent {
            Ok(written) => {
                self.totals.sent_bytes.add(written as u64);
                // Reading may have been paused for too many unsent bytes.
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
        let mut connection = self.connections.remove(key)?;
        if let Some(ticket) = connection.asleep.take() {
            self.sleeping.remove(&ticket);
        }
        self.service.close_session(connection.session());
        self.memory.replace(connection.counted(), Memory::default());
        if connection.long_read.is_some() {
            self.waiting_reads.retain(|waiting| *waiting != key);
        }
        tracing::debug!(peer = %connection.peer, "connection closed");
        Some(connection)
    }

    /// Closes a connection. Unsent answers are dropped.
    pub(super) fn close(&mut self, key: Key) {
        if let Some(mut connection) = self.remove(key) {
            connection.socket_mut().close_session();
        }
    }

    /// Resets a connection. What the peer has not received yet is lost.
    pub(super) fn reset(&mut self, key: Key) {
        if let Some(connection) = self.remove(key) {
            connection.into_socket().reset();
        }
    }
}
