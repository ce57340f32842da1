//! Walking checked bytes.

use super::{BREAK, Head, INDEFINITE, TAG_TUPLE};
use std::borrow::Cow;
use std::ops::Range;

/// One item, as a span of bytes that a [`super::scan::Scanner`] has found well-formed.
///
/// Walking bytes that were never checked gives wrong items, but no panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    bytes: &'a [u8],
}

/// What an item is.
#[derive(Debug)]
pub enum Kind<'a> {
    /// A non-negative integer.
    Unsigned(u64),
    /// The integer -1 - n.
    Negative(u64),
    /// A byte string, put together if it came in chunks.
    Bytes(Cow<'a, [u8]>),
    /// The bytes of a text string, put together if it came in chunks. They are UTF-8, but for the lone
    /// surrogates that Python 2 writes.
    Text(Cow<'a, [u8]>),
    /// An array.
    Array(Items<'a>),
    /// A map.
    Map(Entries<'a>),
    /// A tag and what it is put on.
    Tag(u64, Item<'a>),
    /// True or false.
    Bool(bool),
    /// Null, or undefined.
    Null,
    /// A float of any width.
    Float(f64),
    /// Another simple value.
    Simple(u64),
}

impl<'a> Item<'a> {
    /// The item that `bytes` are. They must have been checked.
    #[must_use]
    pub fn from_checked(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The encoding, byte for byte as it came.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The item as the only one of a list.
    #[must_use]
    pub fn alone(self) -> Items<'a> {
        Items {
            rest: self.bytes,
            left: Some(1),
        }
    }

    /// What the item is.
    #[must_use]
    pub fn kind(self) -> Kind<'a> {
        let Ok(Some(head)) = Head::read(self.bytes) else {
            return Kind::Null;
        };
        let content = self.bytes.get(head.len..).unwrap_or_default();
        let items = Items {
            rest: content,
            left: (head.info != INDEFINITE).then_some(head.argument),
        };
        match head.major {
            0 => Kind::Unsigned(head.argument),
            1 => Kind::Negative(head.argument),
            2 if head.info == INDEFINITE => Kind::Bytes(Cow::Owned(concatenate_chunks(content))),
            2 => Kind::Bytes(Cow::Borrowed(content)),
            3 if head.info == INDEFINITE => Kind::Text(Cow::Owned(concatenate_chunks(content))),
            3 => Kind::Text(Cow::Borrowed(content)),
            4 => Kind::Array(items),
            5 => Kind::Map(Entries(Items {
                left: items.left.map(|n| n.saturating_mul(2)),
                ..items
            })),
            6 => Kind::Tag(head.argument, Item { bytes: content }),
            _ => simple_kind(head),
        }
    }

    /// True for null and undefined.
    #[must_use]
    pub fn is_null(self) -> bool {
        matches!(self.bytes, [0xf6 | 0xf7])
    }

    /// The items of an array, or of a tuple: tag 128 around an array.
    #[must_use]
    pub fn as_list(self) -> Option<Items<'a>> {
        match self.kind() {
            Kind::Array(items) => Some(items),
            Kind::Tag(TAG_TUPLE, content) => match content.kind() {
                Kind::Array(items) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    /// The entries of a map.
    #[must_use]
    pub fn as_map(self) -> Option<Entries<'a>> {
        match self.kind() {
            Kind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The content of a byte or text string.
    #[must_use]
    pub fn as_string_bytes(self) -> Option<Cow<'a, [u8]>> {
        match self.kind() {
            Kind::Bytes(bytes) | Kind::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// True if the item is a text string.
    #[must_use]
    pub fn is_text(self) -> bool {
        self.bytes.first().is_some_and(|first| first >> 5 == 3)
    }

    /// The value that a map has under a name, be the key text or bytes; the last one if there are
    /// several, as in Python. `None` for no such key, or no map.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Item<'a>> {
        self.as_map()?
            .filter(|(key, _)| {
                key.as_string_bytes()
                    .is_some_and(|key| *key == *name.as_bytes())
            })
            .last()
            .map(|(_, value)| value)
    }

    /// As [`Item::get`], with null taken for absent.
    #[must_use]
    pub fn get_some(self, name: &str) -> Option<Item<'a>> {
        self.get(name).filter(|value| !value.is_null())
    }

    /// What the item is, in a word for error messages.
    #[must_use]
    pub fn kind_name(self) -> &'static str {
        match self.kind() {
            Kind::Unsigned(_) | Kind::Negative(_) => "an integer",
            Kind::Bytes(_) => "a byte string",
            Kind::Text(_) => "a text string",
            Kind::Array(_) => "a list",
            Kind::Map(_) => "a map",
            Kind::Tag(TAG_TUPLE, _) => "a tuple",
            Kind::Tag(2 | 3, _) => "a big integer",
            Kind::Tag(..) => "a tagged value",
            Kind::Bool(_) => "a boolean",
            Kind::Null => "null",
            Kind::Float(_) => "a float",
            Kind::Simple(_) => "a simple value",
        }
    }
}

fn simple_kind<'a>(head: Head) -> Kind<'a> {
    match head.info {
        20 => Kind::Bool(false),
        21 => Kind::Bool(true),
        22 | 23 => Kind::Null,
        25 => Kind::Float(half_to_f64(u16::try_from(head.argument).unwrap_or(0))),
        26 => Kind::Float(f64::from(f32::from_bits(
            u32::try_from(head.argument).unwrap_or(0),
        ))),
        27 => Kind::Float(f64::from_bits(head.argument)),
        _ => Kind::Simple(head.argument),
    }
}

/// RFC 8949, appendix D.
fn half_to_f64(half: u16) -> f64 {
    let exponent = i32::from(half >> 10 & 0x1f);
    let fraction = f64::from(half & 0x3ff);
    let magnitude = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (fraction + 1024.0) * 2_f64.powi(exponent - 25),
    };
    if half & 0x8000 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

fn concatenate_chunks(content: &[u8]) -> Vec<u8> {
    let chunks = Items {
        rest: content,
        left: None,
    };
    let mut whole = Vec::new();
    for chunk in chunks {
        if let Some(part) = chunk.as_string_bytes() {
            whole.extend_from_slice(&part);
        }
    }
    whole
}

/// The items of an array, in order.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a [u8],
    left: Option<u64>,
}

impl Items<'_> {
    /// True if there are more than `max` items. Walks them only if their number is not stated.
    #[must_use]
    pub fn are_more_than(&self, max: usize) -> bool {
        match self.left {
            Some(left) => usize::try_from(left).map_or(true, |left| left > max),
            None => self.clone().nth(max).is_some(),
        }
    }
}

impl<'a> Items<'a> {
    /// Where these items are in `bytes`, which they were taken from.
    #[must_use]
    pub fn place_in(&self, bytes: &[u8]) -> Place {
        let start = self
            .rest
            .as_ptr()
            .addr()
            .wrapping_sub(bytes.as_ptr().addr());
        Place {
            span: start..start.wrapping_add(self.rest.len()),
            left: self.left,
        }
    }
}

/// A place within a list that was gone through to there, to be kept without the bytes of it.
#[derive(Clone, Debug)]
pub struct Place {
    span: Range<usize>,
    left: Option<u64>,
}

impl Place {
    /// The items from there on; `bytes` are what [`Items::place_in`] was given, or equal ones.
    #[must_use]
    pub fn items<'a>(&self, bytes: &'a [u8]) -> Items<'a> {
        Items {
            rest: bytes.get(self.span.clone()).unwrap_or_default(),
            left: self.left,
        }
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        match &mut self.left {
            Some(0) => return None,
            Some(left) => *left -= 1,
            None if self.rest.first() == Some(&BREAK) => return None,
            None => {}
        }
        let (bytes, rest) = self.rest.split_at_checked(item_len(self.rest)?)?;
        self.rest = rest;
        Some(Item { bytes })
    }
}

/// The entries of a map, in the order in which they came.
#[derive(Clone, Debug)]
pub struct Entries<'a>(Items<'a>);

impl Entries<'_> {
    /// True if there are more than `max` entries. Walks them only if their number is not stated.
    #[must_use]
    pub fn are_more_than(&self, max: usize) -> bool {
        self.0.are_more_than(max.saturating_mul(2))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Item<'a>, Item<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.0.next()?))
    }
}

/// How many bytes the first item of checked `bytes` takes.
fn item_len(bytes: &[u8]) -> Option<usize> {
    let mut position = 0;
    // Items still to come at each open level; `None` for a level that a break ends.
    let mut left = 1_u64;
    let mut levels: Vec<Option<u64>> = Vec::new();
    let mut indefinite = false;
    loop {
        if indefinite && bytes.get(position) == Some(&BREAK) {
            position += 1;
            left = 0;
            indefinite = false;
        } else if indefinite || left > 0 {
            let head = Head::read(bytes.get(position..)?).ok()??;
            left = left.saturating_sub(1);
            position += head.len;
            let children = match head.major {
                2..=5 if head.info == INDEFINITE => None,
                2 | 3 => {
                    position = position.checked_add(usize::try_from(head.argument).ok()?)?;
                    continue;
                }
                4 => Some(head.argument),
                5 => Some(head.argument.saturating_mul(2)),
                6 => Some(1),
                _ => continue,
            };
            levels.push((!indefinite).then_some(left));
            indefinite = children.is_none();
            left = children.unwrap_or(0);
            continue;
        }
        if left == 0 && !indefinite {
            match levels.pop() {
                None => return Some(position),
                Some(outer) => {
                    indefinite = outer.is_none();
                    left = outer.unwrap_or(0);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::{Progress, Scanner};
    use super::*;
    use proptest::prelude::*;

    fn item(bytes: &[u8]) -> Item<'_> {
        super::super::scan::check(bytes, 100).expect("well-formed");
        Item::from_checked(bytes)
    }

    #[test]
    fn the_last_of_several_equal_keys_wins_be_they_bytes_or_text() {
        let map = item(b"\xa3\x41k\x01\x61k\x02\x41j\x03");
        assert!(matches!(
            map.get("k").map(Item::kind),
            Some(Kind::Unsigned(2))
        ));
        assert!(map.get("nope").is_none());
    }

    #[test]
    fn lists_are_arrays_and_tuples_and_nothing_else() {
        assert_eq!(
            item(b"\x82\x01\x02").as_list().map(Iterator::count),
            Some(2)
        );
        assert_eq!(
            item(b"\xd8\x80\x9f\x01\xff").as_list().map(Iterator::count),
            Some(1)
        );
        assert!(item(b"\xd8\x81\x80").as_list().is_none());
        assert!(item(b"\xa0").as_list().is_none());
    }

    #[test]
    fn a_list_is_gone_on_with_from_a_place_that_was_kept() {
        for bytes in [
            &b"\x84\x01\x42ab\x81\x02\x03"[..],
            b"\x9f\x01\x42ab\x81\x02\x03\xff",
        ] {
            let mut items = item(bytes).as_list().expect("a list");
            for left in (0..4).rev() {
                assert!(items.next().is_some());
                let moved = bytes.to_vec();
                let kept = items.place_in(bytes);
                let expected: Vec<_> = items.clone().collect();
                assert_eq!(kept.items(&moved).collect::<Vec<_>>(), expected);
                assert_eq!(expected.len(), left);
            }
        }
    }

    #[test]
    fn strings_in_chunks_are_put_together() {
        assert_eq!(
            item(b"\x5f\x41a\x42bc\xff").as_string_bytes().as_deref(),
            Some(&b"abc"[..])
        );
        assert_eq!(
            item(b"\x7f\x62\xc3\xbc\x61x\xff")
                .as_string_bytes()
                .as_deref(),
            Some("üx".as_bytes())
        );
    }

    #[test]
    fn floats_of_all_widths_are_read() {
        for (bytes, expected) in [
            (&b"\xf9\x3c\x00"[..], 1.0),
            (b"\xf9\xc4\x00", -4.0),
            (b"\xf9\x00\x01", 2_f64.powi(-24)),
            (b"\xf9\x7c\x00", f64::INFINITY),
            (b"\xfa\x47\xc3\x50\x00", 100_000.0),
            (b"\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", 1.1),
        ] {
            assert!(
                matches!(item(bytes).kind(), Kind::Float(found) if found == expected),
                "{bytes:x?}"
            );
        }
        assert!(matches!(item(b"\xf9\x7e\x00").kind(), Kind::Float(found) if found.is_nan()));
    }

    proptest! {
        #[test]
        fn the_walker_and_the_scanner_agree_where_an_item_ends(bytes in prop::collection::vec(any::<u8>(), 1..64)) {
            let mut scanner = Scanner::new(100, 1 << 20);
            if let Ok(Progress::Complete(end)) = scanner.advance(&bytes) {
                prop_assert_eq!(item_len(&bytes), Some(end));
            }
        }

        #[test]
        fn walking_unchecked_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let item = Item::from_checked(&bytes);
            let _ = (item.kind_name(), item.get("k"), item.as_string_bytes());
            let _ = item.as_list().map(Iterator::count);
        }
    }
}
