//! The loop as its peers see it: real sockets, and a service that does what a message says.

mod backpressure;
mod clock_steps;
mod endings;
mod inbox;
mod messages;
mod sleeping;
mod waiting;

use super::{
    Admission, BatchError, Handled, Inbox, Limits, Server, ServerError, Service, Stopper, Ticket,
};
use crate::clock::{Clock, ClockStep, SystemClock, Timestamp};
use coordinated_client::Address;
use coordinated_client::cborrpc::framing::FrameError;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a test waits for what must come. Only a broken loop makes it wait that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the service tells the test, in the order of its doing.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// A session was opened.
    Opened,
    /// This message was handled.
    Handled(String),
    /// A batch of so many messages was to be committed.
    Committed(usize),
    /// What was due was done.
    Ticked,
    /// Times were to be moved.
    Moved(ClockStep),
}

/// Does what a message says, by its first word:
///
/// - `big N`: answers N bytes.
/// - `later ...`: answers from a job, once the test lets it go on.
/// - `hold ...`: holds the whole loop up until the test lets it go on.
/// - `panic`: panics in a job.
/// - `list N`: answers N bytes from a job.
/// - `steps N`: is to be handled again, N times.
/// - `hoard N`: is to be handled again until the test lets it go on, and holds N bytes meanwhile.
/// - `fail`, `break`: lets its batch be rolled back, or end in an unknown outcome.
/// - `doom`: lets the next tick end in an unknown outcome.
/// - `when`: answers the time, in seconds.
/// - `write ...`: waits while the service can't write, and is answered by `locked` if it has waited for too long.
/// - `sleep ...`: sleeps until it is woken, and is answered by `over` if its sleep was ended. `sleep N` wakes up by itself
///   after N milliseconds.
/// - `wake N`: wakes the first N messages that sleep.
/// - `nonsense`: is refused.
/// - `close`: closes the connection.
/// - all else is echoed, with the number that the message has on its connection.
struct Puppet {
    told: Sender<Told>,
    /// What `later` and `hold` wait for: one message lets one of them go on.
    gate: Arc<Mutex<Receiver<()>>>,
    /// How often the message is to be handled again that is handled in steps.
    steps_left: Option<usize>,
    /// True while the service can't write.
    is_locked: Arc<AtomicBool>,
    /// Messages that sleep, and those that are to be woken.
    asleep: VecDeque<Ticket>,
    awake: VecDeque<Ticket>,
    /// When the one that sleeps for a time wakes up.
    wake_at: Option<(Timestamp, Ticket)>,
    in_batch: usize,
    batch_max: usize,
    failure: Option<BatchError>,
    tick_pause: Duration,
    tick_failure: Option<BatchError>,
    /// Since when something is due: until a tick has succeeded.
    due: Option<Timestamp>,
    move_failure: Option<BatchError>,
}

impl Puppet {
    /// With what it tells to, and the gate that `later` and `hold` wait for.
    fn new(told: Sender<Told>, gate: Receiver<()>) -> Self {
        Self {
            told,
            gate: Arc::new(Mutex::new(gate)),
            steps_left: None,
            is_locked: Arc::default(),
            asleep: VecDeque::new(),
            awake: VecDeque::new(),
            wake_at: None,
            in_batch: 0,
            batch_max: usize::MAX,
            failure: None,
            tick_pause: Duration::from_secs(3600),
            tick_failure: None,
            due: None,
            move_failure: None,
        }
    }
}

/// What is remembered for a connection.
#[derive(Default)]
struct Visitor {
    messages: usize,
    has_waited: bool,
    ticket: Option<Ticket>,
    sleep_is_over: bool,
}

impl Service for Puppet {
    type Session = Visitor;
    type Answer = String;

    fn open_session(&mut self, _: Option<IpAddr>) -> Visitor {
        let _ = self.told.send(Told::Opened);
        Visitor::default()
    }

    fn can_write(&mut self) -> bool {
        !self.is_locked.load(Ordering::SeqCst)
    }

    fn end_waiting(&mut self, session: &mut Visitor) {
        session.has_waited = true;
    }

    fn next_awake(&mut self, now: Timestamp) -> Option<Ticket> {
        if let Some((at, ticket)) = self.wake_at
            && at <= now
        {
            self.wake_at = None;
            return Some(ticket);
        }
        self.awake.pop_front()
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.wake_at.map(|(at, _)| at)
    }

    fn end_sleep(&mut self, session: &mut Visitor) {
        session.sleep_is_over = true;
    }

    fn close_session(&mut self, session: &mut Visitor) {
        self.asleep.retain(|ticket| Some(*ticket) != session.ticket);
    }

    fn handle(&mut self, session: &mut Visitor, message: &[u8], now: Timestamp) -> Handled<String> {
        let text = text_of(message);
        let _ = self.told.send(Told::Handled(text.clone()));
        self.in_batch += 1;
        session.messages += 1;
        let has_waited = std::mem::take(&mut session.has_waited);
        match text.split(' ').next() {
            Some("big") => Handled::Answer("x".repeat(text[4..].parse().unwrap())),
            Some("later") => {
                let gate = Arc::clone(&self.gate);
                Handled::Later(Box::new(move || {
                    let _ = gate.lock().unwrap().recv();
                    packed(&text)
                }))
            }
            Some("list") => {
                let count = text[5..].parse().unwrap();
                Handled::Later(Box::new(move || packed(&"x".repeat(count))))
            }
            Some("hoard") => match self.gate.lock().unwrap().try_recv() {
                Ok(()) => Handled::Answer(text),
                Err(_) => Handled::Again {
                    held: text[6..].parse().unwrap(),
                },
            },
            Some("steps") => match self.steps_left.unwrap_or(text[6..].parse().unwrap()) {
                0 => {
                    self.steps_left = None;
                    Handled::Answer(text)
                }
                left => {
                    self.steps_left = Some(left - 1);
                    Handled::Again { held: 0 }
                }
            },
            Some("write") if self.is_locked.load(Ordering::SeqCst) => {
                if has_waited {
                    Handled::Answer("locked".to_owned())
                } else {
                    Handled::Wait { held: 0 }
                }
            }
            Some("sleep") if std::mem::take(&mut session.sleep_is_over) => {
                self.close_session(session);
                session.ticket = None;
                Handled::Answer("over".to_owned())
            }
            Some("sleep") if session.ticket.is_none() => {
                // No two of the tests' messages are sent at the same time.
                let ticket = Ticket(u64::try_from(now.0).unwrap());
                session.ticket = Some(ticket);
                match text[5..].trim().parse() {
                    Ok(millis) => {
                        let at = now.plus(Duration::from_millis(millis));
                        self.wake_at = Some((at, ticket));
                    }
                    Err(_) => self.asleep.push_back(ticket),
                }
                Handled::Sleep { ticket, held: 0 }
            }
            Some("wake") => {
                let count: usize = text[5..].parse().unwrap();
                let count = count.min(self.asleep.len());
                self.awake.extend(self.asleep.drain(..count));
                Handled::Answer(format!("{} {text}", session.messages))
            }
            Some("hold") => {
                let _ = self.gate.lock().unwrap().recv();
                Handled::Answer(text)
            }
            Some("panic") => Handled::Later(Box::new(|| panic!("as it was told to"))),
            Some("when") => Handled::Answer(now.as_seconds().to_string()),
            Some("nonsense") => Handled::Refuse(FrameError::NotARequest { found: "nonsense" }),
            Some("close") => Handled::Close,
            Some("fail") => {
                self.failure = Some(BatchError::RolledBack("full".to_owned()));
                Handled::Answer(text)
            }
            Some("break") => {
                self.failure = Some(BatchError::Unknown("broken".to_owned()));
                Handled::Answer(text)
            }
            Some("doom") => {
                self.tick_failure = Some(BatchError::Unknown("doomed".to_owned()));
                Handled::Answer(text)
            }
            _ => Handled::Answer(format!("{} {text}", session.messages)),
        }
    }

    fn batch_is_full(&self) -> bool {
        self.in_batch >= self.batch_max
    }

    fn commit(&mut self) -> Result<(), BatchError> {
        let _ = self.told.send(Told::Committed(self.in_batch));
        self.in_batch = 0;
        self.failure.take().map_or(Ok(()), Err)
    }

    fn write_answer(&self, answer: String, outcome: &Result<(), BatchError>, out: &mut Vec<u8>) {
        match outcome {
            Ok(()) => out.extend(packed(&answer)),
            Err(error) => out.extend(packed(&format!("{answer}: {error}"))),
        }
    }

    fn write_refusal(&self, error: &FrameError, out: &mut Vec<u8>) {
        out.extend(packed(&format!("refused: {error}")));
    }

    fn tick(&mut self, _: Timestamp) -> Result<Duration, BatchError> {
        let _ = self.told.send(Told::Ticked);
        if let Some(failure) = self.tick_failure.take() {
            return Err(failure);
        }
        self.due = None;
        Ok(self.tick_pause)
    }

    fn due(&self) -> Option<Timestamp> {
        self.due
    }

    fn move_times(&mut self, step: ClockStep, _: Timestamp) -> Result<(), BatchError> {
        let _ = self.told.send(Told::Moved(step));
        self.move_failure.take().map_or(Ok(()), Err)
    }
}

/// A clock that is set when the test says so, by so many microseconds.
struct HandClock {
    system: SystemClock,
    set_by: Arc<AtomicI64>,
    moved_by: ClockStep,
}

impl Clock for HandClock {
    fn now(&mut self) -> Timestamp {
        self.system.now().moved(self.moved_by)
    }

    fn due_step(&self) -> Option<ClockStep> {
        let step = ClockStep(self.set_by.load(Ordering::Acquire) - self.moved_by.0);
        (step.0 != 0).then_some(step)
    }

    fn set(&mut self, step: ClockStep) {
        self.moved_by = ClockStep(self.moved_by.0 + step.0);
    }
}

/// A message that says `text`: tag 24 around a map that has it as its only value.
fn message(text: &str) -> Vec<u8> {
    let value = [&[0xa1, 0x00, 0x5a], &length_of(text)[..], text.as_bytes()].concat();
    let length = u32::try_from(value.len()).unwrap().to_be_bytes();
    [&[0xd8, 0x18, 0x5a], &length[..], &value].concat()
}

/// What a message says, without its frame.
fn text_of(message: &[u8]) -> String {
    String::from_utf8(message[7..].to_vec()).unwrap()
}

/// An answer: the length, and the text.
fn packed(text: &str) -> Vec<u8> {
    [&length_of(text)[..], text.as_bytes()].concat()
}

fn length_of(text: &str) -> [u8; 4] {
    u32::try_from(text.len()).unwrap().to_be_bytes()
}

/// Tasks that may wait.
const TASKS_MAX: usize = 16;

/// A server that runs in a thread of its own and is stopped with the test.
struct Running {
    address: Address,
    stopper: Stopper,
    inbox: Inbox<Puppet>,
    told: Receiver<Told>,
    gate: Sender<()>,
    clock_set_by: Arc<AtomicI64>,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
}

fn start(limits: Limits) -> Running {
    start_with(limits, |_| {})
}

fn start_with(limits: Limits, change: impl FnOnce(&mut Puppet) + Send + 'static) -> Running {
    let listen = "127.0.0.1:0".parse().unwrap();
    run(
        Server::bind(&[listen], Admission::default(), limits, None).unwrap(),
        change,
    )
}

fn run(server: Server, change: impl FnOnce(&mut Puppet) + Send + 'static) -> Running {
    let address = server.local_addresses()[0].clone();
    let stopper = server.stopper();
    let (told_sender, told) = channel();
    let (gate, gate_receiver) = channel();
    let (inbox, tasks) = server.inbox(TASKS_MAX);
    let clock_set_by = Arc::new(AtomicI64::new(0));
    let mut clock = HandClock {
        system: SystemClock::start(),
        set_by: Arc::clone(&clock_set_by),
        moved_by: ClockStep(0),
    };
    let thread = thread::spawn(move || {
        let mut puppet = Puppet::new(told_sender, gate_receiver);
        change(&mut puppet);
        server.run_with(&mut puppet, &mut clock, tasks)
    });
    Running {
        address,
        stopper,
        inbox,
        told,
        gate,
        clock_set_by,
        thread: Some(thread),
    }
}

impl Running {
    fn connect(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.address.to_string()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    /// A peer whose system holds few bytes for it, so that an answer soon waits with the server.
    fn connect_with_small_buffer(&self) -> Client<TcpStream> {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(32 << 10).unwrap();
        let address: std::net::SocketAddr = self.address.to_string().parse().unwrap();
        socket.connect(&address.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    /// Asks for a stop, and waits until the server has begun with it.
    fn begin_to_stop(&self) {
        self.stopper.stop().unwrap();
        let address = self.address.to_string();
        while TcpStream::connect(&address).is_ok() {
            thread::yield_now();
        }
    }

    /// Waits until the service has been given this message.
    fn wait_for(&self, text: &str) {
        while self.next_told() != Told::Handled(text.to_owned()) {}
    }

    /// What the service told next, other than of ticks.
    fn next_told(&self) -> Told {
        loop {
            let told = self.told.recv_timeout(PATIENCE).unwrap();
            if told != Told::Ticked {
                return told;
            }
        }
    }

    /// The next message that the service is given.
    fn next_handled(&self) -> String {
        loop {
            if let Told::Handled(text) = self.next_told() {
                return text;
            }
        }
    }

    /// Everything that the service has told by now.
    fn handled_by_now(&self) -> Vec<String> {
        let handled = |told| {
            if let Told::Handled(text) = told {
                Some(text)
            } else {
                None
            }
        };
        self.told.try_iter().filter_map(handled).collect()
    }

    fn stop(mut self) -> Result<(), ServerError> {
        self.stopper.stop().unwrap();
        self.ended()
    }

    /// Waits for the end of the loop.
    fn ended(&mut self) -> Result<(), ServerError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stopper.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A peer of the server.
struct Client<T>(T);

impl<T: Read + Write> Client<T> {
    fn send(&mut self, text: &str) {
        self.send_bytes(&message(text));
    }

    fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn receive(&mut self) -> String {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.receive()
    }

    /// What ends the connection, with nothing before it: `Ok` for an end of file.
    fn end(&mut self) -> Result<(), io::ErrorKind> {
        match self.0.read(&mut [0; 1]) {
            Ok(read) => {
                assert_eq!(read, 0, "bytes came instead of the end");
                Ok(())
            }
            Err(error) => Err(error.kind()),
        }
    }
}

fn unix_client(path: &Path) -> Client<std::os::unix::net::UnixStream> {
    let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client(stream)
}

/// Closes a client's connection by a reset.
fn reset(client: Client<TcpStream>) {
    socket2::SockRef::from(&client.0)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}
