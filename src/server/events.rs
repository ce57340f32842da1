//! Everything that wakes the loop: events on sockets, signals, new connections, ends of long reads.

use super::connection::Connection;
use super::event_loop::{EventLoop, enqueue};
use super::limits::ACCEPTS_PER_TURN;
use super::service::Service;
use super::socket::{Peer, Socket};
use super::{LISTENERS, SIGNALS, ServerError, WAKER};
use crate::clock::Clock;
use crate::tls::TlsServer;
use mio::Token;
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// Waits for events and notes them. Connections with events are then in `ready`.
    pub(super) fn wait(&mut self, at_most: Duration) -> Result<(), ServerError> {
        let now = Instant::now();
        self.count_turn(now);
        let polled = self.busy_poll.poll(
            &mut self.poll,
            &mut self.events,
            at_most,
            self.turn.len(),
            now,
        );
        match polled {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(ServerError::Poll(error)),
        }
        self.instant = Instant::now();
        self.woken_at = self.instant;
        self.now = self.clock.now();
        for event in &self.events {
            match event.token() {
                WAKER => self.tasks.note_wake(),
                SIGNALS => {
                    let signals = self.signals.as_mut();
                    self.statistics_wanted |=
                        take_signals(signals, &self.stop, self.tls.as_deref());
                }
                Token(token) if token < self.first_connection => {
                    self.acceptor.note(token - LISTENERS);
                }
                Token(token) => {
                    let Some(key) = self.connections.key_at(token - self.first_connection) else {
                        continue;
                    };
                    let Some(connection) = self.connections.get_mut(key) else {
                        continue;
                    };
                    connection.note(event);
                    enqueue(&mut self.ready, key, connection);
                }
            }
        }
        Ok(())
    }

    /// Appends the answers of long reads to what their connections are to be sent.
    pub(super) fn take_finished_reads(&mut self) {
        while let Some(finished) = self.pool.next_finished() {
            let Some(connection) = self.connections.get_mut(finished.key) else {
                continue;
            };
            match finished.answer {
                Ok(mut bytes) => {
                    connection.busy = false;
                    connection.append(self.instant, |out| {
                        if out.is_empty() {
                            *out = bytes
                        } else {
                            out.append(&mut bytes)
                        }
                    });
                    connection.count_memory(&mut self.memory);
                    enqueue(&mut self.ready, finished.key, connection);
                }
                Err(panic) => {
                    tracing::error!(peer = %connection.peer, "a long read panicked: {panic}");
                    self.reset(finished.key);
                }
            }
        }
    }

    pub(super) fn accept(&mut self) {
        for index in 0..self.acceptor.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some((socket, peer)) = self.acceptor.next(index, self.instant) else {
                    break;
                };
                self.open(socket, peer);
            }
        }
    }

    fn open(&mut self, socket: Socket, peer: Peer) {
        if peer.ip().is_some_and(|ip| !self.admission.admits(ip)) {
            socket.reset();
            self.totals.refused_networks.add(1);
            if let Some(suppressed) = self.refused_peers.permit(self.instant) {
                tracing::warn!(%peer, suppressed, "refused a connection: its network is not allowed");
            }
            return;
        }
        if self.connections.len() >= self.limits.connections_max {
            socket.reset();
            self.totals.refused_connections.add(1);
            if let Some(suppressed) = self.refused_connections.permit(self.instant) {
                let limit = self.limits.connections_max;
                tracing::warn!(%peer, suppressed, limit, "refused a connection: too many are open");
            }
            return;
        }
        self.totals.accepted.add(1);
        let session = self.service.open_session(peer.ip());
        let connection = Connection::new(socket, peer, session, self.limits.frame, self.instant);
        let key = self.connections.insert(connection);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let token = Token(self.first_connection + key.slot());
        match connection
            .socket_mut()
            .register(self.poll.registry(), token)
        {
            Ok(()) => {
                tracing::debug!(%peer, "connection opened");
                // Most peers have sent their first message by now, so the loop looks for it without an event.
                enqueue(&mut self.ready, key, connection);
            }
            Err(error) => {
                tracing::warn!(%peer, "cannot register a connection with the poll: {error}");
                self.reset(key);
            }
        }
    }
}

/// Does what the signals ask for. True if one of them asks for statistics.
fn take_signals(signals: Option<&mut Signals>, stop: &AtomicBool, tls: Option<&TlsServer>) -> bool {
    let mut wants_statistics = false;
    for signal in signals.into_iter().flat_map(Signals::pending) {
        match signal {
            SIGHUP => match tls {
                Some(tls) => tls.reload(),
                None => tracing::info!("SIGHUP is ignored: there is no certificate to reload"),
            },
            SIGUSR1 => wants_statistics = true,
            _ => {
                tracing::info!("signal {signal}: stopping");
                stop.store(true, Ordering::Release);
            }
        }
    }
    wants_statistics
}
