//! Records of a units file: the units of one line, or the error in it.

use coordinated_client::Name;
use coordinated_client::cbor::json_text::ToCbor;
use coordinated_client::cbor::{Item, Writer};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::error::Category;
use std::fmt;
use std::time::Duration;

/// The form of a record.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// A line with a JSON object that maps names of units to their data.
    Json,
    /// A line with a name.
    Line,
    /// A name that ends with NUL.
    Null,
}

/// The units of a record, encoded one after the other, and where each ends.
#[derive(Default)]
pub(super) struct Record {
    encoded: Vec<u8>,
    ends: Vec<usize>,
}

impl Form {
    /// The word for a record in messages.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Json | Self::Line => "line",
            Self::Null => "name",
        }
    }
}

impl Record {
    /// Reads a record and drops the one before; `meta` is from [`encoded_meta`].
    ///
    /// # Errors
    /// The error in the record.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        form: Form,
        meta: Option<&[u8]>,
    ) -> Result<(), Problem> {
        self.encoded.clear();
        self.ends.clear();
        match form {
            Form::Json => self.json(bytes, meta),
            Form::Line => {
                self.name(bytes.strip_suffix(b"\r").unwrap_or(bytes), meta);
                Ok(())
            }
            Form::Null => {
                self.name(bytes, meta);
                Ok(())
            }
        }
    }

    /// The units, each encoded as add_work_units takes it.
    pub(super) fn units(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let spans = begins.zip(&self.ends);
        spans.map(|(begin, end)| self.encoded.get(begin..*end).unwrap_or_default())
    }

    fn json(&mut self, line: &[u8], meta: Option<&[u8]>) -> Result<(), Problem> {
        match line.trim_ascii_start().first() {
            None | Some(b'#') => return Ok(()),
            Some(b'{') => {}
            Some(_) => {
                let what = "expected a JSON object that maps names of units to their data (use --lines if \
                            each line is a name)";
                return Err(Problem::new(what));
            }
        }
        let mut json = serde_json::Deserializer::from_slice(line);
        let read = json.deserialize_map(Units { record: self, meta });
        read.and_then(|()| json.end()).map_err(Problem::in_json)
    }

    /// Appends a unit without data. An empty name is skipped.
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

/// The encoded options of a unit, if it has a priority, a delay or a group.
pub(super) fn encoded_meta(
    priority: Option<f64>,
    delay: Option<Duration>,
    group: Option<&str>,
) -> Option<Vec<u8>> {
    let delay = delay.map(|delay| delay.as_secs_f64());
    let options = [("priority", priority), ("delay", delay)];
    let given: Vec<_> = options
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let count = given.len() + usize::from(group.is_some());
    let mut encoded = Vec::new();
    let mut writer = Writer::new(&mut encoded);
    writer.map(count);
    for (name, value) in &given {
        writer.text(name);
        writer.float(*value);
    }
    if let Some(group) = group {
        writer.text("group");
        writer.text(group);
    }
    (count > 0).then_some(encoded)
}

fn begin_unit(out: &mut Vec<u8>, meta: Option<&[u8]>) {
    Writer::new(out).tuple(if meta.is_some() { 3 } else { 2 });
}

/// Reads a JSON object of units and appends them.
struct Units<'p> {
    record: &'p mut Record,
    meta: Option<&'p [u8]>,
}

impl<'de> Visitor<'de> for Units<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Self { record, meta } = self;
        loop {
            let begin = record.encoded.len();
            begin_unit(&mut record.encoded, meta);
            let key_at = record.encoded.len();
            if entries
                .next_key_seed(ToCbor(&mut record.encoded))?
                .is_none()
            {
                record.encoded.truncate(begin);
                return Ok(());
            }
            let data_at = record.encoded.len();
            entries.next_value_seed(ToCbor(&mut record.encoded))?;
            let (before, data) = record.encoded.split_at(data_at);
            let data = Item::from_checked(data);
            if data.is_null() {
                record.encoded.truncate(data_at);
                Writer::new(&mut record.encoded).map(0);
            } else if data.as_map().is_none() {
                let key = before.get(key_at..).unwrap_or_default();
                let key = Name::from_item(Item::from_checked(key));
                let key = key.map_or_else(String::new, |key| key.to_string());
                let found = data.kind_name();
                return Err(A::Error::custom(format!(
                    "the data of {key} must be an object, got {found}"
                )));
            }
            record.end_unit(meta);
        }
    }
}

/// An error in a record, and its column.
pub(super) struct Problem {
    column: Option<usize>,
    what: String,
}

impl Problem {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self {
            column: None,
            what: what.into(),
        }
    }

    fn in_json(error: serde_json::Error) -> Self {
        // serde_json counts lines from the start of the record, so its line number is of no use here.
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

/// The column comes before the text.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.what)
    }
}
