//! Where a daemon is, as people write it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A place to listen at or to connect to: `127.0.0.1:5932`, `[::1]:5932`, `localhost:5932`, the same with TLS after
/// `tls:`, or `unix:PATH`.
///
/// ```
/// # use coordinated_client::Address;
/// let address: Address = "[::1]:5932".parse()?;
/// assert_eq!(address, Address::Tcp { host: "::1".to_owned(), port: 5932 });
/// assert_eq!(address.to_string(), "[::1]:5932");
/// # Ok::<(), coordinated_client::ParseAddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port of one address, or of all that a name stands for.
    Tcp {
        /// A name or an address, without the brackets of IPv6.
        host: String,
        /// The port; 0 lets the system choose one to listen at.
        port: u16,
    },
    /// The same, with TLS: all that is sent is encrypted, and clients check the daemon's certificate.
    Tls {
        /// A name or an address, without the brackets of IPv6. The certificate has to be for it.
        host: String,
        /// The port; 0 lets the system choose one to listen at.
        port: u16,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// A text that is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no address: write HOST:PORT, [IPV6]:PORT, tls:HOST:PORT or unix:PATH, for example {example}",
    example = Address::DEFAULT
)]
pub struct ParseAddressError(String);

impl Address {
    /// Where a daemon listens and is looked for if nothing else is said.
    pub const DEFAULT: &str = "127.0.0.1:5932";

    /// Where the commands of `coordinated` look for the daemon, too: at what `COORDINATED_SERVER` says, or else at
    /// [`Address::DEFAULT`].
    ///
    /// # Errors
    /// If `COORDINATED_SERVER` is no address.
    pub fn from_environment() -> Result<Self, ParseAddressError> {
        match std::env::var_os("COORDINATED_SERVER") {
            Some(text) => text.to_string_lossy().parse(),
            None => Self::DEFAULT.parse(),
        }
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseAddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err(wrong())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        if let Some(rest) = text.strip_prefix("tls:") {
            let (host, port) = split(rest).ok_or_else(wrong)?;
            return Ok(Self::Tls { host, port });
        }
        let (host, port) = split(text).ok_or_else(wrong)?;
        Ok(Self::Tcp { host, port })
    }
}

/// The host, without brackets, and the port.
fn split(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let name = bracketed.unwrap_or(host);
    if name.is_empty() || (bracketed.is_none() && name.contains(':')) {
        return None;
    }
    Some((name.to_owned(), port.parse().ok()?))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{}:{port}", Bracketed(host)),
            Self::Tls { host, port } => write!(f, "tls:{}:{port}", Bracketed(host)),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A host as it is written before a port.
struct Bracketed<'h>(&'h str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            host if host.contains(':') => write!(f, "[{host}]"),
            host => f.write_str(host),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_displayed_as_they_are_written() {
        for text in [
            Address::DEFAULT,
            "[::1]:5932",
            "localhost:0",
            "tls:localhost:5932",
            "tls:[::1]:5932",
            "unix:/run/coordinated.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn texts_that_are_no_address_are_refused_with_an_example() {
        for text in [
            "",
            "localhost",
            ":5932",
            "::1:5932",
            "host:65536",
            "host:",
            "unix:",
            "tls:",
            "tls:localhost",
            "tls:unix:/run/coordinated.sock",
            "[]:1",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:5932"), "{error}");
        }
    }
}
