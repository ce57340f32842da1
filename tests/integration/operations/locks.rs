//! The tree of locks.

use test_support::{Client, Server, Value, wait_until};

fn start() -> (Server, Client) {
    let server = Server::start();
    let client = server.connect();
    (server, client)
}

fn lock(client: &mut Client, locker: &str, keys: &str) -> bool {
    let (value, message) = client.pair("lock", &format!("'{locker}', 60, {keys}"));
    match (value, message) {
        (Value::Bool(true), None) => true,
        (Value::Bool(false), Some(message)) if !message.is_empty() => false,
        other => panic!("lock({locker}, {keys}) = {other:?}"),
    }
}

fn owners(client: &mut Client, keys: &str) -> Vec<Option<String>> {
    let list = client.call("readlock", keys);
    assert!(matches!(list, Value::Array(_)), "a bare list: {list}");
    list.items()
        .iter()
        .map(|owner| {
            if owner.is_null() {
                None
            } else {
                Some(owner.name().expect("an owner"))
            }
        })
        .collect()
}

fn owned(names: &[&str]) -> Vec<Option<String>> {
    names
        .iter()
        .map(|name| {
            if *name == "-" {
                None
            } else {
                Some((*name).to_owned())
            }
        })
        .collect()
}

#[test]
fn a_path_can_be_locked_unless_it_or_a_prefix_or_a_descendant_is() {
    let (_server, mut client) = start();
    assert!(lock(&mut client, "me", "[['a', 'b']]"));
    let rows = [
        ("[['a', 'b']]", false),
        ("[['a']]", false),
        ("[[]]", false),
        ("[['a', 'b', 'c']]", false),
        ("[['a', 'b', 'c', 'd']]", false),
        ("[['a', 'bb']]", true),
        ("[['a', 'c']]", true),
        ("[['b']]", true),
        ("[['aa']]", true),
        ("[['b', 'a']]", false),
    ];
    for (keys, free) in rows {
        // The same locker fares like another.
        let locker = if keys.len() % 2 == 0 { "me" } else { "you" };
        assert_eq!(lock(&mut client, locker, keys), free, "{keys}");
    }
}

#[test]
fn the_empty_path_is_the_root_of_all() {
    let (_server, mut client) = start();
    assert!(lock(&mut client, "me", "[[]]"));
    for keys in ["[[]]", "[['a']]", "[['a', 'b']]"] {
        assert!(!lock(&mut client, "you", keys), "{keys}");
    }
    assert_eq!(owners(&mut client, "[[], ['a']]"), owned(&["me", "-"]));
    client.done("unlock", "'me', [[]]");
    assert!(lock(&mut client, "you", "[['a']]"));
}

#[test]
fn lock_takes_all_or_nothing() {
    let (_server, mut client) = start();
    assert!(lock(&mut client, "me", "[['a']]"));
    assert!(!lock(&mut client, "you", "[['b'], ['a', 'x'], ['c']]"));
    assert_eq!(
        owners(&mut client, "[['a'], ['b'], ['c']]"),
        owned(&["me", "-", "-"])
    );
    assert!(lock(&mut client, "you", "[['b'], ['c']]"));
    assert_eq!(
        owners(&mut client, "[['a'], ['b'], ['c']]"),
        owned(&["me", "you", "you"])
    );
}

#[test]
fn overlapping_paths_of_one_call_are_locked_together() {
    let (_server, mut client) = start();
    assert!(lock(&mut client, "me", "[['a'], ['a', 'b']]"));
    assert_eq!(
        owners(&mut client, "[['a'], ['a', 'b']]"),
        owned(&["me", "me"])
    );
}

#[test]
fn locksome_takes_what_it_can_in_order() {
    let (_server, mut client) = start();
    assert!(lock(&mut client, "me", "[['a']]"));
    let taken = client.value(
        "locksome",
        "'you', 60, [['b'], ['a', 'x'], ['b', 'y'], ['c']]",
    );
    let names: Vec<Option<Vec<String>>> = taken
        .items()
        .iter()
        .map(|path| {
            (!path.is_null()).then(|| {
                path.items()
                    .iter()
                    .map(|label| label.name().unwrap())
                    .collect()
            })
        })
        .collect();
    assert_eq!(
        names,
        [
            Some(vec!["b".to_owned()]),
            None,
            None,
            Some(vec!["c".to_owned()])
        ]
    );
    assert_eq!(
        owners(&mut client, "[['a'], ['b'], ['b', 'y'], ['c']]"),
        owned(&["me", "you", "-", "you"])
    );
    assert_eq!(
        client.value("locksome", "'you', 60, []"),
        Value::Array(vec![])
    );
}

#[test]
fn readlock_shows_each_path_itself() {
    let (_server, mut client) = start();
    assert!(lock(&mut client, "me", "[['a', 'b']]"));
    assert_eq!(
        owners(&mut client, "[['a', 'b'], ['a'], ['a', 'b', 'c'], ['z']]"),
        owned(&["me", "-", "-", "-"])
    );
    assert_eq!(
        owners(&mut client, "128([128(['a', 'b'])])"),
        owned(&["me"])
    );
    assert_eq!(
        client.call("readlock", "[]"),
        Value::Array(vec![]),
        "empty, not null"
    );
}

#[test]
fn unlock_is_for_the_owner_of_all() {
    let (_server, mut client) = start();
    assert!(lock(&mut client, "me", "[['a'], ['b']]"));
    assert!(lock(&mut client, "you", "[['c']]"));
    for keys in [
        "[['a'], ['c']]",
        "[['a'], ['nobody']]",
        "[['a', 'x']]",
        "[[]]",
    ] {
        assert_eq!(
            client.denied("unlock", &format!("'me', {keys}")).0,
            Value::Bool(false),
            "{keys}"
        );
        assert_eq!(
            owners(&mut client, "[['a'], ['b'], ['c']]"),
            owned(&["me", "me", "you"]),
            "{keys}"
        );
    }
    client.done("unlock", "\"me\", [['a'], [\"b\"]]");
    assert_eq!(
        owners(&mut client, "[['a'], ['b'], ['c']]"),
        owned(&["-", "-", "you"])
    );
    assert!(lock(&mut client, "you", "[['a', 'x']]"));
    client.done("unlock", "'me', []");
}

#[test]
fn renew_is_for_the_owner_of_all() {
    let (_server, mut client) = start();
    client.done("lock", "'me', 2, [['a'], ['b']]");
    client.done("lock", "'you', 60, [['c']]");
    for keys in ["[['a'], ['c']]", "[['a'], ['nobody']]"] {
        let (value, _) = client.denied("renew", &format!("'me', 600, {keys}"));
        assert_eq!(value, Value::Bool(false), "{keys}");
    }
    client.done("renew", "'me', 600, [['a']]");
    wait_until("the other lock has expired", || {
        owners(&mut client, "[['b']]") == owned(&["-"])
    });
    assert_eq!(
        owners(&mut client, "[['a'], ['b'], ['c']]"),
        owned(&["me", "-", "you"])
    );
    client.denied("renew", "'me', 600, [['a'], ['b']]");
}

#[test]
fn an_expired_lock_is_gone() {
    let (_server, mut client) = start();
    client.done("lock", "'me', 1, [['a']]");
    client.done("lock", "'me', 0, [['b']]");
    client.done("lock", "'me', 5000000, [['c']]");
    wait_until("the lock has expired", || {
        lock(&mut client, "you", "[['a', 'x']]")
    });
    assert_eq!(
        owners(&mut client, "[['a'], ['b'], ['c']]"),
        owned(&["-", "me", "me"])
    );
    client.denied("unlock", "'me', [['a']]");
}

#[test]
fn labels_are_any_values_and_bytes_and_text_are_the_same() {
    let (_server, mut client) = start();
    assert!(lock(
        &mut client,
        "me",
        "[['a', \"b\"], 128(['t', 1]), ['t', -1], ['t', null], ['t', 1.5]]"
    ));
    assert!(!lock(&mut client, "you", "[[\"a\", 'b', 'c']]"));
    assert!(!lock(&mut client, "you", "[['t', 1]]"));
    assert!(lock(&mut client, "you", "[['t', 2]]"));
    assert!(
        lock(&mut client, "you", "[['t', '1']]"),
        "a number and its digits are two"
    );
    assert!(lock(&mut client, "you", "[[h'ff'], [h'fe', '']]"));
    assert_eq!(
        owners(
            &mut client,
            "[[\"a\", 'b'], ['t', 1], ['t', '1'], [h'ff'], [h'fe', '']]"
        ),
        owned(&["me", "me", "you", "you", "you"])
    );
}

#[test]
fn delete_namespace_removes_the_locks_under_a_label_and_nothing_else() {
    let (_server, mut client) = start();
    client.set_spec("{'name': 'a'}");
    client.add("a", "['u', {}]");
    client.done("worker_heartbeat", "'a', 'RUN', 60, {}, null");
    assert!(lock(
        &mut client,
        "me",
        "[['a', 'b'], ['a', 'c', 'd'], ['aa'], ['b', 'a']]"
    ));
    assert_eq!(client.call("delete_namespace", "\"a\""), Value::Unsigned(0));
    assert_eq!(
        owners(
            &mut client,
            "[['a', 'b'], ['a', 'c', 'd'], ['aa'], ['b', 'a']]"
        ),
        owned(&["-", "-", "me", "me"])
    );
    assert_eq!(
        client.call("delete_namespace", "'nothing'"),
        Value::Unsigned(0)
    );
    assert_eq!(client.keys("a", "{}"), ["u"]);
    assert!(client.value("list_worker_modes", "").get("a").is_some());
}

#[test]
fn paths_of_one_call_have_so_many_labels_together() {
    let (_server, mut client) = start();
    let path = |labels: usize| format!("[{}]", vec!["'l'"; labels].join(","));
    let paths = |count: usize, labels: usize| vec![path(labels); count].join(",");
    let message = client.refused("readlock", &format!("[{}]", paths(201, 100)));
    assert!(message.contains("more than 20000 labels"), "{message}");
    let owners = client.call("readlock", &format!("[{}]", paths(200, 100)));
    assert_eq!(owners.items().len(), 200);
}

#[test]
fn a_path_has_a_hundred_labels_at_the_most() {
    let (_server, mut client) = start();
    let path = |labels: usize| format!("[[{}]]", vec!["'l'"; labels].join(","));
    for (method, before) in [("lock", "'me', 60, "), ("readlock", "")] {
        let message = client.refused(method, &format!("{before}{}", path(101)));
        assert!(message.contains("more than 100 labels"), "{message}");
    }
    client.done("lock", &format!("'me', 60, {}", path(100)));
    assert_eq!(owners(&mut client, &path(100)), owned(&["me"]));
}

#[test]
fn a_path_is_as_long_as_a_key_at_the_most_with_three_bytes_for_each_label() {
    let server = Server::start_with(&["--max-unit-name", "20"]);
    let mut client = server.connect();
    for (fits, too_long) in [
        ("'12345678901234567'", "'123456789012345678'"),
        ("'1234567', '1234567'", "'1234567', '12345678'"),
    ] {
        let lock = |path: &str| format!("'me', 60, [[{path}]]");
        let message = client.refused("lock", &lock(too_long));
        assert!(message.contains("21 bytes long, at most 20"), "{message}");
        client.done("lock", &lock(fits));
        assert_eq!(owners(&mut client, &format!("[[{fits}]]")), owned(&["me"]));
    }
}

#[test]
fn keys_that_are_no_list_of_paths_are_refused_and_lock_nothing() {
    let (_server, mut client) = start();
    for keys in [
        "5",
        "null",
        "'a'",
        "{}",
        "['a']",
        "[['a'], 'b']",
        "[5]",
        "[null]",
        "[{}]",
    ] {
        for (method, before) in [
            ("lock", "'me', 60, "),
            ("locksome", "'me', 60, "),
            ("renew", "'me', 60, "),
            ("readlock", ""),
            ("unlock", "'me', "),
        ] {
            let message = client.refused(method, &format!("{before}{keys}"));
            assert!(message.contains("keys"), "{method}({keys}): {message}");
        }
    }
    assert_eq!(owners(&mut client, "[['a'], ['b']]"), owned(&["-", "-"]));
}

#[test]
fn locks_outlive_a_restart_with_their_expiry() {
    let (mut server, mut client) = start();
    client.done("lock", "'me', 600, [['a', 1], ['b']]");
    client.done("lock", "'me', 1, [['short']]");
    server.restart();
    let mut client = server.connect();
    assert_eq!(
        owners(&mut client, "[['a', 1], ['b']]"),
        owned(&["me", "me"])
    );
    assert!(!lock(&mut client, "you", "[['a']]"));
    client.done("renew", "'me', 600, [['a', 1]]");
    wait_until("the short lock has expired", || {
        owners(&mut client, "[['short']]") == owned(&["-"])
    });
    server.kill();
    server.start_again();
    assert_eq!(
        owners(&mut server.connect(), "[['a', 1], ['b']]"),
        owned(&["me", "me"])
    );
}
