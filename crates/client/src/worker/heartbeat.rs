//! What a worker says of itself.

use crate::cbor::Value;
use crate::{Heartbeat, Name};
use std::time::Duration;

/// How often it says that it is alive, as often as the Python worker.
pub(super) const EVERY: Duration = Duration::from_secs(15);
/// It counts as dead after so long.
const LIFETIME: Duration = Duration::from_secs(90);

/// The host, the process, and something random, since process ids come again.
pub(super) fn name_of_this_process() -> Name {
    let random: u32 = rand::random();
    let name = format!("{}-{}-{random:08x}", host(), std::process::id());
    Name::from_text(name)
}

/// A sign of life.
pub(super) fn heartbeat(worker: &Name, mode: &str, threads: usize) -> Heartbeat {
    let host = host();
    let environment = Value::map([
        ("hostname", Value::from(host.as_str())),
        // By which the Python client's commands know the host.
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

/// The processes that wanted to run in the last minute, on average; `None` where the system does not tell.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}
