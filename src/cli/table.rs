//! Tables on standard output, laid out by comfy-table: columns with a gap between them, and no lines.

use comfy_table::{ContentArrangement, Table};
use std::io::{self, IsTerminal, Write};

/// Columns of the terminal between two of the table.
pub(super) const GAP: u16 = 2;

/// Where tables are printed. Widths and colours are for a terminal only.
#[derive(Clone, Copy, Default)]
pub(super) struct Screen {
    pub(super) is_terminal: bool,
    is_coloured: bool,
    /// Of a terminal, in characters.
    pub(super) width: Option<u16>,
}

impl Screen {
    /// Standard output.
    pub(super) fn stdout() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let size = is_terminal.then(|| crossterm::terminal::window_size().ok());
        let width = size.flatten().map(|size| size.columns);
        Self {
            is_terminal,
            is_coloured: is_terminal && !no_colour,
            // A terminal that does not know its size says 0.
            width: width.filter(|width| *width > 0),
        }
    }

    /// Standard output, but without a terminal's width and colours.
    #[cfg(test)]
    pub(super) fn plain(width: Option<u16>) -> Self {
        Self {
            width,
            ..Self::default()
        }
    }

    /// An empty table. It is no wider than the screen.
    pub(super) fn table(self) -> Table {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        // Otherwise spaces at the ends of lines have a style, and could not be left out.
        table.style_text_only();
        if self.is_coloured {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        match self.width {
            Some(width) => table
                .set_width(width)
                .set_content_arrangement(ContentArrangement::Dynamic),
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        table
    }
}

/// Prints a table, without spaces at the ends of lines.
pub(super) fn print(mut table: Table, out: &mut dyn Write) -> io::Result<()> {
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
