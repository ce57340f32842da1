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
//! | `{"$int": "-9223372036854775809"}` | an integer beyond 64 bits; one that CBOR has under tag 2 or 3 is shown as that |
//! | `{"$float": "NaN"}` | `NaN`, `inf` or `-inf` |
//! | `{"$map": [[1, "one"]]}` | a map with keys that are no strings, that are not UTF-8 or come twice; or one that looks like an object of this table |
//! | `{"$tag": [37, "..."]}` | a tag and what it is put on |
//! | `{"$simple": 99}` | another simple value |

use super::escape::{escape, unescape};
use super::{TAG_TUPLE, Value};
use serde_json::{Map, Number, json};
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
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => match Number::from_i128(*value) {
            Some(number) => number.into(),
            None => json!({ INT: value.to_string() }),
        },
        Value::Float(value) => match Number::from_f64(*value) {
            Some(number) => number.into(),
            None => json!({ FLOAT: value.to_string() }),
        },
        Value::Text(text) => text.as_str().into(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => json!({ BYTES: escape(bytes) }),
        },
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => map_to_json(entries),
        Value::Tag(TAG_TUPLE, content) if content.as_list().is_some() => to_json(content),
        Value::Tag(tag, content) => json!({ TAG: [json!(tag), to_json(content)] }),
        Value::Simple(value) => json!({ SIMPLE: value }),
    }
}

fn map_to_json(entries: &[(Value, Value)]) -> serde_json::Value {
    let keys: Option<Vec<&str>> = entries
        .iter()
        .map(|(key, _)| std::str::from_utf8(key.as_string_bytes()?).ok())
        .collect();
    let is_plain = |keys: &[&str]| match keys {
        [key] if is_escape_key(key.as_bytes()) => false,
        _ => keys.iter().collect::<HashSet<_>>().len() == keys.len(),
    };
    match keys.filter(|keys| is_plain(keys)) {
        Some(keys) => {
            let values = entries.iter().map(|(_, value)| to_json(value));
            let keys = keys.into_iter().map(str::to_owned);
            serde_json::Value::Object(keys.zip(values).collect())
        }
        None => {
            let pairs = entries
                .iter()
                .map(|(key, value)| json!([to_json(key), to_json(value)]));
            json!({ MAP: pairs.collect::<Vec<_>>() })
        }
    }
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
