//! docs/commands.md has the help of every command, generated after a mark.
//!
//! After a change of the command line run COORDINATED_UPDATE_DOCS=1 cargo test --test integration commands_document

use std::fmt::Write;
use std::path::{Path, PathBuf};
use test_support::run_to_end;

/// The text before it is written by hand.
const MARK: &str = "<!-- What follows is made by tests/integration/commands_document.rs -->\n";

/// The help of a command on a terminal of 100 columns.
fn help(command: &[&str]) -> String {
    let arguments = [command, &["--help"]].concat();
    let exit = run_to_end(Path::new("."), &arguments, &[("COLUMNS", "100")]);
    assert_eq!(exit.code, Some(0), "{command:?}: {}", exit.stderr);
    let lines = exit.stdout.lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n")
}

/// The commands that a help lists, by heading. Only commands have entries before the options that begin with a letter.
fn commands_in(help: &str) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in help.lines().take_while(|line| *line != "Options:") {
        if let Some(entry) = line.strip_prefix("  ") {
            let name = entry.split(' ').next().unwrap_or_default();
            if let (true, Some((_, names))) =
                (name.starts_with(char::is_alphabetic), groups.last_mut())
            {
                names.push(name);
            }
        } else if let Some(heading) = line.strip_suffix(':') {
            groups.push((heading, Vec::new()));
        }
    }
    groups.retain(|(_, names)| !names.is_empty());
    groups
}

fn describe(command: &[&str], document: &mut String) {
    let help = help(command);
    let name = [&["coordinated"], command].concat().join(" ");
    let level = "#".repeat(command.len() + 2);
    write!(document, "\n{level} `{name}`\n\n```text\n{help}\n```\n").expect("a String takes all");
    for (heading, names) in commands_in(&help) {
        if command.is_empty() {
            write!(document, "\n## {heading}\n").expect("a String takes all");
        }
        for child in names.into_iter().filter(|name| *name != "help") {
            describe(&[command, &[child]].concat(), document);
        }
    }
}

#[test]
fn the_document_has_the_help_of_every_command() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let document = std::fs::read_to_string(&path).expect("docs/commands.md");
    let (by_hand, made) = document.split_once(MARK).expect("the mark");
    let mut expected = String::new();
    describe(&[], &mut expected);
    assert!(expected.contains("\n## Look\n"), "{expected}");
    assert!(expected.contains("\n### `coordinated work_units`\n"));
    if std::env::var_os("COORDINATED_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{by_hand}{MARK}{expected}")).expect("write");
        return;
    }
    for (number, (found, wanted)) in made.lines().zip(expected.lines()).enumerate() {
        assert_eq!(
            found, wanted,
            "line {number} after the mark; COORDINATED_UPDATE_DOCS=1 cargo test --test integration commands_document"
        );
    }
    assert_eq!(
        made.lines().count(),
        expected.lines().count(),
        "lines after the mark"
    );
}
