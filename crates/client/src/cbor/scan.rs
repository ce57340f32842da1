//! Checking bytes from outside: is this one whole, well-formed item?
//!
//! The scanner can stop anywhere and go on where it stopped, so a message that arrives a byte at a
//! time costs no more than one that arrives at once. It allocates one small entry for each open
//! container, and so never more than the depth limit allows, whatever lengths the bytes claim.

use super::{BREAK, Head, INDEFINITE};

/// Why bytes are not acceptable CBOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// A byte that can't stand there.
    #[error("byte {at} (0x{byte:02x}) can't stand here")]
    BadByte {
        /// Offset from the start of the item.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// A text string that is not UTF-8.
    #[error("the text string that begins at byte {at} is not UTF-8: send it as a byte string")]
    NotUtf8 {
        /// Offset from the start of the item.
        at: usize,
    },
    /// More containers within each other than allowed.
    #[error("nested deeper than {limit} levels (limit max-depth) at byte {at}")]
    TooDeep {
        /// Offset from the start of the item.
        at: usize,
        /// The limit.
        limit: usize,
    },
    /// The item can't end within the allowed number of bytes.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The bytes end before the item does, or go on behind it.
    #[error("expected one item of {expected} bytes, and there are {found}")]
    WrongLength {
        /// Where the item ends, or how far it got.
        expected: usize,
        /// How many bytes there are.
        found: usize,
    },
}

/// How far a scan got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Well-formed so far; more bytes are needed.
    Incomplete,
    /// One whole item, this many bytes long.
    Complete(usize),
}

/// What is open around the next byte.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// So many items are still to come, in an array, a map, a tag, or the item itself.
    Items(u64),
    /// An indefinite-length array.
    Array,
    /// An indefinite-length map; `true` if a value must come next.
    Map(bool),
    /// An indefinite-length string: chunks of this major type.
    Chunks(u8),
}

/// A resumable check of one item.
#[derive(Debug)]
pub struct Scanner {
    depth_max: usize,
    bytes_max: usize,
    position: usize,
    open: Vec<Open>,
}

impl Scanner {
    /// A scanner for one item of at most `bytes_max` bytes and `depth_max` levels.
    #[must_use]
    pub fn new(depth_max: usize, bytes_max: usize) -> Self {
        Self {
            depth_max,
            bytes_max,
            position: 0,
            open: Vec::new(),
        }
    }

    /// Forgets the item, to begin another.
    pub fn reset(&mut self) {
        self.position = 0;
        self.open.clear();
    }

    /// Goes on with the check. `bytes` begins where the item begins, each time, and holds at least
    /// as much as the last time.
    ///
    /// # Errors
    /// See [`ScanError`]; the scanner is of no further use then.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Progress, ScanError> {
        if self.open.is_empty() {
            if self.position > 0 {
                return Ok(Progress::Complete(self.position));
            }
            self.open.push(Open::Items(1));
        }
        loop {
            if self.close_what_is_full() {
                return Ok(Progress::Complete(self.position));
            }
            let Some(rest) = bytes.get(self.position..) else {
                return Ok(Progress::Incomplete);
            };
            let bad_byte = ScanError::BadByte {
                at: self.position,
                byte: rest.first().copied().unwrap_or(0),
            };
            let Some(head) = Head::read(rest).map_err(|()| bad_byte)? else {
                return Ok(Progress::Incomplete);
            };
            if rest.first() == Some(&BREAK) {
                match self.open.last() {
                    Some(Open::Array | Open::Map(false) | Open::Chunks(_)) => self.open.pop(),
                    _ => return Err(bad_byte),
                };
                self.position += 1;
                self.count_one();
                continue;
            }
            if let Some(Open::Chunks(major)) = self.open.last()
                && (head.major != *major || head.info == INDEFINITE)
            {
                return Err(bad_byte);
            }
            if !self.step(head, rest, bad_byte)? {
                return Ok(Progress::Incomplete);
            }
        }
    }

    /// Takes one head and, for strings, what follows it. False if that has not all arrived.
    fn step(&mut self, head: Head, rest: &[u8], bad_byte: ScanError) -> Result<bool, ScanError> {
        let indefinite = head.info == INDEFINITE;
        match head.major {
            2 | 3 if indefinite => self.push(Open::Chunks(head.major))?,
            2 | 3 => {
                let end = self.string_end(head)?;
                let Some(content) = rest.get(head.len..end) else {
                    return Ok(false);
                };
                if head.major == 3 && !is_text(content) {
                    return Err(ScanError::NotUtf8 { at: self.position });
                }
                self.position += end;
                if !matches!(self.open.last(), Some(Open::Chunks(_))) {
                    self.count_one();
                }
                return Ok(true);
            }
            4 if indefinite => self.push(Open::Array)?,
            5 if indefinite => self.push(Open::Map(false))?,
            4 => self.push_items(head.argument)?,
            5 => self.push_items(head.argument.saturating_mul(2))?,
            6 => self.push_items(1)?,
            // A simple value below 32 has a one-byte form and must use it.
            7 if head.info == 24 && head.argument < 32 => return Err(bad_byte),
            _ => {
                self.position += head.len;
                self.count_one();
                return Ok(true);
            }
        }
        self.position += head.len;
        Ok(true)
    }

    /// Where a string ends, counted from its head, if that is within the limit.
    fn string_end(&self, head: Head) -> Result<usize, ScanError> {
        usize::try_from(head.argument)
            .ok()
            .and_then(|length| length.checked_add(head.len))
            .filter(|end| *end <= self.bytes_max.saturating_sub(self.position))
            .ok_or(ScanError::TooLong {
                limit: self.bytes_max,
            })
    }

    fn push(&mut self, open: Open) -> Result<(), ScanError> {
        // The lowest entry stands for the item itself, not for a level.
        if self.open.len() > self.depth_max {
            return Err(ScanError::TooDeep {
                at: self.position,
                limit: self.depth_max,
            });
        }
        self.open.push(open);
        Ok(())
    }

    fn push_items(&mut self, count: u64) -> Result<(), ScanError> {
        // Each item takes a byte at least, so a count beyond the limit can't be met.
        let room = self.bytes_max.saturating_sub(self.position);
        if usize::try_from(count).map_or(true, |count| count > room) {
            return Err(ScanError::TooLong {
                limit: self.bytes_max,
            });
        }
        self.push(Open::Items(count))
    }

    /// Notes that an item of the innermost container has ended.
    fn count_one(&mut self) {
        match self.open.last_mut() {
            Some(Open::Items(left)) => *left = left.saturating_sub(1),
            Some(Open::Map(value_is_next)) => *value_is_next = !*value_is_next,
            Some(Open::Array | Open::Chunks(_)) | None => {}
        }
    }

    /// Ends containers that have all their items; true if that was the last.
    fn close_what_is_full(&mut self) -> bool {
        while let Some(Open::Items(0)) = self.open.last() {
            self.open.pop();
            if self.open.is_empty() {
                return true;
            }
            self.count_one();
        }
        false
    }
}

/// True for UTF-8, and for what Python 2 makes of it: a lone surrogate in three bytes, as programs that
/// cut strings in the middle of a character produce it.
fn is_text(mut bytes: &[u8]) -> bool {
    while let Err(error) = std::str::from_utf8(bytes) {
        match bytes.get(error.valid_up_to()..) {
            Some([0xed, 0xa0..=0xbf, 0x80..=0xbf, rest @ ..]) => bytes = rest,
            _ => return false,
        }
    }
    true
}

/// Checks that `bytes` are exactly one well-formed item.
///
/// # Errors
/// See [`ScanError`].
pub fn check(bytes: &[u8], depth_max: usize) -> Result<(), ScanError> {
    let mut scanner = Scanner::new(depth_max, bytes.len());
    match scanner.advance(bytes)? {
        Progress::Complete(end) if end == bytes.len() => Ok(()),
        Progress::Complete(end) => Err(ScanError::WrongLength {
            expected: end,
            found: bytes.len(),
        }),
        Progress::Incomplete => Err(ScanError::WrongLength {
            expected: bytes.len() + 1,
            found: bytes.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(bytes: &[u8]) -> Result<Progress, ScanError> {
        Scanner::new(8, 1 << 20).advance(bytes)
    }

    #[test]
    fn well_formed_items_of_every_kind_are_taken_whole() {
        for (hex, why) in [
            (&b"\x00"[..], "small integer"),
            (b"\x18\x05", "integer that is longer than need be"),
            (b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", "largest integer"),
            (b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff", "smallest integer"),
            (b"\x41\xff", "byte string"),
            (b"\x62\xc3\xbc", "text string"),
            (b"\x5f\x41a\x41b\xff", "byte string in chunks"),
            (b"\x7f\xff", "no chunks"),
            (b"\x80", "empty array"),
            (b"\x82\x80\xa0", "array of two"),
            (b"\x9f\x01\x9f\xff\xff", "indefinite arrays"),
            (b"\xbf\x01\x02\xff", "indefinite map"),
            (b"\xa1\x01\xf6", "map"),
            (b"\xd8\x80\x81\x01", "tag"),
            (b"\xf9\x7e\x00", "half float"),
            (b"\xfa\x00\x00\x00\x00", "single float"),
            (b"\xfb\x00\x00\x00\x00\x00\x00\x00\x00", "double float"),
            (b"\xf8\xff", "simple value"),
        ] {
            assert_eq!(scan(hex), Ok(Progress::Complete(hex.len())), "{why}");
            for end in 0..hex.len() {
                assert_eq!(
                    scan(&hex[..end]),
                    Ok(Progress::Incomplete),
                    "{why}, {end} bytes"
                );
            }
        }
    }

    #[test]
    fn bytes_that_are_no_cbor_are_refused_where_they_go_wrong() {
        for (bytes, at) in [
            (&b"\x1c"[..], 0),
            (b"\xff", 0),
            (b"\x81\xff", 1),
            (b"\xbf\x01\xff", 2),
            (b"\x5f\x61a\xff", 1),
            (b"\x5f\x5f\xff\xff", 1),
            (b"\xf8\x1f", 0),
            (b"\xdf", 0),
        ] {
            assert_eq!(
                scan(bytes),
                Err(ScanError::BadByte {
                    at,
                    byte: bytes[at]
                }),
                "{bytes:x?}"
            );
        }
        assert_eq!(scan(b"\x81\x61\xff"), Err(ScanError::NotUtf8 { at: 1 }));
    }

    #[test]
    fn a_lone_surrogate_as_python_2_writes_it_is_text() {
        assert_eq!(scan(b"\x65a\xed\xa0\x80b"), Ok(Progress::Complete(6)));
        assert_eq!(
            scan(b"\x64a\xed\xa0\x7f"),
            Err(ScanError::NotUtf8 { at: 0 })
        );
    }

    #[test]
    fn claimed_lengths_beyond_the_limit_are_refused_at_once() {
        for head in [0x5b, 0x7b, 0x9b, 0xbb_u8] {
            let bytes = [head, 0x40, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(
                scan(&bytes),
                Err(ScanError::TooLong { limit: 1 << 20 }),
                "{head:x}"
            );
        }
    }

    #[test]
    fn nesting_is_allowed_up_to_the_limit_and_no_further() {
        for container in [0x81, 0x9f, 0xc1_u8] {
            let mut bytes = vec![container; 8];
            assert_eq!(scan(&bytes), Ok(Progress::Incomplete));
            bytes.push(container);
            assert_eq!(scan(&bytes), Err(ScanError::TooDeep { at: 8, limit: 8 }));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_end_as_they_do_at_once(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let at_once = scan(&bytes);
            let mut scanner = Scanner::new(8, 1 << 20);
            let mut result = Ok(Progress::Incomplete);
            for end in 0..=bytes.len() {
                result = scanner.advance(&bytes[..end]);
                if result != Ok(Progress::Incomplete) {
                    break;
                }
            }
            prop_assert_eq!(result, at_once);
        }
    }
}
