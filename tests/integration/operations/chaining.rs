//! What a finished unit's `output` makes in the successor of its spec.

use test_support::{AVAILABLE, Client, FINISHED, PENDING, Server, Value, diag, frame, wait_until};

/// Specs `one` and `two`, the second after the first, and a unit `p` of priority 5 that a worker has.
fn start() -> (Server, Client) {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'one', 'then': 'two'}");
    client.set_spec("{'name': 'two'}");
    take_p(&mut client);
    (server, client)
}

fn take_p(client: &mut Client) {
    client.add("one", "['p', {}, null, 5]");
    client
        .take_with("w", "{'work_spec_names': ['one']}")
        .expect("the unit p");
}

fn finish(client: &mut Client, output: &str) {
    client.updated(
        "one",
        "p",
        &format!("{{'status': 4, 'data': {{'output': {output}}}}}"),
    );
    assert_eq!(client.state("one", "p"), FINISHED);
}

#[test]
fn output_makes_units_in_every_form() {
    // The output, and the units that it makes with their data.
    let rows = [
        ("{'x': {'n': 1}, 'y': {}}", "[['x', {'n': 1}], ['y', {}]]"),
        ("{\"x\": {}}", "[[\"x\", {}]]"),
        ("['x', \"y\"]", "[['x', {}], [\"y\", {}]]"),
        ("['x', h'ff', '']", "[['', {}], ['x', {}], [h'ff', {}]]"),
        ("128(['x', 'y'])", "[['x', {}], ['y', {}]]"),
        (
            "[128(['x', {'n': 1}]), ['y', {'n': 2}], 'z']",
            "[['x', {'n': 1}], ['y', {'n': 2}], ['z', {}]]",
        ),
        (
            "[128(['x', {}, {'priority': 1}]), ['y', {'n': 2}, {}], ['z', {}, null]]",
            "[['x', {}], ['y', {'n': 2}], ['z', {}]]",
        ),
        (
            "[['x', {}, {}, 1], 128(['y', {}, {'priority': 1}, 5])]",
            "[['x', {}], ['y', {}]]",
        ),
        ("['x', ['x', {'n': 2}]]", "[['x', {'n': 2}]]"),
        ("[]", "[]"),
        ("{}", "[]"),
        ("null", "[]"),
        // Of another type: nothing.
        ("5", "[]"),
        ("true", "[]"),
        ("'string'", "[]"),
        ("\"string\"", "[]"),
        ("37(h'0123456789abcdef0123456789abcdef')", "[]"),
        // Malformed items are left out, and the others are made.
        (
            "[5, 'x', null, [], 128(['k']), [7, {}], ['y', 5], ['z', {}, 5], ['v', {}, {}, 'p'], ['u', {}, {}, 1, 2]]",
            "[['x', {}]]",
        ),
        ("{'k': 5, 7: {}, 'x': {}}", "[['x', {}]]"),
    ];
    let (_server, mut client) = start();
    for (output, units) in rows {
        finish(&mut client, output);
        let made: Vec<Value> = client
            .units("two", "{}")
            .into_iter()
            .map(|(key, data)| Value::Array(vec![key, data]))
            .collect();
        assert_eq!(Value::Array(made), diag(units), "{output}");
        client.value("del_work_units", "'two', {'all': true}");
        take_p(&mut client);
    }
}

#[test]
fn units_inherit_the_priority_unless_they_state_one() {
    let (_server, mut client) = start();
    finish(
        &mut client,
        "['a', ['b', {}], ['c', {}, null], ['d', {}, {}], ['e', {}, {'priority': null}], ['f', {}, {'priority': 1}],
          ['g', {}, {'priority': 1}, 6], ['h', {}, null, -1], ['i', {}, {}, null]]",
    );
    client.add("two", "['mid', {}, null, 3], ['low', {}]");
    let order: Vec<String> = client
        .take_many("w", "{'work_spec_names': ['two'], 'max_jobs': 100}")
        .iter()
        .map(|work| work.key.name().unwrap())
        .collect();
    assert_eq!(
        order,
        ["g", "a", "b", "c", "d", "e", "i", "mid", "f", "low", "h"]
    );
}

#[test]
fn units_of_a_map_inherit_the_priority() {
    let (_server, mut client) = start();
    finish(&mut client, "{'k': {}}");
    client.add("two", "['a', {}, null, 3]");
    client.take_key("w", "k");
}

#[test]
fn the_priority_that_counts_is_that_at_the_finish() {
    let (_server, mut client) = start();
    client.done(
        "prioritize_work_units",
        "'one', {'work_unit_keys': ['p'], 'priority': 1}",
    );
    finish(&mut client, "['k']");
    client.add("two", "['z', {}, null, 3]");
    client.take_key("w", "z");
}

#[test]
fn a_chained_unit_may_be_delayed() {
    let (_server, mut client) = start();
    finish(&mut client, "[['later', {}, {'delay': 3600}], ['now', {}]]");
    assert_eq!(client.counts("two"), [(AVAILABLE, 2)].into());
    client.take_key("w", "now");
    assert_eq!(client.take("w"), None);
}

#[test]
fn a_unit_that_is_there_already_is_added_again() {
    let (server, mut client) = start();
    client.add(
        "two",
        "['done', {'old': 1}], ['waits', {'old': 1}], ['runs', {'old': 1}]",
    );
    client.updated("two", "done", "{'status': 4}");
    let mut worker = server.connect();
    let work = worker
        .take_with("w2", "{'work_spec_names': ['two']}")
        .expect("a unit");
    assert_eq!(work.key, Value::bytes("runs"));
    finish(
        &mut client,
        "{'done': {'new': 1}, 'waits': {'new': 1}, 'runs': {'new': 1}}",
    );
    assert_eq!(client.counts("two"), [(AVAILABLE, 3)].into());
    for key in ["done", "waits", "runs"] {
        assert_eq!(client.data("two", key), diag("{'new': 1}"), "{key}");
    }
    worker.not_updated("two", "runs", "{'status': 4}");
}

#[test]
fn output_that_came_with_a_renewal_chains_at_the_finish() {
    let (_server, mut client) = start();
    client.updated("one", "p", "{'lease_time': 60, 'data': {'output': ['x']}}");
    assert_eq!(client.counts("two"), [].into());
    client.updated("one", "p", "{'status': 4}");
    assert_eq!(client.keys("two", "{}"), ["x"]);
}

#[test]
fn output_in_the_units_own_data_chains_too() {
    let (_server, mut client) = start();
    client.add("one", "['q', {'output': {'x': {}}}]");
    client.updated("one", "q", "{'status': 4}");
    assert_eq!(client.keys("two", "{}"), ["x"]);
}

#[test]
fn a_failure_chains_nothing_and_a_finish_after_it_does() {
    let (_server, mut client) = start();
    client.updated("one", "p", "{'status': 5, 'data': {'output': ['x']}}");
    assert_eq!(client.counts("two"), [].into());
    client.updated("one", "p", "{'status': 4}");
    assert_eq!(client.keys("two", "{}"), ["x"]);
}

#[test]
fn a_finish_that_comes_again_chains_nothing() {
    let (server, mut client) = start();
    finish(&mut client, "['x']");
    client.take_key("w2", "x");
    client.updated("two", "x", "{'status': 4}");
    client.updated("one", "p", "{'status': 4}");
    client.updated("one", "p", "{'status': 4, 'data': {'output': ['x', 'y']}}");
    server.connect().updated("one", "p", "{'status': 4}");
    assert_eq!(client.counts("two"), [(FINISHED, 1)].into());
}

#[test]
fn a_long_output_is_there_with_the_answer() {
    let map = (0..3_500).map(|n| format!("'u{n:04}': {{'n': {n}}}"));
    let map = format!("{{{}}}", map.collect::<Vec<_>>().join(", "));
    let list = (0..3_500).map(|n| format!("['u{n:04}', {{'n': {n}}}]"));
    // The last one stands twice, far from each other, and the later one counts.
    let list = format!("['u3499', 5, {}]", list.collect::<Vec<_>>().join(", "));
    for output in [map, list] {
        let (server, mut client) = start();
        finish(&mut client, &output);
        assert_eq!(client.counts("two"), [(AVAILABLE, 3_500)].into());
        assert_eq!(client.data("two", "u3499"), diag("{'n': 3499}"));
        let file = rusqlite::Connection::open(server.db()).unwrap();
        let sql = "SELECT count(*) FROM work_unit WHERE priority = 5 AND name LIKE 'u%'";
        let inherited: u64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(inherited, 3_500);
    }
}

#[test]
fn a_long_output_becomes_units_to_the_last_one_though_the_daemon_is_killed_meanwhile() {
    let (mut server, mut client) = start();
    let names: Vec<String> = (0..30_000).map(|n| format!("'u{n:05}'")).collect();
    let data = format!("{{'output': [{}]}}", names.join(", "));
    let params = format!("['one', 'p', {{'status': 4, 'data': {data}}}]");
    let request = format!("{{'id': 1, 'method': 'update_work_unit', 'params': {params}}}");
    let mut watcher = server.connect();
    client.send(&frame(&diag(&request)));
    wait_until("some are there", || !watcher.counts("two").is_empty());
    server.kill();
    server.start_again();
    client = server.connect();
    assert_eq!(client.state("one", "p"), FINISHED);
    wait_until("all units are there", || {
        client.counts("two") == [(AVAILABLE, 30_000)].into()
    });
}

#[test]
fn finishes_in_one_call_may_chain_more_than_one_step_adds() {
    let (_server, mut client) = start();
    let units: Vec<String> = (0..30).map(|n| format!("['q{n:02}', {{}}]")).collect();
    client.add("one", &units.join(", "));
    let update = |n: u32, count: u32| {
        let names: Vec<String> = (0..count).map(|k| format!("'{n}-{k}'")).collect();
        let data = format!("{{'output': [{}]}}", names.join(", "));
        format!("['q{n:02}', {{'status': 4, 'data': {data}}}]")
    };
    // One of them for itself takes more than a step.
    let updates = |last: &str| {
        let all = (0..30).map(|n| update(n, if n == 7 { 1_500 } else { 100 }));
        let all: Vec<String> = all
            .chain((!last.is_empty()).then(|| last.to_owned()))
            .collect();
        format!("'one', [{}]", all.join(", "))
    };
    let refused = client.refused("update_work_units", &updates("5"));
    assert!(refused.contains("item 30"), "{refused}");
    assert_eq!(client.counts("two"), [].into(), "nothing was done");
    let answers = client.value("update_work_units", &updates(""));
    assert_eq!(answers.items(), vec![diag("[true, null]"); 30]);
    assert_eq!(client.counts("two"), [(AVAILABLE, 29 * 100 + 1_500)].into());
}

#[test]
fn a_call_of_many_updates_is_answered_when_the_last_of_their_long_outputs_is_there() {
    let (_server, mut client) = start();
    client.add("one", "['q0', {}], ['q1', {}]");
    let update = |n: usize, count: usize| {
        let names: Vec<String> = (0..count).map(|k| format!("'{n}-{k}'")).collect();
        let names = names.join(", ");
        format!("['q{n}', {{'status': 4, 'data': {{'output': [{names}]}}}}]")
    };
    let updates = format!("'one', [{}, {}]", update(0, 2_500), update(1, 20_000));
    let call = client.envelope("update_work_units", diag(&format!("[{updates}]")));
    let count = client.envelope("count_work_units", diag("['two']"));
    // The count is asked for before the answer has come, so nothing can be added between the two.
    client.send(&[frame(&call), frame(&count)].concat());
    let answers = client.next_answer();
    assert_eq!(
        answers.at("result"),
        &diag("[[[true, null], [true, null]], null]")
    );
    let counts = client.next_answer();
    assert_eq!(counts.at("result"), &diag("[{1: 22500}, null]"));
}

#[test]
fn of_an_output_only_so_many_items_are_taken_as_of_any_list() {
    let server = Server::start_with(&["--max-items", "5"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'one', 'then': 'two'}");
    client.set_spec("{'name': 'two'}");
    take_p(&mut client);
    finish(&mut client, "['a', 'b', 'c', 'd', 'e', 'f']");
    assert_eq!(client.keys("two", "{}"), ["a", "b", "c", "d", "e"]);
    take_p(&mut client);
    finish(&mut client, "{'x': {}, 'y': {}, 'z': {}}");
    assert_eq!(client.counts("two"), [(AVAILABLE, 8)].into());
}

#[test]
fn without_a_successor_nothing_is_made() {
    let (_server, mut client) = start();
    for then in ["'gone'", "null", "''"] {
        client.set_spec(&format!("{{'name': 'one', 'then': {then}}}"));
        finish(&mut client, "{'x': {}}");
        assert_eq!(client.spec_names(), ["one", "two"], "then: {then}");
        assert_eq!(client.counts("two"), [].into(), "then: {then}");
        assert_eq!(client.counts("one"), [(FINISHED, 1)].into(), "then: {then}");
        take_p(&mut client);
    }
}

#[test]
fn a_spec_may_follow_itself_and_a_unit_may_make_itself_anew() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'loop', 'then': 'loop'}");
    client.add("loop", "['p', {'n': 0}]");
    for n in 0..3 {
        assert_eq!(client.take_key("w", "p").data.at("n"), &Value::Unsigned(n));
        client.updated(
            "loop",
            "p",
            &format!(
                "{{'status': 4, 'data': {{'n': {n}, 'output': {{'p': {{'n': {}}}}}}}}}",
                n + 1
            ),
        );
        assert_eq!(client.counts("loop"), [(AVAILABLE, 1)].into());
        assert_eq!(
            client.data("loop", "p"),
            diag(&format!("{{'n': {}}}", n + 1))
        );
    }
}

#[test]
fn work_goes_along_a_chain_of_specs() {
    let server = Server::start();
    let mut client = server.connect();
    for definition in [
        "{'name': 'a', 'then': 'b'}",
        "{'name': 'b', \"then\": \"c\"}",
        "{'name': 'c'}",
    ] {
        client.set_spec(definition);
    }
    client.add("a", "['u', {}]");
    for (spec, key) in [("a", "u"), ("b", "u+"), ("c", "u++")] {
        let work = client.take("w").expect("a unit");
        assert_eq!((work.spec.as_str(), work.key), (spec, Value::bytes(key)));
        client.updated(
            spec,
            key,
            &format!("{{'status': 4, 'data': {{'output': {{'{key}+': {{}}}}}}}}"),
        );
    }
    assert_eq!(client.take("w"), None);
    assert_eq!(client.counts("c"), [(FINISHED, 1)].into());
}

#[test]
fn the_data_of_chained_units_keeps_its_types() {
    let (_server, mut client) = start();
    let data = "{'t': 128([1, \"x\"]), \"u\": 37(h'0123456789abcdef0123456789abcdef'), 3: -18446744073709551617}";
    finish(&mut client, &format!("[['x', {data}]]"));
    assert_eq!(client.data("two", "x"), diag(data));
    assert_eq!(client.take_key("w", "x").data, diag(data));
    assert_eq!(client.counts("two"), [(PENDING, 1)].into());
}
