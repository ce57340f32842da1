//! Collecting the output of a program: its beginning, and whether it may be a result.

use super::output_rule::BYTE_ORDER_MARK;

/// The most bytes of a result. A longer result fails its unit.
pub(super) const RESULT_BYTES_MAX: usize = 16 << 20;

/// The beginning of a text.
#[derive(Default)]
pub(super) struct Collected {
    /// At most [`RESULT_BYTES_MAX`].
    pub(super) bytes: Vec<u8>,
    /// True if the text is longer.
    pub(super) is_cut: bool,
    /// True if a line begins with `{`, which may be after the kept bytes.
    pub(super) opens_object: bool,
    place: Place,
}

/// The position in a line at which the text ends so far.
#[derive(Clone, Copy, Default, PartialEq)]
enum Place {
    /// The text has only white space so far.
    #[default]
    Begin,
    /// At the beginning of a line, after this many bytes of a byte order mark.
    LineBegin(usize),
    Within,
}

impl Collected {
    /// Appends the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let room = RESULT_BYTES_MAX - self.bytes.len();
        self.is_cut |= piece.len() > room;
        self.bytes
            .extend_from_slice(&piece[..piece.len().min(room)]);
        self.look_for_object(piece);
    }

    fn look_for_object(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.opens_object {
                return;
            }
            let mark_bytes = match self.place {
                Place::Begin => Some(0),
                Place::LineBegin(bytes) => Some(bytes),
                Place::Within => None,
            };
            self.place = match (byte, mark_bytes) {
                (b'{', Some(0 | 3)) => {
                    self.opens_object = true;
                    Place::Within
                }
                (byte, _) if self.place == Place::Begin && byte.is_ascii_whitespace() => {
                    Place::Begin
                }
                (b'\n' | b'\r', _) => Place::LineBegin(0),
                (byte, Some(bytes)) if BYTE_ORDER_MARK.get(bytes) == Some(byte) => {
                    Place::LineBegin(bytes + 1)
                }
                _ => Place::Within,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opens_object(text: &[u8], piece_bytes: usize) -> bool {
        let mut collected = Collected::default();
        for piece in text.chunks(piece_bytes) {
            collected.push(piece);
        }
        assert_eq!(collected.bytes, text);
        collected.opens_object
    }

    #[test]
    fn a_line_that_begins_with_a_brace_is_found_however_the_text_comes() {
        for (text, expected) in [
            (&b"{}"[..], true),
            (b" \n\t{}", true),
            (b"\xef\xbb\xbf{}", true),
            (b"loading\n{}", true),
            (b"50 %\r{}", true),
            (b"loading\n\xef\xbb\xbf{}", true),
            (b"", false),
            (b"some {text}\n", false),
            (b"[\n  {}\n]", false),
            (b"\xef\xbb{}", false),
            (b"\xef\xbb\xbf\xef\xbb\xbf{}", false),
            (b"text {\xef\xbb\xbf{", false),
        ] {
            for piece_bytes in 1..=3 {
                let found = opens_object(text, piece_bytes);
                assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(text));
            }
        }
    }

    #[test]
    fn of_a_long_text_the_beginning_is_kept_and_the_rest_looked_at() {
        let mut collected = Collected::default();
        collected.push(&vec![b'x'; RESULT_BYTES_MAX]);
        assert!(!collected.is_cut && !collected.opens_object);
        collected.push(b"\n{");
        assert!(collected.is_cut && collected.opens_object);
        assert_eq!(collected.bytes.len(), RESULT_BYTES_MAX);
    }
}
