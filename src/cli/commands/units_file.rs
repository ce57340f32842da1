//! Reading a units file, in any of its formats, batch by batch.

use super::batch::{Batch, Batches};
use super::record::{Form, Problem, Record, encoded_meta};
use super::source::Records;
use crate::cli::progress::stop_flag;
use crate::cli::values::parse_duration;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The flags for reading a units file.
#[derive(clap::Args)]
pub(super) struct UnitsArgs {
    /// Each line is the name of a unit without data
    #[arg(long, conflicts_with = "null")]
    lines: bool,

    /// The same with NUL instead of line ends, as from `find -print0`
    #[arg(short = '0', long)]
    null: bool,

    /// Start at this line, to continue an interrupted load
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,

    /// Units of higher priority are handed out first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    priority: Option<f64>,

    /// Time before the units can be handed out; the Python server ignores it
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(super) delay: Option<Duration>,

    /// The group of the units, for a work spec with fair or max_running_per_group
    #[arg(long, value_name = "TEXT")]
    pub(super) group: Option<String>,

    /// Number of units to send in one call
    #[arg(long, value_name = "N", default_value = "1000")]
    batch: NonZeroUsize,
}

/// A units file that is being read.
pub(super) struct UnitsFile {
    records: Records,
    form: Form,
    shown: String,
    skip: u64,
    /// The encoded priority, delay and group, which follow each unit's data.
    meta: Option<Vec<u8>>,
    /// The last record read.
    record: Record,
    batches: Batches,
    /// An error in the file, which is returned after the batches before it.
    problem: Option<String>,
}

impl UnitsFile {
    /// Opens the file; `-` is standard input. From now on the first SIGINT or SIGTERM stops reading, and the second
    /// one ends the program.
    ///
    /// # Errors
    /// If it can't be opened, with its name.
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
            meta: encoded_meta(args.priority, args.delay, args.group.as_deref()),
            record: Record::default(),
            batches: Batches::new(args.batch, skip),
            problem: None,
        })
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// The error and its place, after all batches before it.
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
                // Some editors write it at the beginning of a text file.
                (1, Form::Json | Form::Line) => {
                    record.strip_prefix(BYTE_ORDER_MARK).unwrap_or(record)
                }
                _ => record,
            };
            // Skipped lines were loaded before; errors in them don't matter now.
            if number > self.skip {
                self.record.read(record, self.form, self.meta.as_deref())?;
                return Ok(true);
            }
        }
    }

    /// The number of records skipped at the beginning.
    pub(super) fn skipped(&self) -> u64 {
        self.skip
    }

    /// The name of the file for messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// The records of a batch, for messages.
    pub(super) fn place(&self, batch: &Batch) -> String {
        let (word, (first, last)) = (self.form.word(), batch.records());
        match first == last {
            true => format!("{}, {word} {first}", self.shown),
            false => format!("{}, {word}s {first} to {last}", self.shown),
        }
    }

    /// The bytes read so far, and the total if known.
    pub(super) fn position(&self) -> (u64, Option<u64>) {
        (self.records.bytes_read(), self.records.bytes_total)
    }
}
