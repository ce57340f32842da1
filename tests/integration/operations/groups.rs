//! The order of adding, and groups that are taken in turn.

use test_support::{Client, Server, Value, run_to_end, wait_until};

/// A daemon with the work spec `ws`, which says this in addition.
fn server_with(entries: &str) -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec(&format!("{{'name': 'ws', {entries}}}"));
    (server, client)
}

/// The keys of the units that one call gives.
fn take(client: &mut Client, max_jobs: usize) -> Vec<String> {
    let units = client.take_many("w", &format!("{{'max_jobs': {max_jobs}}}"));
    units
        .into_iter()
        .map(|unit| unit.key.name().expect("a key"))
        .collect()
}

fn group_of(client: &mut Client, key: &str) -> Option<String> {
    let answer = client.value("get_work_unit_status", &format!("'ws', ['{key}']"));
    answer.item(0).get("group").and_then(Value::name)
}

#[test]
fn the_order_of_adding_is_kept_over_calls_and_a_restart() {
    let (mut server, mut client) = server_with("'order': 'added'");
    client.add("ws", "'z', ['y', {}, {'priority': 1}], 'x'");
    client.add("ws", "'a'");
    server.restart();
    let mut client = server.connect();
    client.add("ws", "'0'");
    assert_eq!(take(&mut client, 9), ["y", "z", "x", "a", "0"]);
}

#[test]
fn a_group_is_read_from_the_meta_in_either_form_and_shown() {
    let (_server, mut client) = server_with("'fair': true");
    client.add(
        "ws",
        "['a', {}, {'group': \"acme\"}], ['b', {}, {'group': 'acme'}], ['c', {}, {'group': 'bell'}], \
         ['d', {}, {'group': ''}], ['e', {}, {'group': null}], 'f'",
    );
    assert_eq!(group_of(&mut client, "a").as_deref(), Some("acme"));
    assert_eq!(group_of(&mut client, "d"), None);
    assert_eq!(group_of(&mut client, "f"), None);
    assert_eq!(take(&mut client, 9), ["a", "c", "d", "b", "e", "f"]);
}

#[test]
fn a_group_that_is_no_short_text_is_refused_and_nothing_is_added() {
    let (_server, mut client) = server_with("'fair': true");
    let long = "x".repeat(256);
    for (group, problem) in [
        (
            "5".to_owned(),
            "group of \"b\": expected a text string, got an integer",
        ),
        (
            "['x']".to_owned(),
            "group of \"b\": expected a text string, got a list",
        ),
        (
            format!("'{long}'"),
            "group of \"b\": 256 bytes long, at most 255 are allowed",
        ),
        ("h'ff'".to_owned(), "group of \"b\": not UTF-8"),
    ] {
        let params = format!("'ws', [['a', {{}}], ['b', {{}}, {{'group': {group}}}]]");
        let message = client.refused("add_work_units", &params);
        assert!(message.contains(problem), "{group}: {message}");
        assert!(message.contains("item 1"), "{group}: {message}");
    }
    assert_eq!(client.keys("ws", "{}"), [""; 0]);
    client.add(
        "ws",
        &format!("['b', {{}}, {{'group': '{}'}}]", &long[..255]),
    );
}

#[test]
fn an_output_names_groups() {
    let (_server, mut client) = server_with("'max_running_per_group': 1");
    client.set_spec("{'name': 'first', 'then': 'ws'}");
    client.add("first", "'start'");
    client.take_key("w", "start");
    let output = "[['a', {}, {'group': 'acme'}], ['b', {}, {'group': 'acme'}], ['c', {}]]";
    client.updated(
        "first",
        "start",
        &format!("{{'status': 4, 'data': {{'output': {output}}}}}"),
    );
    assert_eq!(group_of(&mut client, "b").as_deref(), Some("acme"));
    let mut taken = take(&mut client, 9);
    taken.sort();
    assert_eq!(taken, ["a", "c"]);
}

#[test]
fn another_order_is_refused_with_what_is_allowed() {
    let (_server, mut client) = server_with("'order': 'name'");
    let message = client.refused("set_work_spec", "{'name': 'ws', 'order': 'fifo'}");
    assert!(
        message.contains(r#"work spec key "order": expected "name" or "added""#),
        "{message}"
    );
}

#[test]
fn units_that_are_there_are_moved_to_their_groups_without_any_call() {
    let (server, mut client) = server_with("'weight': 20");
    let units = |group: &str| -> String {
        let unit = |number| format!("['{group}{number:04}', {{}}, {{'group': '{group}'}}]");
        (0..900).map(unit).collect::<Vec<_>>().join(", ")
    };
    client.add("ws", &units("a"));
    client.add("ws", &units("b"));
    client.set_spec("{'name': 'ws', 'fair': true}");
    let database = rusqlite::Connection::open(server.db()).expect("the database");
    wait_until("all units are moved", || {
        let left = "SELECT (SELECT count(*) FROM work_unit WHERE in_turn = 0) + (SELECT max(former_queue) FROM work_unit_count)";
        let left: u64 = database
            .query_row(left, [], |row| row.get(0))
            .expect("a count");
        left == 0
    });
    assert_eq!(take(&mut client, 4), ["a0000", "b0000", "a0001", "b0001"]);
}

#[test]
fn commands_add_units_to_groups_and_show_them() {
    let (server, mut client) = server_with("'fair': true");
    std::fs::write(server.folder().join("units"), "l1\nl2\n").expect("write");
    let run = |arguments: &[&str]| {
        let environment = [("COORDINATED_SERVER", server.address())];
        let exit = run_to_end(server.folder(), arguments, &environment);
        assert_eq!(exit.code, Some(0), "{arguments:?}: {exit:?}");
        exit.stdout
    };
    run(&["add", "ws", "a1", "a2", "--group", "acme", "--delay", "0s"]);
    run(&[
        "addwork",
        "ws",
        "-u",
        "units",
        "--lines",
        "--group",
        "bell",
        "--priority",
        "1",
    ]);
    assert_eq!(take(&mut client, 9), ["a1", "l1", "a2", "l2"]);
    let shown = run(&["work_unit", "ws", "a1"]);
    assert!(shown.contains("  Group: acme\n"), "{shown}");
    let shown = run(&["work_unit", "ws", "l2", "--json"]);
    assert!(shown.contains("\"group\": \"bell\""), "{shown}");
}
