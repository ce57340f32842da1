//! What keeps web pages of others away: a browser on a machine that can reach the daemon must not let the pages that it
//! visits use it.
//!
//! A page can give its own host name the address of the daemon (DNS rebinding): so requests have to name a host that the
//! daemon knows. And a page can send requests to the daemon from the browser, though it can't read the answers: so those
//! that may change something must not come from another origin. The second check is that of tower-http.
//!
//! The pages of an origin that the daemon was started with are not kept away: they may send requests and read the answers.

use super::problem::{self, Problem};
use super::serve::Connection;
use super::upload::UPLOAD_ID;
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, ORIGIN, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::CorsLayer;
use tower_http::csrf::{ConfigError, CsrfLayer, ProtectionError};

/// A host name under which HTTP clients may know the daemon, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host(String);

/// A text that is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no host name: write one without a port, for example jobs.example.org")]
pub struct ParseHostError(String);

impl FromStr for Host {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<Authority>() {
            Ok(authority) if authority.as_str() == authority.host() => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => Err(ParseHostError(text.to_owned())),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a web page comes from, as browsers write it: `https://tools.example.org`, perhaps with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// A text that no browser sends as an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no origin as browsers write it: https://HOST or http://HOST, in small letters, with :PORT unless it is the \
     default, and nothing behind it"
)]
pub struct ParseOriginError(String);

impl FromStr for Origin {
    type Err = ParseOriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or_else(|| ParseOriginError(text.to_owned()))
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let (scheme, host) = (uri.scheme_str()?, uri.host()?);
        let default_port = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let port = uri.port_u16().filter(|port| *port != default_port);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let written = format!("{scheme}://{}{port}", host.to_ascii_lowercase());
        let value = text.parse().ok()?;
        (written == text && !host.contains('*')).then_some(Self(value))
    }
}

/// Lets a request pass if the host that it names is an address, `localhost`, or one of `hosts`. Over a Unix socket, which
/// browsers can't reach, any host passes.
pub(super) async fn check_host(
    State(hosts): State<Arc<[Host]>>,
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    if !connection.is_local_socket()
        && let Err(problem) = check(&request, &hosts)
    {
        return problem.into_response();
    }
    next.run(request).await
}

/// Checks all hosts that a request names.
fn check(request: &Request, hosts: &[Host]) -> Result<(), Problem> {
    let headers = request.headers().get_all(HOST).into_iter();
    let in_headers = headers.map(|host| host.to_str().ok().and_then(|host| host.parse().ok()));
    let in_uri = request.uri().authority().cloned().map(Some);
    let mut named = in_headers.chain(in_uri).peekable();
    if named.peek().is_none() {
        let detail = "the request names no host; add the header Host";
        return Err(Problem::new(problem::INVALID, detail));
    }
    let is_allowed = |authority: Option<Authority>| {
        // A browser never sends a user's name here.
        authority.is_some_and(|authority| {
            !authority.as_str().contains('@') && is_known(authority.host(), hosts)
        })
    };
    if !named.all(is_allowed) {
        let detail = "the header Host is neither an address, nor localhost, nor a name that the daemon was started with; \
                      add the name with --http-host, or use the address";
        return Err(Problem::new(problem::FOREIGN_HOST, detail));
    }
    Ok(())
}

fn is_known(host: &str, hosts: &[Host]) -> bool {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    bracketed.unwrap_or(host).parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts
            .iter()
            .any(|known| host.eq_ignore_ascii_case(&known.0))
}

/// Refuses requests that may change something and that a page of another origin has sent, except for `origins`.
///
/// # Errors
/// For no origin: each is one that browsers send.
pub(super) fn refuse_foreign_origins(
    origins: &[Origin],
) -> Result<
    CsrfLayer<impl FnMut(ProtectionError) -> Response + Clone + Send + Sync + use<>>,
    ConfigError,
> {
    let mut layer = CsrfLayer::new();
    for Origin(origin) in origins {
        layer = layer.add_trusted_origin(String::from_utf8_lossy(origin.as_bytes()))?;
    }
    Ok(layer.with_rejection_response(|_| {
        let detail = "the headers Sec-Fetch-Site and Origin say that a page of another site has sent the request";
        Problem::new(problem::FOREIGN_ORIGIN, detail).into_response()
    }))
}

/// True if a page of another site than `origins` has sent a request, as far as its browser says so.
pub(super) fn is_foreign(headers: &HeaderMap, origins: &[Origin]) -> bool {
    let site = headers.get(HeaderName::from_static("sec-fetch-site"));
    let is_of_others = site.is_some_and(|site| site != "same-origin" && site != "none");
    let origin = headers.get(ORIGIN);
    is_of_others && !origins.iter().any(|Origin(known)| Some(known) == origin)
}

/// How long a browser may remember what a page may send.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// Tells browsers that pages of `origins` may send all that there is, and read the answers.
pub(super) fn allow_origins(origins: &[Origin]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins.iter().map(|Origin(it)| it.clone()).collect();
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
        ])
        .allow_headers([AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, UPLOAD_ID])
        .expose_headers([LOCATION, RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(PREFLIGHT_MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_the_named_hosts_are_known_and_no_others() {
        let hosts = ["Jobs.example.org".parse().expect("a host")];
        for host in [
            "127.0.0.1",
            "[::1]",
            "10.1.2.3",
            "localhost",
            "LOCALHOST",
            "jobs.EXAMPLE.org",
        ] {
            assert!(is_known(host, &hosts), "{host}");
        }
        for host in [
            "",
            "example.org",
            "evil.jobs.example.org",
            "localhost.evil.org",
            "127.0.0.1.evil.org",
        ] {
            assert!(!is_known(host, &hosts), "{host}");
        }
    }

    #[test]
    fn an_origin_is_what_a_browser_would_send() {
        for text in [
            "https://tools.example.org",
            "http://localhost:8080",
            "http://[::1]:8080",
            "https://192.0.2.1",
        ] {
            let origin = text.parse::<Origin>();
            let origin = origin.unwrap_or_else(|error| panic!("{error}"));
            assert!(refuse_foreign_origins(&[origin]).is_ok(), "{text}");
        }
        for text in [
            "",
            "*",
            "null",
            "tools.example.org",
            "https://",
            "https://*",
            "https://*.example.org",
            "https://tools.example.org/",
            "https://tools.example.org/page",
            "https://tools.example.org?",
            "https://tools.example.org:443",
            "http://tools.example.org:80",
            "https://user@tools.example.org",
            "https://Tools.example.org",
            "HTTPS://tools.example.org",
            "ftp://tools.example.org",
            "https://t\u{f6}ls.example.org",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_is_a_name_without_anything_else() {
        for text in [
            "a.example.org:80",
            "http://a.example.org",
            "user@a.example.org",
            "",
            "a b",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }
}
