//! Sends the units of a file to a daemon, with some batches on their way at a time.

use super::batch::Batch;
use super::names::units;
use super::output::note;
use super::units_file::UnitsFile;
use crate::cli::progress::bar_of;
use crate::limits::SLICE_ITEMS;
use coordinated_client::cbor::Value;
use coordinated_client::{Coordinate, Error, Name, Status};
use indicatif::{HumanCount, ProgressBar};
use std::collections::VecDeque;
use std::time::Instant;

/// Batches that have been sent and not been answered: the next one is there when the daemon has done one, and
/// one more is being read.
const DEPTH: usize = 3;
/// How often one batch is tried again when the connection breaks; each time it is waited for a while, too.
const LOSSES_MAX: u32 = 5;

/// Units on their way from a file to a daemon.
pub(super) struct Loader<'c> {
    client: &'c mut Coordinate,
    work_spec: &'c Name,
    file: UnitsFile,
    /// What was sent, or is about to be, and has no answer.
    unanswered: VecDeque<Batch>,
    tally: Tally,
    progress: Progress,
}

/// How far it got.
#[derive(Default)]
struct Tally {
    /// Units that are certainly there.
    added: u64,
    /// All of the records up to this one are.
    through: u64,
    /// The first batch that the server said no to, and why. Those that were sent behind it may well be taken.
    refused: Option<String>,
}

/// Why not all units were added, in one line with how far it got.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BrokenOff(String);

/// Why no more can be sent in a stream.
enum Stop {
    /// Something is wrong with the units.
    Problem(String),
    /// Something is wrong with the connection.
    Connection(Error),
}

impl<'c> Loader<'c> {
    pub(super) fn new(client: &'c mut Coordinate, work_spec: &'c Name, file: UnitsFile) -> Self {
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
        }
    }

    /// Adds all units, and gives how many they are.
    ///
    /// # Errors
    /// If something is wrong in the file, the server says no, or the connection breaks where going on could do
    /// harm.
    pub(super) fn run(mut self) -> Result<u64, BrokenOff> {
        loop {
            let stopped = match self.stream() {
                Ok(()) => return Ok(self.tally.added),
                Err(Stop::Connection(error @ Error::Lost { .. })) => self.recover(&error),
                Err(stop) => Err(stop),
            };
            stopped.map_err(|stop| self.broken_off(&stop))?;
        }
    }

    /// Reads, sends and waits for answers until all is done.
    fn stream(&mut self) -> Result<(), Stop> {
        let mut pipeline = self.client.connection().pipeline();
        let mut problem = None;
        let mut is_at_end = false;
        loop {
            if !is_at_end && self.tally.refused.is_none() && self.unanswered.len() < DEPTH {
                match self.file.next_batch() {
                    Ok(Some(batch)) => {
                        let request = batch.request(self.work_spec);
                        let sent = pipeline.send(&request);
                        // One that certainly did not arrive is not in doubt.
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
                    self.tally.count(batch, answer, &self.file)?;
                    self.unanswered.pop_front();
                }
                self.progress.show(self.tally.added, &self.file);
            } else {
                // What was refused stands before what is wrong further on.
                let problem = self.tally.refused.clone().or(problem);
                return problem.map_or(Ok(()), |problem| Err(Stop::Problem(problem)));
            }
        }
    }

    /// Goes on after the connection broke, with the batches of which nobody knows whether they were added.
    fn recover(&mut self, error: &Error) -> Result<(), Stop> {
        self.progress
            .note(&format!("{error}; looking whether to go on"));
        let mut losses = 0;
        while let Some(batch) = self.unanswered.front() {
            if !may_be_sent_again(self.client, self.work_spec, batch)? {
                return Err(Stop::Problem(format!(
                    "{}: the connection broke, and some of these units are no longer available, so that \
                     nobody knows whether they were added just now or are from before",
                    self.file.place(batch)
                )));
            }
            match self
                .client
                .connection()
                .call(&batch.request(self.work_spec))
            {
                Err(Error::Lost { .. }) if losses < LOSSES_MAX => losses += 1,
                answer => {
                    self.tally.count(batch, answer, &self.file)?;
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
            unknown => format!(", and perhaps {unknown} more"),
        };
        let added = units(added);
        let next = through + 1;
        BrokenOff(format!(
            "{problem}; added {added}{perhaps}: --from-line {next} goes on from there"
        ))
    }
}

/// True if it does no harm to send a batch whose fate is not known. Of one that is added in one step, all or none
/// of its units were added: if one is missing, none were. If those that are there were not handed out since, they are
/// only made anew.
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

impl Tally {
    /// Counts a batch, by the answer to it.
    fn count(
        &mut self,
        batch: &Batch,
        answer: Result<Value, Error>,
        file: &UnitsFile,
    ) -> Result<(), Stop> {
        match answer.and_then(Coordinate::added) {
            Ok(()) => {
                self.added += batch.units as u64;
                if self.refused.is_none() {
                    self.through = batch.through;
                }
            }
            Err(error @ (Error::Failed { .. } | Error::Refused { .. })) => {
                // The Python server sends a traceback, behind what it is.
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

/// A bar on standard error, if that is a terminal: how much of the file is read, and how many units were added.
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

    fn show(&self, added: u64, file: &UnitsFile) {
        if self.bar.is_hidden() {
            return;
        }
        let seconds = self.begin.elapsed().as_secs_f64().max(0.001);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "for people"
        )]
        let rate = (added as f64 / seconds) as u64;
        let (added, rate) = (HumanCount(added), HumanCount(rate));
        self.bar.set_message(format!("{added} units, {rate}/s"));
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
