//! The command line: one file a subcommand.

mod serve;
mod values;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A job-queue daemon for Coordinate clients: one binary, one SQLite file.
///
/// Without a command it serves: it makes coordinate.db in the current folder and listens on
/// 127.0.0.1:5932.
#[derive(Parser)]
#[command(name = "coordinated", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Subcommand)]
enum Command {
    /// Serve clients until SIGTERM or SIGINT (also what happens without a command)
    Serve(serve::Args),
}

/// Runs the command that the command line names. A failure is told in one line on standard error;
/// the exit code is 1 then, and 2 for wrong usage.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Serve(args)) => serve::run(&args),
        None => serve::run(&cli.serve),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("coordinated: {error}");
            ExitCode::FAILURE
        }
    }
}
