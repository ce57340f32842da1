//! What `work` shows: a line for each unit, or a progress bar on a terminal.

use super::lines::Lines;
use super::programs::View;
use crate::cli::commands::AlreadyTold;
use crate::cli::commands::names::shown;
use crate::cli::commands::output;
use crate::cli::progress::bar_of;
use crate::cli::values::{printable, span};
use coordinated_client::Address;
use coordinated_client::worker::{Context, Ending, Stopper, work_specs_with_runtimes};
use coordinated_client::{Connection, Coordinate, Counts, Name, Options};
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
    /// By name; if there is none, by runtime.
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

/// Standard output, or a bar if that is a terminal; and standard error.
///
/// Each is written by a thread of its own, since a reader who does not read must not keep leases from being renewed,
/// nor the worker from ending when it is told to.
#[derive(Clone)]
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    lines: Arc<Lines>,
    notes: Arc<Lines>,
}

impl Shown {
    /// Begins to show. A bar counts the units of the work specs that are served.
    pub(super) fn start(stopper: Stopper, server: &Address, served: &Served) -> Self {
        let is_terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
        let template = "{wide_bar} {pos}/{len} {rate:>10} {eta:>4}  {msg}";
        let shown = Self {
            bar: is_terminal.then(|| bar_of(template)),
            lines: Arc::default(),
            notes: Arc::default(),
        };
        if let Some(bar) = &shown.bar {
            let (bar, server, served) = (bar.clone(), server.clone(), served.clone());
            thread::spawn(move || count(&bar, server, &served));
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
                // As with `| head`: whoever reads has seen enough.
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

    /// Waits no longer for those who read.
    pub(super) fn hurry(&self) {
        self.lines.hurry();
        self.notes.hurry();
    }

    /// Shows what is left, and why the worker has failed, if it has; takes the bar away. Nothing can be shown any more
    /// then.
    ///
    /// # Errors
    /// If it has failed.
    pub(super) fn end(&self, failure: Option<Box<dyn Error>>) -> Result<(), AlreadyTold> {
        let left_out = self.lines.finish();
        if left_out > 0 {
            self.note(&format!(
                "{left_out} lines were not read in time, and left out"
            ));
        }
        if let Some(error) = &failure {
            let text = error.to_string();
            self.note(text.lines().next().unwrap_or_default());
        }
        self.notes.finish();
        match failure {
            Some(_) => Err(AlreadyTold),
            None => Ok(()),
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
    let mut is_first = true;
    while !bar.is_finished() {
        // While the daemon is away the bar stands still.
        if let Ok(counts) = served.count(&mut client) {
            bar.set_length(counts.total());
            bar.set_position(counts.finished + counts.failed);
            if std::mem::take(&mut is_first) {
                // What was done before is none of this worker's rate.
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
            Ending::GivenBack(Duration::ZERO) => ("released", String::new()),
            Ending::GivenBack(delay) => ("later", format!("in {}", span(delay.as_secs_f64()))),
            Ending::Lost(why) => ("lost", why.clone()),
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
