//! Methods about the daemon itself.

use super::call::{Call, Progress};
use super::job_server::calls;
use super::params::Params;
use crate::coordinate::Result;
use crate::coordinate::storage::Storage;
use coordinated_client::cbor::Writer;

/// The version of the additions to the protocol that this daemon supports.
const PROTOCOL: u64 = 1;

/// The additions to the original protocol that this daemon supports.
const FEATURES: &[&str] = &[
    "server_info",
    "runtimes",
    "delay",
    "worker_id",
    "update_work_units",
    "summary",
    "get_attempts",
    "list_failures",
    "explain_work",
    "list_locks",
    "attempts",
    "wait",
    "if_exists",
    "pause_reason",
    "retries",
    "schedules",
    "cancel",
    "order",
    "groups",
    "max_rate",
    "halt_after",
    "tell_retry",
    "tokens",
    "audit",
    "control_priority",
];

pub(super) fn get_config<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    super::reply::ok_pair(out, |writer| writer.encoded(call.config));
    Ok(Progress::Done)
}

pub(super) fn now<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    Writer::new(out).integer(call.operation.now.0.div_euclid(1_000_000));
    Ok(Progress::Done)
}

pub(super) fn server_info<S: Storage>(
    call: &mut Call<'_, S>,
    _: &Params<'_>,
    out: &mut Vec<u8>,
) -> Result<Progress<S>> {
    let mut writer = Writer::new(out);
    writer.map(8);
    writer.bytes(b"server");
    writer.bytes(b"coordinated");
    writer.bytes(b"version");
    writer.bytes(env!("CARGO_PKG_VERSION").as_bytes());
    writer.bytes(b"protocol");
    writer.unsigned(PROTOCOL);
    writer.bytes(b"features");
    writer.array(FEATURES.len());
    for feature in FEATURES {
        writer.bytes(feature.as_bytes());
    }
    writer.bytes(b"started");
    writer.float(call.operation.memory.started.as_seconds());
    writer.bytes(b"now");
    writer.float(call.operation.now.as_seconds());
    writer.bytes(b"http");
    writer.array(call.http.len());
    for url in call.http {
        writer.bytes(url.as_bytes());
    }
    writer.bytes(b"calls");
    let calls = || calls::<S>(call.requests);
    writer.map(calls().count());
    for (method, count) in calls() {
        writer.bytes(method.as_bytes());
        writer.unsigned(count);
    }
    Ok(Progress::Done)
}
