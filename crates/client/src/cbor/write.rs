//! Writing CBOR: definite lengths, shortest heads, double floats.

use super::TAG_TUPLE;

/// Appends items to a buffer. Containers are written head first; the caller then writes as many
/// items as it announced.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    fn head(&mut self, major: u8, argument: u64) {
        let major = major << 5;
        let bytes = argument.to_be_bytes();
        match argument {
            0..=23 => self.out.push(major | bytes[7]),
            24..=0xff => self.out.extend_from_slice(&[major | 24, bytes[7]]),
            0x100..=0xffff => {
                self.out.push(major | 25);
                self.out.extend_from_slice(&bytes[6..]);
            }
            0x1_0000..=0xffff_ffff => {
                self.out.push(major | 26);
                self.out.extend_from_slice(&bytes[4..]);
            }
            _ => {
                self.out.push(major | 27);
                self.out.extend_from_slice(&bytes);
            }
        }
    }

    /// A non-negative integer.
    pub fn unsigned(&mut self, value: u64) {
        self.head(0, value);
    }

    /// The integer -1 - n.
    pub fn negative(&mut self, n: u64) {
        self.head(1, n);
    }

    /// An integer.
    pub fn integer(&mut self, value: i64) {
        if value < 0 {
            self.head(1, !value.cast_unsigned())
        } else {
            self.head(0, value.cast_unsigned())
        }
    }

    /// A float, in eight bytes.
    pub fn float(&mut self, value: f64) {
        self.out.push(0xfb);
        self.out.extend_from_slice(&value.to_bits().to_be_bytes());
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) {
        self.head(2, value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// A text string.
    pub fn text(&mut self, value: &str) {
        self.head(3, value.len() as u64);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// The head of an array of `len` items.
    pub fn array(&mut self, len: usize) {
        self.head(4, len as u64);
    }

    /// The heads of a Python tuple of `len` items.
    pub fn tuple(&mut self, len: usize) {
        self.tag(TAG_TUPLE);
        self.array(len);
    }

    /// The head of a map of `len` entries.
    pub fn map(&mut self, len: usize) {
        self.head(5, len as u64);
    }

    /// A tag; the item that it is put on comes next.
    pub fn tag(&mut self, tag: u64) {
        self.head(6, tag);
    }

    /// True or false.
    pub fn boolean(&mut self, value: bool) {
        self.out.push(if value { 0xf5 } else { 0xf4 });
    }

    /// Null.
    pub fn null(&mut self) {
        self.out.push(0xf6);
    }

    /// A simple value other than the above. Those from 20 to 31 are no such values: null is written.
    pub fn simple(&mut self, value: u8) {
        match value {
            20..=31 => self.null(),
            _ => self.head(7, u64::from(value)),
        }
    }

    /// An item that is already encoded.
    pub fn encoded(&mut self, item: &[u8]) {
        self.out.extend_from_slice(item);
    }

    /// How many bytes the buffer holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// True if the buffer holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_take_the_shortest_form() {
        for (value, expected) in [
            (0, &b"\x00"[..]),
            (23, b"\x17"),
            (24, b"\x18\x18"),
            (255, b"\x18\xff"),
            (256, b"\x19\x01\x00"),
            (65_536, b"\x1a\x00\x01\x00\x00"),
            (1 << 32, b"\x1b\x00\x00\x00\x01\x00\x00\x00\x00"),
            (-1, b"\x20"),
            (-257, b"\x39\x01\x00"),
            (i64::MIN, b"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            let mut out = Vec::new();
            Writer::new(&mut out).integer(value);
            assert_eq!(out, expected, "{value}");
        }
    }
}
