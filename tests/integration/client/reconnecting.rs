//! Connections that break and are made again, and pipelines.

use coordinated_client::cbor::Value;
use coordinated_client::{Address, Connection, Coordinate, Error, NewUnit, Options, Request};
use std::thread;
use std::time::Duration;
use test_support::Server;

fn patient() -> Options {
    Options {
        retries: 14,
        retry_delay: Duration::from_millis(2),
        ..Options::default()
    }
}

fn address(server: &Server) -> Address {
    server.address().parse().expect("an address")
}

#[test]
fn nobody_there_is_an_error_at_once_and_nothing_was_done() {
    let nobody: Address = "unix:/nonexistent/socket".parse().expect("an address");
    let error = Coordinate::connect(&nobody).expect_err("nobody");
    assert!(matches!(error, Error::Unreachable { .. }) && !error.is_outcome_unknown());
    assert!(
        error.to_string().contains("unix:/nonexistent/socket"),
        "{error}"
    );
}

#[test]
fn a_call_waits_for_a_daemon_that_is_just_being_started() {
    let folder = tempfile::TempDir::new().expect("folder");
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let address: Address = socket.parse().expect("an address");
    let waiting = thread::spawn(move || Coordinate::new(Connection::new(address, patient())).now());
    let _server = Server::start_with(&["--listen", &socket]);
    assert!(waiting.join().expect("thread").expect("now") > 0);
}

#[test]
fn a_restart_between_two_calls_goes_unnoticed_also_by_what_must_not_be_repeated() {
    let mut server = Server::start();
    let mut client = Coordinate::new(Connection::new(address(&server), patient()));
    let name = Value::map([("name", Value::from("ws"))]);
    client.set_work_spec(&name).expect("set");
    for key in ["a", "b"] {
        server.restart();
        let unit = NewUnit::new(key, Value::EMPTY_MAP);
        client.add_work_units(&"ws".into(), [unit]).expect(key);
    }
    assert_eq!(
        client
            .count_work_units(&"ws".into())
            .expect("count")
            .available,
        2
    );
}

#[test]
fn answers_come_in_the_order_of_the_requests_and_errors_among_them() {
    let server = Server::start();
    let mut connection = Connection::open(address(&server), patient()).expect("open");
    let mut pipeline = connection.pipeline();
    for number in 0..200_u64 {
        let name = Value::from(format!("{number:03}"));
        let definition = Value::map([("name", name)]);
        pipeline
            .send(&Request::new("set_work_spec", [definition]))
            .expect("send");
        if number == 100 {
            pipeline
                .send(&Request::new("no_such_method", []))
                .expect("send");
        }
    }
    pipeline
        .send(&Request::new("list_work_specs", [Value::EMPTY_MAP]))
        .expect("send");
    assert_eq!(pipeline.unanswered(), 202);
    let answers: Vec<_> = std::iter::from_fn(|| pipeline.receive()).collect();
    assert_eq!((answers.len(), pipeline.unanswered()), (202, 0));
    assert!(
        matches!(&answers[101], Err(Error::Failed { method, .. }) if method == "no_such_method")
    );
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
    let list = answers[201]
        .as_ref()
        .expect("a list")
        .as_list()
        .expect("a pair");
    assert_eq!(list[0].as_list().map(<[Value]>::len), Some(200));
}

#[test]
fn what_was_unanswered_when_the_connection_broke_is_lost_and_the_pipeline_goes_on() {
    let mut server = Server::start();
    let mut connection = Connection::open(address(&server), patient()).expect("open");
    let mut pipeline = connection.pipeline();
    pipeline.send(&Request::new("now", [])).expect("send");
    pipeline.receive().expect("one").expect("now");
    server.kill();
    server.start_again();
    // It goes out on a new connection, since nothing was unanswered on the old one.
    pipeline.send(&Request::new("now", [])).expect("send");
    pipeline.receive().expect("one").expect("now");

    pipeline.send(&Request::new("now", [])).expect("send");
    server.kill();
    pipeline.receive().expect("one").ok();
    assert_eq!(pipeline.unanswered(), 0);
    server.start_again();
    pipeline.send(&Request::new("now", [])).expect("send");
    pipeline.receive().expect("one").expect("now");
}

#[test]
fn a_pipeline_that_is_left_leaves_no_answers_to_later_calls() {
    let server = Server::start();
    let mut connection = Connection::open(address(&server), patient()).expect("open");
    let mut pipeline = connection.pipeline();
    pipeline
        .send(&Request::new("worker_stats", []))
        .expect("send");
    drop(pipeline);
    let value = connection.call(&Request::new("now", [])).expect("now");
    assert!(value.as_i64().is_some(), "{value:?}");
}
