//! Telling a service manager, such as systemd, how the daemon fares: the protocol of sd_notify(3).
//!
//! A few datagrams to a socket that the environment names. The well-kept crate for it (sd-notify) does
//! not know the abstract sockets that containers use.

use coordinated_client::Address;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// How long to try to tell something.
const SEND_MAX: Duration = Duration::from_secs(1);

/// Who started the daemon and wants to be told, if there is somebody.
///
/// That it can't be told is logged, and no reason to stop.
#[derive(Debug)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Watchdog>,
}

/// The manager starts the daemon anew if it hears nothing for twice this time.
#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    next: Option<Instant>,
}

impl ServiceManager {
    /// Nobody.
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

    /// A manager that hears from the loop through `socket`, in each interval.
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

    /// Tells that clients are served, and where.
    pub(super) fn ready(&self, addresses: &[Address]) {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let addresses = addresses.join(", ");
        self.tell(&format!("READY=1\nSTATUS=listening on {addresses}\n"));
    }

    /// Tells that the loop still turns, if it is time to. Called in every turn and by nothing else, so
    /// that a loop that hangs is found out.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        let Some(watchdog) = &mut self.watchdog else {
            return;
        };
        if watchdog.next.is_some_and(|next| now < next) {
            return;
        }
        watchdog.next = Some(now + watchdog.interval);
        self.tell("WATCHDOG=1\n");
    }

    /// When the loop has to turn next for [`ServiceManager::keep_alive`].
    pub(super) fn next_keep_alive(&self) -> Option<Instant> {
        self.watchdog.as_ref()?.next
    }

    /// Tells that the end has begun.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping\n");
    }

    fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else {
            return;
        };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!("cannot tell the service manager: {error}");
        }
    }
}

/// A socket that a manager who does not listen can't hold the loop up with for long.
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

/// Half the time after which the manager takes silence for a hang, if it does and means this process.
fn watchdog_interval() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let us = number("WATCHDOG_USEC").filter(|us| *us > 0 && is_meant)?;
    Some(Duration::from_micros(us) / 2)
}
