//! Data dictionaries as text: exactly what is stored, except what the operator wants kept out of sight.

use coordinated_client::cbor::json::AsJson;
use coordinated_client::cbor::{Item, Kind, Writer};
use std::sync::Arc;

/// Bytes of a text that a page shows, 64 KiB: more than people read. The rest is there on request.
pub(super) const SHOWN_BYTES_MAX: usize = 64 << 10;

/// Keys whose values are not shown.
#[derive(Clone, Debug)]
pub(super) struct Redaction(Arc<[String]>);

impl Redaction {
    pub(super) fn new(keys: &[String]) -> Self {
        Self(keys.into())
    }

    /// An encoded item as JSON, in lines.
    pub(super) fn json(&self, data: &[u8]) -> String {
        let redacted;
        let data = if self.0.is_empty() {
            data
        } else {
            let mut out = Vec::with_capacity(data.len());
            self.write(Item::from_checked(data), &mut Writer::new(&mut out));
            redacted = out;
            &redacted
        };
        // Fails for no item: the keys of its maps are strings.
        serde_json::to_string_pretty(&AsJson(Item::from_checked(data))).unwrap_or_default()
    }

    /// True if the values of a key are not shown.
    pub(super) fn hides(&self, key: &[u8]) -> bool {
        self.0.iter().any(|hidden| hidden.as_bytes() == key)
    }

    /// Writes an item without the values of the keys, at any depth. Data are nested to a limited depth.
    fn write(&self, item: Item<'_>, writer: &mut Writer<'_>) {
        match item.kind() {
            Kind::Map(entries) => {
                let entries: Vec<_> = entries.collect();
                writer.map(entries.len());
                for (key, value) in entries {
                    writer.encoded(key.bytes());
                    match key.as_string_bytes() {
                        Some(key) if self.hides(&key) => writer.text("(redacted)"),
                        _ => self.write(value, writer),
                    }
                }
            }
            Kind::Array(items) => {
                let items: Vec<_> = items.collect();
                writer.array(items.len());
                for item in items {
                    self.write(item, writer);
                }
            }
            Kind::Tag(tag, content) => {
                writer.tag(tag);
                self.write(content, writer);
            }
            _ => writer.encoded(item.bytes()),
        }
    }
}

/// A text, of which a page shows the beginning.
#[derive(Debug)]
pub(super) struct Excerpt {
    pub(super) text: String,
    /// Bytes that are not shown.
    pub(super) left_out: usize,
}

impl Excerpt {
    pub(super) fn of(mut text: String) -> Self {
        let shown = text.floor_char_boundary(SHOWN_BYTES_MAX);
        let left_out = text.len() - shown;
        text.truncate(shown);
        Self { text, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_redacted_keys_are_not_shown_at_any_depth_and_others_are_exact() {
        let mut data = Vec::new();
        let mut writer = Writer::new(&mut data);
        writer.map(3);
        writer.bytes(b"password");
        writer.text("secret");
        writer.text("inner");
        writer.array(1);
        writer.map(1);
        writer.text("password");
        writer.array(1);
        writer.text("secret");
        writer.text("n");
        writer.unsigned(u64::MAX);
        let shown = Redaction::new(&["password".to_owned()]).json(&data);
        assert!(!shown.contains("secret"), "{shown}");
        assert_eq!(shown.matches("(redacted)").count(), 2);
        assert!(shown.contains("18446744073709551615"));
        assert!(Redaction::new(&[]).json(&data).contains("secret"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let excerpt = Excerpt::of("\u{e9}".repeat(SHOWN_BYTES_MAX));
        assert_eq!(excerpt.text.len(), SHOWN_BYTES_MAX);
        assert_eq!(excerpt.left_out, SHOWN_BYTES_MAX);
        assert_eq!(Excerpt::of("short".to_owned()).left_out, 0);
    }
}
