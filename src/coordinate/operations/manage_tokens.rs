//! Making, replacing and revoking tokens.

use crate::coordinate::storage::Storage;
use crate::coordinate::{
    Change, Error, NewToken, Operation, Result, Secret, TOKEN_KEPT, TOKENS_MAX, Token, TokenId,
    TokenManager,
};

impl<S: Storage> Operation<'_, S> {
    /// Makes a token. Its secret is known only now.
    ///
    /// # Errors
    /// `Invalid` if it would have no name, no scope or no future; `Refused` if the name is in use or there are too many
    /// tokens; `Forbidden` if the namespace is not the manager's; `Storage`.
    pub fn create_token(&mut self, by: &TokenManager, new: NewToken) -> Result<(Token, Secret)> {
        if new.name.is_empty() {
            return Err(Error::Invalid("a token needs a name".to_owned()));
        }
        if new.scopes.is_empty() {
            return Err(Error::Invalid(
                "a token needs at least one scope".to_owned(),
            ));
        }
        if new.expires.is_some_and(|expires| expires <= self.now) {
            return Err(Error::Invalid(
                "the token would have expired already".to_owned(),
            ));
        }
        if by.namespace.is_some() && by.namespace != new.namespace {
            return Err(not_in_its_namespace(by));
        }
        if self.valid_token(&new.name)?.is_some() {
            return Err(Error::Refused(format!(
                "there is a token {:?} already: revoke it first, replace its secret with rotate_token, or choose another name",
                new.name
            )));
        }
        self.insert_token("create_token", by, new)
    }

    /// Revokes a token: it is not valid any more.
    ///
    /// # Errors
    /// `Refused` if there is none of that name; `Forbidden` if its namespace is not the manager's; `Storage`.
    pub fn revoke_token(&mut self, by: &TokenManager, name: &str) -> Result<Token> {
        let mut token = self.managed_token(by, name)?;
        self.store.revoke_token(token.id, self.now)?;
        token.revoked = Some(self.now);
        self.effects
            .audit(Change::of("revoke_token", 1).with(&token.name));
        self.note_tokens()?;
        Ok(token)
    }

    /// Gives a token another secret: the old one is not valid any more. It lasts as long as the old one did in all, from
    /// now on.
    ///
    /// # Errors
    /// As [`Operation::revoke_token`].
    pub fn rotate_token(&mut self, by: &TokenManager, name: &str) -> Result<(Token, Secret)> {
        let old = self.managed_token(by, name)?;
        self.store.revoke_token(old.id, self.now)?;
        let expires = old
            .expires
            .map(|expires| self.now.plus(expires.since(old.created)));
        let new = NewToken {
            name: old.name,
            scopes: old.scopes,
            namespace: old.namespace,
            expires,
        };
        self.insert_token("rotate_token", by, new)
    }

    /// The tokens that a manager may see, also those that are not valid any more.
    ///
    /// # Errors
    /// `Storage`.
    pub fn tokens(&mut self, by: &TokenManager) -> Result<Vec<Token>> {
        let mut tokens = self.store.tokens()?;
        tokens.retain(|token| may_manage(by, token));
        Ok(tokens)
    }

    fn insert_token(
        &mut self,
        action: &'static str,
        by: &TokenManager,
        new: NewToken,
    ) -> Result<(Token, Secret)> {
        // Never those that are valid, so there is always at least the new one.
        let long_ago = self.now.minus(TOKEN_KEPT);
        self.store.delete_ended_tokens(long_ago)?;
        if self.store.tokens()?.len() >= TOKENS_MAX {
            return Err(Error::Refused(format!(
                "there are {TOKENS_MAX} tokens; those that were revoked or have expired are removed after 90 days"
            )));
        }
        let secret = Secret::draw(&mut *self.random);
        let mut token = Token {
            id: TokenId(0),
            name: new.name,
            hash: secret.hash(),
            prefix: secret.prefix().to_owned(),
            scopes: new.scopes,
            namespace: new.namespace,
            created: self.now,
            created_by: by.name.clone(),
            expires: new.expires,
            last_used: None,
            revoked: None,
        };
        token.id = self.store.insert_token(&token)?;
        let detail = format!("{}: {}", token.name, token.scopes);
        self.effects.audit(Change::of(action, 1).with(detail));
        self.note_tokens()?;
        Ok((token, secret))
    }

    /// The token of a name that is not revoked.
    fn valid_token(&mut self, name: &str) -> Result<Option<Token>> {
        let mut tokens = self.store.tokens()?.into_iter();
        Ok(tokens.find(|token| token.name == name && token.revoked.is_none()))
    }

    fn managed_token(&mut self, by: &TokenManager, name: &str) -> Result<Token> {
        match self.valid_token(name)? {
            Some(token) if may_manage(by, &token) => Ok(token),
            Some(_) => Err(not_in_its_namespace(by)),
            None => Err(Error::Refused(format!(
                "there is no token {name:?} that could be revoked; list_tokens lists all of them"
            ))),
        }
    }

    /// Makes what is known of the tokens in memory follow, once this is committed.
    fn note_tokens(&mut self) -> Result<()> {
        self.effects.tokens = Some(self.store.tokens()?);
        Ok(())
    }
}

fn may_manage(by: &TokenManager, token: &Token) -> bool {
    by.namespace.is_none() || by.namespace == token.namespace
}

fn not_in_its_namespace(by: &TokenManager) -> Error {
    let namespace = by.namespace.as_deref().unwrap_or_default();
    Error::Forbidden(format!(
        "the token {:?} may manage only tokens of the namespace {namespace:?}",
        by.name
    ))
}
