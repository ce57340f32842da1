//! Where a request comes from, if it has passed a reverse proxy.

use super::serve::Connection;
use crate::server::Network;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The address of the client behind a connection from `peer`; `None` over a Unix socket. If the peer is one of the `proxies`, it
/// is the last address in `X-Forwarded-For` that is not a proxy's: those before it are what the client itself may have sent.
pub(super) fn client(
    peer: Option<IpAddr>,
    headers: &HeaderMap,
    proxies: &[Network],
) -> Option<IpAddr> {
    let is_proxy = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut client = peer?;
    let values = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    while is_proxy(client)
        && let Some(hop) = hops.next()
    {
        // What a proxy does not know it may call "unknown": then the proxy is the client.
        let Some(address) = parse(hop) else { break };
        client = address;
    }
    Some(client)
}

/// True if the client uses HTTPS: on this connection, or, as the header `X-Forwarded-Proto` says, with the proxy that this
/// connection comes from.
pub(super) fn is_https(connection: &Connection, headers: &HeaderMap, proxies: &[Network]) -> bool {
    let peer = connection.peer();
    let is_proxy = peer.is_some_and(|peer| proxies.iter().any(|network| network.contains(peer)));
    let protocol = headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes);
    connection.is_tls() || is_proxy && protocol == Some(b"https")
}

/// An address, perhaps with a port.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|it| it.ip());
    text.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(peer: &str, forwarded: &[&'static str]) -> String {
        let proxies = ["10.0.0.0/8", "::1"].map(|network| network.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(value));
        }
        let client = client(peer.parse().ok(), &headers, &proxies);
        client.map_or_else(|| "none".to_owned(), |address| address.to_string())
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_of_a_proxy() {
        for (peer, forwarded, expected) in [
            // Only proxies are believed.
            ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // What a client has sent comes first.
            ("10.0.0.1", &["203.0.113.7, 198.51.100.1"], "198.51.100.1"),
            (
                "10.0.0.1",
                &["203.0.113.7", "198.51.100.1,10.1.1.1"],
                "198.51.100.1",
            ),
            ("::1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::1", &["2001:db8::1"], "2001:db8::1"),
            // There is none.
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["203.0.113.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("a Unix socket", &["203.0.113.7"], "none"),
        ] {
            assert_eq!(client_of(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }
}
