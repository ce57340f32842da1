//! CBOR as bytes: checking it, walking it, writing it (RFC 8949).
//!
//! Data dictionaries are kept as the very bytes that a client sent, because no value type carries
//! everything that must survive (map order, duplicate keys, float widths, unknown tags). So this is
//! a walker over bytes, not a decoder into values. It owns no wire format and knows no jobs.
//!
//! [`scan::Scanner`] checks bytes from outside; everything else here is handed checked items only.
//! [`Value`] is for clients, who want values and not bytes; [`json`] shows them to people.

pub mod escape;
pub mod item;
pub mod json;
pub mod json_text;
pub mod scan;
pub mod value;
pub mod write;

pub use item::{Item, Kind};
pub use value::Value;
pub use write::Writer;

/// Tag of a byte string with the bytes of an integer beyond 64 bits (RFC 8949, section 3.4.3).
pub(crate) const TAG_BIG_UNSIGNED: u64 = 2;
/// The same for n of the integer -1 - n.
pub(crate) const TAG_BIG_NEGATIVE: u64 = 3;
/// Tag of a byte string that holds encoded CBOR (RFC 8949, section 3.4.5.1).
pub const TAG_EMBEDDED_CBOR: u64 = 24;
/// Tag that the Python client puts around the array of a tuple.
pub const TAG_TUPLE: u64 = 128;

/// The encoding of an empty map, the data of a unit that states none.
pub const EMPTY_MAP: &[u8] = &[0xa0];

/// The first bytes of an item: its kind and the number that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Major type, 0 to 7.
    pub(crate) major: u8,
    /// The low five bits of the first byte; 31 means an indefinite length, or "break".
    pub(crate) info: u8,
    /// The value, length or count; the raw bits for floats.
    pub(crate) argument: u64,
    /// How many bytes the head takes.
    pub(crate) len: usize,
}

pub(crate) const INDEFINITE: u8 = 31;
pub(crate) const BREAK: u8 = 0xff;

impl Head {
    /// Reads a head. `Ok(None)`: more bytes are needed; `Err(())`: reserved bits.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, ()> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        let (major, info) = (first >> 5, first & 0x1f);
        let width = match info {
            0..=23 => {
                return Ok(Some(Self {
                    major,
                    info,
                    argument: u64::from(info),
                    len: 1,
                }));
            }
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            INDEFINITE if matches!(major, 2..=5 | 7) => {
                return Ok(Some(Self {
                    major,
                    info,
                    argument: 0,
                    len: 1,
                }));
            }
            _ => return Err(()),
        };
        let Some(tail) = bytes.get(1..=width) else {
            return Ok(None);
        };
        let argument = tail
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte));
        Ok(Some(Self {
            major,
            info,
            argument,
            len: width + 1,
        }))
    }
}
