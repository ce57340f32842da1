//! Workers that wait for work at the daemon instead of asking again and again.

use super::{Running, touch};
use coordinated_client::worker::{Outcome, Tally, Worker};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};
use test_support::{AVAILABLE, Client, FINISHED, Server, server_with_spec, wait_until};

fn worker(server: &Server) -> Worker {
    Worker::new(&server.address().parse().expect("an address"))
}

/// How often `get_work` has been called.
fn requests(client: &mut Client) -> u64 {
    let info = client.call("server_info", "");
    let calls = info.at("calls").get("get_work");
    calls.and_then(|calls| calls.number()).unwrap_or(0.0) as u64
}

#[test]
fn an_idle_worker_does_not_ask_again_and_starts_a_new_unit_at_once() {
    let (server, mut client) = server_with_spec();
    let worker = worker(&server);
    let stopper = worker.stopper();
    let (sender, started) = channel();
    let working = thread::spawn(move || {
        let run = worker.threads(2).on("ws", move |_| {
            sender.send(Instant::now()).expect("send");
            Ok(Outcome::finished())
        });
        run.run()
    });
    let mut delays = Vec::new();
    for number in 0..10 {
        // It asks once, and then waits.
        let before = requests(&mut client);
        wait_until("the worker waits", || {
            requests(&mut client) >= before.max(2)
        });
        thread::sleep(Duration::from_millis(150));
        let added = Instant::now();
        client.add("ws", &format!("['u{number}', {{}}]"));
        delays.push(started.recv().expect("a unit") - added);
        wait_until("it is reported", || {
            client.state("ws", &format!("u{number}")) == FINISHED
        });
    }
    delays.sort_unstable();
    assert!(delays[5] < Duration::from_millis(50), "{delays:?}");
    thread::sleep(Duration::from_millis(300));
    let before = requests(&mut client);
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(requests(&mut client), before, "it waits");
    let began = Instant::now();
    stopper.drain();
    let tally = working.join().expect("no panic").expect("it runs");
    assert!(began.elapsed() < Duration::from_secs(1), "it stops at once");
    assert_eq!(tally.finished, 10);
}

#[test]
fn a_signal_ends_a_worker_that_waits_at_once() {
    let (server, mut client) = server_with_spec();
    let mut worker = Running::start(&server, &["--spec", "ws", "-j", "1", "--", "true"]);
    wait_until("the worker waits", || requests(&mut client) == 2);
    let began = Instant::now();
    worker.signal(libc::SIGTERM);
    assert!(worker.end().success());
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{}",
        worker.said()
    );
    // The request that waited is gone with it.
    client.add("ws", "['a', {}]");
    assert_eq!(client.state("ws", "a"), AVAILABLE);
}

#[test]
fn while_a_thread_waits_for_work_leases_are_renewed_and_reports_are_sent() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['long', {}]");
    let options = ["--spec", "ws", "-j", "2", "--lease", "1s", "--"];
    let script = "[ $1 != long ] || while [ ! -e end ]; do sleep 0.1; done";
    let program = ["sh", "-c", script, "sh", "{key}"];
    let worker = Running::start(&server, &[&options[..], &program].concat());
    wait_until("the worker waits", || requests(&mut client) >= 3);
    thread::sleep(Duration::from_millis(2_500));
    client.add("ws", "['short', {}]");
    wait_until("it is reported", || client.state("ws", "short") == FINISHED);
    touch(&server, "end");
    wait_until("it is reported", || client.state("ws", "long") == FINISHED);
    let attempts = client.value("get_attempts", "'ws', 'long', {}");
    assert_eq!(attempts.items().len(), 1, "{attempts}");
    drop(worker);
}

#[test]
fn a_worker_that_waits_outlives_a_restart_of_the_daemon() {
    let (mut server, mut client) = server_with_spec();
    let mut worker = Running::start(&server, &["--spec", "ws", "-j", "1", "--", "true"]);
    wait_until("the worker waits", || requests(&mut client) == 2);
    server.restart();
    let mut client = server.connect();
    wait_until("the worker waits again", || requests(&mut client) >= 2);
    client.add("ws", "['a', {}]");
    wait_until("it is done", || client.state("ws", "a") == FINISHED);
    worker.signal(libc::SIGTERM);
    assert!(worker.end().success());
}

#[test]
fn until_empty_ends_a_worker_that_waits_when_another_one_has_done_the_last_unit() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['a', {}]");
    client.take_key("other", "a");
    let worker = worker(&server);
    let working = thread::spawn(move || {
        worker
            .until_empty()
            .on("ws", |_| Ok(Outcome::finished()))
            .run()
    });
    wait_until("the worker waits", || requests(&mut client) >= 4);
    assert!(!working.is_finished());
    client.updated("ws", "a", "{'status': 4}");
    let tally = working.join().expect("no panic").expect("it runs");
    assert_eq!(tally, Tally::default());
}
