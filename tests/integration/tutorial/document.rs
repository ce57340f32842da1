//! A document as commands, and what they print.

use std::iter::Zip;
use std::ops::RangeFrom;
use std::str::Lines;

/// What is typed in one go, and what the document says is printed then.
#[derive(Debug)]
pub(crate) struct Command {
    /// Where it stands in the document, from 1.
    pub(crate) line: usize,
    /// One line; more if a here-document belongs to it.
    pub(crate) typed: Vec<String>,
    /// Line by line; [`ANYTHING`] stands for what varies.
    pub(crate) printed: Vec<String>,
}

/// In a line of output: any characters, or none. As a line of its own, also indented: any lines, or none.
const ANYTHING: &str = "...";

/// Lines with their numbers.
type Numbered<'a> = Zip<RangeFrom<usize>, Lines<'a>>;

impl Command {
    fn read(first: &str, line: usize, lines: &mut Numbered) -> Result<Self, String> {
        let mut typed = vec![first.to_owned()];
        if first.contains("<<'EOF'") {
            loop {
                let next = lines.next().filter(|(_, text)| !is_fence(text));
                let (_, text) = next.ok_or(format!("line {line}: the here-document has no end"))?;
                typed.push(text.to_owned());
                if text == "EOF" {
                    break;
                }
            }
        }
        Ok(Self {
            line,
            typed,
            printed: Vec::new(),
        })
    }

    /// True if the prompt comes back at once, and what is printed may come later.
    pub(crate) fn is_in_background(&self) -> bool {
        self.typed.last().is_some_and(|line| line.ends_with('&'))
    }

    /// Whether this is what the document says is printed.
    pub(crate) fn prints(&self, found: &str) -> bool {
        let found: Vec<&str> = found.trim_end().lines().map(str::trim_end).collect();
        let wanted: Vec<&str> = self.printed.iter().map(|line| line.trim_end()).collect();
        fit(&wanted, &found)
    }
}

/// The commands of a document, in order: in blocks of `console` those behind a `$`, with what they print; in
/// blocks of `sh` all lines, and they print nothing.
///
/// # Errors
/// If there is a block that nobody would run, or something in one that is no command.
pub(crate) fn commands(document: &str) -> Result<Vec<Command>, String> {
    let mut commands = Vec::new();
    let mut lines: Numbered = (1..).zip(document.lines());
    while let Some((line, text)) = lines.next() {
        match text {
            "```console" => read_console(line, &mut lines, &mut commands)?,
            "```sh" => read_script(line, &mut lines, &mut commands)?,
            _ if is_fence(text) || text.starts_with("    ") || text.starts_with('\t') => {
                return Err(format!("line {line}: a block that is not run: {text}"));
            }
            _ => {}
        }
    }
    Ok(commands)
}

fn read_console(
    begin: usize,
    lines: &mut Numbered,
    commands: &mut Vec<Command>,
) -> Result<(), String> {
    let mut of_block = Vec::new();
    while let Some((line, text)) = in_block(begin, lines)? {
        match (text.strip_prefix("$ "), of_block.last_mut()) {
            (Some(command), _) => of_block.push(Command::read(command, line, lines)?),
            (None, Some(Command { printed, .. })) => printed.push(text.to_owned()),
            (None, None) => return Err(format!("line {line}: output of no command")),
        }
    }
    commands.append(&mut of_block);
    Ok(())
}

fn read_script(
    begin: usize,
    lines: &mut Numbered,
    commands: &mut Vec<Command>,
) -> Result<(), String> {
    while let Some((line, text)) = in_block(begin, lines)? {
        commands.push(Command::read(text, line, lines)?);
    }
    Ok(())
}

/// The next line of a block, or none at its end.
fn in_block<'a>(
    begin: usize,
    lines: &mut Numbered<'a>,
) -> Result<Option<(usize, &'a str)>, String> {
    match lines.next() {
        Some((_, "```")) => Ok(None),
        None => Err(format!("line {begin}: the block has no end")),
        line => Ok(line),
    }
}

fn is_fence(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("```") || line.starts_with("~~~")
}

fn fit(wanted: &[&str], found: &[&str]) -> bool {
    match wanted {
        [] => found.is_empty(),
        [line, rest @ ..] if line.trim_start() == ANYTHING => {
            (0..=found.len()).any(|skipped| fit(rest, &found[skipped..]))
        }
        [line, rest @ ..] => found
            .split_first()
            .is_some_and(|(first, others)| fits(line, first) && fit(rest, others)),
    }
}

fn fits(wanted: &str, found: &str) -> bool {
    let Some((begin, rest)) = wanted.split_once(ANYTHING) else {
        return wanted == found;
    };
    let Some(found) = found.strip_prefix(begin) else {
        return false;
    };
    let starts = found.char_indices().map(|(at, _)| at);
    starts
        .chain([found.len()])
        .any(|at| fits(rest, &found[at..]))
}
