//! Handing out work: leases, order, and the choice among specs.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};
use test_support::{
    AVAILABLE, Client, FAILED, PENDING, Reply, Server, Value, diag, server_with_spec, wait_until,
};

pub(crate) fn clock() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time after 1970")
        .as_secs_f64()
}

/// Adds `count` units under a spec: its name with a number behind it.
fn fill(client: &mut Client, spec: &str, count: usize) {
    let items: Vec<String> = (0..count)
        .map(|i| format!("['{spec}{i:03}', {{}}]"))
        .collect();
    client.add(spec, &items.join(", "));
}

#[test]
fn without_work_there_are_three_nulls_or_an_empty_list() {
    let (_server, mut client) = server_with_spec();
    let nulls = diag("[128([null, null, null]), null]");
    for options in [
        "{}",
        "{'max_jobs': 1}",
        "{'max_jobs': null}",
        "{'work_spec_names': ['nope']}",
    ] {
        assert_eq!(
            client.call("get_work", &format!("'w', {options}")),
            nulls,
            "{options}"
        );
    }
    assert_eq!(
        client.call("get_work", "'w', {'max_jobs': 5}"),
        diag("[[], null]")
    );
}

#[test]
fn a_unit_is_handed_out_once_to_a_worker_that_nobody_knows() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {'x': 1}]");
    let work = client.take("never seen before").expect("a unit");
    assert_eq!(
        (work.spec.as_str(), &work.key, &work.data),
        ("ws", &diag("'a'"), &diag("{'x': 1}"))
    );
    let status = client.status("ws", "a");
    assert_eq!(
        (status.status, status.worker.as_deref()),
        (PENDING, Some("never seen before"))
    );
    assert_eq!(client.take("another"), None);
    assert_eq!(client.take("never seen before"), None);
    assert_eq!(
        client.value("list_worker_modes", ""),
        diag("{}"),
        "it is not registered by that"
    );
}

#[test]
fn a_worker_may_hold_several_units() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    client.take_key("w", "a");
    client.take_key("w", "b");
    assert_eq!(client.take_many("w", "{'max_jobs': 2}").len(), 1);
}

#[test]
fn several_units_come_in_a_list_of_tuples_as_far_as_there_are_any() {
    let (_server, mut client) = server_with_spec();
    fill(&mut client, "ws", 7);
    let mut take = |options| {
        client
            .take_many("w", options)
            .into_iter()
            .map(|work| work.key.name().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        take("{'max_jobs': 5}"),
        ["ws000", "ws001", "ws002", "ws003", "ws004"]
    );
    assert_eq!(
        take("{'max_jobs': 5, 'lease_time': 60}"),
        ["ws005", "ws006"]
    );
    assert_eq!(take("{'max_jobs': 5}"), [""; 0]);
}

#[test]
fn the_attempt_at_each_unit_is_told_to_those_who_ask_for_it() {
    let (_server, mut client) = server_with_spec();
    let mut take = |options: &str| {
        client.add("ws", "['a', {}], ['b', {'n': 1}]");
        client.value(
            "get_work",
            &format!("'w', {{'work_spec_names': ['ws'], {options}}}"),
        )
    };
    let before = clock();
    let one = take("'attempts': true, 'lease_time': 60");
    assert_eq!(one.items().len(), 4, "{one}");
    let attempt = one.item(3);
    assert_eq!(attempt.at("number"), &Value::Unsigned(1), "{one}");
    let left = attempt.at("expires").number().expect("a time") - before;
    assert!((60.0..65.0).contains(&left), "{left} s");
    let id = |unit: &Value| unit.item(3).at("attempt").number().expect("an id");
    let first = id(&one);
    let many = take("'attempts': 1, 'max_jobs': 5, 'lease_time': 100000");
    let [a, b] = many.items() else {
        panic!("{many}")
    };
    assert!(first < id(a) && id(a) < id(b), "{many}");
    let numbers = [a, b].map(|unit| unit.item(3).at("number").clone());
    assert_eq!(numbers, [2, 1].map(Value::Unsigned), "{many}");
    let left = b.item(3).at("expires").number().expect("a time") - before;
    assert!(
        (300.0..305.0).contains(&left),
        "the default lease: {left} s"
    );
    // Those who don't ask get what they always got.
    for options in ["", "'attempts': false", "'attempts': null", "'attempts': 0"] {
        assert_eq!(take(options), diag("128(['ws', 'a', {}])"), "{options}");
    }
    client.value("del_work_units", "'ws', {'all': true}");
    let nothing = [
        ("{'attempts': true}", "128([null, null, null, null])"),
        ("{'attempts': true, 'max_jobs': 2}", "[]"),
        ("{}", "128([null, null, null])"),
    ];
    for (options, answer) in nothing {
        let found = client.value("get_work", &format!("'w', {options}"));
        assert_eq!(found, diag(answer), "{options}");
    }
}

#[test]
fn one_call_gives_no_more_than_the_daemons_limit() {
    let server = Server::start_with(&["--max-jobs", "3"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    fill(&mut client, "ws", 5);
    assert_eq!(client.take_many("w", "{'max_jobs': 1000000}").len(), 3);
    assert_eq!(client.take_many("w", "{'max_jobs': 4}").len(), 2);
}

#[test]
fn units_go_by_priority_and_then_by_the_bytes_of_their_keys() {
    let (_server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['b', {}], [\"a\", {}], ['c', {}, null, 2.5], ['d', {}, null, 2], ['B', {}], [h'ff', {}]",
    );
    client.add("ws", "['', {}], ['low', {}, null, -5], [\"\u{2603}\", {}], [h'c3', {}], ['ab', {}], ['top', {}, null, 3]");
    let expected = [
        "'top'",
        "'c'",
        "'d'",
        "''",
        "'B'",
        "\"a\"",
        "'ab'",
        "'b'",
        "h'c3'",
        "\"\u{2603}\"",
        "h'ff'",
        "'low'",
    ];
    for key in expected {
        assert_eq!(client.take("w").map(|work| work.key), Some(diag(key)));
    }
}

#[test]
fn units_of_negative_priority_are_handed_out_too() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}, {'priority': -5}]");
    client.take_key("w", "a");
    client.updated("ws", "a", "{'lease_time': -1}");
    client.take_key("w", "a");
}

// --- leases ---

#[test]
fn a_lease_lasts_as_long_as_asked_within_the_bounds() {
    let rows = [
        ("{}", 300.0),
        ("{'lease_time': null}", 300.0),
        ("{'lease_time': 50}", 50.0),
        ("{\"lease_time\": 50.5}", 50.5),
        ("{'lease_time': 1}", 1.0),
        ("{'lease_time': 0.5}", 300.0),
        ("{'lease_time': 0}", 300.0),
        ("{'lease_time': -5}", 300.0),
        ("{'lease_time': 86400}", 86400.0),
        ("{'lease_time': 86400.5}", 300.0),
        ("{'lease_time': 86401}", 300.0),
        ("{'lease_time': 18446744073709551615}", 300.0),
        ("{'lease_time': 1e300}", 300.0),
        ("{'lease_time': -1e300}", 300.0),
    ];
    let (_server, mut client) = server_with_spec();
    for (options, seconds) in rows {
        client.add("ws", "['a', {}]");
        let before = clock();
        client.take_with("w", options).expect("a unit");
        let expiration = client.status("ws", "a").expiration.expect("a lease");
        assert!(
            (before + seconds - 2.0..=clock() + seconds + 2.0).contains(&expiration),
            "{options}: {expiration} at {before}"
        );
    }
}

#[test]
fn who_asks_for_no_unit_or_less_gets_one_in_the_form_for_one() {
    let (_server, mut client) = server_with_spec();
    for max_jobs in ["0", "-1", "-9223372036854775808", "0.9", "false", "'0'"] {
        let ask = format!("'w', {{'max_jobs': {max_jobs}}}");
        let nulls = diag("[128([null, null, null]), null]");
        assert_eq!(client.call("get_work", &ask), nulls, "{max_jobs}");
        client.add("ws", "['a', {}], ['b', {}]");
        let one = diag("[128(['ws', 'a', {}]), null]");
        assert_eq!(client.call("get_work", &ask), one, "{max_jobs}");
        client.value("del_work_units", "'ws', {'all': true}");
    }
}

#[test]
fn one_call_gives_units_until_they_have_16_mib_of_data() {
    let (_server, mut client) = server_with_spec();
    let data = "x".repeat(1 << 20);
    for half in 0..2 {
        let units = (0..10).map(|n| format!("['{half}{n}', {{'data': '{data}'}}]"));
        client.add("ws", &units.collect::<Vec<_>>().join(", "));
    }
    let given = client.take_many("w", "{'max_jobs': 100}").len() as u64;
    assert!((16..=17).contains(&given), "{given} units of 1 MiB");
    let left = 20 - given;
    assert_eq!(
        client.counts("ws"),
        [(AVAILABLE, left), (PENDING, given)].into()
    );
    let rest = client.take_many("w", "{'max_jobs': 100}");
    assert_eq!(rest.len() as u64, left);
    // One alone may have more.
    client.add(
        "ws",
        &format!("['large', {{'data': '{}'}}]", data.repeat(17)),
    );
    client.take_key("w", "large");
}

/// Adds delayed units: more than one look of get_work for the next unit passes.
fn add_many_delayed(client: &mut Client) {
    for thousand in 0..6 {
        let units = (0..1_000).map(|n| format!("['d{thousand}{n:03}', {{}}, {{'delay': 1000}}]"));
        client.add("ws", &units.collect::<Vec<_>>().join(", "));
    }
}

#[test]
fn a_unit_behind_very_many_that_are_not_available_is_found_by_one_call() {
    for in_a_list in [false, true] {
        let (_server, mut client) = server_with_spec();
        add_many_delayed(&mut client);
        client.add("ws", "['z', {'n': 1}]");
        let call = client.envelope("get_work", diag("['w', {'max_jobs': 2}]"));
        let answer = if in_a_list {
            let answers = client.exchange(&Value::Array(vec![call.clone(), call]));
            assert_eq!(answers.item(1).at("result"), &diag("[[], null]"));
            answers.item(0).clone()
        } else {
            client.exchange(&call)
        };
        let one = diag("[[128(['ws', 'z', {'n': 1}])], null]");
        assert_eq!(answer.at("result"), &one, "in a list: {in_a_list}");
        assert_eq!(client.state("ws", "z"), PENDING);
    }
}

#[test]
fn what_a_call_has_found_before_very_many_that_are_not_available_is_given_at_once() {
    let (server, mut client) = server_with_spec();
    add_many_delayed(&mut client);
    client.add("ws", "['a', {}], ['z', {}]");
    let given = client.take_many("w", "{'max_jobs': 2}");
    assert_eq!(given.len(), 1);
    assert_eq!(given[0].key, diag("'a'"));
    assert_eq!(client.state("ws", "z"), AVAILABLE);
    assert_eq!(server.connect().take_key("w", "z").spec, "ws");
}

#[test]
fn a_lease_that_has_passed_frees_the_unit_everywhere() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {'n': 1}]");
    client
        .take_with("w1", "{'lease_time': 1.2}")
        .expect("a unit");
    assert_eq!(client.counts("ws"), [(PENDING, 1)].into());
    wait_until("the lease has passed", || {
        client.counts("ws") == [(AVAILABLE, 1)].into()
    });
    let status = client.status("ws", "a");
    assert_eq!(
        (status.status, status.expiration, status.worker),
        (AVAILABLE, None, None)
    );
    assert_eq!(client.keys("ws", "{'state': 1}"), ["a"]);
    assert_eq!(client.keys("ws", "{'state': 3}"), [""; 0]);
    assert_eq!(client.take_key("w2", "a").data, diag("{'n': 1}"));
}

#[test]
fn no_call_sees_a_lease_that_has_passed() {
    // Each asks first, in its own way, after the end of a fraction of a second.
    let calls: [fn(&mut Client) -> bool; 5] = [
        |client| client.counts("ws") == [(AVAILABLE, 1)].into(),
        |client| client.state("ws", "a") == AVAILABLE,
        |client| client.keys("ws", "{'state': 1}") == ["a"],
        |client| client.take("w2").is_some(),
        |client| client.value("del_work_units", "'ws', {'state': 1}") == Value::Unsigned(1),
    ];
    let (_server, mut client) = server_with_spec();
    for call in calls {
        client.add("ws", "['a', {}]");
        client.take_key("w1", "a");
        client.updated("ws", "a", "{'lease_time': 0.15}");
        wait_until("the lease has passed", || call(&mut client));
    }
}

// --- the choice among specs ---

#[test]
fn only_the_wanted_specs_are_considered() {
    let server = Server::start();
    let mut client = server.connect();
    for spec in ["x", "y", "z"] {
        client.set_spec(&format!("{{'name': '{spec}'}}"));
        fill(&mut client, spec, 2);
    }
    let mut from = |names: &str| {
        client
            .take_with("w", &format!("{{'work_spec_names': {names}}}"))
            .map(|work| work.spec)
    };
    assert_eq!(from("['y']").as_deref(), Some("y"));
    assert_eq!(from("[\"y\", 'nope']").as_deref(), Some("y"));
    assert_eq!(from("['y']"), None);
    assert_eq!(from("['nope']"), None);
    let several: BTreeSet<_> = (0..4).map(|_| from("128(['x', 'z'])")).collect();
    assert_eq!(several, [Some("x".to_owned()), Some("z".to_owned())].into());
    assert_eq!(from("['x', 'y', 'z']"), None);
    client.add("y", "['new', {}], ['newer', {}]");
    let mut from = |names: &str| {
        client
            .take_with("w", &format!("{{'work_spec_names': {names}}}"))
            .map(|work| work.spec)
    };
    assert_eq!(from("[]").as_deref(), Some("y"), "an empty list wants all");
    assert_eq!(from("null").as_deref(), Some("y"));
}

#[test]
fn one_call_gives_units_of_one_spec_even_if_others_have_more() {
    let server = Server::start();
    let mut client = server.connect();
    for spec in ["x", "y"] {
        client.set_spec(&format!("{{'name': '{spec}'}}"));
        fill(&mut client, spec, 4);
    }
    for _ in 0..2 {
        let works = client.take_many("w", "{'max_jobs': 10}");
        assert_eq!(works.len(), 4);
        assert!(
            works.iter().all(|work| work.spec == works[0].spec),
            "{works:?}"
        );
    }
    assert_eq!(client.take_many("w", "{'max_jobs': 10}"), []);
}

#[test]
fn a_spec_of_higher_priority_goes_first_whatever_the_weights() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'low', 'weight': 1000}");
    client.set_spec("{'name': 'high', 'weight': 1, 'priority': 1}");
    client.set_spec("{'name': 'mid', 'weight': 1000, 'priority': 0.5}");
    for spec in ["low", "high", "mid"] {
        fill(&mut client, spec, 3);
        client.done(
            "prioritize_work_units",
            &format!("'{spec}', {{'work_unit_keys': ['low000'], 'priority': 99}}"),
        );
    }
    let specs: Vec<String> = (0..9)
        .map(|_| client.take("w").expect("a unit").spec)
        .collect();
    assert_eq!(
        specs,
        [
            "high", "high", "high", "mid", "mid", "mid", "low", "low", "low"
        ]
    );
}

#[test]
fn pending_units_are_shared_out_by_weight() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'a', 'weight': 10}");
    client.set_spec("{'name': 'b', 'weight': 30}");
    fill(&mut client, "a", 60);
    fill(&mut client, "b", 60);
    // A spec's score is above zero only while it has less than its share, so after every 40 the
    // shares are met, whatever chance did in between.
    for round in 1..=2 {
        for _ in 0..40 {
            client.take("w").expect("a unit");
        }
        if round == 1 {
            assert_eq!(client.counts("a"), [(AVAILABLE, 50), (PENDING, 10)].into());
            assert_eq!(client.counts("b"), [(AVAILABLE, 30), (PENDING, 30)].into());
        }
    }
    assert_eq!(client.counts("a")[&PENDING], 20);
    assert_eq!(client.counts("b"), [(PENDING, 60)].into());
}

#[test]
fn a_specs_share_follows_its_weight_as_control_changes_it() {
    let server = Server::start();
    let mut client = server.connect();
    for spec in ["a", "b"] {
        client.set_spec(&format!("{{'name': '{spec}'}}"));
        fill(&mut client, spec, 40);
    }
    client.done("control_work_spec", "'a', {'weight': 60}");
    for _ in 0..40 {
        client.take("w").expect("a unit");
    }
    assert_eq!(client.counts("a")[&PENDING], 30);
    assert_eq!(client.counts("b")[&PENDING], 10);
}

#[test]
fn a_successor_does_not_go_first() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'a', 'then': 'b', 'weight': 20}");
    client.set_spec("{'name': 'b', 'weight': 20}");
    fill(&mut client, "a", 10);
    fill(&mut client, "b", 10);
    for _ in 0..10 {
        client.take("w").expect("a unit");
    }
    assert_eq!(client.counts("a")[&PENDING], 5);
}

#[test]
fn max_running_limits_the_pending_units() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'max_running': 2}");
    fill(&mut client, "ws", 8);
    client.take_key("w1", "ws000");
    client.take_key("w2", "ws001");
    assert_eq!(client.take("w3"), None);
    assert_eq!(client.take_many("w3", "{'max_jobs': 3}"), []);
    client.updated("ws", "ws000", "{'status': 4}");
    assert_eq!(
        client.take_many("w3", "{'max_jobs': 3}").len(),
        1,
        "only what is left of the limit"
    );
    client.updated("ws", "ws001", "{'status': 5}");
    client.updated("ws", "ws002", "{'lease_time': -1}");
    assert_eq!(client.take_many("w4", "{'max_jobs': 3}").len(), 2);
    client.done("control_work_spec", "'ws', {'max_running': 3}");
    assert_eq!(client.take_many("w5", "{'max_jobs': 3}").len(), 1);
    client.done("control_work_spec", "'ws', {'max_running': null}");
    assert_eq!(client.take_many("w5", "{'max_jobs': 2}").len(), 2);
}

#[test]
fn a_limit_of_zero_is_no_limit() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'max_running': 0, 'max_getwork': 0, 'max_retries': 0}");
    fill(&mut client, "ws", 5);
    assert_eq!(client.take_many("w", "{'max_jobs': 3}").len(), 3);
    assert_eq!(client.take_many("w", "{'max_jobs': 3}").len(), 2);
}

#[test]
fn a_spec_at_its_limit_leaves_the_work_to_others() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'first', 'priority': 9, 'max_running': 1}");
    client.set_spec("{'name': 'second'}");
    fill(&mut client, "first", 2);
    fill(&mut client, "second", 2);
    let specs: Vec<Option<String>> = (0..4)
        .map(|_| client.take("w").map(|work| work.spec))
        .collect();
    assert_eq!(
        specs,
        [
            Some("first".to_owned()),
            Some("second".to_owned()),
            Some("second".to_owned()),
            None
        ]
    );
}

#[test]
fn max_getwork_limits_one_call() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'max_getwork': 2}");
    fill(&mut client, "ws", 5);
    for count in [2, 2, 1, 0] {
        assert_eq!(client.take_many("w", "{'max_jobs': 5}").len(), count);
    }
}

#[test]
fn specs_of_another_runtime_are_not_for_these_clients() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'go', 'runtime': 'go', 'priority': 9}");
    client.set_spec("{'name': 'any', 'runtime': ''}");
    client.add("go", "['g', {}]");
    client.add("any", "['a', {}]");
    client.take_key("w", "a");
    assert_eq!(client.take("w"), None);
    assert_eq!(client.take_with("w", "{'work_spec_names': ['go']}"), None);
}

#[test]
fn settings_at_the_edge_are_refused_or_work() {
    let edges = [
        "'weight': 9223372036854775807",
        "'weight': 18446744073709551616",
        "'weight': 1e300",
        "'weight': -9223372036854775808",
        "'nice': -9223372036854775808",
        "'nice': 9223372036854775807",
        "'priority': 1e300",
        "'priority': Infinity",
        "'priority': NaN",
        "'priority': -1e300",
        "'max_running': -1",
        "'max_running': 9223372036854775807",
        "'max_getwork': -1",
        "'max_getwork': 9223372036854775807",
        "'max_retries': -1",
        "'max_retries': 9223372036854775807",
        "'continuous': true, 'interval': -5",
        "'continuous': true, 'interval': 0",
        "'continuous': true, 'interval': 1e300",
        "'continuous': true, 'interval': NaN",
    ];
    for edge in edges {
        let server = Server::start_with(&["--synchronous", "off"]);
        let mut client = server.connect();
        // Two specs of the kind and an ordinary one, and all units come out.
        client.set_spec("{'name': 'plain'}");
        let mut specs = vec!["plain"];
        for spec in ["one", "two"] {
            match client.request(
                "set_work_spec",
                diag(&format!("[{{'name': '{spec}', {edge}}}]")),
            ) {
                Reply::Result(_) => specs.push(spec),
                Reply::Error(message) => assert!(!message.is_empty(), "{edge}"),
            }
        }
        for spec in &specs {
            fill(&mut client, spec, 3);
        }
        let mut keys = BTreeSet::new();
        for _ in 0..3 * specs.len() {
            let work = client
                .take("w")
                .unwrap_or_else(|| panic!("{edge}: only {keys:?}"));
            let key = work.key.name().unwrap();
            client.updated(&work.spec, &key, "{'status': 4}");
            keys.insert(key);
        }
        assert_eq!(keys.len(), 3 * specs.len(), "{edge}");
    }
}

// --- retries ---

#[test]
fn after_its_last_retry_a_unit_is_failed_and_the_call_goes_on_to_the_next() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'max_retries': 2}");
    client.add("ws", "['a', {'n': 1}], ['b', {'n': 2}]");
    for _ in 0..2 {
        client.take_key("w1", "a");
        client.updated("ws", "a", "{'lease_time': -1}");
    }
    let mut other = server.connect();
    other.take_key("w2", "b");
    let status = client.status("ws", "a");
    assert_eq!(
        (status.status, status.worker.as_deref()),
        (FAILED, Some("w2"))
    );
    assert_eq!(
        status
            .traceback
            .and_then(|traceback| traceback.name())
            .as_deref(),
        Some("too many retries")
    );
    let data = client.data("ws", "a");
    assert_eq!(
        data.at("traceback").name().as_deref(),
        Some("too many retries")
    );
    assert_eq!(client.take("w3"), None);
    // Added again, it is available like any failed unit.
    client.add("ws", "['a', {'n': 3}]");
    assert_eq!(client.state("ws", "a"), AVAILABLE);
}

#[test]
fn a_call_for_several_units_steps_over_those_without_a_retry_left() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'max_retries': 1}");
    client.add("ws", "['a', {}], ['b', {}]");
    assert_eq!(client.take_many("w", "{'max_jobs': 2}").len(), 2);
    client.updated("ws", "a", "{'lease_time': -1}");
    client.updated("ws", "b", "{'lease_time': -1}");
    client.add("ws", "['c', {}], ['d', {}]");
    let works = client.take_many("w", "{'max_jobs': 10}");
    assert_eq!(
        works
            .iter()
            .map(|work| work.key.name().unwrap())
            .collect::<Vec<_>>(),
        ["c", "d"]
    );
    assert_eq!(client.counts("ws"), [(FAILED, 2), (PENDING, 2)].into());
}

#[test]
fn units_that_a_call_gives_while_it_fails_five_hundred_others_are_in_its_answer() {
    let (_server, mut client) = server_with_spec();
    let keys: Vec<String> = (0..600).map(|n| format!("'u{n:03}'")).collect();
    let units = keys.iter().map(|key| format!("[{key}, {{}}]"));
    client.add("ws", &units.collect::<Vec<_>>().join(", "));
    assert_eq!(client.take_many("w", "{'max_jobs': 600}").len(), 600);
    let updates = keys
        .iter()
        .map(|key| format!("[{key}, {{'lease_time': -1}}]"));
    let updates = updates.collect::<Vec<_>>().join(", ");
    client.value("update_work_units", &format!("'ws', [{updates}]"));
    client.set_spec("{'name': 'ws', 'max_retries': 1}");
    // One before those without a retry left, one among them, and one behind.
    client.add("ws", "['a', {}], ['u100x', {}], ['z', {}]");
    let mut given = Vec::new();
    for failed in [500, 600] {
        let works = client.take_many("w", "{'max_jobs': 1000}");
        given.extend(works.iter().map(|work| work.key.name().expect("a key")));
        let counts = client.counts("ws");
        assert_eq!(counts.get(&FAILED), Some(&failed));
        assert_eq!(counts.get(&PENDING), Some(&(given.len() as u64)));
    }
    assert_eq!(given, ["a", "u100x", "z"]);
    // The connection is known by them.
    for key in given {
        client.updated("ws", &key, "{'status': 4}");
    }
}

// --- many at once ---

#[test]
fn no_unit_goes_to_two_of_many_connections() {
    let (server, mut client) = server_with_spec();
    fill(&mut client, "ws", 400);
    let mut taken: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let mut client = server.connect();
                scope.spawn(move || {
                    let mut keys = Vec::new();
                    while let Some(work) = client.take(&format!("w{i}")) {
                        let key = work.key.name().expect("a key");
                        client.updated("ws", &key, "{'status': 4}");
                        keys.push(key);
                    }
                    keys
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a worker"))
            .collect()
    });
    taken.sort();
    assert_eq!(taken, client.keys("ws", "{}"));
    assert_eq!(client.counts("ws"), [(4, 400)].into());
}
