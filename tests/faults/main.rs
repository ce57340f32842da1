//! Tries to break three promises: an I/O error or a full disk loses nothing, a power cut loses nothing,
//! and what was not committed is answered with an error that says so.
//!
//! The store runs on a disk that fails at will (`disk.rs`, under SQLite's file system layer, `vfs.rs`); the
//! daemon under a C library whose writes and syncs fail at will (`daemon.rs`), and whose clock can be set (`clock.rs`).

mod checkpoints;
mod clock;
mod daemon;
mod disk;
mod io_errors;
mod locked;
mod power_cuts;
mod script;
mod steps;
mod vfs;
mod waiting;
