//! Every limit of the loop, each with its unit and its reason.

use coordinated_client::cborrpc::framing::FrameLimits;
use std::time::Duration;

/// What a peer, or all of them together, may take from the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The size and nesting of one message. 64 MiB is some ten times the largest request that
    /// Coordinate programs send (20,000 work units of a few hundred bytes); 100 levels are beyond
    /// any hand-written data and far from the end of a stack.
    pub frame: FrameLimits,
    /// Open connections, 10,000: hundreds of machines with dozens of workers each. One that is idle
    /// costs a few KiB. Whoever comes beyond it is reset at once, which a client retries.
    pub connections_max: usize,
    /// Unsent bytes of one connection, 64 MiB, as much as the largest message. A client that sends
    /// on and on without reading is not read from until it has taken some of its answers.
    pub unsent_bytes_max: usize,
    /// Memory for the answers of all connections, unsent ones and those in the making, 512 MiB: slow readers
    /// together must not drive the machine into swap. Beyond half of it, no connection is read from that has
    /// answers to take, and long reads wait; beyond all of it at the end of a turn, those whose peers have taken
    /// nothing for longest are reset.
    pub unsent_total_bytes_max: usize,
    /// Memory for what was received from all connections and is no handled message yet, 512 MiB: most of it
    /// belongs to messages of which the rest is still to come. Beyond it nobody is read from in the present turn,
    /// and if it holds at the end of the turn, who has most is refused, until it does not: so short
    /// requests always come through, however many peers begin long ones and go away.
    pub unread_total_bytes_max: usize,
    /// How long half a message, or an answer that nobody takes, may stand without a single byte of
    /// progress: 60 s outlast every pause of a living network. A connection without either may be
    /// idle for ever.
    pub stall_max: Duration,
    /// How long messages wait while another program keeps the service from writing, 5 s since the first of those that
    /// wait: as long as SQLite's own programs usually do.
    pub write_wait_max: Duration,
    /// How long the loop looks for the next event before it sleeps, while they follow each other closely,
    /// 100 µs: longer than a client that asks one thing after the other takes to ask again. Zero: it always
    /// sleeps at once, which takes less of a processor and lets such clients wait longer.
    pub busy_poll_max: Duration,
    /// Threads for long reads, 2: they keep one processor each busy, and the loop needs one too.
    pub job_threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: FrameLimits {
                message_bytes_max: 64 << 20,
                depth_max: 100,
            },
            connections_max: 10_000,
            unsent_bytes_max: 64 << 20,
            unsent_total_bytes_max: 512 << 20,
            unread_total_bytes_max: 512 << 20,
            stall_max: Duration::from_secs(60),
            write_wait_max: Duration::from_secs(5),
            busy_poll_max: Duration::from_micros(100),
            job_threads: 2,
        }
    }
}

/// Messages of one connection in one turn. Enough that a pipelining client shares each sync among
/// many messages, few enough that the others wait for milliseconds.
pub(super) const MESSAGES_PER_TURN: u32 = 64;

/// Tasks from other threads in one turn: they share the turn with the messages of all connections.
pub(super) const TASKS_PER_TURN: u32 = 256;

/// Bytes read from one connection in one turn, and the size of the buffer that all of them are read
/// through. A large request takes some dozen turns, between which others are answered.
pub(super) const READ_BYTES_PER_TURN: usize = 512 << 10;

/// Connections that may wait to be accepted, as far as the system allows that many.
pub(super) const BACKLOG: i32 = 4096;

/// Connections accepted from one listener in one turn.
pub(super) const ACCEPTS_PER_TURN: usize = 256;

/// Events taken from one poll. Beyond it the rest comes with the next poll.
pub(super) const EVENTS_PER_POLL: usize = 1024;

/// Capacity that an empty buffer keeps, so that small requests don't allocate anew each time. A
/// connection has two buffers.
pub(super) const IDLE_BUFFER_BYTES: usize = 2 << 10;

/// How long a connection is read from, for nothing, after its last answer was sent and the write
/// side was shut: closing at once with unread bytes is a reset, which takes the answer with it.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(2);

/// How long to accept nothing after the system had no room for another connection.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The longest time between two looks for stalled connections.
pub(super) const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// The shortest, so that a tiny `stall_max` does not keep the loop spinning.
pub(super) const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The longest sleep, however far away the next deadline is.
pub(super) const SLEEP_MAX: Duration = Duration::from_secs(60);

/// When to try a tick again that failed without harm.
pub(super) const TICK_RETRY: Duration = Duration::from_secs(1);

/// How long a peer may take nothing of its answers while others wait for the room that these take. A network that
/// works, and a program that reads, move something several times in it.
pub(super) const ROOM_PATIENCE: Duration = Duration::from_secs(2);

/// How often to look whether messages that wait may go on: nothing gives an event when another program ends its
/// transaction.
pub(super) const WRITE_LOOK: Duration = Duration::from_millis(10);

/// How long messages may wait to write once the loop is stopping. Shorter than [`STOP_MAX`], so that their errors are
/// still sent.
pub(super) const WRITE_WAIT_AT_STOP: Duration = Duration::from_secs(2);

/// How often at most the same kind of trouble is logged.
pub(super) const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// How long a clean stop may take to answer what was received.
pub(super) const STOP_MAX: Duration = Duration::from_secs(5);

/// How long a clean stop then waits for the peers' systems to confirm that they have the answers.
pub(super) const DELIVERY_MAX: Duration = Duration::from_secs(2);

/// How long the loop tries to get its answers out after a commit whose outcome is unknown. Short:
/// the sooner the process ends, the sooner it is started anew.
pub(super) const FAILED_STOP_MAX: Duration = Duration::from_secs(1);

/// How often to look whether sent bytes have arrived, which nothing gives an event for.
pub(super) const DELIVERY_LOOK: Duration = Duration::from_millis(5);

/// Open files beside the connections: the database and its readers, listeners, logs.
const OTHER_FILES: u64 = 100;

/// Raises the soft limit of open files to the hard one, and warns if that is too low for `limits`.
///
/// The soft limit is 1,024 on most systems, for the sake of old programs that use `select`, and each connection is an
/// open file.
pub(super) fn make_room_for(limits: &Limits) {
    let wanted = u64::try_from(limits.connections_max)
        .unwrap_or(u64::MAX)
        .saturating_add(OTHER_FILES);
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) if files < wanted => tracing::warn!(
            "at most {files} files can be open, too few for {} connections: raise the hard limit \
             (ulimit -Hn, LimitNOFILE=)",
            limits.connections_max
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!("cannot raise the limit of open files: {error}"),
    }
}
