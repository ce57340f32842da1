//! Values as JSON for people and programs, and back.
//!
//! What JSON has is shown as it is: null, booleans, numbers, text, arrays, and maps whose keys are strings.
//! Two differences are given up, since few need them and all would see them: a byte string that is UTF-8 is
//! shown as text, and a Python tuple (tag 128) as an array. They come back as text and as arrays.
//!
//! Everything else is shown as an object with a single key, and comes back as it was:
//!
//! | object | is |
//! | --- | --- |
//! | `{"$bytes": "\\xff"}` | a byte string that is not UTF-8, as [`super::escape`] writes it |
//! | `{"$int": "-9223372036854775809"}` | an integer beyond 64 bits (also one under tag 2 or 3, if it has no more bytes than it needs, and at most 16) |
//! | `{"$float": "NaN"}` | `NaN`, `inf` or `-inf` |
//! | `{"$map": [[1, "one"]]}` | a map with keys that are no strings, that are not UTF-8 or come twice; or one that looks like an object of this table |
//! | `{"$tag": [37, "..."]}` | a tag and what it is put on |
//! | `{"$simple": 99}` | another simple value |

use super::escape::{escape, unescape};
use super::{Item, Kind, TAG_BIG_NEGATIVE, TAG_BIG_UNSIGNED, TAG_TUPLE, Value};
use serde::{Serialize, Serializer};
use serde_json::Map;
use std::borrow::Cow;
use std::collections::HashSet;

const BYTES: &str = "$bytes";
const INT: &str = "$int";
const FLOAT: &str = "$float";
const MAP: &str = "$map";
const TAG: &str = "$tag";
const SIMPLE: &str = "$simple";

/// True for the keys of the module's table.
pub(super) fn is_escape_key(key: &[u8]) -> bool {
    let mut keys = [BYTES, INT, FLOAT, MAP, TAG, SIMPLE].iter();
    keys.any(|escape| escape.as_bytes() == key)
}

/// An object with a key of the module's table that holds something else than the table says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value of \"{key}\" must be {expected}")]
pub struct FromJsonError {
    key: &'static str,
    expected: &'static str,
}

/// The value as JSON.
///
/// ```
/// use coordinated_client::cbor::{Value, json};
/// let value = Value::map([("key", Value::Bytes(b"a".to_vec())), ("raw", Value::Bytes(vec![0xff]))]);
/// assert_eq!(json::to_json(&value).to_string(), r#"{"key":"a","raw":{"$bytes":"\\xff"}}"#);
/// ```
#[must_use]
pub fn to_json(value: &Value) -> serde_json::Value {
    let bytes = value.to_bytes();
    // Fails for no item: the keys of its maps are strings.
    serde_json::to_value(AsJson(Item::from_checked(&bytes))).unwrap_or_default()
}

/// An item that is written as JSON, without a tree of values in between.
///
/// ```
/// use coordinated_client::cbor::{Item, json::AsJson};
/// let item = Item::from_checked(b"\x82\x01\x41a");
/// assert_eq!(AsJson(item).to_text(), r#"[1,"a"]"#);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AsJson<'a>(pub Item<'a>);

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        match self.0.kind() {
            Kind::Null => json.serialize_unit(),
            Kind::Bool(value) => json.serialize_bool(value),
            Kind::Unsigned(value) => json.serialize_u64(value),
            Kind::Negative(n) => match i64::try_from(-1 - i128::from(n)) {
                Ok(value) => json.serialize_i64(value),
                Err(_) => object(json, INT, &(-1 - i128::from(n)).to_string()),
            },
            Kind::Float(value) if value.is_finite() => json.serialize_f64(value),
            Kind::Float(value) => object(json, FLOAT, &value.to_string()),
            Kind::Text(bytes) | Kind::Bytes(bytes) => match std::str::from_utf8(&bytes) {
                Ok(text) => json.serialize_str(text),
                Err(_) => object(json, BYTES, &escape(&bytes)),
            },
            Kind::Array(items) => json.collect_seq(items.map(AsJson)),
            Kind::Map(_) => self.serialize_map(json),
            Kind::Tag(TAG_TUPLE, content) if content.as_list().is_some() => {
                AsJson(content).serialize(json)
            }
            Kind::Tag(tag, content) => match big_integer(tag, content) {
                Some(value) => object(json, INT, &value.to_string()),
                None => object(json, TAG, &(tag, AsJson(content))),
            },
            Kind::Simple(value) => object(json, SIMPLE, &value),
        }
    }
}

impl AsJson<'_> {
    /// The JSON in one line.
    #[must_use]
    pub fn to_text(self) -> String {
        // Fails for no item: the keys of its maps are strings.
        serde_json::to_string(&self).unwrap_or_default()
    }

    fn serialize_map<S: Serializer>(&self, json: S) -> Result<S::Ok, S::Error> {
        let entries = || self.0.as_map().into_iter().flatten();
        let keys: Option<Vec<Cow<'_, [u8]>>> = entries()
            .map(|(key, _)| {
                key.as_string_bytes()
                    .filter(|bytes| std::str::from_utf8(bytes).is_ok())
            })
            .collect();
        let is_plain = |keys: &[Cow<'_, [u8]>]| match keys {
            [key] if is_escape_key(key) => false,
            _ => keys.iter().collect::<HashSet<_>>().len() == keys.len(),
        };
        if !keys.is_some_and(|keys| is_plain(&keys)) {
            let pairs: Vec<_> = entries()
                .map(|(key, value)| (AsJson(key), AsJson(value)))
                .collect();
            return object(json, MAP, &pairs);
        }
        json.collect_map(entries().map(|(key, value)| (AsJson(key), AsJson(value))))
    }
}

/// The integer that tag 2 or 3 and a byte string are, if it is encoded as [`Value::write`] does.
fn big_integer(tag: u64, content: Item<'_>) -> Option<i128> {
    let Kind::Bytes(bytes) = content.kind() else {
        return None;
    };
    if bytes.len() <= size_of::<u64>() || bytes.first() == Some(&0) {
        return None;
    }
    let mut all = [0; size_of::<i128>()];
    let start = all.len().checked_sub(bytes.len())?;
    all.get_mut(start..)?.copy_from_slice(&bytes);
    let magnitude = i128::try_from(u128::from_be_bytes(all)).ok()?;
    match tag {
        TAG_BIG_UNSIGNED => Some(magnitude),
        TAG_BIG_NEGATIVE => Some(-1 - magnitude),
        _ => None,
    }
}

/// An object with a single key.
fn object<S: Serializer>(
    json: S,
    key: &str,
    content: &(impl Serialize + ?Sized),
) -> Result<S::Ok, S::Error> {
    json.collect_map([(key, content)])
}

/// The value that JSON stands for.
///
/// # Errors
/// If an object has one of the table's keys, alone, and does not hold what belongs there.
pub fn from_json(json: &serde_json::Value) -> Result<Value, FromJsonError> {
    Ok(match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i128(), number.as_f64()) {
            (Some(value), _) => Value::Int(value),
            // Not beyond what a double float holds: its parser has taken care of that.
            (None, value) => Value::Float(value.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => {
            Value::Array(items.iter().map(from_json).collect::<Result<_, _>>()?)
        }
        serde_json::Value::Object(object) => match from_escape(object)? {
            Some(value) => value,
            None => Value::Map(
                object
                    .iter()
                    .map(|(key, value)| Ok((Value::from(key.as_str()), from_json(value)?)))
                    .collect::<Result<_, _>>()?,
            ),
        },
    })
}

/// The value that an object of the module's table stands for; `None` if it is none of them.
fn from_escape(object: &Map<String, serde_json::Value>) -> Result<Option<Value>, FromJsonError> {
    let mut entries = object.iter();
    let (Some((key, content)), None) = (entries.next(), entries.next()) else {
        return Ok(None);
    };
    let text = content.as_str();
    let (key, expected, value) = match key.as_str() {
        BYTES => (
            BYTES,
            "a string, in which a byte that is not UTF-8 is written \\xNN",
            text.and_then(|text| unescape(text).ok()).map(Value::Bytes),
        ),
        INT => (
            INT,
            "a string with an integer",
            text.and_then(|text| text.parse().ok()).map(Value::Int),
        ),
        FLOAT => (
            FLOAT,
            "\"NaN\", \"inf\" or \"-inf\"",
            text.and_then(|text| text.parse().ok()).map(Value::Float),
        ),
        MAP => (
            MAP,
            "a list of [key, value] pairs",
            map_from_pairs(content)?,
        ),
        TAG => (
            TAG,
            "a list of a tag's number and a value",
            tag_from(content)?,
        ),
        SIMPLE => (
            SIMPLE,
            "a number up to 255",
            content
                .as_u64()
                .and_then(|number| u8::try_from(number).ok())
                .map(Value::Simple),
        ),
        _ => return Ok(None),
    };
    match value {
        Some(value) => Ok(Some(value)),
        None => Err(FromJsonError { key, expected }),
    }
}

fn map_from_pairs(content: &serde_json::Value) -> Result<Option<Value>, FromJsonError> {
    let Some(pairs) = content.as_array() else {
        return Ok(None);
    };
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let Some([key, value]) = pair.as_array().map(Vec::as_slice) else {
            return Ok(None);
        };
        entries.push((from_json(key)?, from_json(value)?));
    }
    Ok(Some(Value::Map(entries)))
}

fn tag_from(content: &serde_json::Value) -> Result<Option<Value>, FromJsonError> {
    let Some([tag, value]) = content.as_array().map(Vec::as_slice) else {
        return Ok(None);
    };
    let Some(tag) = tag.as_u64() else {
        return Ok(None);
    };
    Ok(Some(Value::Tag(tag, Box::new(from_json(value)?))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_json_has_is_shown_as_it_is() {
        let value = Value::map([
            ("null", Value::Null),
            ("two", Value::Float(2.0)),
            ("n", Value::from(u64::MAX)),
            ("bytes", Value::Bytes(b"abc".to_vec())),
            ("tuple", Value::Tag(128, Box::new(Value::Array(vec![])))),
            ("$ref", Value::from("x")),
        ]);
        assert_eq!(
            to_json(&value).to_string(),
            r#"{"null":null,"two":2.0,"n":18446744073709551615,"bytes":"abc","tuple":[],"$ref":"x"}"#
        );
    }

    #[test]
    fn what_json_lacks_is_shown_in_objects() {
        let twice = vec![
            (Value::from("k"), Value::Null),
            (Value::Bytes(b"k".to_vec()), Value::Null),
        ];
        for (value, expected) in [
            (Value::Int(1 << 70), r#"{"$int":"1180591620717411303424"}"#),
            (Value::Float(f64::NEG_INFINITY), r#"{"$float":"-inf"}"#),
            (
                Value::Map(vec![(Value::from(4), Value::from(1))]),
                r#"{"$map":[[4,1]]}"#,
            ),
            (Value::Map(twice), r#"{"$map":[["k",null],["k",null]]}"#),
            (
                Value::map([("$int", Value::from("5"))]),
                r#"{"$map":[["$int","5"]]}"#,
            ),
            (
                Value::Tag(37, Box::new(Value::Bytes(vec![0xff; 2]))),
                r#"{"$tag":[37,{"$bytes":"\\xff\\xff"}]}"#,
            ),
        ] {
            assert_eq!(to_json(&value).to_string(), expected);
        }
    }

    #[test]
    fn objects_that_hold_what_does_not_belong_there_are_refused() {
        for json in [
            json!({"$bytes": 5}),
            json!({"$int": "x"}),
            json!({"$map": [[1]]}),
            json!({"$tag": [1]}),
            json!({"$simple": 256}),
        ] {
            let error = from_json(&json).expect_err("refused").to_string();
            assert!(error.contains("must be"), "{error}");
        }
        // With a second key it is an object like any other.
        assert!(from_json(&json!({"$bytes": 5, "other": 1})).is_ok());
    }

    /// Any value, but for what is given up: text is not told from bytes, nor tuples from arrays.
    fn shown_alike() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i128>().prop_map(Value::Int),
            any::<f64>().prop_map(Value::Float),
            prop::collection::vec(128_u8.., 1..4)
                .prop_filter("UTF-8", |bytes| std::str::from_utf8(bytes).is_err())
                .prop_map(Value::Bytes),
            "\\PC{0,4}".prop_map(Value::Text),
            Just(Value::from("$bytes")),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((inner.clone(), inner.clone()), 0..3).prop_map(Value::Map),
                (0..100_u64, inner).prop_map(|(tag, value)| Value::Tag(tag, Box::new(value))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_shown_comes_back(value in shown_alike()) {
            let json = to_json(&value);
            prop_assert_eq!(from_json(&json).map(|value| value.to_bytes()), Ok(value.to_bytes()));
        }
    }
}
