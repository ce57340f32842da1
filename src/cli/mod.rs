//! The command line: one file a subcommand.

mod advice;
mod backup;
mod check;
mod commands;
mod compact;
mod config;
mod pid_file;
mod progress;
mod restore;
mod retention;
mod serve;
mod sql;
mod table;
mod values;

use clap::{Parser, Subcommand};
use std::error::Error;
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
    /// Copy the database to one file, also while a daemon runs on it
    Backup(backup::Args),
    /// Put a backup in the database's place
    Restore(restore::Args),
    /// Check that a database is in order, and mend kept counts
    Check(check::Args),
    /// Make the database's file smaller after much was deleted
    Compact(compact::Args),
    /// Ask a database with SQL, which changes nothing
    Sql(sql::Args),
    /// Load a server and measure it: this one, or any other that speaks CBOR-RPC
    Bench(coordinated_bench::Args),
    #[command(flatten)]
    Client(commands::Command),
}

/// Runs the command that the command line names. A failure is told in one line on standard error;
/// the exit code is 1 then, and 2 for wrong usage. (`check` has codes of its own.)
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse_from(with_default_command(std::env::args_os().collect()));
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Backup(args) => backup::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Check(args) => match check::run(&args) {
            Ok(code) => return code,
            Err(error) => return fail(&error, ExitCode::from(2)),
        },
        Command::Compact(args) => compact::run(&args),
        Command::Sql(args) => sql::run(&args),
        Command::Bench(args) => coordinated_bench::run(&args, progress::bar_of),
        Command::Client(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // As with `| head`: somebody has read enough.
        Err(error) if is_closed_output(&*error) => ExitCode::SUCCESS,
        Err(error) if error.is::<commands::AlreadyTold>() => ExitCode::FAILURE,
        Err(error) if error.is::<commands::WrongUsage>() => fail(&*error, ExitCode::from(2)),
        Err(error) => fail(&*error, ExitCode::FAILURE),
    }
}

fn is_closed_output(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn fail(error: &(dyn Error + 'static), code: ExitCode) -> ExitCode {
    let message = error.to_string();
    // The Python server sends a traceback with each error, behind what it is.
    let first_line = message.lines().next().unwrap_or_default();
    // Not with eprintln!, which panics where there is nobody to tell.
    let _ = writeln!(
        std::io::stderr(),
        "coordinated: {}{}",
        values::printable(first_line),
        advice::advice(error)
    );
    code
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
