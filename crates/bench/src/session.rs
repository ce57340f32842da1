//! One benchmark against one server: its work spec, its connections, its measurements, its end.

use super::add::{Adder, UnitTemplate};
use super::connection::Connection;
use super::control::{Control, count_request};
use super::drive::{Client, Role};
use super::failure::Failure;
use super::latency::Latencies;
use super::report::{Figures, ServerFigures};
use super::run::Run;
use super::wire::Protocol;
use super::work::{Style, WhenEmpty, Worker};
use super::{NewBar, Target, process, token};
use coordinated_client::cbor::Value;
use coordinated_client::{Address, Coordinate, Name, Options, Tls};
use std::time::{Duration, Instant};

/// What the scenarios work with.
pub(super) struct Session<'a> {
    pub(super) target: &'a Target,
    pub(super) control: Control,
    pub(super) run: Run,
    tls: Tls,
    /// What the server calls itself; the originals don't.
    pub(super) server_name: Option<String>,
    /// The server's process, if it is on this machine.
    pub(super) server_pid: Option<u32>,
    opened: usize,
}

impl<'a> Session<'a> {
    /// Connects, and makes the work spec.
    ///
    /// # Errors
    /// `NoServer`, `SpecExists`, `NoProcess`, or whatever else goes wrong.
    pub(super) fn open(target: &'a Target, new_bar: NewBar) -> Result<Self, Failure> {
        let tls = Tls::read(&target.tls)?;
        let control = Control::open(&target.server, &tls)?;
        let mut client = client_of(target, &tls);
        let info = client.server_info()?;
        let server_name = info.map(|info| format!("{} {}", info.server, info.version));
        let server_pid = target
            .server_pid
            .or_else(|| process::peer_pid(&control.connection));
        if let Some(pid) = target.server_pid
            && process::usage_of(pid).is_none()
        {
            return Err(Failure::NoProcess(pid));
        }
        let run = Run::new(target.names, new_bar)?;
        let spec = spec_of(target);
        if client.get_work_spec(&spec)?.is_some() {
            if !target.force {
                return Err(Failure::SpecExists(target.spec.clone()));
            }
            client.del_work_spec(&spec)?;
        }
        let bytes = |text: &str| Value::Bytes(text.into());
        client.set_work_spec(&Value::Map(vec![
            (bytes("name"), Value::from(&spec)),
            (bytes("min_gb"), Value::from(0)),
        ]))?;
        Ok(Self {
            target,
            tls,
            control,
            run,
            server_name,
            server_pid,
            opened: 0,
        })
    }

    /// Opens a connection for a role.
    ///
    /// # Errors
    /// `NoConnection`.
    pub(super) fn client(&mut self, role: impl Role + 'static) -> Result<Client, Failure> {
        let target = self.target;
        self.client_at(&target.server, Protocol::CborRpc, role)
    }

    /// Opens a connection for a role at another address of the server.
    ///
    /// # Errors
    /// `NoConnection`, `NoHttp`.
    pub(super) fn client_at(
        &mut self,
        address: &Address,
        protocol: Protocol,
        role: impl Role + 'static,
    ) -> Result<Client, Failure> {
        self.opened += 1;
        Ok(Client {
            connection: Connection::open(address, &self.tls, protocol, self.opened)?,
            role: Box::new(role),
        })
    }

    /// A role that adds units until there are `total`.
    pub(super) fn adder(&self, total: u64, depth: usize) -> Adder {
        let template = UnitTemplate::new(self.target.data_bytes);
        Adder::new(&self.target.spec, template, self.target.batch, total, depth)
    }

    /// The role of the worker with this number.
    pub(super) fn worker(&self, number: usize, style: Style, when_empty: WhenEmpty) -> Worker {
        Worker::new(
            &self.target.spec,
            Protocol::CborRpc,
            number,
            style,
            when_empty,
        )
    }

    /// Makes the next measurement end after this time, if not before.
    pub(super) fn stop_after(&mut self, time: Option<Duration>) {
        self.run.deadline = time.map(|time| Instant::now() + time);
    }

    /// Measures what `act` does.
    ///
    /// # Errors
    /// Those of `act`.
    pub(super) fn measure(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<Figures, Failure> {
        self.run.latencies = Latencies::default();
        (self.run.cycles, self.run.empty_answers) = (0, 0);
        let ledger = &self.run.ledger;
        let (added, finished, over) = (ledger.added, ledger.finished, ledger.leases_over);
        let server_before = self.server_usage();
        let cpu_before = process::own_cpu();
        let begin = Instant::now();

        let result = act(self);

        let time = begin.elapsed();
        let cpu = process::own_cpu().saturating_sub(cpu_before);
        let server_after = self.server_usage();
        self.run.deadline = None;
        self.run.hide();
        result?;
        let ledger = &self.run.ledger;
        Ok(Figures {
            seconds: time.as_secs_f64(),
            added: ledger.added - added,
            finished: ledger.finished - finished,
            cycles: self.run.cycles,
            empty_answers: self.run.empty_answers,
            leases_over: ledger.leases_over - over,
            rpcs: self.run.latencies.calls(),
            calls: self.run.latencies.summaries(),
            bench_cpu_seconds: cpu.as_secs_f64(),
            server: server_before
                .zip(server_after)
                .map(|(before, after)| ServerFigures {
                    cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
                    rss_bytes_before: before.rss_bytes,
                    rss_bytes: after.rss_bytes,
                    rss_peak_bytes: after.rss_peak_bytes,
                }),
        })
    }

    /// What the server's process has used so far.
    pub(super) fn server_usage(&self) -> Option<process::Usage> {
        self.server_pid.and_then(process::usage_of)
    }

    /// Compares the server's counts with what must be. `empty`: all workers were told that there is
    /// no more work.
    ///
    /// # Errors
    /// `Check` if they differ.
    pub(super) fn check_counts(&mut self, empty: bool) -> Result<(), Failure> {
        let (counts, _) = self.control.counts(&count_request(&self.target.spec))?;
        self.run.ledger.compare(counts, empty)
    }

    /// Deletes the work spec, unless it is to be kept.
    ///
    /// # Errors
    /// `Call`.
    pub(super) fn close(self) -> Result<(), Failure> {
        if self.target.keep {
            return Ok(());
        }
        Ok(client_of(self.target, &self.tls).del_work_spec(&spec_of(self.target))?)
    }
}

/// A client for what is not measured. Deleting may take any time on a server with many units.
fn client_of(target: &Target, tls: &Tls) -> Coordinate {
    let options = Options {
        answer_timeout: None,
        silence_timeout: None,
        retries: 0,
        tls: tls.clone(),
        token: token::from_environment().cloned(),
        ..Options::default()
    };
    Coordinate::new(coordinated_client::Connection::new(
        target.server.clone(),
        options,
    ))
}

/// The work spec's name, as the measured connections send it.
fn spec_of(target: &Target) -> Name {
    Name::from_bytes(target.spec.as_bytes().to_vec())
}
