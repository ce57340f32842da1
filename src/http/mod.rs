//! HTTP: the methods of [`crate::jobserver`] for everything that speaks HTTP and JSON.
//!
//! It runs on a thread of its own, with a runtime of its own, and knows no rules and no SQL. Each request becomes a message
//! that is submitted to the event loop ([`crate::jobserver::Submitter`]), and is answered after the commit of its batch.
//! Long reads run on threads that may block. `rest` has the documents and URLs of another protocol for the same operations,
//! and `ui` the pages for people.

mod authenticate;
mod body;
mod call;
mod forwarded;
mod guard;
mod health;
mod limits;
mod metrics;
mod name_in_url;
mod openapi;
mod problem;
mod rest;
mod routes;
mod rpc;
mod serve;
mod ui;
mod unread;
mod upload;

pub use guard::{Host, Origin, ParseHostError, ParseOriginError};
pub use limits::Limits;
pub use metrics::Sources;
pub use routes::paths;
pub use serve::{Http, Settings};
