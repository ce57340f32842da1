//! Notifying a service manager, such as systemd, with the protocol of sd_notify(3).
//!
//! It is a few datagrams to a socket that the environment names. The crate for it, sd-notify, does not support the
//! abstract sockets that containers use.

use coordinated_client::Address;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// How long to try to send a notification.
const SEND_MAX: Duration = Duration::from_secs(1);

/// The service manager that started the daemon, if one did.
///
/// If a notification can't be sent, that is logged, and the daemon goes on.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

/// The manager restarts the daemon if it gets no keep-alive for twice this time.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    next: Option<Instant>,
}

impl ServiceManager {
    /// No service manager.
    #[must_use]
    pub fn none() -> Self {
        Self {
            socket: None,
            watchdog: None,
        }
    }

    /// The one that the environment names (`NOTIFY_SOCKET`), with the times that it sets
    /// (`WATCHDOG_USEC`).
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())
        else {
            return Self::none();
        };
        let socket = match connect(&address) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(?address, "cannot reach the service manager: {error}");
                return Self::none();
            }
        };
        Self {
            socket: Some(socket),
            watchdog: watchdog_interval().map(|interval| Watchdog {
                interval,
                next: None,
            }),
        }
    }

    /// A manager that gets a keep-alive through `socket` in each interval.
    #[cfg(test)]
    pub(super) fn at(socket: UnixDatagram, interval: Duration) -> Self {
        Self {
            socket: Some(socket),
            watchdog: Some(Watchdog {
                interval,
                next: None,
            }),
        }
    }

    /// Notifies that clients are served, and at which addresses.
    pub(super) fn ready(&self, addresses: &[Address]) {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(", ");
        self.send(&format!("READY=1\nSTATUS=listening on {addresses}\n"));
    }

    /// Sends a keep-alive, if one is due. Only the loop calls this, in every turn, so that the manager notices a loop
    /// that hangs.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        if watchdog.next.is_some_and(|next| now < next) {
            return;
        }
        watchdog.next = Some(now + watchdog.interval);
        self.send("WATCHDOG=1\n");
    }

    /// When the next keep-alive is due.
    pub(super) fn next_keep_alive(&self) -> Option<Instant> {
        self.watchdog.as_ref()?.next
    }

    /// Notifies that the daemon is stopping.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping\n");
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else {
            return;
        };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!("cannot notify the service manager: {error}");
        }
    }
}

/// Connects a socket that never blocks the loop for long, even if the manager does not read.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(SEND_MAX))?;
    Ok(socket)
}

/// Half the time after which the manager restarts a process that sends no keep-alive, if it watches this one.
fn watchdog_interval() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let us = number("WATCHDOG_USEC").filter(|us| *us > 0 && is_meant)?;
    Some(Duration::from_micros(us) / 2)
}
