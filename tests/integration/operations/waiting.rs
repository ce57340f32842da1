//! Requests that wait: `get_work` until there is a unit, `get_work_unit_status` until one is completed.

use std::time::{Duration, Instant};
use test_support::cbor::diag_list;
use test_support::{
    Client, FAILED, FINISHED, PENDING, Reply, Server, Value, Work, diag, frame, into_pair, reply,
    server_with_spec, wait_until, work,
};

/// Much longer than any test takes, and the longest wait there is.
const LONG: &str = "{'wait': 60}";

/// Sends a request without waiting for its answer.
fn send(client: &mut Client, method: &str, params: &str) {
    let envelope = client.envelope(method, Value::Array(diag_list(params)));
    client.send(&frame(&envelope));
}

/// The value of the next answer, which is in a pair without a message.
fn value(client: &mut Client) -> Value {
    let Reply::Result(result) = reply(&client.next_answer()) else {
        panic!("an error")
    };
    let (value, message) = into_pair(result);
    assert_eq!(message, None);
    value
}

/// The key of the unit in the next answer.
fn key(client: &mut Client) -> Option<String> {
    let work: Option<Work> = work(&value(client));
    work.map(|work| work.key.name().expect("a name"))
}

/// Waits until a method has been called this often.
fn wait_for_calls(client: &mut Client, method: &str, count: u64) {
    wait_until(&format!("{count} calls of {method}"), || {
        let info = client.call("server_info", "");
        info.at("calls").get(method) == Some(&Value::Unsigned(count))
    });
}

/// Connections that wait for work with these options, in order.
fn waiting(server: &Server, count: u64, options: &str) -> Vec<Client> {
    let mut other = server.connect();
    let before = other.call("server_info", "");
    let before = before.at("calls").get("get_work").and_then(Value::number);
    let before = before.unwrap_or(0.0) as u64;
    (1..=count)
        .map(|number| {
            let mut client = server.connect();
            send(&mut client, "get_work", &format!("'w{number}', {options}"));
            wait_for_calls(&mut other, "get_work", before + number);
            client
        })
        .collect()
}

/// A group that is full must not keep a worker from waiting, nor wake it in vain over and over.
#[test]
fn a_worker_waits_until_a_group_may_have_another_unit() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'max_running_per_group': 1}");
    let units = ["a1", "a2", "a3"].map(|key| format!("['{key}', {{}}, {{'group': 'a'}}]"));
    client.add("ws", &units.join(", "));
    client.take_key("w", "a1");
    let mut workers = waiting(&server, 2, LONG);
    client.add("ws", "['b1', {}, {'group': 'b'}]");
    assert_eq!(key(&mut workers[0]).as_deref(), Some("b1"));
    assert!(!workers[1].has_input());
    client.updated("ws", "a1", "{'status': 4}");
    assert_eq!(key(&mut workers[1]).as_deref(), Some("a2"));
}

#[test]
fn waiting_workers_get_units_in_the_order_of_their_arrival_and_each_unit_goes_to_one() {
    let (server, mut client) = server_with_spec();
    let mut workers = waiting(&server, 4, LONG);
    client.add("ws", "['a', {}]");
    assert_eq!(key(&mut workers[0]).as_deref(), Some("a"));
    assert_eq!(client.status("ws", "a").worker.as_deref(), Some("w1"));
    client.add("ws", "['b', {}], ['c', {}]");
    assert_eq!(key(&mut workers[1]).as_deref(), Some("b"));
    assert_eq!(key(&mut workers[2]).as_deref(), Some("c"));
    assert!(!workers[3].has_input(), "there is nothing for the last one");
    // A request that comes while another one waits gets nothing before it.
    send(&mut workers[0], "get_work", &format!("'w1', {LONG}"));
    wait_for_calls(&mut client, "get_work", 5);
    client.add("ws", "['d', {}]");
    assert_eq!(key(&mut workers[3]).as_deref(), Some("d"));
    assert!(!workers[0].has_input());
}

#[test]
fn a_unit_added_in_a_list_goes_to_the_one_that_waits_and_not_to_the_request_behind_it() {
    let (server, mut client) = server_with_spec();
    let mut workers = waiting(&server, 1, LONG);
    let mut bytes = Vec::new();
    for (method, params) in [
        ("add_work_units", "'ws', [['a', {}]]"),
        ("get_work", "'late', {}"),
    ] {
        let envelope = client.envelope(method, Value::Array(diag_list(params)));
        bytes.extend(frame(&envelope));
    }
    client.send(&bytes);
    assert_eq!(key(&mut workers[0]).as_deref(), Some("a"));
    client.next_answer();
    assert_eq!(key(&mut client), None);
}

#[test]
fn one_that_asks_for_many_units_gets_those_there_are_and_the_next_waits_on() {
    let (server, mut client) = server_with_spec();
    let mut workers = waiting(&server, 2, "{'wait': 60, 'max_jobs': 3}");
    client.add("ws", "['a', {}], ['b', {}]");
    assert_eq!(value(&mut workers[0]).items().len(), 2);
    assert!(!workers[1].has_input());
    client.add(
        "ws",
        "['c', {}], ['d', {}], ['e', {}], ['f', {}], ['g', {}]",
    );
    assert_eq!(value(&mut workers[1]).items().len(), 3);
}

#[test]
fn a_request_is_not_woken_by_work_that_it_does_not_take() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'other'}");
    client.set_spec("{'name': 'exec', 'runtime': 'exec'}");
    let mut named = waiting(&server, 1, "{'wait': 60, 'work_spec_names': ['ws']}");
    let mut of_runtime = waiting(&server, 1, "{'wait': 60, 'runtimes': ['exec', 'x']}");
    let mut both =
        "{'wait': 60, 'work_spec_names': ['exec', 'later'], 'runtimes': ['']}".to_owned();
    let mut of_both = waiting(&server, 1, &both);
    client.add("other", "['a', {}]");
    assert!(!named[0].has_input() && !of_runtime[0].has_input());
    client.add("exec", "['b', {}], ['b2', {}]");
    assert_eq!(key(&mut of_runtime[0]).as_deref(), Some("b"));
    client.add("ws", "['c', {}]");
    assert_eq!(key(&mut named[0]).as_deref(), Some("c"));
    assert!(!of_both[0].has_input());
    // A work spec that is set only now.
    client.set_spec("{'name': 'later'}");
    client.add("later", "['d', {}]");
    assert_eq!(key(&mut of_both[0]).as_deref(), Some("d"));
    // One whose runtime changes.
    both = both.replace("'later'", "'none'");
    of_both = waiting(&server, 1, &both);
    client.set_spec("{'name': 'exec'}");
    assert_eq!(key(&mut of_both[0]).as_deref(), Some("b2"));
}

#[test]
fn whatever_makes_a_unit_available_wakes_who_waits_for_it() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'ws', 'max_running': 1}");
    client.add("ws", "['a', {}, {'delay': 0.2}]");
    let mut first = waiting(&server, 1, "{'wait': 60, 'lease_time': 1}");
    assert_eq!(
        key(&mut first[0]).as_deref(),
        Some("a"),
        "its delay is over"
    );
    let mut next = waiting(&server, 1, "{'wait': 60}");
    assert_eq!(key(&mut next[0]).as_deref(), Some("a"), "its lease is over");
    next = waiting(&server, 1, LONG);
    client.updated("ws", "a", "{'lease_time': -1}");
    assert_eq!(key(&mut next[0]).as_deref(), Some("a"), "it was given back");
    next = waiting(&server, 1, LONG);
    client.updated("ws", "a", "{'status': 5}");
    client.updated("ws", "a", "{'status': 1}");
    assert_eq!(key(&mut next[0]).as_deref(), Some("a"), "it is retried");
    client.add("ws", "['b', {}], ['c', {}]");
    next = waiting(&server, 1, LONG);
    assert!(!next[0].has_input(), "one may run");
    client.updated("ws", "a", "{'status': 4}");
    assert_eq!(key(&mut next[0]).as_deref(), Some("b"), "it may run now");
    next = waiting(&server, 1, LONG);
    client.set_spec("{'name': 'ws', 'max_running': 2}");
    assert_eq!(key(&mut next[0]).as_deref(), Some("c"), "two may run");
    client.done("control_work_spec", "'ws', {'status': 2}");
    client.add("ws", "['d', {}]");
    client.updated("ws", "b", "{'status': 4}");
    next = waiting(&server, 1, LONG);
    client.done("control_work_spec", "'ws', {'weight': 7}");
    assert!(!next[0].has_input(), "it is paused");
    client.done("control_work_spec", "'ws', {'status': 1}");
    assert_eq!(key(&mut next[0]).as_deref(), Some("d"), "it is resumed");
    client.updated("ws", "c", "{'status': 4}");
    client.done("control_work_spec", "'ws', {'weight': 0}");
    client.add("ws", "['e', {}]");
    next = waiting(&server, 1, LONG);
    client.done("control_work_spec", "'ws', {'weight': 1}");
    assert_eq!(key(&mut next[0]).as_deref(), Some("e"), "it has a weight");
}

#[test]
fn a_continuous_unit_is_made_for_one_that_waits_when_it_is_due() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'continuous': true, 'interval': 0.3}");
    let begin = Instant::now();
    let first = client.take("w").expect("a unit");
    let mut workers = waiting(&server, 2, LONG);
    client.updated("ws", &first.key.name().expect("a name"), "{'status': 4}");
    assert!(key(&mut workers[0]).is_some());
    assert!(begin.elapsed() >= Duration::from_millis(290));
    assert!(!workers[1].has_input(), "one is pending");
}

#[test]
fn the_answer_is_empty_at_the_end_of_the_wait() {
    let (server, mut client) = server_with_spec();
    let begin = Instant::now();
    assert_eq!(client.take_with("w", "{'wait': 0.3}"), None);
    assert_eq!(client.take_many("w", "{'wait': 0.1, 'max_jobs': 2}"), []);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
    // It does not take what comes later.
    client.add("ws", "['a', {}]");
    assert_eq!(client.take("x").map(|work| work.key), Some(diag("'a'")));
    drop(server);
}

#[test]
fn a_wait_that_is_no_number_of_seconds_up_to_a_minute_is_refused() {
    let (_server, mut client) = server_with_spec();
    for (wait, problem) in [
        (
            "61",
            "option wait: expected a number of seconds from 0 to 60, got 61",
        ),
        (
            "-1",
            "option wait: expected a number of seconds from 0 to 60, got -1",
        ),
        (
            "'soon'",
            "option wait: expected a number, got a byte string",
        ),
    ] {
        let options = format!("{{'wait': {wait}}}");
        let refused = client.refused("get_work", &format!("'w', {options}"));
        assert_eq!(refused, format!("get_work: {problem}"));
        let refused = client.refused("get_work_unit_status", &format!("'ws', ['a'], {options}"));
        assert_eq!(refused, format!("get_work_unit_status: {problem}"));
    }
    for wait in ["0", "null", "0.0"] {
        assert_eq!(client.take_with("w", &format!("{{'wait': {wait}}}")), None);
    }
}

#[test]
fn a_list_of_requests_can_not_wait() {
    let (_server, mut client) = server_with_spec();
    let wait = client.envelope("get_work", Value::Array(diag_list(&format!("'w', {LONG}"))));
    let now = client.envelope("get_work", Value::Array(diag_list("'w', {'wait': 0}")));
    let answer = client.exchange(&Value::Array(vec![wait, now]));
    let Reply::Error(message) = reply(answer.item(0)) else {
        panic!("{answer}")
    };
    assert!(
        message.contains("option wait: a list of requests can't wait"),
        "{message}"
    );
    assert!(matches!(reply(answer.item(1)), Reply::Result(_)));
}

#[test]
fn requests_behind_one_that_waits_keep_their_order() {
    let (server, mut client) = server_with_spec();
    let mut worker = waiting(&server, 1, LONG).remove(0);
    send(&mut worker, "count_work_units", "'ws'");
    send(&mut worker, "get_work", &format!("'w', {LONG}"));
    client.call("now", "");
    assert!(!worker.has_input());
    client.add("ws", "['a', {}]");
    assert_eq!(key(&mut worker).as_deref(), Some("a"));
    assert_eq!(value(&mut worker), diag("{3: 1}"));
    client.add("ws", "['b', {}]");
    assert_eq!(key(&mut worker).as_deref(), Some("b"));
}

#[test]
fn a_closed_connection_waits_no_more() {
    let (server, mut client) = server_with_spec();
    let mut workers = waiting(&server, 3, LONG);
    drop(workers.remove(0));
    client.call("now", "");
    // One that sends no more gets its answer, so that it knows what it was given.
    workers[0].end_sending();
    assert_eq!(key(&mut workers[0]), None);
    assert_eq!(workers[0].answers_until_closed(), []);
    // The end of the first connection came before that of the second one, and a unit goes to the third.
    client.add("ws", "['a', {}]");
    assert_eq!(key(&mut workers[1]).as_deref(), Some("a"));
    assert_eq!(client.status("ws", "a").worker.as_deref(), Some("w3"));
}

#[test]
fn a_daemon_that_stops_answers_who_waits_at_once() {
    let (mut server, mut client) = server_with_spec();
    client.add("ws", "['held', {}]");
    client.take_key("w", "held");
    let mut workers = waiting(&server, 2, LONG);
    let mut watcher = server.connect();
    send(
        &mut watcher,
        "get_work_unit_status",
        &format!("'ws', ['held'], {LONG}"),
    );
    wait_for_calls(&mut client, "get_work_unit_status", 1);
    let begin = Instant::now();
    server.stop();
    assert!(begin.elapsed() < Duration::from_secs(10), "it waited");
    for worker in &mut workers {
        assert_eq!(key(worker), None);
    }
    assert_eq!(
        *value(&mut watcher).item(0).at("status"),
        Value::Unsigned(PENDING)
    );
}

#[test]
fn the_status_is_answered_when_one_of_the_units_is_completed_or_deleted() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    let mut calls = 0;
    let mut watch = |client: &mut Client, keys: &str| {
        let mut watcher = server.connect();
        let params = format!("'ws', [{keys}], {LONG}");
        send(&mut watcher, "get_work_unit_status", &params);
        calls += 1;
        wait_for_calls(client, "get_work_unit_status", calls);
        watcher
    };
    let statuses = |watcher: &mut Client| -> Vec<Option<u64>> {
        let value = value(watcher);
        let status = |item: &Value| match item {
            Value::Null => None,
            status => Some(status.at("status").number()? as u64),
        };
        value.items().iter().map(status).collect()
    };
    let mut first = watch(&mut client, "'a', 'b'");
    let mut second = watch(&mut client, "'b', 'c'");
    client.take_key("w", "a");
    assert!(!first.has_input(), "it is not completed yet");
    client.updated("ws", "a", "{'status': 5}");
    assert_eq!(statuses(&mut first), [Some(FAILED), Some(1)]);
    assert!(!second.has_input(), "it asked for others");
    client.value("del_work_units", "'ws', {'work_unit_keys': ['c']}");
    assert_eq!(statuses(&mut second), [Some(1), None]);
    // At once, if there is nothing to wait for.
    for keys in ["'a', 'b'", "'b', 'none'", ""] {
        statuses(&mut watch(&mut client, keys));
    }
    let mut third = watch(&mut client, "'b'");
    client.updated("ws", "b", "{'status': 4}");
    assert_eq!(statuses(&mut third), [Some(FINISHED)]);
    client.add("ws", "['d', {}]");
    let mut of_all = watch(&mut client, "'d'");
    client.value("del_work_units", "'ws', {'all': true}");
    assert_eq!(statuses(&mut of_all), [None]);
    client.add("ws", "['e', {}]");
    let mut of_spec = watch(&mut client, "'e'");
    client.done("del_work_spec", "'ws'");
    let Reply::Result(result) = reply(&of_spec.next_answer()) else {
        panic!("an error")
    };
    assert_eq!(into_pair(result).0, Value::Null, "the work spec is gone");
}

#[test]
fn the_status_of_very_many_units_can_not_be_waited_for() {
    let (_server, mut client) = server_with_spec();
    let keys = |count: usize| vec!["'k'"; count].join(", ");
    let params = |count| format!("'ws', [{}], {LONG}", keys(count));
    let refused = client.refused("get_work_unit_status", &params(251));
    assert_eq!(
        refused,
        "get_work_unit_status: parameter work_unit_keys: more than 250 items; name fewer units, or leave out the \
         option wait"
    );
    assert_eq!(
        client
            .value("get_work_unit_status", &params(250))
            .items()
            .len(),
        250
    );
}

#[test]
fn work_is_said_to_be_asked_for_while_a_request_waits() {
    let (server, mut client) = server_with_spec();
    let _worker = waiting(&server, 1, "{'wait': 60, 'work_spec_names': ['other']}");
    client.add("ws", "['a', {}]");
    let reasons = client.value("explain_work", "'ws', 'a'").to_string();
    assert!(!reasons.contains("no_worker"), "{reasons}");
}
