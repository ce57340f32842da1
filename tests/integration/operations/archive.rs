//! Archiving completed units: the method `archive`, what the daemon does by itself, and where the limits
//! come from.

use std::fmt::Write;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_support::{Client, Reply, Server, Value, diag, run_to_end, server_with_spec, wait_until};

/// More units than one step archives.
const MANY: usize = 2_000;

/// Adds units with these numbers to `ws`, and has them finished.
fn finish(client: &mut Client, numbers: std::ops::Range<usize>) {
    let (mut units, mut updates) = (String::new(), String::new());
    for number in numbers {
        write!(units, "['u{number:05}', {{}}],").expect("text can be written");
        write!(updates, "['u{number:05}', {{'status': 4}}],").expect("text can be written");
    }
    client.add("ws", units.trim_end_matches(','));
    let updates = updates.trim_end_matches(',');
    client.call("update_work_units", &format!("'ws', [{updates}]"));
}

fn keys(client: &mut Client) -> Vec<String> {
    client.keys("ws", "{'limit': 10000}")
}

#[test]
fn archive_does_nothing_without_configured_limits() {
    let (_server, mut client) = server_with_spec();
    client.add("ws", "['a', {}], ['b', {}]");
    client.updated("ws", "a", "{'status': 4}");
    for params in [
        "",
        "{}",
        "{'work_spec_names': ['ws', 'nope']}",
        "{'work_spec_names': null}",
    ] {
        assert_eq!(
            client.call("archive", params),
            Value::Null,
            "archive({params})"
        );
    }
    assert_eq!(client.counts("ws"), [(1, 1), (4, 1)].into());
    assert_eq!(client.keys("ws", "{}"), ["a", "b"]);
}

#[test]
fn when_archive_answers_all_beyond_the_count_is_gone_and_still_counted() {
    let server = Server::start_with(&["--limit-completed-count", "2"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    finish(&mut client, 0..MANY);
    client.add("ws", "['waits', {}]");
    assert_eq!(client.call("archive", ""), Value::Null);
    assert_eq!(keys(&mut client), ["u01998", "u01999", "waits"]);
    assert_eq!(client.counts("ws"), [(1, 1), (4, MANY as u64)].into());
}

#[test]
fn archive_may_be_restricted_to_work_specs_and_passes_over_unknown_ones() {
    let (_server, mut client) = archived_in_one_of_two_specs();
    assert_eq!(
        client.call("archive", "{'work_spec_names': null}"),
        Value::Null
    );
    assert_eq!(client.keys("other", "{}"), ["y"]);
    assert_eq!(client.counts("other"), [(5, 2)].into());
}

/// A daemon with two failed units in each of two specs, of which it keeps one, after the units of `ws` were archived.
/// Those of `other` are there, as the daemon archives by itself at its start, and then after 10 s: on a machine that is
/// so slow it is tried again.
fn archived_in_one_of_two_specs() -> (Server, Client) {
    for _ in 0..10 {
        let begin = Instant::now();
        let server = Server::start_with(&["--limit-completed-count", "1"]);
        let mut client = server.connect();
        for spec in ["ws", "other"] {
            client.set_spec(&format!("{{'name': '{spec}'}}"));
            client.add(spec, "['x', {}], ['y', {}]");
            client.updated(spec, "x", "{'status': 5}");
            client.updated(spec, "y", "{'status': 5}");
        }
        let only = "{'work_spec_names': ['nope', 'ws', 'ws']}";
        assert_eq!(client.call("archive", only), Value::Null);
        assert_eq!(client.keys("ws", "{}"), ["y"]);
        let others = client.keys("other", "{}");
        if begin.elapsed() < Duration::from_secs(10) {
            assert_eq!(others, ["x", "y"]);
            return (server, client);
        }
    }
    panic!("ten times, four units took 10 s");
}

#[test]
fn an_archived_unit_is_unknown_until_it_is_added_again() {
    let server = Server::start_with(&["--limit-completed-count", "0"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    finish(&mut client, 0..1);
    client.call("archive", "");
    let answer = client.value("get_work_unit_status", "'ws', ['u00000']");
    assert_eq!(answer, diag("[null]"));
    client.not_updated("ws", "u00000", "{'status': 1, 'lease_time': 0}");
    client.not_updated("ws", "u00000", "{'status': 4}");
    client.add("ws", "['u00000', {'n': 2}]");
    assert_eq!(client.counts("ws"), [(1, 1), (4, 1)].into());
    let work = client.take_key("w", "u00000");
    assert_eq!(work.data, diag("{'n': 2}"));
    client.updated("ws", "u00000", "{'status': 4}");
    assert_eq!(client.counts("ws"), [(4, 2)].into());
    client.call("archive", "");
    assert_eq!(client.counts("ws"), [(4, 2)].into());
    assert_eq!(
        client.value("del_work_units", "'ws', {'state': 4}"),
        Value::Unsigned(2)
    );
    assert_eq!(client.counts("ws"), [].into());
}

#[test]
fn in_a_list_of_requests_it_does_one_step_and_holds_nobody_up() {
    let server = Server::start_with(&["--limit-completed-count", "0"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    finish(&mut client, 0..MANY);
    let archive = client.envelope("archive", diag("[]"));
    let answer = client.exchange(&Value::Array(vec![archive]));
    assert!(matches!(
        test_support::reply(answer.item(0)),
        Reply::Result(Value::Null)
    ));
    let left = keys(&mut client).len();
    assert!(left < MANY, "{left}");
    assert_eq!(client.counts("ws"), [(4, MANY as u64)].into());
}

#[test]
fn two_connections_may_archive_at_once_while_a_third_one_works() {
    let server = Server::start_with(&["--limit-completed-count", "0"]);
    let mut worker = server.connect();
    worker.set_spec("{'name': 'ws'}");
    finish(&mut worker, 0..MANY);
    let mut both = [server.connect(), server.connect()];
    for client in &mut both {
        let archive = client.envelope("archive", diag("[{}]"));
        client.send(&test_support::frame(&archive));
    }
    worker.add("ws", "['a', {}]");
    worker.take_key("w", "a");
    for client in &mut both {
        let answer = client.next_answer();
        assert_eq!(answer.get("result"), Some(&Value::Null), "{answer}");
    }
    assert_eq!(keys(&mut worker), ["a"]);
    assert_eq!(worker.counts("ws"), [(3, 1), (4, MANY as u64)].into());
}

#[test]
fn the_daemon_archives_by_itself_and_remembers_how_many() {
    let folder = TempDir::new().expect("a folder");
    let db = folder.path().join("test.db").display().to_string();
    let arguments = ["serve", "--db", &db, "--listen", "127.0.0.1:0"];
    let variable = ("COORDINATED_LIMIT_COMPLETED_COUNT", "1000000");
    let mut server = Server::start_in(folder, &arguments, &[variable]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    finish(&mut client, 0..MANY);
    client.call("archive", "");
    assert_eq!(keys(&mut client).len(), MANY, "within the limit");
    let log = server.stop();
    let limit = "completed units beyond these limits are archived";
    assert!(log.stderr.contains(limit), "{}", log.stderr);
    assert!(log.stderr.contains("count=1000000"), "{}", log.stderr);
    server.start_again_with(&["--limit-completed-count", "3"]);
    let mut client = server.connect();
    wait_until("three are left", || keys(&mut client).len() == 3);
    assert_eq!(client.counts("ws"), [(4, MANY as u64)].into());
    server.stop();
    server.start_again();
    let mut client = server.connect();
    assert_eq!(client.counts("ws"), [(4, MANY as u64)].into());
    assert_eq!(keys(&mut client), ["u01997", "u01998", "u01999"]);
    server.stop();
    let exit = run_to_end(server.folder(), &["check", "--db", &db], &[]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
}

#[test]
fn compaction_gives_the_pages_of_archived_units_back() {
    let mut server = Server::start_with(&["--limit-completed-count", "0"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    finish(&mut client, 0..MANY);
    client.call("archive", "");
    server.stop();
    let size = || server.db().metadata().expect("the file").len();
    let before = size();
    let db = server.db().display().to_string();
    let exit = run_to_end(server.folder(), &["compact", "--db", &db], &[]);
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(size() < before / 2, "{before} bytes, then {}", size());
}

#[test]
fn the_limits_may_come_from_the_configuration_of_the_python_daemon() {
    let folder = TempDir::new().expect("a folder");
    let config = folder.path().join("config.yaml");
    let yaml = "coordinate: {job_queue: {limit_completed_count: 2, limit_completed_age: 3600}}\n";
    std::fs::write(&config, yaml).expect("write");
    let config = config.display().to_string();
    let server = Server::start_with(&["--config", &config]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    finish(&mut client, 0..5);
    client.call("archive", "");
    assert_eq!(keys(&mut client), ["u00003", "u00004"]);
    // A flag counts more.
    let server = Server::start_with(&["--config", &config, "--limit-completed-count", "4"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    finish(&mut client, 0..5);
    client.call("archive", "");
    assert_eq!(keys(&mut client).len(), 4);
}

#[test]
fn a_completed_unit_goes_when_it_is_older_than_the_age() {
    let server = Server::start_with(&["--limit-completed-age", "1ms"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    finish(&mut client, 0..3);
    wait_until("they are old", || {
        client.call("archive", "");
        keys(&mut client).is_empty()
    });
    assert_eq!(client.counts("ws"), [(4, 3)].into());
}

#[test]
fn a_limit_in_the_configuration_that_is_none_is_refused_at_the_start() {
    let folder = TempDir::new().expect("a folder");
    let yaml = "coordinate: {job_queue: {limit_completed_count: all of them}}\n";
    std::fs::write(folder.path().join("config.yaml"), yaml).expect("write");
    let exit = run_to_end(folder.path(), &["serve", "--config", "config.yaml"], &[]);
    assert_eq!(exit.code, Some(1), "{exit:?}");
    for words in [
        "config.yaml",
        "limit_completed_count",
        "a number of units",
        "a byte string",
    ] {
        assert!(exit.stderr.contains(words), "{words} in {}", exit.stderr);
    }
    assert!(!folder.path().join("coordinate.db").exists());
}
