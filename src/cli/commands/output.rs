//! What commands print: tables for people, JSON and YAML for programs.

use crate::cbor::{Value, json};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};
use serde_json::Value as Json;
use std::error::Error;
use std::io::{self, BufWriter, IsTerminal, Write};

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
    is_terminal: bool,
    is_coloured: bool,
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
}

/// A cell of a table.
pub(super) type Shown = (String, Tone);

impl Output {
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            out: Box::new(BufWriter::new(stdout.lock())),
            is_terminal,
            is_coloured: is_terminal && !no_colour,
        }
    }

    /// Where nobody sees it.
    pub(super) fn nowhere() -> Self {
        Self {
            out: Box::new(io::sink()),
            is_terminal: false,
            is_coloured: false,
        }
    }

    /// Makes room for the next picture, on a terminal, by clearing the screen.
    pub(super) fn begin_picture(&mut self) -> io::Result<()> {
        if self.is_terminal {
            self.out.write_all(b"\x1b[H\x1b[2J")?;
        }
        Ok(())
    }

    pub(super) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", text.as_ref())
    }

    /// A block of text, each line indented; what could act on the terminal is escaped.
    pub(super) fn indented(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            let shown: String = line
                .chars()
                .flat_map(|c| match c.is_control() && c != '\t' {
                    true => c.escape_unicode().collect::<Vec<_>>(),
                    false => vec![c],
                })
                .collect();
            writeln!(self.out, "    {shown}")?;
        }
        Ok(())
    }

    /// A table. On a terminal it is as wide as that at the most, and long cells go over several lines.
    pub(super) fn table(&mut self, columns: &[Column], rows: Vec<Vec<Shown>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if self.is_coloured {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if self.is_terminal
            && let Some((width, _)) = terminal_size::terminal_size_of(io::stdout())
        {
            table.set_width(width.0);
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        table.set_header(columns.iter().map(|column| match column {
            Column::Text(title) | Column::Number(title) => {
                Cell::new(title).add_attribute(Attribute::Bold)
            }
        }));
        table.add_rows(rows.into_iter().map(|row| row.into_iter().map(cell)));
        for (index, column) in columns.iter().enumerate() {
            if let Some(shown) = table.column_mut(index) {
                shown.set_padding((0, 2));
                if matches!(column, Column::Number(_)) {
                    shown.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// One document for programs.
    pub(super) fn document(
        &mut self,
        form: ForPrograms,
        value: &Json,
    ) -> Result<(), Box<dyn Error>> {
        match form {
            ForPrograms::Json => writeln!(self.out, "{value:#}")?,
            ForPrograms::Yaml => write!(self.out, "{}", yaml(value)?)?,
        }
        Ok(())
    }

    /// One of many documents: a line of JSON, or an item of a YAML list.
    pub(super) fn item(&mut self, form: ForPrograms, value: &Json) -> Result<(), Box<dyn Error>> {
        match form {
            ForPrograms::Json => writeln!(self.out, "{value}")?,
            ForPrograms::Yaml => write!(self.out, "{}", yaml(&Json::Array(vec![value.clone()]))?)?,
        }
        Ok(())
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

fn cell((text, tone): Shown) -> Cell {
    let cell = Cell::new(text);
    match tone {
        Tone::Plain => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Busy => cell.fg(Color::Yellow),
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
    let _ = writeln!(io::stderr(), "coordinated: {}", text.as_ref());
}

/// A value in one line, for people.
pub(super) fn in_line(value: &Value) -> String {
    match value {
        Value::Text(_) | Value::Bytes(_) => {
            crate::cbor::escape::escape(value.as_string_bytes().unwrap_or_default())
        }
        other => json::to_json(other).to_string(),
    }
}
