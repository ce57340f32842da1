//! The client: every function against the real daemon, and its ways against servers that fail.

mod broken;
mod functions;
mod reconnecting;
