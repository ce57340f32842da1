//! Calls that take long: they are done in steps, between which others are answered.

use std::collections::BTreeSet;
use std::fmt::Write;
use test_support::{Client, Server, Value, diag, frame, server_with_spec};

/// Units for many steps of each kind.
const MANY: usize = 5_000;

/// Items of a list, one for each of many units.
fn items(item: impl Fn(usize) -> String) -> String {
    (0..MANY).fold(String::new(), |mut items, number| {
        write!(items, "{},", item(number)).expect("text can be written");
        items
    })
}

fn keys() -> String {
    items(|number| format!("'u{number:05}'"))
}

/// A spec with many available units.
fn server_with_units() -> (Server, Client) {
    let (server, mut client) = server_with_spec();
    client.add(
        "ws",
        &items(|number| format!("['u{number:05}', {{'n': {number}}}]")),
    );
    (server, client)
}

/// Sends a call, and meanwhile asks for the counts on another connection. Gives the result of the call, and how
/// many different answers the others got.
fn watched(server: &Server, method: &str, params: &str) -> (Value, usize) {
    const ASKED: usize = 3_000;
    let (mut client, mut other) = (server.connect(), server.connect());
    let call = client.envelope(method, diag(&format!("[{params}]")));
    let Value::Map(mut count) = other.envelope("count_work_units", diag("['ws']")) else {
        panic!("no map")
    };
    count.retain(|(key, _)| key.name().as_deref() != Some("id"));
    let count = frame(&Value::Map(count));
    client.send(&frame(&call));
    // They come long before the last step, and each turn answers some of them.
    other.send(&count.repeat(ASKED));
    let answers: BTreeSet<Vec<u8>> = (0..ASKED).map(|_| other.next_answer().encode()).collect();
    (client.next_answer().at("result").clone(), answers.len())
}

#[test]
fn others_are_answered_between_the_steps_of_a_call() {
    let finish = items(|number| format!("['u{number:05}', {{'status': 4}}]"));
    let add = items(|number| format!("['v{number:05}', {{}}]"));
    let (server, mut client) = server_with_units();
    for (method, params, result) in [
        ("add_work_units", format!("'ws', [{add}]"), "[true, null]"),
        ("update_work_units", format!("'ws', [{finish}]"), ""),
        (
            "del_work_units",
            "'ws', {'state': 4}".to_owned(),
            "[5000, null]",
        ),
        (
            "del_work_units",
            format!(
                "'ws', {{'work_unit_keys': [{}]}}",
                items(|number| format!("'v{number:05}'"))
            ),
            "[5000, null]",
        ),
    ] {
        let (found, states_seen) = watched(&server, method, &params);
        if result.is_empty() {
            assert_eq!(found.item(0).items().len(), MANY);
        } else {
            assert_eq!(found, diag(result), "{method}");
        }
        assert!(states_seen > 2, "{method}: others saw {states_seen} states");
    }
    assert_eq!(client.counts("ws"), [].into());
}

#[test]
fn a_call_in_steps_is_answered_in_its_place_and_counted_once() {
    let (_server, mut client) = server_with_units();
    let deletion = client.envelope("del_work_units", diag("['ws', {'state': [1, 4]}]"));
    let count = client.envelope("count_work_units", diag("['ws']"));
    client.send(&[frame(&deletion), frame(&count)].concat());
    assert_eq!(client.next_answer().at("result"), &diag("[5000, null]"));
    assert_eq!(client.next_answer().at("result"), &diag("[{}, null]"));
    let info = client.call("server_info", "");
    assert_eq!(info.at("calls").at("del_work_units"), &Value::Unsigned(1));
}

#[test]
fn a_long_list_of_keys_is_answered_in_its_order() {
    let (_server, mut client) = server_with_units();
    client.updated("ws", "u04000", "{'status': 4}");
    let asked = format!("'nope', {}'u00007'", keys());
    let statuses = client.value("get_work_unit_status", &format!("'ws', [{asked}]"));
    assert_eq!(statuses.items().len(), MANY + 2);
    assert_eq!(statuses.item(0), &Value::Null);
    assert_eq!(statuses.item(4_001).at("status"), &Value::Unsigned(4));
    assert_eq!(statuses.item(4_002).at("status"), &Value::Unsigned(1));
    let units = client.units("ws", &format!("{{'work_unit_keys': [{asked}]}}"));
    assert_eq!(units.len(), MANY + 2);
    assert_eq!(units[0], (diag("'nope'"), Value::Null));
    assert_eq!(units[MANY], (diag("'u04999'"), diag("{'n': 4999}")));
    assert_eq!(units[MANY + 1], (diag("'u00007'"), diag("{'n': 7}")));
}

#[test]
fn of_a_long_list_with_a_malformed_item_nothing_is_done() {
    let (_server, mut client) = server_with_units();
    let finish = items(|number| format!("['u{number:05}', {{'status': 4}}]"));
    for (method, params) in [
        (
            "add_work_units",
            format!(
                "'ws', [{}5]",
                items(|number| format!("['v{number}', {{}}]"))
            ),
        ),
        (
            "update_work_units",
            format!("'ws', [{finish}['u00000', {{'status': 9}}]]"),
        ),
        ("update_work_units", format!("'ws', [{finish}['u00000']]")),
        (
            "del_work_units",
            format!("'ws', {{'work_unit_keys': [{}5]}}", keys()),
        ),
        (
            "prioritize_work_units",
            format!("'ws', {{'priority': 1, 'work_unit_keys': [{}5]}}", keys()),
        ),
    ] {
        let problem = client.refused(method, &params);
        assert!(problem.contains("item 5000: "), "{method}: {problem}");
    }
    assert_eq!(client.counts("ws"), [(1, MANY as u64)].into());
    client.add("ws", "['first', {}, null, 0.5]");
    client.take_key("w", "first");
}

#[test]
fn a_long_list_of_units_is_skipped_counted_and_refused_piece_by_piece() {
    let (_server, mut client) = server_with_units();
    let half = items(|number| format!("'u{:05}'", number + MANY / 2));
    let skip = format!("'ws', [{half}], {{'if_exists': 'skip', 'counts': true}}");
    assert_eq!(
        client.value("add_work_units", &skip),
        diag("{'new': 2500, 'reset': 0, 'skipped': 2500}")
    );
    let new = items(|number| format!("'v{number:05}'"));
    let refuse = format!("'ws', [{new}'u00000'], {{'if_exists': 'error'}}");
    let (value, message) = client.denied("add_work_units", &refuse);
    assert_eq!(value, diag("false"));
    let text = "\"u00000\" exists already in work spec \"ws\"; the 5000 items of earlier steps are committed";
    assert!(message.contains(text), "{message}");
    let added = MANY as u64 * 5 / 2;
    assert_eq!(client.counts("ws"), [(1, added)].into());
}

#[test]
fn what_fails_in_a_late_step_says_how_far_the_call_came() {
    let (_server, mut client) = server_with_units();
    client.add("ws", "['v', {}, null, -Infinity]");
    let options = format!(
        "{{'adjustment': Infinity, 'work_unit_keys': [{}'v']}}",
        keys()
    );
    let problem = client.refused("prioritize_work_units", &format!("'ws', {options}"));
    let text = "the 5000 items of earlier steps are committed";
    assert!(problem.contains(text), "{problem}");
    client.add("ws", "['a', {}, null, 1e300]");
    client.take_key("w", "u00000");
}

#[test]
fn the_requests_of_a_list_run_in_order_also_if_one_takes_many_steps() {
    let (server, mut client) = server_with_units();
    let requests = format!(
        "[{{'id': 1, 'method': 'del_work_units', 'params': ['ws', {{'state': 1}}]}},
          {{'id': 2, 'method': 'count_work_units', 'params': ['ws']}},
          5,
          {{'id': 3, 'method': 'add_work_units', 'params': ['ws', [{}]]}},
          {{'id': 4, 'method': 'del_work_units', 'params': ['ws', {{'state': [1, 'x']}}]}},
          {{'id': 5, 'method': 'count_work_units', 'params': ['ws']}}]",
        keys()
    );
    let answers = client.exchange(&diag(&requests));
    let ids: Vec<&Value> = answers
        .items()
        .iter()
        .map(|answer| answer.at("id"))
        .collect();
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["1", "2", "null", "3", "4", "5"]);
    assert_eq!(answers.item(0).at("result"), &diag("[5000, null]"));
    assert_eq!(answers.item(1).at("result"), &diag("[{}, null]"));
    assert_eq!(answers.item(3).at("result"), &diag("[true, null]"));
    assert_eq!(answers.item(5).at("result"), &diag("[{1: 5000}, null]"));
    for (index, problem) in [(2, "expected a map"), (4, "option state")] {
        let error = answers.item(index).at("error").at("message").to_string();
        assert!(error.contains(problem), "{error}");
    }
    // A connection that goes away in between leaves the others alone.
    let mut gone = server.connect();
    gone.send(&frame(&diag(&requests)));
    drop(gone);
    assert!(client.call("now", "").number().is_some());
}

#[test]
fn what_might_take_long_and_can_t_be_done_in_steps_is_refused() {
    let (_server, mut client) = server_with_units();
    client.add("ws", &items(|number| format!("'v{number}'")));
    client.add("ws", "'one more'");
    let list = "[{'id': 1, 'method': 'get_work_units', 'params': ['ws', {'state': [3, 4]}]}]";
    let answers = client.exchange(&diag(list));
    let problem = answers.item(0).at("error").at("message").to_string();
    assert!(problem.contains("send it as a single request"), "{problem}");
    assert_eq!(client.keys("ws", "{'state': [3, 4]}"), [""; 0]);

    let paths = |count: usize| "['a'],".repeat(count);
    let problem = client.refused("lock", &format!("'me', 60, [{}]", paths(10_001)));
    assert!(problem.contains("more than 10000 paths"), "{problem}");
    client.done("lock", &format!("'me', 60, [{}]", paths(10_000)));
}
