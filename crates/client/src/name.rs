//! Names of work specs, work units and workers.

use crate::cbor::{Item, Kind, Value, Writer};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// A name: any bytes, and whether they came as text or as a byte string.
///
/// Python 2 takes `'a'` and `u'a'` for the same key, so two names with the same bytes are equal
/// whatever they came as; the form is kept to give it back.
#[derive(Clone)]
pub struct Name {
    bytes: Vec<u8>,
    is_text: bool,
}

impl Name {
    /// A name that came as a text string.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self {
            bytes: text.into().into_bytes(),
            is_text: true,
        }
    }

    /// A name that came as a byte string.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            is_text: false,
        }
    }

    /// The name that a CBOR string is; `None` for anything but a string.
    #[must_use]
    pub fn from_item(item: Item<'_>) -> Option<Self> {
        match item.kind() {
            Kind::Bytes(bytes) => Some(Self::from_bytes(bytes)),
            // One with lone surrogates can't be kept as text.
            Kind::Text(bytes) => Some(match String::from_utf8(bytes.into_owned()) {
                Ok(text) => Self::from_text(text),
                Err(error) => Self::from_bytes(error.into_bytes()),
            }),
            _ => None,
        }
    }

    /// The name that a string is; `None` for anything but a string.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => Some(Self::from_bytes(bytes.as_slice())),
            Value::Text(text) => Some(Self::from_text(text.as_str())),
            _ => None,
        }
    }

    /// The bytes, by which names are compared and sorted.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name as text, if it came as such.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        if self.is_text {
            std::str::from_utf8(&self.bytes).ok()
        } else {
            None
        }
    }

    /// Writes the name in the form in which it came.
    pub fn write(&self, writer: &mut Writer<'_>) {
        match self.as_text() {
            Some(text) => writer.text(text),
            None => writer.bytes(&self.bytes),
        }
    }
}

/// As text.
impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::from_text(text)
    }
}

/// In the form in which it came.
impl From<&Name> for Value {
    fn from(name: &Name) -> Self {
        match name.as_text() {
            Some(text) => Self::from(text),
            None => Self::Bytes(name.bytes.clone()),
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

/// How much of a long name an error message shows, in bytes.
const SHOWN_BYTES: usize = 80;

/// In quotes, with what is not printable ASCII or UTF-8 escaped, and cut where it is long.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, rest) = self.bytes.split_at(self.bytes.len().min(SHOWN_BYTES));
        match std::str::from_utf8(&self.bytes) {
            Ok(text) if rest.is_empty() => write!(f, "{text:?}"),
            _ => write!(
                f,
                "\"{}\"{}",
                shown.escape_ascii(),
                if rest.is_empty() { "" } else { "..." }
            ),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{self}", if self.is_text { "" } else { "b" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_the_same_name_and_keep_their_form() {
        let (text, bytes) = (Name::from_text("ü"), Name::from_bytes("ü"));
        assert_eq!(text, bytes);
        let mut out = Vec::new();
        text.write(&mut Writer::new(&mut out));
        bytes.write(&mut Writer::new(&mut out));
        assert_eq!(out, b"\x62\xc3\xbc\x42\xc3\xbc");
    }

    #[test]
    fn names_are_shown_in_one_short_printable_line() {
        assert_eq!(Name::from_bytes("a\nb").to_string(), r#""a\nb""#);
        assert_eq!(Name::from_bytes(b"\xff".to_vec()).to_string(), r#""\xff""#);
        assert_eq!(
            Name::from_text("x".repeat(1000)).to_string().len(),
            SHOWN_BYTES + 5
        );
    }
}
