//! Units to be added, in the forms in which clients write them.

use super::{Error, Name, Result};
use crate::limits::{self, RequestLimits};
use crate::number;
use coordinated_client::cbor::{EMPTY_MAP, Item};
use std::time::Duration;

/// What adding does to a unit that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// It gets the new data and priority, and becomes available again.
    #[default]
    Reset,
    /// It stays as it is.
    Skip,
    /// Nothing is added.
    Refuse,
}

impl IfExists {
    /// The rule that clients name so.
    #[must_use]
    pub fn from_wire(name: &[u8]) -> Option<Self> {
        match name {
            b"reset" => Some(Self::Reset),
            b"skip" => Some(Self::Skip),
            b"error" => Some(Self::Refuse),
            _ => None,
        }
    }
}

/// What became of the units of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// How many did not exist.
    pub new: u64,
    /// How many existed, and became available again.
    pub reset: u64,
    /// How many existed, and stayed as they were.
    pub skipped: u64,
}

impl std::ops::AddAssign for Added {
    fn add_assign(&mut self, more: Self) {
        self.new += more.new;
        self.reset += more.reset;
        self.skipped += more.skipped;
    }
}

/// How far an upload has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// How many of its lines are done.
    pub lines: u64,
    /// What became of their units.
    pub added: Added,
}

/// A unit to be added.
#[derive(Clone, Debug)]
pub struct NewUnit<'a> {
    /// Its name.
    pub name: Name,
    /// Its data dictionary.
    pub data: Item<'a>,
    /// Its priority, if one is stated.
    pub priority: Option<f64>,
    /// How long it must wait, if that is stated.
    pub delay: Option<Duration>,
    /// Its group, if one is stated.
    pub group: Option<String>,
}

impl<'a> NewUnit<'a> {
    /// A unit of which only the name and the data are stated.
    ///
    /// # Errors
    /// `Invalid` if the name is no string or too long, or the data are no map.
    pub fn from_name_and_data(
        name: Item<'a>,
        data: Option<Item<'a>>,
        limits: &RequestLimits,
    ) -> Result<Self> {
        let found = name.kind_name();
        let name = Name::from_item(name)
            .ok_or_else(|| Error::Invalid(format!("key: expected a string, got {found}")))?;
        let data = match data {
            Some(data) if data.as_map().is_some() => data,
            Some(data) if !data.is_null() => {
                let found = data.kind_name();
                return Err(Error::Invalid(format!(
                    "data of {name}: expected a map, got {found}"
                )));
            }
            _ => Item::from_checked(EMPTY_MAP),
        };
        let unit = Self {
            name,
            data,
            priority: None,
            delay: None,
            group: None,
        };
        unit.check_name(limits)?;
        Ok(unit)
    }

    /// # Errors
    /// `Invalid` if the name is too long.
    pub(super) fn check_name(&self, limits: &RequestLimits) -> Result<()> {
        let (name, bytes_max) = (&self.name, limits.unit_name_bytes_max);
        match name.bytes().len() {
            len if len > bytes_max => Err(Error::Invalid(format!(
                "key {name}: {len} bytes long, at most {bytes_max} are allowed"
            ))),
            _ => Ok(()),
        }
    }

    /// Reads one item of `add_work_units`, or of a finished unit's `output`: a key, or a list or
    /// tuple of key, data, meta and priority, of which the last two may be left out.
    ///
    /// # Errors
    /// `Invalid`, with what is wrong.
    pub fn from_item(item: Item<'a>, limits: &RequestLimits) -> Result<Self> {
        let Some(mut fields) = item.as_list() else {
            return match Name::from_item(item) {
                Some(_) => Self::from_name_and_data(item, None, limits),
                None => Err(Error::Invalid(format!(
                    "expected a key, or a list of key, data, meta and priority, got {}",
                    item.kind_name()
                ))),
            };
        };
        let (Some(name), Some(data)) = (fields.next(), fields.next()) else {
            return Err(Error::Invalid(
                "expected a list of at least a key and its data".to_owned(),
            ));
        };
        let mut unit = Self::from_name_and_data(name, Some(data), limits)?;
        if let Some(meta) = fields.next().filter(|meta| !meta.is_null()) {
            unit.read_meta(meta)?;
        }
        if let Some(priority) = fields.next().filter(|priority| !priority.is_null()) {
            unit.priority = Some(unit.number("priority", priority)?);
        }
        if fields.next().is_some() {
            return Err(Error::Invalid(format!(
                "{}: expected at most a key, data, meta and priority",
                unit.name
            )));
        }
        Ok(unit)
    }

    /// Reads a line of a file of units: one of [`Self::from_item`], or a map with keys and their data.
    ///
    /// # Errors
    /// `Invalid`, with what is wrong.
    pub fn from_line(line: Item<'a>, limits: &RequestLimits) -> Result<Vec<Self>> {
        match line.as_map() {
            Some(units) => units
                .map(|(key, data)| Self::from_name_and_data(key, Some(data), limits))
                .collect(),
            None => Ok(vec![Self::from_item(line, limits)?]),
        }
    }

    fn read_meta(&mut self, meta: Item<'_>) -> Result<()> {
        if meta.as_map().is_none() {
            let (name, found) = (&self.name, meta.kind_name());
            return Err(Error::Invalid(format!(
                "meta of {name}: expected a map, got {found}"
            )));
        }
        if let Some(priority) = meta.get_some("priority") {
            self.priority = Some(self.number("priority", priority)?);
        }
        if let Some(delay) = meta.get_some("delay") {
            self.delay = Some(number::duration_from_seconds(self.number("delay", delay)?));
        }
        if let Some(group) = meta.get_some("group") {
            self.group = Some(self.text("group", group)?).filter(|group| !group.is_empty());
        }
        Ok(())
    }

    fn text(&self, what: &str, value: Item<'_>) -> Result<String> {
        let (name, found) = (&self.name, value.kind_name());
        let Some(bytes) = value.as_string_bytes() else {
            return Err(Error::Invalid(format!(
                "{what} of {name}: expected a text string, got {found}"
            )));
        };
        if bytes.len() > limits::GROUP_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "{what} of {name}: {} bytes long, at most {} are allowed",
                bytes.len(),
                limits::GROUP_BYTES_MAX
            )));
        }
        String::from_utf8(bytes.into_owned())
            .map_err(|_| Error::Invalid(format!("{what} of {name}: not UTF-8")))
    }

    fn number(&self, what: &str, value: Item<'_>) -> Result<f64> {
        match number::as_float(value) {
            Some(number) if number.is_nan() => Err(Error::Invalid(format!(
                "{what} of {}: NaN is no {what}",
                self.name
            ))),
            Some(number) => Ok(number),
            None => {
                let (name, found) = (&self.name, value.kind_name());
                Err(Error::Invalid(format!(
                    "{what} of {name}: expected a number, got {found}"
                )))
            }
        }
    }
}
