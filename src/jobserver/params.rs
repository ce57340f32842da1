//! Reading parameters and options. Errors name the parameter or option.

use crate::coordinate::{Error, Name, Result, UnitStatus};
use crate::limits::{self, RequestLimits};
use crate::number::{as_float, as_integer_or_numeral, is_true};
use coordinated_client::cbor::item::Items;
use coordinated_client::cbor::{Item, Kind};
use std::borrow::Cow;
use std::time::Duration;

/// How many characters of a name messages show.
const NAME_CHARS_MAX: usize = 100;

/// The parameters of a call, in the order in which its method declares them.
#[derive(Debug)]
pub(super) struct Params<'a> {
    names: &'static [&'static str],
    values: Vec<Option<Item<'a>>>,
    limits: &'a RequestLimits,
}

impl<'a> Params<'a> {
    /// Assigns the given values to the parameters of a method: a list by position, a map by name. The first `required`
    /// parameters must be given.
    ///
    /// # Errors
    /// `Invalid`, with the parameters that the method has.
    pub(super) fn assign(
        names: &'static [&'static str],
        required: usize,
        given: Option<Item<'a>>,
        limits: &'a RequestLimits,
    ) -> Result<Self> {
        let Some(given) = given else {
            return Err(Error::Invalid(
                "params: missing; expected a list or a map".to_owned(),
            ));
        };
        let values = match (given.kind(), given.as_list()) {
            (_, Some(items)) => Self::by_position(names, items)?,
            (Kind::Map(_), None) => Self::by_name(names, given)?,
            _ => {
                let found = given.kind_name();
                return Err(Error::Invalid(format!(
                    "params: expected a list or a map, got {found}"
                )));
            }
        };
        for (name, value) in names.iter().zip(&values).take(required) {
            if value.is_none() {
                let expected = names.join(", ");
                return Err(Error::Invalid(format!(
                    "parameter {name}: missing; expected {expected}"
                )));
            }
        }
        Ok(Self {
            names,
            values,
            limits,
        })
    }

    fn by_position(
        names: &'static [&'static str],
        mut items: Items<'a>,
    ) -> Result<Vec<Option<Item<'a>>>> {
        let values = names.iter().map(|_| items.next()).collect();
        if items.next().is_some() {
            let (count, expected) = (names.len(), names.join(", "));
            return Err(Error::Invalid(format!(
                "too many parameters: expected {count} at most ({expected})"
            )));
        }
        Ok(values)
    }

    fn by_name(names: &'static [&'static str], map: Item<'a>) -> Result<Vec<Option<Item<'a>>>> {
        let mut values = vec![None; names.len()];
        for (name, value) in map.as_map().into_iter().flatten() {
            let key = name.as_string_bytes().unwrap_or(Cow::Borrowed(b"?"));
            match names
                .iter()
                .zip(&mut values)
                .find(|(name, _)| *name.as_bytes() == *key)
            {
                Some((_, slot)) => *slot = Some(value),
                None => {
                    let (key, expected) = (shown(name), names.join(", "));
                    return Err(Error::Invalid(format!(
                        "parameter {key}: unknown; expected {expected}"
                    )));
                }
            }
        }
        Ok(values)
    }

    /// The parameter of a name.
    pub(super) fn get(&self, name: &'static str) -> Param<'a> {
        let position = self.names.iter().position(|known| *known == name);
        let value = position.and_then(|position| self.values.get(position).copied().flatten());
        Param {
            label: Label("parameter", name),
            value,
            limits: self.limits,
        }
    }
}

/// The name of a parameter or an option in messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(&'static str, &'static str);

impl std::fmt::Display for Label {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.0, self.1)
    }
}

/// A parameter or an option: its name, and its value if it was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Param<'a> {
    label: Label,
    value: Option<Item<'a>>,
    limits: &'a RequestLimits,
}

impl<'a> Param<'a> {
    /// Its name in messages.
    pub(super) fn label(&self) -> Label {
        self.label
    }

    /// An error about its value.
    pub(super) fn error(&self, problem: impl std::fmt::Display) -> Error {
        Error::Invalid(format!("{}: {problem}", self.label))
    }

    fn mismatch(&self, expected: &str) -> Error {
        let found = self.value.map_or("nothing", Item::kind_name);
        self.error(format_args!("expected {expected}, got {found}"))
    }

    /// The value. Null counts as absent.
    pub(super) fn item(&self) -> Option<Item<'a>> {
        self.value.filter(|value| !value.is_null())
    }

    /// The value as a flag: false if it is absent.
    pub(super) fn is_true(&self) -> bool {
        self.item().is_some_and(is_true)
    }

    /// True if there is a value, which may be null.
    pub(super) fn is_given(&self) -> bool {
        self.value.is_some()
    }

    fn convert<T>(
        &self,
        expected: &str,
        convert: impl FnOnce(Item<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.item() {
            Some(value) => convert(value)
                .map(Some)
                .ok_or_else(|| self.mismatch(expected)),
            None => Ok(None),
        }
    }

    fn required<T>(&self, expected: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.mismatch(expected))
    }

    /// A name of at most `bytes_max` bytes.
    fn short_name(&self, bytes_max: usize) -> Result<Option<Name>> {
        let name = self.convert("a string", Name::from_item)?;
        match &name {
            Some(name) if name.bytes().len() > bytes_max => {
                let len = name.bytes().len();
                Err(self.error(format_args!(
                    "{len} bytes long, at most {bytes_max} are allowed"
                )))
            }
            _ => Ok(name),
        }
    }

    /// The name of a work spec, a worker or a lock owner, or a mode.
    pub(super) fn optional_name(&self) -> Result<Option<Name>> {
        self.short_name(self.limits.spec_name_bytes_max)
    }

    /// As [`Param::optional_name`], but required.
    pub(super) fn name(&self) -> Result<Name> {
        self.required("a string", self.optional_name()?)
    }

    /// A work unit's name. One that is too long for any unit is not an error: it finds none.
    pub(super) fn unit_name(&self) -> Result<Name> {
        self.required("a string", self.convert("a string", Name::from_item)?)
    }

    /// As [`Param::unit_name`], but optional.
    pub(super) fn optional_unit_name(&self) -> Result<Option<Name>> {
        self.convert("a string", Name::from_item)
    }

    /// A text of at most `bytes_max` bytes; an empty one counts as absent.
    pub(super) fn optional_text(&self, bytes_max: usize) -> Result<Option<String>> {
        let Some(name) = self.short_name(bytes_max)? else {
            return Ok(None);
        };
        match std::str::from_utf8(name.bytes()) {
            Ok(text) => Ok((!text.is_empty()).then(|| text.to_owned())),
            Err(_) => Err(self.error("expected a text in UTF-8")),
        }
    }

    /// A list or tuple.
    pub(super) fn list(&self) -> Result<Items<'a>> {
        self.required("a list", self.optional_list()?)
    }

    /// An optional list or tuple.
    pub(super) fn optional_list(&self) -> Result<Option<Items<'a>>> {
        let items = self.convert("a list", Item::as_list)?;
        let max = self.limits.list_items_max;
        match items {
            Some(items) if items.are_more_than(max) => {
                Err(self.error(format_args!("more than {max} items (limit max-items)")))
            }
            items => Ok(items),
        }
    }

    /// An optional list of strings.
    pub(super) fn optional_names(&self) -> Result<Option<Vec<Name>>> {
        let Some(items) = self.optional_list()? else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for (index, item) in items.enumerate() {
            let name = Name::from_item(item).ok_or_else(|| {
                let found = item.kind_name();
                self.error(format_args!("item {index}: expected a string, got {found}"))
            })?;
            names.push(name);
        }
        Ok(Some(names))
    }

    /// A map.
    pub(super) fn map(&self) -> Result<Item<'a>> {
        self.required("a map", self.optional_map()?)
    }

    /// An optional map.
    pub(super) fn optional_map(&self) -> Result<Option<Item<'a>>> {
        self.convert("a map", |value| value.as_map().map(|_| value))
    }

    /// An optional integer; numerals are accepted too.
    pub(super) fn optional_integer(&self) -> Result<Option<i64>> {
        self.convert("an integer of 64 bits", as_integer_or_numeral)
    }

    /// The highest number of items to list.
    pub(super) fn list_limit(&self) -> Result<usize> {
        Ok(limits::list_limit(self.optional_integer()?))
    }

    /// An optional number; NaN is an error.
    pub(super) fn optional_number(&self) -> Result<Option<f64>> {
        match self.convert("a number", as_float)? {
            Some(number) if number.is_nan() => Err(self.error("expected a number, got NaN")),
            number => Ok(number),
        }
    }

    /// How long a call waits: a number of seconds up to a minute; zero by default.
    pub(super) fn wait(&self, is_single: bool) -> Result<Duration> {
        let seconds = self.optional_number()?.unwrap_or(0.0);
        let max = limits::WAIT_MAX.as_secs_f64();
        if !(0.0..=max).contains(&seconds) {
            return Err(self.error(format_args!(
                "expected a number of seconds from 0 to {max}, got {seconds}"
            )));
        }
        if seconds > 0.0 && !is_single {
            return Err(self.error(
                "a list of requests can't wait; send this one as a single request, or without the option",
            ));
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    /// A number; NaN is an error.
    pub(super) fn number(&self) -> Result<f64> {
        self.required("a number", self.optional_number()?)
    }

    /// Optional statuses of work units, as clients number them: one or a list. BLOCKED and unknown numbers match no
    /// unit.
    pub(super) fn optional_statuses(&self) -> Result<Option<Vec<UnitStatus>>> {
        let Some(value) = self.item() else {
            return Ok(None);
        };
        let expected = "a status number or a list of them";
        let mut statuses = Vec::new();
        let mut add = |item: Item<'_>| {
            let number = as_integer_or_numeral(item).ok_or_else(|| self.mismatch(expected))?;
            for status in statuses_of(number) {
                // Without duplicates, since each unit is compared with all of them.
                if !statuses.contains(status) {
                    statuses.push(*status);
                }
            }
            Ok::<(), Error>(())
        };
        match value.as_list() {
            Some(_) => self.list()?.try_for_each(&mut add)?,
            None => add(value)?,
        }
        Ok(Some(statuses))
    }
}

/// The statuses that a client means by a number. To clients, delayed units are available.
fn statuses_of(number: i64) -> &'static [UnitStatus] {
    match number {
        1 => &[UnitStatus::Available, UnitStatus::Delayed],
        3 => &[UnitStatus::Pending],
        4 => &[UnitStatus::Finished],
        5 => &[UnitStatus::Failed],
        _ => &[],
    }
}

/// A map of options; null counts as an empty one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'a> {
    map: Option<Item<'a>>,
    limits: &'a RequestLimits,
}

impl<'a> Options<'a> {
    /// The options in a parameter.
    pub(super) fn read(param: Param<'a>) -> Result<Self> {
        Ok(Self {
            map: param.optional_map()?,
            limits: param.limits,
        })
    }

    /// The options in a map.
    pub(super) fn from_map(map: Item<'a>, limits: &'a RequestLimits) -> Self {
        Self {
            map: Some(map),
            limits,
        }
    }

    /// The option of a name.
    pub(super) fn get(&self, name: &'static str) -> Param<'a> {
        let value = self.map.and_then(|map| map.get(name));
        Param {
            label: Label("option", name),
            value,
            limits: self.limits,
        }
    }
}

/// A name as logs and messages show it: its first characters, with control characters escaped. For an item that is not
/// a string, only the kind of it.
pub(super) fn shown(name: Item<'_>) -> String {
    match name.as_string_bytes() {
        Some(bytes) => bytes
            .escape_ascii()
            .take(NAME_CHARS_MAX)
            .map(char::from)
            .collect(),
        None => name.kind_name().to_owned(),
    }
}
