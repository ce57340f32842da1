//! docs/http.md and docs/rest.md tell the truth: their commands print what they show, and the workers work.

use std::process::{Command, Output};
use test_support::Server;

const DOCUMENT: &str = include_str!("../../docs/http.md");
const REST: &str = include_str!("../../docs/rest.md");

/// The blocks of a language in a document.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = document;
    while let Some((_, after)) = rest.split_once(&format!("```{language}\n")) {
        let (block, after) = after.split_once("```").expect("its end");
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

fn start() -> Server {
    Server::start_with(&["--http", "127.0.0.1:0"])
}

fn run(command: &mut Command, server: &Server) -> Output {
    let output = command.env("COORDINATED_URL", server.http()).output();
    output.unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
        || Command::new(program).arg("version").output().is_ok()
}

/// True if a line is what is expected, where `...` stands for anything.
fn is_like(line: &str, expected: &str) -> bool {
    let Some((before, after)) = expected.split_once("...") else {
        return line == expected;
    };
    let Some(rest) = line.strip_prefix(before) else {
        return false;
    };
    let mut ends = rest.char_indices().map(|(end, _)| end).chain([rest.len()]);
    ends.any(|end| is_like(&rest[end..], after))
}

#[test]
fn the_commands_of_the_document_print_what_it_shows() {
    replay(DOCUMENT);
}

#[test]
fn the_commands_of_the_document_about_rest_print_what_it_shows() {
    replay(REST);
}

fn replay(document: &str) {
    let server = start();
    let address = server.http().replace("http://", "");
    // Some commands write files.
    let folder = tempfile::tempdir().expect("a folder");
    let mut commands = 0;
    for block in blocks(document, "console") {
        let mut expected = block.lines().peekable();
        while let Some(line) = expected.next() {
            let command = line.strip_prefix("$ ").expect("a command");
            let command = command.replace("localhost:5980", &address);
            let mut shell = Command::new("bash");
            shell.args(["-c", &command]).current_dir(&folder);
            let output = run(&mut shell, &server);
            let printed = String::from_utf8(output.stdout).unwrap();
            for line in printed.lines() {
                let shown = expected.next().unwrap_or_default();
                assert!(
                    is_like(line, shown),
                    "{command}\nprints {line}\nnot    {shown}"
                );
            }
            assert!(
                expected.peek().is_none_or(|line| line.starts_with("$ ")),
                "{command} printed less than is shown: {printed}"
            );
            commands += 1;
        }
    }
    assert!(commands > 5, "{commands}");
}

/// Runs a worker on three units, of which the last one has no width.
fn works(command: &mut Command) {
    let server = start();
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    client.add(
        "s",
        "[\"a\", {'width': 1}], [\"b\", {'width': 2}], [\"wörld\", {'width': 3}]",
    );
    let output = run(command, &server);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(printed.matches("pixels wide").count(), 3, "{output:?}");
    assert!(printed.contains("wörld"), "{output:?}");
    assert_eq!(client.counts("s").into_iter().collect::<Vec<_>>(), [(4, 3)]);
}

#[test]
fn the_worker_in_javascript_works() {
    if !is_there("node") {
        println!("skipped: there is no node");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("worker.mjs");
    std::fs::write(&program, &blocks(DOCUMENT, "js")[0]).unwrap();
    works(Command::new("node").arg(program));
}

#[test]
fn the_worker_in_shell_works() {
    if !is_there("jq") {
        println!("skipped: there is no jq");
        return;
    }
    works(Command::new("bash").args(["-c", &blocks(DOCUMENT, "sh")[0]]));
}

#[test]
fn the_worker_in_go_works() {
    if !is_there("go") {
        println!("skipped: there is no go");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("worker.go");
    std::fs::write(&program, &blocks(DOCUMENT, "go")[0]).unwrap();
    works(Command::new("go").arg("run").arg(program));
}

#[test]
fn every_kind_of_problem_is_in_the_table() {
    let source = include_str!("../../src/http/problem.rs");
    let kinds: Vec<&str> = source
        .lines()
        .filter(|line| line.ends_with("true;") || line.ends_with("false;"))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(kinds.len() > 15);
    for kind in kinds {
        let name = format!("`{}`", kind.replace('_', "-"));
        assert!(DOCUMENT.contains(&name), "{name}");
    }
}
