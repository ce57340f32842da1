//! `bench work`, and the role of a worker.

use super::connection::{Calls, Waiting};
use super::drive::{Role, Wake, drive};
use super::failure::Failure;
use super::ledger::{Held, LEASE};
use super::run::{Counting, Run};
use super::session::Session;
use super::wire::{Answer, Call, Protocol, Request, is_nothing, write_finished};
use super::{Outcome, add, parse_count, parse_number};
use clap::ValueEnum;
use coordinated_client::Address;
use coordinated_client::cbor::{Item, Kind};
use serde_json::json;
use std::time::{Duration, Instant};

/// Options of `bench work`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Worker connections
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    connections: usize,

    #[command(flatten)]
    style: Style,

    /// Work over HTTP, as JSON at POST /rpc/METHOD, instead of CBOR-RPC, or over HTTPS at tls:HOST:PORT. All else goes
    /// over CBOR-RPC
    #[arg(
        long,
        value_name = "ADDR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = HTTP_ADDRESS
    )]
    http: Option<Address>,

    /// How long to work; without it, until there is no more work
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    seconds: Option<Duration>,

    /// Units to add before, which is not measured
    #[arg(long, value_name = "UNITS", default_value = "100k", value_parser = parse_number)]
    prepare: u64,
}

/// Where a daemon serves HTTP if it was not told otherwise.
const HTTP_ADDRESS: &str = "127.0.0.1:5980";

/// How a worker works.
#[derive(clap::Args, Clone, Copy)]
pub(super) struct Style {
    /// Units to ask for in each get_work
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    pub(super) jobs: usize,

    /// How units are reported as finished
    #[arg(long, value_name = "HOW", default_value = "single")]
    pub(super) finish: Finish,
}

/// How a worker reports what it finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Finish {
    /// A call for each unit, one after the other
    Single,
    /// A call for each unit, all sent at once
    Pipelined,
    /// One update_work_units for all of them, which only coordinated has
    Together,
}

impl Finish {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Pipelined => "pipelined",
            Self::Together => "together",
        }
    }
}

/// A span of time, of seconds if there is no unit.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => humantime::parse_duration(text)
            .map_err(|_| "write a span of time as 30, 30s or 5m".to_owned()),
    }
}

pub(super) fn run(args: &Args, session: &mut Session<'_>) -> Result<Outcome, Failure> {
    add::prepare(session, args.prepare)?;
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        let number = clients.len();
        let worker = |protocol| {
            let spec = &session.target.spec;
            Worker::new(spec, protocol, number, args.style, WhenEmpty::End)
        };
        clients.push(match &args.http {
            Some(address) => session.client_at(address, Protocol::Http, worker(Protocol::Http))?,
            None => session.client(worker(Protocol::CborRpc))?,
        });
    }
    session
        .run
        .show("working", Counting::Finished, args.prepare);
    session.stop_after(args.seconds);
    let figures = session.measure(|session| drive(&mut clients, &mut session.run))?;
    session.check_counts(!session.run.stopping)?;
    Ok(Outcome::new(
        json!({
            "connections": args.connections,
            "jobs": args.style.jobs,
            "finish": args.style.finish.word(),
            "http": args.http.as_ref().map(Address::to_string),
            "seconds": args.seconds.map(|time| time.as_secs_f64()),
            "prepare": args.prepare,
        }),
        figures,
    ))
}

/// What a worker does when there is no work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenEmpty {
    /// It is done.
    End,
    /// It asks again soon.
    AskAgain,
    /// All stop.
    StopAll,
}

/// How soon.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// Gets units, finishes them, and begins anew.
pub(super) struct Worker {
    spec: String,
    protocol: Protocol,
    style: Style,
    when_empty: WhenEmpty,
    get_work: Request,
    finish: Request,
    held: Vec<Held>,
    /// How many of those held are reported, and how many reports are answered.
    reported: usize,
    answered: usize,
}

impl Worker {
    /// The worker with this number.
    pub(super) fn new(
        spec: &str,
        protocol: Protocol,
        number: usize,
        style: Style,
        when_empty: WhenEmpty,
    ) -> Self {
        let finish = match (style.finish, protocol) {
            (Finish::Together, _) => {
                Request::over(protocol, Call::FinishTogether, |writer| writer.array(0))
            }
            (_, Protocol::CborRpc) => Request::finish(spec),
            (_, Protocol::Http) => Request::over(protocol, Call::Finish, |writer| writer.array(0)),
        };
        Self {
            spec: spec.to_owned(),
            protocol,
            style,
            when_empty,
            get_work: get_work_request(protocol, spec, &format!("bench-{number}"), style.jobs),
            finish,
            held: Vec::new(),
            reported: 0,
            answered: 0,
        }
    }

    fn ask(&self, calls: &mut Calls, run: &Run) {
        if !run.stopping {
            calls.send(&self.get_work);
        }
    }

    fn take_work(
        &mut self,
        waiting: &Waiting,
        answer: &Answer<'_>,
        calls: &mut Calls,
        run: &mut Run,
    ) -> Result<Wake, Failure> {
        self.held.clear();
        (self.reported, self.answered) = (0, 0);
        read_work(answer, &self.spec, self.style.jobs, |name, attempt| {
            if attempt.is_none() && self.protocol == Protocol::Http {
                return Err(answer.unreadable("a unit's attempt was expected"));
            }
            let mut unit = run.ledger.hand_out(name, waiting.since)?;
            unit.attempt = attempt;
            self.held.push(unit);
            Ok(())
        })?;
        if self.held.is_empty() {
            run.empty_answers += 1;
            run.stopping |= self.when_empty == WhenEmpty::StopAll;
            let again = self.when_empty == WhenEmpty::AskAgain;
            return Ok(again.then(|| Instant::now() + ASK_AGAIN));
        }
        match self.style.finish {
            Finish::Single => self.report_next(calls),
            Finish::Pipelined => (0..self.held.len()).for_each(|_| self.report_next(calls)),
            Finish::Together => self.report_all(calls),
        }
        Ok(None)
    }

    fn report_next(&mut self, calls: &mut Calls) {
        if let Some(unit) = self.held.get(self.reported) {
            match self.protocol {
                Protocol::CborRpc => self.finish.set_name(&unit.name),
                Protocol::Http => self.finish.rewrite(|writer| {
                    writer.array(3);
                    writer.bytes(self.spec.as_bytes());
                    writer.bytes(&unit.name);
                    write_finished(writer, unit.attempt);
                }),
            }
            calls.send(&self.finish);
            self.reported += 1;
        }
    }

    fn report_all(&mut self, calls: &mut Calls) {
        self.finish.rewrite(|writer| {
            writer.array(2);
            writer.bytes(self.spec.as_bytes());
            writer.array(self.held.len());
            for unit in &self.held {
                writer.array(2);
                writer.bytes(&unit.name);
                write_finished(writer, unit.attempt);
            }
        });
        calls.send(&self.finish);
        self.reported = self.held.len();
    }

    /// Takes the answer about the next unit.
    fn take_report(
        &mut self,
        answer: &Answer<'_>,
        pair: Item<'_>,
        run: &mut Run,
    ) -> Result<(), Failure> {
        let unit = self.held.get(self.answered);
        let unit = unit.ok_or_else(|| answer.unreadable("more answers than reports"))?;
        let mut pair = pair.as_list().into_iter().flatten();
        match (pair.next(), pair.next()) {
            (Some(value), Some(message)) if is_nothing(value) => {
                let message = message.as_string_bytes().unwrap_or_default();
                run.ledger.refuse(unit, &message)?;
            }
            (Some(_), Some(_)) => run.ledger.finish(unit),
            _ => return Err(answer.unreadable("a pair of a value and a message was expected")),
        }
        self.answered += 1;
        Ok(())
    }
}

impl Role for Worker {
    fn wake(&mut self, calls: &mut Calls, run: &mut Run) -> Result<Wake, Failure> {
        self.ask(calls, run);
        Ok(None)
    }

    fn answered(
        &mut self,
        waiting: &Waiting,
        answer: &Answer<'_>,
        calls: &mut Calls,
        run: &mut Run,
    ) -> Result<Wake, Failure> {
        match waiting.call {
            Call::GetWork => return self.take_work(waiting, answer, calls, run),
            Call::FinishTogether => {
                if let Some(message) = answer.error() {
                    return Err(Failure::NoUpdateWorkUnits(message));
                }
                for pair in answer.list(answer.value()?)? {
                    self.take_report(answer, pair, run)?;
                }
                if self.answered < self.held.len() {
                    return Err(answer.unreadable("fewer answers than reports"));
                }
            }
            _ => self.take_report(answer, answer.result()?, run)?,
        }
        if self.answered == self.held.len() {
            run.cycles += 1;
            self.ask(calls, run);
        } else if self.answered == self.reported {
            self.report_next(calls);
        }
        Ok(None)
    }
}

/// The request of a worker for units of one work spec. Over HTTP also for the ids of the attempts, since reports can only be
/// about attempts there.
pub(super) fn get_work_request(
    protocol: Protocol,
    spec: &str,
    worker: &str,
    jobs: usize,
) -> Request {
    Request::over(protocol, Call::GetWork, |writer| {
        writer.array(2);
        writer.bytes(worker.as_bytes());
        let asks_for_attempts = protocol == Protocol::Http;
        writer.map(3 + usize::from(asks_for_attempts));
        if asks_for_attempts {
            writer.bytes(b"attempts");
            writer.boolean(true);
        }
        writer.bytes(b"work_spec_names");
        writer.array(1);
        writer.bytes(spec.as_bytes());
        writer.bytes(b"lease_time");
        writer.unsigned(LEASE.as_secs());
        writer.bytes(b"max_jobs");
        writer.unsigned(jobs as u64);
    })
}

/// Hands each unit's name in an answer of get_work to `take`, with the id of its attempt if that is there.
///
/// # Errors
/// `Unreadable`, `Check` if it is not what was asked for, or what `take` returns.
pub(super) fn read_work(
    answer: &Answer<'_>,
    spec: &str,
    jobs: usize,
    mut take: impl FnMut(&[u8], Option<u64>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let value = answer.value()?;
    if value.is_null() {
        return Ok(());
    }
    let mut take_unit = |unit: Item<'_>| {
        let mut parts = unit.as_list().into_iter().flatten();
        let (found, name, attempt) = (parts.next(), parts.next(), parts.nth(1));
        let (Some(found), Some(name)) = (found, name) else {
            return Err(answer.unreadable("a unit's work spec, name and data were expected"));
        };
        if found.is_null() {
            return Ok(());
        }
        if found.as_string_bytes().as_deref() != Some(spec.as_bytes()) {
            return Failure::check(format!(
                "get_work gave a unit of another work spec than '{spec}', which alone was asked \
                 for; it is pending now"
            ));
        }
        let name = name.as_string_bytes();
        let attempt = match attempt.and_then(|it| it.get("attempt")).map(Item::kind) {
            Some(Kind::Unsigned(id)) => Some(id),
            _ => None,
        };
        take(
            &name.ok_or_else(|| answer.unreadable("a unit's name is no string"))?,
            attempt,
        )
    };
    if jobs == 1 {
        return take_unit(value);
    }
    for (index, unit) in answer.list(value)?.enumerate() {
        if index == jobs {
            return Failure::check(format!(
                "get_work gave more than the {jobs} units asked for"
            ));
        }
        take_unit(unit)?;
    }
    Ok(())
}
