//! The forms that results take on the wire.

use crate::clock::Timestamp;
use crate::coordinate::{Error, Name, Result};
use crate::limits;
use coordinated_client::cbor::Writer;

/// What stands for "nothing" in the failed pair of a method: each has its own.
#[derive(Clone, Copy)]
pub(super) enum Nothing {
    False,
    Null,
    Zero,
}

/// Most results are pairs of a value and a message, which is null if all is well.
pub(super) fn ok_pair(out: &mut Vec<u8>, value: impl FnOnce(&mut Writer<'_>)) {
    let mut writer = Writer::new(out);
    writer.array(2);
    value(&mut writer);
    writer.null();
}

/// The pair of a list, whose items are written already.
pub(super) fn ok_list(out: &mut Vec<u8>, count: usize, items: &[u8]) {
    ok_pair(out, |writer| {
        writer.array(count);
        writer.encoded(items);
    });
}

/// The pair that most changes answer.
pub(super) fn true_pair(out: &mut Vec<u8>) {
    ok_pair(out, |writer| writer.boolean(true));
}

/// A pair with a message. That is a byte string, since Python 2 can't print every text.
pub(super) fn failed_pair(out: &mut Vec<u8>, nothing: Nothing, message: &str) {
    let mut writer = Writer::new(out);
    writer.array(2);
    match nothing {
        Nothing::False => writer.boolean(false),
        Nothing::Null => writer.null(),
        Nothing::Zero => writer.unsigned(0),
    }
    writer.bytes(message.as_bytes());
}

/// Tells failures that are answered within a result from those that fail the request. `None` if the
/// failure has been answered.
pub(super) fn answer_in_band<T>(
    out: &mut Vec<u8>,
    nothing: Nothing,
    result: Result<T>,
) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            error @ (Error::NoSuchWorkSpec(_)
            | Error::NoSuchWorkUnit { .. }
            | Error::NoSuchWorker(_)
            | Error::Refused(_)),
        ) => {
            failed_pair(out, nothing, &error.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Refuses to go on with an answer that has become too long.
pub(super) fn check_answer_length(len: usize) -> Result<()> {
    let max = limits::ANSWER_BYTES_MAX;
    if len > max {
        return Err(Error::Invalid(format!(
            "the answer would be longer than {max} bytes: ask for less at a time"
        )));
    }
    Ok(())
}

/// A name in the form in which it came, or null.
pub(super) fn write_name(writer: &mut Writer<'_>, name: Option<&Name>) {
    match name {
        Some(name) => name.write(writer),
        None => writer.null(),
    }
}

/// A time in seconds, or null.
pub(super) fn write_time(writer: &mut Writer<'_>, time: Option<Timestamp>) {
    match time {
        Some(time) => writer.float(time.as_seconds()),
        None => writer.null(),
    }
}

/// A limit, or null if there is none.
pub(super) fn write_limit(writer: &mut Writer<'_>, limit: Option<u64>) {
    match limit {
        Some(limit) => writer.unsigned(limit),
        None => writer.null(),
    }
}
