//! Who sends a request, by the token in its header, and who may use a route.

use super::call::Shared;
use super::forwarded;
use super::problem::{self, Problem};
use super::serve::Connection;
use crate::clock::wall_clock;
use crate::coordinate::storage::Storage;
use crate::coordinate::{Scopes, TokenHash};
use crate::jobserver::{Caller, Interface, Realm, TokenError};
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::sync::Arc;

/// Who may use a route.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// Everybody, without a token.
    Everybody,
    /// Those with a valid token. What it allows is checked behind the route, where it is known what is asked for.
    Known,
    /// Those whose token has one of these scopes in all namespaces.
    With(Scopes),
    /// Those whose token has one of these scopes in the namespace of CBOR-RPC clients.
    AtHome(Scopes),
}

/// Lets a request pass if its sender may use the route. Who that is becomes an extension of the request, a [`Caller`]. As long
/// as no token was made, everybody may use every route.
pub(super) async fn admit<S: Storage + 'static>(
    State((shared, who)): State<(Arc<Shared<S>>, Who)>,
    Extension(connection): Extension<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    match caller(&shared, who, &connection, request.headers(), None) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Who sends a request. `session` is the token of somebody who has signed in.
///
/// # Errors
/// If the sender may not use the route.
pub(super) fn caller<S: Storage + 'static>(
    shared: &Shared<S>,
    who: Who,
    connection: &Connection,
    headers: &HeaderMap,
    session: Option<TokenHash>,
) -> Result<Caller, Problem> {
    let doorkeeper = shared.submitter.doorkeeper();
    let client = forwarded::client(connection.peer(), headers, &shared.proxies);
    let (realm, scopes) = match who {
        _ if !doorkeeper.http_needs_token() => (Realm::Nowhere, Scopes::NONE),
        Who::Everybody => (Realm::Nowhere, Scopes::NONE),
        Who::Known => (Realm::Nowhere, Scopes::ALL),
        Who::With(scopes) => (Realm::All, scopes),
        Who::AtHome(scopes) => (Realm::Home, scopes),
    };
    let mut caller = match (secret(headers), session) {
        _ if scopes.is_empty() => doorkeeper.greet(Interface::Http, client),
        (Some(secret), _) => {
            doorkeeper.recognize(Interface::Http, client, &secret, wall_clock())?
        }
        (None, Some(hash)) => {
            doorkeeper.recognize_again(Interface::Http, client, &hash, wall_clock())?
        }
        (None, None) => doorkeeper.greet(Interface::Http, client),
    };
    shared.check(&mut caller, realm, scopes)?;
    Ok(caller)
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
