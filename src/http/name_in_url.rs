//! Names as parts of URLs: themselves if they are plain, else base64 behind a dash.

use crate::coordinate::Name;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A name as a segment of a path, or as a value of a query.
pub(super) fn encode(name: &[u8]) -> String {
    let is_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:".contains(byte);
    // These two lead elsewhere in a path.
    let is_relative = matches!(name, b"." | b"..");
    match std::str::from_utf8(name) {
        Ok(text)
            if !name.is_empty()
                && !name.starts_with(b"-")
                && !is_relative
                && name.iter().all(is_safe) =>
        {
            text.to_owned()
        }
        _ => format!("-{}", URL_SAFE_NO_PAD.encode(name)),
    }
}

/// The bytes of the name that a segment without percent-encoding is.
///
/// # Errors
/// If it begins with a dash that is not followed by base64: what is wrong with it.
pub(super) fn decode(segment: Vec<u8>) -> Result<Vec<u8>, String> {
    match segment.strip_prefix(b"-") {
        None => Ok(segment),
        Some(encoded) => URL_SAFE_NO_PAD.decode(encoded).map_err(|error| {
            let shown = String::from_utf8_lossy(encoded);
            format!("illegal base64 data in the name -{shown}: {error}")
        }),
    }
}

/// A name that is text if it can be.
pub(super) fn into_name(bytes: Vec<u8>) -> Name {
    match String::from_utf8(bytes) {
        Ok(text) => Name::from_text(text),
        Err(error) => Name::from_bytes(error.into_bytes()),
    }
}
