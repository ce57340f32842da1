//! Heartbeats: information about the worker.

use crate::cbor::Value;
use crate::{Heartbeat, Name};
use std::time::Duration;

/// How often a heartbeat is sent, as often as by the Python worker.
pub(super) const EVERY: Duration = Duration::from_secs(15);
/// The worker counts as dead after this time.
const LIFETIME: Duration = Duration::from_secs(90);

/// The host, the process id, and a random number, since process ids are reused.
pub(super) fn name_of_this_process() -> Name {
    let random: u32 = rand::random();
    let name = format!("{}-{}-{random:08x}", host(), std::process::id());
    Name::from_text(name)
}

/// A heartbeat of this process.
pub(super) fn heartbeat(worker: &Name, mode: &str, threads: usize) -> Heartbeat {
    let host = host();
    let environment = Value::map([
        ("hostname", Value::from(host.as_str())),
        // The Python client's commands show the host by this name.
        ("fqdn", host.into()),
        ("pid", std::process::id().into()),
        ("load", load().into()),
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("threads", u32::try_from(threads).unwrap_or(u32::MAX).into()),
    ]);
    Heartbeat {
        mode: Some(mode.into()),
        lifetime: LIFETIME,
        environment: Some(environment),
        ..Heartbeat::new(worker.clone())
    }
}

fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

/// The load average of the last minute; `None` if the system does not tell.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}
