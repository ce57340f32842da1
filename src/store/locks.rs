//! Locks.

use super::SqliteStore;
use super::statement::{prepared, statements};
use crate::clock::Timestamp;
use crate::coordinate::storage::{LockQuery, LockStore, StorageResult, VisitLock};
use crate::coordinate::{Error, Lock, LockPath, Result, StorageError};
use rusqlite::{Connection, named_params};

statements! {
    FIND_LOCK = "SELECT owner, expiration_us FROM lock WHERE path = :path";

    FIND_LOCK_UNDER = "SELECT 1 FROM lock WHERE path >= :path AND path < :end LIMIT 1";

    LIST_LOCKS = "
        SELECT path, path_text, owner, expiration_us
          FROM lock
         WHERE path >= :start AND path < :end
         ORDER BY path
         LIMIT :limit";

    PUT_LOCK = "
        INSERT INTO lock (path, path_text, owner, expiration_us)
        VALUES (:path, :path_text, :owner, :expiration)
        ON CONFLICT (path) DO UPDATE SET owner = excluded.owner, expiration_us = excluded.expiration_us";

    DELETE_LOCK = "DELETE FROM lock WHERE path = :path";

    DELETE_LOCKS_UNDER = "
        DELETE FROM lock
         WHERE path IN (SELECT path FROM lock WHERE path >= :path AND path < :end LIMIT :limit)";

    /// Uses index lock_by_expiration.
    DELETE_EXPIRED_LOCKS = "
        DELETE FROM lock
         WHERE path IN (SELECT path
                          FROM lock
                         WHERE expiration_us <= :now
                         ORDER BY expiration_us
                         LIMIT :limit)";

    COUNT_LOCKS = "SELECT count(*) FROM lock";

    FIRST_EXPIRATION_OF_LOCKS = "SELECT min(expiration_us) FROM lock";
}

pub(super) const FIRST_EXPIRATION: &str = FIRST_EXPIRATION_OF_LOCKS;

/// What sorts after all paths that begin with `path`: a label begins with a letter.
fn end_of(path: &[u8]) -> Vec<u8> {
    [path, &[0xff]].concat()
}

impl LockStore for SqliteStore {
    fn find_lock(&mut self, path: &[u8]) -> StorageResult<Option<Lock>> {
        let statement = self.statements.prepared(FIND_LOCK)?;
        let mut rows = statement.query(named_params! {":path": path})?;
        match rows.next()? {
            Some(row) => Ok(Some(Lock {
                owner: row.get(0)?,
                expiration: row.get(1)?,
            })),
            None => Ok(None),
        }
    }

    fn is_locked_at_or_under(&mut self, path: &[u8]) -> StorageResult<bool> {
        Ok(self
            .statements
            .prepared(FIND_LOCK_UNDER)?
            .exists(named_params! {":path": path, ":end": end_of(path)})?)
    }

    fn put_lock(&mut self, path: &LockPath, lock: &Lock) -> StorageResult<()> {
        self.statements.prepared(PUT_LOCK)?.execute(named_params! {
            ":path": path.bytes(),
            ":path_text": path.text(),
            ":owner": lock.owner,
            ":expiration": lock.expiration,
        })?;
        self.note_due(lock.expiration);
        Ok(())
    }

    fn delete_lock(&mut self, path: &[u8]) -> StorageResult<()> {
        self.statements
            .prepared(DELETE_LOCK)?
            .execute(named_params! {":path": path})?;
        Ok(())
    }

    fn delete_locks_under(&mut self, path: &[u8], limit: usize) -> StorageResult<usize> {
        Ok(self
            .statements
            .prepared(DELETE_LOCKS_UNDER)?
            .execute(named_params! {":path": path, ":end": end_of(path), ":limit": limit})?)
    }

    fn delete_expired_locks(&mut self, now: Timestamp, limit: usize) -> StorageResult<()> {
        self.statements
            .prepared(DELETE_EXPIRED_LOCKS)?
            .execute(named_params! {":now": now, ":limit": limit})?;
        Ok(())
    }
}

/// Shows `visit` the locks that a query asks for.
pub(super) fn list_locks(
    connection: &Connection,
    query: &LockQuery,
    visit: &mut VisitLock<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let under = query.under.bytes();
    let start = query.start.as_ref().map_or(&[][..], LockPath::bytes);
    let mut statement = prepared(connection, LIST_LOCKS).map_err(storage)?;
    let mut rows = statement
        .query(named_params! {
            ":start": under.max(start),
            ":end": end_of(under),
            ":limit": query.limit,
        })
        .map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        let path = row
            .get_ref(0)
            .and_then(|path| Ok(LockPath::from_bytes(path.as_blob()?)))
            .map_err(storage)?;
        let Some(path) = path else {
            let text: String = row.get(1).map_err(storage)?;
            let problem = format!("lock {text:?}: its path can't be decoded");
            return Err(StorageError::Other(problem).into());
        };
        let lock = Lock {
            owner: row.get(2).map_err(storage)?,
            expiration: row.get(3).map_err(storage)?,
        };
        visit(&path, &lock)?;
    }
    Ok(())
}

/// How many locks there are.
pub(super) fn count_locks(connection: &Connection) -> rusqlite::Result<u64> {
    prepared(connection, COUNT_LOCKS)?.query_row([], |row| row.get(0))
}
