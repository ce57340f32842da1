//! Units in a file, in any of the forms that it may have, made into batches to be sent.

use super::source::Records;
use crate::cbor::json_text::ToCbor;
use crate::cbor::{Item, Writer};
use crate::cli::progress::stop_flag;
use crate::cli::values::parse_duration;
use crate::client::{Name, Request};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use std::collections::VecDeque;
use std::fmt;
use std::mem::take;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

/// A batch is sent when it has so many bytes, also if it has few units: some are held at once.
const BATCH_BYTES: usize = 1 << 20;

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

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A line with a JSON object, with names of units as keys and their data as values.
    Json,
    /// A line with a name.
    Line,
    /// A name, ended by a NUL.
    Null,
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
    parsed: Parsed,
    batches: Batches,
    /// Why there is nothing more, to be told when what came before has been given.
    problem: Option<String>,
}

/// The units of a record, one encoded behind the other, and where each ends.
#[derive(Default)]
struct Parsed {
    encoded: Vec<u8>,
    ends: Vec<usize>,
}

/// Units that are put together to be added.
struct Batches {
    units_max: usize,
    filling: Batch,
    full: VecDeque<Batch>,
}

/// Units to be added in one call.
#[derive(Default)]
pub(super) struct Batch {
    encoded: Vec<u8>,
    pub(super) units: usize,
    /// The records that have units in it.
    first: u64,
    last: u64,
    /// All records up to this one are complete when it is added.
    pub(super) through: u64,
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
            parsed: Parsed::default(),
            batches: Batches {
                units_max: args.batch.get(),
                filling: Batch {
                    through: skip,
                    ..Batch::default()
                },
                full: VecDeque::new(),
            },
            problem: None,
        })
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// What is wrong, and where. All before it has been given.
    pub(super) fn next_batch(&mut self) -> Result<Option<Batch>, String> {
        loop {
            if let Some(batch) = self.batches.full.pop_front() {
                return Ok(Some(batch));
            }
            if let Some(problem) = &self.problem {
                return Err(problem.clone());
            }
            match self.read_record() {
                Ok(true) => self.fill(),
                Ok(false) if self.batches.filling.units == 0 => return Ok(None),
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
            let record = self.records.next().map_err(|error| Problem {
                column: None,
                what: error.to_string(),
            })?;
            let Some((number, record)) = record else {
                return Ok(false);
            };
            // Whoever skips lines has had those before loaded, and need not hear of them again.
            if number > self.skip {
                self.parsed.read(record, self.form, self.meta.as_deref())?;
                return Ok(true);
            }
        }
    }

    /// Puts the units of the record that was read last into batches.
    fn fill(&mut self) {
        let record = self.records.number;
        let mut begin = 0;
        for &end in &self.parsed.ends {
            let unit = self.parsed.encoded.get(begin..end).unwrap_or_default();
            self.batches.push(unit, record);
            begin = end;
        }
        self.batches.end_record(record);
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
        let (word, Batch { first, last, .. }) = (self.form.word(), batch);
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

impl Batches {
    /// Takes one more unit.
    fn push(&mut self, unit: &[u8], record: u64) {
        if self.is_full() || self.filling.encoded.len() + unit.len() > BATCH_BYTES {
            self.close();
        }
        let batch = &mut self.filling;
        if batch.units == 0 {
            batch.first = record;
        }
        batch.encoded.extend_from_slice(unit);
        batch.units += 1;
        batch.last = record;
    }

    /// Is told that a record has no more units.
    fn end_record(&mut self, record: u64) {
        self.filling.through = record;
        if self.is_full() {
            self.close();
        }
    }

    fn is_full(&self) -> bool {
        self.filling.units >= self.units_max
    }

    /// Takes no more units into the last batch.
    fn close(&mut self) {
        if self.filling.units > 0 {
            let through = self.filling.through;
            self.full.push_back(take(&mut self.filling));
            self.filling.through = through;
        }
    }
}

impl Form {
    /// What a record is called.
    fn word(self) -> &'static str {
        match self {
            Self::Json | Self::Line => "line",
            Self::Null => "name",
        }
    }
}

impl Parsed {
    /// Reads a record.
    fn read(&mut self, record: &[u8], form: Form, meta: Option<&[u8]>) -> Result<(), Problem> {
        self.encoded.clear();
        self.ends.clear();
        match form {
            Form::Json => {
                let record = record.trim_ascii();
                if record.is_empty() || record.starts_with(b"#") {
                    return Ok(());
                }
                let mut json = serde_json::Deserializer::from_slice(record);
                let read = json.deserialize_any(Units { parsed: self, meta });
                read.and_then(|()| json.end()).map_err(Problem::in_json)
            }
            Form::Line => {
                self.name(record.strip_suffix(b"\r").unwrap_or(record), meta);
                Ok(())
            }
            Form::Null => {
                self.name(record, meta);
                Ok(())
            }
        }
    }

    /// Puts a unit without data behind the others; no name is no unit.
    fn name(&mut self, name: &[u8], meta: Option<&[u8]>) {
        if name.is_empty() {
            return;
        }
        begin_unit(&mut self.encoded, meta);
        let mut writer = Writer::new(&mut self.encoded);
        match std::str::from_utf8(name) {
            Ok(text) => writer.text(text),
            Err(_) => writer.bytes(name),
        }
        writer.map(0);
        self.end_unit(meta);
    }

    fn end_unit(&mut self, meta: Option<&[u8]>) {
        self.encoded.extend_from_slice(meta.unwrap_or_default());
        self.ends.push(self.encoded.len());
    }
}

/// The priority and the delay as a unit has them, if there is one.
fn encoded_meta(priority: Option<f64>, delay: Option<Duration>) -> Option<Vec<u8>> {
    let delay = delay.map(|delay| delay.as_secs_f64());
    let options = [("priority", priority), ("delay", delay)];
    let given: Vec<_> = options
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let mut encoded = Vec::new();
    let mut writer = Writer::new(&mut encoded);
    writer.map(given.len());
    for (name, value) in &given {
        writer.text(name);
        writer.float(*value);
    }
    (!given.is_empty()).then_some(encoded)
}

fn begin_unit(out: &mut Vec<u8>, meta: Option<&[u8]>) {
    Writer::new(out).tuple(if meta.is_some() { 3 } else { 2 });
}

/// Reads a JSON object of units, and puts them behind the others.
struct Units<'p> {
    parsed: &'p mut Parsed,
    meta: Option<&'p [u8]>,
}

impl<'de> Visitor<'de> for Units<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with names of units and their data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { parsed, meta } = self;
        loop {
            let begin = parsed.encoded.len();
            begin_unit(&mut parsed.encoded, meta);
            let key_at = parsed.encoded.len();
            if entries
                .next_key_seed(ToCbor(&mut parsed.encoded))?
                .is_none()
            {
                parsed.encoded.truncate(begin);
                return Ok(());
            }
            let data_at = parsed.encoded.len();
            entries.next_value_seed(ToCbor(&mut parsed.encoded))?;
            let (before, data) = parsed.encoded.split_at(data_at);
            let data = Item::from_checked(data);
            if data.is_null() {
                parsed.encoded.truncate(data_at);
                Writer::new(&mut parsed.encoded).map(0);
            } else if data.as_map().is_none() {
                let key = before.get(key_at..).unwrap_or_default();
                let key = Name::from_item(Item::from_checked(key));
                let key = key.map_or_else(String::new, |key| key.to_string());
                let found = data.kind_name();
                return Err(A::Error::custom(format!(
                    "the data of {key} must be an object, and is {found}"
                )));
            }
            parsed.end_unit(meta);
        }
    }
}

impl Batch {
    /// The call that adds it.
    pub(super) fn request(&self, work_spec: &Name) -> Request {
        Request::with_params("add_work_units", |writer| {
            writer.array(2);
            work_spec.write(writer);
            writer.array(self.units);
            writer.encoded(&self.encoded);
        })
    }

    /// The names of its units.
    pub(super) fn keys(&self) -> Vec<Name> {
        let mut list = Vec::with_capacity(self.encoded.len() + 9);
        Writer::new(&mut list).array(self.units);
        list.extend_from_slice(&self.encoded);
        let units = Item::from_checked(&list).as_list().into_iter().flatten();
        let keys = units.filter_map(|unit| Name::from_item(unit.as_list()?.next()?));
        keys.collect()
    }
}

/// What is wrong with a record, and where in it.
struct Problem {
    column: Option<usize>,
    what: String,
}

impl Problem {
    fn in_json(error: serde_json::Error) -> Self {
        // Its place is the line's alone: it knows no other lines.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let what = error.to_string();
        let what = what.strip_suffix(&place).unwrap_or(&what);
        Self {
            column: (error.column() > 0).then_some(error.column()),
            what: match error.classify() {
                Category::Data => what.to_owned(),
                _ => format!("not JSON: {what}"),
            },
        }
    }
}

/// In front of the text, where it is.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.what)
    }
}
