//! JSON text to CBOR, without values in between: for what comes by the million.
//!
//! It gives what [`super::json::from_json`] does, but that an object which has a key twice keeps both.

use super::json::from_json;
use super::{Item, Writer, json};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Reads one JSON value, and appends it to a buffer as CBOR.
///
/// ```
/// use coordinated_client::cbor::{Value, json_text::ToCbor};
/// use serde::de::DeserializeSeed;
/// let mut out = Vec::new();
/// let mut text = serde_json::Deserializer::from_str(r#"{"n": [1, null]}"#);
/// ToCbor(&mut out).deserialize(&mut text)?;
/// let list = Value::Array(vec![Value::from(1), Value::Null]);
/// assert_eq!(out, Value::map([("n", list)]).to_bytes());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug)]
pub struct ToCbor<'o>(pub &'o mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for ToCbor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        Reading::of(self.0, true).deserialize(json)
    }
}

/// The same, but no object has a special meaning: each becomes a map.
///
/// ```
/// use coordinated_client::cbor::{Value, json_text::PlainToCbor};
/// use serde::de::DeserializeSeed;
/// let mut out = Vec::new();
/// let mut text = serde_json::Deserializer::from_str(r#"{"$int": "1"}"#);
/// PlainToCbor(&mut out).deserialize(&mut text)?;
/// assert_eq!(out, Value::map([("$int", Value::from("1"))]).to_bytes());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug)]
pub struct PlainToCbor<'o>(pub &'o mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for PlainToCbor<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        Reading::of(self.0, false).deserialize(json)
    }
}

/// Reads one JSON value.
struct Reading<'o> {
    out: &'o mut Vec<u8>,
    /// True if the objects of [`json`]'s table have their special meaning.
    has_escapes: bool,
}

impl<'o> Reading<'o> {
    fn of(out: &'o mut Vec<u8>, has_escapes: bool) -> Self {
        Self { out, has_escapes }
    }

    /// Reads a part of it.
    fn part(&mut self) -> Reading<'_> {
        Reading::of(self.out, self.has_escapes)
    }

    fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.out)
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(mut self) -> Result<(), E> {
        self.writer().null();
        Ok(())
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.writer().boolean(value);
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.writer().unsigned(value);
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.writer().integer(value);
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.writer().float(value);
        Ok(())
    }

    fn visit_str<E>(mut self, value: &str) -> Result<(), E> {
        self.writer().text(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let begin = begin_container(self.out);
        let mut count = 0;
        while items.next_element_seed(self.part())?.is_some() {
            count += 1;
        }
        end_container(self.out, begin, |writer| writer.array(count));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let begin = begin_container(self.out);
        let mut count = 0;
        while entries.next_key_seed(self.part())?.is_some() {
            count += 1;
            let key = self.out.get(begin + 1..).unwrap_or_default();
            if self.has_escapes && count == 1 && is_escape(key) {
                count += read_escape(self.out, begin, &mut entries)?;
                if count == 1 {
                    return Ok(());
                }
            } else {
                entries.next_value_seed(self.part())?;
            }
        }
        end_container(self.out, begin, |writer| writer.map(count));
        Ok(())
    }
}

/// Makes room for the head of a container of few items.
fn begin_container(out: &mut Vec<u8>) -> usize {
    let begin = out.len();
    out.push(0);
    begin
}

/// Puts the head there, now that the number of items is known.
fn end_container(out: &mut Vec<u8>, begin: usize, head: impl FnOnce(&mut Writer<'_>)) {
    let mut encoded = Vec::new();
    head(&mut Writer::new(&mut encoded));
    out.splice(begin..=begin, encoded);
}

fn is_escape(key: &[u8]) -> bool {
    let key = Item::from_checked(key).as_string_bytes();
    key.is_some_and(|key| json::is_escape_key(&key))
}

/// Reads on, behind a key that may be all that an object of [`json`]'s table has. If it is, the whole value takes
/// the place of what begins at `begin`, and nothing more was read; else one more entry was.
fn read_escape<'de, A: MapAccess<'de>>(
    out: &mut Vec<u8>,
    begin: usize,
    entries: &mut A,
) -> Result<usize, A::Error> {
    let key = Item::from_checked(out.get(begin + 1..).unwrap_or_default()).as_string_bytes();
    let key = String::from_utf8_lossy(&key.unwrap_or_default()).into_owned();
    let content: serde_json::Value = entries.next_value()?;
    from_json(&content)
        .map_err(A::Error::custom)?
        .write(&mut Writer::new(out));
    if entries.next_key_seed(ToCbor(out))?.is_some() {
        entries.next_value_seed(ToCbor(out))?;
        return Ok(1);
    }
    let whole = serde_json::Value::Object([(key, content)].into_iter().collect());
    let value = from_json(&whole).map_err(A::Error::custom)?;
    out.truncate(begin);
    value.write(&mut Writer::new(out));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &str) -> Result<Vec<u8>, serde_json::Error> {
        let mut out = vec![0xff];
        let mut json = serde_json::Deserializer::from_str(text);
        ToCbor(&mut out).deserialize(&mut json)?;
        json.end()?;
        Ok(out.split_off(1))
    }

    #[test]
    fn escapes_stand_for_what_json_lacks() {
        for text in [
            r#"{"$bytes": "\\xff"}"#,
            r#"[{"$map": [[1, {"$int": "36893488147419103232"}]]}, {"$float": "NaN"}]"#,
            r#"{"$bytes": 5, "other": {"$tag": [37, {"$bytes": "\\x00"}]}, "third": 1}"#,
            r#"{"first": 1, "$bytes": "x"}"#,
        ] {
            let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
            let expected = from_json(&json).expect("a value").to_bytes();
            assert_eq!(encoded(text).expect("a value"), expected, "{text}");
        }
        let error = encoded(r#"{"a": {"$bytes": 5}}"#).expect_err("refused");
        assert!(error.to_string().contains("must be"), "{error}");
    }

    #[test]
    fn an_object_keeps_a_key_that_it_has_twice() {
        let bytes = encoded(r#"{"a": 1, "a": 2}"#).expect("a value");
        assert_eq!(bytes, b"\xa2\x61a\x01\x61a\x02");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            (-1e9_f64..1e9).prop_map(Into::into),
            "\\PC{0,30}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 60, 30, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..30).prop_map(Into::into),
                prop::collection::hash_map("[a-z]{1,3}", inner, 0..30).prop_map(|entries| {
                    serde_json::Value::Object(entries.into_iter().collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_becomes_the_same_bytes_as_by_way_of_values(json in any_json()) {
            let expected = from_json(&json).map(|value| value.to_bytes());
            prop_assert_eq!(encoded(&json.to_string()).ok(), expected.ok());
        }
    }
}
