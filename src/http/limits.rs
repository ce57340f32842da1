//! Every limit of HTTP, each with its unit and its reason.

use std::time::Duration;

/// What HTTP clients may use of the daemon.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections, 1,000: browsers, scripts and proxies, which have few each. Connections beyond the limit are
    /// closed at once.
    pub connections_max: usize,
    /// Requests that are being handled, 1,000, those that wait for work among them. Each takes a little memory beside its
    /// body and answer. Further ones get the status 503.
    pub requests_max: usize,
    /// How long a connection may take to send the head of its next request, 60 s, and so how long it may be idle: HTTP
    /// clients open a new connection when they need one.
    pub head_time_max: Duration,
    /// How long a request's body may take in all, 60 s.
    pub body_time_max: Duration,
    /// How long a client may read nothing of its answer, 60 s.
    pub stall_max: Duration,
    /// The size of a request's body, 64 MiB, as of a CBOR-RPC message.
    pub body_bytes_max: usize,
    /// How deeply data may be nested, 100 levels, as in a CBOR-RPC message.
    pub depth_max: usize,
    /// Memory for the bodies of all requests, 512 MiB. A request beyond it gets the status 503.
    pub bodies_bytes_max: usize,
    /// Memory for the answers of all requests, 512 MiB. A request beyond it gets the status 503 in place of its answer.
    pub answers_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1_000,
            requests_max: 1_000,
            head_time_max: Duration::from_secs(60),
            body_time_max: Duration::from_secs(60),
            stall_max: Duration::from_secs(60),
            body_bytes_max: 64 << 20,
            depth_max: 100,
            bodies_bytes_max: 512 << 20,
            answers_bytes_max: 512 << 20,
        }
    }
}

/// The size of a request's head, 64 KiB, and of the pieces in which bodies are read: browsers send heads of a few KiB.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

/// Uploads of units (`POST /units/SPEC`) that are received at a time, 16: each can keep the disk busy.
pub(super) const UPLOADS_MAX: usize = 16;

/// The size of a line of an upload, 4 MiB, as of a list of units that is added in one step. Larger data can be added by
/// `add_work_units`.
pub(super) const UPLOAD_LINE_BYTES_MAX: usize = 4 << 20;

/// How many bytes of an upload are added in one step at least, if there are fewer units than a step may have.
pub(super) const UPLOAD_BATCH_BYTES: usize = 1 << 20;

/// What an upload takes of the memory for bodies, 16 MiB: its line, what is decompressed of the next ones, and its batch in
/// CBOR, in which numbers are up to 2.25 times as long.
pub(super) const UPLOAD_MEMORY: usize = 16 << 20;

/// How many times as large an upload may become by decompression, 200: lines that are much alike are compressed to a
/// fiftieth, bombs to a thousandth.
pub(super) const UPLOAD_RATIO_MAX: u64 = 200;

/// Threads for long reads. Each can keep a processor busy, and the loop needs one too.
pub(super) const READER_THREADS: usize = 2;

/// How long a stop waits for the last answers.
pub(super) const STOP_MAX: Duration = Duration::from_secs(2);

/// How long a health check waits for the loop.
pub(super) const HEALTH_TIME_MAX: Duration = Duration::from_secs(10);

/// The unit in which memory is counted: semaphores count to less than the bytes of a large memory.
pub(super) const MEMORY_UNIT: usize = 1 << 10;

/// How many units of memory some bytes take.
pub(super) fn memory_units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX)
}
