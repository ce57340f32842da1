//! The command line: one file a subcommand.

mod bench;
mod serve;
mod values;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// A job-queue daemon for Coordinate clients: one binary, one SQLite file.
///
/// Without a command it serves: it makes coordinate.db in the current folder and listens on
/// 127.0.0.1:5932. `coordinated serve --help` tells its flags, which need no `serve` before them.
#[derive(Parser)]
#[command(name = "coordinated", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients until SIGTERM or SIGINT
    Serve(Box<serve::Args>),
    /// Load a server and measure it: this one, or any other that speaks CBOR-RPC
    Bench(bench::Args),
}

/// Runs the command that the command line names. A failure is told in one line on standard error;
/// the exit code is 1 then, and 2 for wrong usage.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse_from(with_default_command(std::env::args_os().collect()));
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not with eprintln!, which panics where there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "coordinated: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Puts `serve` in where no command is named: before flags, but for those that are not about serving.
fn with_default_command(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_about_serving = match words.get(1).and_then(|word| word.to_str()) {
        None => true,
        Some("-h" | "--help" | "-V" | "--version") => false,
        Some(word) => word.starts_with('-'),
    };
    if is_about_serving {
        words.insert(words.len().min(1), "serve".into());
    }
    words
}
