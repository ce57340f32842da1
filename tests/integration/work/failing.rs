//! What a worker shows of failures, and that it can end when everything fails.

use super::{contents, on_all, work};
use coordinated_client::Coordinate;
use coordinated_client::worker::{Outcome, Worker};
use test_support::{AVAILABLE, FAILED, FINISHED, server_with_spec};

#[test]
fn a_failure_after_which_the_unit_is_tried_again_says_so_and_is_counted_apart() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'ws', 'retries': 1}");
    client.add("ws", "['a', {}]");
    let exit = work(&server, &on_all(&["-j", "1"], &["echo bad >&2; exit 1"]));
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let lines: Vec<&str> = exit.stdout.lines().collect();
    let [first, last] = lines[..] else {
        panic!("{exit:?}")
    };
    assert!(first.starts_with("failed    ws  a  "), "{first}");
    assert!(first.ends_with("  will be retried: bad"), "{first}");
    assert!(last.starts_with("failed    ws  a  "), "{last}");
    assert!(last.ends_with("s  bad"), "{last}");
    let tally = "0 finished, 2 failed (1 will be retried), 0 given back, 0 lost";
    assert!(exit.stderr.contains(tally), "{exit:?}");
}

#[test]
fn a_worker_in_rust_is_told_which_failures_will_be_retried() {
    let (server, mut client) = server_with_spec();
    client.set_spec("{'name': 'ws', 'retries': 2}");
    client.add("ws", "['a', {}], ['b', {}]");
    let address = server.address().parse().expect("an address");
    let tally = Worker::new(&address)
        .until_empty()
        .on("ws", |unit| match unit.key().bytes() {
            b"a" => Ok(Outcome::failed_for_good("never")),
            _ => Ok(Outcome::failed("not now")),
        })
        .run()
        .expect("it runs");
    assert_eq!((tally.failed, tally.retried), (4, 2));
    let limits = Coordinate::connect(&address)
        .and_then(|mut client| client.get_work_spec_limits(&"ws".into()))
        .expect("limits");
    assert_eq!((limits.retries, limits.retrying), (2, 0));
}

#[test]
fn a_worker_ends_with_a_message_and_an_exit_code_after_failures_in_a_row() {
    let (server, mut client) = server_with_spec();
    let units: Vec<String> = (10..30).map(|n| format!("['u{n}', {{}}]")).collect();
    client.add("ws", &units.join(", "));
    // The third one is well, so the row begins anew behind it.
    let script = "echo $1 >> out; test $1 = u12";
    let options = ["-j", "1", "--halt-after", "4"];
    let exit = work(&server, &on_all(&options, &[script, "{key}"]));
    assert_eq!(exit.code, Some(1), "{exit:?}");
    let last = exit.stderr.lines().last();
    let expected = "coordinated: ended since 4 units in a row have failed (--halt-after)";
    assert_eq!(last, Some(expected), "{exit:?}");
    let ran = contents(&server, "out").lines().count() as u64;
    assert_eq!(ran, 7, "{exit:?}");
    let counts = client.counts("ws");
    assert_eq!(counts[&FINISHED], 1);
    assert_eq!((counts[&FAILED], counts[&AVAILABLE]), (ran - 1, 20 - ran));
}

#[test]
fn failures_that_are_not_in_a_row_do_not_end_a_worker() {
    let (server, mut client) = server_with_spec();
    let units: Vec<String> = (10..30).map(|n| format!("['u{n}', {{}}]")).collect();
    client.add("ws", &units.join(", "));
    let script = "case $1 in *[02468]) exit 1; esac";
    let options = ["-j", "1", "--halt-after", "2"];
    let exit = work(&server, &on_all(&options, &[script, "{key}"]));
    assert!(exit.stderr.contains("10 finished, 10 failed"), "{exit:?}");
    assert!(!exit.stderr.contains("halt-after"), "{exit:?}");
}
