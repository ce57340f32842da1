//! The client: every function against the real daemon, and its ways against servers that fail.

#[path = "../support/mod.rs"]
mod support;

mod broken;
mod functions;
mod reconnecting;
