//! Rows in aligned columns, however many there are: the first ones decide how wide the columns are.

use crate::cli::table::{GAP, Screen, print};
use comfy_table::{Attribute, CellAlignment, ColumnConstraint, ContentArrangement, Width};
use std::io::{self, Write};

/// Rows that are held before the first is printed.
const HELD_ROWS_MAX: usize = 500;

/// Bytes of rows that are held, in case they are long.
const HELD_BYTES_MAX: usize = 1 << 20;

/// What is shown of a value: one line.
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
    screen: Screen,
    titles: Vec<String>,
    held: Vec<Vec<Cell>>,
    held_bytes: usize,
    /// None until enough rows are there to decide.
    layout: Option<Layout>,
}

enum Layout {
    /// Rows are lines.
    Lines(Vec<Column>),
    /// Rows are lists, a line or more for each column, because lines would be longer than the terminal's.
    Lists,
}

struct Column {
    width: u16,
    is_right: bool,
}

impl Table {
    pub(super) fn new(screen: Screen) -> Self {
        Self {
            screen,
            titles: Vec::new(),
            held: Vec::new(),
            held_bytes: 0,
            layout: None,
        }
    }

    /// Begins a table with these columns. What an interrupted one has held is dropped.
    pub(super) fn begin(&mut self, titles: Vec<String>) {
        self.titles = titles;
        self.held.clear();
        self.held_bytes = 0;
        self.layout = None;
    }

    /// A row. It is printed now or later.
    pub(super) fn row(&mut self, cells: Vec<Cell>, out: &mut dyn Write) -> io::Result<()> {
        match &self.layout {
            Some(Layout::Lines(columns)) => {
                return print_lines(self.lines(&[cells]), columns, out);
            }
            Some(Layout::Lists) => return self.print_list(&cells, out),
            None => {}
        }
        self.held_bytes += cells.iter().map(|cell| cell.text.len()).sum::<usize>();
        self.held.push(cells);
        if self.held.len() >= HELD_ROWS_MAX || self.held_bytes >= HELD_BYTES_MAX {
            self.print_held(out)?;
        }
        Ok(())
    }

    /// Prints what has not been printed yet.
    pub(super) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match self.layout {
            None => self.print_held(out),
            Some(_) => Ok(()),
        }
    }

    /// Prints the rows that are held, and decides by them how the table looks.
    fn print_held(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let rows = std::mem::take(&mut self.held);
        let mut table = self.lines(&rows);
        table.set_header(self.titles.iter().map(|title| drawn_title(title)));
        let widths = table.column_max_content_widths();
        let needed: usize = widths.iter().map(|width| usize::from(width + GAP)).sum();
        let has_room = |width| needed <= usize::from(width + GAP);
        if self.screen.width.is_some_and(|width| !has_room(width)) && !rows.is_empty() {
            self.layout = Some(Layout::Lists);
            return rows.iter().try_for_each(|row| self.print_list(row, out));
        }
        let columns = widths.into_iter().enumerate().map(|(index, width)| Column {
            width,
            is_right: has_numbers(&rows, index),
        });
        let columns: Vec<Column> = columns.collect();
        print_lines(table, &columns, out)?;
        self.layout = Some(Layout::Lines(columns));
        Ok(())
    }

    fn lines(&self, rows: &[Vec<Cell>]) -> comfy_table::Table {
        let mut table = self.screen.table();
        // Nothing is broken: where a later row needs more room, its line is longer than the others.
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.add_rows(rows.iter().map(|row| row.iter().map(drawn)));
        table
    }

    fn print_list(&self, row: &[Cell], out: &mut dyn Write) -> io::Result<()> {
        let mut table = self.screen.table();
        // Texts are broken anywhere: no cell has this character.
        table.set_delimiter('\0');
        let cells = self.titles.iter().zip(row);
        table.add_rows(cells.map(|(title, cell)| [drawn_title(title), drawn(cell)]));
        let titles = table.column_max_content_widths().first().copied();
        // Where the titles take all the room, the terminal breaks the lines.
        let room = self.screen.width.unwrap_or(u16::MAX);
        let room = room.saturating_sub(titles.unwrap_or(0) + GAP).max(1);
        for (index, width) in [titles.unwrap_or(0), room].into_iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_constraint(exactly(width));
            }
        }
        print(table, out)?;
        writeln!(out)
    }
}

fn print_lines(
    mut table: comfy_table::Table,
    columns: &[Column],
    out: &mut dyn Write,
) -> io::Result<()> {
    let widths = table.column_max_content_widths();
    for ((column, width), drawn) in columns.iter().zip(widths).zip(table.column_iter_mut()) {
        drawn.set_constraint(exactly(width.max(column.width)));
        if column.is_right {
            drawn.set_cell_alignment(CellAlignment::Right);
        }
    }
    print(table, out)
}

/// The width of a column with the gap behind it.
fn exactly(width: u16) -> ColumnConstraint {
    ColumnConstraint::Absolute(Width::Fixed(width.saturating_add(GAP)))
}

/// True if there is nothing but numbers in a column.
fn has_numbers(rows: &[Vec<Cell>], index: usize) -> bool {
    let cells = rows.iter().filter_map(|row| row.get(index));
    let mut kinds = cells
        .map(|cell| cell.kind)
        .filter(|kind| *kind != Kind::Null)
        .peekable();
    kinds.peek().is_some() && kinds.all(|kind| kind == Kind::Number)
}

fn drawn_title(title: &str) -> comfy_table::Cell {
    comfy_table::Cell::new(title).add_attribute(Attribute::Bold)
}

fn drawn(cell: &Cell) -> comfy_table::Cell {
    let drawn = comfy_table::Cell::new(&cell.text);
    match cell.kind {
        Kind::Null => drawn.add_attribute(Attribute::Dim),
        Kind::Text | Kind::Number => drawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(width: Option<u16>, titles: &[&str], rows: &[&[&str]]) -> String {
        let mut table = Table::new(Screen::plain(width));
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
        assert!(printed.lines().all(|line| line.len() <= 12));
    }

    #[test]
    fn long_tables_are_printed_as_they_come_and_a_later_wide_row_is_whole() {
        let mut table = Table::new(Screen::plain(None));
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
