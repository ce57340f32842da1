//! Continuous specs: units that are made when somebody asks for work.

use std::collections::BTreeSet;
use test_support::{Client, FINISHED, PENDING, Server, Value, diag, wait_until};

fn start(definition: &str) -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec(definition);
    (server, client)
}

#[test]
fn a_continuous_spec_makes_a_unit_whose_key_is_the_time() {
    let (_server, mut client) = start("{'name': 'ws', 'continuous': true}");
    let work = client.take("w").expect("a unit");
    let Value::Bytes(key) = &work.key else {
        panic!("{}", work.key)
    };
    let key = String::from_utf8(key.clone()).expect("text");
    let (whole, fraction) = key.split_once('.').expect("a point");
    assert!(
        [whole, fraction]
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())),
        "{key}"
    );
    let now = super::get_work::clock();
    assert!(
        (now - key.parse::<f64>().unwrap()).abs() < 60.0,
        "{key}, not {now}"
    );
    assert_eq!(work.data, diag("{}"));
    assert_eq!(client.state("ws", &key), PENDING);
    client.updated("ws", &key, "{'status': 4, 'data': {'x': 1}}");
    assert_eq!(client.state("ws", &key), FINISHED);
}

#[test]
fn one_unit_is_made_for_each_call_whatever_it_asks_for() {
    let (_server, mut client) = start("{'name': 'ws', 'continuous': true}");
    assert_eq!(client.take_many("w", "{'max_jobs': 5}").len(), 1);
}

#[test]
fn none_is_made_while_the_spec_has_a_pending_unit() {
    let (_server, mut client) = start("{'name': 'ws', 'continuous': true}");
    let key = client.take("w1").expect("a unit").key.name().unwrap();
    assert_eq!(client.take("w2"), None);
    client.updated("ws", &key, "{'status': 5}");
    assert!(client.take("w2").is_some());
}

#[test]
fn units_made_in_quick_succession_have_different_keys() {
    let (_server, mut client) = start("{'name': 'ws', 'continuous': true}");
    let mut keys = BTreeSet::new();
    for _ in 0..50 {
        let key = client.take("w").expect("a unit").key.name().unwrap();
        client.updated("ws", &key, "{'status': 4}");
        assert!(keys.insert(key));
    }
    assert_eq!(client.counts("ws"), [(FINISHED, 50)].into());
}

#[test]
fn units_that_were_added_go_first() {
    let (_server, mut client) = start("{'name': 'ws', 'continuous': true}");
    client.add("ws", "['real', {'x': 1}, null, -7]");
    client.take_key("w", "real");
    client.updated("ws", "real", "{'status': 4}");
    assert!(client.take("w").is_some());
}

#[test]
fn the_next_one_is_made_after_the_interval() {
    let (_server, mut client) = start("{'name': 'ws', 'continuous': true, 'interval': 1000}");
    let key = client.take("w").expect("a unit").key.name().unwrap();
    client.updated("ws", &key, "{'status': 4}");
    assert_eq!(client.take("w"), None);
    // The interval runs from when the unit was made; a new definition keeps that time.
    client.set_spec("{'name': 'ws', 'continuous': true, 'interval': 1000, 'desc': 'again'}");
    assert_eq!(client.take("w"), None);
    client.add("ws", "['real', {}]");
    client.take_key("w", "real");
}

#[test]
fn an_interval_may_be_a_fraction_of_a_second() {
    let (_server, mut client) = start("{'name': 'ws', 'continuous': true, 'interval': 0.3}");
    let first = client.take("w").expect("a unit").key.name().unwrap();
    client.updated("ws", &first, "{'status': 4}");
    let mut second = None;
    wait_until("the interval has passed", || {
        second = client.take("w");
        second.is_some()
    });
    let second = second.expect("a unit").key.name().unwrap();
    assert!(
        second.parse::<f64>().unwrap() - first.parse::<f64>().unwrap() >= 0.29,
        "{first}, {second}"
    );
}

#[test]
fn a_spec_that_is_paused_or_was_told_to_stop_makes_none() {
    let (_server, mut client) = start("{'name': 'ws', 'continuous': true, 'disabled': true}");
    assert_eq!(client.take("w"), None);
    client.done(
        "control_work_spec",
        "'ws', {'status': 1, 'continuous': false}",
    );
    assert_eq!(client.take("w"), None);
    client.done("control_work_spec", "'ws', {'continuous': true}");
    assert!(client.take("w").is_some());
}

#[test]
fn a_continuous_spec_that_is_not_wanted_makes_none() {
    let (_server, mut client) = start("{'name': 'ws', 'continuous': true}");
    assert_eq!(
        client.take_with("w", "{'work_spec_names': ['other']}"),
        None
    );
    assert_eq!(client.counts("ws"), [].into());
    assert!(
        client
            .take_with("w", "{'work_spec_names': ['ws']}")
            .is_some()
    );
}

#[test]
fn the_interval_goes_on_over_a_restart() {
    let (mut server, mut client) = start("{'name': 'ws', 'continuous': true, 'interval': 1000}");
    let key = client.take("w").expect("a unit").key.name().unwrap();
    client.updated("ws", &key, "{'status': 4}");
    server.restart();
    assert_eq!(server.connect().take("w"), None);
    server.kill();
    server.start_again();
    assert_eq!(server.connect().take("w"), None);
}
