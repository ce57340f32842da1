//! Servers that break off, say nothing, or say nonsense; and answers in the forms of the originals.

use coordinated_client::cbor::Value;
use coordinated_client::{
    Address, Connection, Coordinate, Deletion, Error, GetWork, ListLocks, Options, Request, Resend,
    Status, UnitQuery, Update,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use test_support::{PATIENCE, cbor::unhex, diag, frame, unframe};

/// What a server does with a request.
#[derive(Clone)]
enum Act {
    /// Answers, with a result in diagnostic notation.
    Result(&'static str),
    /// Answers with an error.
    Error(&'static str),
    /// Sends these bytes, in hexadecimal digits.
    Bytes(&'static str),
    /// Closes the connection.
    Close,
    /// Says nothing until the client goes.
    Silence,
}

/// A server that does what it is told, request by request, and takes a new connection when it has closed one.
/// Gives the methods that it was asked for.
struct Script {
    address: Address,
    thread: JoinHandle<Vec<String>>,
}

impl Script {
    fn start(acts: &[Act]) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").into();
        let acts = acts.to_vec();
        let thread = thread::spawn(move || {
            let mut methods = Vec::new();
            let mut stream = None;
            for act in acts {
                let connected = stream.get_or_insert_with(|| accept(&listener));
                let Some(request) = read_request(connected) else {
                    break;
                };
                methods.push(request.at("method").name().expect("a method"));
                let mut answer = |what: String| {
                    let answer = format!("{{'id': {}, {what}}}", request.at("id"));
                    connected.write_all(&frame(&diag(&answer))).expect("send");
                };
                match act {
                    Act::Result(result) => answer(format!("'result': {result}")),
                    Act::Error(message) => answer(format!("'error': {{'message': '{message}'}}")),
                    Act::Bytes(hex) => connected.write_all(&unhex(hex)).expect("send"),
                    Act::Close => stream = None,
                    Act::Silence => {
                        let _ = connected.read(&mut [0]);
                        stream = None;
                    }
                }
            }
            methods
        });
        Script { address, thread }
    }

    fn methods(self) -> Vec<String> {
        self.thread.join().expect("script")
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("accept");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream
}

fn read_request(stream: &mut TcpStream) -> Option<test_support::Value> {
    // Heads of up to 255 bytes, which is what these tests send.
    let mut head = [0; 4];
    stream.read_exact(&mut head[..3]).ok()?;
    let (length, long) = match head[2] {
        0x58 => (0, true),
        short => (usize::from(short - 0x40), false),
    };
    let mut bytes = head[..3].to_vec();
    let mut length = length;
    if long {
        stream.read_exact(&mut head[3..]).ok()?;
        bytes.push(head[3]);
        length = usize::from(head[3]);
    }
    let start = bytes.len();
    bytes.resize(start + length, 0);
    stream.read_exact(&mut bytes[start..]).ok()?;
    Some(unframe(&bytes))
}

fn quick() -> Options {
    Options {
        retries: 3,
        retry_delay: Duration::from_millis(1),
        ..Options::default()
    }
}

fn client(script: &Script, options: Options) -> Coordinate {
    Coordinate::new(Connection::new(script.address.clone(), options))
}

#[test]
fn what_reads_is_asked_again_when_the_connection_breaks() {
    let script = Script::start(&[Act::Close, Act::Close, Act::Result("17")]);
    assert_eq!(client(&script, quick()).now().expect("now"), 17);
    assert_eq!(script.methods(), ["now"; 3]);
}

#[test]
fn what_gives_work_is_not_asked_again_and_its_outcome_is_unknown() {
    let script = Script::start(&[Act::Close]);
    let outcome = client(&script, quick()).get_work(&"w".into(), &GetWork::default());
    let error = outcome.expect_err("lost");
    assert!(
        matches!(error, Error::Lost { .. }) && error.is_outcome_unknown(),
        "{error:?}"
    );
    let address = script.address.to_string();
    assert!(
        error.to_string().contains("get_work") && error.to_string().contains(&address),
        "{error}"
    );
    assert_eq!(script.methods(), ["get_work"]);
}

#[test]
fn whether_a_report_is_sent_again_depends_on_what_it_says() {
    let script = Script::start(&[Act::Close, Act::Result("[true, null]"), Act::Close]);
    let mut client = client(&script, quick());
    let (spec, key) = ("ws".into(), "a".into());
    client
        .update_work_unit(&spec, &key, &Update::finished())
        .expect("finished again");
    let error = client
        .update_work_unit(&spec, &key, &Update::available())
        .expect_err("lost");
    assert!(matches!(error, Error::Lost { .. }));
    assert_eq!(script.methods(), ["update_work_unit"; 3]);
}

#[test]
fn everything_is_sent_again_if_that_is_asked_for() {
    let script = Script::start(&[Act::Close, Act::Result("[128([null, null, null]), null]")]);
    let options = Options {
        resend: Resend::Everything,
        ..quick()
    };
    let mut client = client(&script, options);
    assert_eq!(
        client
            .get_work(&"w".into(), &GetWork::default())
            .expect("none"),
        []
    );
    assert_eq!(script.methods(), ["get_work"; 2]);
}

#[test]
fn a_server_that_breaks_off_each_time_is_given_up() {
    let script = Script::start(&[Act::Close, Act::Close, Act::Close, Act::Close]);
    let error = client(&script, quick()).now().expect_err("given up");
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    assert_eq!(script.methods(), ["now"; 4]);
}

#[test]
fn an_answer_that_does_not_come_in_time_is_given_up() {
    let script = Script::start(&[Act::Silence, Act::Result("1")]);
    let options = Options {
        answer_timeout: Some(Duration::from_millis(50)),
        ..quick()
    };
    let mut connection = Connection::new(script.address.clone(), options);
    let error = connection
        .call(&Request::new("now", []))
        .expect_err("no answer");
    assert!(
        matches!(error, Error::Timeout { .. }) && error.is_outcome_unknown(),
        "{error:?}"
    );
    assert!(error.to_string().contains("50ms"), "{error}");
    // The next call has a connection of its own, and can't get the late answer.
    let value = connection.call(&Request::new("now", [])).expect("now");
    assert_eq!(value, Value::from(1));
    drop(connection);
    assert_eq!(script.methods(), ["now"; 2]);
}

/// A server of which the kernel takes connections, and nothing else happens.
fn silent() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").into();
    (listener, address)
}

#[test]
fn a_server_that_gives_no_sign_of_life_is_given_up() {
    let (_listener, address) = silent();
    let options = Options {
        answer_timeout: None,
        silence_timeout: Some(Duration::from_millis(100)),
        ..quick()
    };
    let mut connection = Connection::new(address, options.clone());
    let error = connection
        .call(&Request::new("now", []))
        .expect_err("silence");
    assert!(
        matches!(&error, Error::Timeout { method, .. } if method == "now"),
        "{error:?}"
    );
    assert!(error.to_string().contains("within 100ms"), "{error}");
}

#[test]
fn an_answer_that_takes_long_is_waited_for_while_the_server_answers_on_other_connections() {
    let (listener, address) = silent();
    let server = thread::spawn(move || {
        let mut busy = accept(&listener);
        let request = read_request(&mut busy).expect("a request");
        // So long that it is asked for a sign of life again and again.
        for _ in 0..3 {
            let mut other = accept(&listener);
            let asked = read_request(&mut other).expect("a request");
            assert_eq!(asked.at("method").name().as_deref(), Some("server_info"));
            let answer = format!(
                "{{'id': {}, 'error': {{'message': 'what?'}}}}",
                asked.at("id")
            );
            other.write_all(&frame(&diag(&answer))).expect("send");
        }
        let answer = format!("{{'id': {}, 'result': 17}}", request.at("id"));
        busy.write_all(&frame(&diag(&answer))).expect("send");
    });
    let options = Options {
        silence_timeout: Some(Duration::from_millis(100)),
        ..quick()
    };
    let mut client = Coordinate::new(Connection::new(address, options));
    assert_eq!(client.now().expect("now"), 17);
    server.join().expect("server");
}

/// Bytes that come, or are taken, one by one.
#[test]
fn the_time_for_an_answer_does_not_begin_anew_with_each_piece() {
    let options = Options {
        answer_timeout: Some(Duration::from_millis(300)),
        ..quick()
    };
    for is_answering in [true, false] {
        let (listener, address) = silent();
        let server = thread::spawn(move || {
            let mut stream = accept(&listener);
            // The head of an answer of a million bytes.
            let _ = stream.write_all(&unhex("d8185a000f4240"));
            loop {
                let goes_on = match is_answering {
                    true => stream.write_all(&[0]).is_ok(),
                    false => stream.read(&mut [0; 65_536]).is_ok_and(|count| count > 0),
                };
                if !goes_on {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        let length = if is_answering { 1 } else { 60_000_000 };
        let request = Request::new("now", [Value::Bytes(vec![0; length])]);
        let mut connection = Connection::new(address, options.clone());
        let error = connection.call(&request).expect_err("too slow");
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        drop(connection);
        server.join().expect("server");
    }
}

#[test]
fn a_unix_socket_that_takes_no_more_connections_is_given_up() {
    let folder = tempfile::TempDir::new().expect("folder");
    let path = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    let options = Options {
        connect_timeout: Duration::from_millis(50),
        ..quick()
    };
    // Nobody accepts them, so at some time there is no more room.
    let mut waiting = Vec::new();
    let error = loop {
        match Connection::open(Address::Unix(path.clone()), options.clone()) {
            Ok(connection) => waiting.push(connection),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, Error::Unreachable { source, .. } if source.kind() == ErrorKind::TimedOut),
        "{error:?}"
    );
}

#[test]
fn a_server_that_speaks_another_protocol_is_shown_with_what_it_says() {
    let hex: String = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let script = Script::start(&[Act::Bytes(hex.leak())]);
    let error = client(&script, quick()).now().expect_err("HTTP");
    assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("it sent \"HTTP/1.1 400 Bad Request\""),
        "{error}"
    );
}

#[test]
fn what_is_no_answer_is_told_from_one() {
    for (hex, problem) in [
        ("00", "an integer"),
        ("a1ff", "0xff"),
        ("d81842a101", "expected one item"),
        // {'id': 1}, and {'id': 2, 'result': null}
        ("a142696401", "without both"),
        ("a24269640246726573756c74f6", "id"),
        ("d8185a7fffffff", "longer than 1000 bytes"),
    ] {
        let script = Script::start(&[Act::Bytes(hex), Act::Result("1")]);
        let options = Options {
            answer_bytes_max: 1_000,
            ..quick()
        };
        let mut connection = Connection::new(script.address.clone(), options);
        let error = connection
            .call(&Request::new("now", []))
            .expect_err("nonsense");
        assert!(
            matches!(error, Error::Unreadable { .. }),
            "{hex}: {error:?}"
        );
        assert!(error.to_string().contains(problem), "{hex}: {error}");
    }
}

#[test]
fn the_answers_to_a_list_of_requests_are_told_from_others() {
    let requests = [Request::new("now", []), Request::new("now", [])];
    // One list of answers: [{'id': 1, 'result': 17}, {'id': 2, 'error': {'message': 'no'}}], without the second,
    // with another id, with more than were asked for; and one answer for all.
    let first = "a2426964014672657375 6c7411".replace(' ', "");
    let second = "a242696402456572726f72a1476d657373616765426e6f";
    let good = "a24269640246726573756c7412";
    for (hex, expected) in [
        (format!("82{first}{good}"), "[Int(17), Int(18)]"),
        (format!("82{first}{second}"), "now: no"),
        (format!("81{first}"), "fewer"),
        (format!("82{first}{first}"), "instead of Some(2)"),
        (format!("83{first}{good}{good}"), "instead of None"),
        (
            "a2426964f6456572726f72a1476d657373616765426e6f".to_owned(),
            "now: no",
        ),
    ] {
        let framed = format!("d81858{:02x}{hex}", hex.len() / 2);
        let mut connection = Connection::new(list_server(framed), quick());
        let found = match connection.call_list(&requests) {
            Ok(values) => format!("{values:?}"),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "{hex}: {found}");
    }
}

/// A server that gives one answer, whatever it is asked.
fn list_server(hex: String) -> Address {
    let (listener, address) = silent();
    thread::spawn(move || {
        let mut stream = accept(&listener);
        stream.read_exact(&mut [0]).expect("a request");
        stream.write_all(&unhex(&hex)).expect("send");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    address
}

#[test]
fn a_result_in_another_form_than_expected_is_named() {
    let script = Script::start(&[
        Act::Result("'x'"),
        Act::Result("[5, null]"),
        Act::Result("[{1: 'x'}, null]"),
    ]);
    let mut client = client(&script, quick());
    for expected in ["a pair", "a map", "a count"] {
        let error = client.count_work_units(&"ws".into()).expect_err("nonsense");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("count_work_units"), "{error}");
    }
}

#[test]
fn answers_in_the_forms_of_the_originals_are_read() {
    let script = Script::start(&[
        Act::Result("128([{1: 3, 4: 1}, null])"),
        Act::Result("[null, null]"),
        Act::Result("{'w': 'RUN'}"),
        Act::Result("[[{'name': 'a'}, null], null]"),
        Act::Error("No such work spec none"),
        Act::Error("something else"),
        Act::Result("128([false, 'no such work_spec'])"),
        Act::Result("[false, null]"),
    ]);
    let mut client = client(&script, quick());
    let counts = client.count_work_units(&"ws".into()).expect("count");
    assert_eq!((counts.available, counts.finished), (3, 1));
    assert_eq!(
        client
            .get_work_units(&"ws".into(), &UnitQuery::default())
            .expect("units"),
        []
    );
    assert_eq!(
        client.list_worker_modes().expect("modes"),
        [("w".into(), Some("RUN".into()))]
    );
    assert_eq!(client.work_spec_names().expect("names"), ["a".into()]);
    assert_eq!(client.get_work_spec(&"none".into()).expect("get"), None);
    let error = client.get_work_spec(&"a".into()).expect_err("it fails");
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    for expected in ["no such work_spec", "without a reason"] {
        match client.update_work_unit(&"ws".into(), &"a".into(), &Update::available()) {
            Err(Error::Refused { message, .. }) => assert!(message.contains(expected), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_server_is_asked_to_delete_the_units_of_an_empty_list() {
    let nobody: Address = "unix:/nonexistent/socket".parse().expect("an address");
    let mut client = Coordinate::new(Connection::new(nobody, quick()));
    let none = Deletion::Named(Vec::new(), None);
    assert_eq!(client.del_work_units(&"ws".into(), &none).expect("none"), 0);
}

#[test]
fn the_lists_that_only_this_daemon_has_are_read() {
    let script = Script::start(&[
        Act::Result(
            "[[{'work_spec': 'a', 'status': 1, 'count': 5, 'delayed': 2, 'waiting': 7.5}, \
             {'work_spec': 'a', 'status': 4, 'count': 3}, \
             {'work_spec': 'b', 'status': 5, 'count': 1}], null]",
        ),
        Act::Result(
            "[[{'number': 2, 'worker_id': 'w', 'status': 6, 'start': 1.5, 'end': 2.5, \
             'expiration': 3.5, 'data': {'x': 1}}], null]",
        ),
        Act::Result(
            "[[{'message': 'no', 'count': 2, 'first_key': h'ff', 'last_failed': 9.5}], null]",
        ),
        Act::Result("[[{'code': 'paused', 'text': 'it is paused'}], null]"),
        Act::Result("[[{'path': ['a', 1], 'owner': 'me', 'expires': 4.5}], null]"),
        Act::Result("[null, 'no such work spec']"),
    ]);
    let mut client = client(&script, quick());
    let summary = client.summary().expect("summary");
    let [a, b] = &summary[..] else {
        panic!("{summary:?}")
    };
    assert_eq!(
        (&a.work_spec, a.counts.available, a.counts.finished),
        (&"a".into(), 5, 3)
    );
    assert_eq!((a.delayed, a.waiting), (2, Some(7.5)));
    assert_eq!((b.counts.failed, b.counts.total(), b.waiting), (1, 1, None));
    let attempts = client
        .get_attempts(&"a".into(), &"k".into(), None)
        .expect("attempts");
    assert_eq!(
        (attempts[0].status, attempts[0].number),
        (Status::Expired, Some(2))
    );
    assert_eq!((attempts[0].start, attempts[0].end), (Some(1.5), Some(2.5)));
    let failures = client
        .list_failures(&"a".into(), Some(5))
        .expect("failures");
    assert_eq!((failures[0].message.as_str(), failures[0].count), ("no", 2));
    assert_eq!(failures[0].first_key.bytes(), b"\xff");
    let reasons = client.explain_work(&"a".into(), None).expect("reasons");
    assert_eq!(reasons[0].code, "paused");
    let locks = client.list_locks(&ListLocks::default()).expect("locks");
    assert_eq!(
        locks[0].path,
        ["a".into(), 1.into()].map(|label: Value| match label {
            Value::Text(text) => Value::Bytes(text.into_bytes()),
            other => other,
        })
    );
    assert_eq!((&locks[0].owner, locks[0].expires), (&"me".into(), 4.5));
    let error = client
        .explain_work(&"none".into(), None)
        .expect_err("refused");
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert_eq!(
        script.methods(),
        [
            "summary",
            "get_attempts",
            "list_failures",
            "explain_work",
            "list_locks",
            "explain_work"
        ]
    );
}
