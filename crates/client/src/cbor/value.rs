//! Values in memory, for those who make and use them: clients.
//!
//! The daemon itself keeps data as bytes; see the module above.

use super::scan::{self, ScanError};
use super::{Item, Kind, TAG_BIG_NEGATIVE, TAG_BIG_UNSIGNED, TAG_TUPLE, Writer};
use std::borrow::Cow;

/// A value, as the protocol has it: byte strings and text are two things, as are integers and floats, and
/// maps keep their order, with keys of any kind.
///
/// Not told apart are the widths of numbers, strings in one piece or in several, and null and undefined. A
/// text string with lone surrogates, which Python 2 can write, becomes a byte string, since no [`String`]
/// holds it.
///
/// ```
/// # use coordinated_client::cbor::Value;
/// let data = Value::map([("n", Value::from(2)), ("raw", Value::Bytes(vec![0xff]))]);
/// let bytes = data.to_bytes();
/// assert_eq!(Value::from_bytes(&bytes, 100)?, data);
/// assert_eq!(data.get("n").and_then(Value::as_i64), Some(2));
/// # Ok::<(), coordinated_client::cbor::scan::ScanError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Null.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer. What does not fit 64 bits and a sign is written as a big integer (tag 2 or 3).
    Int(i128),
    /// A float, of whatever width it came in.
    Float(f64),
    /// A byte string, which is what a `str` of Python 2 is.
    Bytes(Vec<u8>),
    /// A text string.
    Text(String),
    /// An array.
    Array(Vec<Value>),
    /// A map's entries, in order.
    Map(Vec<(Value, Value)>),
    /// A tag, and what it is put on.
    Tag(u64, Box<Value>),
    /// A simple value that is none of the above.
    Simple(u8),
}

impl Value {
    /// An empty map.
    pub const EMPTY_MAP: Self = Self::Map(Vec::new());

    /// A map with text keys.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        let entries = entries.into_iter();
        Self::Map(
            entries
                .map(|(key, value)| (Self::Text(key.into()), value))
                .collect(),
        )
    }

    /// The value that exactly these bytes encode, if it has at most `depth_max` levels.
    ///
    /// # Errors
    /// If they are not one well-formed item.
    pub fn from_bytes(bytes: &[u8], depth_max: usize) -> Result<Self, ScanError> {
        scan::check(bytes, depth_max)?;
        Ok(Self::from_item(Item::from_checked(bytes)))
    }

    /// The value that a checked item is. The stack grows with the item's depth, which its check has
    /// bounded.
    #[must_use]
    pub fn from_item(item: Item<'_>) -> Self {
        match item.kind() {
            Kind::Unsigned(value) => Self::Int(i128::from(value)),
            Kind::Negative(n) => Self::Int(-1 - i128::from(n)),
            Kind::Bytes(bytes) => Self::Bytes(bytes.into_owned()),
            Kind::Text(bytes) => match String::from_utf8(bytes.into_owned()) {
                Ok(text) => Self::Text(text),
                Err(error) => Self::Bytes(error.into_bytes()),
            },
            Kind::Array(items) => Self::Array(items.map(Self::from_item).collect()),
            Kind::Map(entries) => Self::Map(
                entries
                    .map(|(key, value)| (Self::from_item(key), Self::from_item(value)))
                    .collect(),
            ),
            Kind::Tag(tag, content) => Self::Tag(tag, Box::new(Self::from_item(content))),
            Kind::Bool(value) => Self::Bool(value),
            Kind::Null => Self::Null,
            Kind::Float(value) => Self::Float(value),
            Kind::Simple(value) => Self::Simple(u8::try_from(value).unwrap_or(u8::MAX)),
        }
    }

    /// The encoding: definite lengths, shortest heads, double floats.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut Writer::new(&mut out));
        out
    }

    /// Writes the encoding, as [`Value::to_bytes`] has it.
    pub fn write(&self, writer: &mut Writer<'_>) {
        match self {
            Self::Null => writer.null(),
            Self::Bool(value) => writer.boolean(*value),
            Self::Int(value) => write_integer(writer, *value),
            Self::Float(value) => writer.float(*value),
            Self::Bytes(bytes) => writer.bytes(bytes),
            Self::Text(text) => writer.text(text),
            Self::Array(items) => {
                writer.array(items.len());
                items.iter().for_each(|item| item.write(writer));
            }
            Self::Map(entries) => {
                writer.map(entries.len());
                for (key, value) in entries {
                    key.write(writer);
                    value.write(writer);
                }
            }
            Self::Tag(tag, content) => {
                writer.tag(*tag);
                content.write(writer);
            }
            Self::Simple(value) => writer.simple(*value),
        }
    }

    /// True for null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// True or false, if it is one of them.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer of 64 bits, if it is one.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A number that counts something, if it is one.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A number, be it an integer or a float.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            // Rounded beyond 2^53, as every float is.
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// The content of a byte or text string.
    #[must_use]
    pub fn as_string_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// The content of a byte or text string, to be read by people: what is not UTF-8 is replaced.
    #[must_use]
    pub fn as_text_lossy(&self) -> Option<Cow<'_, str>> {
        self.as_string_bytes().map(String::from_utf8_lossy)
    }

    /// The items of an array, or of a tuple: tag 128 around an array.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            Self::Tag(TAG_TUPLE, content) => match &**content {
                Self::Array(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    /// The entries of a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&[(Value, Value)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value that a map has under a name, be the key text or bytes; the last one if there are several,
    /// as in Python. `None` for no such key, or no map.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        let mut entries = self.as_map()?.iter().rev();
        entries
            .find(|(key, _)| key.as_string_bytes() == Some(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// As [`Value::get`], with null taken for absent.
    #[must_use]
    pub fn get_some(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.is_null())
    }

    /// What the value is, in a word for error messages.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bytes(_) => "a byte string",
            Self::Text(_) => "a text string",
            Self::Array(_) => "a list",
            Self::Map(_) => "a map",
            Self::Tag(TAG_TUPLE, _) => "a tuple",
            Self::Tag(..) => "a tagged value",
            Self::Simple(_) => "a simple value",
        }
    }
}

fn write_integer(writer: &mut Writer<'_>, value: i128) {
    // Of a negative integer CBOR has the number -1 - n.
    let (tag, n) = if value < 0 {
        (TAG_BIG_NEGATIVE, !value)
    } else {
        (TAG_BIG_UNSIGNED, value)
    };
    match u64::try_from(n) {
        Ok(n) if value < 0 => writer.negative(n),
        Ok(n) => writer.unsigned(n),
        Err(_) => {
            let bytes = n.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            writer.tag(tag);
            writer.bytes(&bytes[zeros..]);
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::Array(items)
    }
}

/// Null for `None`.
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Value {
            fn from(value: $integer) -> Self {
                Self::Int(i128::from(value))
            }
        }
    )*};
}

from_integers!(i32, i64, u8, u32, u64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(value: &Value) -> Value {
        Value::from_bytes(&value.to_bytes(), 100).expect("well-formed")
    }

    #[test]
    fn all_kinds_come_back_as_they_went() {
        let value = Value::Array(vec![
            Value::Null,
            Value::Bool(true),
            Value::Int(i128::from(u64::MAX)),
            Value::Int(-1 - i128::from(u64::MAX)),
            Value::Float(2.0),
            Value::Bytes(b"x".to_vec()),
            Value::from("x"),
            Value::Tag(TAG_TUPLE, Box::new(Value::Array(vec![]))),
            Value::Map(vec![
                (Value::from(2), Value::Null),
                (Value::from("b"), Value::from(1)),
                (Value::Bytes(b"b".to_vec()), Value::from(2)),
            ]),
            Value::Simple(99),
        ]);
        assert_eq!(there_and_back(&value), value);
    }

    #[test]
    fn integers_beyond_64_bits_are_written_as_big_ones() {
        let (big, negative) = (1 << 64, -2 - i128::from(u64::MAX));
        let magnitude = || Box::new(Value::Bytes(vec![1, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(there_and_back(&Value::Int(big)), Value::Tag(2, magnitude()));
        assert_eq!(
            there_and_back(&Value::Int(negative)),
            Value::Tag(3, magnitude())
        );
    }

    #[test]
    fn the_last_of_several_equal_keys_wins_be_they_bytes_or_text() {
        let map = Value::from_bytes(b"\xa3\x41k\x01\x61k\x02\x41j\xf6", 10).expect("well-formed");
        assert_eq!(map.get("k"), Some(&Value::from(2)));
        assert_eq!(
            (map.get("j"), map.get_some("j")),
            (Some(&Value::Null), None)
        );
    }

    #[test]
    fn text_with_lone_surrogates_becomes_bytes() {
        let value = Value::from_bytes(b"\x63\xed\xa0\x80", 10);
        assert_eq!(value, Ok(Value::Bytes(b"\xed\xa0\x80".to_vec())));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_again(bytes in prop::collection::vec(any::<u8>(), 1..64)) {
            if let Ok(value) = Value::from_bytes(&bytes, 100) {
                // By their encodings, as NaN is not equal to itself.
                prop_assert_eq!(there_and_back(&value).to_bytes(), value.to_bytes());
            }
        }
    }
}
