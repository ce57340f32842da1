//! The loop: many connections, each with a role that says what comes next.

use super::connection::{Calls, Connection, Waiting};
use super::failure::Failure;
use super::run::Run;
use super::wire::Answer;
use mio::event::Event;
use mio::{Events, Poll, Token};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// The longest sleep: so soon is Ctrl-C noticed, and is the progress shown anew.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// When to wake a role though no answer comes; `None` if only answers matter.
pub(super) type Wake = Option<Instant>;

/// What a connection does. It is done when it waits for nothing: no answer, no time.
pub(super) trait Role {
    /// Begins, or goes on after the time that it asked to be woken at.
    fn wake(&mut self, calls: &mut Calls, run: &mut Run) -> Result<Wake, Failure>;

    /// Takes an answer.
    fn answered(
        &mut self,
        waiting: &Waiting,
        answer: &Answer<'_>,
        calls: &mut Calls,
        run: &mut Run,
    ) -> Result<Wake, Failure>;
}

/// A connection and its role.
pub(super) struct Client {
    pub(super) connection: Connection,
    pub(super) role: Box<dyn Role>,
}

type Timers = BinaryHeap<Reverse<(Instant, usize)>>;

/// Lets all clients play their roles until they are done. Can't be called again with the same ones.
///
/// # Errors
/// Whatever ends the benchmark.
pub(super) fn drive(clients: &mut [Client], run: &mut Run) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut timers = Timers::new();
    let mut busy = 0;
    for (index, client) in clients.iter_mut().enumerate() {
        client.connection.register(poll.registry(), Token(index))?;
        wake(client, index, &mut timers, run)?;
        busy += client.busy();
    }
    loop {
        let now = Instant::now();
        run.look(now);
        if run.stopping {
            timers.clear();
        }
        while let Some(Reverse((when, index))) = timers.peek().copied()
            && when <= now
        {
            timers.pop();
            if let Some(client) = clients.get_mut(index) {
                busy -= client.busy();
                wake(client, index, &mut timers, run)?;
                busy += client.busy();
            }
        }
        if busy == 0 && timers.is_empty() {
            return Ok(());
        }
        let next = timers.peek().map(|Reverse((when, _))| *when);
        let sleep = next.into_iter().chain(run.deadline).min();
        let sleep = sleep.map_or(SLEEP_MAX, |when| when.saturating_duration_since(now));
        match poll.poll(&mut events, Some(sleep.min(SLEEP_MAX))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if let Some(client) = clients.get_mut(event.token().0) {
                busy -= client.busy();
                receive(client, event, &mut timers, run)?;
                busy += client.busy();
            }
        }
    }
}

impl Client {
    /// One if it waits for answers, or else zero.
    fn busy(&self) -> usize {
        usize::from(self.connection.calls.in_flight() > 0)
    }
}

fn wake(
    client: &mut Client,
    index: usize,
    timers: &mut Timers,
    run: &mut Run,
) -> Result<(), Failure> {
    let when = client.role.wake(&mut client.connection.calls, run)?;
    timers.extend(when.map(|when| Reverse((when, index))));
    client.connection.flush()
}

fn receive(
    client: &mut Client,
    event: &Event,
    timers: &mut Timers,
    run: &mut Run,
) -> Result<(), Failure> {
    let index = event.token().0;
    let role = &mut client.role;
    client.connection.receive(event, |waiting, answer, calls| {
        run.latencies.record(waiting.call, waiting.since.elapsed());
        let when = role.answered(waiting, answer, calls, run)?;
        timers.extend(when.map(|when| Reverse((when, index))));
        Ok(())
    })?;
    client.connection.flush()
}
