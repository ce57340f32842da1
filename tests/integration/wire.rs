//! Bytes in, bytes out: framing, envelopes, and what happens to what is no request.

use test_support::cbor::head;
use test_support::{AVAILABLE, Client, Reply, Server, Value, diag, frame, reply, server_with_spec};

/// A request in diagnostic notation.
fn request(id: u64, method: &str, params: &str) -> Value {
    diag(&format!(
        "{{'id': {id}, 'method': '{method}', 'params': {params}}}"
    ))
}

fn result_of(answer: &Value) -> Value {
    match reply(answer) {
        Reply::Result(value) => value,
        Reply::Error(message) => panic!("{message}"),
    }
}

fn error_of(answer: &Value) -> String {
    match reply(answer) {
        Reply::Error(message) => message,
        Reply::Result(value) => panic!("a result: {value}"),
    }
}

/// What the daemon shows of `ws`: the same before and after means that nothing was changed.
fn state(client: &mut Client) -> Vec<Value> {
    [
        ("list_work_specs", "{}"),
        ("get_work_spec_meta", "'ws'"),
        ("get_work_units", "'ws', {}"),
        ("count_work_units", "'ws'"),
        ("get_work_unit_status", "'ws', ['a', 'b', 'c']"),
        ("list_worker_modes", ""),
    ]
    .into_iter()
    .map(|(method, params)| client.call(method, params))
    .collect()
}

/// Sends bytes that end the connection: gives the answers that came before its end, and checks that
/// the daemon serves others as before.
fn closed_by(server: &Server, bytes: &[u8]) -> Vec<Value> {
    let mut other = server.connect();
    other.call("list_work_specs", "{}");
    let mut client = server.connect();
    // The daemon may have enough of it before it has all of it.
    let _ = client.try_send(bytes);
    let answers = client.answers_until_closed();
    other.call("list_work_specs", "{}");
    server.connect().call("list_work_specs", "{}");
    answers
}

// --- frames ---

#[test]
fn a_request_is_taken_in_tag_24_and_bare_and_answered_in_tag_24() {
    let server = Server::start();
    let mut client = server.connect();
    let item = request(1, "get_work_spec", "['nope']");
    for bytes in [
        frame(&item),
        item.encode(),
        frame(&Value::Array(vec![])),
        Value::Array(vec![]).encode(),
    ] {
        client.send(&bytes);
        let answer = client.next_frame().expect("an answer").expect("an answer");
        assert_eq!(answer[..2], [0xd8, 24], "{answer:02x?}");
    }
}

#[test]
fn a_batch_is_answered_by_one_list_in_its_order() {
    let server = Server::start();
    let mut client = server.connect();
    let batch = Value::Array(vec![
        request(3, "set_work_spec", "[{'name': 'ws'}]"),
        request(1, "add_work_units", "['ws', [['a', {}], ['b', {}]]]"),
        request(2, "no_such_method", "[]"),
        request(9, "count_work_units", "['ws']"),
        request(9, "get_work_spec", "['nope']"),
    ]);
    for bytes in [frame(&batch), batch.encode()] {
        client.send(&bytes);
        let answer = client.next_answer();
        let [set, add, unknown, count, null] = answer.items() else {
            panic!("{answer}")
        };
        for (entry, id) in [(set, 3), (add, 1), (unknown, 2), (count, 9), (null, 9)] {
            assert_eq!(*entry.at("id"), Value::Unsigned(id), "{answer}");
        }
        assert_eq!(*result_of(set).item(0), Value::Bool(true));
        assert_eq!(*result_of(add).item(0), Value::Bool(true));
        assert!(error_of(unknown).contains("no_such_method"));
        assert_eq!(
            *result_of(count).item(0),
            diag("{1: 2}"),
            "entries run one after the other"
        );
        assert_eq!(result_of(null), Value::Null);
    }
}

#[test]
fn an_empty_batch_is_answered_by_an_empty_list() {
    let server = Server::start();
    let mut client = server.connect();
    assert_eq!(client.exchange(&Value::Array(vec![])), Value::Array(vec![]));
}

#[test]
fn pipelined_requests_are_answered_in_order_each_after_the_one_before() {
    let (_server, mut client) = server_with_spec();
    let mut bytes = Vec::new();
    for i in 0..500 {
        bytes.extend(frame(&request(
            2 * i,
            "add_work_units",
            &format!("['ws', [['u{i:03}', {{}}]]]"),
        )));
        // Bare requests may stand between framed ones.
        bytes.extend(request(2 * i + 1, "count_work_units", "['ws']").encode());
    }
    client.send(&bytes);
    for i in 0..500 {
        let added = client.next_answer();
        assert_eq!(*added.at("id"), Value::Unsigned(2 * i));
        let counted = client.next_answer();
        assert_eq!(*counted.at("id"), Value::Unsigned(2 * i + 1));
        assert_eq!(
            *result_of(&counted).item(0),
            Value::Map(vec![(Value::Unsigned(1), Value::Unsigned(i + 1))])
        );
    }
}

#[test]
fn requests_are_read_while_earlier_answers_have_not_been_taken() {
    let (_server, mut client) = server_with_spec();
    client.call_with(
        "add_work_units",
        vec![
            Value::bytes("ws"),
            Value::Array(vec![Value::Array(vec![
                Value::bytes("a"),
                large_data(1 << 20),
            ])]),
        ],
    );
    // Answers of 16 MB, more than the sockets hold, and then requests of as many.
    let mut bytes = Vec::new();
    for id in 0..16 {
        bytes.extend(frame(&request(id, "get_work_units", "['ws', {}]")));
    }
    let large = Value::Array(vec![
        Value::bytes("ws"),
        Value::Array(vec![Value::Array(vec![
            Value::bytes("b"),
            large_data(16 << 20),
        ])]),
    ]);
    bytes.extend(frame(&Value::Map(vec![
        (Value::bytes("id"), Value::Unsigned(16)),
        (Value::bytes("method"), Value::bytes("add_work_units")),
        (Value::bytes("params"), large),
    ])));
    client.send(&bytes);
    for id in 0..17 {
        assert_eq!(*client.next_answer().at("id"), Value::Unsigned(id));
    }
}

fn large_data(size: usize) -> Value {
    Value::Map(vec![(Value::bytes("d"), Value::Bytes(vec![b'x'; size]))])
}

#[test]
fn no_prefix_of_a_request_is_answered_and_the_rest_completes_it() {
    let server = Server::start();
    let mut witness = server.connect();
    let item = request(7, "get_work_spec", "['nope']");
    for bytes in [
        frame(&item),
        item.encode(),
        frame(&Value::Array(vec![item.clone(), item.clone()])),
    ] {
        for end in 1..bytes.len() {
            let mut client = server.connect();
            client.send(&bytes[..end]);
            witness.call("list_work_specs", "{}");
            assert!(!client.has_input(), "an answer to {:02x?}", &bytes[..end]);
            client.send(&bytes[end..]);
            let answer = client.next_answer();
            let first = if matches!(answer, Value::Array(_)) {
                answer.item(0)
            } else {
                &answer
            };
            assert_eq!(*first.at("id"), Value::Unsigned(7));
            assert_eq!(result_of(first), Value::Null);
        }
    }
}

#[test]
fn a_connection_that_ends_within_a_request_is_closed_without_an_answer() {
    let server = Server::start();
    let bytes = frame(&request(7, "get_work_spec", "['nope']"));
    for end in 0..bytes.len() {
        let mut client = server.connect();
        client.send(&bytes[..end]);
        client.end_sending();
        assert_eq!(
            client.answers_until_closed(),
            [],
            "after {:02x?}",
            &bytes[..end]
        );
    }
    server.connect().call("list_work_specs", "{}");
}

#[test]
fn requests_may_arrive_one_byte_at_a_time() {
    let server = Server::start();
    let mut client = server.connect();
    let mut bytes = frame(&request(
        1,
        "set_work_spec",
        "[{'name': 'ws', 'x': [1.5, \"\u{fc}\"]}]",
    ));
    bytes.extend(request(2, "get_work_spec", "[\"ws\"]").encode());
    for byte in bytes {
        client.send(&[byte]);
    }
    assert_eq!(*client.next_answer().at("id"), Value::Unsigned(1));
    assert_eq!(
        result_of(&client.next_answer()),
        diag("{'name': 'ws', 'x': [1.5, \"\u{fc}\"]}")
    );
}

#[test]
fn a_client_that_ends_its_side_still_gets_the_answers_of_what_it_sent() {
    let (_server, mut client) = server_with_spec();
    let mut bytes = Vec::new();
    for id in 0..100 {
        bytes.extend(frame(&request(
            id,
            "add_work_units",
            &format!("['ws', [['u{id}', {{}}]]]"),
        )));
    }
    client.send(&bytes);
    client.end_sending();
    let answers = client.answers_until_closed();
    assert_eq!(answers.len(), 100);
    for (id, answer) in answers.iter().enumerate() {
        assert_eq!(*answer.at("id"), Value::Unsigned(id as u64));
        assert_eq!(*result_of(answer).item(0), Value::Bool(true));
    }
}

#[test]
fn a_request_of_20_mb_is_taken() {
    let (_server, mut client) = server_with_spec();
    let units: Vec<Value> = (0..20_000)
        .map(|i| {
            let data = Value::Map(vec![(
                Value::bytes("d"),
                Value::Bytes(vec![(i % 251) as u8; 1000]),
            )]);
            Value::tuple(vec![Value::bytes(format!("u{i:05}")), data])
        })
        .collect();
    let request = vec![Value::bytes("ws"), Value::Array(units)];
    assert_eq!(
        client.call_with("add_work_units", request),
        diag("[true, null]")
    );
    assert_eq!(client.counts("ws"), [(AVAILABLE, 20_000)].into());
    assert_eq!(
        *client.data("ws", "u12345").at("d"),
        Value::Bytes(vec![(12345 % 251) as u8; 1000])
    );
}

// --- all forms of CBOR ---

#[test]
fn indefinite_lengths_and_long_numbers_are_taken() {
    let server = Server::start();
    let mut client = server.connect();
    // {_ (_ h'69', h'64'): 1 in eight bytes, "method": (_ "get_work", "_spec"), 'params': [_ (_ 'no', 'pe')]}
    let mut bare = vec![0xbf, 0x5f, 0x41, b'i', 0x41, b'd', 0xff];
    bare.extend([0x1b, 0, 0, 0, 0, 0, 0, 0, 1]);
    bare.extend([0x78, 6]);
    bare.extend(b"method");
    bare.extend([0x7f, 0x78, 8]);
    bare.extend(b"get_work");
    bare.extend([0x79, 0, 5]);
    bare.extend(b"_spec");
    bare.extend([0xff, 0x5b, 0, 0, 0, 0, 0, 0, 0, 6]);
    bare.extend(b"params");
    bare.extend([
        0x9f, 0x5f, 0x42, b'n', b'o', 0x40, 0x42, b'p', b'e', 0xff, 0xff, 0xff,
    ]);
    // An indefinite list of requests.
    let mut batch = vec![0x9f];
    batch.extend(&bare);
    batch.push(0xff);
    client.send(&bare);
    let answer = client.next_answer();
    assert_eq!(
        (answer.at("id"), result_of(&answer)),
        (&Value::Unsigned(1), Value::Null)
    );
    client.send(&batch);
    assert_eq!(result_of(client.next_answer().item(0)), Value::Null);
}

#[test]
fn tag_24_is_taken_around_a_byte_string_in_pieces() {
    let server = Server::start();
    let mut client = server.connect();
    for size in [1, 7, 1000] {
        let mut bytes = vec![0xd8, 24, 0x5f];
        for piece in request(1, "get_work_spec", "['nope']")
            .encode()
            .chunks(size)
        {
            head(&mut bytes, 2, piece.len() as u64);
            bytes.extend(piece);
        }
        bytes.push(0xff);
        client.send(&bytes);
        assert_eq!(
            result_of(&client.next_answer()),
            Value::Null,
            "pieces of {size}"
        );
    }
}

#[test]
fn tag_24_is_taken_in_every_form_of_its_number() {
    let server = Server::start();
    let mut client = server.connect();
    let request = Value::Bytes(request(1, "get_work_spec", "['nope']").encode()).encode();
    for tag in ["d818", "d90018", "da00000018", "db0000000000000018"] {
        let mut bytes = test_support::cbor::unhex(tag);
        bytes.extend(&request);
        client.send(&bytes);
        assert_eq!(result_of(&client.next_answer()), Value::Null, "{tag}");
    }
}

#[test]
fn options_are_taken_in_every_form_of_a_number() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}], ['c', {}], ['d', {}]");
    // 2 as a small integer, in one, two, four and eight bytes, as a half, single and double float.
    for two in [
        "02",
        "1802",
        "190002",
        "1a00000002",
        "1b0000000000000002",
        "f94000",
        "fa40000000",
    ] {
        let mut bytes = request(1, "get_work_units", "['ws', {'limit': 0}]").encode();
        assert_eq!(bytes.pop(), Some(0));
        bytes.extend(test_support::cbor::unhex(two));
        client.send(&bytes);
        let answer = client.next_answer();
        match reply(&answer) {
            Reply::Result(result) => assert_eq!(result.item(0).items().len(), 2, "limit {two}"),
            Reply::Error(message) => panic!("limit {two}: {message}"),
        }
    }
}

#[test]
fn the_last_of_two_equal_keys_wins() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    assert_eq!(client.keys("ws", "{'limit': 1, 'limit': 2}"), ["a", "b"]);
    assert_eq!(
        client.keys("ws", "{'limit': 1, \"limit\": 2}"),
        ["a", "b"],
        "bytes and text are the same key"
    );
    let answer = client.exchange(&diag(
        "{'id': 1, 'method': 'clear', 'method': 'get_work_spec', \"id\": 2, 'params': [], 'params': ['nope']}",
    ));
    assert_eq!(*answer.at("id"), Value::Unsigned(2));
    assert_eq!(result_of(&answer), Value::Null);
}

#[test]
fn stored_data_goes_out_as_the_bytes_that_came_in() {
    let (_server, mut client) = server_with_spec();
    let rows = [
        ("half float", "f93c00"),
        ("single float", "fa3fc00000"),
        ("negative zero as a half", "f98000"),
        ("NaN with a payload", "fb7ff8000000000001"),
        (
            "a number that is longer than it must be",
            "1b0000000000000001",
        ),
        ("a string in pieces", "5f41614162ff"),
        ("a text in pieces", "7f61616162ff"),
        ("a list without a length", "9f0102ff"),
        ("a map without a length", "bf416101ff"),
        ("a map with a key twice", "a2416101416102"),
        ("keys in no order", "a2416201416101"),
        ("an unknown tag", "d9d9f743010203"),
        ("a self-description tag around a tuple", "d9d9f7d8808101"),
        ("undefined", "f7"),
        ("an unassigned simple value", "f8ff"),
        ("a length in eight bytes", "5b000000000000000161"),
        ("embedded CBOR", "d8184101"),
    ];
    for (i, (what, hex)) in rows.iter().enumerate() {
        let value = test_support::cbor::unhex(hex);
        let mut data = vec![0xa1, 0x41, b'v'];
        data.extend(&value);
        // The request's data stands at its end, so that it can be put there as it is.
        let mut bytes =
            request(1, "add_work_units", &format!("['ws', [['u{i:02}', null]]]")).encode();
        assert_eq!(bytes.pop(), Some(0xf6));
        bytes.extend(&data);
        client.send(&bytes);
        let answer = client.next_answer();
        assert!(
            matches!(reply(&answer), Reply::Result(_)),
            "{what}: {answer}"
        );
        client.send(&frame(&request(
            2,
            "get_work_units",
            &format!("['ws', {{'work_unit_keys': ['u{i:02}']}}]"),
        )));
        let back = client.next_frame().expect("an answer").expect("an answer");
        assert!(
            back.windows(data.len()).any(|window| window == data),
            "{what}: {hex} came back as {back:02x?}"
        );
    }
}

// --- envelopes ---

#[test]
fn the_id_comes_back_as_it_was_whatever_it_is() {
    let server = Server::start();
    let mut client = server.connect();
    let ids = [
        "0",
        "1",
        "23",
        "24",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "-1",
        "-18446744073709551616",
        "1.5",
        "-0.0",
        "'x'",
        "h'ff'",
        "\"x\"",
        "\"\u{2603}\"",
        "null",
        "true",
        "[1, 'a']",
        "{'a': {1: []}}",
        "128([])",
        "37(h'0123456789abcdef0123456789abcdef')",
        "55799('x')",
    ];
    for id in ids {
        for (method, params) in [("get_work_spec", "['nope']"), ("no_such_method", "[]")] {
            let item = diag(&format!(
                "{{'id': {id}, 'method': '{method}', 'params': {params}}}"
            ));
            assert_eq!(*client.exchange(&item).at("id"), diag(id), "{method}");
        }
    }
    let answer = client.exchange(&diag("{'method': 'get_work_spec', 'params': ['nope']}"));
    assert_eq!(*answer.at("id"), Value::Null, "no id");
}

#[test]
fn a_result_that_is_null_is_there() {
    let server = Server::start();
    let mut client = server.connect();
    for (method, params) in [
        ("get_work_spec", "['nope']"),
        ("archive", "[{}]"),
        ("archive", "[]"),
    ] {
        let answer = client.exchange(&request(1, method, params));
        assert_eq!(
            answer.get("result"),
            Some(&Value::Null),
            "{method}: {answer}"
        );
        assert_eq!(answer.get("error"), None, "{method}: {answer}");
    }
}

#[test]
fn byte_strings_and_text_are_the_same_in_envelopes_options_and_names() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {'x': 1}]");
    let expected = diag("[[128(['a', {'x': 1}])], null]");
    let quote = |text: &str, as_text: bool| {
        if as_text {
            format!("\"{text}\"")
        } else {
            format!("'{text}'")
        }
    };
    for bits in 0..64 {
        let q = |bit: u32, text: &str| quote(text, bits >> bit & 1 == 1);
        let item = diag(&format!(
            "{{{}: 5, {}: {}, {}: [{}, {{{}: 1}}]}}",
            q(0, "id"),
            q(1, "method"),
            q(2, "get_work_units"),
            q(3, "params"),
            q(4, "ws"),
            q(5, "limit"),
        ));
        let answer = client.exchange(&item);
        assert_eq!(*answer.at("id"), Value::Unsigned(5), "{item}");
        let result = match result_of(&answer) {
            Value::Tag(128, pair) => *pair,
            other => other,
        };
        assert_eq!(result, expected, "{item}");
    }
}

#[test]
fn names_of_bytes_and_of_text_name_the_same_things() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{\"name\": \"sp\u{e9}c\"}");
    client.done(
        "add_work_units",
        "h'7370c3a963', [[\"k\u{fc}\", {'n': 1}], ['b', {}]]",
    );
    client.done(
        "add_work_units",
        "\"sp\u{e9}c\", [[h'6bc3bc', {'n': 2}], [\"b\", {}]]",
    );
    assert_eq!(client.counts("sp\u{e9}c"), [(AVAILABLE, 2)].into());
    // The key goes out as it is asked for where it echoes the request.
    let units = client.units("sp\u{e9}c", "{'work_unit_keys': [h'6bc3bc', \"k\u{fc}\"]}");
    assert_eq!(units[0], (diag("h'6bc3bc'"), diag("{'n': 2}")));
    assert_eq!(units[1], (diag("\"k\u{fc}\""), diag("{'n': 2}")));
    client.done("worker_heartbeat", "\"w\", \"RUN\", 60, {}, null");
    client.done("worker_heartbeat", "'w', 'IDLE', 60, {}, null");
    let modes = client.value("list_worker_modes", "");
    assert!(
        matches!(&modes, Value::Map(entries) if entries.len() == 1),
        "{modes}"
    );
    assert_eq!(modes.at("w").name().as_deref(), Some("IDLE"));
    client.done("worker_unregister", "\"w\"");
}

#[test]
fn keys_go_out_in_the_kind_of_string_that_they_came_in() {
    let (_server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['bytes', {}], [\"text\", {}], [h'ff', {}], [\"\u{2603}\", {}]",
    );
    let keys: Vec<Value> = client
        .units("ws", "{}")
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(
        keys,
        [
            diag("'bytes'"),
            diag("\"text\""),
            diag("\"\u{2603}\""),
            diag("h'ff'")
        ]
    );
    let taken: Vec<Value> = client
        .take_many("w", "{'max_jobs': 10}")
        .into_iter()
        .map(|work| work.key)
        .collect();
    assert_eq!(taken, keys);
}

#[test]
fn params_are_a_list_a_tuple_or_a_map() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {'x': 1}]");
    let forms = [
        "['ws', {'work_unit_keys': ['a']}]",
        "128(['ws', {'work_unit_keys': ['a']}])",
        "128(['ws', {'work_unit_keys': 128(['a'])}])",
        "{'work_spec_name': 'ws', 'options': {'work_unit_keys': ['a']}}",
        "{\"options\": {\"work_unit_keys\": [\"a\"]}, \"work_spec_name\": \"ws\"}",
    ];
    for form in forms {
        let Reply::Result(result) = client.request("get_work_units", diag(form)) else {
            panic!("{form}")
        };
        assert_eq!(*result.item(0).item(0).item(1), diag("{'x': 1}"), "{form}");
    }
    assert_eq!(
        client.request("archive", diag("{}")),
        Reply::Result(Value::Null)
    );
    assert_eq!(
        client.request("archive", diag("{'options': {}}")),
        Reply::Result(Value::Null)
    );
    assert_eq!(
        client.request("get_work_spec", diag("{'work_spec_name': 'nope'}")),
        Reply::Result(Value::Null)
    );
}

#[test]
fn every_parameter_can_be_given_by_its_name() {
    let rows = [
        ("set_work_spec", "{'work_spec': {'name': 'ws'}}"),
        ("get_work_spec", "{'work_spec_name': 'ws'}"),
        ("list_work_specs", "{'options': {}}"),
        (
            "control_work_spec",
            "{'work_spec_name': 'ws', 'options': {}}",
        ),
        ("get_work_spec_meta", "{'work_spec_name': 'ws'}"),
        (
            "add_work_units",
            "{'work_spec_name': 'ws', 'work_unit_key_vals': [['a', {}]]}",
        ),
        ("count_work_units", "{'work_spec_name': 'ws'}"),
        ("get_work_units", "{'work_spec_name': 'ws', 'options': {}}"),
        (
            "get_work_unit_status",
            "{'work_spec_name': 'ws', 'work_unit_keys': ['a']}",
        ),
        (
            "prioritize_work_units",
            "{'work_spec_name': 'ws', 'options': {'work_unit_keys': ['a']}}",
        ),
        ("get_work", "{'worker_id': 'w', 'options': {}}"),
        (
            "update_work_unit",
            "{'work_spec_name': 'ws', 'work_unit_key': 'a', 'options': {'status': 4}}",
        ),
        (
            "del_work_units",
            "{'work_spec_name': 'ws', 'options': {'all': true}}",
        ),
        ("archive", "{'options': {}}"),
        (
            "worker_heartbeat",
            "{'worker_id': 'w', 'mode': 'RUN', 'expire_seconds': 60, 'data': {}, 'parent': null}",
        ),
        ("get_worker_info", "{'worker_id': 'w'}"),
        ("get_child_work_units", "{'worker_id': 'w'}"),
        ("worker_unregister", "{'worker_id': 'w'}"),
        ("lock", "{'locker_id': 'l', 'timeout': 60, 'keys': [['a']]}"),
        (
            "renew",
            "{'locker_id': 'l', 'timeout': 60, 'keys': [['a']]}",
        ),
        ("readlock", "{'keys': [['a']]}"),
        ("unlock", "{'locker_id': 'l', 'keys': [['a']]}"),
        (
            "locksome",
            "{'locker_id': 'l', 'timeout': 60, 'keys': [['a']]}",
        ),
        ("delete_namespace", "{'prefix': 'a'}"),
        ("del_work_spec", "{'work_spec_name': 'ws'}"),
        ("clear", "{}"),
        ("now", "{}"),
        ("get_config", "{}"),
        ("mode_counts", "{}"),
        ("worker_stats", "{}"),
        ("list_worker_modes", "{}"),
    ];
    let server = Server::start();
    let mut client = server.connect();
    for (method, params) in rows {
        let reply = client.request(method, diag(params));
        let Reply::Result(result) = reply else {
            panic!("{method}: {reply:?}")
        };
        if matches!(result, Value::Array(_) | Value::Tag(128, _)) {
            assert_ne!(
                result.items().first(),
                Some(&Value::Bool(false)),
                "{method}: {result}"
            );
        }
    }
}

#[test]
fn other_keys_of_an_envelope_are_ignored() {
    let server = Server::start();
    let mut client = server.connect();
    let item = diag(
        "{'id': 1, 'method': 'get_work_spec', 'params': ['nope'], 'jsonrpc': '2.0', 7: [], null: 1}",
    );
    assert_eq!(result_of(&client.exchange(&item)), Value::Null);
}

// --- refusals that leave the connection as it is ---

#[test]
fn an_unknown_method_is_refused_by_name() {
    let (_server, mut client) = server_with_spec();
    for method in [
        "no_such_method_at_all",
        "",
        "_private",
        "Get_work",
        "get_work ",
    ] {
        let message = client.refused(method, "");
        assert!(message.contains(method), "{method:?}: {message}");
    }
    for envelope in [
        "{'id': 4}",
        "{'id': 4, 'method': 5, 'params': []}",
        "{'id': 4, 'method': null, 'params': []}",
        "{}",
    ] {
        let answer = client.exchange(&diag(envelope));
        assert!(error_of(&answer).contains("method"), "{envelope}: {answer}");
    }
    assert_eq!(client.spec_names(), ["ws"]);
}

#[test]
fn params_that_are_neither_list_nor_map_are_refused() {
    let (_server, mut client) = server_with_spec();
    for params in [
        "7",
        "null",
        "'nope'",
        "\"nope\"",
        "true",
        "1.5",
        "37(h'00')",
        "129(['nope'])",
    ] {
        let reply = client.request("get_work_spec", diag(params));
        let Reply::Error(message) = reply else {
            panic!("{params}: {reply:?}")
        };
        assert!(message.contains("params"), "{params}: {message}");
    }
    let answer = client.exchange(&diag("{'id': 1, 'method': 'get_work_spec'}"));
    assert!(error_of(&answer).contains("params"), "{answer}");
    assert_eq!(client.spec_names(), ["ws"]);
}

#[test]
fn wrong_parameters_are_refused_by_method_and_name_and_change_nothing() {
    // Method, params without brackets, the parameter that the message has to name.
    let missing = [
        ("set_work_spec", "", "work_spec"),
        ("get_work_spec", "", "work_spec_name"),
        ("list_work_specs", "", "options"),
        ("control_work_spec", "'ws'", "options"),
        ("get_work_spec_meta", "", "work_spec_name"),
        ("del_work_spec", "", "work_spec_name"),
        ("add_work_units", "'ws'", "work_unit_key_vals"),
        ("count_work_units", "", "work_spec_name"),
        ("get_work_units", "'ws'", "options"),
        ("get_work_unit_status", "'ws'", "work_unit_keys"),
        ("prioritize_work_units", "'ws'", "options"),
        ("del_work_units", "'ws'", "options"),
        ("update_work_unit", "'ws', 'a'", "options"),
        ("update_work_unit", "'ws'", "work_unit_key"),
        ("get_work", "'w'", "options"),
        ("get_work", "", "worker_id"),
        ("worker_heartbeat", "'w', 'RUN', 60, {}", "parent"),
        ("worker_unregister", "", "worker_id"),
        ("get_worker_info", "", "worker_id"),
        ("get_child_work_units", "", "worker_id"),
        ("lock", "'l', 60", "keys"),
        ("locksome", "'l'", "timeout"),
        ("renew", "'l', 60", "keys"),
        ("readlock", "", "keys"),
        ("unlock", "'l'", "keys"),
        ("delete_namespace", "", "prefix"),
    ];
    let ill_typed = [
        ("set_work_spec", "5", "work_spec"),
        ("set_work_spec", "null", "work_spec"),
        ("set_work_spec", "[]", "work_spec"),
        ("get_work_spec", "5", "work_spec_name"),
        ("get_work_spec", "null", "work_spec_name"),
        ("list_work_specs", "5", "options"),
        ("list_work_specs", "['a']", "options"),
        ("control_work_spec", "'ws', 5", "options"),
        ("control_work_spec", "'ws', {'status': 'x'}", "status"),
        ("control_work_spec", "'ws', {'weight': []}", "weight"),
        (
            "control_work_spec",
            "'ws', {'max_running': {}}",
            "max_running",
        ),
        ("control_work_spec", "'ws', {'interval': []}", "interval"),
        ("del_work_spec", "{}", "work_spec_name"),
        ("add_work_units", "'ws', 5", "work_unit_key_vals"),
        ("add_work_units", "'ws', {'c': {}}", "work_unit_key_vals"),
        ("add_work_units", "'ws', null", "work_unit_key_vals"),
        ("add_work_units", "5, []", "work_spec_name"),
        ("count_work_units", "[]", "work_spec_name"),
        ("get_work_units", "'ws', 5", "options"),
        ("get_work_units", "'ws', {'limit': 'x'}", "limit"),
        ("get_work_units", "'ws', {'state': 'x'}", "state"),
        (
            "get_work_units",
            "'ws', {'work_unit_keys': 5}",
            "work_unit_keys",
        ),
        ("get_work_units", "'ws', {'start': []}", "start"),
        ("get_work_unit_status", "'ws', 5", "work_unit_keys"),
        ("get_work_unit_status", "'ws', null", "work_unit_keys"),
        ("prioritize_work_units", "'ws', 5", "options"),
        (
            "prioritize_work_units",
            "'ws', {'work_unit_keys': 5, 'priority': 1}",
            "work_unit_keys",
        ),
        (
            "prioritize_work_units",
            "'ws', {'work_unit_keys': ['a'], 'priority': []}",
            "priority",
        ),
        (
            "prioritize_work_units",
            "'ws', {'work_unit_keys': ['a'], 'adjustment': {}}",
            "adjustment",
        ),
        ("del_work_units", "'ws', 5", "options"),
        (
            "del_work_units",
            "'ws', {'work_unit_keys': 5}",
            "work_unit_keys",
        ),
        ("update_work_unit", "'ws', 'a', 5", "options"),
        (
            "update_work_unit",
            "'ws', 5, {'status': 4}",
            "work_unit_key",
        ),
        (
            "update_work_unit",
            "'ws', 'a', {'status': 'done'}",
            "status",
        ),
        (
            "update_work_unit",
            "'ws', 'a', {'status': 4, 'data': 5}",
            "data",
        ),
        (
            "update_work_unit",
            "'ws', 'a', {'lease_time': []}",
            "lease_time",
        ),
        ("get_work", "5, {}", "worker_id"),
        ("get_work", "'w', 5", "options"),
        ("get_work", "'w', {'max_jobs': []}", "max_jobs"),
        ("get_work", "'w', {'lease_time': []}", "lease_time"),
        ("get_work", "'w', {'work_spec_names': 5}", "work_spec_names"),
        ("archive", "5", "options"),
        ("worker_heartbeat", "5, 'RUN', 60, {}, null", "worker_id"),
        (
            "worker_heartbeat",
            "'w', 'RUN', 'x', {}, null",
            "expire_seconds",
        ),
        ("worker_heartbeat", "'w', 'RUN', 60, 5, null", "data"),
        ("worker_heartbeat", "'w', 'RUN', 60, {}, 5", "parent"),
        ("worker_unregister", "5", "worker_id"),
        ("lock", "'l', 60, 5", "keys"),
        ("lock", "'l', 60, ['a']", "keys"),
        ("lock", "'l', 'x', [['a']]", "timeout"),
        ("readlock", "null", "keys"),
        ("unlock", "'l', 'a'", "keys"),
    ];
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {'x': 1}]");
    let before = state(&mut client);
    for (method, params, parameter) in missing.into_iter().chain(ill_typed) {
        let message = client.refused(method, params);
        assert!(
            message.contains(method) && message.contains(parameter),
            "{method}({params}): {message}"
        );
    }
    assert_eq!(state(&mut client), before);
    assert_eq!(
        client.call("readlock", "[['a']]"),
        diag("[null]"),
        "nothing was locked"
    );
}

#[test]
fn surplus_and_unknown_parameters_are_refused_by_method_and_change_nothing() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let before = state(&mut client);
    let surplus = [
        ("get_work_spec", "'ws', 'b', 'c'"),
        ("clear", "1"),
        ("now", "null"),
        ("set_work_spec", "{'name': 'x'}, {}"),
        ("del_work_spec", "'ws', 'ws'"),
        ("del_work_units", "'ws', {'all': true}, 1"),
        ("archive", "{}, {}"),
        ("get_config", "{}"),
        ("worker_heartbeat", "'w', 'RUN', 60, {}, null, null"),
    ];
    for (method, params) in surplus {
        let message = client.refused(method, params);
        assert!(message.contains(method), "{method}({params}): {message}");
    }
    let unknown = [
        (
            "get_work_spec",
            "{'no_such_argument': 1}",
            "no_such_argument",
        ),
        (
            "get_work_spec",
            "{'work_spec_name': 'ws', 'no_such_argument': 1}",
            "no_such_argument",
        ),
        ("clear", "{'force': true}", "force"),
        (
            "del_work_spec",
            "{'name': 'ws', 'work_spec_name': 'ws'}",
            "name",
        ),
    ];
    for (method, params, name) in unknown {
        let reply = client.request(method, diag(params));
        let Reply::Error(message) = reply else {
            panic!("{method}({params}): {reply:?}")
        };
        assert!(
            message.contains(method) && message.contains(name),
            "{method}({params}): {message}"
        );
    }
    assert_eq!(state(&mut client), before);
}

#[test]
fn options_that_nobody_knows_are_ignored() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    assert_eq!(
        client.keys("ws", "{'some_future_option': 5, 7: 1}"),
        ["a", "b"]
    );
    assert!(
        client
            .take_with(
                "w",
                "{'some_future_option': [1], 'available_gb': null, 'work_spec_names': null}"
            )
            .is_some()
    );
    client.updated("ws", "a", "{'status': 4, 'some_future_option': {}}");
}

#[test]
fn whatever_a_parameter_is_there_is_an_answer() {
    const VALUES: [&str; 28] = [
        "null",
        "true",
        "undefined",
        "0",
        "-1",
        "7",
        "18446744073709551615",
        "18446744073709551616",
        "-18446744073709551616",
        "10000000000000000000000000000000000000000",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e308",
        "-1e308",
        "5e-324",
        "-0.0",
        "''",
        "h'ff'",
        "\"\\u0000\"",
        "[]",
        "{}",
        "128([])",
        "[[[]]]",
        "{null: []}",
        "37(h'')",
        "2('x')",
        "1(65536([1]))",
    ];
    // Params in which one value after the other is replaced, down to the entries of options.
    const CALLS: [(&str, &str); 33] = [
        ("set_work_spec", "[{'name': 'x', 'weight': 1, 'nice': 1, 'priority': 1, 'interval': 1, 'max_running': 1, 'max_getwork': 1,
            'max_retries': 1, 'then': 'x', 'runtime': 'x', 'continuous': true, 'disabled': true, 'min_gb': 1, 'module': 'm',
            'run_function': 'f', 'run_params': []}]"),
        ("get_work_spec", "['ws']"),
        ("list_work_specs", "[{'limit': 1, 'start': 'a'}]"),
        ("control_work_spec", "['ws', {'status': 1, 'weight': 1, 'interval': 1, 'max_running': 1, 'continuous': false}]"),
        ("get_work_spec_meta", "['ws']"),
        ("add_work_units", "['ws', [['k', {}, {'priority': 1, 'delay': 1}, 1], 's']]"),
        ("count_work_units", "['ws']"),
        ("get_work_units", "['ws', {'work_unit_keys': ['a'], 'state': [1], 'start': 'a', 'limit': 1}]"),
        ("get_work_units", "['ws', {'state': 1, 'start': 'a', 'limit': 1}]"),
        ("get_work_unit_status", "['ws', ['a']]"),
        ("prioritize_work_units", "['ws', {'work_unit_keys': ['a'], 'priority': 1, 'adjustment': 1}]"),
        ("prioritize_work_units", "['ws', {'work_unit_keys': ['a'], 'adjustment': 1}]"),
        ("del_work_units", "['ws', {'work_unit_keys': ['x'], 'state': 5}]"),
        ("update_work_unit", "['ws', 'a', {'status': 3, 'lease_time': 1, 'data': {'output': []}, 'worker_id': 'w', 'delay': 1}]"),
        ("update_work_unit", "['ws', 'a', {'status': 1, 'delay': 1}]"),
        ("update_work_unit", "['ws', 'a', {'lease_time': 1}]"),
        ("update_work_unit", "['ws', 'a', {'status': 4, 'data': {'output': {'x': {}}, 'traceback': 'x'}}]"),
        ("update_work_units", "['ws', [['a', {'status': 1}]]]"),
        ("get_work", "['w', {'max_jobs': 2, 'lease_time': 1, 'work_spec_names': ['ws'], 'available_gb': 1, 'runtimes': ['']}]"),
        ("archive", "[{'work_spec_names': ['ws']}]"),
        ("worker_heartbeat", "['w', 'RUN', 60, {'x': 1}, 'p']"),
        ("worker_unregister", "['w']"),
        ("get_worker_info", "['w']"),
        ("get_child_work_units", "['w']"),
        ("lock", "['l', 60, [['a', 1]]]"),
        ("locksome", "['l', 60, [['a', 1]]]"),
        ("renew", "['l', 60, [['a', 1]]]"),
        ("readlock", "[[['a', 1]]]"),
        ("unlock", "['l', [['a', 1]]]"),
        ("delete_namespace", "['x']"),
        ("list_worker_modes", "[]"),
        ("now", "[]"),
        ("no_such_method", "[1]"),
    ];
    let server = Server::start_with(&["--synchronous", "off"]);
    let mut client = server.connect();
    let mut calls = 0;
    for (method, params) in CALLS {
        let params = diag(params);
        for at in 0..places(&params) {
            for value in VALUES {
                client.call("set_work_spec", "{'name': 'ws', 'then': 'ws'}");
                client.call("add_work_units", "'ws', [['a', {}]]");
                client.request(method, replaced(&params, at, &diag(value)));
                calls += 1;
            }
        }
        // The daemon is well, and so is what it kept.
        client.call("list_work_specs", "{}");
        client.call("get_work_units", "'ws', {}");
        client.call("list_worker_modes", "");
        client.call("get_work", "'w', {'max_jobs': 100}");
    }
    assert!(calls > 2500, "{calls}");
    assert!(!server.log().contains("panick"), "{}", server.log());
}

/// How many values there are in a value, itself included. Keys of maps are not counted.
fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(places).sum(),
        Value::Map(entries) => entries.iter().map(|(_, value)| places(value)).sum(),
        _ => 0,
    }
}

/// A value in which the one at a place, counted from the outside to the inside, is another.
fn replaced(value: &Value, at: usize, by: &Value) -> Value {
    if at == 0 {
        return by.clone();
    }
    let mut left = at - 1;
    let mut inner = |value: &Value| {
        let count = places(value);
        let here = left < count;
        let new = if here {
            replaced(value, left, by)
        } else {
            value.clone()
        };
        left = if here { usize::MAX } else { left - count };
        new
    };
    match value {
        Value::Array(items) => Value::Array(items.iter().map(inner).collect()),
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), inner(value)))
                .collect(),
        ),
        other => other.clone(),
    }
}

// --- many connections ---

#[test]
fn what_was_answered_on_one_connection_is_seen_on_all_others() {
    let (server, mut writer) = server_with_spec();
    let mut reader = server.connect();
    for i in 0..200 {
        let key = format!("u{i:03}");
        writer.add("ws", &format!("['{key}', {{}}]"));
        match i % 4 {
            0 => assert_eq!(reader.keys("ws", "{}").len(), i + 1),
            1 => assert_eq!(reader.state("ws", &key), AVAILABLE),
            2 => assert_eq!(reader.counts("ws"), [(AVAILABLE, i as u64 + 1)].into()),
            _ => assert_eq!(
                reader.keys("ws", &format!("{{'start': '{key}', 'state': 1}}")),
                [key]
            ),
        }
    }
}

#[test]
fn a_list_in_a_pipeline_shows_what_came_before_it_and_not_what_came_after() {
    let (_server, mut client) = server_with_spec();
    let mut bytes = Vec::new();
    for i in 0..100 {
        bytes.extend(frame(&request(
            i,
            "add_work_units",
            &format!("['ws', [['u{i:03}', {{}}]]]"),
        )));
        bytes.extend(frame(&request(
            i,
            "get_work_units",
            "['ws', {'state': [1, 3]}]",
        )));
        bytes.extend(frame(&request(i, "list_work_specs", "[{}]")));
    }
    client.send(&bytes);
    for i in 0..100 {
        assert_eq!(*result_of(&client.next_answer()).item(0), Value::Bool(true));
        assert_eq!(
            result_of(&client.next_answer()).item(0).items().len(),
            i + 1
        );
        assert_eq!(result_of(&client.next_answer()).item(0).items().len(), 1);
    }
}

#[test]
fn an_operation_that_fails_takes_none_of_those_beside_it_along() {
    let (server, mut client) = server_with_spec();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut client = server.connect();
            scope.spawn(move || {
                let mut bytes = Vec::new();
                for i in 0..50 {
                    let good = format!("['ws', [['t{thread}-{i:02}', {{}}]]]");
                    let bad = format!("['ws', [['bad{thread}-{i:02}', {{}}], ['worse']]]");
                    bytes.extend(frame(&request(i, "add_work_units", &good)));
                    bytes.extend(frame(&request(i, "add_work_units", &bad)));
                }
                client.send(&bytes);
                for _ in 0..50 {
                    assert_eq!(*result_of(&client.next_answer()).item(0), Value::Bool(true));
                    error_of(&client.next_answer());
                }
            });
        }
    });
    assert_eq!(client.counts("ws"), [(AVAILABLE, 200)].into());
    assert!(client.keys("ws", "{'start': 'bad', 'limit': 1}")[0].starts_with('t'));
}

#[test]
fn a_client_that_takes_no_answers_holds_nobody_up_and_gets_them_all_in_the_end() {
    let server = Server::start_with(&["--max-unsent", "1MiB"]);
    let mut other = server.connect();
    other.set_spec("{'name': 'ws'}");
    other.call_with(
        "add_work_units",
        vec![
            Value::bytes("ws"),
            Value::Array(vec![Value::Array(vec![
                Value::bytes("a"),
                large_data(1 << 20),
            ])]),
        ],
    );
    let mut slow = server.connect();
    let mut bytes = Vec::new();
    for id in 0..40 {
        bytes.extend(frame(&request(id, "get_work_units", "['ws', {}]")));
    }
    slow.send(&bytes);
    for i in 0..50 {
        other.add("ws", &format!("['u{i:02}', {{}}]"));
    }
    for id in 0..40 {
        let answer = slow.next_answer();
        assert_eq!(*answer.at("id"), Value::Unsigned(id));
        assert_eq!(
            *result_of(&answer).item(0).item(0).item(1),
            large_data(1 << 20)
        );
    }
}

#[test]
fn a_half_request_that_stands_still_ends_its_connection_and_an_idle_one_stays() {
    let server = Server::start_with(&["--stall-timeout", "1s"]);
    let mut idle = server.connect();
    idle.call("list_work_specs", "{}");
    let mut never_used = server.connect();
    let mut half = server.connect();
    half.send(&frame(&request(1, "now", "[]"))[..9]);
    for answer in half.answers_until_closed() {
        error_of(&answer);
    }
    idle.call("list_work_specs", "{}");
    never_used.call("list_work_specs", "{}");
}

#[test]
fn a_batch_of_too_many_requests_is_refused_as_a_whole() {
    let server = Server::start_with(&["--max-batch", "3"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let batch = |count| {
        Value::Array(
            (0..count)
                .map(|i| {
                    request(
                        i,
                        "add_work_units",
                        &format!("['ws', [['u{count}{i}', {{}}]]]"),
                    )
                })
                .collect(),
        )
    };
    assert_eq!(client.exchange(&batch(3)).items().len(), 3);
    let mut other = server.connect();
    other.send(&frame(&batch(4)));
    let answer = other.next_answer();
    let first = if matches!(answer, Value::Array(_)) {
        answer.item(0)
    } else {
        &answer
    };
    error_of(first);
    assert_eq!(client.counts("ws"), [(AVAILABLE, 3)].into());
}

// --- what ends a connection ---

#[test]
fn an_item_that_is_no_request_ends_its_connection_alone() {
    let server = Server::start();
    for item in [
        "5",
        "-1",
        "'abc'",
        "\"abc\"",
        "true",
        "1.5",
        "24(5)",
        "24(<<5>>)",
        "24(<<'x'>>)",
        "24(\"x\")",
        "37(h'00')",
        "null",
    ] {
        for answer in closed_by(&server, &diag(item).encode()) {
            assert!(
                matches!(reply(&answer), Reply::Error(_)),
                "{item}: {answer}"
            );
        }
    }
}

#[test]
fn malformed_bytes_end_their_connection_alone() {
    let server = Server::start();
    let rows = [
        ("a reserved length", "1c"),
        ("a reserved length of a string", "5d"),
        ("a break alone", "ff"),
        ("a reserved length in a request", "a1426964fd"),
        ("a break as a value of a map", "bf426964ffff"),
        ("a break in a list with a length", "82ff01"),
        ("a number without an end", "1f"),
        ("a tag without an end", "df00"),
        ("a text piece in a byte string", "5f6161ff"),
        ("a list in a byte string", "5f80ff"),
        ("half a request in a whole frame", "d81843a14269"),
        ("nothing in a frame", "d81840"),
        ("more than a request in a frame", "d81842a0a0"),
        ("garbage in a frame", "d81843ffffff"),
    ];
    for (what, hex) in rows {
        for answer in closed_by(&server, &test_support::cbor::unhex(hex)) {
            assert!(
                matches!(reply(&answer), Reply::Error(_)),
                "{what}: {answer}"
            );
        }
    }
}

#[test]
fn what_came_before_malformed_bytes_is_answered() {
    let (server, mut other) = server_with_spec();
    let mut bytes = Vec::new();
    for id in 0..3 {
        bytes.extend(frame(&request(
            id,
            "add_work_units",
            &format!("['ws', [['u{id}', {{}}]]]"),
        )));
    }
    bytes.push(0xff);
    let answers = closed_by(&server, &bytes);
    assert!(answers.len() >= 3, "{answers:?}");
    for (id, answer) in answers[..3].iter().enumerate() {
        assert_eq!(*answer.at("id"), Value::Unsigned(id as u64));
        assert_eq!(*result_of(answer).item(0), Value::Bool(true));
    }
    for answer in &answers[3..] {
        error_of(answer);
    }
    assert_eq!(other.counts("ws"), [(AVAILABLE, 3)].into());
}

#[test]
fn deep_nesting_is_taken_up_to_a_limit_and_ends_the_connection_beyond() {
    let (server, mut client) = server_with_spec();
    let nested = |depth: usize| {
        let mut value = Value::Null;
        for _ in 0..depth {
            value = Value::Array(vec![value]);
        }
        value
    };
    let data = |depth| Value::Map(vec![(Value::bytes("d"), nested(depth))]);
    let units = |depth| Value::Array(vec![Value::Array(vec![Value::bytes("deep"), data(depth)])]);
    client.call_with("add_work_units", vec![Value::bytes("ws"), units(80)]);
    assert_eq!(client.data("ws", "deep"), data(80));
    for depth in [200, 1000] {
        let item = Value::Map(vec![
            (Value::bytes("id"), Value::Unsigned(1)),
            (Value::bytes("method"), Value::bytes("add_work_units")),
            (
                Value::bytes("params"),
                Value::Array(vec![Value::bytes("ws"), units(depth)]),
            ),
        ]);
        for bytes in [frame(&item), item.encode()] {
            let answers = closed_by(&server, &bytes);
            assert_eq!(answers.len(), 1, "an error is answered: {answers:?}");
            error_of(&answers[0]);
        }
    }
    // Deeper than any stack: lists, lists without a length, maps, tags, strings in frames.
    for opening in [
        &[0x81][..],
        &[0x9f],
        &[0xa1, 0x00],
        &[0xc1],
        &[0xbf, 0x00],
        &[0xd8, 0x80],
    ] {
        closed_by(&server, &opening.repeat(1_000_000));
    }
    assert_eq!(client.data("ws", "deep"), data(80));
}

#[test]
fn a_declared_length_that_is_absurd_ends_the_connection_at_once() {
    let server = Server::start();
    let rows = [
        ("a frame of 2^62 bytes", "d8185b4000000000000000"),
        ("a byte string of 2^62 bytes", "5b4000000000000000"),
        ("a byte string of 2^64 - 1 bytes", "5bffffffffffffffff"),
        ("a batch of 2^62 requests", "9b4000000000000000"),
        ("a request of 2^62 entries", "bb4000000000000000"),
        ("a request of 2^63 entries", "bb8000000000000000"),
        ("a request of 2^64 - 1 entries", "bbffffffffffffffff"),
        ("params of 2^62 items", "a146706172616d739b4000000000000000"),
        (
            "a text of 2^62 bytes in a request",
            "a16269647b4000000000000000",
        ),
        ("a frame of 1 GB", "d8185a40000000"),
        ("a list of 2^62 in a frame", "d818499b4000000000000000"),
    ];
    for (what, hex) in rows {
        for answer in closed_by(&server, &test_support::cbor::unhex(hex)) {
            assert!(
                matches!(reply(&answer), Reply::Error(_)),
                "{what}: {answer}"
            );
        }
    }
}

#[test]
fn a_message_above_the_limit_is_refused_and_ends_the_connection() {
    let server = Server::start_with(&["--max-message", "1MiB"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let add = |size| {
        Value::Map(vec![
            (Value::bytes("id"), Value::Unsigned(1)),
            (Value::bytes("method"), Value::bytes("add_work_units")),
            (
                Value::bytes("params"),
                Value::Array(vec![
                    Value::bytes("ws"),
                    Value::Array(vec![Value::Array(vec![
                        Value::bytes("a"),
                        large_data(size),
                    ])]),
                ]),
            ),
        ])
    };
    assert_eq!(
        *result_of(&client.exchange(&add(1_000_000))).item(0),
        Value::Bool(true)
    );
    // Declared at the start, and only found by reading on.
    let mut pieces = vec![0xd8, 24, 0x5f];
    for piece in add(3 << 20).encode().chunks(1 << 16) {
        head(&mut pieces, 2, piece.len() as u64);
        pieces.extend(piece);
    }
    pieces.push(0xff);
    for bytes in [frame(&add(3 << 20)), add(3 << 20).encode(), pieces] {
        let answers = closed_by(&server, &bytes);
        assert_eq!(answers.len(), 1, "an error is answered: {answers:?}");
        error_of(&answers[0]);
    }
    assert_eq!(
        *client.data("ws", "a").at("d"),
        Value::Bytes(vec![b'x'; 1_000_000]),
        "nothing of it was done"
    );
}
