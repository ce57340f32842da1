//! Splitting a stream of bytes into messages.

use crate::cbor::scan::{Progress, ScanError, Scanner};
use crate::cbor::{Head, INDEFINITE, TAG_EMBEDDED_CBOR};
use std::ops::Range;

/// Part of the message of [`FrameError::TooLarge`], by which clients recognize it.
pub const TOO_LARGE: &str = "limit max-message";

/// Why a stream of bytes can't be split any further. The connection has to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A message has more bytes than allowed, or announces that it will.
    #[error("message of more than {limit} bytes ({TOO_LARGE}): send less in one request")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The message is incomplete or not handled yet, and there is no memory left for it.
    #[error(
        "the daemon has received too many requests that are incomplete or not handled yet (limit \
         max-unread-total, {limit} bytes), and most of these bytes came on this connection: send less in one \
         request, or try again later; if the request was being handled in steps, its earlier steps are committed"
    )]
    Crowded {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Not CBOR, or nested too deeply.
    #[error("message is not acceptable CBOR: {0}")]
    Malformed(#[from] ScanError),
    /// The peer speaks another protocol.
    #[error("this address is for CBOR-RPC, and the connection begins like one of {0}")]
    OtherProtocol(OtherProtocol),
    /// The peer has sent something else where only TLS is spoken.
    #[error("this address is for TLS only: connect to it as tls:HOST:PORT")]
    NotTls,
    /// A CBOR item is not a request.
    #[error("expected a request (a map, a list of maps, or tag 24 around one), got {found}")]
    NotARequest {
        /// The kind of item that it is.
        found: &'static str,
    },
}

impl FrameError {
    /// What to say to a peer that began with these bytes instead of TLS.
    #[must_use]
    pub fn not_tls(bytes: &[u8]) -> Self {
        OtherProtocol::of(bytes).map_or(Self::NotTls, Self::OtherProtocol)
    }
}

/// A protocol that a peer may speak by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherProtocol {
    /// HTTP.
    Http,
    /// TLS, with whatever in it.
    Tls,
}

impl OtherProtocol {
    /// The protocol whose first bytes these are. Neither begins as a request can.
    fn of(bytes: &[u8]) -> Option<Self> {
        const HTTP: [&[u8]; 9] = [
            b"GET ",
            b"HEAD ",
            b"POST ",
            b"PUT ",
            b"DELETE ",
            b"CONNECT ",
            b"OPTIONS ",
            b"TRACE ",
            b"PATCH ",
        ];
        if bytes.starts_with(b"\x16\x03") {
            Some(Self::Tls)
        } else {
            HTTP.iter()
                .any(|word| bytes.starts_with(word))
                .then_some(Self::Http)
        }
    }
}

impl std::fmt::Display for OtherProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Tls => "TLS",
        })
    }
}

/// What is at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// An incomplete message: read more bytes.
    Incomplete,
    /// A complete message.
    Complete {
        /// Where the CBOR item of the request is, without a tag 24 and the head of its byte string. If the string came in
        /// chunks, this includes both: see [`super::envelope::content`].
        message: Range<usize>,
        /// How many bytes to drop from the buffer after the message was handled.
        consumed: usize,
    },
}

/// The limits of a message.
#[derive(Debug, Clone, Copy)]
pub struct FrameLimits {
    /// Bytes of one message, including a tag 24 and the head of its byte string.
    pub message_bytes_max: usize,
    /// How deeply arrays, maps and tags may be nested.
    pub depth_max: usize,
}

/// Finds where messages end. One for each connection; it keeps its progress within a message.
#[derive(Debug)]
pub struct Framer {
    limits: FrameLimits,
    scanner: Scanner,
}

impl Framer {
    /// A framer at the start of a message.
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            scanner: Scanner::new(limits.depth_max, limits.message_bytes_max),
        }
    }

    /// Looks for a complete message at the start of `buffered`, the bytes that are not consumed yet.
    ///
    /// After `Complete`, pass the bytes after the consumed ones to the next call. The content of a message within tag 24
    /// is not checked here.
    ///
    /// # Errors
    /// See [`FrameError`]. The stream can't be used any further.
    pub fn next(&mut self, buffered: &[u8]) -> Result<Frame, FrameError> {
        let Some(first) = buffered.first() else {
            return Ok(Frame::Incomplete);
        };
        if first >> 5 != TAG {
            return self.next_bare(*first, buffered);
        }
        let Some(tag) = head_at(buffered, 0)? else {
            return Ok(Frame::Incomplete);
        };
        if tag.argument != TAG_EMBEDDED_CBOR {
            return Err(FrameError::NotARequest {
                found: "another tag",
            });
        }
        let Some(string) = head_at(buffered, tag.len)? else {
            return Ok(Frame::Incomplete);
        };
        match (string.major, string.info) {
            // Its chunks are joined when it is complete.
            (BYTE_STRING, INDEFINITE) => self.next_scanned(buffered),
            (BYTE_STRING, _) => self.next_embedded(buffered.len(), tag.len + string.len, string),
            _ => Err(FrameError::NotARequest {
                found: "tag 24 around something else than a byte string",
            }),
        }
    }

    /// A message within a byte string of known length, which begins at `start`.
    fn next_embedded(
        &self,
        buffered: usize,
        start: usize,
        string: Head,
    ) -> Result<Frame, FrameError> {
        let end = usize::try_from(string.argument)
            .ok()
            .and_then(|length| length.checked_add(start))
            .filter(|end| *end <= self.limits.message_bytes_max)
            .ok_or(FrameError::TooLarge {
                limit: self.limits.message_bytes_max,
            })?;
        if buffered < end {
            return Ok(Frame::Incomplete);
        }
        Ok(Frame::Complete {
            message: start..end,
            consumed: end,
        })
    }

    fn next_bare(&mut self, first: u8, buffered: &[u8]) -> Result<Frame, FrameError> {
        let found = match first >> 5 {
            4 | 5 => None,
            0 | 1 => Some("an integer"),
            2 => Some("a byte string"),
            3 => Some("a text string"),
            // A client sends a bare null when it is done.
            _ if first == 0xf6 => None,
            _ => Some("a simple value or float"),
        };
        if let Some(found) = found {
            return Err(match OtherProtocol::of(buffered) {
                Some(protocol) => FrameError::OtherProtocol(protocol),
                None => FrameError::NotARequest { found },
            });
        }
        self.next_scanned(buffered)
    }

    /// A message that has to be scanned to find its end.
    fn next_scanned(&mut self, buffered: &[u8]) -> Result<Frame, FrameError> {
        match self.scanner.advance(buffered) {
            Ok(Progress::Incomplete) if buffered.len() >= self.limits.message_bytes_max => {
                Err(FrameError::TooLarge {
                    limit: self.limits.message_bytes_max,
                })
            }
            Ok(Progress::Incomplete) => Ok(Frame::Incomplete),
            Ok(Progress::Complete(end)) if end > self.limits.message_bytes_max => {
                Err(FrameError::TooLarge {
                    limit: self.limits.message_bytes_max,
                })
            }
            Ok(Progress::Complete(end)) => {
                self.scanner.reset();
                Ok(Frame::Complete {
                    message: 0..end,
                    consumed: end,
                })
            }
            Err(ScanError::TooLong { limit }) => Err(FrameError::TooLarge { limit }),
            Err(error) => Err(error.into()),
        }
    }
}

const BYTE_STRING: u8 = 2;
const TAG: u8 = 6;

/// The head of an item, if all of it is there.
fn head_at(buffered: &[u8], at: usize) -> Result<Option<Head>, ScanError> {
    let bytes = buffered.get(at..).unwrap_or_default();
    Head::read(bytes).map_err(|()| ScanError::BadByte {
        at,
        byte: bytes.first().copied().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits {
        message_bytes_max: 1000,
        depth_max: 10,
    };

    #[test]
    fn messages_are_cut_off_whole_in_tag_24_or_bare() {
        for (bytes, message) in [
            (&b"\xd8\x18\x42\xa0\xa0"[..], 3..5),
            (b"\xd8\x18\x58\x01\xa0", 4..5),
            (b"\xa1\x01\x02", 0..3),
            (b"\x9f\xa0\xff", 0..3),
            (b"\xf6", 0..1),
            (b"\xd9\x00\x18\x42\xa0\xa0", 4..6),
            (b"\xd8\x18\x5f\x41\xa0\xff", 0..6),
        ] {
            for end in 0..bytes.len() {
                assert_eq!(
                    Framer::new(LIMITS).next(&bytes[..end]),
                    Ok(Frame::Incomplete)
                );
            }
            let whole = Frame::Complete {
                message,
                consumed: bytes.len(),
            };
            let mut framer = Framer::new(LIMITS);
            assert_eq!(framer.next(bytes), Ok(whole));
            let with_more = [bytes, b"\xa0"].concat();
            assert!(
                matches!(framer.next(&with_more), Ok(Frame::Complete { consumed, .. }) if consumed == bytes.len())
            );
        }
    }

    #[test]
    fn messages_over_the_limit_are_refused_as_soon_as_that_is_known() {
        let too_large = Err(FrameError::TooLarge { limit: 1000 });
        assert_eq!(
            Framer::new(LIMITS).next(b"\xd8\x18\x5b\x40\0\0\0\0\0\0\0"),
            too_large
        );
        assert_eq!(Framer::new(LIMITS).next(b"\xd8\x18\x59\x03\xe8"), too_large);
        assert_eq!(
            Framer::new(LIMITS).next(b"\x9b\x40\0\0\0\0\0\0\0"),
            too_large
        );
        let mut endless = vec![0x9f];
        endless.resize(1000, 0);
        assert_eq!(Framer::new(LIMITS).next(&endless), too_large);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for bytes in [
            &b"\x01"[..],
            b"\x41a",
            b"\x61a",
            b"\xd8\x19\xa0",
            b"\xf5",
            b"\xd8\x18\xa0",
        ] {
            assert!(
                matches!(
                    Framer::new(LIMITS).next(bytes),
                    Err(FrameError::NotARequest { .. })
                ),
                "{bytes:x?}"
            );
        }
        assert!(matches!(
            Framer::new(LIMITS).next(b"\xa1\xff"),
            Err(FrameError::Malformed(_))
        ));
    }
}
