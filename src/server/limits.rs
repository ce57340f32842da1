//! Every limit of the loop, each with its unit and its reason.

use coordinated_client::cborrpc::framing::FrameLimits;
use std::time::Duration;

/// What one peer, or all of them together, may use of the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The size and nesting of one message. 64 MiB is about ten times the largest request that Coordinate programs
    /// send (20,000 work units of a few hundred bytes). 100 levels are more than any hand-written data have, and far
    /// from overflowing a stack.
    pub frame: FrameLimits,
    /// Open connections, 10,000: hundreds of machines with dozens of workers each. An idle one costs a few KiB.
    /// Connections beyond the limit are reset at once, and clients retry.
    pub connections_max: usize,
    /// Unsent bytes of one connection, 64 MiB, as much as the largest message. The loop stops reading from a client
    /// that sends requests without reading the answers, until it has read some.
    pub unsent_bytes_max: usize,
    /// Memory for the answers of all connections, unsent ones and incomplete ones, 512 MiB: slow readers together must
    /// not drive the machine into swap. Beyond half of it, the loop does not read from connections that have answers
    /// to take, and long reads wait. Beyond all of it at the end of a turn, the connections whose peers have read
    /// nothing for longest are reset.
    pub unsent_total_bytes_max: usize,
    /// Memory for what all connections have sent and the service has not handled yet, 512 MiB: mostly incomplete
    /// messages. Beyond it, the loop reads nothing more in the present turn. If the memory is still too much at the
    /// end of the turn, the connections with the most unread bytes are refused. So short requests always get through,
    /// however many peers begin long ones and go away.
    pub unread_total_bytes_max: usize,
    /// How long an incomplete message or an unread answer may make no progress at all: 60 s are longer than any pause
    /// of a working network. A connection without either may be idle without a limit.
    pub stall_max: Duration,
    /// How long messages wait while another program keeps the service from writing, 5 s from the first one that waits:
    /// as long as SQLite's own programs usually wait.
    pub write_wait_max: Duration,
    /// How long the loop polls for the next event before it sleeps, while events follow each other closely, 100 µs:
    /// longer than a client needs from an answer to its next request. With zero it always sleeps at once, which takes
    /// less processor time and makes such clients wait longer.
    pub busy_poll_max: Duration,
    /// Threads for long reads, 2: each can keep a processor busy, and the loop needs one too.
    pub reader_threads: usize,
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
            reader_threads: 2,
        }
    }
}

/// Messages of one connection in one turn. Enough that many messages of a pipelining client share a sync, few enough
/// that the others wait only for milliseconds.
pub(super) const MESSAGES_PER_TURN: u32 = 64;

/// Connections that go on with their TLS handshake in one turn. Signing takes some 30 µs with an ECDSA key and a
/// millisecond with an RSA key, and all others wait meanwhile.
pub(super) const HANDSHAKES_PER_TURN: u32 = 8;

/// Tasks from other threads in one turn: they share the turn with the messages of all connections.
pub(super) const TASKS_PER_TURN: u32 = 256;

/// Bytes read from one connection in one turn, and the size of the buffer for reading, which all connections share. A
/// large request takes some dozen turns, between which others are answered.
pub(super) const READ_BYTES_PER_TURN: usize = 512 << 10;

/// Connections that may wait to be accepted, if the system allows that many.
pub(super) const BACKLOG: i32 = 4096;

/// Connections accepted from one listener in one turn.
pub(super) const ACCEPTS_PER_TURN: usize = 256;

/// Events taken from one poll. The rest comes with the next one.
pub(super) const EVENTS_PER_POLL: usize = 1024;

/// Capacity that an empty buffer keeps, so that small requests need no allocation. A connection has two buffers.
pub(super) const IDLE_BUFFER_BYTES: usize = 2 << 10;

/// How long the loop still reads from a connection, and drops what comes, after it has sent the last answer and shut
/// down its side: closing at once with unread bytes is a reset, which discards the answer.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(2);

/// How long to accept nothing after the system had no resources for another connection.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The longest time between two checks for stalled connections.
pub(super) const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(5);

/// The shortest, so that a tiny `stall_max` does not keep the loop spinning.
pub(super) const SWEEP_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// The longest sleep, however far away the next deadline is.
pub(super) const SLEEP_MAX: Duration = Duration::from_secs(60);

/// When to try a tick again after it was rolled back.
pub(super) const TICK_RETRY: Duration = Duration::from_secs(1);

/// How long a peer may read nothing of its answers while others wait for the memory. On a working network, a program
/// that reads makes progress several times in this time.
pub(super) const ROOM_WAIT: Duration = Duration::from_secs(2);

/// How often to check whether the service can write again: there is no event when another program ends its
/// transaction.
pub(super) const WRITE_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// How long messages may wait to write once the loop is stopping. Shorter than [`STOP_MAX`], so that their errors are
/// still sent.
pub(super) const WRITE_WAIT_AT_STOP: Duration = Duration::from_secs(2);

/// The shortest time between two log messages about the same kind of problem.
pub(super) const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// How long a clean stop may take to answer what was received.
pub(super) const STOP_MAX: Duration = Duration::from_secs(5);

/// How long a clean stop then waits until the peers' systems have confirmed the answers.
pub(super) const DELIVERY_MAX: Duration = Duration::from_secs(2);

/// How long the loop tries to send its answers after a commit whose outcome is unknown. Short, since the process can
/// only be restarted once it has ended.
pub(super) const FAILED_STOP_MAX: Duration = Duration::from_secs(1);

/// How often to check whether sent bytes have arrived, for which there is no event.
pub(super) const DELIVERY_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// Open files other than connections: the database and its readers, listeners, logs.
const OTHER_FILES: u64 = 100;

/// Raises the soft limit of open files to the hard limit, and warns if that is too low for `limits`.
///
/// On most systems the soft limit is 1,024, for old programs that use `select`, and each connection is an open file.
pub(super) fn ensure_open_files(limits: &Limits) {
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
