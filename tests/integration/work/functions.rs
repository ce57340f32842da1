//! Functions that are run by `coordinated_client::worker`.

use super::{data, traceback};
use coordinated_client::cbor::Value;
use coordinated_client::worker::{Cancellation, Context, Outcome, Retry, Tally, Worker};
use coordinated_client::{Address, Error};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use test_support::{AVAILABLE, FAILED, FINISHED, PENDING, Server, server_with_spec, wait_until};

fn worker(server: &Server) -> Worker {
    Worker::new(&address(server))
}

fn address(server: &Server) -> Address {
    server.address().parse().expect("an address")
}

#[test]
fn errors_and_panics_fail_their_units_and_the_others_go_on() {
    let (server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['error', {'n': 1}], ['panic', {}], ['good', {}], ['new', {}]",
    );
    let run = worker(&server)
        .threads(2)
        .until_empty()
        .on("ws", |unit| match unit.key().bytes() {
            b"error" => Err("no such thing".into()),
            b"panic" => panic!("oh {}", "dear"),
            b"new" => Ok(Outcome::finished_with(Value::map([("x", 1.into())]))),
            _ => Ok(Outcome::finished()),
        });
    let expected = Tally {
        finished: 2,
        failed: 2,
        ..Tally::default()
    };
    assert_eq!(run.run().expect("it runs"), expected);
    assert_eq!(traceback(&server, "error"), "no such thing");
    assert_eq!(traceback(&server, "panic"), "panicked: oh dear");
    assert!(data(&server, "error").starts_with(r#"{"n":1,"#));
    assert_eq!(data(&server, "new"), r#"{"x":1}"#);
}

#[test]
fn a_function_says_whether_and_when_its_unit_is_tried_again() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'ws', 'retries': 2, 'retry_delay': 1000}");
    client.add("ws", "['soon', {}], ['never', {}]");
    let run = worker(&server)
        .until_empty()
        .on("ws", |unit| match unit.key().bytes() {
            b"never" => Ok(Outcome::failed_for_good("it is bad")),
            _ if unit.attempt() == 3 => Ok(Outcome::finished()),
            _ => Ok(Outcome::Failed {
                traceback: "it may work later".to_owned(),
                retry: Retry::After(Duration::from_millis(10)),
            }),
        });
    let tally = run.run().expect("it runs");
    assert_eq!((tally.finished, tally.failed), (1, 3));
    assert_eq!(client.state("ws", "soon"), FINISHED);
    assert_eq!(client.state("ws", "never"), FAILED);
}

#[test]
fn a_function_knows_its_unit_and_each_work_spec_has_its_own() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'other', 'size': 7}");
    client.set_spec("{'name': 'third'}");
    client.add("ws", "['a', {'n': 1}]");
    client.add("other", "['b', {}]");
    client.add("third", "['c', {}]");
    let (sender, seen) = channel();
    let sender = Mutex::new(sender);
    let tell = move |text: String| sender.lock().expect("sender").send(text).expect("send");
    let tell = std::sync::Arc::new(tell);
    let tell_too = std::sync::Arc::clone(&tell);
    let tally = worker(&server)
        .until_empty()
        .on("ws", move |unit| {
            tell(format!(
                "{} {:?} {}",
                unit.key(),
                unit.data().get("n"),
                unit.attempt()
            ));
            Ok(Outcome::finished())
        })
        .on("other", move |unit| {
            tell_too(format!(
                "{} {:?}",
                unit.work_spec(),
                unit.definition().get("size")
            ));
            Ok(Outcome::finished())
        })
        .run();
    assert_eq!(tally.expect("it runs").finished, 2);
    let mut seen: Vec<String> = seen.iter().collect();
    seen.sort();
    assert_eq!(seen, [r#""a" Some(Int(1)) 1"#, r#""other" Some(Int(7))"#]);
    assert_eq!(client.state("third", "c"), AVAILABLE);
}

#[test]
fn a_unit_is_given_back_for_later_and_its_attempts_are_counted() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let tally = worker(&server)
        .until_empty()
        .on("ws", |unit| {
            Ok(match unit.attempt() {
                1 | 2 => Outcome::given_back(Duration::from_millis(20)),
                _ => Outcome::finished(),
            })
        })
        .run()
        .expect("it runs");
    assert_eq!((tally.given_back, tally.finished), (2, 1));
    assert_eq!(client.state("ws", "a"), FINISHED);
}

#[test]
fn a_function_whose_lease_is_lost_is_told_and_its_outcome_does_not_count() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let (began, begun) = channel();
    let began = Mutex::new(began);
    let run = worker(&server)
        .lease(Duration::from_secs(1))
        .on("ws", move |unit| {
            began.lock().expect("sender").send(()).expect("send");
            wait_until("it is cancelled", || unit.is_cancelled());
            assert_eq!(unit.cancellation(), Some(Cancellation::LeaseLost));
            Ok(Outcome::finished())
        });
    let stopper = run.stopper();
    let running = thread::spawn(|| run.run());
    begun.recv().expect("it has begun");
    client.updated("ws", "a", "{'status': 1}");
    client.take_key("other", "a");
    stopper.drain();
    let tally = running.join().expect("thread").expect("it runs");
    assert_eq!((tally.lost, tally.finished), (1, 0));
    let status = client.status("ws", "a");
    assert_eq!(
        (status.status, status.worker.as_deref()),
        (PENDING, Some("other"))
    );
}

#[test]
fn a_function_whose_unit_is_cancelled_is_told_and_only_a_finish_counts() {
    for (outcome, status) in [
        (Outcome::finished(), FINISHED),
        (Outcome::failed("it was interrupted"), FAILED),
        (Outcome::given_back(Duration::ZERO), FAILED),
        (Outcome::given_back(Duration::from_secs(1)), FAILED),
    ] {
        let (server, mut client) = server_with_spec();
        client.set_spec("{'name': 'ws', 'retries': 9}");
        client.add("ws", "['a', {}]");
        let run = worker(&server)
            .lease(Duration::from_secs(1))
            .until_empty()
            .on("ws", move |unit| {
                wait_until("it is cancelled", || unit.is_cancelled());
                assert_eq!(unit.cancellation(), Some(Cancellation::UnitCancelled));
                Ok(outcome.clone())
            });
        let running = thread::spawn(|| run.run());
        wait_until("it runs", || client.state("ws", "a") == PENDING);
        client.value("cancel_work_units", "'ws', {'all': true, 'reason': 'why'}");
        let tally = running.join().expect("thread").expect("it runs");
        let finished = u64::from(status == FINISHED);
        assert_eq!((tally.finished, tally.cancelled), (finished, 1 - finished));
        assert_eq!(client.state("ws", "a"), status);
        if status == FAILED {
            let message = traceback(&server, "a");
            assert!(message.ends_with("cancelled: why"), "{message}");
        }
    }
}

#[test]
fn a_function_with_a_long_lease_learns_of_a_cancellation_long_before_the_lease_is_renewed() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let run = worker(&server)
        .lease(Duration::from_secs(3_600))
        .until_empty()
        .on("ws", |unit| {
            wait_until("it is cancelled", || unit.is_cancelled());
            Ok(Outcome::given_back(Duration::ZERO))
        });
    let running = thread::spawn(|| run.run());
    wait_until("it runs", || client.state("ws", "a") == PENDING);
    client.value("cancel_work_units", "'ws', {'all': true, 'grace': 3600}");
    let tally = running.join().expect("thread").expect("it runs");
    assert_eq!((tally.given_back, tally.cancelled), (0, 1));
    assert_eq!(client.state("ws", "a"), FAILED);
}

#[test]
fn a_function_that_goes_on_after_the_grace_has_no_effect_on_the_cancelled_unit() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let (go, may_go) = channel();
    let may_go = Mutex::new(may_go);
    let run = worker(&server)
        .lease(Duration::from_secs(60))
        .until_empty()
        .on("ws", move |_| {
            may_go.lock().expect("receiver").recv().expect("go");
            Ok(Outcome::finished())
        });
    let running = thread::spawn(|| run.run());
    wait_until("it runs", || client.state("ws", "a") == PENDING);
    client.value("cancel_work_units", "'ws', {'all': true, 'grace': 0}");
    go.send(()).expect("send");
    let tally = running.join().expect("thread").expect("it runs");
    assert_eq!((tally.finished, tally.cancelled), (0, 1));
    assert_eq!(client.state("ws", "a"), FAILED);
}

/// By its name alone its outcome would count for the attempt that is now made in that name.
#[test]
fn an_outcome_counts_for_the_attempt_that_the_function_was_run_for() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let (tell, told) = channel();
    let other = Mutex::new((server.connect(), tell));
    let run = worker(&server).name("w").on("ws", move |unit| {
        let (other, tell) = &mut *other.lock().expect("client");
        other.updated("ws", "a", "{'lease_time': -1}");
        let second = other.take_attempt("w", "a");
        tell.send((unit.attempt_id(), second)).expect("send");
        Ok(Outcome::finished())
    });
    let stopper = run.stopper();
    let running = thread::spawn(|| run.run());
    let (first, second) = told.recv().expect("it has begun");
    assert!(first.is_some_and(|first| first < second), "{first:?}");
    stopper.drain();
    let tally = running.join().expect("thread").expect("it runs");
    assert_eq!((tally.lost, tally.finished), (1, 0));
    assert_eq!(client.state("ws", "a"), PENDING);
}

#[test]
fn a_worker_that_is_stopped_tells_its_functions_and_reports_what_they_say() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    let (began, begun) = channel();
    let began = Mutex::new(began);
    let run = worker(&server).on("ws", move |unit| {
        began.lock().expect("sender").send(()).expect("send");
        wait_until("it is cancelled", || unit.is_cancelled());
        assert_eq!(unit.cancellation(), Some(Cancellation::Stopping));
        Ok(Outcome::given_back(Duration::ZERO))
    });
    let stopper = run.stopper();
    let running = thread::spawn(|| run.run());
    begun.recv().expect("it has begun");
    stopper.stop();
    assert_eq!(
        running.join().expect("thread").expect("it runs").given_back,
        1
    );
    assert_eq!(client.counts("ws"), [(AVAILABLE, 2)].into());
}

#[test]
fn data_that_no_daemon_would_take_fail_the_unit() {
    let (server, mut client) = server_with_spec();
    client.add(
        "ws",
        "['huge', {}], ['deep', {}], ['list', {}], ['good', {}]",
    );
    let new_data = |unit: &Context| {
        let deep = (0..95).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        Ok(Outcome::finished_with(match unit.key().bytes() {
            b"huge" => Value::map([("x", Value::Bytes(vec![0; 33 << 20]))]),
            b"deep" => Value::map([("x", deep)]),
            b"list" => Value::Array(vec![]),
            _ => Value::EMPTY_MAP,
        }))
    };
    let tally = worker(&server).until_empty().on("ws", new_data).run();
    let tally = tally.expect("it runs");
    assert_eq!((tally.failed, tally.finished), (3, 1));
    assert_eq!(
        traceback(&server, "huge"),
        "its new data have more than 33554432 bytes"
    );
    assert!(traceback(&server, "deep").starts_with("its new data can't be sent: "));
    assert_eq!(
        traceback(&server, "list"),
        "its new data are a list, not a map"
    );
    assert_eq!(client.counts("ws"), [(FINISHED, 1), (FAILED, 3)].into());
}

#[test]
fn without_a_daemon_a_worker_does_not_start() {
    let nobody: Address = "unix:/nonexistent/socket".parse().expect("an address");
    let worker = Worker::new(&nobody).on("ws", |_| Ok(Outcome::finished()));
    let error = worker.run().expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn a_worker_without_a_function_takes_no_unit_from_others() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    let tally = worker(&server).run().expect("it ends");
    assert_eq!(tally, Tally::default());
    assert_eq!(client.state("ws", "a"), AVAILABLE);
}

/// Reports go to the daemon in lists, each of one work spec.
#[test]
fn reports_of_two_work_specs_that_wait_together_reach_both() {
    let (mut server, mut client) = server_with_spec();
    client.set_spec("{'name': 'other'}");
    client.add("ws", "['a', {}]");
    client.add("other", "['b', {}]");
    let (tell, told) = channel();
    let (may_end, go) = channel::<()>();
    let go = Arc::new(Mutex::new(go));
    let function = |name: &'static str| {
        let (tell, go) = (Mutex::new(tell.clone()), Arc::clone(&go));
        move |_: &Context| {
            tell.lock().expect("sender").send(name).expect("send");
            go.lock().expect("receiver").recv().expect("go");
            Ok(Outcome::finished_with(Value::map([("by", name.into())])))
        }
    };
    let run = worker(&server)
        .threads(2)
        .on("ws", function("first"))
        .on("other", function("second"));
    let stopper = run.stopper();
    let running = thread::spawn(|| run.run());
    let mut begun = [(); 2].map(|()| told.recv().expect("it has begun"));
    begun.sort_unstable();
    assert_eq!(begun, ["first", "second"]);
    server.kill();
    for () in [(); 2] {
        may_end.send(()).expect("send");
    }
    stopper.drain();
    server.start_again();
    let tally = running.join().expect("thread").expect("it runs");
    assert_eq!((tally.finished, tally.lost), (2, 0));
    let mut client = server.connect();
    for (spec, key, by) in [("ws", "a", "first"), ("other", "b", "second")] {
        assert_eq!(client.state(spec, key), FINISHED);
        assert!(client.data(spec, key).to_string().contains(by));
    }
}

#[test]
fn leases_of_two_work_specs_are_renewed() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'other'}");
    client.add("ws", "['a', {}]");
    client.add("other", "['b', {}]");
    let long = |_: &Context| {
        thread::sleep(Duration::from_millis(2_500));
        Ok(Outcome::finished())
    };
    let run = worker(&server)
        .lease(Duration::from_secs(1))
        .threads(2)
        .until_empty()
        .on("ws", long)
        .on("other", long);
    let tally = run.run().expect("it runs");
    assert_eq!((tally.finished, tally.lost), (2, 0));
    for (spec, key) in [("ws", "a"), ("other", "b")] {
        let attempts = client.value("get_attempts", &format!("'{spec}', '{key}', {{}}"));
        assert_eq!(attempts.items().len(), 1, "{attempts}");
    }
}

/// The list is refused as a whole, so each of them is reported alone.
#[test]
fn reports_on_a_deleted_work_spec_are_lost_and_the_worker_goes_on() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'other'}");
    client.add("ws", "['a', {}], ['b', {}], ['c', {}]");
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let (may_end, go) = channel::<()>();
    let go = Mutex::new(go);
    let run = worker(&server)
        .threads(3)
        .on("ws", move |_| {
            tell.lock().expect("sender").send(()).expect("send");
            go.lock().expect("receiver").recv().expect("go");
            Ok(Outcome::finished())
        })
        .on("other", |_| Ok(Outcome::finished()));
    let stopper = run.stopper();
    let running = thread::spawn(|| run.run());
    for () in [(); 3] {
        told.recv().expect("it has begun");
    }
    client.value("del_work_spec", "'ws'");
    // While the first report waits for its answer, the two others come together.
    server.signal(libc::SIGSTOP);
    for () in [(); 3] {
        may_end.send(()).expect("send");
    }
    thread::sleep(Duration::from_millis(300));
    server.signal(libc::SIGCONT);
    client.add("other", "['d', {}]");
    wait_until("the worker goes on", || {
        client.state("other", "d") == FINISHED
    });
    stopper.drain();
    let tally = running.join().expect("thread").expect("it runs");
    assert_eq!((tally.finished, tally.lost), (1, 3));
}
