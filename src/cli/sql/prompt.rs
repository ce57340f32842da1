//! The prompt for queries on a terminal.

use super::{Next, Shell, is_command};
use crate::cli::values::printable;
use crate::store::is_whole_statement;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use signal_hook::consts::SIGINT;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// Reads and runs queries until the end of input. A query can have several lines and ends with a semicolon.
pub(super) fn run(shell: &mut Shell, db: &Path) -> Result<(), Box<dyn Error>> {
    let mut editor = DefaultEditor::new()?;
    // Ctrl-C is a key while a line is edited, and this signal while a query runs.
    signal_hook::flag::register(SIGINT, Arc::clone(&shell.is_interrupted))?;
    shell.printer.line(&format!(
        "{}, read-only. End a query with a semicolon; .help lists the commands, .quit quits.",
        db.display()
    ))?;
    shell.printer.flush()?;
    let mut sql = String::new();
    loop {
        let prompt = if sql.is_empty() { "sql> " } else { "...> " };
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                sql.clear();
                continue;
            }
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if sql.is_empty() && line.trim().is_empty() {
            continue;
        }
        let ran = if sql.is_empty() && is_command(&line) {
            editor.add_history_entry(line.trim())?;
            shell.command(line.trim())
        } else {
            sql.push_str(&line);
            if !is_whole_statement(&sql) {
                sql.push('\n');
                continue;
            }
            editor.add_history_entry(&sql)?;
            shell.query(&std::mem::take(&mut sql)).map(|()| Next::GoOn)
        };
        match ran {
            Ok(Next::GoOn) => {}
            Ok(Next::Quit) => return Ok(()),
            Err(error) if error.is::<std::io::Error>() => return Err(error),
            Err(error) => {
                let message = printable(&error.to_string());
                shell.printer.line(&format!("error: {message}"))?;
                shell.printer.flush()?;
            }
        }
    }
}
