//! Bytes as one line of text, and back: how names are shown to people, and how people write them.
//!
//! UTF-8 stands as it is, but for a backslash, which is doubled, and control characters, characters that are not
//! seen and what is not UTF-8, which are written `\n`, `\r`, `\t` or `\xNN`, a byte each. So every byte string has exactly one
//! such text, and two different ones never look alike.

use std::fmt::Write;

/// A text with a backslash that begins nothing known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' has a backslash that begins none of \\\\, \\n, \\r, \\t and \\xNN: write a backslash itself as \\\\"
)]
pub struct UnescapeError(String);

/// The text that stands for some bytes.
///
/// ```
/// use coordinated_client::cbor::escape::{escape, unescape};
/// assert_eq!(escape("ü/1".as_bytes()), "ü/1");
/// assert_eq!(escape(b"\xff\\\n"), r"\xff\\\n");
/// assert_eq!(unescape(r"\xff\\\n").as_deref(), Ok(&b"\xff\\\n"[..]));
/// ```
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                _ if is_deceptive(character) => {
                    let mut encoded = [0; 4];
                    push_hex(&mut text, character.encode_utf8(&mut encoded).as_bytes());
                }
                _ => text.push(character),
            }
        }
        push_hex(&mut text, chunk.invalid());
    }
    text
}

/// True for characters that a terminal acts on or does not show, or that turn the direction of writing. With them two
/// texts could look alike, or a line read otherwise than it is. (The variation selectors of emoji are not among them.)
#[must_use]
pub fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                // Tags, and more variation selectors.
                | '\u{e0000}'..='\u{e0fff}'
        )
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String never fails.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// The bytes that a text stands for. Bytes that are not UTF-8 may also stand there as they are.
///
/// # Errors
/// If a backslash begins nothing known.
pub fn unescape(text: impl AsRef<[u8]>) -> Result<Vec<u8>, UnescapeError> {
    let text = text.as_ref();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (byte, tail) = match rest {
            [b'\\', tail @ ..] => (Some(b'\\'), tail),
            [b'n', tail @ ..] => (Some(b'\n'), tail),
            [b'r', tail @ ..] => (Some(b'\r'), tail),
            [b't', tail @ ..] => (Some(b'\t'), tail),
            [b'x', high, low, tail @ ..] => (hex_byte(*high, *low), tail),
            _ => (None, rest),
        };
        let Some(byte) = byte else {
            return Err(UnescapeError(String::from_utf8_lossy(text).into_owned()));
        };
        bytes.push(byte);
        rest = tail;
    }
    Ok(bytes)
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_mislead_is_escaped_and_the_rest_stands_as_it_is() {
        for (bytes, text) in [
            (&b"plain/key-1"[..], "plain/key-1"),
            ("grün 猫".as_bytes(), "grün 猫"),
            (b"a\\b", "a\\\\b"),
            (b"\x1b[31m", "\\x1b[31m"),
            ("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb"),
            ("a\u{e0041}b".as_bytes(), "a\\xf3\\xa0\\x81\\x81b"),
            ("❤\u{fe0f}".as_bytes(), "❤\u{fe0f}"),
            (b"\xc3\x28", "\\xc3("),
        ] {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text).as_deref(), Ok(bytes));
        }
    }

    #[test]
    fn unknown_escapes_are_refused_with_what_to_write() {
        for text in ["a\\b", "\\", "\\x", "\\x1", "\\xg0"] {
            let error = unescape(text).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("as \\\\"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn all_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..32)) {
            let text = escape(&bytes);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(unescape(text), Ok(bytes));
        }
    }
}
