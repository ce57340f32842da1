//! The commands that look at a daemon and control it: the real program against the real daemon, with and
//! without a terminal, and against servers that have more or less than it.

mod changing;
pub(crate) mod cutter;
mod flows;
mod loading;
mod looking;
mod other_servers;
mod pretender;
mod schedules;
mod shells;
mod sql;
mod terminal;
mod top;
mod usage;

use serde_json::Value as Json;
use std::path::Path;
use test_support::{Client, Exit, Server, run_to_end, server_with_spec};

/// Runs a command against a daemon, without a terminal.
fn run(server: &str, arguments: &[&str]) -> Exit {
    run_to_end(Path::new("."), arguments, &[("COORDINATED_SERVER", server)])
}

/// Runs a command that goes well; what it printed.
fn good(server: &Server, arguments: &[&str]) -> String {
    let exit = run(server.address(), arguments);
    assert_eq!(exit.code, Some(0), "{arguments:?}: {}", exit.stderr);
    exit.stdout
}

/// Runs a command that goes well; the JSON document that it printed.
fn json(server: &Server, arguments: &[&str]) -> Json {
    let printed = good(server, &[arguments, &["--json"]].concat());
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// Runs a command that fails; its one line on standard error, without the notes before it.
fn bad(server: &str, arguments: &[&str]) -> String {
    let exit = run(server, arguments);
    assert_eq!(exit.code, Some(1), "{arguments:?}: {}", exit.stdout);
    let line = exit.stderr.lines().last().unwrap_or_default().to_owned();
    assert!(line.starts_with("coordinated: "), "{}", exit.stderr);
    line
}

/// A daemon with a work spec `ws`, and units in it: `done` is finished, `broken` failed, `busy` pending, and
/// `a` and `b` are available.
fn server_with_units() -> (Server, Client) {
    let (server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['done', {'n': 1}, {'priority': 3}], ['broken', {'n': 2}, {'priority': 2}]",
    );
    client.add(
        "ws",
        "['busy', {}, {'priority': 1}], ['a', {'x': [1, \"two\"]}], ['b', {}]",
    );
    for key in ["done", "broken", "busy"] {
        client.take_key("worker-1", key);
    }
    client.updated("ws", "done", "{'status': 4}");
    let traceback = r"{'n': 2, 'traceback': 'Traceback:\n  line 1\nValueError: no such thing'}";
    client.updated(
        "ws",
        "broken",
        &format!("{{'status': 5, 'data': {traceback}}}"),
    );
    (server, client)
}

fn lines(printed: &str) -> Vec<&str> {
    printed.lines().collect()
}

/// The words of each line of a table.
fn words(printed: &str) -> Vec<Vec<&str>> {
    let lines = printed.lines();
    lines
        .map(|line| line.split_whitespace().collect())
        .collect()
}
