//! The command line: one file for each command.

mod advice;
mod backup;
mod check;
mod commands;
mod compact;
mod config;
mod help;
mod http;
mod pid_file;
mod progress;
mod restore;
mod retention;
mod serve;
mod sql;
mod table;
mod tls;
mod tokens;
mod values;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// A job-queue daemon for Coordinate clients: one binary, one SQLite file.
///
/// Without a command it runs the daemon, as `coordinated serve` does: it keeps its data in coordinate.db in the
/// current folder and listens on 127.0.0.1:5932. The flags of `serve` can be given without `serve`.
#[derive(Parser)]
#[command(
    name = "coordinated",
    version,
    help_template = help::template::<Command>(),
    after_help = "`coordinated COMMAND --help` describes a command and its flags."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon until SIGTERM or SIGINT
    Serve(Box<serve::Args>),
    /// Copy the database to one file, even while the daemon runs
    Backup(backup::Args),
    /// Replace the database with a backup
    Restore(restore::Args),
    /// Check the database and repair its counters
    Check(check::Args),
    /// Shrink the database file after deletions
    Compact(compact::Args),
    /// Query the database with SQL, read-only
    Sql(sql::Args),
    /// Load and measure a server that speaks CBOR-RPC
    Bench(coordinated_bench::Args),
    #[command(flatten)]
    Client(commands::Command),
}

/// Runs the command that the command line names. An error is one line on standard error, with exit code 1, or 2
/// for wrong usage. (`check` has its own exit codes.)
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
        // As with `| head`: the reader has seen enough.
        Err(error) if is_closed_output(&*error) => ExitCode::SUCCESS,
        Err(error) if error.is::<commands::AlreadyReported>() => ExitCode::FAILURE,
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
    // The Python server appends a traceback to each error.
    let first_line = message.lines().next().unwrap_or_default();
    // eprintln! panics if standard error is closed.
    let _ = writeln!(
        std::io::stderr(),
        "coordinated: {}{}",
        values::printable(first_line),
        advice::advice(error)
    );
    code
}

/// Inserts `serve` if no command is named, except before flags of the program itself.
fn with_default_command(mut words: Vec<OsString>) -> Vec<OsString> {
    let is_for_serve = match words.get(1).and_then(|word| word.to_str()) {
        None => true,
        Some("-h" | "--help" | "-V" | "--version") => false,
        Some(word) => word.starts_with('-'),
    };
    if is_for_serve {
        words.insert(words.len().min(1), "serve".into());
    }
    words
}
