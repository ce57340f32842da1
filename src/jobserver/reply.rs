//! The forms that results take on the wire.

use crate::clock::Timestamp;
use crate::coordinate::{Error, Name, Result};
use crate::limits;
use coordinated_client::cbor::Writer;

/// The value in the pair of a failed call. Which one it is depends on the method.
#[derive(Clone, Copy)]
pub(super) enum FailedValue {
    False,
    Null,
    Zero,
}

/// Writes a pair of a value and null: the result of most successful calls. Failed ones have a message instead of null.
pub(super) fn ok_pair(out: &mut Vec<u8>, value: impl FnOnce(&mut Writer<'_>)) {
    let mut writer = Writer::new(out);
    writer.array(2);
    value(&mut writer);
    writer.null();
}

/// Writes the pair of a list whose items are encoded already.
pub(super) fn ok_list(out: &mut Vec<u8>, count: usize, items: &[u8]) {
    ok_pair(out, |writer| {
        writer.array(count);
        writer.encoded(items);
    });
}

/// Writes the pair of true: the result of most calls that change something.
pub(super) fn true_pair(out: &mut Vec<u8>) {
    ok_pair(out, |writer| writer.boolean(true));
}

/// Writes the pair of a failed call. Its message is a byte string, since Python 2 can't print every text.
fn failed_pair(out: &mut Vec<u8>, value: FailedValue, message: &str) {
    let mut writer = Writer::new(out);
    writer.array(2);
    match value {
        FailedValue::False => writer.boolean(false),
        FailedValue::Null => writer.null(),
        FailedValue::Zero => writer.unsigned(0),
    }
    writer.bytes(message.as_bytes());
}

/// How a client is told of what a correct client can encounter too: an unknown name, or a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failures {
    /// In band: by a pair with a message, as the original daemons do.
    InBand,
    /// As an error, like everything else that goes wrong.
    AsErrors,
}

impl Failures {
    /// Writes a failed pair for an error that the client is told of in band, and returns `None`. Other errors fail the
    /// request, and are returned.
    pub(super) fn write<T>(
        self,
        out: &mut Vec<u8>,
        value: FailedValue,
        result: Result<T>,
    ) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(
                error @ (Error::NoSuchWorkSpec(_)
                | Error::NoSuchWorkUnit { .. }
                | Error::NoSuchWorker(_)
                | Error::Refused(_)),
            ) if self == Self::InBand => {
                failed_pair(out, value, &error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Fails if a result has become too long.
pub(super) fn check_answer_length(len: usize) -> Result<()> {
    let max = limits::ANSWER_BYTES_MAX;
    if len > max {
        return Err(Error::Invalid(format!(
            "the answer would be longer than {max} bytes; ask for less at a time"
        )));
    }
    Ok(())
}

/// Writes a name in the form in which it came, or null.
pub(super) fn write_name(writer: &mut Writer<'_>, name: Option<&Name>) {
    match name {
        Some(name) => name.write(writer),
        None => writer.null(),
    }
}

/// Writes a text as a byte string, or null.
pub(super) fn write_text(writer: &mut Writer<'_>, text: Option<&str>) {
    match text {
        Some(text) => writer.bytes(text.as_bytes()),
        None => writer.null(),
    }
}

/// Writes a time in seconds, or null.
pub(super) fn write_time(writer: &mut Writer<'_>, time: Option<Timestamp>) {
    match time {
        Some(time) => writer.float(time.as_seconds()),
        None => writer.null(),
    }
}

/// Writes a limit, or null if there is none.
pub(super) fn write_limit(writer: &mut Writer<'_>, limit: Option<u64>) {
    match limit {
        Some(limit) => writer.unsigned(limit),
        None => writer.null(),
    }
}
