//! The operations, a file for each kind: what each does, and the rules that it follows.

mod add_units;
mod archive;
mod attempt_units;
mod attempts;
mod cancel_units;
mod chain;
mod define_specs;
mod delete_units;
mod expire;
mod explain;
mod get_work;
mod halt;
mod keep_change;
mod lock;
mod look_up_units;
mod manage_tokens;
mod namespaces;
mod prioritize_units;
mod register_workers;
mod report;
mod run_schedules;
mod select_units;
mod status_walk;
mod upload_units;

pub use archive::ArchivePass;
pub use cancel_units::CancellationInStatus;
pub use delete_units::{Deletion, DeletionInStatus};
pub use select_units::{AsOf, UnitAction, UnitPass};
pub use upload_units::{UploadStep, UploadedLines};
