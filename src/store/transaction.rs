//! Batches and operations: one SQLite transaction for many operations, one savepoint for each.

use super::specs::Undo;
use super::statement::prepared;
use super::{Reader, SqliteStore};
use crate::clock::Timestamp;
use crate::coordinate::storage::{Access, Storage, StorageResult};
use crate::coordinate::{Error, Result, StorageError};
use rusqlite::OptionalExtension;

/// The transaction that is open now.
#[derive(Default)]
pub(super) struct Batch {
    open: Open,
    /// Why nothing of the batch can stand, once something went wrong for all of it.
    broken: Option<StorageError>,
    /// True if what is kept in memory has to be loaded anew.
    stale: bool,
    /// `PRAGMA data_version` when it was loaded.
    data_version: i64,
    /// How to undo in memory what the present operation did.
    pub(super) undo: Vec<Undo>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    Read,
    Write,
}

impl Storage for SqliteStore {
    type Reader = Reader;

    fn operation<T>(
        &mut self,
        access: Access,
        run: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if let Some(error) = &self.batch.broken {
            return Err(error.clone().into());
        }
        self.begin(access)?;
        if access == Access::Read {
            return run(self);
        }
        self.execute("SAVEPOINT operation")?;
        match run(self) {
            Ok(value) => {
                self.execute("RELEASE operation")?;
                self.batch.undo.clear();
                Ok(value)
            }
            Err(error) => {
                self.undo_operation(&error);
                Err(error)
            }
        }
    }

    fn batch_is_broken(&self) -> bool {
        self.batch.broken.is_some()
    }

    fn commit(&mut self) -> StorageResult<()> {
        let open = std::mem::take(&mut self.batch.open);
        let broken = match (open, self.batch.broken.take()) {
            (_, Some(error)) => error,
            (Open::Nothing, None) => return Ok(()),
            (Open::Read, None) => return self.execute("COMMIT"),
            (Open::Write, None) => {
                match self.write_counts().and_then(|()| self.execute("COMMIT")) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
        };
        // SQLite may have rolled back by itself, and then has nothing to roll back.
        if !self.connection.is_autocommit() {
            self.execute("ROLLBACK")?;
        }
        self.batch.stale = true;
        Err(broken)
    }

    fn due(&self) -> Option<Timestamp> {
        self.due
    }

    fn refresh_due(&mut self) -> StorageResult<()> {
        self.due = [
            super::attempts::FIRST_EXPIRATION,
            super::units::FIRST_NOT_BEFORE,
            super::workers::FIRST_EXPIRATION,
            super::locks::FIRST_EXPIRATION,
        ]
        .into_iter()
        .map(|sql| prepared(&self.connection, sql)?.query_row([], |row| row.get(0)))
        .collect::<rusqlite::Result<Vec<Option<Timestamp>>>>()?
        .into_iter()
        .flatten()
        .min();
        Ok(())
    }

    fn reader(&self) -> Option<Reader> {
        self.readers.clone().map(Reader::new)
    }
}

impl SqliteStore {
    fn execute(&self, sql: &'static str) -> StorageResult<()> {
        prepared(&self.connection, sql)?.execute([])?;
        Ok(())
    }

    fn begin(&mut self, access: Access) -> StorageResult<()> {
        match (self.batch.open, access) {
            (Open::Write, _) | (Open::Read, Access::Read) => return Ok(()),
            (Open::Read, Access::Write) => {
                self.batch.open = Open::Nothing;
                self.execute("COMMIT")?;
            }
            (Open::Nothing, _) => {}
        }
        match access {
            Access::Read => self.execute("BEGIN")?,
            Access::Write => self.execute("BEGIN IMMEDIATE")?,
        }
        self.batch.open = if access == Access::Read {
            Open::Read
        } else {
            Open::Write
        };
        self.load_if_changed()
    }

    /// Loads what is kept in memory if somebody else wrote to the file.
    fn load_if_changed(&mut self) -> StorageResult<()> {
        let version = self.data_version()?;
        if self.batch.stale || version != self.batch.data_version {
            self.load()?;
        }
        Ok(())
    }

    fn data_version(&self) -> rusqlite::Result<i64> {
        prepared(&self.connection, "PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    /// Loads what is kept in memory beside the file.
    pub(super) fn load(&mut self) -> StorageResult<()> {
        self.load_work_specs()?;
        let next_id = |sql: &'static str| {
            let largest: Option<i64> = prepared(&self.connection, sql)?
                .query_row([], |row| row.get(0))
                .optional()?
                .flatten();
            Ok::<i64, rusqlite::Error>(largest.unwrap_or(0) + 1)
        };
        let (unit, attempt) = (
            next_id(super::units::LARGEST_ID)?,
            next_id(super::attempts::LARGEST_ID)?,
        );
        self.next_unit_id = self.next_unit_id.max(unit);
        self.next_attempt_id = self.next_attempt_id.max(attempt);
        self.refresh_due()?;
        self.batch.data_version = self.data_version()?;
        self.batch.stale = false;
        Ok(())
    }

    fn undo_operation(&mut self, error: &Error) {
        let whole_batch = match error {
            Error::Storage(error @ (StorageError::Full(_) | StorageError::Unknown(_))) => {
                Some(error.clone())
            }
            _ if self.connection.is_autocommit() => Some(StorageError::Other(format!(
                "the batch was undone: {error}"
            ))),
            _ => self
                .execute("ROLLBACK TO operation")
                .and_then(|()| self.execute("RELEASE operation"))
                .err(),
        };
        self.undo_in_memory();
        if whole_batch.is_some() {
            self.batch.broken = whole_batch;
        }
    }
}
