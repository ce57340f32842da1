//! Operations on a store in this process, with a clock that is set by hand.

mod attempts;
mod cancelling;
mod deletion;
mod groups;
mod history;
mod namespaces;
mod order;
mod other_programs;
mod passing_time;
mod queue;
mod rates;
mod retention;
mod schedules;
mod sqlite;
mod unit_lists;
mod upgrades;
mod uploads;
