//! The command that is run for a unit, with places for what the unit is.

use coordinated_client::cbor::{Value, json};
use coordinated_client::worker::Context;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A program and its arguments. Each stays one argument, whatever is put into it: no shell sees it.
#[derive(Debug, PartialEq)]
pub(super) struct Template(Vec<Vec<Part>>);

/// A piece of an argument.
#[derive(Debug, PartialEq)]
enum Part {
    Literal(Vec<u8>),
    Key,
    Spec,
    Attempt,
    Field(String),
}

/// Why a command can't be made for a unit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("there is no \"{0}\" in the data, which the command names")]
    NoField(String),
    #[error("the argument '{0}' would have a NUL byte, which no program can be given")]
    Nul(String),
    #[error("{0}")]
    Spec(&'static str),
}

impl Template {
    /// Reads a command. Only `{key}`, `{spec}`, `{attempt}` and `{data.FIELD}` are places; with doubled braces
    /// they stand for themselves, and all other braces do.
    pub(super) fn new<A: AsRef<OsStr>>(words: impl IntoIterator<Item = A>) -> Self {
        let words = words.into_iter();
        Self(words.map(|word| parts(word.as_ref().as_bytes())).collect())
    }

    /// The command that a work spec names itself.
    ///
    /// # Errors
    /// If there is none, or something else.
    pub(super) fn of_spec(definition: &Value) -> Result<Self, TemplateError> {
        let no_command = TemplateError::Spec("the work spec has no `command`");
        let command = definition.get_some("command").ok_or(no_command)?;
        let words = command.as_list().unwrap_or_default().iter();
        let words: Option<Vec<&OsStr>> = words
            .map(|word| word.as_string_bytes().map(OsStr::from_bytes))
            .collect();
        match words {
            Some(words) if !words.is_empty() => Ok(Self::new(words)),
            _ => Err(TemplateError::Spec(
                "the work spec's `command` must be a list of strings: a program and its arguments",
            )),
        }
    }

    /// The program, if it is the same for all units.
    pub(super) fn program(&self) -> Option<&OsStr> {
        match self.0.first().map(Vec::as_slice) {
            Some([Part::Literal(program)]) => Some(OsStr::from_bytes(program)),
            _ => None,
        }
    }

    /// True if the command is different for each unit.
    pub(super) fn names_units(&self) -> bool {
        let mut parts = self.0.iter().flatten();
        parts.any(|part| matches!(part, Part::Key | Part::Attempt | Part::Field(_)))
    }

    /// Arguments that look like places and are none, such as `{file}`.
    pub(super) fn unknown_places(&self) -> impl Iterator<Item = &OsStr> {
        let is_place = |literal: &[u8]| {
            let name = literal.strip_prefix(b"{")?.strip_suffix(b"}")?;
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.".contains(byte);
            // A known one stands there with doubled braces.
            Some(name.first()?.is_ascii_alphabetic() && name.iter().all(is_word))
                .filter(|_| place(literal).is_none())
        };
        self.0.iter().filter_map(move |word| match word.as_slice() {
            [Part::Literal(literal)] if is_place(literal) == Some(true) => {
                Some(OsStr::from_bytes(literal))
            }
            _ => None,
        })
    }

    /// The command for a unit.
    ///
    /// # Errors
    /// If the data lacks a field, or a program can't be given such an argument.
    pub(super) fn fill(&self, unit: &Context) -> Result<Vec<OsString>, TemplateError> {
        let words = self.0.iter();
        words.map(|word| fill(word, unit)).collect()
    }
}

fn fill(word: &[Part], unit: &Context) -> Result<OsString, TemplateError> {
    let mut filled = Vec::new();
    for part in word {
        match part {
            Part::Literal(bytes) => filled.extend_from_slice(bytes),
            Part::Key => filled.extend_from_slice(unit.key().bytes()),
            Part::Spec => filled.extend_from_slice(unit.work_spec().bytes()),
            Part::Attempt => filled.extend_from_slice(unit.attempt().to_string().as_bytes()),
            Part::Field(path) => {
                let value = field(unit.data(), path);
                let value = value.ok_or_else(|| TemplateError::NoField(path.clone()))?;
                filled.extend_from_slice(&as_argument(value));
            }
        }
    }
    if filled.contains(&0) {
        let shown = coordinated_client::cbor::escape::escape(&filled);
        return Err(TemplateError::Nul(shown));
    }
    Ok(OsString::from_vec(filled))
}

/// What stands under a name in the data, or under a path of names with dots between them.
fn field<'d>(data: &'d Value, path: &str) -> Option<&'d Value> {
    data.get(path).or_else(|| {
        let (name, rest) = path.split_once('.')?;
        field(data.get(name)?, rest)
    })
}

/// Strings are their bytes, null is nothing, and all else is as JSON has it.
pub(super) fn as_argument(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => Vec::new(),
        Value::Bytes(bytes) => bytes.clone(),
        Value::Text(text) => text.clone().into_bytes(),
        other => json::to_json(other).to_string().into_bytes(),
    }
}

fn parts(word: &[u8]) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut rest = word;
    while let Some((first, behind)) = rest.split_first() {
        if let Some((name, part, after)) = place(rest) {
            // Doubled braces are one around the word, which stands for itself.
            if literal.last() == Some(&b'{') && after.first() == Some(&b'}') {
                literal.extend_from_slice(name);
                rest = after;
                continue;
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part);
            rest = after;
            continue;
        }
        literal.push(*first);
        rest = behind;
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    parts
}

/// The place at the beginning of a text: what is in its braces, what it is, and what is behind it.
fn place(text: &[u8]) -> Option<(&[u8], Part, &[u8])> {
    let inner = text.strip_prefix(b"{")?;
    let end = inner.iter().position(|byte| *byte == b'}')?;
    let (name, after) = (&inner[..end], &inner[end + 1..]);
    let part = match name {
        b"key" => Part::Key,
        b"spec" => Part::Spec,
        b"attempt" => Part::Attempt,
        _ => {
            let field = std::str::from_utf8(name.strip_prefix(b"data.")?).ok()?;
            if field.is_empty() {
                return None;
            }
            Part::Field(field.to_owned())
        }
    };
    Some((name, part, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Part {
        Part::Literal(text.as_bytes().to_vec())
    }

    #[test]
    fn only_the_known_words_in_braces_are_places() {
        for (word, expected) in [
            ("plain", vec![literal("plain")]),
            ("", vec![]),
            ("a{key}b", vec![literal("a"), Part::Key, literal("b")]),
            ("{spec}{attempt}", vec![Part::Spec, Part::Attempt]),
            ("{data.a.b}", vec![Part::Field("a.b".to_owned())]),
            ("{print $1}", vec![literal("{print $1}")]),
            ("{data.}{Key}{", vec![literal("{data.}{Key}{")]),
            ("{{key}}", vec![literal("{key}")]),
            (
                "{\"k\": \"{key}\"}",
                vec![literal("{\"k\": \""), Part::Key, literal("\"}")],
            ),
        ] {
            assert_eq!(parts(word.as_bytes()), expected, "{word}");
        }
    }

    #[test]
    fn an_unknown_word_alone_in_an_argument_is_noticed() {
        for (word, expected) in [
            ("{file}", true),
            ("{Key}", true),
            ("{data.}", true),
            ("{data}", true),
            ("{key}", false),
            ("{data.x}", false),
            ("{{key}}", false),
            ("{{file}}", false),
            ("{}", false),
            ("{1}", false),
            ("{print $1}", false),
            ("a{file}", false),
        ] {
            let template = Template::new(["program", word]);
            let unknown: Vec<_> = template.unknown_places().collect();
            assert_eq!(unknown == [word], expected, "{word}: {unknown:?}");
        }
    }

    #[test]
    fn fields_are_found_by_their_names_and_by_paths() {
        let inner = Value::map([("b", Value::from(2))]);
        let data = Value::map([("a", inner), ("a.b", Value::from(1)), ("c", Value::Null)]);
        assert_eq!(field(&data, "a.b"), Some(&Value::from(1)));
        assert_eq!(field(&data, "c"), Some(&Value::Null));
        assert_eq!((field(&data, "d"), field(&data, "c.d")), (None, None));
        let Value::Map(entries) = &data else { return };
        assert_eq!(
            field(&Value::Map(entries[..1].to_vec()), "a.b"),
            Some(&Value::from(2))
        );
    }
}
