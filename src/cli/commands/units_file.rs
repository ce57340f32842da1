//! A file of units, in any of the forms that it may have, read batch by batch.

use super::batch::{Batch, Batches};
use super::record::{Form, Problem, Record, encoded_meta};
use super::source::Records;
use crate::cli::progress::stop_flag;
use crate::cli::values::parse_duration;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// How a file of units is to be read.
#[derive(clap::Args)]
pub(super) struct UnitsArgs {
    /// Each line is the name of a unit, without data
    #[arg(long, conflicts_with = "null")]
    lines: bool,

    /// The same, with NUL characters instead of line ends, as from `find -print0`
    #[arg(short = '0', long)]
    null: bool,

    /// Begin with this line, as after a load that broke off
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,

    /// Units of higher priority are handed out first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    priority: Option<f64>,

    /// How long the units must wait; the Python server does not know it
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) delay: Option<Duration>,

    /// Units that are sent in one call
    #[arg(long, value_name = "N", default_value = "1000")]
    batch: NonZeroUsize,
}

/// A file of units that is being read.
pub(super) struct UnitsFile {
    records: Records,
    form: Form,
    shown: String,
    skip: u64,
    /// What follows each unit's data: its priority and delay, encoded.
    meta: Option<Vec<u8>>,
    /// The record that was read last.
    record: Record,
    batches: Batches,
    /// Why there is nothing more, to be told when what came before has been given.
    problem: Option<String>,
}

impl UnitsFile {
    /// Opens it; `-` is standard input. From now on the first SIGINT or SIGTERM ends the reading, and the second
    /// one the program.
    ///
    /// # Errors
    /// If it can't be read, with its name.
    pub(super) fn open(path: &Path, args: &UnitsArgs) -> Result<Self, String> {
        let shown = match path.to_str() {
            Some("-") => "standard input".to_owned(),
            _ => path.display().to_string(),
        };
        let (form, separator) = match (args.lines, args.null) {
            (true, _) => (Form::Line, b'\n'),
            (_, true) => (Form::Null, 0),
            _ => (Form::Json, b'\n'),
        };
        let skip = args.from_line - 1;
        let records = stop_flag().and_then(|stop| Records::open(path, separator, stop));
        Ok(Self {
            records: records.map_err(|error| format!("can't read {shown}: {error}"))?,
            form,
            shown,
            skip,
            meta: encoded_meta(args.priority, args.delay),
            record: Record::default(),
            batches: Batches::new(args.batch, skip),
            problem: None,
        })
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// What is wrong, and where. All before it has been given.
    pub(super) fn next_batch(&mut self) -> Result<Option<Batch>, String> {
        loop {
            if let Some(batch) = self.batches.next() {
                return Ok(Some(batch));
            }
            if let Some(problem) = &self.problem {
                return Err(problem.clone());
            }
            match self.read_record() {
                Ok(true) => {
                    let number = self.records.number;
                    let units = self.record.units();
                    units.for_each(|unit| self.batches.push(unit, number));
                    self.batches.end_record(number);
                }
                Ok(false) if self.batches.is_empty() => return Ok(None),
                Ok(false) => self.batches.close(),
                Err(problem) => {
                    let (word, number) = (self.form.word(), self.records.number);
                    self.problem = Some(format!("{}, {word} {number}{problem}", self.shown));
                    self.batches.close();
                }
            }
        }
    }

    /// Reads one more record. False at the end.
    fn read_record(&mut self) -> Result<bool, Problem> {
        loop {
            let record = self.records.next();
            let record = record.map_err(|error| Problem::new(error.to_string()))?;
            let Some((number, record)) = record else {
                return Ok(false);
            };
            let record = match (number, self.form) {
                // Some editors begin a file of text with it.
                (1, Form::Json | Form::Line) => {
                    record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record)
                }
                _ => record,
            };
            // Whoever skips lines has had those before loaded, and need not hear of them again.
            if number > self.skip {
                self.record.read(record, self.form, self.meta.as_deref())?;
                return Ok(true);
            }
        }
    }

    /// How many records are passed over at the beginning.
    pub(super) fn skipped(&self) -> u64 {
        self.skip
    }

    /// What the file is called, for people.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Which records a batch is from, for people.
    pub(super) fn place(&self, batch: &Batch) -> String {
        let (word, (first, last)) = (self.form.word(), batch.records());
        match first == last {
            true => format!("{}, {word} {first}", self.shown),
            false => format!("{}, {word}s {first} to {last}", self.shown),
        }
    }

    /// How far reading has come: bytes, and how many there are, if that is known.
    pub(super) fn position(&self) -> (u64, Option<u64>) {
        (self.records.bytes_read(), self.records.bytes_total)
    }
}
