//! Tokens.

use super::SqliteStore;
use super::statement::statements;
use crate::clock::Timestamp;
use crate::coordinate::storage::{StorageResult, TokenStore};
use crate::coordinate::{Scopes, Token, TokenHash, TokenId};
use rusqlite::named_params;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

statements! {
    LIST_TOKENS = "
        SELECT id, name, hash, prefix, scopes, namespace, created_us, created_by, expires_us, last_used_us, revoked_us
          FROM token
         ORDER BY id";

    INSERT_TOKEN = "
        INSERT INTO token (name, hash, prefix, scopes, namespace, created_us, created_by, expires_us)
        VALUES (:name, :hash, :prefix, :scopes, :namespace, :created, :created_by, :expires)";

    REVOKE_TOKEN = "UPDATE token SET revoked_us = :now WHERE id = :id";

    DELETE_ENDED_TOKENS = "DELETE FROM token WHERE revoked_us < :before OR expires_us < :before";

    NOTE_USE_OF_TOKEN = "UPDATE token SET last_used_us = :at WHERE id = :id";
}

impl TokenStore for SqliteStore {
    fn tokens(&mut self) -> StorageResult<Vec<Token>> {
        let tokens = self
            .statements
            .prepared(LIST_TOKENS)?
            .query_map(&[], |row| {
                Ok(Token {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    hash: row.get(2)?,
                    prefix: row.get(3)?,
                    scopes: row.get(4)?,
                    namespace: row.get(5)?,
                    created: row.get(6)?,
                    created_by: row.get(7)?,
                    expires: row.get(8)?,
                    last_used: row.get(9)?,
                    revoked: row.get(10)?,
                })
            })?
            .collect::<rusqlite::Result<_>>()?;
        Ok(tokens)
    }

    fn insert_token(&mut self, token: &Token) -> StorageResult<TokenId> {
        let id = self
            .statements
            .prepared(INSERT_TOKEN)?
            .insert(named_params! {
                ":name": token.name,
                ":hash": token.hash,
                ":prefix": token.prefix,
                ":scopes": token.scopes,
                ":namespace": token.namespace,
                ":created": token.created,
                ":created_by": token.created_by,
                ":expires": token.expires,
            })?;
        Ok(TokenId(id))
    }

    fn revoke_token(&mut self, id: TokenId, now: Timestamp) -> StorageResult<()> {
        self.statements
            .prepared(REVOKE_TOKEN)?
            .execute(named_params! {":now": now, ":id": id})?;
        Ok(())
    }

    fn delete_ended_tokens(&mut self, before: Timestamp) -> StorageResult<()> {
        self.statements
            .prepared(DELETE_ENDED_TOKENS)?
            .execute(named_params! {":before": before})?;
        Ok(())
    }

    fn note_use_of_token(&mut self, id: TokenId, at: Timestamp) -> StorageResult<()> {
        self.statements
            .prepared(NOTE_USE_OF_TOKEN)?
            .execute(named_params! {":at": at, ":id": id})?;
        Ok(())
    }
}

impl ToSql for TokenHash {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_slice().into())
    }
}

impl FromSql for TokenHash {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes = value.as_blob()?;
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| FromSqlError::InvalidType)
    }
}

impl ToSql for Scopes {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Scopes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(FromSqlError::other)
    }
}
