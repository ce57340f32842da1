//! The operations, a file for each kind: what each does, and the rules that it follows.

mod add_units;
mod archive;
mod attempt_units;
mod chain;
mod define_specs;
mod delete_units;
mod expire;
mod explain;
mod get_work;
mod lock;
mod look_up_units;
mod manage_tokens;
mod prioritize_units;
mod register_workers;
mod report;

pub use archive::ArchivePass;
pub use delete_units::{Deletion, DeletionInStatus};
