//! What is logged about a request: who asked for what, and how it ended, but nothing of its data.

use super::method::{MethodInfo, Rest};
use crate::cbor::Item;
use crate::cborrpc::envelope::Request;
use crate::coordinate::Error;
use std::time::Duration;

/// Characters of a name that are shown.
const NAME_CHARS_MAX: usize = 100;

/// Writes a line about a request that was run, at the level debug. The peer is named by the span that
/// the loop has put around the message.
pub(super) fn request(
    method: Option<&MethodInfo>,
    request: &Request<'_>,
    result: &Result<Rest, (&'static str, Error)>,
    duration: Duration,
) {
    let spec = method.and_then(|method| work_spec(method, request));
    let spec = spec.map(shown);
    let spec = spec.as_deref();
    let method = method.map(|method| method.name);
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    match result {
        Ok(Rest::Nothing) => tracing::debug!(method, spec, duration_us, outcome = "ok", "request"),
        Ok(Rest::Deferred(_)) => {
            tracing::debug!(method, spec, duration_us, outcome = "deferred", "request");
        }
        Ok(Rest::Again(..)) => {
            tracing::debug!(method, spec, duration_us, outcome = "not yet", "request")
        }
        Err((_, error)) => {
            tracing::debug!(method, spec, duration_us, outcome = "failed", %error, "request");
        }
    }
}

/// The name of the work spec that a request is about, if it names one.
fn work_spec<'a>(method: &MethodInfo, request: &Request<'a>) -> Option<Item<'a>> {
    let params = request.params?;
    let param = |name| {
        let position = method.params.iter().position(|known| *known == name)?;
        let by_position = || params.as_list()?.nth(position);
        params.get(name).or_else(by_position)
    };
    param("work_spec_name").or_else(|| param("work_spec")?.get("name"))
}

/// A name as it is shown in logs and messages: its beginning, however long it is, and nothing that could
/// be taken for another line. Of what is no string, only the kind.
pub(super) fn shown(name: Item<'_>) -> String {
    match name.as_string_bytes() {
        Some(bytes) => bytes
            .escape_ascii()
            .take(NAME_CHARS_MAX)
            .map(char::from)
            .collect(),
        None => name.kind_name().to_owned(),
    }
}
