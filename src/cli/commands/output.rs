//! What commands print: tables for people, JSON and YAML for programs.

use crate::cli::table::{GAP, Screen, print};
use crate::cli::values::{printable, printable_json};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ColumnConstraint};
use coordinated_client::cbor::escape::is_deceptive;
use coordinated_client::cbor::{Value, json};
use serde_json::Value as Json;
use std::error::Error;
use std::io::{self, BufWriter, Write};

/// In which form to print.
#[derive(clap::Args)]
pub(super) struct Format {
    /// Print JSON, in the shape that --help has
    #[arg(long, conflicts_with = "yaml")]
    json: bool,

    /// Print the same as YAML
    #[arg(long)]
    yaml: bool,
}

/// A form for programs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ForPrograms {
    Json,
    Yaml,
}

impl Format {
    /// The form for programs that is asked for; `None` if the output is for people.
    pub(super) fn for_programs(&self) -> Option<ForPrograms> {
        match (self.json, self.yaml) {
            (true, _) => Some(ForPrograms::Json),
            (_, true) => Some(ForPrograms::Yaml),
            _ => None,
        }
    }
}

/// Standard output. Widths and colours are for a terminal only.
pub(super) struct Output {
    out: Box<dyn Write>,
    screen: Screen,
}

/// What a text is about, which a colour shows on a terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    Busy,
    Faint,
}

/// A column of a table: its title, and on which side its cells stand.
#[derive(Clone, Copy)]
pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
    /// A number that is left out where there is no room for all, from the left on.
    Extra(&'static str),
}

/// A cell of a table.
pub(super) type Shown = (String, Tone);

impl Output {
    pub(super) fn new() -> Self {
        Self {
            out: Box::new(BufWriter::new(io::stdout().lock())),
            screen: Screen::stdout(),
        }
    }

    /// Where nobody sees it.
    pub(super) fn nowhere() -> Self {
        Self {
            out: Box::new(io::sink()),
            screen: Screen::default(),
        }
    }

    /// Makes room for the next picture, on a terminal, by clearing the screen.
    pub(super) fn begin_picture(&mut self) -> io::Result<()> {
        if self.screen.is_terminal {
            self.out.write_all(b"\x1b[H\x1b[2J")?;
        }
        Ok(())
    }

    /// A line of text.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", printable(text.as_ref()))
    }

    /// A block of text, each line indented.
    pub(super) fn indented(&mut self, text: &str) -> io::Result<()> {
        text.lines()
            .try_for_each(|line| self.line(format!("    {line}")))
    }

    /// A table. On a terminal it is no wider than that: long texts go over several lines, what is extra is left
    /// out and, where there is no room even so, each row becomes a small table of its own.
    pub(super) fn table(&mut self, columns: &[Column], rows: Vec<Vec<Shown>>) -> io::Result<()> {
        let mut table = self.screen.table();
        table.set_header(columns.iter().map(|column| title(*column)));
        table.add_rows(rows.iter().map(|row| row.iter().map(cell)));
        let widths = table.column_max_content_widths();
        let Some(left_out) = self.left_out(columns, &widths) else {
            return self.records(columns, &rows);
        };
        for ((index, column), width) in columns.iter().enumerate().zip(&widths) {
            let Some(shown) = table.column_mut(index) else {
                continue;
            };
            let is_text = matches!(column, Column::Text(_));
            if !is_text {
                shown.set_cell_alignment(CellAlignment::Right);
            }
            if left_out.contains(&index) {
                shown.set_constraint(ColumnConstraint::Hidden);
            } else if !is_text || *width <= TEXT_WIDTH_MIN {
                shown.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        print(table, &mut self.out)
    }

    /// Which columns have to be left out, so that the others find room; `None` if that does not help.
    fn left_out(&self, columns: &[Column], widths: &[u16]) -> Option<Vec<usize>> {
        let needed = |(column, width): (&Column, &u16)| match column {
            Column::Text(_) => TEXT_WIDTH_MIN.min(*width) + GAP,
            Column::Number(_) | Column::Extra(_) => *width + GAP,
        };
        let needed: Vec<u16> = columns.iter().zip(widths).map(needed).collect();
        let mut left: u16 = needed.iter().sum();
        let is_extra = |index: &usize| matches!(columns[*index], Column::Extra(_));
        let mut extra = (0..columns.len()).filter(is_extra);
        let mut left_out = Vec::new();
        while self.screen.width.is_some_and(|width| width < left) {
            let index = extra.next()?;
            left -= needed[index];
            left_out.push(index);
        }
        Some(left_out)
    }

    /// Each row as a small table, a line for each column.
    fn records(&mut self, columns: &[Column], rows: &[Vec<Shown>]) -> io::Result<()> {
        for row in rows {
            let mut record = self.screen.table();
            let cells = columns.iter().zip(row);
            record.add_rows(cells.map(|(column, shown)| [title(*column), cell(shown)]));
            print(record, &mut self.out)?;
            writeln!(self.out)?;
        }
        Ok(())
    }

    /// One document for programs.
    pub(super) fn document(
        &mut self,
        form: ForPrograms,
        value: &Json,
    ) -> Result<(), Box<dyn Error>> {
        let text = match form {
            ForPrograms::Json => self.json(format!("{value:#}\n")),
            ForPrograms::Yaml => self.yaml(yaml(value)?, "", value),
        };
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// One of many documents: a line of JSON, or an item of a YAML list.
    pub(super) fn item(&mut self, form: ForPrograms, value: &Json) -> Result<(), Box<dyn Error>> {
        let text = match form {
            ForPrograms::Json => self.json(format!("{value}\n")),
            ForPrograms::Yaml => {
                let list = Json::Array(vec![value.clone()]);
                self.yaml(yaml(&list)?, "- ", value)
            }
        };
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// JSON as it is, but that nothing in it acts on a terminal.
    fn json(&self, text: String) -> String {
        match self.screen.is_terminal {
            true => printable_json(&text),
            false => text,
        }
    }

    /// YAML as it is. Where it would act on a terminal it is the same value as JSON, which is YAML too and, unlike
    /// other text in it, has escapes.
    fn yaml(&self, text: String, before: &str, value: &Json) -> String {
        let acts = |c: char| is_deceptive(c) && c != '\n';
        match self.screen.is_terminal && text.contains(acts) {
            true => self.json(format!("{before}{value}\n")),
            false => text,
        }
    }

    /// Gets it out, as at the end of a command.
    ///
    /// # Errors
    /// If nobody takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The text as YAML, with an end of line.
pub(super) fn yaml(value: &Json) -> Result<String, Box<dyn Error>> {
    let mut text = serde_saphyr::to_string(value)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// A column of text that is no wider is not broken.
const TEXT_WIDTH_MIN: u16 = 12;

fn title(column: Column) -> Cell {
    let (Column::Text(title) | Column::Number(title) | Column::Extra(title)) = column;
    Cell::new(title).add_attribute(Attribute::Bold)
}

fn cell((text, tone): &Shown) -> Cell {
    let cell = Cell::new(printable(text));
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::DarkGreen),
        Tone::Bad => cell.fg(Color::DarkRed),
        Tone::Busy => cell.fg(Color::DarkYellow),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
    }
}

/// A cell without a colour.
pub(super) fn plain(text: impl Into<String>) -> Shown {
    (text.into(), Tone::Plain)
}

/// A count: one of a tone, or a faint nought.
pub(super) fn count(number: u64, tone: Tone) -> Shown {
    (
        number.to_string(),
        if number == 0 { Tone::Faint } else { tone },
    )
}

/// Tells people something beside the output.
pub(super) fn note(text: impl AsRef<str>) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "coordinated: {}", printable(text.as_ref()));
}

/// A value in one line, for people.
pub(super) fn in_line(value: &Value) -> String {
    match value {
        Value::Text(_) | Value::Bytes(_) => {
            coordinated_client::cbor::escape::escape(value.as_string_bytes().unwrap_or_default())
        }
        other => json::to_json(other).to_string(),
    }
}
