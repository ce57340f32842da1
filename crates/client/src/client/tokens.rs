//! Tokens: who calls, and who may call.

use super::answer::Answer;
use super::{Coordinate, Result, options};
use crate::cbor::Value;
use std::fmt;
use std::sync::Arc;

/// The secret of a token, which a connection shows ([`super::Options::token`]).
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// All of it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Token {
    fn from(secret: &str) -> Self {
        Self(secret.into())
    }
}

/// Not the secret, which must not get into a log.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

/// What is known of a token, without its secret.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenInfo {
    /// What people call it.
    pub name: String,
    /// How its secret begins.
    pub prefix: String,
    /// The names of its scopes.
    pub scopes: Vec<String>,
    /// The only namespace in which it counts; `None` for all of them.
    pub namespace: Option<String>,
    /// When it was made, in seconds since 1970, like the times below.
    pub created: f64,
    /// Who made it.
    pub created_by: String,
    /// From when on it is not valid; `None` for never.
    pub expires: Option<f64>,
    /// About when it was last used; `None` for never.
    pub last_used: Option<f64>,
    /// When it was revoked; `None` if it was not.
    pub revoked: Option<f64>,
}

/// A new token.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What people call it.
    pub name: String,
    /// The names of its scopes.
    pub scopes: Vec<String>,
    /// The only namespace in which it counts; `None` for all of them.
    pub namespace: Option<String>,
    /// From when on it is not valid.
    pub expires: TokenExpiry,
    /// Who makes it, if the connection has shown no token.
    pub by: Option<String>,
}

/// When a token expires.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum TokenExpiry {
    /// After as long as the server thinks fit: 90 days.
    #[default]
    Default,
    /// At a time in seconds since 1970.
    At(f64),
    /// Never.
    Never,
}

impl Coordinate {
    /// Makes a token. Returns its secret, which nobody can find out later. Only `coordinated` supports tokens, here and
    /// below.
    pub fn create_token(&mut self, new: &NewToken) -> Result<(TokenInfo, Token)> {
        let scopes: Vec<Value> = new.scopes.iter().map(|name| name.as_str().into()).collect();
        let options = options([
            ("scopes", Some(scopes.into())),
            ("namespace", new.namespace.as_deref().map(Value::from)),
            (
                "expires",
                match new.expires {
                    TokenExpiry::Default => None,
                    TokenExpiry::At(time) => Some(time.into()),
                    TokenExpiry::Never => Some("never".into()),
                },
            ),
            ("by", new.by.as_deref().map(Value::from)),
        ]);
        let answer = self.call_with("create_token", [new.name.as_str().into(), options])?;
        made(&answer.accepted()?)
    }

    /// Gives a token another secret, and returns that. The old one is not valid any more.
    pub fn rotate_token(&mut self, name: &str, by: Option<&str>) -> Result<(TokenInfo, Token)> {
        let options = options([("by", by.map(Value::from))]);
        let answer = self.call_with("rotate_token", [name.into(), options])?;
        made(&answer.accepted()?)
    }

    /// Revokes a token.
    pub fn revoke_token(&mut self, name: &str) -> Result<()> {
        self.call_with("revoke_token", [name.into()])?.accepted()?;
        Ok(())
    }

    /// Makes a code that signs a person in to the web page with the token of this connection, once and within a minute: open
    /// `/ui/sign-in?code=CODE`. Without a token it is refused.
    pub fn create_sign_in_code(&mut self) -> Result<String> {
        let answer = self.call_with("create_sign_in_code", [])?.accepted()?;
        answer.field("code").text()
    }

    /// All tokens, also those that are not valid any more.
    pub fn list_tokens(&mut self) -> Result<Vec<TokenInfo>> {
        let tokens = self.call_with("list_tokens", [])?.accepted()?.items()?;
        tokens.into_iter().map(|token| info(&token)).collect()
    }
}

fn made(answer: &Answer) -> Result<(TokenInfo, Token)> {
    let secret = answer.field("token").text()?;
    Ok((info(answer)?, Token::from(secret.as_str())))
}

fn info(answer: &Answer) -> Result<TokenInfo> {
    let mut scopes = Vec::new();
    for scope in answer.field("scopes").items()? {
        scopes.push(scope.text()?);
    }
    Ok(TokenInfo {
        name: answer.field("name").text()?,
        prefix: answer.field("prefix").text()?,
        scopes,
        namespace: answer.field("namespace").optional_text()?,
        created: answer.field("created").number()?,
        created_by: answer.field("created_by").text()?,
        expires: answer.field("expires").optional_number()?,
        last_used: answer.field("last_used").optional_number()?,
        revoked: answer.field("revoked").optional_number()?,
    })
}
