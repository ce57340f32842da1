//! Drawing the state on a screen of any size.

use super::state::{Sort, State};
use super::watcher::Details;
use crate::cli::commands::names::{counted, shown, shown_or_dash};
use crate::cli::commands::pause::in_words;
use crate::cli::commands::schedule::next_in_words;
use crate::cli::commands::summary::SpecCounts;
use crate::cli::values::{now, printable, span};
use coordinated_client::cbor::escape::escape;
use coordinated_client::{Counts, Pause};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, TableState, Wrap};

/// Screen width from which the two tables of details stand side by side.
const WIDE: u16 = 100;

/// Screen height from which details are shown below the work specs.
const DETAILS_ROWS_MIN: u16 = 14;

/// Draws the whole screen.
pub(super) fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    let has_details = state.snapshot.details.is_some() && area.height >= DETAILS_ROWS_MIN;
    let specs_rows = u16::try_from(state.snapshot.specs.len()).unwrap_or(u16::MAX);
    // A title and the rows, but at most half of the screen.
    let specs = match has_details {
        true => Constraint::Length(specs_rows.saturating_add(1).min(area.height / 2)),
        false => Constraint::Min(1),
    };
    let details = Constraint::Min(0);
    let error_rows = state.error.as_ref().map_or(0, |_| 3);
    let [head, error, specs, details, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(error_rows),
        specs,
        if has_details {
            details
        } else {
            Constraint::Length(0)
        },
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(state, frame, head);
    draw_error(state, frame, error);
    draw_specs(state, frame, specs);
    if let (Some(seen), true) = (&state.snapshot.details, has_details) {
        let pause = state.snapshot.pause_of(&seen.work_spec);
        draw_details(seen, pause, frame, details);
    }
    draw_foot(state, frame, foot);
}

fn draw_head(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let snapshot = &state.snapshot;
    let rate: f64 = snapshot.specs.iter().filter_map(|spec| spec.rate).sum();
    let mut text = if snapshot.server.is_empty() {
        state.address.clone()
    } else {
        format!("{} at {}", snapshot.server, state.address)
    };
    if !snapshot.server.is_empty() {
        let specs = counted(snapshot.specs.len() as u64, "work spec");
        let workers = counted(snapshot.workers, "worker");
        text = format!("{rate:.1}/s  {workers}  {specs}  {text}");
    }
    let style = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Paragraph::new(printable(&text)).style(style), area);
}

fn draw_error(state: &State, frame: &mut Frame<'_>, area: Rect) {
    if let Some(error) = &state.error {
        let text = format!("{} - trying again", printable(error));
        let text = Paragraph::new(text).wrap(Wrap { trim: true });
        frame.render_widget(text.style(Style::new().fg(Color::Red)), area);
    }
}

/// A column of the table of work specs: its title, width and content.
struct Column {
    title: &'static str,
    width: u16,
    sort: Option<Sort>,
    show: fn(&SpecCounts) -> String,
    color: Option<Color>,
}

/// By importance: on a narrow screen the last ones are left out first.
const COLUMNS: &[Column] = &[
    Column {
        title: "Rate",
        width: 8,
        sort: Some(Sort::Rate),
        show: |spec| {
            spec.rate
                .map_or_else(String::new, |rate| format!("{rate:.1}/s"))
        },
        color: None,
    },
    Column {
        title: "Failed",
        width: 8,
        sort: Some(Sort::Failed),
        show: |spec| count(spec.counts.failed),
        color: Some(Color::Red),
    },
    Column {
        title: "Avail",
        width: 8,
        sort: Some(Sort::Available),
        show: |spec| count(spec.counts.available),
        color: None,
    },
    Column {
        title: "Waiting",
        width: 8,
        sort: Some(Sort::Waiting),
        show: |spec| {
            let waiting = spec.details.and_then(|details| details.waiting);
            waiting.map_or_else(String::new, span)
        },
        color: None,
    },
    Column {
        title: "Pending",
        width: 8,
        sort: Some(Sort::Pending),
        show: |spec| count(spec.counts.pending),
        color: Some(Color::Yellow),
    },
    Column {
        title: "Finished",
        width: 9,
        sort: None,
        show: |spec| count(spec.counts.finished),
        color: Some(Color::Green),
    },
    Column {
        title: "Delayed",
        width: 8,
        sort: None,
        show: |spec| {
            spec.details
                .map_or_else(String::new, |details| count(details.delayed))
        },
        color: None,
    },
    Column {
        title: "Retrying",
        width: 9,
        sort: None,
        show: |spec| {
            spec.details
                .map_or_else(String::new, |details| count(details.retrying))
        },
        color: Some(Color::Red),
    },
    Column {
        title: "Left",
        width: 9,
        sort: None,
        show: |spec| match spec.remaining_seconds() {
            Some(seconds) if seconds > 0.0 => span(seconds),
            _ => String::new(),
        },
        color: None,
    },
];

/// The least width of a name and of a bar.
const NAME_WIDTH_MIN: u16 = 10;
const BAR_WIDTH_MIN: u16 = 10;
/// The largest useful width of a bar.
const BAR_WIDTH_MAX: u16 = 40;

fn draw_specs(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let specs = &state.snapshot.specs;
    if specs.is_empty() {
        let text = match (state.is_updated, &state.error) {
            (false, _) => "waiting for data ...",
            (true, None) => "There are no work specs.",
            (true, Some(_)) => "",
        };
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let mut left = area
        .width
        .saturating_sub(NAME_WIDTH_MIN + BAR_WIDTH_MIN + 1);
    let fits = |column: &&Column| {
        let has_room = left > column.width;
        left = if has_room { left - column.width - 1 } else { 0 };
        has_room
    };
    let columns: Vec<&Column> = COLUMNS.iter().take_while(fits).collect();
    let bar_width = (BAR_WIDTH_MIN + left / 2).min(BAR_WIDTH_MAX);
    let title = |title: &str, sort| {
        let mut style = Style::new().add_modifier(Modifier::BOLD);
        if Some(state.sort) == sort {
            style = style.add_modifier(Modifier::UNDERLINED);
        }
        Cell::from(Span::styled(title.to_owned(), style))
    };
    let mut titles = vec![title("Work spec", Some(Sort::Name)), title("", None)];
    titles.extend(columns.iter().map(|column| {
        let style = Style::new().add_modifier(Modifier::BOLD);
        let style = match Some(state.sort) == column.sort {
            true => style.add_modifier(Modifier::UNDERLINED),
            false => style,
        };
        let text = Line::styled(column.title, style).alignment(Alignment::Right);
        Cell::from(text)
    }));
    let row = |spec: &SpecCounts| {
        let is_paused = state.snapshot.pause_of(&spec.name).is_some();
        // Before the name, which may be cut off.
        let name = format!("{}{}", if is_paused { "= " } else { "" }, shown(&spec.name));
        let style = match is_paused {
            true => Style::new().add_modifier(Modifier::DIM),
            false => Style::new(),
        };
        let mut cells = vec![
            Cell::from(Span::styled(name, style)),
            Cell::from(bar(&spec.counts, bar_width)),
        ];
        cells.extend(columns.iter().map(|column| {
            let style = column
                .color
                .map_or_else(Style::new, |color| Style::new().fg(color));
            Cell::from(Line::styled((column.show)(spec), style).alignment(Alignment::Right))
        }));
        Row::new(cells)
    };
    let mut widths = vec![
        Constraint::Min(NAME_WIDTH_MIN),
        Constraint::Length(bar_width),
    ];
    widths.extend(
        columns
            .iter()
            .map(|column| Constraint::Length(column.width)),
    );
    let table = Table::new(specs.iter().map(row), widths)
        .header(Row::new(titles))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut selected = TableState::new().with_selected(state.selected_index());
    frame.render_stateful_widget(table, area, &mut selected);
}

/// The units of a work spec by status: `█` finished, `▓` pending, `x` failed, `·` available.
fn bar(counts: &Counts, width: u16) -> Line<'static> {
    let total = counts.total();
    if total == 0 {
        return Line::default();
    }
    let (mut passed, mut drawn) = (0, 0);
    let parts = [
        (counts.finished, "█", Color::Green),
        (counts.pending, "▓", Color::Yellow),
        (counts.failed, "x", Color::Red),
        (counts.available + counts.other, "·", Color::Reset),
    ];
    let spans = parts.map(|(count, character, color)| {
        passed += count;
        // The end of each part is rounded, not its width, so that the parts fill the bar. A part that is not zero
        // has at least one column while there are columns left.
        let end =
            (u128::from(passed) * u128::from(width) + u128::from(total) / 2) / u128::from(total);
        let end = u16::try_from(end).unwrap_or(width).max(drawn);
        let end = if count > 0 {
            end.max(drawn + 1).min(width)
        } else {
            end
        };
        let columns = usize::from(end.saturating_sub(drawn));
        drawn = end;
        Span::styled(character.repeat(columns), Style::new().fg(color))
    });
    Line::from_iter(spans)
}

/// A count in at most five characters.
fn count(number: u64) -> String {
    const STEPS: [(u64, &str); 4] = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    if number < 100_000 {
        return number.to_string();
    }
    let step = STEPS.iter().find(|(size, _)| number >= *size);
    match step {
        Some((size, letter)) if number / size < 100 => {
            format!("{}.{}{letter}", number / size, number % size * 10 / size)
        }
        Some((size, letter)) => format!("{}{letter}", number / size),
        None => number.to_string(),
    }
}

fn draw_details(details: &Details, pause: Option<&Pause>, frame: &mut Frame<'_>, area: Rect) {
    let name = shown(&details.work_spec);
    let line = match (pause, &details.schedule) {
        (Some(pause), _) => Some(format!("{name} {}", in_words(pause))),
        (None, Some(schedule)) => Some(format!("{name}: {}", next_in_words(schedule))),
        (None, None) => None,
    };
    let area = match line {
        Some(text) => {
            let [line, rest] =
                Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
            frame.render_widget(Paragraph::new(text), line);
            rest
        }
        None => area,
    };
    let halves = [Constraint::Fill(1), Constraint::Fill(1)];
    let [running, failures] = if area.width >= WIDE {
        Layout::horizontal(halves).areas(area)
    } else {
        Layout::vertical(halves).areas(area)
    };
    draw_running(details, &name, frame, running);
    draw_failures(details, &name, frame, failures);
}

fn draw_running(details: &Details, name: &str, frame: &mut Frame<'_>, area: Rect) {
    let block = titled(format!("Running of {name}"));
    if details.running.is_empty() {
        frame.render_widget(Paragraph::new("none").block(block), area);
        return;
    }
    let rows = details.running.iter().map(|unit| {
        let left = unit.lease_left.map_or_else(String::new, span);
        Row::new([
            Cell::from(shown(&unit.key)),
            Cell::from(shown_or_dash(unit.worker.as_ref())),
            Cell::from(Line::from(left).alignment(Alignment::Right)),
        ])
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(9),
    ];
    let header = Row::new(["Unit", "Worker", "Lease"]);
    let header = header.style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
}

fn draw_failures(details: &Details, name: &str, frame: &mut Frame<'_>, area: Rect) {
    let block = titled(format!("Failures of {name}"));
    let groups = match &details.failures {
        Some(groups) if !groups.is_empty() => groups,
        known => {
            let text = match known {
                Some(_) => "none",
                None => "not reported by this server; `coordinated failed` lists them",
            };
            let text = Paragraph::new(text).wrap(Wrap { trim: true });
            frame.render_widget(text.block(block), area);
            return;
        }
    };
    let now = now();
    let rows = groups.iter().map(|group| {
        let ago = group
            .last_failed
            .map_or_else(String::new, |at| format!("{} ago", span(now - at)));
        let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
        Row::new([
            right(count(group.count)),
            right(ago),
            Cell::from(escape(group.message.as_bytes())),
        ])
    });
    let widths = [
        Constraint::Length(5),
        Constraint::Length(12),
        Constraint::Fill(1),
    ];
    let header = Row::new(["Units", "Last", "Message"]);
    let header = header.style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(rows, widths).header(header).block(block), area);
}

fn titled(title: String) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title)
}

fn draw_foot(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let line = match (state.question(), &state.message) {
        (Some(question), _) => Line::styled(question, bold),
        (None, Some(message)) => Line::styled(printable(message), bold),
        (None, None) => {
            let keys = ["q quit", "p pause", "r resume", "t retry", "s sort"];
            Line::from(keys.join("  "))
        }
    };
    frame.render_widget(Paragraph::new(line), area);
}
