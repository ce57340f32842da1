//! `coordinated sql`: a shell on a database file, which only reads.

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

/// Bytes of queries that are read from standard input: far more than anybody writes.
const INPUT_BYTES_MAX: u64 = 16 << 20;

/// What `sql` can be told.
#[derive(clap::Args)]
#[command(after_long_help = "\
Runs SQL on the database file, of a running daemon or of none: the query of the command line, or those of \
standard input, or on a terminal those that are typed, with line editing and a history until the end. \
docs/sql.md has examples.

Nothing is ever changed: neither the database, nor is a file made or left beside it. SELECT, WITH, VALUES, \
EXPLAIN and PRAGMAs that only tell something are allowed. The function cbor_json(BLOB) shows a column of CBOR, \
as the data of work units are, as JSON; SQLite's json functions take what it returns, as in \
`json_extract(cbor_json(data), '$.n')`.

While a query runs, a daemon works on, but its write-ahead log (the file that ends in -wal) can't be reset and grows \
by what is written, up to --max-wal: so look at large tables in a backup. Between two queries nothing is held. \
Ctrl-C interrupts a query.

Tables show byte strings as names are shown: UTF-8 as text, the rest with \\xNN, and a backslash as \\\\. In \
texts control characters are written so. A row that is wider than the terminal comes as a list of its columns. \
--json prints a line of JSON for each row, an object with its columns, in which a byte string that is not UTF-8 \
is {\"$bytes\": \"...\"}; --csv prints the columns' names and then the rows, with nothing for NULL.

In the place of a query, on a line of its own, may stand

  .tables         the tables and views
  .schema [NAME]  how all, or one of them, are defined
  .help           this list
  .quit           ends")]
pub(super) struct Args {
    /// The query; several with semicolons between them
    #[arg(value_name = "QUERY")]
    query: Option<String>,

    #[command(flatten)]
    database: Database,

    /// Print a line of JSON for each row
    #[arg(long, conflicts_with = "csv")]
    json: bool,

    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

/// Runs queries.
///
/// # Errors
/// The first one that fails, but for those that are typed: there the next one can be right.
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

/// Runs what it is told, and prints the results.
struct Shell {
    queries: Queries,
    printer: Printer,
    is_interrupted: Arc<AtomicBool>,
}

/// Whether more is to be run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Quit,
}

/// What the commands with a dot do.
const HELP: &[(&str, &str)] = &[
    (".tables", "the tables and views"),
    (".schema [NAME]", "how all, or one of them, are defined"),
    (".help", "this list"),
    (".quit", "ends; so does Ctrl-D"),
];

impl Shell {
    /// Runs commands with a dot, each a line, and the queries between them.
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
        // What came before a failure is shown before it is told.
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
                    return Err(format!("there is no {name}; .tables lists what there is").into());
                }
                for definition in definitions {
                    self.printer.line(&format!("{definition};"))?;
                }
            }
            _ => return Err(format!("'{line}' is no command; .help lists them").into()),
        }
        self.printer.flush()?;
        Ok(Next::GoOn)
    }
}

/// True for a line that is no SQL.
fn is_command(line: &str) -> bool {
    line.trim_start().starts_with('.')
}
