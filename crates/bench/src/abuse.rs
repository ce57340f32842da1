//! `bench abuse`: one worker beside peers that take what they can get, and break off.
//!
//! What becomes of these peers is the server's business, so nothing they meet is a failure here. What is
//! measured, and checked, is the worker.

use super::control::count_request;
use super::drive::drive;
use super::failure::Failure;
use super::mixed::write_page_params;
use super::run::Counting;
use super::session::Session;
use super::wire::{Call, ID_FIRST, PAGE_UNITS, Request};
use super::work::{Finish, Style, WhenEmpty, parse_seconds};
use super::{Outcome, add, parse_count, parse_number};
use clap::ValueEnum;
use coordinated_client::Address;
use serde_json::{Map, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Options of `bench abuse`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Which peers to play
    #[arg(
        long,
        value_name = "PEER",
        value_delimiter = ',',
        default_value = "left,slow-sender,slow-reader,pipeliner,claimer,resetter,hoarder"
    )]
    peers: Vec<Peer>,

    /// Connections that are opened and left, some in the middle of a request
    #[arg(long, value_name = "N", default_value = "5k", value_parser = parse_count)]
    connections: usize,

    /// How long to go on, unless the worker runs out of work before
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_seconds)]
    seconds: Duration,

    /// Units for the worker, which are added before
    #[arg(long, value_name = "UNITS", default_value = "100k", value_parser = parse_number)]
    prepare: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// Opens connections and leaves them
    Left,
    /// Sends requests a byte at a time, on 100 connections
    SlowSender,
    /// Asks for pages of units and takes none of them, on 20 connections
    SlowReader,
    /// Sends short requests without a pause, and takes the answers
    Pipeliner,
    /// Claims a request of 2^63 bytes, over and over
    Claimer,
    /// Breaks off within a request by a reset, over and over
    Resetter,
    /// Sends 8 MiB of larger requests, on 100 connections, and no more
    Hoarder,
}

const STYLE: Style = Style {
    jobs: 1,
    finish: Finish::Single,
};

/// So long does a peer rest between two steps that are meant to be slow.
const REST: Duration = Duration::from_millis(20);

/// How long a peer waits for the server before it looks whether the time is over.
const WAIT: Duration = Duration::from_millis(100);

/// The beginning of a frame of 2^63 bytes.
const CLAIM: &[u8] = b"\xd8\x18\x5b\x80\0\0\0\0\0\0\0";

/// The beginning of a frame of 60 MiB.
const LARGE: &[u8] = b"\xd8\x18\x5a\x03\xc0\0\0";

pub(super) fn run(args: &Args, session: &mut Session<'_>) -> Result<Outcome, Failure> {
    let Address::Tcp { host, port } = &session.target.server else {
        return Failure::check("abuse speaks TCP only: give --server HOST:PORT".to_owned());
    };
    let abuse = Abuse {
        host: host.clone(),
        port: *port,
        short: bytes_of(&count_request(&session.target.spec)),
        page: bytes_of(&Request::new(Call::Page, |writer| {
            write_page_params(writer, &session.target.spec, PAGE_UNITS, None);
        })),
        over: AtomicBool::new(false),
    };
    add::prepare(session, args.prepare)?;
    let worker = session.worker(0, STYLE, WhenEmpty::StopAll);
    let mut clients = vec![session.client(worker)?];
    let left = match args.peers.contains(&Peer::Left) {
        true => abuse.leave(args.connections),
        false => Vec::new(),
    };
    let milliseconds = u64::try_from(args.seconds.as_millis()).unwrap_or(u64::MAX);
    session
        .run
        .show("abusing", Counting::Milliseconds, milliseconds);
    let (figures, mut deeds) = thread::scope(|scope| {
        let peers: Vec<_> = args
            .peers
            .iter()
            .map(|peer| (*peer, scope.spawn(|| abuse.play(*peer))))
            .collect();
        session.stop_after(Some(args.seconds));
        let figures = session.measure(|session| drive(&mut clients, &mut session.run));
        abuse.over.store(true, Ordering::Relaxed);
        let deeds = peers.into_iter().map(|(peer, thread)| {
            let count = thread.join().unwrap_or(0);
            (word(peer), json!(count))
        });
        (figures, deeds.collect::<Map<_, _>>())
    });
    if !left.is_empty() {
        deeds.insert(word(Peer::Left), json!(left.len()));
    }
    session.check_counts(false)?;
    let peers: Vec<String> = args.peers.iter().map(|peer| word(*peer)).collect();
    let mut outcome = Outcome::new(
        json!({
            "peers": peers.join(","),
            "connections": args.connections,
            "seconds": args.seconds.as_secs_f64(),
            "prepare": args.prepare,
        }),
        figures?,
    );
    let counts = deeds.iter().map(|(peer, count)| format!("{peer} {count}"));
    outcome.text = format!("  abuse: {}\n", counts.collect::<Vec<_>>().join(", "));
    outcome.extra = Some(("abuse", json!(deeds)));
    Ok(outcome)
}

fn word(peer: Peer) -> String {
    let value = peer.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn bytes_of(request: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.append_to(&mut bytes, ID_FIRST);
    bytes
}

/// What the peers share.
struct Abuse {
    host: String,
    port: u16,
    /// A request with a short answer.
    short: Vec<u8>,
    /// One with a long answer.
    page: Vec<u8>,
    over: AtomicBool,
}

impl Abuse {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).ok()?;
        stream.set_read_timeout(Some(WAIT)).ok()?;
        stream.set_write_timeout(Some(WAIT)).ok()?;
        Some(stream)
    }

    fn connect_many(&self, count: usize) -> Vec<TcpStream> {
        (0..count).filter_map(|_| self.connect()).collect()
    }

    /// Opens connections, of which each second one sends half a request.
    fn leave(&self, count: usize) -> Vec<TcpStream> {
        let mut left = self.connect_many(count);
        let half = self.short.get(..self.short.len() / 2).unwrap_or_default();
        for stream in left.iter_mut().step_by(2) {
            let _ = stream.write_all(half);
        }
        left
    }

    /// Plays a peer until the time is over. Gives how often it did what it does.
    fn play(&self, peer: Peer) -> u64 {
        match peer {
            Peer::Left => 0,
            Peer::SlowSender => self.send_slowly(),
            Peer::SlowReader => self.take_no_answers(),
            Peer::Pipeliner => self.pipeline().unwrap_or(0),
            Peer::Claimer => self.again_and_again(|mut stream| {
                if stream.write_all(CLAIM).is_ok() {
                    let _ = stream.shutdown(Shutdown::Write);
                    // The refusal, and the end.
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            }),
            Peer::Resetter => self.again_and_again(|mut stream| {
                let _ = stream.write_all(LARGE);
                let _ = stream.write_all(&self.page);
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }),
            Peer::Hoarder => self.hoard(),
        }
    }

    fn again_and_again(&self, act: impl Fn(TcpStream)) -> u64 {
        let mut count = 0;
        while self.goes_on() {
            if let Some(stream) = self.connect() {
                act(stream);
                count += 1;
            }
        }
        count
    }

    /// Bytes sent.
    fn send_slowly(&self) -> u64 {
        let mut streams = self.connect_many(100);
        let mut count = 0;
        for byte in self.short.iter().cycle() {
            for stream in &mut streams {
                count += u64::from(stream.write_all(&[*byte]).is_ok());
            }
            thread::sleep(REST);
            if !self.goes_on() {
                break;
            }
        }
        count
    }

    /// Bytes of requests that the server took.
    fn take_no_answers(&self) -> u64 {
        let mut streams = self.connect_many(20);
        let requests = self.page.repeat(100);
        let mut sent = vec![0; streams.len()];
        while self.goes_on() {
            for (stream, sent) in streams.iter_mut().zip(&mut sent) {
                let _ = stream.set_nonblocking(true);
                let rest = requests.get(*sent % requests.len()..).unwrap_or_default();
                *sent += stream.write(rest).unwrap_or(0);
            }
            thread::sleep(REST);
        }
        sent.into_iter().map(|sent| sent as u64).sum()
    }

    /// Requests sent.
    fn pipeline(&self) -> Option<u64> {
        let stream = self.connect()?;
        stream.set_write_timeout(None).ok()?;
        let mut sending = stream.try_clone().ok()?;
        thread::scope(|scope| {
            let mut receiving = &stream;
            scope.spawn(move || {
                let mut answers = vec![0; 1 << 16];
                loop {
                    match receiving.read(&mut answers) {
                        Ok(0) => return,
                        Err(error) if error.kind() != ErrorKind::WouldBlock => return,
                        _ => {}
                    }
                }
            });
            let requests = self.short.repeat(1000);
            let mut count = 0;
            while self.goes_on() && sending.write_all(&requests).is_ok() {
                count += 1000;
            }
            let _ = sending.shutdown(Shutdown::Both);
            Some(count)
        })
    }

    /// Connections that had sent their part.
    fn hoard(&self) -> u64 {
        let mut part = LARGE.to_vec();
        part.resize(8 << 20, 0);
        let mut hoard = Vec::new();
        let mut count = 0;
        while self.goes_on() {
            if hoard.len() >= 100 {
                hoard.clear();
            }
            if let Some(mut stream) = self.connect() {
                count += u64::from(stream.write_all(&part).is_ok());
                hoard.push(stream);
            }
            thread::sleep(REST);
        }
        count
    }
}
