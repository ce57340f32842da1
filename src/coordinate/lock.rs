//! Locks: claims on paths in a tree of names, each by an owner and with an expiry.

use super::{Error, Name, Result};
use crate::clock::Timestamp;
use crate::limits::RequestLimits;
use crate::number::duration_from_seconds;
use coordinated_client::cbor::{Item, Kind, Writer, scan};
use std::time::Duration;

/// A place in the tree of locks: the labels that lead to it from the root, which is the empty path.
///
/// It is kept as bytes such that what lies below a path begins with the path's bytes: each label is
/// marked as a string or another value, its zero bytes are escaped, and an end mark follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockPath {
    bytes: Vec<u8>,
    /// Where each label ends in `bytes`.
    ends: Vec<usize>,
    text: String,
}

/// Labels of a path: each stands for a path above it that has to be looked up. The same as the levels of nesting that
/// a message may have.
const LABELS_MAX: usize = 100;

const STRING: u8 = b's';
const OTHER: u8 = b'v';

impl LockPath {
    /// The path that a list or tuple of labels is. Labels may be of any type; a byte and a text
    /// string of the same bytes are the same label.
    ///
    /// # Errors
    /// `Invalid` if it is no list, or too long.
    pub fn from_item(item: Item<'_>, limits: &RequestLimits) -> Result<Self> {
        let Some(labels) = item.as_list() else {
            return Err(Error::Invalid(format!(
                "path: expected a list or tuple of labels, got {}",
                item.kind_name()
            )));
        };
        let mut path = Self::root();
        for label in labels {
            if path.ends.len() >= LABELS_MAX {
                return Err(Error::Invalid(format!(
                    "path: more than {LABELS_MAX} labels"
                )));
            }
            path.push(label);
        }
        let (len, max) = (path.bytes.len(), limits.unit_name_bytes_max);
        if len > max {
            return Err(Error::Invalid(format!(
                "path: {len} bytes long, at most {max} are allowed"
            )));
        }
        Ok(path)
    }

    /// How many labels it has.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Its labels, for people.
    #[must_use]
    pub fn label_texts(&self) -> Vec<String> {
        let labels = labels(&self.bytes).flatten();
        labels
            .map(|(kind, content)| label_text(kind, &content))
            .collect()
    }

    /// With how many labels another path begins as this one does.
    #[must_use]
    pub fn common_labels(&self, other: &Self) -> usize {
        let mut labels = labels(&self.bytes).zip(labels(&other.bytes));
        labels
            .position(|(own, others)| own != others)
            .unwrap_or_else(|| self.len().min(other.len()))
    }

    /// The path without labels.
    #[must_use]
    pub fn root() -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            text: String::new(),
        }
    }

    /// The path of a single label, a string.
    #[must_use]
    pub fn top_level(label: &Name) -> Self {
        let mut path = Self::root();
        path.push_label(STRING, label.bytes());
        path
    }

    /// The path that is kept as these bytes; `None` if they are not those of a path.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut path = Self::root();
        for label in labels(bytes) {
            let (kind, content) = label?;
            // It came in a message, whose depth had a limit.
            let is_whole = kind == STRING || scan::check(&content, usize::MAX).is_ok();
            if !is_whole {
                return None;
            }
            path.push_label(kind, &content);
        }
        Some(path)
    }

    /// Writes the list of labels. A string goes out as a byte string: which form it came in is not kept.
    pub fn write(&self, writer: &mut Writer<'_>) {
        writer.array(self.ends.len());
        for (kind, content) in labels(&self.bytes).flatten() {
            match kind {
                STRING => writer.bytes(&content),
                _ => writer.encoded(&content),
            }
        }
    }

    fn push(&mut self, label: Item<'_>) {
        match label.as_string_bytes() {
            Some(string) => self.push_label(STRING, &string),
            None => self.push_label(OTHER, &canonical_bytes(label)),
        }
    }

    fn push_label(&mut self, kind: u8, content: &[u8]) {
        if !self.ends.is_empty() {
            self.text.push('/');
        }
        self.text.push_str(&label_text(kind, content));
        self.push_bytes(kind, content);
    }

    fn push_bytes(&mut self, kind: u8, content: &[u8]) {
        self.bytes.push(kind);
        for &byte in content {
            self.bytes.push(byte);
            if byte == 0 {
                self.bytes.push(0xff);
            }
        }
        self.bytes.extend_from_slice(&[0, 1]);
        self.ends.push(self.bytes.len());
    }

    /// The bytes that it is kept as.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The labels with slashes between them, for people.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The bytes of all paths above it, the root included.
    pub fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        let above = self.ends.split_last().map_or(&[][..], |(_, above)| above);
        let root = if self.ends.is_empty() {
            None
        } else {
            Some(&[][..])
        };
        root.into_iter()
            .chain(above.iter().filter_map(|end| self.bytes.get(..*end)))
    }
}

/// A label with its kind.
type Label = (u8, Vec<u8>);

/// A label, for people.
fn label_text(kind: u8, content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        Ok(text) if kind == STRING => text.to_owned(),
        _ => content.escape_ascii().to_string(),
    }
}

/// The labels in the bytes of a path; `None` for what is no label.
fn labels(bytes: &[u8]) -> impl Iterator<Item = Option<Label>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let label = split_label(rest);
        rest = label.as_ref().map_or(&[], |(_, rest)| rest);
        Some(label.map(|(label, _)| label))
    })
}

/// The first label, and what follows it.
fn split_label(bytes: &[u8]) -> Option<(Label, &[u8])> {
    let (&kind, mut rest) = bytes.split_first()?;
    if kind != STRING && kind != OTHER {
        return None;
    }
    let mut content = Vec::new();
    loop {
        rest = match rest {
            [0, 0xff, rest @ ..] => {
                content.push(0);
                rest
            }
            [0, 1, rest @ ..] => return Some(((kind, content), rest)),
            [0, ..] | [] => return None,
            [byte, rest @ ..] => {
                content.push(*byte);
                rest
            }
        };
    }
}

/// Numbers have many encodings; the shortest one is used to compare them.
fn canonical_bytes(label: Item<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    match label.kind() {
        Kind::Unsigned(value) => writer.unsigned(value),
        Kind::Negative(value) => writer.negative(value),
        Kind::Float(value) => writer.float(value),
        _ => writer.encoded(label.bytes()),
    }
    bytes
}

/// The longest time for which a lock is taken (docs/protocol.md, "Constants").
pub const LOCK_TIMEOUT_MAX: Duration = Duration::from_secs(1_000_000);

/// The timeout of a lock that states none.
const LOCK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// The timeout of a lock, from the seconds that were asked for: zero and less mean the default.
#[must_use]
pub fn lock_timeout(seconds: f64) -> Duration {
    if seconds <= 0.0 {
        LOCK_TIMEOUT_DEFAULT
    } else {
        duration_from_seconds(seconds).min(LOCK_TIMEOUT_MAX)
    }
}

/// A lock that is held.
#[derive(Debug, Clone)]
pub struct Lock {
    /// Who holds it.
    pub owner: Name,
    /// Until when.
    pub expiration: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(labels: &[&[u8]]) -> LockPath {
        let mut path = LockPath::root();
        for label in labels {
            path.push_bytes(STRING, label);
        }
        path
    }

    #[test]
    fn the_paths_above_a_path_are_the_root_and_its_proper_prefixes() {
        let below = path(&[b"a", b"b"]);
        assert_eq!(
            below.prefixes().collect::<Vec<_>>(),
            [&b""[..], path(&[b"a"]).bytes()]
        );
        assert_eq!(path(&[]).prefixes().count(), 0);
    }

    #[test]
    fn bytes_that_are_no_path_are_told_from_one() {
        for bytes in [
            &b"x\0\x01"[..],
            b"s",
            b"sa\0",
            b"sa\0\x02",
            b"sa\0\x01v\xff\0\x01",
            b"v\0\x01",
        ] {
            assert_eq!(LockPath::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_path_is_the_same_after_it_was_kept(
            labels in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(0..3_u8, 0..3).prop_map(|string| {
                        let mut encoded = Vec::new();
                        Writer::new(&mut encoded).bytes(&string);
                        encoded
                    }),
                    Just(vec![0]),
                    Just(b"\x82\x00\x61a".to_vec()),
                    Just(vec![0xf6]),
                ],
                0..4,
            ),
        ) {
            let mut encoded = Vec::new();
            Writer::new(&mut encoded).array(labels.len());
            encoded.extend(labels.concat());
            let limits = RequestLimits::default();
            let path = LockPath::from_item(Item::from_checked(&encoded), &limits).expect("a path");
            prop_assert_eq!(LockPath::from_bytes(path.bytes()), Some(path.clone()));
            let mut written = Vec::new();
            path.write(&mut Writer::new(&mut written));
            prop_assert_eq!(written, encoded);
        }

        #[test]
        fn the_bytes_of_one_path_begin_with_those_of_another_just_if_it_lies_below(
            one in prop::collection::vec(prop::collection::vec(0..3_u8, 0..3), 0..3),
            other in prop::collection::vec(prop::collection::vec(0..3_u8, 0..3), 0..3),
        ) {
            let of = |labels: &[Vec<u8>]| path(&labels.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(of(&one).bytes().starts_with(of(&other).bytes()), one.starts_with(&other));
        }
    }
}
