//! Work specs from YAML or JSON, with the line of each entry for error messages.

use crate::coordinate::Meta;
use coordinated_client::Name;
use coordinated_client::cbor::{Item, Value, json};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_saphyr::{Location, Spanned};
use std::fmt;
use std::path::Path;

/// The keys of a work spec for workers, in addition to those of the scheduler ([`Meta::KEYS`]). `then_preempts` is
/// for the Python server.
const KEYS_OF_WORKERS: &[&str] = &[
    "command",
    "config",
    "module",
    "run_function",
    "run_params",
    "terminate_function",
    "then_preempts",
];

/// The name of a YAML file, for messages.
pub(super) struct SpecFile {
    shown: String,
}

/// A value and its line.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) content: Content,
}

/// A value. Only maps have lines for their entries.
#[derive(Clone)]
pub(super) enum Content {
    /// In the order of the file, without duplicate keys.
    Map(Vec<(Key, Node)>),
    /// Anything else.
    Other(Json),
}

/// The key of an entry and its line.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) line: u64,
    pub(super) text: String,
}

/// A work spec that a server accepts.
pub(super) struct CheckedSpec {
    pub(super) name: Name,
    pub(super) definition: Value,
    /// The line and the value of `then`, the work spec that gets the output.
    pub(super) then: Option<(u64, String)>,
    /// Warnings, with their places.
    pub(super) warnings: Vec<String>,
}

impl SpecFile {
    /// Arguments instead of a file; `shown` is their name in messages.
    pub(super) fn of_arguments(shown: &str) -> Self {
        let shown = shown.to_owned();
        Self { shown }
    }

    /// Reads a file and parses it.
    ///
    /// # Errors
    /// With the file and the line.
    pub(super) fn read(path: &Path) -> Result<(Self, Node), String> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("can't read {shown}: {error}"))?;
        let file = Self { shown };
        let root = parse(&text).map_err(|error| file.unreadable(&error))?;
        Ok((file, root))
    }

    /// The message for invalid YAML.
    fn unreadable(&self, error: &serde_saphyr::Error) -> String {
        let place = error.location().unwrap_or(Location::UNKNOWN);
        let what = match error {
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("duplicate key {key:?}")
            }
            other => other.to_string().replace('\n', " "),
        };
        let suffix = format!(" at line {}, column {}", place.line(), place.column());
        let what = what.strip_suffix(&suffix).unwrap_or(&what);
        self.at(place.line(), &format!("invalid YAML: {what}"))
    }

    /// Reads a file with one work spec.
    ///
    /// # Errors
    /// As [`SpecFile::read`] and [`SpecFile::check`]; also if it is not a map or has no name.
    pub(super) fn read_spec(path: &Path) -> Result<(Self, CheckedSpec), String> {
        let (file, root) = Self::read(path)?;
        let entries = file.spec_of(root)?;
        let spec = file.check(file.name_of(&entries)?, entries)?;
        Ok((file, spec))
    }

    /// Reads only the name from a file with one work spec, and does not check the rest.
    ///
    /// # Errors
    /// As [`SpecFile::read`]; also if it is not a map or has no name.
    pub(super) fn read_name(path: &Path) -> Result<Name, String> {
        let (file, root) = Self::read(path)?;
        let entries = file.spec_of(root)?;
        file.name_of(&entries).map(Name::from_text)
    }

    fn spec_of(&self, root: Node) -> Result<Vec<(Key, Node)>, String> {
        match root.content {
            Content::Map(entries) => Ok(entries),
            Content::Other(_) => Err(self.at(root.line, "expected a work spec, which is a map")),
        }
    }

    fn name_of(&self, entries: &[(Key, Node)]) -> Result<String, String> {
        let name = entries.iter().find(|(key, _)| key.text == "name");
        match name.map(|(key, node)| (key.line, &node.content)) {
            Some((_, Content::Other(Json::String(name)))) if !name.is_empty() => Ok(name.clone()),
            Some((line, _)) => Err(self.at(line, "the name must be a non-empty string")),
            None => Err(self.at(0, "the work spec has no name")),
        }
    }

    /// Checks a work spec and gives it a name.
    ///
    /// # Errors
    /// With the place of the first value that servers would refuse.
    pub(super) fn check(
        &self,
        name: String,
        entries: Vec<(Key, Node)>,
    ) -> Result<CheckedSpec, String> {
        let (mut then, mut warnings) = (None, Vec::new());
        let has_schedule = entries.iter().any(|(key, _)| key.text == "schedule");
        let mut definition = vec![(in_spec("name"), in_spec(&name))];
        for (key, node) in entries {
            let known = Meta::KEYS.iter().chain(KEYS_OF_WORKERS).copied();
            if !known.clone().any(|known| known == key.text) {
                let unknown = unknown_key(&key.text, known);
                warnings.push(self.at(key.line, &format!("{name}: {unknown}")));
            }
            if let ("then", Content::Other(Json::String(successor))) =
                (key.text.as_str(), &node.content)
                && !successor.is_empty()
            {
                then = Some((key.line, successor.clone()));
            }
            let wrong = |what: String| self.at(key.line, &format!("{name}: {what}"));
            let value = json::from_json(&node.into_json())
                .map_err(|error| wrong(format!("{}: {error}", key.text)))?;
            // Checked as text, as it is in the file, so that the message shows it in that form.
            let mut alone = vec![(key.text.as_str(), value.clone())];
            if has_schedule && Meta::KEYS_WITH_SCHEDULE.contains(&key.text.as_str()) {
                alone.push(("schedule", "@daily".into()));
            }
            let alone = Value::map(alone).to_bytes();
            Meta::from_definition(Item::from_checked(&alone))
                .map_err(|error| wrong(error.to_string()))?;
            if key.text != "name" {
                definition.push((in_spec(&key.text), encoded_as_python(value)));
            }
        }
        Ok(CheckedSpec {
            name: Name::from_text(name),
            definition: Value::Map(definition),
            then,
            warnings,
        })
    }

    /// A message with the file and the line; line 0 is the whole file.
    pub(super) fn at(&self, line: u64, what: &str) -> String {
        match line {
            0 => format!("{}: {what}", self.shown),
            line => format!("{}, line {line}: {what}", self.shown),
        }
    }
}

impl CheckedSpec {
    /// The definition with the value of one key replaced.
    pub(super) fn with(&self, key: &str, value: Value) -> Value {
        let entries = self.definition.as_map().unwrap_or_default().iter();
        let others = entries.filter(|(known, _)| *known != in_spec(key)).cloned();
        Value::Map(others.chain([(in_spec(key), value)]).collect())
    }
}

/// The message for an unknown key, with the known key that may be meant.
pub(super) fn unknown_key<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> String {
    let advice = did_you_mean(nearest(key, known));
    format!("unknown key {key:?}{advice}")
}

/// The end of a message about an unknown word.
pub(super) fn did_you_mean(word: Option<&str>) -> String {
    word.map_or_else(String::new, |word| format!(" (did you mean {word:?}?)"))
}

/// The most similar word, if one is similar enough.
pub(super) fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    /// From 0 to 1: `intervall` and `interval` have 0.98, `description` and `runtime` 0.5.
    const SIMILARITY_MIN: f64 = 0.85;
    let similarities = words.map(|known| (strsim::jaro_winkler(known, word), known));
    similarities
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, word)| word)
}

/// A value in a work spec, encoded as by the Python command: ASCII strings are byte strings, other strings are text.
/// The Python worker can only import `module` and `run_function` if they are byte strings.
pub(super) fn spec_value(json: &Json) -> Result<Value, json::FromJsonError> {
    Ok(encoded_as_python(json::from_json(json)?))
}

fn encoded_as_python(value: Value) -> Value {
    match value {
        Value::Text(text) => in_spec(&text),
        Value::Array(items) => Value::Array(items.into_iter().map(encoded_as_python).collect()),
        Value::Map(entries) => {
            let entries = entries.into_iter();
            let both = |(key, value)| (encoded_as_python(key), encoded_as_python(value));
            Value::Map(entries.map(both).collect())
        }
        other => other,
    }
}

fn in_spec(text: &str) -> Value {
    match text.is_ascii() {
        true => Value::Bytes(text.into()),
        false => Value::from(text),
    }
}

fn parse(text: &str) -> Result<Node, serde_saphyr::Error> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
}

impl Node {
    /// Parses a value in YAML.
    ///
    /// # Errors
    /// The error, in one line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        parse(text).map_err(|error| {
            let error = error.to_string().replace('\n', " ");
            format!("invalid YAML: {error}")
        })
    }

    /// The value without line numbers.
    pub(super) fn into_json(self) -> Json {
        match self.content {
            Content::Other(json) => json,
            Content::Map(entries) => {
                let entries = entries.into_iter();
                let entries = entries.map(|(key, node)| (key.text, node.into_json()));
                Json::Object(entries.collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(yaml: D) -> Result<Self, D::Error> {
        let content = Spanned::<Content>::deserialize(yaml)?;
        Ok(Self {
            line: content.referenced.line(),
            content: content.value,
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(yaml: D) -> Result<Self, D::Error> {
        yaml.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key {
                line: key.referenced.line(),
                text: key.value,
            };
            entries.push((key, map.next_value()?));
        }
        Ok(Content::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            list.push(item.into_json());
        }
        Ok(Content::Other(Json::Array(list)))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Other(Json::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Other(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Other(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Other(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Content, E> {
        // Values are made from JSON, which has neither NaN nor infinity.
        match serde_json::Number::from_f64(value) {
            Some(number) => Ok(Content::Other(number.into())),
            None => Err(E::custom(format!(
                "{value} must be written as {{$float: {value}}}"
            ))),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Other(value.into()))
    }
}
