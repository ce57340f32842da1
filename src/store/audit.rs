//! The audit.

use super::SqliteStore;
use super::statement::{prepared, statements};
use crate::clock::Timestamp;
use crate::coordinate::storage::{AuditQuery, AuditStore, StorageResult, VisitEntry};
use crate::coordinate::{
    AUDIT_ENTRIES_MAX, AuditEntry, AuditId, Author, Change, Error, Result, StorageError,
};
use rusqlite::{Connection, Row, named_params};

statements! {
    INSERT_ENTRY = "
        INSERT INTO audit (namespace, at_us, token, interface, address, action, work_spec, detail, count)
        VALUES (:namespace, :at, :token, :interface, :address, :action, :work_spec, :detail, :count)";

    ADD_TO_ENTRY = "UPDATE audit SET count = count + :count WHERE id = :id";

    LIST_ENTRIES = "
        SELECT id, namespace, at_us, token, interface, address, action, work_spec, detail, count
          FROM audit
         WHERE id < :before
         ORDER BY id DESC
         LIMIT :limit";

    /// Uses index audit_by_namespace.
    LIST_ENTRIES_OF_NAMESPACE = "
        SELECT id, namespace, at_us, token, interface, address, action, work_spec, detail, count
          FROM audit
         WHERE namespace = :namespace AND id < :before
         ORDER BY id DESC
         LIMIT :limit";

    /// Looks at the oldest entries only.
    PRUNE_ENTRIES = "
        DELETE FROM audit
         WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT :limit)
           AND (at_us < :before OR id <= (SELECT max(id) FROM audit) - :entries_max)";
}

impl AuditStore for SqliteStore {
    fn insert_audit_entry(
        &mut self,
        namespace: &str,
        at: Timestamp,
        author: &Author,
        change: &Change,
    ) -> StorageResult<AuditId> {
        let id = self
            .statements
            .prepared(INSERT_ENTRY)?
            .insert(named_params! {
                ":namespace": namespace,
                ":at": at,
                ":token": author.token,
                ":interface": author.interface,
                ":address": author.address,
                ":action": change.action,
                ":work_spec": change.work_spec,
                ":detail": change.detail,
                ":count": change.count,
            })?;
        Ok(AuditId(id))
    }

    fn add_to_audit_entry(&mut self, id: AuditId, count: u64) -> StorageResult<()> {
        self.statements
            .prepared(ADD_TO_ENTRY)?
            .execute(named_params! {":count": count, ":id": id})?;
        Ok(())
    }

    fn prune_audit(&mut self, before: Timestamp, limit: usize) -> StorageResult<usize> {
        Ok(self
            .statements
            .prepared(PRUNE_ENTRIES)?
            .execute(named_params! {
                ":limit": limit,
                ":before": before,
                ":entries_max": AUDIT_ENTRIES_MAX,
            })?)
    }
}

fn row_to_entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        id: row.get(0)?,
        namespace: row.get(1)?,
        at: row.get(2)?,
        token: row.get(3)?,
        interface: row.get(4)?,
        address: row.get(5)?,
        action: row.get(6)?,
        work_spec: row.get(7)?,
        detail: row.get(8)?,
        count: row.get(9)?,
    })
}

/// Shows `visit` the entries that a query asks for, the newest first.
pub(super) fn list_audit(
    connection: &Connection,
    query: &AuditQuery,
    visit: &mut VisitEntry<'_>,
) -> Result<()> {
    let storage = |error: rusqlite::Error| Error::from(StorageError::from(error));
    let before = query.before.map_or(i64::MAX, |id| id.0);
    let mut statement = match &query.namespace {
        None => prepared(connection, LIST_ENTRIES),
        Some(_) => prepared(connection, LIST_ENTRIES_OF_NAMESPACE),
    }
    .map_err(storage)?;
    let rows = match &query.namespace {
        None => statement.query(named_params! {":before": before, ":limit": query.limit}),
        Some(namespace) => statement.query(named_params! {
            ":namespace": namespace,
            ":before": before,
            ":limit": query.limit,
        }),
    };
    let mut rows = rows.map_err(storage)?;
    while let Some(row) = rows.next().map_err(storage)? {
        visit(&row_to_entry(row).map_err(storage)?)?;
    }
    Ok(())
}
