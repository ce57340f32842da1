//! Commands that change something.

use super::{bad, good, json, lines, run, server_with_units};
use rusqlite::Connection;
use std::collections::BTreeMap;
use test_support::{AVAILABLE, FAILED, FINISHED, PENDING, Server, Value, diag};

#[test]
fn units_are_added_by_name() {
    let (server, mut client) = server_with_units();
    let data = r#"{"n": 1, "raw": {"$bytes": "\\xff"}}"#;
    let arguments = [
        "add",
        "ws",
        "x",
        r"\xfe",
        "--priority",
        "-1.5",
        "--data",
        data,
    ];
    assert_eq!(good(&server, &arguments), "Added 2 work units.\n");
    assert_eq!(
        client.data("ws", "x").get("raw"),
        Some(&Value::bytes([0xff]))
    );
    assert_eq!(
        good(&server, &["add", "ws", "done", "y"]),
        "Added 1, skipped 1 existing work unit.\n"
    );
    assert_eq!(client.state("ws", "done"), FINISHED);
    assert_eq!(
        good(&server, &["add", "ws", "done", "--reset"]),
        "Added 0, reset 1 existing work unit.\n"
    );
    assert_eq!(client.state("ws", "done"), AVAILABLE);
    assert!(bad(server.address(), &["add", "none", "x"]).contains("none"));
    for (data, problem) in [
        ("[1]", "a list"),
        ("{", "--data"),
        (r#"{"$int": 1}"#, "$int"),
    ] {
        let message = bad(server.address(), &["add", "ws", "y", "--data", data]);
        assert!(message.contains(problem), "{message}");
    }
}

#[test]
fn units_that_are_added_to_a_paused_work_spec_are_told_to_wait() {
    let (server, _client) = server_with_units();
    assert_eq!(run(server.address(), &["add", "ws", "x"]).stderr, "");
    good(&server, &["pause", "ws"]);
    let exit = run(server.address(), &["add", "ws", "y"]);
    assert_eq!(
        (exit.code, exit.stdout.as_str()),
        (Some(0), "Added 1 work unit.\n")
    );
    assert_eq!(
        exit.stderr,
        "coordinated: ws is paused: its units will be handed out after `coordinated resume ws`\n"
    );
}

#[test]
fn a_work_spec_is_created_without_a_file() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(good(&server, &["create", "plain"]), "Created plain.\n");
    assert_eq!(
        client.call("get_work_spec", "'plain'"),
        diag("{'name': 'plain'}")
    );
    let arguments = [
        "create",
        "exec",
        "--set",
        "weight=5",
        "--set",
        "command=[sh, -c, 'x=1; echo $x']",
        "--set",
        "runtime=exec",
        "--set",
        "then=plain",
        "--set",
        "disabled=true",
    ];
    assert_eq!(good(&server, &arguments), "Created exec.\n");
    assert_eq!(
        client.call("get_work_spec", "'exec'"),
        diag(
            "{'name': 'exec', 'weight': 5, 'command': ['sh', '-c', 'x=1; echo $x'], 'runtime': 'exec', \
             'then': 'plain', 'disabled': true}"
        )
    );
    for (arguments, problem) in [
        (&["plain"][..], "work spec plain already exists"),
        (
            &["x", "--set", "then=none"],
            "--set: x: then names \"none\"",
        ),
        (
            &["x", "--set", "weight=much"],
            "\"weight\": expected an integer",
        ),
        (&["x", "--set", "a=1", "--set", "a=2"], "a is given twice"),
        (&[r"\xff"], "UTF-8"),
    ] {
        let message = bad(server.address(), &[&["create"], arguments].concat());
        assert!(message.contains(problem), "{message}");
    }
    for wrong in ["weight", "=1", "name=x", "weight=[1"] {
        let exit = run(server.address(), &["create", "x", "--set", wrong]);
        assert_eq!(exit.code, Some(2), "{wrong}: {}", exit.stderr);
    }
    let exit = run(server.address(), &["create", "x", "--set", "wieght=1"]);
    assert!(
        exit.stderr.contains("did you mean \"weight\"?"),
        "{}",
        exit.stderr
    );
}

#[test]
fn a_delayed_unit_waits() {
    let (server, mut client) = server_with_units();
    good(
        &server,
        &["add", "ws", "later", "--delay", "1h", "--priority", "9"],
    );
    assert_eq!(client.take("w").expect("work").key, Value::bytes("a"));
}

#[test]
fn a_work_spec_is_paused_resumed_and_controlled() {
    let (server, mut client) = server_with_units();
    assert_eq!(good(&server, &["pause", "ws"]), "");
    assert!(client.take("w").is_none());
    assert_eq!(good(&server, &["resume", "ws"]), "");
    client.take_key("w", "a");
    good(
        &server,
        &[
            "control",
            "ws",
            "--weight",
            "7",
            "--max-running",
            "2",
            "--interval",
            "1.5",
        ],
    );
    let meta = json(&server, &["work_spec", "ws", "--meta"]);
    assert_eq!(
        (&meta["weight"], &meta["max_running"], &meta["interval"]),
        (&7.into(), &2.into(), &1.5.into())
    );
    good(&server, &["control", "-W", "ws", "--max-running", "none"]);
    assert!(json(&server, &["work_spec", "ws", "--meta"])["max_running"].is_null());
    assert!(
        bad(server.address(), &["control", "ws", "--continuous", "true"]).contains("continuous")
    );
    assert!(bad(server.address(), &["pause", "none"]).contains("none"));
    assert_eq!(run(server.address(), &["control", "ws"]).code, Some(2));
}

#[test]
fn a_work_spec_that_failures_have_paused_shows_that_and_its_limits() {
    let (server, mut client) = server_with_units();
    client.set_spec(
        "{'name': 'ws', 'max_rate': '600/m', 'retries': 1, 'halt_after': {'failures': 1}}",
    );
    client.updated(
        "ws",
        "busy",
        "{'status': 5, 'data': {'traceback': 'no disk'}}",
    );
    let text = "by halt_after: an attempt has failed; the last one: no disk";
    for command in [&["summary"][..], &["status", "ws"], &["why", "ws", "a"]] {
        let printed = good(&server, command);
        assert!(printed.contains(text), "{command:?}: {printed}");
    }
    let meta = json(&server, &["work_spec", "ws", "--meta"]);
    assert_eq!(meta["pause"]["by"], "halt_after");
    assert_eq!(
        (&meta["max_rate"], &meta["max_rate_burst"]),
        (&"600/m".into(), &10.into())
    );
    assert_eq!(
        (&meta["retries"], &meta["retrying"]),
        (&1.into(), &1.into())
    );
    assert_eq!(meta["halt_after"]["failures"], 1);
    assert!(meta["halt_after"]["rate"].is_null() && meta["rate_until"].is_null());
    assert_eq!(good(&server, &["resume", "ws"]), "");
    assert!(client.take("w").is_some());
}

#[test]
fn who_paused_a_work_spec_and_why_is_shown_everywhere() {
    let (server, _client) = server_with_units();
    let none = json(&server, &["status", "ws"]);
    assert!(none["pause"].is_null(), "{none}");
    let arguments = ["pause", "ws", "--reason", "disk full\u{1b}[2J"];
    assert_eq!(good(&server, &arguments), "");
    let by = |printed: &str| {
        let (_, text) = printed.split_once("was paused ").expect("a pause");
        let (_, text) = text.split_once(" ago by ").expect("who");
        let (by, reason) = text.split_once(": ").expect("why");
        assert!(reason.starts_with("disk full\\u{1b}[2J"), "{reason}");
        by.to_owned()
    };
    let who = by(&good(&server, &["summary"]));
    assert!(who.contains('@'), "{who}");
    assert_eq!(by(&good(&server, &["status", "ws"])), who);
    assert_eq!(by(&good(&server, &["why", "ws", "a"])), who);
    let pause = json(&server, &["work_spec", "ws", "--meta"])["pause"].clone();
    assert_eq!(
        (pause["by"].as_str(), &pause["reason"]),
        (Some(who.as_str()), &arguments[3].into())
    );
    assert_eq!(json(&server, &["status", "ws"])["pause"], pause);
    let summary = json(&server, &["summary"]);
    assert_eq!(summary["work_specs"]["ws"]["pause"], pause);
    let exit = run(server.address(), &["add", "ws", "y"]);
    assert_eq!(
        exit.stderr,
        "coordinated: ws is paused (disk full\\u{1b}[2J): its units will be handed out after \
         `coordinated resume ws`\n"
    );

    // A load of the same work spec keeps it.
    let spec = server.folder().join("spec.yaml");
    std::fs::write(&spec, "name: ws\nmin_gb: 1\n").expect("write");
    let spec = spec.display().to_string();
    good(&server, &["load", "-w", &spec, "--no-work"]);
    assert_eq!(
        json(&server, &["work_spec", "ws", "--meta"])["pause"],
        pause
    );
    let sql = "SELECT paused_by, paused_reason, paused_at > '2026' FROM work_specs";
    let row: (String, String, bool) = Connection::open(server.db())
        .and_then(|db| db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))))
        .expect("a row");
    assert_eq!(row, (who, arguments[3].to_owned(), true));

    good(&server, &["resume", "ws"]);
    assert!(json(&server, &["work_spec", "ws", "--meta"])["pause"].is_null());
    assert!(!good(&server, &["summary"]).contains("paused"));
}

#[test]
fn units_are_moved_to_the_front() {
    let (server, mut client) = server_with_units();
    good(&server, &["prioritize", "ws", "b"]);
    client.take_key("w", "b");
    client.add("ws", "'c', 'd'");
    good(&server, &["prioritize", "ws", "d", "--adjust", "2"]);
    good(&server, &["prioritize", "ws", "c", "--priority", "1.5"]);
    client.take_key("w", "d");
    client.take_key("w", "c");
}

/// Adds so many units and lets them fail.
fn fail_many(client: &mut test_support::Client, count: usize) {
    let keys: Vec<String> = (0..count)
        .map(|n| format!("['f{n:04}', {{}}, null, 9]"))
        .collect();
    client.add("ws", &keys.join(", "));
    let taken = client.take_many("w", &format!("{{'max_jobs': {count}}}"));
    assert_eq!(taken.len(), count);
    let updates: Vec<String> = (0..count)
        .map(|n| {
            format!(
                "['f{n:04}', {{'status': 5, 'data': {{'traceback': 'Error {}'}}}}]",
                n % 2
            )
        })
        .collect();
    client.value(
        "update_work_units",
        &format!("'ws', [{}]", updates.join(", ")),
    );
}

#[test]
fn failed_units_are_retried_by_name_all_or_by_what_went_wrong() {
    let (server, mut client) = server_with_units();
    assert_eq!(
        good(&server, &["retry", "ws", "broken"]),
        "Retried 1 work unit.\n"
    );
    assert_eq!(client.state("ws", "broken"), AVAILABLE);
    assert_eq!(
        good(&server, &["retry", "-W", "ws", "--all"]),
        "Nothing to do.\n"
    );

    fail_many(&mut client, 2_300);
    assert_eq!(
        good(&server, &["retry", "ws", "--matching", "Error 1"]),
        "Retried 1150 work units.\n"
    );
    assert_eq!(client.counts("ws").get(&FAILED), Some(&1_150));
    assert_eq!(client.state("ws", "f0001"), AVAILABLE);
    assert_eq!(
        good(&server, &["retry", "ws", "--all", "--yes"]),
        "Retried 1150 work units.\n"
    );
    assert_eq!(client.counts("ws").get(&FAILED), None);
    assert_eq!(client.state("ws", "done"), FINISHED);
    assert_eq!(client.state("ws", "busy"), PENDING);
}

#[test]
fn a_unit_that_can_not_be_retried_is_named() {
    let (server, mut client) = server_with_units();
    let exit = run(server.address(), &["retry", "ws", "broken", "none"]);
    assert_eq!(
        (exit.code, exit.stdout.as_str()),
        (Some(1), "Retried 1 work unit.\n")
    );
    assert!(
        exit.stderr.contains("none: ") && exit.stderr.contains("1 work unit could not"),
        "{}",
        exit.stderr
    );
    assert_eq!(client.state("ws", "broken"), AVAILABLE);
    assert!(bad(server.address(), &["retry", "none", "--all"]).contains("none"));
}

#[test]
fn units_are_cancelled_by_name_by_status_by_a_part_of_their_name_or_all() {
    let (server, mut client) = server_with_units();
    let cancel = |arguments: &[&str]| good(&server, &[&["cancel", "ws"], arguments].concat());
    assert_eq!(
        cancel(&["a", "--reason", "not needed"]),
        "Cancelled 1 work unit.\n"
    );
    assert_eq!(client.state("ws", "a"), FAILED);
    assert_eq!(cancel(&["-s", "available"]), "Cancelled 1 work unit.\n");
    assert_eq!(
        cancel(&["--matching", "us", "--grace", "10m"]),
        "Cancelled 1 work unit, which is running: its worker has 10m.\n"
    );
    client.add("ws", "['new-1', {}], ['new-2', {}], ['old', {}]");
    client.take_key("w", "new-1");
    assert_eq!(
        cancel(&[
            "--matching",
            "new",
            "--status",
            "pending",
            "-s",
            "available"
        ]),
        "Cancelled 2 work units, 1 of them running: its worker has 30s.\n"
    );
    assert_eq!(client.state("ws", "old"), AVAILABLE);
    // Those that run already are cancelled again, which changes nothing.
    assert_eq!(
        cancel(&["--all", "--yes"]),
        "Cancelled 3 work units, 2 of them running: their workers have 30s.\n"
    );
    assert_eq!(cancel(&["-s", "available"]), "Nothing to do.\n");
    assert_eq!(client.state("ws", "done"), FINISHED);

    let exit = run(server.address(), &["cancel", "ws", "a", "busy", "none"]);
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stdout.starts_with("Cancelled 1 work unit"),
        "{}",
        exit.stdout
    );
    assert!(
        exit.stderr.contains("2 work units could not be"),
        "{}",
        exit.stderr
    );
    assert!(bad(server.address(), &["cancel", "none", "--all"]).contains("none"));
    for wrong in [&["cancel", "ws"][..], &["cancel", "ws", "a", "--all"]] {
        assert_eq!(run(server.address(), wrong).code, Some(2), "{wrong:?}");
    }
    let failed = good(&server, &["failed", "ws"]);
    assert!(failed.contains("cancelled: not needed"), "{failed}");
    assert_eq!(
        good(&server, &["retry", "ws", "--matching", "not needed"]),
        "Retried 1 work unit.\n"
    );
    assert_eq!(client.state("ws", "a"), AVAILABLE);
}

#[test]
fn who_cancelled_a_unit_and_why_is_shown() {
    let (server, _client) = server_with_units();
    good(
        &server,
        &["cancel", "ws", "a", "busy", "--reason", "wrong input"],
    );
    let shown = json(&server, &["work_unit", "ws", "a", "b"]);
    let cancelled = &shown[0]["cancelled"];
    assert_eq!(cancelled["reason"], "wrong input", "{shown}");
    assert!(
        cancelled["by"].as_str().is_some_and(|by| by.contains('@')),
        "{shown}"
    );
    assert!(shown[1]["cancelled"].is_null(), "{shown}");
    let text = good(&server, &["work_unit", "ws", "busy"]);
    let line = lines(&text)
        .into_iter()
        .find(|line| line.contains("Cancelled: "));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(
        line.contains(" by ") && line.ends_with(": wrong input"),
        "{line}"
    );
    let why = good(&server, &["why", "ws", "busy"]);
    assert!(why.contains("wrong input; worker"), "{why}");
}

#[test]
fn units_are_removed_by_name_by_status_or_all() {
    let (server, mut client) = server_with_units();
    let removed =
        |arguments: &[&str]| good(&server, &[&["clear", "ws", "--yes"], arguments].concat());
    assert_eq!(removed(&["-s", "blocked"]), "Removed 0 work units.\n");
    assert_eq!(removed(&["a", "-s", "finished"]), "Removed 0 work units.\n");
    assert_eq!(removed(&["a", "unknown"]), "Removed 1 work unit.\n");
    assert_eq!(removed(&["-s", "failed"]), "Removed 1 work unit.\n");
    fail_many(&mut client, 2_300);
    assert_eq!(removed(&["-s", "failed"]), "Removed 2300 work units.\n");
    assert_eq!(
        client.counts("ws"),
        BTreeMap::from([(AVAILABLE, 1), (PENDING, 1), (FINISHED, 1)])
    );
    assert_eq!(removed(&["--all"]), "Removed 3 work units.\n");
    assert_eq!(removed(&["--all"]), "Removed 0 work units.\n");
    assert_eq!(lines(&good(&server, &["work_specs"])), ["ws"]);
    assert!(bad(server.address(), &["clear", "none", "--all", "--yes"]).contains("none"));
}

#[test]
fn work_specs_are_deleted_by_name_or_all() {
    let (server, mut client) = server_with_units();
    for name in ["b", "c"] {
        client.set_spec(&format!("{{'name': '{name}'}}"));
    }
    assert_eq!(
        good(&server, &["delete", "b", "-y"]),
        "Deleted 1 work spec with 0 work units.\n"
    );
    assert_eq!(
        good(&server, &["delete", "--all", "-y"]),
        "Deleted 2 work specs with 5 work units.\n"
    );
    assert_eq!(good(&server, &["work_specs"]), "");
    assert_eq!(
        good(&server, &["delete", "--all", "-y"]),
        "Nothing to do.\n"
    );
    assert!(bad(server.address(), &["delete", "none", "-y"]).contains("none"));
}

#[test]
fn nothing_is_lost_where_nobody_can_be_asked() {
    let (server, mut client) = server_with_units();
    let before = client.counts("ws");
    for (arguments, count) in [
        (&["clear", "ws", "--all"][..], "5 work units"),
        (&["clear", "ws", "-s", "finished"], "1 finished work unit"),
        (&["delete", "--all"], "ALL"),
        (&["delete", "ws"], "5 work units"),
    ] {
        let message = bad(server.address(), arguments);
        assert!(
            message.contains("refusing to")
                && message.contains(count)
                && message.ends_with("pass --yes"),
            "{message}"
        );
    }
    assert_eq!(client.counts("ws"), before);
}
