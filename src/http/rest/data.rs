//! Data dictionaries: JSON objects, or strings of CBOR in base64 where JSON can't carry them.
//!
//! What a client puts, it gets back. So a dictionary with a byte string, a tuple, a UUID or another tag, a float that is no
//! number, an integer beyond 64 bits, or a key that is no text is given as CBOR, with the bytes that were stored. Two
//! differences are given up, since Python 2 has its strings as bytes: keys that are byte strings are shown as text, and so
//! are the values of a work spec's definition, but not those within its lists and maps. All of these only if they are UTF-8.

use super::error::RestError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coordinated_client::cbor::json_text::PlainToCbor;
use coordinated_client::cbor::scan::check;
use coordinated_client::cbor::{EMPTY_MAP, Item, Kind};
use serde::de::DeserializeSeed;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashSet;
use std::str::from_utf8;

/// A dictionary as a client has given it, in either form. It is not checked yet.
#[derive(Debug)]
pub(super) struct Given(Vec<u8>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let mut encoded = Vec::new();
        PlainToCbor(&mut encoded).deserialize(json)?;
        Ok(Self(encoded))
    }
}

impl Given {
    /// The dictionary, encoded.
    ///
    /// # Errors
    /// If it is none, can't be decoded, or is nested too deeply.
    pub(super) fn into_encoded(self, depth_max: usize) -> Result<Vec<u8>, RestError> {
        let item = Item::from_checked(&self.0);
        let encoded = match item.kind() {
            Kind::Map(_) => self.0,
            Kind::Text(text) => STANDARD
                .decode(&*text)
                .map_err(|error| RestError::bad_request(format!("data: not base64: {error}")))?,
            _ => {
                let found = item.kind_name();
                let message = format!("data: expected an object, or a string of CBOR, got {found}");
                return Err(RestError::bad_request(message));
            }
        };
        check(&encoded, depth_max)
            .map_err(|error| RestError::bad_request(format!("data: not CBOR: {error}")))?;
        match Item::from_checked(&encoded).as_map() {
            Some(_) => Ok(encoded),
            None => Err(RestError::bad_request("data: expected a map")),
        }
    }
}

/// A dictionary that is left out, or empty.
pub(super) fn or_empty(data: Option<Given>, depth_max: usize) -> Result<Vec<u8>, RestError> {
    data.map_or(Ok(EMPTY_MAP.to_vec()), |data| data.into_encoded(depth_max))
}

/// A dictionary as an answer has it.
#[derive(Clone, Copy)]
pub(super) struct Dictionary<'a> {
    item: Item<'a>,
    /// True if its values that are byte strings are shown as text.
    is_definition: bool,
}

impl<'a> Dictionary<'a> {
    /// The dictionary of a unit, an attempt or a worker; `None` for an empty one.
    pub(super) fn of(encoded: &'a [u8]) -> Option<Self> {
        let item = Item::from_checked(encoded);
        let is_empty = item.as_map().is_some_and(|mut map| map.next().is_none());
        (!is_empty).then_some(Self {
            item,
            is_definition: false,
        })
    }

    /// The definition of a work spec.
    pub(super) fn of_definition(encoded: &'a [u8]) -> Self {
        Self {
            item: Item::from_checked(encoded),
            is_definition: true,
        }
    }
}

impl Serialize for Dictionary<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let plain = Plain {
            item: self.item,
            shows_bytes: false,
        };
        if plain.is_exact(self.is_definition) {
            plain.write(self.is_definition, json)
        } else {
            json.serialize_str(&STANDARD.encode(self.item.bytes()))
        }
    }
}

/// A value that JSON has.
#[derive(Clone, Copy)]
struct Plain<'a> {
    item: Item<'a>,
    /// True if it may be a byte string, which is shown as text.
    shows_bytes: bool,
}

impl<'a> Plain<'a> {
    /// The values of a map with their keys.
    fn entries(self, shows_bytes: bool) -> impl Iterator<Item = (Item<'a>, Plain<'a>)> {
        let entries = self.item.as_map().into_iter().flatten();
        entries.map(move |(key, item)| (key, Plain { item, shows_bytes }))
    }

    /// True if JSON carries it. `shows_bytes` is about the values of a map.
    fn is_exact(self, shows_bytes: bool) -> bool {
        match self.item.kind() {
            Kind::Null | Kind::Bool(_) | Kind::Unsigned(_) => true,
            Kind::Negative(n) => i64::try_from(n).is_ok(),
            Kind::Float(value) => value.is_finite(),
            Kind::Text(text) => from_utf8(&text).is_ok(),
            Kind::Bytes(bytes) => self.shows_bytes && from_utf8(&bytes).is_ok(),
            Kind::Array(mut items) => items.all(|item| {
                Plain {
                    item,
                    shows_bytes: false,
                }
                .is_exact(false)
            }),
            Kind::Map(_) => {
                let mut keys = HashSet::new();
                self.entries(shows_bytes).all(|(key, value)| {
                    let key = key.as_string_bytes();
                    key.is_some_and(|key| from_utf8(&key).is_ok() && keys.insert(key))
                        && value.is_exact(false)
                })
            }
            Kind::Tag(..) | Kind::Simple(_) => false,
        }
    }

    fn write<S: Serializer>(self, shows_bytes: bool, json: S) -> Result<S::Ok, S::Error> {
        match self.item.kind() {
            Kind::Bool(value) => json.serialize_bool(value),
            Kind::Unsigned(value) => json.serialize_u64(value),
            Kind::Negative(n) => json.serialize_i64(-1 - i64::try_from(n).unwrap_or(i64::MAX)),
            Kind::Float(value) => json.serialize_f64(value),
            Kind::Text(text) | Kind::Bytes(text) => {
                json.serialize_str(&String::from_utf8_lossy(&text))
            }
            Kind::Array(items) => json.collect_seq(items.map(|item| Plain {
                item,
                shows_bytes: false,
            })),
            Kind::Map(_) => json.collect_map(self.entries(shows_bytes).map(|(key, value)| {
                let key = key.as_string_bytes().unwrap_or_default();
                (String::from_utf8_lossy(&key).into_owned(), value)
            })),
            Kind::Null | Kind::Tag(..) | Kind::Simple(_) => json.serialize_unit(),
        }
    }
}

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        self.write(false, json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coordinated_client::cbor::Value;
    use proptest::prelude::*;
    use serde_json::json;

    fn shown(value: &Value) -> serde_json::Value {
        let encoded = value.to_bytes();
        let dictionary = Dictionary::of(&encoded);
        serde_json::to_value(dictionary).expect("JSON")
    }

    #[test]
    fn what_json_carries_is_shown_as_it_is_and_everything_else_as_cbor() {
        let plain = r#"{"n":9007199254740993,"neg":-9223372036854775808,"f":3.0,"big":18446744073709551615,"l":[],"m":{"$int":"5"},"z":null,"t":"\u00e9"}"#;
        let given: Given = serde_json::from_str(plain).expect("a dictionary");
        let encoded = given.into_encoded(100).expect("it is one");
        let text = serde_json::to_string(&Dictionary::of(&encoded)).expect("JSON");
        assert_eq!(text, plain.replace("\\u00e9", "\u{e9}"));
        for value in [
            Value::Bytes(b"x".to_vec()),
            Value::Tag(128, Box::new(Value::Array(vec![]))),
            Value::Tag(37, Box::new(Value::Bytes(vec![0; 16]))),
            Value::Float(f64::NAN),
            Value::Int(1 << 70),
            Value::Map(vec![(Value::from(1), Value::Null)]),
        ] {
            let dictionary = Value::map([("k", Value::Array(vec![value]))]);
            let text = shown(&dictionary);
            assert_eq!(text, STANDARD.encode(dictionary.to_bytes()));
        }
    }

    #[test]
    fn keys_and_the_values_of_a_definition_that_are_byte_strings_are_text() {
        let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        let entry = Value::Map(vec![(bytes("k"), Value::from(1))]);
        assert_eq!(shown(&entry), json!({"k": 1}));
        let flat = Value::Map(vec![(bytes("name"), bytes("s"))]).to_bytes();
        let text = serde_json::to_value(Dictionary::of_definition(&flat)).expect("JSON");
        assert_eq!(text, json!({"name": "s"}));
        let nested = Value::map([("l", Value::Array(vec![bytes("s")]))]).to_bytes();
        let text = serde_json::to_value(Dictionary::of_definition(&nested)).expect("JSON");
        assert!(text.is_string(), "{text}");
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        for given in [
            json!([]),
            json!(1),
            json!("!"),
            json!("AQ=="),
            json!("oW=="),
            json!(STANDARD.encode(b"\xa1\x61k")),
        ] {
            let given: Given = serde_json::from_value(given).expect("a value");
            assert!(given.into_encoded(100).is_err());
        }
        let deep: Given = serde_json::from_str(r#"{"a":{"b":{"c":1}}}"#).expect("a value");
        assert!(deep.into_encoded(2).is_err());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::Float),
            prop::collection::vec(any::<u8>(), 0..4).prop_map(Value::Bytes),
            "\\PC{0,4}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((".{0,3}".prop_map(Value::Text), inner.clone()), 0..3)
                    .prop_map(Value::Map),
                (0..200_u64, inner).prop_map(|(tag, value)| Value::Tag(tag, Box::new(value))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_client_gets_back_what_it_puts(value in any_value()) {
            let encoded = Value::map([("key", value)]).to_bytes();
            let shown = serde_json::to_string(&Dictionary::of(&encoded)).expect("JSON");
            let given: Given = serde_json::from_str(&shown).expect("a value");
            prop_assert_eq!(given.into_encoded(100).expect("a dictionary"), encoded);
        }
    }
}
