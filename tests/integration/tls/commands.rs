//! The commands and workers over TLS.

use super::{Authority, start, text};
use coordinated_client::worker::{Outcome, Worker};
use std::path::Path;
use test_support::{Exit, FINISHED, Server, run_to_end};

fn run(server: &str, arguments: &[&str], authority: Option<&Authority>) -> Exit {
    let ca = authority.map(Authority::path);
    let mut environment = vec![("COORDINATED_SERVER", server)];
    environment.extend(ca.as_deref().map(|ca| ("COORDINATED_TLS_CA", text(ca))));
    run_to_end(Path::new("."), arguments, &environment)
}

fn good(server: &Server, arguments: &[&str], authority: &Authority) -> String {
    let exit = run(server.address(), arguments, Some(authority));
    assert_eq!(exit.code, Some(0), "{arguments:?}: {}", exit.stderr);
    exit.stdout
}

#[test]
fn commands_take_the_address_and_the_ca_from_flags_or_from_the_environment() {
    let (server, authority) = start(&[]);
    let ca = authority.path();
    let flags = ["--server", server.address(), "--tls-ca", text(&ca)];
    let set = ["rpc", "set_work_spec", r#"{"name": "ws"}"#];
    let set = run_to_end(Path::new("."), &[&set, &flags[..]].concat(), &[]);
    assert_eq!(set.code, Some(0), "{}", set.stderr);
    let specs = good(&server, &["rpc", "list_work_specs", "{}"], &authority);
    assert!(specs.contains("ws"), "{specs}");
}

#[test]
fn a_command_that_does_not_trust_the_daemon_fails_at_once_and_says_what_to_do() {
    let (server, _authority) = start(&[]);
    let stranger = Authority::new();
    for authority in [None, Some(&stranger)] {
        let exit = run(server.address(), &["summary"], authority);
        assert_eq!(exit.code, Some(1));
        let expected = format!("coordinated: cannot connect to {}: ", server.address());
        assert!(exit.stderr.starts_with(&expected), "{}", exit.stderr);
        assert!(exit.stderr.contains("--tls-ca"), "{}", exit.stderr);
        assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    }
}

#[test]
fn a_certificate_that_a_command_cannot_read_is_named() {
    let (server, _authority) = start(&[]);
    let flags = [
        "summary",
        "--tls-ca",
        "none.pem",
        "--server",
        server.address(),
    ];
    let exit = run_to_end(Path::new("."), &flags, &[]);
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr.contains("can't read none.pem"),
        "{}",
        exit.stderr
    );
}

#[test]
fn the_program_of_a_worker_reaches_the_daemon_by_the_same_tls() {
    let (server, authority) = start(&[]);
    let mut client = test_support::Client::connect(&server.addresses()[1]);
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['a', {}]");
    let ca = authority.path();
    let program = test_support::binary();
    let work = [
        "work",
        "--until-empty",
        "--spec",
        "ws",
        "--server",
        server.address(),
    ];
    let files = ["--tls-ca", text(&ca), "--", text(&program), "status", "ws"];
    let exit = run_to_end(Path::new("."), &[&work[..], &files].concat(), &[]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(client.state("ws", "a"), FINISHED, "{}", exit.stderr);
}

#[test]
fn a_worker_that_waits_for_work_over_tls_can_be_stopped() {
    let (server, authority) = start(&[]);
    let mut client = test_support::Client::connect(&server.addresses()[1]);
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['a', {}]");
    let (sender, done) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let worker = Worker::new(&server.address().parse().expect("an address"))
        .tls(authority.tls())
        .on("ws", move |_| {
            sender.lock().expect("sender").send(()).expect("send");
            Ok(Outcome::finished())
        });
    let stopper = worker.stopper();
    let running = std::thread::spawn(move || worker.run());
    done.recv_timeout(test_support::PATIENCE)
        .expect("the first unit");
    client.add("ws", "['b', {}]");
    done.recv_timeout(test_support::PATIENCE)
        .expect("the second unit");
    stopper.drain();
    let tally = running.join().expect("no panic").expect("it runs");
    assert_eq!(tally.finished, 2);
}

#[test]
fn bench_measures_over_tls() {
    let (server, authority) = start(&[]);
    let bench = ["bench", "add", "--units", "3000", "--batch", "1000"];
    let printed = good(&server, &bench, &authority);
    assert!(
        printed.contains("3000") || printed.contains("3,000"),
        "{printed}"
    );
}
