//! Functions that are run for an original server, which lacks what only this daemon has.

use crate::commands::cutter::Messages;
use coordinated_client::Address;
use coordinated_client::worker::{Context, Outcome, Tally, Worker};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use test_support::{
    AVAILABLE, FINISHED, PENDING, Server, Value, diag, frame, server_with_spec, unframe,
};

/// Methods that the originals don't have.
const METHODS: [&str; 3] = ["server_info", "get_attempts", "update_work_units"];
/// Options that they pass over; old ones don't know the names of work specs either.
const OPTIONS: [&str; 6] = [
    "runtimes",
    "work_spec_names",
    "delay",
    "worker_id",
    "attempts",
    "attempt",
];

/// Stands before a daemon, and takes from it what the originals lack. Gives its address.
fn original(server: &Server) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let daemon = server.address().to_owned();
    // It ends with the test program.
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = Messages::new(client.expect("a connection"));
            let daemon = Messages::new(TcpStream::connect(&daemon).expect("connect"));
            thread::spawn(|| stand_between(client, daemon));
        }
    });
    address.parse().expect("an address")
}

fn stand_between(mut client: Messages, mut daemon: Messages) {
    while let Some(request) = client.next() {
        let request = unframe(&request);
        let method = request.at("method").name().expect("a method");
        let answer = if METHODS.contains(&&*method) {
            let error = "{'message': 'no such method'}";
            let id = request.at("id");
            frame(&diag(&format!("{{'id': {id}, 'error': {error}}}")))
        } else {
            let request = frame(&with_known_options(request));
            daemon.stream.write_all(&request).expect("send");
            daemon.next().expect("an answer")
        };
        if client.stream.write_all(&answer).is_err() {
            return;
        }
    }
}

fn with_known_options(mut request: Value) -> Value {
    if let Value::Map(entries) = &mut request {
        for (_, value) in entries {
            if let Value::Array(params) = value
                && let Some(Value::Map(options)) = params.last_mut()
            {
                options.retain(|(key, _)| {
                    let key = key.name().unwrap_or_default();
                    !OPTIONS.contains(&&*key)
                });
            }
        }
    }
    request
}

/// Lets a worker give its only unit back, and end.
fn give_back(server: &Server, delay: Duration) -> Tally {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let (may_end, go) = channel::<()>();
    let go = Mutex::new(go);
    let run = Worker::new(&original(server)).on("ws", move |_| {
        tell.lock().expect("sender").send(()).expect("send");
        go.lock().expect("receiver").recv().expect("go");
        Ok(Outcome::given_back(delay))
    });
    let stopper = run.stopper();
    let running = thread::spawn(|| run.run());
    told.recv().expect("it has begun");
    // So that it does not get the unit again.
    stopper.drain();
    may_end.send(()).expect("send");
    running.join().expect("thread").expect("it runs")
}

#[test]
fn a_unit_is_given_back_at_once_or_leased_for_as_long_as_it_is_to_wait() {
    for (delay, state) in [(0, AVAILABLE), (1_000, PENDING)] {
        let (server, mut client) = server_with_spec();
        client.add("ws", "['a', {}]");
        let tally = give_back(&server, Duration::from_secs(delay));
        assert_eq!((tally.given_back, tally.lost), (1, 0));
        let now = client.call("now", "").number().expect("a time");
        let status = client.status("ws", "a");
        assert_eq!(status.status, state, "after {delay} s");
        if let Some(expires) = status.expiration {
            let left = expires - now;
            assert!((900.0..=1_001.0).contains(&left), "{left} s");
        }
    }
}

#[test]
fn the_worker_counts_attempts_until_the_unit_has_ended() {
    let (server, mut client) = server_with_spec();
    let address = original(&server);
    for _ in 0..2 {
        client.add("ws", "['a', {}]");
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&attempts);
        let tally = Worker::new(&address)
            .until_empty()
            .on("ws", move |unit: &Context| {
                seen.lock().expect("attempts").push(unit.attempt());
                assert_eq!(unit.attempt_id(), None);
                Ok(match unit.attempt() {
                    1 | 2 => Outcome::given_back(Duration::from_millis(1)),
                    _ => Outcome::finished(),
                })
            })
            .run()
            .expect("it runs");
        assert_eq!(*attempts.lock().expect("attempts"), [1, 2, 3]);
        assert_eq!((tally.given_back, tally.finished), (2, 1));
    }
}

#[test]
fn units_that_the_worker_has_no_function_for_are_given_back() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'other', 'priority': 1}");
    client.add("other", "['b', {'n': 1}]");
    client.add("ws", "['a', {}]");
    let tally = Worker::new(&original(&server))
        .until_empty()
        .on("ws", |_| Ok(Outcome::finished()))
        .run()
        .expect("it runs");
    assert_eq!((tally.finished, tally.failed, tally.lost), (1, 0, 0));
    assert!(tally.given_back >= 1, "{tally:?}");
    assert_eq!(client.state("ws", "a"), FINISHED);
    assert!([AVAILABLE, PENDING].contains(&client.state("other", "b")));
    assert_eq!(client.data("other", "b"), diag("{'n': 1}"));
}
