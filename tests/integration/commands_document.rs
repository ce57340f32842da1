//! docs/commands.md says what the commands themselves say: behind its mark stands the help of each.
//!
//! After a change of the command line: COORDINATED_UPDATE_DOCS=1 cargo test --test integration commands_document

use std::fmt::Write;
use std::path::{Path, PathBuf};
use test_support::run_to_end;

/// What is before it is written by hand.
const MARK: &str = "<!-- What follows is made by tests/integration/commands_document.rs -->\n";

/// The help of a command, as it is on a terminal of 100 columns.
fn help(command: &[&str]) -> String {
    let arguments = [command, &["--help"]].concat();
    let exit = run_to_end(Path::new("."), &arguments, &[("COLUMNS", "100")]);
    assert_eq!(exit.code, Some(0), "{command:?}: {}", exit.stderr);
    let lines = exit.stdout.lines().map(str::trim_end);
    lines.collect::<Vec<_>>().join("\n")
}

/// The commands that a help lists.
fn commands_in(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = lines
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn describe(command: &[&str], document: &mut String) {
    let help = help(command);
    let name = [&["coordinated"], command].concat().join(" ");
    let level = "#".repeat(command.len().max(1) + 1);
    write!(document, "\n{level} `{name}`\n\n```text\n{help}\n```\n").expect("a String takes all");
    for child in commands_in(&help) {
        describe(&[command, &[child.as_str()]].concat(), document);
    }
}

#[test]
fn the_document_has_the_help_of_every_command() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let document = std::fs::read_to_string(&path).expect("docs/commands.md");
    let (by_hand, made) = document.split_once(MARK).expect("the mark is there");
    let mut expected = String::new();
    describe(&[], &mut expected);
    assert!(expected.contains("## `coordinated work_units`"));
    if std::env::var_os("COORDINATED_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{by_hand}{MARK}{expected}")).expect("write");
        return;
    }
    for (number, (found, wanted)) in made.lines().zip(expected.lines()).enumerate() {
        assert_eq!(
            found, wanted,
            "line {number} behind the mark; COORDINATED_UPDATE_DOCS=1 cargo test --test integration commands_document"
        );
    }
    assert_eq!(
        made.lines().count(),
        expected.lines().count(),
        "lines behind the mark"
    );
}
