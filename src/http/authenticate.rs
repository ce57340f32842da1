//! Who a request comes from, by the token in its header.

use super::call::Shared;
use super::problem::{self, Problem};
use super::serve::Connection;
use crate::clock::wall_clock;
use crate::coordinate::Scopes;
use crate::coordinate::storage::Storage;
use crate::jobserver::{Caller, Interface, TokenError};
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::sync::Arc;

/// Finds out who sends a request, which is then an extension of it, a [`Caller`]. Refuses requests without a token, if
/// tokens are needed, except those for `open_path`.
pub(super) async fn authenticate<S: Storage + 'static>(
    State((shared, open_path)): State<(Arc<Shared<S>>, Arc<str>)>,
    Extension(connection): Extension<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_open = request.uri().path() == &*open_path;
    match caller(&shared, &connection, request.headers(), is_open) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn caller<S: Storage + 'static>(
    shared: &Shared<S>,
    connection: &Connection,
    headers: &HeaderMap,
    is_open: bool,
) -> Result<Caller, Problem> {
    let doorkeeper = shared.submitter.doorkeeper();
    let peer = connection.peer();
    let mut unknown = doorkeeper.greet(Interface::Http, peer);
    if is_open || !doorkeeper.http_needs_token() {
        return Ok(unknown);
    }
    match secret(headers) {
        Some(secret) => doorkeeper
            .recognize(Interface::Http, peer, &secret, wall_clock())
            .map_err(Problem::from),
        // Says what is needed.
        None => match doorkeeper.check(&mut unknown, Scopes::ALL, wall_clock()) {
            Ok(()) => Ok(unknown),
            Err(error) => Err(Problem::new(problem::UNAUTHENTICATED, error.to_string())),
        },
    }
}

/// The token in a request's headers: as `Bearer`, or as the password of `Basic`.
fn secret(headers: &HeaderMap) -> Option<String> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(rest).ok()?).ok()?;
    let (_user, password) = decoded.split_once(':')?;
    Some(password.to_owned())
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let text = error.to_string();
        match error {
            TokenError::TooMany(wait) => Self::new(problem::TOO_MANY_TRIES, text).retry_after(wait),
            _ => Self::new(problem::UNAUTHENTICATED, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_token_is_the_bearer_or_the_password_and_nothing_else() {
        for (header, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            // any:abc, :abc, any:a:b and any
            ("Basic YW55OmFiYw==", Some("abc")),
            ("basic OmFiYw==", Some("abc")),
            ("Basic YW55OmE6Yg==", Some("a:b")),
            ("Basic YW55", None),
            ("Basic ?", None),
            ("Basic /w==", None),
            ("Digest abc", None),
            ("abc", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(header));
            assert_eq!(secret(&headers).as_deref(), expected, "{header}");
        }
        assert_eq!(secret(&HeaderMap::new()), None);
    }
}
