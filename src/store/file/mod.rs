//! Database files as files: finding, owning, copying, checking and querying them. The engine builds on this room; nothing
//! here knows the engine.

mod backup;
mod cbor_fault;
pub mod check;
mod compact;
mod database_file;
mod error;
mod existing;
mod invariants;
mod new_file;
mod owner_lock;
mod presence;
mod queries;
mod rescue;
mod scheduled_backup;
mod schema;

pub(super) use database_file::DatabaseFile;
pub(super) use existing::BUSY_TIMEOUT;
pub(super) use owner_lock::OwnerLock;
pub(super) use presence::{Presence, gone};
pub(super) use rescue::rescue;
pub(super) use schema::{check_is_ours, known_schema_version, mark_as_ours, migrate};

pub use backup::{backup, restore};
pub use compact::Compaction;
pub use error::{FileError, OpenError};
pub use invariants::all_invariants;
pub use new_file::{Stage, Watch};
pub use queries::{LIST_TABLES, Queries, QueryError, Rows, is_whole_statement};
pub use scheduled_backup::{BackupSchedule, BackupStatus, ScheduledBackups};
