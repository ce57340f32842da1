//! What the calls do, over the wire: one behaviour a test. A file for each family of calls.

mod archive;
mod cancelling;
mod chaining;
mod continuous;
mod data;
mod extensions;
mod fencing;
mod get_work;
mod groups;
mod insight;
mod locks;
mod long_answers;
mod numbers;
mod rates;
mod retries;
mod schedules;
mod specs;
mod steps;
mod units;
mod updates;
mod waiting;
mod workers;
