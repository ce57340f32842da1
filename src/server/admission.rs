//! Who may connect: networks of TCP peers, and permissions of the files of Unix sockets.

use ipnet::{IpNet, Ipv4Net};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Who may connect.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The networks from which peers may connect over TCP. Loopback has to be in the list, like any other network. If
    /// the list is empty, only loopback may connect, and the daemon can listen only there.
    pub allow: Vec<Network>,
    /// The permission bits of the files of Unix sockets. Users who may write to the file can connect.
    pub socket_mode: u32,
}

impl Default for Admission {
    /// Only this machine over TCP, and only this user over Unix sockets.
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            socket_mode: 0o600,
        }
    }
}

impl Admission {
    /// True if a peer may connect.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        if self.allow.is_empty() {
            return peer.to_canonical().is_loopback();
        }
        self.allow.iter().any(|network| network.contains(peer))
    }

    /// True if the daemon may listen at an address: either other machines can't reach it, or there is a list of
    /// networks.
    pub(super) fn may_listen(&self, address: IpAddr) -> bool {
        !self.allow.is_empty() || address.to_canonical().is_loopback()
    }
}

/// A network of peers: `10.0.0.0/8`, `fd00::/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// True if an address is in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        // A listener for both families shows IPv4 peers as ::ffff:a.b.c.d.
        self.0.contains(&address.to_canonical())
    }
}

/// Why a text is not a [`Network`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworkError {
    /// It is something else.
    #[error("write a network as 10.0.0.0/8 or fd00::/8, or a single address")]
    NotANetwork,
    /// It is an address within a network: either the address or the length of the prefix may be wrong.
    #[error(
        "{address} is within a network, not its beginning: write {network}, or {address} alone"
    )]
    NotTheBeginning {
        /// The address that was given.
        address: IpAddr,
        /// The network that it is in.
        network: Network,
    },
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let network: IpNet = text.parse().map_err(|_| ParseNetworkError::NotANetwork)?;
        if network.addr() != network.network() {
            return Err(ParseNetworkError::NotTheBeginning {
                address: network.addr(),
                network: Self(network.trunc()),
            });
        }
        Ok(Self(canonical(network)))
    }
}

/// The network in IPv4 form if it is one of IPv4 addresses in IPv6: peers are compared in that form.
fn canonical(network: IpNet) -> IpNet {
    let prefix = network.prefix_len().checked_sub(96);
    match (network.addr().to_canonical(), prefix) {
        (IpAddr::V4(address), Some(prefix)) if network.addr().is_ipv6() => {
            Ipv4Net::new(address, prefix).map_or(network, IpNet::V4)
        }
        _ => network,
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(networks: &[&str]) -> Admission {
        Admission {
            allow: networks.iter().map(|text| text.parse().unwrap()).collect(),
            ..Admission::default()
        }
    }

    fn admits(admission: &Admission, peer: &str) -> bool {
        admission.admits(peer.parse().unwrap())
    }

    #[test]
    fn without_a_list_loopback_alone_is_admitted_and_listened_at() {
        let admission = Admission::default();
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(admits(&admission, address), "{address}");
            assert!(admission.may_listen(address.parse().unwrap()), "{address}");
        }
        for address in ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1"] {
            assert!(!admits(&admission, address), "{address}");
            assert!(!admission.may_listen(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_list_says_all_and_replaces_loopback() {
        let admission = allowing(&["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);
        for peer in ["10.255.0.1", "192.0.2.7", "fdff::1"] {
            assert!(admits(&admission, peer), "{peer}");
        }
        for peer in ["127.0.0.1", "::1", "11.0.0.0", "192.0.2.8", "fe00::1"] {
            assert!(!admits(&admission, peer), "{peer}");
        }
    }

    #[test]
    fn ipv4_peers_of_an_ipv6_listener_are_ipv4_peers() {
        let admission = allowing(&["10.0.0.0/8"]);
        assert!(admits(&admission, "::ffff:10.1.2.3"));
        assert!(!admits(&admission, "::ffff:11.1.2.3"));
        let as_ipv6 = allowing(&["::ffff:10.0.0.0/104", "::ffff:192.0.2.7"]);
        for peer in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7"] {
            assert!(admits(&as_ipv6, peer), "{peer}");
        }
        assert!(!admits(&as_ipv6, "11.1.2.3"));
        // All of IPv6 is not all of IPv4.
        assert!(!admits(&allowing(&["::/0"]), "::ffff:10.1.2.3"));
        assert!(admits(&allowing(&["0.0.0.0/0"]), "::ffff:10.1.2.3"));
    }

    #[test]
    fn texts_that_are_no_network_are_refused_with_what_to_write() {
        for text in [
            "",
            "10",
            "10.0.0.0/33",
            "fd00::/129",
            "host",
            "10.0.0.0/",
            "/8",
        ] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains("10.0.0.0/8"), "{text}: {error}");
        }
        let error = "10.0.0.5/8".parse::<Network>().unwrap_err().to_string();
        assert!(
            error.contains("write 10.0.0.0/8, or 10.0.0.5 alone"),
            "{error}"
        );
    }
}
