//! What is due at a certain time: ticks, stalled connections, lingering connections; and how long the loop may
//! sleep until then.

use super::ServerError;
use super::connection::Stall;
use super::event_loop::EventLoop;
use super::limits::{
    EVENTS_PER_POLL, SLEEP_MAX, SWEEP_INTERVAL_MAX, SWEEP_INTERVAL_MIN, TICK_RETRY,
};
use super::service::{BatchError, Service};
use super::table::Key;
use crate::clock::{Clock, Timestamp};
use std::time::{Duration, Instant};

impl<S: Service, C: Clock> EventLoop<'_, S, C> {
    /// How long the next poll may wait.
    pub(super) fn sleep(&self) -> Duration {
        if !self.ready.is_empty() || self.tasks.may_have_some() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let lingering = self.lingering.front().map(|(until, _)| *until);
        let sweep = (self.connections.len() > 0).then_some(self.next_sweep);
        let deadlines = [
            lingering,
            sweep,
            self.waiting.next_try(),
            self.acceptor.next_try(now),
            self.next_room_check,
            self.service_manager.next_keep_alive(),
        ];
        deadlines
            .into_iter()
            .flatten()
            .map(|deadline| deadline.saturating_duration_since(now))
            .chain([SLEEP_MAX, self.next_tick().since(self.now)])
            .chain(self.wake_at().map(|at| at.since(self.now)))
            .min()
            .unwrap_or_default()
    }

    /// When a message or a task wakes up next.
    fn wake_at(&self) -> Option<Timestamp> {
        self.has_sleeping()
            .then(|| self.service.wake_at())
            .flatten()
    }

    /// When the service has to do its own work next. After a failure, that is some time later, though it is due now.
    fn next_tick(&self) -> Timestamp {
        match self.service.due() {
            Some(due) if !self.tick_failed => due.min(self.next_tick),
            _ => self.next_tick,
        }
    }

    /// Lets the service do its own work, if that is due.
    pub(super) fn tick(&mut self) -> Result<(), ServerError> {
        if self.now < self.next_tick() {
            return Ok(());
        }
        let pause = match self.service.tick(self.now) {
            Ok(pause) => {
                self.tick_failed = false;
                pause
            }
            Err(BatchError::RolledBack(reason)) => {
                if let Some(suppressed) = self.rolled_back.permit(self.instant) {
                    tracing::warn!(suppressed, "periodic work was rolled back: {reason}");
                }
                self.tick_failed = true;
                TICK_RETRY
            }
            Err(BatchError::Unknown(reason)) => return Err(ServerError::OutcomeUnknown(reason)),
            Err(BatchError::Gone(reason)) => return Err(ServerError::Gone(reason)),
        };
        self.next_tick = self.now.plus(pause);
        Ok(())
    }

    /// Sets the clock if the wall clock is far from it, and moves all times that are compared with it.
    pub(super) fn follow_wall_clock(&mut self) -> Result<(), ServerError> {
        let Some(step) = self.clock.due_step() else {
            return Ok(());
        };
        if self.instant < self.next_clock_step {
            return Ok(());
        }
        let now = self.now.moved(step);
        match self.service.move_times(step, now) {
            Ok(()) => {
                self.clock.set(step);
                self.now = now;
                self.next_tick = self.next_tick.moved(step);
                tracing::warn!(
                    "the wall clock jumped {step} (it was set, or the machine was suspended): leases, delays and \
                     locks keep their remaining time, and schedules follow the wall clock"
                );
            }
            Err(BatchError::RolledBack(reason)) => {
                if let Some(suppressed) = self.rolled_back.permit(self.instant) {
                    tracing::warn!(
                        suppressed,
                        "the wall clock jumped {step}, but the times could not be moved yet: {reason}"
                    );
                }
                self.next_clock_step = self.instant + TICK_RETRY;
            }
            Err(BatchError::Unknown(reason)) => return Err(ServerError::OutcomeUnknown(reason)),
            Err(BatchError::Gone(reason)) => return Err(ServerError::Gone(reason)),
        }
        Ok(())
    }

    /// Closes connections whose peers have had enough time to read the last answer.
    pub(super) fn close_lingering(&mut self) {
        while let Some((_, key)) = self
            .lingering
            .pop_front_if(|(until, _)| *until <= self.instant)
        {
            self.close(key);
        }
    }

    /// Resets connections that have made no progress for too long. Does nothing while there may be events that the
    /// last poll had no room for: without them a connection may seem stalled that is not.
    pub(super) fn close_stalled(&mut self) {
        if self.instant < self.next_sweep || self.events.iter().count() >= EVENTS_PER_POLL {
            return;
        }
        let (stall_max, now) = (self.limits.stall_max, self.instant);
        self.next_sweep = now + (stall_max / 4).clamp(SWEEP_INTERVAL_MIN, SWEEP_INTERVAL_MAX);
        let stalled: Vec<(Key, Stall)> = self
            .connections
            .iter()
            .filter_map(|(key, connection)| Some((key, connection.stall(stall_max, now)?)))
            .collect();
        for (key, stall) in stalled {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            let peer = connection.peer;
            match stall {
                Stall::PartialMessage => {
                    tracing::warn!(%peer, "reset: the peer sent only a part of a message")
                }
                Stall::UntakenAnswers => {
                    tracing::warn!(%peer, "reset: the peer does not read its answers")
                }
                Stall::Handshake => {
                    tracing::warn!(%peer, "reset: the peer has not finished the TLS handshake")
                }
            }
            self.reset(key);
        }
    }
}
