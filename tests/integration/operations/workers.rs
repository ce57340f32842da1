//! Workers: heartbeats, modes, children.

use std::collections::BTreeMap;
use test_support::{AVAILABLE, Client, PENDING, Server, Value, diag, server_with_spec, wait_until};

fn beat(client: &mut Client, worker: &str, parent: &str) {
    client.done(
        "worker_heartbeat",
        &format!("'{worker}', 'RUN', 6000, null, {parent}"),
    );
}

/// Names and modes of the living workers.
fn modes(client: &mut Client) -> BTreeMap<String, Option<String>> {
    let Value::Map(entries) = client.value("list_worker_modes", "") else {
        panic!("not a map")
    };
    entries
        .iter()
        .map(|(worker, mode)| (worker.name().expect("a worker"), mode.name()))
        .collect()
}

/// For each child of a worker, its units: spec, key, data, owner, whether there is an expiry.
fn children(client: &mut Client, parent: &str) -> BTreeMap<String, Vec<String>> {
    let Value::Map(entries) = client.value("get_child_work_units", &format!("'{parent}'")) else {
        panic!("not a map")
    };
    let unit = |unit: &Value| {
        let Value::Map(entries) = unit else {
            panic!("{unit}")
        };
        assert_eq!(entries.len(), 5, "{unit}");
        let expires = unit.at("expires");
        assert!(matches!(expires, Value::Float(_) | Value::Null), "{unit}");
        format!(
            "{}/{} {} of {}{}",
            unit.at("work_spec_name").name().expect("a spec"),
            unit.at("work_unit_key"),
            unit.at("work_unit_data"),
            unit.at("worker_id").name().as_deref().unwrap_or("nobody"),
            if expires.is_null() { "" } else { ", leased" },
        )
    };
    entries
        .iter()
        .map(|(child, units)| {
            let mut units: Vec<String> = units.items().iter().map(unit).collect();
            units.sort();
            (child.name().expect("a child"), units)
        })
        .collect()
}

fn map<const N: usize>(entries: [(&str, &[&str]); N]) -> BTreeMap<String, Vec<String>> {
    entries
        .into_iter()
        .map(|(name, units)| {
            (
                name.to_owned(),
                units.iter().map(|u| (*u).to_owned()).collect(),
            )
        })
        .collect()
}

#[test]
fn a_heartbeat_makes_a_worker_and_refreshes_it() {
    let server = Server::start();
    let mut client = server.connect();
    client.done("worker_heartbeat", "'w-a', 'RUN', 60, {'e': 1}, null");
    client.done("worker_heartbeat", "\"w-b\", \"IDLE\", 60.5, {}, \"\"");
    client.done("worker_heartbeat", "'w-n', null, 6000, null, null");
    let expected = [("w-a", Some("RUN")), ("w-b", Some("IDLE")), ("w-n", None)];
    assert_eq!(
        modes(&mut client),
        expected
            .map(|(w, m)| (w.to_owned(), m.map(str::to_owned)))
            .into()
    );
    client.done("worker_heartbeat", "'w-b', 'RUN', 60, {}, null");
    let Value::Map(counts) = client.value("mode_counts", "") else {
        panic!("not a map")
    };
    let counts: BTreeMap<_, _> = counts
        .iter()
        .map(|(mode, count)| (mode.name(), count.number().unwrap()))
        .collect();
    assert_eq!(counts, [(Some("RUN".to_owned()), 2.0), (None, 1.0)].into());
}

#[test]
fn without_workers_the_lists_are_empty() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.call("list_worker_modes", ""), diag("[{}, null]"));
    assert_eq!(client.call("mode_counts", ""), diag("[{}, null]"));
    assert_eq!(
        client.call("get_child_work_units", "'nobody'"),
        diag("[{}, null]")
    );
}

#[test]
fn a_workers_information_comes_back_with_its_age() {
    let server = Server::start();
    let mut client = server.connect();
    let data = "{'aliases': 128([]), 'ipaddrs': 128(['10.0.0.1']), 'memory': 128([1, 2.5, \"x\"]), 'parent': null, 'pid': 42}";
    for (given, expected) in [(data, data), ("{}", "{}"), ("null", "{}")] {
        client.done(
            "worker_heartbeat",
            &format!("'w', 'RUN', 60, {given}, null"),
        );
        let Value::Map(mut entries) = client.value("get_worker_info", "\"w\"") else {
            panic!("not a map")
        };
        let at = entries
            .iter()
            .position(|(key, _)| key.name().as_deref() == Some("age_seconds"))
            .expect("an age");
        let age = entries.remove(at).1.number().expect("a number");
        assert!((0.0..60.0).contains(&age), "{age}");
        assert_eq!(Value::Map(entries), diag(expected));
    }
}

#[test]
fn asking_for_an_unknown_worker_gives_null_and_makes_none() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(
        client.call("get_worker_info", "'nobody'"),
        diag("[null, null]")
    );
    client.call("get_child_work_units", "'nobody'");
    assert_eq!(modes(&mut client), [].into());
}

#[test]
fn an_unregistered_worker_is_gone_and_its_leases_stay() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    beat(&mut client, "w", "'p'");
    client.take_key("w", "a");
    client.done("worker_unregister", "\"w\"");
    assert_eq!(modes(&mut client), [].into());
    assert_eq!(client.call("get_worker_info", "'w'"), diag("[null, null]"));
    assert_eq!(children(&mut client, "p"), [].into());
    let status = client.status("ws", "a");
    assert_eq!(
        (status.status, status.worker.as_deref()),
        (PENDING, Some("w"))
    );
    for worker in ["w", "nobody"] {
        let (value, message) = client.denied("worker_unregister", &format!("'{worker}'"));
        assert_eq!(value, Value::Bool(false));
        assert!(message.contains(worker), "{message}");
    }
    client.updated("ws", "a", "{'status': 4}");
}

#[test]
fn statistics_count_workers_and_those_with_a_parent() {
    let server = Server::start();
    let mut client = server.connect();
    for (worker, parent) in [("p", "null"), ("c1", "'p'"), ("c2", "'p'"), ("x", "''")] {
        beat(&mut client, worker, parent);
    }
    let stats = client.call("worker_stats", "");
    assert_eq!(*stats.at("num_workers"), Value::Unsigned(4), "{stats}");
    assert_eq!(*stats.at("num_children"), Value::Unsigned(2), "{stats}");
    assert_eq!(*stats.at("num_expirable"), Value::Unsigned(4), "{stats}");
}

#[test]
fn a_workers_name_is_kept_up_to_a_limit() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    let name = "n".repeat(1024);
    beat(&mut client, &name, "null");
    client.take_key(&name, "a");
    client.refused(
        "worker_heartbeat",
        &format!("'{name}n', 'RUN', 60, {{}}, null"),
    );
    client.refused("get_work", &format!("'{name}n', {{}}"));
    assert_eq!(modes(&mut client).len(), 1);
    assert_eq!(client.state("ws", "b"), AVAILABLE);
}

// --- lifetimes ---

#[test]
fn a_worker_whose_lifetime_has_passed_is_gone_until_its_next_heartbeat() {
    let server = Server::start();
    let mut client = server.connect();
    client.done("worker_heartbeat", "'p', 'RUN', 60, {}, null");
    client.done("worker_heartbeat", "'w', 'RUN', 0.2, {'k': 1}, 'p'");
    wait_until("the worker's lifetime has passed", || {
        !modes(&mut client).contains_key("w")
    });
    assert_eq!(client.call("get_worker_info", "'w'"), diag("[null, null]"));
    assert_eq!(
        client.value("mode_counts", "").at("RUN"),
        &Value::Unsigned(1)
    );
    assert_eq!(children(&mut client, "p"), [].into());
    assert_eq!(
        *client.call("worker_stats", "").at("num_workers"),
        Value::Unsigned(1)
    );
    assert_eq!(
        client.denied("worker_unregister", "'w'").0,
        Value::Bool(false)
    );
    client.done("worker_heartbeat", "'w', 'IDLE', 60, {}, 'p'");
    assert_eq!(modes(&mut client)["w"].as_deref(), Some("IDLE"));
    assert_eq!(children(&mut client, "p"), map([("w", &[])]));
}

#[test]
fn a_lifetime_out_of_bounds_is_replaced_and_said_so() {
    let server = Server::start();
    let mut client = server.connect();
    for lifetime in ["-1", "-0.5", "86401", "1000000", "1e300"] {
        let (value, message) = client.pair(
            "worker_heartbeat",
            &format!("'w', 'RUN', {lifetime}, {{}}, null"),
        );
        assert_eq!(value, Value::Bool(true), "{lifetime}");
        assert!(
            message.is_some_and(|message| !message.is_empty()),
            "{lifetime}"
        );
        assert!(modes(&mut client).contains_key("w"), "{lifetime}");
        client.done("worker_unregister", "'w'");
    }
    client.done("worker_heartbeat", "'w', 'RUN', 86400, {}, null");
}

#[test]
fn the_leases_of_a_worker_that_is_gone_stay() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    client.done("worker_heartbeat", "'w', 'RUN', 0.1, {}, null");
    client.take_key("w", "a");
    wait_until("the worker's lifetime has passed", || {
        !modes(&mut client).contains_key("w")
    });
    assert_eq!(client.state("ws", "a"), PENDING);
    client.updated("ws", "a", "{'status': 4}");
    assert_eq!(client.status("ws", "a").worker.as_deref(), Some("w"));
}

// --- children ---

#[test]
fn a_parent_sees_the_units_of_its_children() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {'k': 1}], [\"b\", {}], ['c', {}], ['d', {}]");
    beat(&mut client, "p", "null");
    for (child, parent) in [
        ("c1", "'p'"),
        ("c2", "\"p\""),
        ("idle", "'p'"),
        ("x", "'other'"),
    ] {
        beat(&mut client, child, parent);
    }
    assert_eq!(
        children(&mut client, "p"),
        map([("c1", &[]), ("c2", &[]), ("idle", &[])])
    );
    client.take_key("c1", "a");
    assert_eq!(client.take("c2").map(|work| work.key), Some(diag("\"b\"")));
    client.take_key("c2", "c");
    client.take_key("x", "d");
    let c1: &[&str] = &["ws/'a' {'k': 1} of c1, leased"];
    let c2: &[&str] = &["ws/\"b\" {} of c2, leased", "ws/'c' {} of c2, leased"];
    assert_eq!(
        children(&mut client, "p"),
        map([("c1", c1), ("c2", c2), ("idle", &[])])
    );
    assert_eq!(
        children(&mut client, "other"),
        map([("x", &["ws/'d' {} of x, leased"])])
    );
    // The units leave the list when they are completed, by whomever.
    client.updated("ws", "c", "{'status': 4}");
    server.connect().updated("ws", "a", "{'status': 5}");
    assert_eq!(
        children(&mut client, "p"),
        map([
            ("c1", &[]),
            ("c2", &["ws/\"b\" {} of c2, leased"]),
            ("idle", &[])
        ])
    );
}

#[test]
fn the_unit_data_that_a_parent_sees_is_the_attempts() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {'k': 1}]");
    beat(&mut client, "c", "'p'");
    client.take_key("c", "a");
    client.updated("ws", "a", "{'lease_time': 60, 'data': {'progress': 2}}");
    assert_eq!(
        children(&mut client, "p"),
        map([("c", &["ws/'a' {'progress': 2} of c, leased"])])
    );
}

#[test]
fn a_child_that_changes_its_parent_moves() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    beat(&mut client, "c", "'p1'");
    client.take_key("c", "a");
    assert_eq!(
        children(&mut client, "p1"),
        map([("c", &["ws/'a' {} of c, leased"])])
    );
    beat(&mut client, "c", "'p2'");
    assert_eq!(children(&mut client, "p1"), [].into());
    assert_eq!(
        children(&mut client, "p2"),
        map([("c", &["ws/'a' {} of c, leased"])])
    );
    beat(&mut client, "c", "null");
    assert_eq!(children(&mut client, "p2"), [].into());
    assert_eq!(children(&mut client, ""), [].into());
    assert_eq!(modes(&mut client).len(), 1, "no parent was made a worker");
}

#[test]
fn a_unit_whose_lease_a_child_lost_stays_in_its_list_with_its_present_owner() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    beat(&mut client, "c", "'p'");
    let mut child = server.connect();
    child.take_key("c", "a");
    child.updated("ws", "a", "{'lease_time': 0.05}");
    wait_until("the lease has passed", || {
        client.state("ws", "a") == AVAILABLE
    });
    assert_eq!(
        children(&mut client, "p"),
        map([("c", &["ws/'a' {} of nobody"])])
    );
    server.connect().take_key("thief", "a");
    assert_eq!(
        children(&mut client, "p"),
        map([("c", &["ws/'a' {} of thief, leased"])])
    );
    // Until the child gets other work.
    client.add("ws", "['b', {}]");
    child.take_key("c", "b");
    assert_eq!(
        children(&mut client, "p"),
        map([("c", &["ws/'b' {} of c, leased"])])
    );
}

#[test]
fn a_unit_that_somebody_took_from_a_child_stays_in_its_list() {
    for options in ["{'lease_time': 0}", "{'status': 1, 'lease_time': 0}"] {
        let (server, mut client) = server_with_spec();
        client.add("ws", "['a', {}]");
        beat(&mut client, "c", "'p'");
        let mut child = server.connect();
        child.take_key("c", "a");
        client.updated("ws", "a", options);
        assert_eq!(
            children(&mut client, "p"),
            map([("c", &["ws/'a' {} of nobody"])]),
            "{options}"
        );
    }
}

/// Two children of `p` with a unit each, `a` and `b`, whose leases have run out.
fn two_that_lost() -> (Server, Client, Client) {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    let mut child = server.connect();
    for (name, key) in [("c1", "a"), ("c2", "b")] {
        beat(&mut client, name, "'p'");
        child.take_key(name, key);
    }
    for key in ["a", "b"] {
        child.updated("ws", key, "{'lease_time': 0.05}");
    }
    wait_until("the leases have passed", || {
        client.counts("ws") == [(AVAILABLE, 2)].into()
    });
    let lost: [(&str, &[&str]); 2] = [
        ("c1", &["ws/'a' {} of nobody"]),
        ("c2", &["ws/'b' {} of nobody"]),
    ];
    assert_eq!(children(&mut client, "p"), map(lost));
    (server, client, child)
}

#[test]
fn a_lost_unit_leaves_the_list_when_its_child_completes_it() {
    for status in [4, 5] {
        let (server, mut client, mut child) = two_that_lost();
        // The second one is another's by now.
        client.value(
            "prioritize_work_units",
            "'ws', {'work_unit_keys': ['b'], 'priority': 1}",
        );
        server.connect().take_key("thief", "b");
        child.updated("ws", "a", &format!("{{'status': {status}}}"));
        child.not_updated("ws", "b", &format!("{{'status': {status}}}"));
        assert_eq!(
            children(&mut client, "p"),
            map([("c1", &[]), ("c2", &[])]),
            "after {status}"
        );
    }
}

#[test]
fn a_lost_unit_leaves_the_list_with_its_child_and_with_itself() {
    let (_server, mut client, _child) = two_that_lost();
    client.value("del_work_units", "'ws', {'work_unit_keys': ['b']}");
    assert_eq!(
        children(&mut client, "p"),
        map([("c1", &["ws/'a' {} of nobody"]), ("c2", &[])])
    );
    client.done("worker_unregister", "'c1'");
    beat(&mut client, "c1", "'p'");
    assert_eq!(children(&mut client, "p"), map([("c1", &[]), ("c2", &[])]));
    let (_server, mut client, _child) = two_that_lost();
    client.done("del_work_spec", "'ws'");
    assert_eq!(children(&mut client, "p"), map([("c1", &[]), ("c2", &[])]));
}

#[test]
fn workers_outlive_a_restart() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.done("worker_heartbeat", "'c', 'RUN', 6000, {'pid': 42}, 'p'");
    server.restart();
    let mut client = server.connect();
    assert_eq!(modes(&mut client)["c"].as_deref(), Some("RUN"));
    assert_eq!(
        *client.value("get_worker_info", "'c'").at("pid"),
        Value::Unsigned(42)
    );
    assert_eq!(children(&mut client, "p"), map([("c", &[])]));
}
