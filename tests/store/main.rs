//! Operations on a store in this process, with a clock that is set by hand.

mod attempts;
mod deletion;
mod namespaces;
mod other_programs;
mod passing_time;
mod queue;
mod retention;
mod sqlite;
mod upgrades;
