//! What `work` shows: a line for each unit, or a progress bar on a terminal.

use super::programs::View;
use crate::address::Address;
use crate::cli::commands::names::shown;
use crate::cli::commands::output::note;
use crate::cli::progress;
use crate::cli::values::{printable, span};
use crate::client::{Connection, Coordinate, Counts, Name, Options, Result};
use crate::worker::{Context, Ending, Stopper, work_specs_with_runtimes};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How often units are counted for the bar.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// Which work specs are served.
#[derive(Clone)]
pub(super) struct Served {
    /// By name; if there is none, by runtime.
    pub(super) work_specs: Vec<Name>,
    pub(super) runtimes: Vec<Name>,
}

impl Served {
    /// Their names now.
    pub(super) fn names(&self, client: &mut Coordinate) -> Result<Vec<Name>> {
        match self.work_specs.is_empty() {
            false => Ok(self.work_specs.clone()),
            true => work_specs_with_runtimes(client, &self.runtimes),
        }
    }

    /// Their units, counted together.
    pub(super) fn count(&self, client: &mut Coordinate) -> Result<Counts> {
        let mut all = Counts::default();
        for name in self.names(client)? {
            let counts = client.count_work_units(&name)?;
            all.available += counts.available;
            all.pending += counts.pending;
            all.finished += counts.finished;
            all.failed += counts.failed;
        }
        Ok(all)
    }
}

/// Lines that wait to be read, if the reader is slow. Leases have to be renewed meanwhile, so the rest is not
/// shown.
const LINES_MAX: usize = 10_000;

/// Standard output, or a bar if that is a terminal.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    lines: SyncSender<String>,
    printer: JoinHandle<()>,
    missed: AtomicU64,
}

impl Shown {
    /// Begins to show. A bar counts the units of the work specs that are served.
    pub(super) fn start(stopper: Stopper, server: &Address, served: &Served) -> Self {
        let is_terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
        let bar = is_terminal.then(progress::bar);
        if let Some(bar) = &bar {
            // Of a rate, indicatif takes the width as the number of decimals.
            let template = "{wide_bar} {pos}/{len} {per_sec:1} {eta:>4}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            let (bar, server, served) = (bar.clone(), server.clone(), served.clone());
            thread::spawn(move || count(&bar, server, &served));
        }
        let (lines, to_print) = sync_channel(LINES_MAX);
        let of_printer = bar.clone();
        let printer = thread::spawn(move || print(&to_print, of_printer.as_ref(), &stopper));
        Self {
            bar,
            lines,
            printer,
            missed: AtomicU64::new(0),
        }
    }

    /// Shows what is left, and takes the bar away.
    pub(super) fn end(self) {
        drop(self.lines);
        // It does not panic.
        let _ = self.printer.join();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        match self.missed.into_inner() {
            0 => {}
            missed => note(format!(
                "{missed} lines were not read in time, and left out"
            )),
        }
    }
}

/// Prints lines until there are no more.
fn print(lines: &Receiver<String>, bar: Option<&ProgressBar>, stopper: &Stopper) {
    for line in lines {
        let print = || writeln!(io::stdout(), "{}", printable(&line));
        let printed = match bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        };
        if printed.is_err() {
            // As with `| head`: whoever reads has seen enough.
            stopper.drain();
        }
    }
}

/// Keeps a bar up to date, as long as it is shown.
fn count(bar: &ProgressBar, server: Address, served: &Served) {
    let options = Options {
        retries: 0,
        ..Options::default()
    };
    let mut client = Coordinate::new(Connection::new(server, options));
    while !bar.is_finished() {
        // While the daemon is away the bar stands still.
        if let Ok(counts) = served.count(&mut client) {
            bar.set_length(counts.total());
            bar.set_position(counts.finished + counts.failed);
            bar.set_message(format!(
                "{} running, {} failed",
                counts.pending, counts.failed
            ));
        }
        thread::sleep(COUNT_EVERY);
    }
}

impl View for Shown {
    fn ended(&self, unit: &Context, ending: &Ending, took: Duration) {
        if let (Some(bar), Ending::Finished) = (&self.bar, ending) {
            bar.inc(1);
            return;
        }
        let (what, why) = match ending {
            Ending::Finished => ("finished", String::new()),
            Ending::Failed(traceback) => {
                let last = traceback.trim_end().lines().next_back();
                ("failed", last.unwrap_or_default().to_owned())
            }
            Ending::GivenBack(Duration::ZERO) => ("released", String::new()),
            Ending::GivenBack(delay) => ("later", format!("in {}", span(delay.as_secs_f64()))),
            Ending::Lost(why) => ("lost", why.clone()),
        };
        let (spec, key) = (shown(unit.work_spec()), shown(unit.key()));
        let took = span(took.as_secs_f64());
        let line = format!("{what:<8}  {spec}  {key}  {took:>4}  {why}");
        if self.lines.try_send(line.trim_end().to_owned()).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }
}
