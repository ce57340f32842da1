//! CBOR-RPC: translates requests into operations of [`crate::coordinate`], which the engine runs, and their results
//! into responses.
//!
//! Old wire words and forms are known here and nowhere else. This module knows no SQL and no sockets:
//! [`crate::server`] hands it whole messages, or another thread does ([`Submitter`]); the program that starts it hands it an
//! engine.

mod params;
mod reply;

mod call;
mod doorkeeper;
mod list;

mod audit;
mod cancel;
mod daemon;
mod insight;
mod locks;
mod retention;
mod specs;
mod tokens;
mod units;
mod work;
mod workers;

mod method;
mod requests;

mod job_server;
mod log;
mod message;
mod service;
mod sign_in_codes;
mod submission;

pub use doorkeeper::{Anonymous, Caller, Doorkeeper, Interface, Realm, TokenError};
pub use job_server::{JobServer, Settings};
pub use message::{Answer, Session};
pub use method::{MethodInfo, ResultForm};
pub use requests::{Ended, Requests};
pub use submission::{
    Actor, Answered, Failure, Scrape, Submitted, Submitter, TakeAnswer, TakeOutcome, TakeScrape,
};
