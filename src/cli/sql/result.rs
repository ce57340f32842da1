//! Results, in the form that is asked for, a row as soon as it comes.

use super::table::{Cell, Table};
use crate::cli::table::Screen;
use crate::cli::values::{printable, printable_json};
use crate::store::{Rows, ValueRef};
use coordinated_client::cbor::escape::escape;
use coordinated_client::cbor::{Value, json};
use serde_json::{Map, Value as Json};
use std::io::{self, BufWriter, Write};

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Table,
    /// A line of JSON for each row.
    Json,
    /// Comma-separated values.
    Csv,
}

/// Prints results to standard output.
pub(super) struct Printer {
    out: BufWriter<io::Stdout>,
    form: Form,
    is_terminal: bool,
    /// The names of the columns, each only once.
    columns: Vec<String>,
    table: Table,
    is_first: bool,
}

impl Printer {
    pub(super) fn new(form: Form) -> Self {
        let screen = Screen::stdout();
        Self {
            out: BufWriter::new(io::stdout()),
            form,
            is_terminal: screen.is_terminal,
            columns: Vec::new(),
            table: Table::new(screen),
            is_first: true,
        }
    }

    /// A line of text, which may have several lines itself.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            writeln!(self.out, "{}", printable(line))?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn csv_record(&mut self, fields: &[Vec<u8>]) -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(&mut self.out);
        writer.write_record(fields)?;
        writer.flush()
    }

    /// A field as it is, unless it could act on a terminal.
    fn csv_field(&self, value: ValueRef<'_>) -> Vec<u8> {
        match value {
            ValueRef::Null => Vec::new(),
            ValueRef::Integer(number) => number.to_string().into_bytes(),
            ValueRef::Real(number) => real(number).into_bytes(),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) if self.is_terminal => printable(text).into_bytes(),
                Ok(_) => bytes.to_vec(),
                Err(_) => escape(bytes).into_bytes(),
            },
        }
    }
}

impl Rows for Printer {
    fn begin(&mut self, columns: &[String]) -> io::Result<()> {
        self.columns = distinct(columns);
        if !self.is_first && self.form != Form::Json {
            writeln!(self.out)?;
        }
        self.is_first = false;
        match self.form {
            Form::Table => {
                let titles = self.columns.iter();
                self.table
                    .begin(titles.map(|title| escape(title.as_bytes())).collect());
                Ok(())
            }
            Form::Csv => {
                let names = self.columns.iter();
                let names = names.map(|name| self.csv_field(ValueRef::Text(name.as_bytes())));
                self.csv_record(&names.collect::<Vec<_>>())
            }
            Form::Json => Ok(()),
        }
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> io::Result<()> {
        match self.form {
            Form::Table => {
                let cells = values.iter().copied().map(cell).collect();
                self.table.row(cells, &mut self.out)
            }
            Form::Csv => {
                let fields: Vec<Vec<u8>> =
                    values.iter().map(|value| self.csv_field(*value)).collect();
                self.csv_record(&fields)
            }
            Form::Json => {
                let names = self.columns.iter().cloned();
                let object: Map<String, Json> =
                    names.zip(values.iter().copied().map(as_json)).collect();
                let line = Json::Object(object).to_string();
                match self.is_terminal {
                    true => writeln!(self.out, "{}", printable_json(&line)),
                    false => writeln!(self.out, "{line}"),
                }
            }
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.form == Form::Table {
            self.table.end(&mut self.out)?;
        }
        self.flush()
    }
}

/// The names with a number behind those that were there before, as in `SELECT a.name, b.name`.
fn distinct(columns: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let mut name = column.clone();
        let mut number = 0;
        while names.contains(&name) {
            number += 1;
            name = format!("{column}:{number}");
        }
        names.push(name);
    }
    names
}

/// A value in one line, for people.
fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::null(),
        ValueRef::Integer(number) => Cell::number(number.to_string()),
        ValueRef::Real(number) => Cell::number(real(number)),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            // Texts have backslashes, JSON above all, and names hardly ever.
            Ok(text) => Cell::text(escape(text.as_bytes()).replace("\\\\", "\\")),
            Err(_) => Cell::text(escape(bytes)),
        },
        ValueRef::Blob(bytes) => Cell::text(escape(bytes)),
    }
}

/// With a point, so that nobody takes it for an integer.
fn real(number: f64) -> String {
    format!("{number:?}")
}

/// By the rules of [`json`], so that what has no text in JSON has the same form everywhere.
fn as_json(value: ValueRef<'_>) -> Json {
    json::to_json(&match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::from(number),
        ValueRef::Real(number) => Value::Float(number),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_the_same_name_are_told_apart() {
        let columns = ["a", "a", "b", "a"].map(str::to_owned);
        assert_eq!(distinct(&columns), ["a", "a:1", "b", "a:2"]);
    }
}
