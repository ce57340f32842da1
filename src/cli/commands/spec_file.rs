//! Work specs as people write them: YAML or JSON, of which is known on which line each thing stands.

use crate::coordinate::Meta;
use coordinated_client::Name;
use coordinated_client::cbor::{Item, Value, json};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_saphyr::{Location, Spanned};
use std::fmt;
use std::path::Path;

/// The keys of a work spec that workers know, beside those of the scheduler ([`Meta::KEYS`]). `then_preempts` is
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

/// A file that is read as YAML: its name, for messages.
pub(super) struct SpecFile {
    shown: String,
}

/// A value, and the line that it is on.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) content: Content,
}

/// What a value is: only maps are looked into.
#[derive(Clone)]
pub(super) enum Content {
    /// In the order of the file; no key comes twice.
    Map(Vec<(Key, Node)>),
    /// Anything else.
    Other(Json),
}

/// The key of an entry, and the line that it is on.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) line: u64,
    pub(super) text: String,
}

/// A work spec that a server will take.
pub(super) struct CheckedSpec {
    pub(super) name: Name,
    pub(super) definition: Value,
    /// The work spec that gets its output, and the line where that is named.
    pub(super) then: Option<(u64, String)>,
    /// What is odd about it, with the place.
    pub(super) warnings: Vec<String>,
}

impl SpecFile {
    /// Arguments that stand for a file, called so in messages.
    pub(super) fn of_arguments(shown: &str) -> Self {
        let shown = shown.to_owned();
        Self { shown }
    }

    /// Reads a file: with it comes all that is in it.
    ///
    /// # Errors
    /// With the file, and the place in it.
    pub(super) fn read(path: &Path) -> Result<(Self, Node), String> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("can't read {shown}: {error}"))?;
        let file = Self { shown };
        let root = parse(&text).map_err(|error| file.unreadable(&error))?;
        Ok((file, root))
    }

    /// What is wrong with a file that is no YAML.
    fn unreadable(&self, error: &serde_saphyr::Error) -> String {
        let place = error.location().unwrap_or(Location::UNKNOWN);
        let what = match error {
            serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
                format!("the key {key:?} comes twice")
            }
            other => other.to_string().replace('\n', " "),
        };
        let suffix = format!(" at line {}, column {}", place.line(), place.column());
        let what = what.strip_suffix(&suffix).unwrap_or(&what);
        self.at(place.line(), &format!("not readable as YAML: {what}"))
    }

    /// Reads the work spec that a file is.
    ///
    /// # Errors
    /// As [`SpecFile::read`] and [`SpecFile::check`]; if it is no map, or has no name.
    pub(super) fn read_spec(path: &Path) -> Result<(Self, CheckedSpec), String> {
        let (file, root) = Self::read(path)?;
        let entries = file.spec_of(root)?;
        let spec = file.check(file.name_of(&entries)?, entries)?;
        Ok((file, spec))
    }

    /// Reads the name of the work spec that a file is; the rest may be as it will.
    ///
    /// # Errors
    /// As [`SpecFile::read`]; if it is no map, or has no name.
    pub(super) fn read_name(path: &Path) -> Result<Name, String> {
        let (file, root) = Self::read(path)?;
        let entries = file.spec_of(root)?;
        file.name_of(&entries).map(Name::from_text)
    }

    fn spec_of(&self, root: Node) -> Result<Vec<(Key, Node)>, String> {
        match root.content {
            Content::Map(entries) => Ok(entries),
            Content::Other(_) => {
                Err(self.at(root.line, "expected a work spec, a map with its keys"))
            }
        }
    }

    fn name_of(&self, entries: &[(Key, Node)]) -> Result<String, String> {
        let name = entries.iter().find(|(key, _)| key.text == "name");
        match name.map(|(key, node)| (key.line, &node.content)) {
            Some((_, Content::Other(Json::String(name)))) if !name.is_empty() => Ok(name.clone()),
            Some((line, _)) => Err(self.at(line, "the name must be a text that is not empty")),
            None => Err(self.at(0, "there is no name of a work spec in it")),
        }
    }

    /// Checks a work spec, and gives it with this name.
    ///
    /// # Errors
    /// With the place of the first value that no server would take.
    pub(super) fn check(
        &self,
        name: String,
        entries: Vec<(Key, Node)>,
    ) -> Result<CheckedSpec, String> {
        let (mut then, mut warnings) = (None, Vec::new());
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
            // As text, as which it was written, and which the message is about.
            let alone = Value::map([(key.text.as_str(), value.clone())]).to_bytes();
            Meta::from_definition(Item::from_checked(&alone))
                .map_err(|error| wrong(error.to_string()))?;
            if key.text != "name" {
                definition.push((in_spec(&key.text), as_python_has_it(value)));
            }
        }
        Ok(CheckedSpec {
            name: Name::from_text(name),
            definition: Value::Map(definition),
            then,
            warnings,
        })
    }

    /// A message with the file and the line.
    pub(super) fn at(&self, line: u64, what: &str) -> String {
        match line {
            0 => format!("{}: {what}", self.shown),
            line => format!("{}, line {line}: {what}", self.shown),
        }
    }
}

impl CheckedSpec {
    /// The definition with another value under a key.
    pub(super) fn with(&self, key: &str, value: Value) -> Value {
        let entries = self.definition.as_map().unwrap_or_default().iter();
        let others = entries.filter(|(known, _)| *known != in_spec(key)).cloned();
        Value::Map(others.chain([(in_spec(key), value)]).collect())
    }
}

/// That a key is not known, and the known one that may be meant.
pub(super) fn unknown_key<'k>(key: &str, known: impl Iterator<Item = &'k str>) -> String {
    let advice = did_you_mean(nearest(key, known));
    format!("unknown key {key:?}{advice}")
}

/// The end of a sentence about a word that is not known.
pub(super) fn did_you_mean(word: Option<&str>) -> String {
    word.map_or_else(String::new, |word| format!(" (did you mean {word:?}?)"))
}

/// The word that is most like another one, if one is.
pub(super) fn nearest<'w>(word: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    /// Between 0 and 1; that of `intervall` and `interval` is 0.98, that of `description` and `runtime` 0.5.
    const SIMILARITY_MIN: f64 = 0.85;
    let similarities = words.map(|known| (strsim::jaro_winkler(known, word), known));
    similarities
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, word)| word)
}

/// A value in a work spec, as the Python command has it: texts of ASCII are byte strings, the others texts. Its
/// worker imports by `module` and `run_function`, and can do so by byte strings only.
pub(super) fn spec_value(json: &Json) -> Result<Value, json::FromJsonError> {
    Ok(as_python_has_it(json::from_json(json)?))
}

fn as_python_has_it(value: Value) -> Value {
    match value {
        Value::Text(text) => in_spec(&text),
        Value::Array(items) => Value::Array(items.into_iter().map(as_python_has_it).collect()),
        Value::Map(entries) => {
            let entries = entries.into_iter();
            let both = |(key, value)| (as_python_has_it(key), as_python_has_it(value));
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
    /// Reads a value in YAML.
    ///
    /// # Errors
    /// What is wrong with it, in one line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        parse(text).map_err(|error| {
            let error = error.to_string().replace('\n', " ");
            format!("not readable as YAML: {error}")
        })
    }

    /// The value without its places.
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
        // JSON, by way of which values are made, has neither NaN nor infinity.
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
