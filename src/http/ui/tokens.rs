//! Tokens, on the page of the daemon: who may use it, and for how long.

use super::frame::{Frame, Tab};
use super::shown::{self, When};
use super::{Form, Result, Visit, see_other};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{NewToken, Scope, Scopes, Secret, TOKEN_LIFETIME, Token, TokenManager};
use crate::http::problem::{self, Problem};
use askama::Template;
use axum::extract::Request;
use axum::response::Response;
use std::time::Duration;

/// The longest life that can be chosen, in days. Longer than that is for ever.
const DAYS_MAX: u64 = 3_650;

/// All tokens.
pub(super) struct Tokens {
    pub(super) rows: Vec<TokenRow>,
    pub(super) scopes: Vec<&'static str>,
    pub(super) days: u64,
}

pub(super) struct TokenRow {
    pub(super) name: String,
    /// The name as a form sends it.
    pub(super) key: String,
    pub(super) prefix: String,
    pub(super) scopes: String,
    pub(super) namespace: Option<String>,
    pub(super) created: When,
    pub(super) created_by: String,
    pub(super) last_used: Option<When>,
    pub(super) expires: Option<When>,
    /// Why it does not count any more.
    pub(super) ended: Option<&'static str>,
}

impl Tokens {
    pub(super) fn of(tokens: &[Token], now: Timestamp) -> Self {
        Self {
            rows: tokens.iter().rev().map(|token| row(token, now)).collect(),
            scopes: Scope::ALL.iter().map(|scope| scope.name()).collect(),
            days: TOKEN_LIFETIME.as_secs() / 86_400,
        }
    }
}

fn row(token: &Token, now: Timestamp) -> TokenRow {
    let when = |at| When::new(at, now);
    let scopes: Vec<_> = token.scopes.iter().map(Scope::name).collect();
    TokenRow {
        name: shown::visible(&token.name, 200),
        key: token.name.clone(),
        prefix: token.prefix.clone(),
        scopes: scopes.join(", "),
        namespace: token.namespace.as_ref().map(|name| match &**name {
            "" => "(no name)".to_owned(),
            name => shown::visible(name, 200),
        }),
        created: when(token.created),
        created_by: shown::visible(&token.created_by, 200),
        last_used: token.last_used.map(when),
        expires: token.expires.map(when),
        ended: match token.revoked {
            Some(_) => Some("revoked"),
            None if token.is_expired(now) => Some("expired"),
            None => None,
        },
    }
}

/// The page that shows a new secret, once.
#[derive(Template)]
#[template(path = "secret.html")]
struct SecretPage {
    frame: Frame,
    name: String,
    secret: String,
}

impl<S: Storage + 'static> Visit<S> {
    /// Who the person is as a manager of tokens.
    pub(super) fn token_manager(&self) -> TokenManager {
        self.caller.as_token_manager(None)
    }

    fn secret_page(&self, frame: Frame, token: &Token, secret: &Secret) -> Result<Response> {
        let page = SecretPage {
            name: shown::visible(&token.name, 200),
            secret: secret.reveal().to_owned(),
            // It does not change by itself: asked for again, it would make another token.
            frame: frame.on(Tab::None),
        };
        self.page(&page.frame, &page)
    }
}

/// `POST /ui/daemon/tokens`: makes a token.
pub(super) async fn create<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    request: Request,
) -> Result<Response> {
    let form = ui.form(request).await?;
    let days = days(&form)?;
    let scopes: Scopes = form
        .all("scope")
        .map(|scope| scope.parse::<Scope>())
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| Problem::new(problem::INVALID, error.to_string()))?;
    let (by, name) = (ui.token_manager(), form.text("name").unwrap_or_default());
    let namespace = form.text("namespace");
    let made = ui.run(Access::Write, move |operation| {
        let new = NewToken {
            name: name.clone(),
            scopes,
            namespace: namespace.clone(),
            expires: days.map(|days| operation.now.plus(days)),
        };
        operation.create_token(&by, new)
    });
    let ((token, secret), _share) = made.await?;
    ui.secret_page(frame, &token, &secret)
}

/// How long a new token is valid; `None` for ever.
fn days(form: &Form) -> Result<Option<Duration>> {
    let Some(text) = form.text("days") else {
        return Ok(None);
    };
    match text.parse::<u64>() {
        Ok(days @ 1..=DAYS_MAX) => Ok(Some(Duration::from_hours(24 * days))),
        _ => {
            let detail =
                format!("days: expected a number from 1 to {DAYS_MAX}, or nothing, got {text:?}");
            Err(Problem::new(problem::INVALID, detail).into())
        }
    }
}

/// `POST /ui/daemon/tokens/rotate`: gives a token another secret.
pub(super) async fn rotate<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    request: Request,
) -> Result<Response> {
    let (form, by) = (ui.form(request).await?, ui.token_manager());
    let name = form.get("name").unwrap_or_default().to_owned();
    let made = ui.run(Access::Write, move |operation| {
        operation.rotate_token(&by, &name)
    });
    let ((token, secret), _share) = made.await?;
    ui.secret_page(frame, &token, &secret)
}

/// `POST /ui/daemon/tokens/revoke`: ends a token.
pub(super) async fn revoke<S: Storage>(
    ui: Visit<S>,
    frame: Frame,
    request: Request,
) -> Result<Response> {
    let (form, by) = (ui.form(request).await?, ui.token_manager());
    let name = form.get("name").unwrap_or_default().to_owned();
    ui.run(Access::Write, move |operation| {
        operation.revoke_token(&by, &name)
    })
    .await?;
    Ok(see_other(&frame.url("daemon")))
}
