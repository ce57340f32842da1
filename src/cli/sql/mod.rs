//! `coordinated sql`: a read-only SQL shell on a database file.

mod prompt;
mod result;
mod table;

use super::values::Database;
use crate::store::{LIST_TABLES, Queries, QueryError};
use result::{Form, Printer};
use std::error::Error;
use std::io::{self, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The most bytes of queries read from standard input: far more than hand-written queries need.
const INPUT_BYTES_MAX: u64 = 16 << 20;

/// The arguments of `sql`.
#[derive(clap::Args)]
#[command(after_long_help = "\
Runs SQL on the database file, whether or not a daemon is running on it. Queries come from the command line, from \
standard input, or on a terminal from a prompt with line editing and a history. docs/sql.md has examples.

Nothing is changed: not the database, and no file is left beside it. SELECT, WITH, VALUES, EXPLAIN and PRAGMAs that \
only read are allowed. The function cbor_json(BLOB) returns a CBOR column, such as the data of a work unit, as JSON, \
which SQLite's JSON functions accept: `json_extract(cbor_json(data), '$.n')`.

While a query runs, the daemon keeps running, but its write-ahead log (the file that ends in -wal) can't be reset and \
grows up to --max-wal: query large tables in a backup instead. Between two queries nothing is held open. Ctrl-C \
interrupts a query.

Tables show byte strings in the same form as names: UTF-8 as text, other bytes as \\xNN, and a backslash as \\\\. \
Control characters in text are escaped in the same way. A row that is wider than the terminal is shown as a list of \
its columns. --json prints one JSON object per row and line; a byte string that is not UTF-8 is \
{\"$bytes\": \"...\"}. --csv prints the column names and then the rows; NULL is an empty field.

Instead of a query, a line can be one of these commands:

  .tables         list the tables and views
  .schema [NAME]  show the definition of all of them, or of one
  .help           list these commands
  .quit           quit")]
pub(super) struct Args {
    /// The query, or several separated by semicolons
    #[arg(value_name = "QUERY")]
    query: Option<String>,

    #[command(flatten)]
    database: Database,

    /// Print a JSON object per row
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

/// Runs queries.
///
/// # Errors
/// The first query that fails. At the prompt errors are printed, and the next query is read.
pub(super) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let form = match (args.json, args.csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Table,
    };
    let queries = Queries::on(&args.database.db)?;
    let mut shell = Shell {
        printer: Printer::new(form),
        is_interrupted: queries.interrupter(),
        queries,
    };
    let is_typed = io::stdin().is_terminal() && io::stdout().is_terminal();
    match &args.query {
        Some(query) => shell.run_script(query),
        None if is_typed => prompt::run(&mut shell, &args.database.db),
        None => {
            let mut script = String::new();
            let mut input = io::stdin().lock().take(INPUT_BYTES_MAX + 1);
            input
                .read_to_string(&mut script)
                .map_err(|error| format!("can't read queries from standard input: {error}"))?;
            if script.len() as u64 > INPUT_BYTES_MAX {
                return Err("more than 16 MiB of queries on standard input".into());
            }
            shell.run_script(&script)
        }
    }
}

/// Runs queries and commands, and prints the results.
struct Shell {
    queries: Queries,
    printer: Printer,
    is_interrupted: Arc<AtomicBool>,
}

/// Whether to read more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Quit,
}

/// The commands that begin with a dot.
const HELP: &[(&str, &str)] = &[
    (".tables", "list the tables and views"),
    (
        ".schema [NAME]",
        "show the definition of all of them, or of one",
    ),
    (".help", "list these commands"),
    (".quit", "quit; so does Ctrl-D"),
];

impl Shell {
    /// Runs the commands, one per line, and the queries between them.
    fn run_script(&mut self, script: &str) -> Result<(), Box<dyn Error>> {
        signal_hook::flag::register(
            signal_hook::consts::SIGINT,
            Arc::clone(&self.is_interrupted),
        )?;
        let mut sql = String::new();
        for line in script.lines() {
            if is_command(line) && sql.trim().is_empty() {
                if self.command(line)? == Next::Quit {
                    return Ok(());
                }
                continue;
            }
            sql.push_str(line);
            sql.push('\n');
            if line.trim_end().ends_with(';') && crate::store::is_whole_statement(&sql) {
                self.query(&std::mem::take(&mut sql))?;
            }
        }
        self.query(&sql)
    }

    /// Runs queries.
    fn query(&mut self, sql: &str) -> Result<(), Box<dyn Error>> {
        let ran = self.queries.run(sql, &mut self.printer);
        // Print the rows before the error.
        self.printer.flush()?;
        match ran {
            Err(QueryError::Output(error)) => Err(error.into()),
            Err(error) => Err(error.to_string().into()),
            Ok(()) => Ok(()),
        }
    }

    /// Runs a command that begins with a dot.
    fn command(&mut self, line: &str) -> Result<Next, Box<dyn Error>> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let argument = words.next();
        match (name, argument) {
            (".quit" | ".exit", None) => return Ok(Next::Quit),
            (".help", None) => {
                for (command, does) in HELP {
                    self.printer.line(&format!("{command:16}{does}"))?;
                }
            }
            (".tables", None) => self.query(LIST_TABLES)?,
            (".schema", name) => {
                let definitions = self
                    .queries
                    .definitions(name)
                    .map_err(|error| error.to_string())?;
                if let (Some(name), true) = (name, definitions.is_empty()) {
                    return Err(
                        format!("there is no table or view {name}; .tables lists them").into(),
                    );
                }
                for definition in definitions {
                    self.printer.line(&format!("{definition};"))?;
                }
            }
            _ => return Err(format!("unknown command '{line}'; .help lists the commands").into()),
        }
        self.printer.flush()?;
        Ok(Next::GoOn)
    }
}

/// True for a line with a command instead of SQL.
fn is_command(line: &str) -> bool {
    line.trim_start().starts_with('.')
}
