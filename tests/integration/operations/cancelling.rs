//! Units that are cancelled.

use super::get_work::clock;
use test_support::{AVAILABLE, Client, FAILED, FINISHED, PENDING, Server, Value, diag, wait_until};

/// A daemon with the units `u` and `v` of `ws`, which retries failures.
fn server_with_units() -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'retries': 5, 'retry_delay': 1000}");
    client.add("ws", "['u', {'n': 1}], ['v', {}]");
    (server, client)
}

/// Cancels units; gives how many failed at once, and how many run.
fn cancel(client: &mut Client, options: &str) -> (f64, f64) {
    let counts = client.value("cancel_work_units", &format!("'ws', {{{options}}}"));
    let count = |key: &str| counts.at(key).number().expect("a count");
    (count("failed"), count("running"))
}

/// What `get_work_unit_status` tells of a unit.
fn unit(client: &mut Client, key: &str) -> Value {
    let answer = client.value("get_work_unit_status", &format!("'ws', ['{key}']"));
    answer.item(0).clone()
}

fn traceback(client: &mut Client, key: &str) -> Option<String> {
    unit(client, key).get("traceback").and_then(Value::name)
}

#[test]
fn a_unit_that_waits_fails_at_once_with_the_reason_and_is_not_tried_again() {
    let (_server, mut client) = server_with_units();
    client.add("ws", "['later', {}, {'delay': 1000}]");
    let how = "'all': true, 'reason': \"wrong\\ninput\", 'by': 'me@host'";
    assert_eq!(cancel(&mut client, how), (3.0, 0.0));
    for key in ["u", "v", "later"] {
        assert_eq!(client.state("ws", key), FAILED, "{key}");
        let message = traceback(&mut client, key);
        assert_eq!(message.as_deref(), Some("cancelled: wrong input"), "{key}");
    }
    let shown = unit(&mut client, "u");
    let cancelled = shown.at("cancelled");
    assert_eq!(
        cancelled.at("reason").name().as_deref(),
        Some("wrong\ninput")
    );
    assert_eq!(cancelled.at("by").name().as_deref(), Some("me@host"));
    let ago = clock() - cancelled.at("at").number().expect("a time");
    assert!((-1.0..60.0).contains(&ago), "{ago}");
    assert!(shown.get("failures").is_none(), "{shown}");
    assert_eq!(client.take("w"), None);
    let failures = client.value("list_failures", "'ws', {}");
    assert_eq!(failures.item(0).at("count").number(), Some(3.0));
    // Its own data are there when it is retried, and the cancellation is not.
    client.updated("ws", "u", "{'status': 1}");
    assert_eq!(client.data("ws", "u"), diag("{'n': 1}"));
    assert!(unit(&mut client, "u").get("cancelled").is_none());
    client.add("ws", "['v', {}]");
    assert!(unit(&mut client, "v").get("cancelled").is_none());
    client.take_key("w", "u");
    client.updated("ws", "u", "{'status': 5}");
    assert!(unit(&mut client, "u").get("retry_at").is_some());
}

#[test]
fn units_are_cancelled_by_name_and_status_and_others_stay_as_they_are() {
    let (_server, mut client) = server_with_units();
    client.add("ws", "['done', {}], ['broken', {}]");
    client.updated("ws", "done", "{'status': 4}");
    client.updated("ws", "broken", "{'status': 5, 'final': true}");
    client.updated("ws", "v", "{'status': 3}");
    let named = "'work_unit_keys': ['u', 'v', 'done', 'broken', 'none', 'u']";
    assert_eq!(
        cancel(&mut client, &format!("{named}, 'state': [4, 5]")),
        (0.0, 0.0)
    );
    assert_eq!(
        cancel(&mut client, &format!("{named}, 'state': 3")),
        (0.0, 1.0)
    );
    assert_eq!(cancel(&mut client, "'state': 3, 'grace': 0"), (1.0, 0.0));
    assert_eq!(cancel(&mut client, named), (1.0, 0.0));
    assert_eq!(cancel(&mut client, named), (0.0, 0.0));
    assert_eq!(client.state("ws", "done"), FINISHED);
    assert_eq!(traceback(&mut client, "v").as_deref(), Some("cancelled"));
    assert!(unit(&mut client, "broken").get("cancelled").is_none());
}

#[test]
fn what_can_not_be_cancelled_is_refused_with_what_is_allowed() {
    let (_server, mut client) = server_with_units();
    let (_, message) = client.denied("cancel_work_units", "'none', {'all': true}");
    assert_eq!(message, "no such work spec \"none\"");
    let (_, message) = client.denied("cancel_work_units", "'ws', {'reason': 'x'}");
    assert!(
        message.contains("work_unit_keys, state or all"),
        "{message}"
    );
    let long = "x".repeat(1_025);
    for (options, problem) in [
        (
            "'grace': -1".to_owned(),
            "option grace: expected a number of seconds from 0 to 86400",
        ),
        ("'grace': 86401".to_owned(), "option grace: "),
        ("'grace': 'soon'".to_owned(), "option grace: "),
        (format!("'reason': '{long}'"), "option reason: "),
        (format!("'by': '{long}'"), "option by: "),
        (
            "'reason': h'ff'".to_owned(),
            "option reason: expected a text in UTF-8",
        ),
        (
            "'work_unit_keys': [1]".to_owned(),
            "item 0: expected a string",
        ),
    ] {
        let options = match options.contains("keys") {
            true => options,
            false => format!("'all': true, {options}"),
        };
        let message = client.refused("cancel_work_units", &format!("'ws', {{{options}}}"));
        assert!(message.contains(problem), "{message}");
    }
    assert_eq!(client.counts("ws")[&AVAILABLE], 2);
}

#[test]
fn many_units_are_cancelled_in_steps() {
    let (_server, mut client) = server_with_units();
    let units: Vec<String> = (0..450).map(|n| format!("['n{n:03}', {{}}]")).collect();
    client.add("ws", &units.join(", "));
    let keys: Vec<String> = (0..250).map(|n| format!("'n{n:03}'")).collect();
    let named = format!("'work_unit_keys': [{}]", keys.join(", "));
    assert_eq!(cancel(&mut client, &named), (250.0, 0.0));
    client.take_many("w", "{'max_jobs': 150}");
    assert_eq!(cancel(&mut client, "'state': 1"), (52.0, 0.0));
    assert_eq!(cancel(&mut client, "'all': true"), (0.0, 150.0));
}

#[test]
fn the_lease_of_a_running_unit_is_taken_after_the_grace_and_those_who_wait_for_it_are_told() {
    let (server, mut client) = server_with_units();
    client.set_spec("{'name': 'ws', 'max_lost': 5}");
    client.take_key("w", "u");
    assert_eq!(cancel(&mut client, "'all': true, 'grace': 0.3"), (1.0, 1.0));
    let mut waiting = server.connect();
    let told = waiting.value("get_work_unit_status", "'ws', ['u'], {'wait': 30}");
    assert_eq!(told.item(0).at("status").number(), Some(5.0), "{told}");
    assert_eq!(traceback(&mut client, "u").as_deref(), Some("cancelled"));
    assert!(unit(&mut client, "u").get("lost").is_none());
    let attempts = client.value("get_attempts", "'ws', 'u', {}");
    assert_eq!(
        attempts.item(0).at("worker_id").name().as_deref(),
        Some("w")
    );
    assert_eq!(attempts.item(0).at("status").number(), Some(5.0));
}

#[test]
fn a_long_lease_ends_with_the_grace_and_a_second_cancellation_can_only_shorten_it() {
    let (_server, mut client) = server_with_units();
    client.take_with("w", "{'lease_time': 3600}");
    let mut left = |options: &str| {
        cancel(&mut client, options);
        let shown = unit(&mut client, "u");
        assert_eq!(
            shown.at("cancelled").at("reason").name().as_deref(),
            Some("first")
        );
        shown.at("expiration").number().expect("a time") - clock()
    };
    let named = "'work_unit_keys': ['u']";
    assert!((20.0..31.0).contains(&left(&format!("{named}, 'reason': 'first'"))));
    assert!(left(&format!("{named}, 'reason': 'second', 'grace': 900")) < 31.0);
    assert!(left(&format!("{named}, 'grace': 10")) < 11.0);
}

#[test]
fn a_cancellation_is_explained() {
    let (_server, mut client) = server_with_units();
    client.take_key("w", "u");
    cancel(
        &mut client,
        "'all': true, 'reason': 'no more', 'by': 'me@host'",
    );
    let mut why = |key: &str| {
        let reasons = client.value("explain_work", &format!("'ws', '{key}'"));
        assert_eq!(reasons.items().len(), 1, "{reasons}");
        let field = |field: &str| reasons.item(0).at(field).name().expect("a text");
        (field("code"), field("text"))
    };
    let (code, text) = why("v");
    assert_eq!(code, "failed");
    assert!(
        text.contains("ago by me@host: no more; nobody gets it"),
        "{text}"
    );
    let (code, text) = why("u");
    assert_eq!(code, "running");
    assert!(
        text.contains("; worker \"w\" still has it, and loses"),
        "{text}"
    );
}

#[test]
fn cancellations_survive_a_restart_and_go_with_their_units() {
    let (mut server, mut client) = server_with_units();
    client.add("ws", "['w', {}], ['x', {}]");
    client.take_key("w", "u");
    assert_eq!(
        cancel(&mut client, "'all': true, 'reason': 'why'"),
        (3.0, 1.0)
    );
    server.restart();
    let mut client = server.connect();
    let renewal = "{'lease_time': 60, 'worker_id': 'w'}";
    assert_eq!(client.not_updated("ws", "u", renewal), "cancelled: why");
    let rows = |server: &Server| -> i64 {
        let file = rusqlite::Connection::open(server.db()).expect("open");
        let sql = "SELECT count(*) FROM cancellation";
        file.query_row(sql, [], |row| row.get(0)).expect("a count")
    };
    assert_eq!(rows(&server), 4);
    client.value("del_work_units", "'ws', {'work_unit_keys': ['v']}");
    client.value("del_work_units", "'ws', {'state': 5}");
    assert_eq!(rows(&server), 1);
    client.value("del_work_units", "'ws', {'all': true}");
    wait_until("it is removed", || rows(&server) == 0);
    // An archived unit leaves nothing behind either.
    assert_eq!(server.stop().code, Some(0));
    server.start_again_with(&["--limit-completed-count", "0"]);
    let mut client = server.connect();
    client.add("ws", "['u', {}]");
    cancel(&mut client, "'all': true");
    client.call("archive", "");
    assert_eq!(client.counts("ws")[&FAILED], 1);
    assert_eq!(rows(&server), 0);
}

#[test]
fn a_cancelled_unit_that_finishes_in_time_adds_what_its_output_names() {
    let (_server, mut client) = server_with_units();
    client.set_spec("{'name': 'ws', 'then': 'next'}");
    client.set_spec("{'name': 'next'}");
    client.take_key("w", "u");
    cancel(&mut client, "'work_unit_keys': ['u']");
    client.updated("ws", "u", "{'status': 4, 'data': {'output': ['made']}}");
    assert_eq!(client.state("next", "made"), AVAILABLE);
    assert!(unit(&mut client, "u").get("cancelled").is_none());
    assert_eq!(client.state("ws", "v"), AVAILABLE);
    assert_eq!(client.counts("ws").get(&PENDING), None);
}
