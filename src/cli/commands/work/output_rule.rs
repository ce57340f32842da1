//! What of a program's output is a result, and what is wrong with one that can't be read.

use super::collected::{Collected, RESULT_BYTES_MAX};
use coordinated_client::Name;
use coordinated_client::cbor::escape::escape;
use coordinated_client::cbor::{Value, json};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use std::fmt;

/// U+FEFF in UTF-8, as some programs begin their output.
pub(super) const BYTE_ORDER_MARK: &[u8; 3] = b"\xef\xbb\xbf";
/// How much of a line is shown on either side of the place where it can't be read.
const EXCERPT_BYTES: usize = 30;

/// What is taken as a unit's new data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Takes {
    /// All of it, which must be one JSON object, if any line begins with "{"; nothing otherwise
    Auto,
    /// All of it, which must be one JSON object; with --batch one a line, and a line for each unit
    Json,
    /// Nothing, whatever is printed
    None,
}

/// A text in which there may be a result.
pub(super) struct Source<'t> {
    /// What people call it.
    name: &'static str,
    text: &'t Collected,
    /// True if all of it must be a result, and not only where a line begins with `{`.
    must_be_result: bool,
}

/// A line about one of many units.
#[derive(Debug)]
pub(super) struct Line {
    /// The unit, if that much can be read.
    pub(super) key: Option<Name>,
    /// All of the line, or what is wrong with it.
    pub(super) object: Result<Value, String>,
    /// What to say if there is no such unit.
    pub(super) about_nothing: String,
}

impl<'t> Source<'t> {
    pub(super) fn stdout(text: &'t Collected, takes: Takes) -> Self {
        Self {
            name: "standard output",
            text,
            must_be_result: takes == Takes::Json,
        }
    }

    /// The file that `COORDINATED_OUTPUT` names.
    pub(super) fn file(text: &'t Collected) -> Self {
        Self {
            name: "the file that COORDINATED_OUTPUT names",
            text,
            must_be_result: true,
        }
    }

    /// The map that the whole text is; `None` if it is plain text.
    ///
    /// # Errors
    /// Where and why the text can't be read, though it must be a result.
    pub(super) fn object(&self) -> Result<Option<Value>, String> {
        if !self.may_be_result() {
            return Ok(None);
        }
        if self.text.is_cut {
            return Err(self.too_long());
        }
        if self.text.bytes.trim_ascii().is_empty() {
            return Err(format!("{} is empty, not a JSON object", self.name));
        }
        self.map(&self.text.bytes, 1).map(Some)
    }

    /// The lines that are results. One that was cut off by the limit is left out.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        let mut lines: Vec<&[u8]> = self.text.bytes.split(|byte| *byte == b'\n').collect();
        if self.text.is_cut {
            lines.pop();
        }
        let parts = lines.into_iter().zip(1..).flat_map(|(line, number)| {
            // A line may have been written over another one, such as a progress bar.
            let parts = line.split(|byte| *byte == b'\r');
            parts.map(move |part| (part, number))
        });
        parts.filter_map(|(line, number)| {
            let content = without_mark(line).trim_ascii();
            let is_result =
                content.starts_with(b"{") || (self.must_be_result && !content.is_empty());
            is_result.then(|| self.line(line, number))
        })
    }

    fn line(&self, text: &[u8], number: usize) -> Line {
        let object = self.map(text, number);
        let key = match &object {
            Ok(object) => object.get("key").and_then(Name::from_value),
            Err(_) => key_of(text),
        };
        let name = self.name;
        let about_nothing = match &key {
            Some(key) => format!("{name}, line {number}: the program was not given the unit {key}"),
            None => format!("{name}, line {number}: the object has no \"key\" of a unit"),
        };
        Line {
            key,
            object,
            about_nothing,
        }
    }

    /// Why there may be results that were not kept, if that is so.
    pub(super) fn lost(&self) -> Option<String> {
        (self.text.is_cut && self.may_be_result()).then(|| self.too_long())
    }

    fn may_be_result(&self) -> bool {
        self.must_be_result || self.text.opens_object
    }

    fn too_long(&self) -> String {
        format!("{} has more than {RESULT_BYTES_MAX} bytes", self.name)
    }

    /// The map that a text stands for, whose first line has this number.
    fn map(&self, text: &[u8], first_line: usize) -> Result<Value, String> {
        let name = self.name;
        let text = without_mark(text);
        let object: serde_json::Value = serde_json::from_slice(text).map_err(|error| {
            let place = Place::of(&error, text);
            let (line, column) = (first_line + place.line, place.column);
            // Failures are grouped by the last line, so what is different for each unit stands before it.
            format!(
                "{name}, line {line}, column {column}: {}\n{name} is not one JSON object: {}",
                place.excerpt(),
                place.problem(&error)
            )
        })?;
        let value = json::from_json(&object).map_err(|error| format!("{name}: {error}"))?;
        match value.as_map() {
            Some(_) => Ok(value),
            None => Err(format!(
                "{name} is {}, not a JSON object",
                value.kind_name()
            )),
        }
    }
}

fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Where a text can't be read.
struct Place<'t> {
    /// From 0 on.
    line: usize,
    /// In bytes, from 1 on.
    column: usize,
    /// What of the line stands before the place, and from it on.
    before: &'t [u8],
    rest: &'t [u8],
    /// True if nothing but white space stands before the line.
    is_first_line: bool,
}

impl<'t> Place<'t> {
    fn of(error: &serde_json::Error, text: &'t [u8]) -> Self {
        let mut line_number = error.line().saturating_sub(1);
        let mut column = error.column();
        if column == 0 && line_number > 0 {
            // The end of a line is reported as column 0 of the next one.
            line_number -= 1;
            column = usize::MAX;
        }
        let mut lines = text.split(|byte| *byte == b'\n');
        let is_first_line = lines
            .by_ref()
            .take(line_number)
            .all(|line| line.trim_ascii().is_empty());
        let line = lines.next().unwrap_or_default();
        let at = match error.classify() {
            Category::Eof => line.len(),
            _ => column.saturating_sub(1).min(line.len()),
        };
        let (before, rest) = line.split_at(at);
        Self {
            line: line_number,
            column: at + 1,
            before,
            rest,
            is_first_line,
        }
    }

    fn excerpt(&self) -> String {
        let begin = self.before.len().saturating_sub(EXCERPT_BYTES);
        let end = self.rest.len().min(EXCERPT_BYTES);
        let shown = [&self.before[begin..], &self.rest[..end]].concat();
        format!(
            "{}{}{}",
            if begin > 0 { "..." } else { "" },
            // A backslash stands for itself here, as in JSON.
            escape(&shown).replace("\\\\", "\\"),
            if end < self.rest.len() { "..." } else { "" }
        )
    }

    /// What is wrong there, and what to write instead.
    fn problem(&self, error: &serde_json::Error) -> String {
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        let begin = self.before.trim_ascii_start();
        let is_object = !self.is_first_line || begin.starts_with(b"{");
        let number = ["NaN", "-Infinity", "Infinity"]
            .into_iter()
            .find(|number| self.is_at(number));
        match (error.classify(), number) {
            (Category::Eof, _) => "it ends within the object".to_owned(),
            (_, Some(number)) => {
                let float = number.replace("Infinity", "inf");
                format!("{number} is not JSON: write null, or {{\"$float\": \"{float}\"}}")
            }
            _ if !is_object => "it begins with something else".to_owned(),
            _ if text == "trailing characters" => "something follows the object".to_owned(),
            _ if text.ends_with("hex escape") => {
                "half of a surrogate pair: write bytes that are not UTF-8 as {\"$bytes\": \"\\\\xNN\"}"
                    .to_owned()
            }
            _ if text == "invalid unicode code point" => "it is not UTF-8".to_owned(),
            _ => text.to_owned(),
        }
    }

    /// True if the number stands there; the parser stops behind its sign.
    fn is_at(&self, number: &str) -> bool {
        match number.strip_prefix('-') {
            None => self.rest.starts_with(number.as_bytes()),
            Some(_) if self.rest.starts_with(number.as_bytes()) => true,
            Some(digits) => self.before.ends_with(b"-") && self.rest.starts_with(digits.as_bytes()),
        }
    }
}

/// The `key` of an object that is broken behind it.
fn key_of(line: &[u8]) -> Option<Name> {
    let mut key = None;
    let mut json = serde_json::Deserializer::from_slice(without_mark(line));
    // It fails, as the line is broken.
    let _ = json.deserialize_map(KeyOf(&mut key));
    let value = json::from_json(&key?).ok()?;
    Name::from_value(&value)
}

struct KeyOf<'k>(&'k mut Option<serde_json::Value>);

impl<'de> Visitor<'de> for KeyOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(name) = entries.next_key::<String>()? {
            if name == "key" {
                *self.0 = Some(entries.next_value()?);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(text: &[u8]) -> Collected {
        let mut collected = Collected::default();
        collected.push(text);
        collected
    }

    fn object(text: &[u8], takes: Takes) -> Result<Option<String>, String> {
        let collected = collected(text);
        let object = Source::stdout(&collected, takes).object()?;
        Ok(object.map(|value| json::to_json(&value).to_string()))
    }

    #[test]
    fn an_object_is_taken_and_text_is_left_alone() {
        for (text, expected) in [
            (&b"{\"x\": 1}"[..], Some("{\"x\":1}")),
            (b"\n {\"x\":\n1}\n\n", Some("{\"x\":1}")),
            (b"\xef\xbb\xbf{\"x\": 1}\r\n", Some("{\"x\":1}")),
            (
                b"{\"x\": {\"$float\": \"NaN\"}}",
                Some("{\"x\":{\"$float\":\"NaN\"}}"),
            ),
            (b"", None),
            (b"some {text}\n", None),
            (b"[1]", None),
            (b"a line\n", None),
        ] {
            let expected = Ok(expected.map(str::to_owned));
            assert_eq!(object(text, Takes::Auto), expected);
        }
    }

    #[test]
    fn what_is_almost_an_object_is_refused_with_the_place_and_what_to_do() {
        const NAN: &str = "NaN is not JSON: write null, or {\"$float\": \"NaN\"}";
        const MINUS: &str = "-Infinity is not JSON: write null, or {\"$float\": \"-inf\"}";
        const PAIR: &str =
            "half of a surrogate pair: write bytes that are not UTF-8 as {\"$bytes\": \"\\\\xNN\"}";
        for (text, place, problem) in [
            (&b"{\"x\": NaN}"[..], "line 1, column 7: {\"x\": NaN}", NAN),
            (
                b"{\"x\":\n[1, -Infinity]}",
                "line 2, column 6: [1, -Infinity]}",
                MINUS,
            ),
            (
                b"loading\n{\"x\": 1}\n",
                "line 1, column 1: loading",
                "it begins with something else",
            ),
            (
                b"{\"x\": 1",
                "line 1, column 8: {\"x\": 1",
                "it ends within the object",
            ),
            (
                b"{\"x\": 1,\n",
                "line 1, column 9: {\"x\": 1,",
                "it ends within the object",
            ),
            (
                b"{\"x\": 1}\n{\"y\": 1}",
                "line 2, column 1: {\"y\": 1}",
                "something follows the object",
            ),
            (
                b"{\"x\": \"\\ud800\"}",
                "line 1, column 14: {\"x\": \"\\ud800\"}",
                PAIR,
            ),
            (
                b"{\"x\": \"\\udcff\"}",
                "line 1, column 13: {\"x\": \"\\udcff\"}",
                PAIR,
            ),
            (
                b"{\"x\": \"\xff\"}",
                "line 1, column 8: {\"x\": \"\\xff\"}",
                "it is not UTF-8",
            ),
            (
                b"{\"x\": 1e999}",
                "line 1, column 11: {\"x\": 1e999}",
                "number out of range",
            ),
            (
                b"{'x': 1}",
                "line 1, column 2: {'x': 1}",
                "key must be a string",
            ),
            (
                b"{\"x\": \"a\nb\"}",
                "line 1, column 9: {\"x\": \"a",
                "control character (\\u0000-\\u001F) found while parsing a string",
            ),
        ] {
            let expected = format!(
                "standard output, {place}\nstandard output is not one JSON object: {problem}"
            );
            assert_eq!(object(text, Takes::Auto), Err(expected));
        }
        let long = format!("{{{}NaN{}", "\"x\": 1, ".repeat(9), "y".repeat(99));
        let problem = object(long.as_bytes(), Takes::Auto).expect_err("refused");
        let excerpt = "...\": 1, \"x\": 1, \"x\": 1, \"x\": 1, NaNyyyyyyyyyyyyyyyyyyyyyyyyyyy...\n";
        assert!(problem.contains(excerpt), "{problem}");
    }

    #[test]
    fn an_object_that_stands_for_something_else_is_refused() {
        for (text, problem) in [
            (
                "{\"$int\": \"5\"}",
                "standard output is an integer, not a JSON object",
            ),
            (
                "{\"x\": {\"$int\": 5}}",
                "standard output: the value of \"$int\" must be a string with an integer",
            ),
        ] {
            let found = object(text.as_bytes(), Takes::Auto);
            assert_eq!(found, Err(problem.to_owned()));
        }
    }

    #[test]
    fn where_an_object_is_demanded_nothing_else_will_do() {
        for (text, problem) in [
            ("", "standard output is empty, not a JSON object"),
            ("[1]", "standard output is a list, not a JSON object"),
            (
                "done",
                "standard output, line 1, column 1: done\nstandard output is not one JSON object: it \
                 begins with something else",
            ),
        ] {
            let found = object(text.as_bytes(), Takes::Json);
            assert_eq!(found, Err(problem.to_owned()));
        }
    }

    #[test]
    fn of_a_broken_line_the_key_is_read_if_it_stands_before_the_place() {
        let key = |key: &str| Some(Name::from_text(key.to_owned()));
        for (line, expected) in [
            ("{\"key\": \"a\", \"data\": {\"x\": NaN}}", key("a")),
            ("{\"data\": {}, \"key\": \"a\", \"da", key("a")),
            ("{\"data\": {\"x\": NaN}, \"key\": \"a\"}", None),
            ("{\"key\": \"a", None),
            ("{\"data\": {\"key\": \"a\"}, ", None),
        ] {
            let text = collected(format!("text\n\u{feff}{line}\n").as_bytes());
            let found: Vec<_> = Source::stdout(&text, Takes::Auto).lines().collect();
            let [Line { key, object, .. }] = found.as_slice() else {
                panic!("{line}: {found:?}");
            };
            assert_eq!(*key, expected, "{line}");
            let problem = object.as_ref().expect_err("it is broken");
            assert!(
                problem.starts_with("standard output, line 2, column "),
                "{problem}"
            );
        }
    }

    #[test]
    fn lines_are_results_where_they_begin_with_a_brace_or_all_must_be() {
        let text = collected(b"text\n{\"key\": 1}\n\n  {\"key\": 2}\n[3]\n");
        let count = |takes| {
            let results: Vec<_> = Source::stdout(&text, takes).lines().collect();
            (
                results.len(),
                results.iter().filter(|line| line.object.is_err()).count(),
            )
        };
        assert_eq!(count(Takes::Auto), (2, 0));
        assert_eq!(count(Takes::Json), (4, 2));
    }

    #[test]
    fn a_line_that_the_limit_has_cut_off_is_left_out_and_said_to_be_lost() {
        let mut text = collected(b"{\"key\": 1}\n{\"key\": 2}\n{\"key\": 3");
        assert_eq!(Source::stdout(&text, Takes::Auto).lost(), None);
        text.is_cut = true;
        let source = Source::stdout(&text, Takes::Auto);
        assert_eq!(source.lines().count(), 2);
        let lost = "standard output has more than 16777216 bytes";
        assert_eq!(source.lost().as_deref(), Some(lost));
        assert_eq!(source.object(), Err(lost.to_owned()));
    }
}
