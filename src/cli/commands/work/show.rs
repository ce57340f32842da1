//! What `work` shows: a line for each unit, or a progress bar on a terminal.

use super::lines::Lines;
use super::programs::View;
use crate::cli::commands::AlreadyReported;
use crate::cli::commands::names::shown;
use crate::cli::commands::output;
use crate::cli::progress::bar_of;
use crate::cli::values::{printable, span};
use coordinated_client::Address;
use coordinated_client::worker::{Context, Ending, Stopper, work_specs_with_runtimes};
use coordinated_client::{Connection, Coordinate, Counts, Name, Options, Tls, Token};
use indicatif::ProgressBar;
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How often units are counted for the bar.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// Which work specs are served.
#[derive(Clone)]
pub(super) struct Served {
    /// By name; if the list is empty, by runtime.
    pub(super) work_specs: Vec<Name>,
    pub(super) runtimes: Vec<Name>,
}

impl Served {
    /// Their names now.
    pub(super) fn names(&self, client: &mut Coordinate) -> coordinated_client::Result<Vec<Name>> {
        match self.work_specs.is_empty() {
            false => Ok(self.work_specs.clone()),
            true => work_specs_with_runtimes(client, &self.runtimes),
        }
    }

    /// Their units, counted together.
    pub(super) fn count(&self, client: &mut Coordinate) -> coordinated_client::Result<Counts> {
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

/// Standard output, or a progress bar if that is a terminal; and standard error.
///
/// Separate threads write them, so that a reader that does not read can keep the worker neither from renewing leases nor
/// from ending.
#[derive(Clone)]
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    lines: Arc<Lines>,
    notes: Arc<Lines>,
}

impl Shown {
    /// Starts the threads. The bar counts the units of the served work specs.
    pub(super) fn start(
        stopper: Stopper,
        server: &Address,
        tls: Tls,
        token: Option<Token>,
        served: &Served,
    ) -> Self {
        let is_terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
        let template = "{wide_bar} {pos}/{len} {rate:>10} {eta:>4}  {msg}";
        let shown = Self {
            bar: is_terminal.then(|| bar_of(template)),
            lines: Arc::default(),
            notes: Arc::default(),
        };
        if let Some(bar) = &shown.bar {
            let (bar, server, served) = (bar.clone(), server.clone(), served.clone());
            thread::spawn(move || count(&bar, server, tls, token, &served));
        }
        let (of_lines, of_notes) = (shown.clone(), shown.clone());
        thread::spawn(move || of_lines.write_lines(&stopper));
        thread::spawn(move || of_notes.write_notes());
        shown
    }

    fn write_lines(&self, stopper: &Stopper) {
        self.lines.write(|line| {
            let print = || writeln!(io::stdout(), "{}", printable(line));
            if self.beside_bar(print).is_err() {
                // The reader wants no more, as with `| head`.
                stopper.drain();
            }
        });
    }

    fn write_notes(&self) {
        self.notes
            .write(|text| self.beside_bar(|| output::note(text)));
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn beside_bar<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Stops waiting for readers.
    pub(super) fn hurry(&self) {
        self.lines.hurry();
        self.notes.hurry();
    }

    /// Shows what is left to show, and the error if the worker has failed, and removes the bar. After this, nothing can be
    /// shown.
    ///
    /// # Errors
    /// If it has failed.
    pub(super) fn end(&self, failure: Option<Box<dyn Error>>) -> Result<(), AlreadyReported> {
        let left_out = self.lines.finish();
        if left_out > 0 {
            self.note(&format!(
                "{left_out} lines were left out because they were not read in time"
            ));
        }
        if let Some(error) = &failure {
            let text = error.to_string();
            self.note(text.lines().next().unwrap_or_default());
        }
        self.notes.finish();
        match failure {
            Some(_) => Err(AlreadyReported),
            None => Ok(()),
        }
    }
}

/// Keeps a bar up to date while it is shown.
fn count(bar: &ProgressBar, server: Address, tls: Tls, token: Option<Token>, served: &Served) {
    let options = Options {
        retries: 0,
        tls,
        token,
        ..Options::default()
    };
    let mut client = Coordinate::new(Connection::new(server, options));
    let mut is_first = true;
    while !bar.is_finished() {
        // While the daemon can't be reached, the bar does not change.
        if let Ok(counts) = served.count(&mut client) {
            bar.set_length(counts.total());
            bar.set_position(counts.finished + counts.failed);
            if std::mem::take(&mut is_first) {
                // Units that were done before don't count for the rate.
                bar.reset_eta();
            }
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
        let (what, why) = match ending {
            // The bar counts them.
            Ending::Finished if self.bar.is_some() => return,
            Ending::Finished => ("finished", String::new()),
            Ending::Failed(traceback) => {
                let last = traceback.trim_end().lines().next_back();
                ("failed", last.unwrap_or_default().to_owned())
            }
            Ending::Retried { traceback, delay } => {
                let last = traceback.trim_end().lines().next_back();
                let again = match *delay {
                    Duration::ZERO => "will be retried".to_owned(),
                    delay => format!("will be retried in {}", span(delay.as_secs_f64())),
                };
                let last = last.unwrap_or_default();
                ("failed", format!("{again}: {last}"))
            }
            Ending::GivenBack(Duration::ZERO) => ("released", String::new()),
            Ending::GivenBack(delay) => ("later", format!("in {}", span(delay.as_secs_f64()))),
            Ending::Lost(why) => ("lost", why.clone()),
            Ending::Cancelled(message) => {
                let reason = message.strip_prefix("cancelled: ").unwrap_or_default();
                ("cancelled", reason.to_owned())
            }
        };
        let (spec, key) = (shown(unit.work_spec()), shown(unit.key()));
        let took = span(took.as_secs_f64());
        let line = format!("{what:<8}  {spec}  {key}  {took:>4}  {why}");
        self.lines.push(line.trim_end().to_owned());
    }

    fn note(&self, text: &str) {
        self.notes.push(text.to_owned());
    }
}
