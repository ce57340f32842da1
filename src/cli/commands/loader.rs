//! Sends the units of a file to a daemon, with several batches in flight.

use super::batch::Batch;
use super::existing::in_words;
use super::output::note;
use super::units_file::UnitsFile;
use crate::cli::progress::bar_of;
use crate::limits::SLICE_ITEMS;
use coordinated_client::cbor::Value;
use coordinated_client::{Added, Coordinate, Error, IfExists, Name, Status};
use indicatif::{HumanCount, ProgressBar};
use std::collections::VecDeque;
use std::time::Instant;

/// Batches in flight: one that the daemon runs, the next one for it, and one that is being read from the file.
const DEPTH: usize = 3;
/// How often a batch is retried when the connection breaks; the client also waits before each retry.
const LOSSES_MAX: u32 = 5;

/// Sends units from a file to a daemon.
pub(super) struct Loader<'c> {
    client: &'c mut Coordinate,
    work_spec: &'c Name,
    file: UnitsFile,
    /// What happens to units that exist; `None` for a server that always resets them, and does not count.
    if_exists: Option<IfExists>,
    /// Batches that were sent, or are about to be, and have no answer yet.
    unanswered: VecDeque<Batch>,
    tally: Tally,
    progress: Progress,
}

/// How far the load has come.
#[derive(Default)]
struct Tally {
    /// What certainly became of units.
    added: Added,
    /// All records up to this one were added or skipped.
    through: u64,
    /// The first refused batch, and why. Batches sent after it may have been accepted.
    refused: Option<String>,
}

/// Why not all units were added, in one line with the number that were.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BrokenOff(String);

/// Why the stream of batches stopped.
enum Stop {
    /// An error in the units.
    Problem(String),
    /// An error of the connection.
    Connection(Error),
}

impl<'c> Loader<'c> {
    pub(super) fn new(
        client: &'c mut Coordinate,
        work_spec: &'c Name,
        file: UnitsFile,
        if_exists: Option<IfExists>,
    ) -> Self {
        Self {
            client,
            work_spec,
            unanswered: VecDeque::new(),
            tally: Tally {
                through: file.skipped(),
                ..Tally::default()
            },
            progress: Progress::start(&file),
            file,
            if_exists,
        }
    }

    /// Adds all units, and returns what became of them.
    ///
    /// # Errors
    /// If the file has an error, the server refuses units, or the connection breaks and it is not safe to continue.
    pub(super) fn run(mut self) -> Result<Added, BrokenOff> {
        loop {
            let stopped = match self.stream() {
                Ok(()) => return Ok(self.tally.added),
                Err(Stop::Connection(error @ Error::Lost { .. })) => self.recover(&error),
                Err(stop) => Err(stop),
            };
            stopped.map_err(|stop| self.broken_off(&stop))?;
        }
    }

    /// Reads, sends and receives answers until everything is added.
    fn stream(&mut self) -> Result<(), Stop> {
        let mut pipeline = self.client.connection().pipeline();
        let mut problem = None;
        let mut is_at_end = false;
        loop {
            if !is_at_end && self.tally.refused.is_none() && self.unanswered.len() < DEPTH {
                match self.file.next_batch() {
                    Ok(Some(batch)) => {
                        let request = batch.request(self.work_spec, self.if_exists);
                        let sent = pipeline.send(&request);
                        // A batch that certainly did not arrive is not in doubt.
                        if !matches!(sent, Err(Error::Unreachable { .. })) {
                            self.unanswered.push_back(batch);
                        }
                        sent.map_err(Stop::Connection)?;
                    }
                    Ok(None) => is_at_end = true,
                    Err(found) => (is_at_end, problem) = (true, Some(found)),
                }
            } else if let Some(answer) = pipeline.receive() {
                if let Some(batch) = self.unanswered.front() {
                    let added = read(answer, batch, self.if_exists);
                    self.tally.count(batch, added, &self.file)?;
                    self.unanswered.pop_front();
                }
                self.progress.show(self.tally.added, &self.file);
            } else {
                // A refused batch comes before a later error in the file.
                let problem = self.tally.refused.clone().or(problem);
                return problem.map_or(Ok(()), |problem| Err(Stop::Problem(problem)));
            }
        }
    }

    /// Continues after the connection broke, with the batches that may or may not have been added.
    fn recover(&mut self, error: &Error) -> Result<(), Stop> {
        self.progress
            .note(&format!("{error}; checking whether it is safe to continue"));
        let mut losses = 0;
        while let Some(batch) = self.unanswered.front() {
            // Sent again, it skips what was added before.
            let is_safe = self.if_exists == Some(IfExists::Skip)
                || may_be_sent_again(self.client, self.work_spec, batch)?;
            if !is_safe {
                return Err(Stop::Problem(format!(
                    "{}: the connection broke, and some of these units are no longer available, so it is \
                     unknown whether they were added now or before",
                    self.file.place(batch)
                )));
            }
            let request = batch.request(self.work_spec, self.if_exists);
            match self.client.connection().call(&request) {
                Err(Error::Lost { .. }) if losses < LOSSES_MAX => losses += 1,
                answer => {
                    let added = read(answer, batch, self.if_exists);
                    let added = added.map(|added| when_sent_again(added, batch));
                    self.tally.count(batch, added, &self.file)?;
                    self.unanswered.pop_front();
                    losses = 0;
                }
            }
        }
        Ok(())
    }

    fn broken_off(&self, stop: &Stop) -> BrokenOff {
        let problem = match stop {
            Stop::Problem(problem) => problem.clone(),
            Stop::Connection(error) => format!("{}: {error}", self.file.shown()),
        };
        let Tally { added, through, .. } = self.tally;
        let unknown: usize = self.unanswered.iter().map(|batch| batch.units).sum();
        let perhaps = match unknown {
            0 => String::new(),
            unknown => format!(" and possibly {unknown} more"),
        };
        let added = in_words(added);
        let next = through + 1;
        BrokenOff(format!(
            "{problem}; added {added}{perhaps}; continue with --from-line {next}"
        ))
    }
}

/// True if it is safe to resend a batch whose outcome is unknown. The daemon adds a small batch in one step: if one of
/// its units is missing, none were added. If all existing ones are still available, adding them again changes nothing.
fn may_be_sent_again(
    client: &mut Coordinate,
    work_spec: &Name,
    batch: &Batch,
) -> Result<bool, Stop> {
    let statuses = client
        .get_work_unit_status(work_spec, &batch.keys())
        .map_err(Stop::Connection)?;
    let is_one_step = batch.units <= SLICE_ITEMS;
    let none_were = is_one_step && statuses.iter().any(Option::is_none);
    let mut known = statuses.iter().flatten();
    Ok(none_were || known.all(|unit| unit.status == Status::Available))
}

/// What became of the units of a batch, by its answer.
fn read(
    answer: Result<Value, Error>,
    batch: &Batch,
    if_exists: Option<IfExists>,
) -> Result<Added, Error> {
    match if_exists {
        Some(_) => answer.and_then(Coordinate::added_counts),
        None => answer.and_then(Coordinate::added).map(|()| all_new(batch)),
    }
}

/// The same for one that was sent twice. If none of its units is new, they were most likely added by the first call, whose
/// answer was lost.
fn when_sent_again(added: Added, batch: &Batch) -> Added {
    match added.new {
        0 => all_new(batch),
        _ => added,
    }
}

fn all_new(batch: &Batch) -> Added {
    Added {
        new: batch.units as u64,
        ..Added::default()
    }
}

impl Tally {
    /// Counts a batch.
    fn count(
        &mut self,
        batch: &Batch,
        added: Result<Added, Error>,
        file: &UnitsFile,
    ) -> Result<(), Stop> {
        match added {
            Ok(added) => {
                self.added.new += added.new;
                self.added.reset += added.reset;
                self.added.skipped += added.skipped;
                if self.refused.is_none() {
                    self.through = batch.through;
                }
            }
            Err(error @ (Error::Failed { .. } | Error::Refused { .. })) => {
                // The Python server appends a traceback.
                let error = error.to_string();
                let what = error.lines().next().unwrap_or_default();
                let place = file.place(batch);
                self.refused.get_or_insert(format!("{place}: {what}"));
            }
            Err(error) => return Err(Stop::Connection(error)),
        }
        Ok(())
    }
}

/// A progress bar on standard error, if that is a terminal: how much of the file was read, and how many units were
/// added or skipped.
struct Progress {
    bar: ProgressBar,
    begin: Instant,
}

impl Progress {
    fn start(file: &UnitsFile) -> Self {
        let (_, total) = file.position();
        let bar = bar_of(match total {
            Some(_) => "{wide_bar} {percent}% {msg} {eta}",
            None => "{spinner} {msg} {elapsed}",
        });
        bar.set_length(total.unwrap_or(0));
        let begin = Instant::now();
        Self { bar, begin }
    }

    fn show(&self, added: Added, file: &UnitsFile) {
        if self.bar.is_hidden() {
            return;
        }
        let sent = added.new + added.reset + added.skipped;
        let seconds = self.begin.elapsed().as_secs_f64().max(0.001);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "for people"
        )]
        let rate = (sent as f64 / seconds) as u64;
        let (sent, rate) = (HumanCount(sent), HumanCount(rate));
        self.bar.set_message(format!("{sent} units, {rate}/s"));
        self.bar.set_position(file.position().0);
    }

    fn note(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
