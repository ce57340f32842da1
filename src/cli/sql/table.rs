//! Printing any number of rows in aligned columns: the first rows decide the widths.

use std::io::{self, Write};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Rows to collect before the first one is printed.
const HELD_ROWS_MAX: usize = 500;

/// Bytes of rows to collect, in case rows are long.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Spaces between two columns.
const GAP: usize = 2;

/// A value as one line.
pub(super) struct Cell {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Null,
}

impl Cell {
    pub(super) fn text(text: String) -> Self {
        Self {
            text,
            kind: Kind::Text,
        }
    }

    pub(super) fn number(text: String) -> Self {
        Self {
            text,
            kind: Kind::Number,
        }
    }

    pub(super) fn null() -> Self {
        Self {
            text: "NULL".to_owned(),
            kind: Kind::Null,
        }
    }
}

/// A table that is being printed.
pub(super) struct Table {
    /// Width of the terminal; without one lines can have any length.
    width: Option<usize>,
    is_coloured: bool,
    titles: Vec<String>,
    held: Vec<Vec<Cell>>,
    held_bytes: usize,
    /// `None` until enough rows are collected to decide.
    layout: Option<Layout>,
}

#[derive(Clone)]
enum Layout {
    /// Rows are lines.
    Lines(Vec<Column>),
    /// Rows are lists, with one or more lines for each column, because a row does not fit the terminal.
    Lists {
        /// Of the titles.
        width: usize,
    },
}

#[derive(Clone, Copy)]
struct Column {
    width: usize,
    is_right: bool,
}

impl Table {
    pub(super) fn new(width: Option<usize>, is_coloured: bool) -> Self {
        Self {
            width,
            is_coloured,
            titles: Vec::new(),
            held: Vec::new(),
            held_bytes: 0,
            layout: None,
        }
    }

    /// Begins a table with these columns, and drops the rows of an unfinished one.
    pub(super) fn begin(&mut self, titles: Vec<String>) {
        self.titles = titles;
        self.held.clear();
        self.held_bytes = 0;
        self.layout = None;
    }

    /// Adds a row, which is printed now or later.
    pub(super) fn row(&mut self, cells: Vec<Cell>, out: &mut dyn Write) -> io::Result<()> {
        if let Some(layout) = &self.layout {
            return self.print(layout, &cells, out);
        }
        self.held_bytes += cells.iter().map(|cell| cell.text.len()).sum::<usize>();
        self.held.push(cells);
        if self.held.len() >= HELD_ROWS_MAX || self.held_bytes >= HELD_BYTES_MAX {
            self.print_held(out)?;
        }
        Ok(())
    }

    /// Prints the collected rows.
    pub(super) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.layout {
            None => self.print_held(out),
            Some(_) => Ok(()),
        }
    }

    fn print_held(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let layout = self.decide();
        if let Layout::Lines(columns) = &layout {
            let titles = self.titles.iter().zip(columns);
            let line = titles.map(|(title, column)| padded(title, *column));
            let line = line.collect::<Vec<_>>().join(&" ".repeat(GAP));
            self.styled(line.trim_end(), BOLD, out)?;
            writeln!(out)?;
        }
        for cells in std::mem::take(&mut self.held) {
            self.print(&layout, &cells, out)?;
        }
        self.layout = Some(layout);
        Ok(())
    }

    /// Chooses the layout from the collected rows. A later, wider row gets a longer line.
    fn decide(&self) -> Layout {
        let column = |(index, title): (usize, &String)| {
            let cells = || self.held.iter().filter_map(|row| row.get(index));
            let widths = cells().map(|cell| cell.text.width());
            let mut kinds = cells()
                .map(|cell| cell.kind)
                .filter(|kind| *kind != Kind::Null);
            let first = kinds.next();
            Column {
                width: widths.max().unwrap_or(0).max(title.width()),
                is_right: first == Some(Kind::Number) && kinds.all(|kind| kind == Kind::Number),
            }
        };
        let columns: Vec<Column> = self.titles.iter().enumerate().map(column).collect();
        let needed: usize = columns.iter().map(|column| column.width + GAP).sum();
        match self.width {
            Some(width) if needed > width + GAP && !self.held.is_empty() => Layout::Lists {
                width: self
                    .titles
                    .iter()
                    .map(|title| title.width())
                    .max()
                    .unwrap_or(0),
            },
            _ => Layout::Lines(columns),
        }
    }

    fn print(&self, layout: &Layout, cells: &[Cell], out: &mut dyn Write) -> io::Result<()> {
        match layout {
            Layout::Lines(columns) => {
                let last = cells.len().saturating_sub(1);
                for (index, (cell, column)) in cells.iter().zip(columns).enumerate() {
                    let mut text = padded(&cell.text, *column);
                    if index == last {
                        text.truncate(text.trim_end_matches(' ').len());
                    }
                    self.styled(&text, style(cell), out)?;
                    if index != last {
                        write!(out, "{:GAP$}", "")?;
                    }
                }
                writeln!(out)
            }
            Layout::Lists { width } => {
                let room = self.width.unwrap_or(usize::MAX).saturating_sub(width + GAP);
                for (title, cell) in self.titles.iter().zip(cells) {
                    let column = Column {
                        width: *width,
                        is_right: false,
                    };
                    self.styled(&padded(title, column), BOLD, out)?;
                    // If the titles fill the terminal, it wraps the lines.
                    for (number, piece) in pieces(&cell.text, room.max(1)).into_iter().enumerate() {
                        let indent = if number == 0 { GAP } else { width + GAP };
                        write!(out, "{:indent$}", "")?;
                        self.styled(piece, style(cell), out)?;
                        writeln!(out)?;
                    }
                }
                writeln!(out)
            }
        }
    }

    fn styled(&self, text: &str, style: Option<&str>, out: &mut dyn Write) -> io::Result<()> {
        match style {
            Some(style) if self.is_coloured => write!(out, "\x1b[{style}m{text}\x1b[0m"),
            _ => write!(out, "{text}"),
        }
    }
}

const BOLD: Option<&str> = Some("1");
const DIM: Option<&str> = Some("2");

fn style(cell: &Cell) -> Option<&'static str> {
    match cell.kind {
        Kind::Null => DIM,
        Kind::Text | Kind::Number => None,
    }
}

fn padded(text: &str, column: Column) -> String {
    let padding = " ".repeat(column.width.saturating_sub(text.width()));
    if column.is_right {
        padding + text
    } else {
        text.to_owned() + &padding
    }
}

/// Cuts the text into pieces of at most this width; empty text is one empty piece.
fn pieces(text: &str, width: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut begin, mut used) = (0, 0);
    for (at, character) in text.char_indices() {
        let needed = character.width().unwrap_or(0);
        if used + needed > width && at > begin {
            pieces.push(&text[begin..at]);
            (begin, used) = (at, 0);
        }
        used += needed;
    }
    pieces.push(&text[begin..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(width: Option<usize>, titles: &[&str], rows: &[&[&str]]) -> String {
        let mut table = Table::new(width, false);
        let mut out = Vec::new();
        table.begin(titles.iter().map(|title| (*title).to_owned()).collect());
        for row in rows {
            let cell = |text: &&str| match text.parse::<i64>() {
                Ok(_) => Cell::number((*text).to_owned()),
                Err(_) => Cell::text((*text).to_owned()),
            };
            table
                .row(row.iter().map(cell).collect(), &mut out)
                .expect("a Vec takes all");
        }
        table.end(&mut out).expect("a Vec takes all");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn numbers_stand_on_the_right_and_texts_on_the_left_also_wide_ones() {
        let rows: &[&[&str]] = &[&["猫", "5"], &["a-cat", "500"]];
        assert_eq!(
            printed(Some(40), &["name", "n"], rows),
            "name     n\n猫       5\na-cat  500\n"
        );
    }

    #[test]
    fn what_is_wider_than_the_terminal_becomes_a_list_and_loses_nothing() {
        let printed = printed(Some(12), &["n", "text"], &[&["1", "a text of some length"]]);
        assert_eq!(
            printed,
            "n     1\ntext  a text\n       of so\n      me len\n      gth\n\n"
        );
        assert!(printed.lines().all(|line| line.width() <= 12));
    }

    #[test]
    fn long_tables_are_printed_as_they_come_and_a_later_wide_row_is_whole() {
        let mut table = Table::new(None, false);
        let mut out = Vec::new();
        table.begin(vec!["a".to_owned(), "b".to_owned()]);
        let row = |text: &str| vec![Cell::text(text.to_owned()), Cell::null()];
        for _ in 0..HELD_ROWS_MAX {
            table.row(row("x"), &mut out).expect("a Vec takes all");
        }
        assert!(!out.is_empty());
        out.clear();
        table.row(row("wider"), &mut out).expect("a Vec takes all");
        assert_eq!(out, b"wider  NULL\n");
    }
}
