//! Tries to break the promise that hostile or unlucky peers neither hold others up nor drive the memory
//! beyond what the limits say.
//!
//! In each test a well-behaved worker has to be served all the while, and gets every answer it should.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use test_support::{
    Client, PATIENCE, Reply, Server, Value, diag, frame, reply, unframe, wait_until,
};

const MIB: u64 = 1 << 20;

/// For the tests that open very many connections: this process has only so many files, and so they run one after
/// another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the daemon takes of memory beside what its limits are about: code, caches, buffers of SQLite,
/// and what the allocator keeps.
const SLACK: u64 = 64 * MIB;

/// A worker that adds a unit, gets it and finishes it, over and over, until it is dropped.
struct Worker {
    rounds: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(server: &Server) -> Worker {
        let mut client = server.connect();
        client.set_spec("{'name': 'ws'}");
        let (rounds, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (in_thread, until) = (Arc::clone(&rounds), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let key = format!("u{:06}", in_thread.load(Ordering::Relaxed));
                client.add("ws", &format!("['{key}', {{}}]"));
                let work = client.take_with("w", "{'work_spec_names': ['ws']}");
                assert_eq!(work.expect("a unit").key, Value::bytes(&key));
                client.updated("ws", &key, "{'status': 4}");
                in_thread.fetch_add(1, Ordering::Relaxed);
            }
        });
        Worker {
            rounds,
            stop,
            thread: Some(thread),
        }
    }

    /// Waits until some more rounds have been made. It fails if the worker was not served.
    fn goes_on(&self) {
        let thread = self.thread.as_ref().expect("it runs");
        let until = self.rounds.load(Ordering::Relaxed) + 5;
        wait_until("the worker was served", || {
            assert!(!thread.is_finished(), "the worker failed");
            self.rounds.load(Ordering::Relaxed) >= until
        });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let outcome = self.thread.take().expect("it runs").join();
        assert!(outcome.is_ok() || std::thread::panicking(), "the worker");
    }
}

/// A figure in bytes of the daemon's memory: `VmRSS` now, `VmHWM` at the most.
fn memory(server: &Server, field: &str) -> u64 {
    let path = format!("/proc/{}/status", server.pid());
    let status = std::fs::read_to_string(path).expect("the daemon runs");
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.expect("a figure").parse::<u64>().expect("a figure") * 1024
}

/// Checks the most memory that the daemon ever took: what its limits allow, and some more.
fn memory_stays_below(server: &Server, limits: u64) {
    let most = memory(server, "VmHWM");
    assert!(
        most <= limits + SLACK,
        "{} MiB, of which the limits allow {}",
        most / MIB,
        limits / MIB
    );
}

/// Lets the daemon allocate no more than this, beside what it has: beyond it, it would abort.
fn limit_allocations(server: &Server, bytes: u64) {
    let bytes = memory(server, "VmData") + bytes;
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    let old = std::ptr::null_mut();
    // SAFETY: `limit` is a valid rlimit that the call only reads.
    let set = unsafe { libc::prlimit(server.pid(), libc::RLIMIT_DATA, &raw const limit, old) };
    assert_eq!(set, 0, "prlimit");
}

fn is_logged(server: &Server, words: &str) {
    wait_until(words, || server.log().contains(words));
}

fn socket(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
    stream
}

fn request(method: &str, params: &str) -> Vec<u8> {
    let envelope = format!("{{'id': 1, 'method': '{method}', 'params': [{params}]}}");
    frame(&diag(&envelope))
}

/// The next answer on a connection that is closed behind it: the message of an error.
fn refusal(stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut stream = stream;
    stream
        .read_to_end(&mut bytes)
        .expect("an answer and the end");
    match reply(&unframe(&bytes)) {
        Reply::Error(message) => message,
        Reply::Result(value) => panic!("not an error: {value}"),
    }
}

/// Sets how many files a process may have open: this one, or the daemon.
fn limit_open_files(pid: i32, count: Option<u64>) -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit for the call to fill in.
    let read = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) };
    assert_eq!(read, 0, "prlimit");
    limit.rlim_cur = count.unwrap_or(limit.rlim_max);
    let old = std::ptr::null_mut();
    // SAFETY: `limit` is a valid rlimit that the call only reads.
    let set = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, old) };
    assert_eq!(set, 0, "prlimit");
    limit.rlim_cur
}

#[test]
fn thousands_of_connections_that_are_opened_and_left_hold_nobody_up() {
    let _alone = alone();
    let may_open = limit_open_files(0, None);
    let count = may_open.saturating_sub(200).min(5_000);
    eprintln!("{count} connections, as {may_open} files may be open");
    let server = Server::start();
    let worker = Worker::start(&server);
    worker.goes_on();
    let before = memory(&server, "VmRSS");
    let begun = &request("now", "")[..10];
    let left: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut stream = socket(&server);
            match number % 3 {
                0 => stream.write_all(begun).expect("half a request"),
                1 => stream.write_all(&request("now", "")).expect("a request"),
                _ => {}
            }
            stream
        })
        .collect();
    worker.goes_on();
    // Some KiB each.
    let each = memory(&server, "VmRSS").saturating_sub(before) / count;
    assert!(each < 16 << 10, "{each} bytes for each connection");
    for mut stream in left {
        // Each one is still open, and of use.
        stream.set_nonblocking(true).expect("nonblocking");
        let ended = matches!(stream.read(&mut [0; 1 << 10]), Ok(0));
        assert!(!ended, "a connection was closed");
    }
    worker.goes_on();
    server.connect().call("now", "");
}

#[test]
fn thousands_of_connections_over_http_that_are_idle_or_half_a_request_hold_nobody_up() {
    let _alone = alone();
    let may_open = limit_open_files(0, None);
    let count = may_open.saturating_sub(200).min(5_000);
    let server = Server::start_with(&[
        "--http",
        "127.0.0.1:0",
        "--http-max-connections",
        &count.to_string(),
    ]);
    let worker = Worker::start(&server);
    worker.goes_on();
    let before = memory(&server, "VmRSS");
    let address = server.http().replace("http://", "");
    let request = "POST /rpc/now HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let mut answer = [0; 1 << 10];
    let left: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut stream = TcpStream::connect(&address).expect("a connection");
            match number % 3 {
                0 => stream
                    .write_all(&request.as_bytes()[..20])
                    .expect("half a head"),
                1 => {
                    stream.write_all(request.as_bytes()).expect("a request");
                    let read = stream.read(&mut answer).expect("an answer");
                    assert!(answer[..read].starts_with(b"HTTP/1.1 200 "));
                }
                _ => {}
            }
            stream
        })
        .collect();
    worker.goes_on();
    let each = memory(&server, "VmRSS").saturating_sub(before) / count;
    assert!(each < 32 << 10, "{each} bytes for each connection");
    for mut stream in left {
        stream.set_nonblocking(true).expect("nonblocking");
        let ended = matches!(stream.read(&mut answer), Ok(0));
        assert!(!ended, "a connection was closed");
    }
    worker.goes_on();
}

/// How much processor time the daemon has used, in ticks of the system's clock.
fn processor_ticks(server: &Server) -> u64 {
    let path = format!("/proc/{}/stat", server.pid());
    let stat = std::fs::read_to_string(path).expect("the daemon runs");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn thousands_of_connections_that_wait_for_work_cost_nothing_and_each_unit_wakes_the_first_one() {
    let _alone = alone();
    let may_open = limit_open_files(0, None);
    let count = may_open.saturating_sub(200).min(5_000);
    eprintln!("{count} connections, as {may_open} files may be open");
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.set_spec("{'name': 'busy'}");
    let before = memory(&server, "VmRSS");
    let mut waiting: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut stream = socket(&server);
            let options = "{'wait': 60, 'work_spec_names': ['ws']}";
            let ask = request("get_work", &format!("'w{number}', {options}"));
            stream.write_all(&ask).expect("a request");
            stream
        })
        .collect();
    let calls = Value::Unsigned(count);
    wait_until("all wait", || {
        client.call("server_info", "").at("calls").get("get_work") == Some(&calls)
    });
    let each = memory(&server, "VmRSS").saturating_sub(before) / count;
    assert!(each < 16 << 10, "{each} bytes for each connection");
    let ticks = processor_ticks(&server);
    std::thread::sleep(Duration::from_millis(1_000));
    let used = processor_ticks(&server) - ticks;
    assert!(
        used < 5,
        "{used} hundredths of a second while nothing happened"
    );
    // Work for others wakes none of them.
    for number in 0..100 {
        client.add("busy", &format!("['u{number}', {{}}]"));
    }
    let next = |stream: &mut TcpStream| {
        let mut bytes = [0; 1 << 10];
        let length = stream.read(&mut bytes).expect("an answer");
        unframe(&bytes[..length]).to_string()
    };
    for (number, stream) in waiting.iter_mut().enumerate().take(100) {
        client.add("ws", &format!("['u{number:03}', {{}}]"));
        let answer = next(stream);
        assert!(answer.contains(&format!("u{number:03}")), "{answer}");
    }
    let items: Vec<String> = (100..1_100).map(|n| format!("['u{n:04}', {{}}]")).collect();
    client.add("ws", &items.join(", "));
    for (number, stream) in waiting.iter_mut().enumerate().take(1_100).skip(100) {
        let answer = next(stream);
        assert!(answer.contains(&format!("u{number:04}")), "{answer}");
    }
    assert_eq!(
        client.counts("ws").get(&1),
        None,
        "each unit went to one of them"
    );
}

#[test]
fn slow_senders_are_served_in_the_end_and_hold_nobody_up_meanwhile() {
    let server = Server::start();
    let worker = Worker::start(&server);
    let mut slow: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    let bytes = request("list_work_specs", "{}");
    for byte in &bytes {
        for client in &mut slow {
            client.send(&[*byte]);
        }
        worker.goes_on();
    }
    for client in &mut slow {
        assert!(matches!(reply(&client.next_answer()), Reply::Result(_)));
    }
}

#[test]
fn slow_readers_take_no_more_memory_than_the_limits_say_and_hold_nobody_up() {
    let server = Server::start_with(&["--max-unsent", "1MiB", "--max-unsent-total", "32MiB"]);
    let worker = Worker::start(&server);
    let mut client = server.connect();
    client.set_spec("{'name': 'large'}");
    let large = Value::Map(vec![(Value::bytes("x"), Value::Bytes(vec![7; 1 << 20]))]);
    let unit = Value::Array(vec![Value::bytes("u"), large]);
    client.call_with(
        "add_work_units",
        vec![Value::bytes("large"), Value::Array(vec![unit])],
    );
    // Each asks for 200 MiB.
    let asks = request("get_work_units", "'large', {}").repeat(200);
    let readers: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = socket(&server);
            stream.write_all(&asks).expect("requests");
            stream
        })
        .collect();
    is_logged(&server, "limit of unsent bytes per connection");
    is_logged(&server, "limit of unsent bytes in total");
    for _ in 0..10 {
        worker.goes_on();
    }
    // The sum may be passed by what the readers were being answered at that time: two long reads at
    // once. Buffers double when they grow.
    memory_stays_below(&server, 2 * (32 + 2) * MIB);
    drop(readers);
    worker.goes_on();
}

#[test]
fn who_pipelines_very_many_requests_gets_all_answers_and_holds_nobody_up() {
    const MANY: usize = 1_000_000;
    let server = Server::start();
    let worker = Worker::start(&server);
    let stream = socket(&server);
    let mut sending = stream.try_clone().expect("a handle");
    let sender = std::thread::spawn(move || {
        let some = request("now", "").repeat(1_000);
        for _ in 0..MANY / 1_000 {
            sending.write_all(&some).expect("requests");
        }
        sending.shutdown(Shutdown::Write).expect("an end");
    });
    // It begins to read when the others have been served.
    for _ in 0..5 {
        worker.goes_on();
    }
    let answer = {
        let mut client = server.connect();
        client.send(&request("now", ""));
        client.next_frame().expect("an answer").expect("an answer")
    };
    let mut stream = stream;
    let mut received = 0;
    let mut piece = vec![0; 1 << 16];
    loop {
        match stream.read(&mut piece).expect("answers") {
            0 => break,
            count => {
                // From time to time.
                if (received + count) >> 20 > received >> 20 {
                    worker.goes_on();
                }
                received += count;
            }
        }
    }
    sender.join().expect("the sender");
    assert_eq!(received, MANY * answer.len(), "bytes of the answers");
    memory_stays_below(&server, 64 * MIB);
}

#[test]
fn frames_that_claim_absurd_lengths_are_refused_and_take_no_memory() {
    let server = Server::start();
    let worker = Worker::start(&server);
    for _ in 0..200 {
        let mut stream = socket(&server);
        stream
            .write_all(b"\xd8\x18\x5b\x80\0\0\0\0\0\0\0 and some of it")
            .expect("a beginning");
        stream.shutdown(Shutdown::Write).expect("an end");
        let message = refusal(stream);
        assert!(message.contains("max-message"), "{message}");
    }
    is_logged(&server, "refused a message");
    worker.goes_on();
    memory_stays_below(&server, 0);
}

#[test]
fn resets_within_a_frame_hold_nobody_up_and_leave_nothing() {
    let server = Server::start();
    let worker = Worker::start(&server);
    let large = diag("{'id': 1, 'method': 'now', 'params': [], 'x': null}");
    let mut large = frame(&large);
    // The beginning of 60 MiB.
    large.splice(..3, *b"\xd8\x18\x5a\x03\xc0\0\0");
    large.resize(1 << 20, 0xf6);
    for round in 0..300 {
        let mut stream = socket(&server);
        let length = [1, 5, 40, 1 << 16, 1 << 20][round % 5];
        stream.write_all(&large[..length]).expect("bytes");
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .expect("linger");
    }
    worker.goes_on();
    memory_stays_below(&server, 16 * MIB);
}

#[test]
fn peers_that_close_one_side_or_vanish_hold_nobody_up() {
    let server = Server::start_with(&["--stall-timeout", "1s"]);
    let worker = Worker::start(&server);
    // They say that they are done and take nothing: with half a request, a whole one, and none.
    let now = request("now", "");
    let half_open: Vec<TcpStream> = (0..150)
        .map(|number| {
            let mut stream = socket(&server);
            stream
                .write_all(&now[..[0, 10, now.len()][number % 3]])
                .expect("bytes");
            stream.shutdown(Shutdown::Write).expect("an end");
            stream
        })
        .collect();
    // A peer whose machine is gone looks like one that stands still, in the middle of a request.
    let mut vanished = socket(&server);
    vanished.write_all(&now[..10]).expect("bytes");
    for (number, mut stream) in half_open.into_iter().enumerate() {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("the end");
        assert_eq!(
            !bytes.is_empty(),
            number % 3 == 2,
            "an answer to a whole request"
        );
    }
    let end = vanished.read(&mut [0; 1]).expect_err("a reset");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    is_logged(&server, "the peer sent only a part of a message");
    worker.goes_on();
}

#[test]
fn who_comes_when_no_file_can_be_opened_waits_and_those_who_are_there_are_served() {
    let server = Server::start();
    let worker = Worker::start(&server);
    worker.goes_on();
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .expect("the daemon runs")
        .count() as u64;
    limit_open_files(server.pid(), Some(open + 20));
    let many: Vec<TcpStream> = (0..100).map(|_| socket(&server)).collect();
    is_logged(&server, "cannot accept connections");
    for _ in 0..10 {
        worker.goes_on();
    }
    let mut late = server.connect();
    late.send(&request("now", ""));
    assert!(!late.has_input(), "there is no room for it yet");
    drop(many);
    assert!(matches!(reply(&late.next_answer()), Reply::Result(_)));
}

#[test]
fn half_received_requests_take_no_more_memory_than_the_limit_of_all_says() {
    let server = Server::start_with(&["--max-unread-total", "32MiB"]);
    let worker = Worker::start(&server);
    let mut small = server.connect();
    let whole = request("now", "");
    small.send(&whole[..10]);
    // Each begins with 4 MiB of 60 MiB, so that there is room for eight of these.
    let mut begun = b"\xd8\x18\x5a\x03\xc0\0\0".to_vec();
    begun.resize(4 << 20, 0);
    let mut large: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = socket(&server);
            // In one go, or nobody has read it for very long.
            let count = stream.write(&begun).expect("bytes");
            assert_eq!(count, begun.len(), "bytes that were taken");
            stream.set_nonblocking(true).expect("nonblocking");
            stream
        })
        .collect();
    worker.goes_on();
    let mut answer = vec![0; 1 << 10];
    wait_until("somebody is refused and told why", || {
        large.iter_mut().any(|stream| {
            let count = stream.read(&mut answer).unwrap_or(0);
            String::from_utf8_lossy(&answer[..count]).contains("max-unread-total")
        })
    });
    is_logged(&server, "max-unread-total");
    small.send(&whole[10..]);
    assert!(matches!(reply(&small.next_answer()), Reply::Result(_)));
    memory_stays_below(&server, 2 * 32 * MIB);
}

/// What the threads for long reads may take: while they make an answer of 64 MiB three times as much, and each one
/// may have another that the loop has not taken yet (docs/reliability.md, "Memory").
const READERS: u64 = 2 * 4 * 64 * MIB;

/// Adds a work spec with units of so many bytes.
fn add_units(server: &Server, work_spec: &str, count: usize, bytes: usize) {
    let mut client = server.connect();
    client.set_spec(&format!("{{'name': '{work_spec}'}}"));
    let unit = |number| {
        let data = Value::Map(vec![(Value::bytes("x"), Value::Bytes(vec![7; bytes]))]);
        Value::Array(vec![Value::bytes(format!("{number:06}")), data])
    };
    let units = Value::Array((0..count).map(unit).collect());
    client.call_with("add_work_units", vec![Value::bytes(work_spec), units]);
}

#[test]
fn long_lists_that_nobody_reads_take_no_more_memory_than_the_limits_say() {
    let server = Server::start_with(&["--max-unsent-total", "64MiB"]);
    add_units(&server, "large", 2_000, 30_000);
    let worker = Worker::start(&server);
    limit_allocations(&server, 64 * MIB + READERS + SLACK);
    // Each is to get 60 MB.
    let ask = request("get_work_units", "'large', {'limit': 10000}");
    let lazy: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = socket(&server);
            stream.write_all(&ask).expect("a request");
            stream
        })
        .collect();
    worker.goes_on();
    // A list comes after those before it, which nobody takes.
    let listed = server
        .connect()
        .call("get_work_units", "'large', {'limit': 10000}");
    assert!(listed.to_string().len() > 60_000_000);
    worker.goes_on();
    memory_stays_below(&server, 64 * MIB + READERS);
    drop(lazy);
}

/// A connection on which neither system holds much of what one sends and the other does not read.
fn narrow_socket(server: &Server) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket
        .set_recv_buffer_size(4 << 10)
        .expect("a small buffer");
    let segment: libc::c_int = 536;
    // SAFETY: the option's value is an int, which lives as long as the call.
    let set = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            libc::IPPROTO_TCP,
            libc::TCP_MAXSEG,
            (&raw const segment).cast(),
            size_of_val(&segment) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "short segments");
    let address: std::net::SocketAddr = server.address().to_string().parse().expect("an address");
    socket.connect(&address.into()).expect("connect");
    socket.into()
}

/// How many connections the tests of very many of them open.
fn very_many(server: &Server) -> Vec<TcpStream> {
    let count = limit_open_files(0, None).saturating_sub(500).min(10_000);
    eprintln!("{count} connections");
    (0..count).map(|_| narrow_socket(server)).collect()
}

/// What the limits of `small_limits` allow: the sums, the buffers of the connections and one batch.
const SMALL: u64 = (32 + 32 + 40 + 16) * MIB;

fn small_limits() -> Server {
    let limits = ["--max-unsent-total", "32MiB", "--max-unread-total", "32MiB"];
    let server = Server::start_with(&[&limits[..], &["--max-connections", "20000"]].concat());
    limit_allocations(&server, SMALL + SLACK);
    server
}

#[test]
fn ten_thousand_peers_that_ask_and_do_not_read_take_no_more_memory_than_the_limits_say() {
    let _alone = alone();
    let server = small_limits();
    add_units(&server, "large", 1, 150_000);
    let worker = Worker::start(&server);
    // 1.5 GB in all, of which their systems hold a part.
    let ask = request("get_work_units", "'large', {'work_unit_keys': ['000000']}");
    let mut lazy = very_many(&server);
    for stream in &mut lazy {
        stream.write_all(&ask).expect("a request");
    }
    worker.goes_on();
    is_logged(
        &server,
        "the peer does not read its answers, and others need the memory",
    );
    let unit = server.connect().call("get_work_units", "'large', {}");
    assert!(unit.to_string().len() > 150_000);
    worker.goes_on();
    memory_stays_below(&server, SMALL);
}

#[test]
fn ten_thousand_peers_that_send_half_a_message_take_no_more_memory_than_the_limits_say() {
    let _alone = alone();
    let server = small_limits();
    let worker = Worker::start(&server);
    // The beginning of 64 KiB: 160 MB in all.
    let mut begun = b"\xd8\x18\x5a\x00\x01\0\0".to_vec();
    begun.resize(16 << 10, 0);
    let mut halves = very_many(&server);
    for stream in &mut halves {
        stream.write_all(&begun).expect("half a message");
    }
    worker.goes_on();
    is_logged(&server, "max-unread-total");
    worker.goes_on();
    memory_stays_below(&server, SMALL);
}
