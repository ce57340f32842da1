//! Batches and operations: one SQLite transaction for many operations, and a savepoint for each that may have to be undone
//! alone.

use super::cached_specs::Undo;
use super::checkpoint::{Checkpointer, count_wal_pages};
use super::error::full_if_beyond_limit;
use super::{Reader, SqliteStore};
use crate::clock::{ClockStep, Timestamp};
use crate::coordinate::storage::{
    Access, News, Storage, StorageResult, StorageStatistics, WalPages, WorkSpecStore,
};
use crate::coordinate::{Error, NamespaceId, Result, StorageError};
use rusqlite::OptionalExtension;
use std::time::Duration;

/// The transaction that is open now.
#[derive(Default)]
pub(super) struct Batch {
    open: Open,
    /// True until the first operation that may write.
    is_untouched: bool,
    /// Why the whole batch has to be rolled back, once it has to.
    broken: Option<StorageError>,
    /// How many batches from this one on undo each failed operation alone.
    careful: u32,
    /// True if what is kept in memory has to be loaded again.
    stale: bool,
    /// `PRAGMA data_version` when it was loaded.
    data_version: i64,
    /// What was due first when it began.
    due_before: Option<Timestamp>,
    /// How to undo in memory what the present operation did.
    pub(super) undo: Vec<Undo>,
}

/// For how many batches each operation gets a savepoint, after one without it has cost others their batch: what failed
/// may be tried again at once, and fail again.
const CAREFUL_BATCHES: u32 = 1_000;

/// How an operation that fails is undone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UndoBy {
    /// It has not written.
    Nothing,
    /// By rolling back the transaction: it is the first one in it that writes.
    Transaction,
    Savepoint,
    /// By undoing the whole batch, if it has written: if SQLite has counted more changes than these.
    Batch {
        changes: u64,
    },
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
        mut run: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<T> {
        if let Some(error) = &self.batch.broken {
            return Err(error.clone().into());
        }
        self.begin(access)?;
        let undo_by = self.how_to_undo(access);
        if undo_by == UndoBy::Savepoint {
            self.execute("SAVEPOINT operation")?;
        }
        let mut result = run(self).map_err(|error| match error {
            Error::Storage(error) => self.full_if_beyond_limit(error).into(),
            error => error,
        });
        if undo_by == UndoBy::Savepoint
            && result.is_ok()
            && let Err(error) = self.execute("RELEASE operation")
        {
            result = Err(error.into());
        }
        match &result {
            Ok(_) => self.batch.undo.clear(),
            Err(error) => self.undo_operation(error, undo_by),
        }
        result
    }

    fn begin_to_write(&mut self) -> StorageResult<()> {
        match &self.batch.broken {
            Some(error) => Err(error.clone()),
            None => self.begin(Access::Write),
        }
    }

    fn stop_waiting(&mut self) -> StorageResult<()> {
        Ok(self.statements.connection().busy_timeout(Duration::ZERO)?)
    }

    fn batch_is_broken(&self) -> bool {
        self.batch.broken.is_some()
    }

    fn commit(&mut self) -> StorageResult<()> {
        let open = std::mem::take(&mut self.batch.open);
        self.batch.careful = self.batch.careful.saturating_sub(1);
        let checkpoint_failure = self.checkpointer.as_ref().and_then(Checkpointer::failure);
        let broken = checkpoint_failure.cloned().or(self.batch.broken.take());
        let broken = match (open, broken) {
            (_, Some(error)) => error,
            (Open::Nothing, None) => return self.check_files(),
            (Open::Read, None) => match self.execute("COMMIT") {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            (Open::Write, None) => {
                let committed = self
                    .write_counts()
                    .and_then(|()| self.check_files())
                    .and_then(|()| self.execute("COMMIT"));
                match committed {
                    Ok(()) => {
                        if let Some(checkpointer) = &mut self.checkpointer {
                            checkpointer.tend_wal(&mut self.statements);
                        }
                        return Ok(());
                    }
                    Err(error) => self.full_if_beyond_limit(error),
                }
            }
        };
        self.batch.stale = true;
        // The batch may have removed what is there again now.
        self.assume_cleanup_pending();
        self.has_cancellations = true;
        // What the batch expired is due again.
        if let Some(due) = self.batch.due_before {
            self.note_due(due);
        }
        // SQLite may have rolled back by itself, and then has nothing to roll back.
        if !self.statements.connection().is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            // A connection that can't roll back is unusable: the process has to start again.
            return Err(StorageError::Unknown(format!("{broken}; then {error}")));
        }
        Err(broken)
    }

    fn watch(&mut self, is_watching: bool) {
        self.specs.watch(is_watching);
    }

    fn take_news(&mut self, namespace: NamespaceId, now: Timestamp) -> News {
        self.specs.take_news(namespace, now)
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
        .map(|sql| {
            self.statements
                .prepared(sql)?
                .query_row(&[], |row| row.get(0))
        })
        .collect::<rusqlite::Result<Vec<Option<Timestamp>>>>()?
        .into_iter()
        .chain([self.next_scheduled().map(|(time, _)| time)])
        .flatten()
        .min();
        Ok(())
    }

    fn move_times(&mut self, step: ClockStep, now: Timestamp) -> StorageResult<()> {
        self.move_all_times(step, now)
    }

    fn statistics(&mut self) -> StorageResult<StorageStatistics> {
        Ok(StorageStatistics {
            wal: self.wal_pages()?,
        })
    }

    fn reader(&self) -> Option<Reader> {
        self.readers.clone().map(Reader::new)
    }
}

impl SqliteStore {
    /// The pages of the WAL; `None` if there is none, as for a database in memory.
    ///
    /// # Errors
    /// Any [`StorageError`].
    pub fn wal_pages(&mut self) -> StorageResult<Option<WalPages>> {
        match self.checkpointer {
            Some(_) => Ok(Some(count_wal_pages(&mut self.statements)?)),
            None => Ok(None),
        }
    }

    fn execute(&mut self, sql: &'static str) -> StorageResult<()> {
        self.statements.prepared(sql)?.execute(&[])?;
        Ok(())
    }

    fn full_if_beyond_limit(&self, error: StorageError) -> StorageError {
        full_if_beyond_limit(self.statements.connection(), error)
    }

    /// Begins a transaction that allows such an access, unless one is open. If that fails, the batch is broken, unless
    /// another program is the reason.
    fn begin(&mut self, access: Access) -> StorageResult<()> {
        let begun = self.try_to_begin(access);
        if let Err(error) = &begun
            && !matches!(error, StorageError::Busy(_))
        {
            self.batch.broken = Some(error.clone());
        }
        begun
    }

    fn try_to_begin(&mut self, access: Access) -> StorageResult<()> {
        match (self.batch.open, access) {
            (Open::Write, _) | (Open::Read, Access::Read) => return Ok(()),
            (Open::Read, Access::Write | Access::WriteWithBatch) => {
                self.batch.open = Open::Nothing;
                self.execute("COMMIT")?;
            }
            (Open::Nothing, _) => {}
        }
        if access.writes()
            && let Some(checkpointer) = &mut self.checkpointer
        {
            checkpointer.check_wal_size(&mut self.statements)?;
        }
        match access {
            Access::Read => self.execute("BEGIN")?,
            Access::Write | Access::WriteWithBatch => self.execute("BEGIN IMMEDIATE")?,
        }
        self.batch.open = match access {
            Access::Read => Open::Read,
            Access::Write | Access::WriteWithBatch => Open::Write,
        };
        self.batch.is_untouched = true;
        self.batch.due_before = self.due;
        self.load_if_changed()
    }

    /// Loads what is kept in memory if another program wrote to the file.
    fn load_if_changed(&mut self) -> StorageResult<()> {
        let version = self.data_version()?;
        if self.batch.stale || version != self.batch.data_version {
            self.load()?;
        }
        Ok(())
    }

    fn data_version(&mut self) -> rusqlite::Result<i64> {
        self.statements
            .prepared("PRAGMA data_version")?
            .query_row(&[], |row| row.get(0))
    }

    /// Loads what is kept in memory beside the file.
    pub(super) fn load(&mut self) -> StorageResult<()> {
        self.load_work_specs()?;
        self.specs.note_reload();
        self.load_output_slices()?;
        self.load_cancellations()?;
        let mut next_id = |sql: &'static str| {
            let largest: Option<i64> = self
                .statements
                .prepared(sql)?
                .query_row(&[], |row| row.get(0))
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

    fn how_to_undo(&mut self, access: Access) -> UndoBy {
        if access == Access::Read {
            UndoBy::Nothing
        } else if std::mem::take(&mut self.batch.is_untouched) {
            UndoBy::Transaction
        } else if access == Access::WriteWithBatch && self.batch.careful == 0 {
            let changes = self.statements.connection().total_changes();
            UndoBy::Batch { changes }
        } else {
            UndoBy::Savepoint
        }
    }

    fn undo_operation(&mut self, error: &Error, undo_by: UndoBy) {
        let whole_batch = match error {
            Error::Storage(error @ (StorageError::Full(_) | StorageError::Unknown(_))) => {
                Some(error.clone())
            }
            _ if self.statements.connection().is_autocommit() => Some(StorageError::Other(
                format!("the batch was undone: {error}"),
            )),
            _ => match undo_by {
                UndoBy::Nothing => None,
                UndoBy::Transaction => {
                    self.batch.open = Open::Nothing;
                    self.execute("ROLLBACK").err()
                }
                UndoBy::Savepoint => self
                    .execute("ROLLBACK TO operation")
                    .and_then(|()| self.execute("RELEASE operation"))
                    .err(),
                UndoBy::Batch { changes } => {
                    let has_written = self.statements.connection().total_changes() != changes;
                    has_written.then(|| {
                        self.batch.careful = CAREFUL_BATCHES;
                        StorageError::Other(format!("the batch was undone: {error}"))
                    })
                }
            },
        };
        self.undo_in_memory();
        if whole_batch.is_some() {
            self.batch.broken = whole_batch;
        }
    }
}
