//! Operations on a store in this process, with a clock that is set by hand.

mod deletion;
mod other_programs;
mod passing_time;
mod queue;
mod rates;
mod retention;
mod sqlite;
mod upgrades;
