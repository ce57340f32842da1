//! The daemon itself, when somebody sets the system's clock.

use super::daemon::start;
use std::time::{SystemTime, UNIX_EPOCH};
use test_support::{Client, FINISHED, PENDING, Server, wait_until};

const HOURS: f64 = 2.0 * 3_600.0;

/// Sets the clock that the daemon sees so many seconds ahead of the real one.
fn set_ahead(server: &Server, seconds: f64) {
    // It may be read at any moment: the new content comes at once.
    let (new, ahead) = (server.folder().join("new"), server.folder().join("ahead"));
    std::fs::write(&new, format!("{seconds}")).expect("write");
    std::fs::rename(new, ahead).expect("rename");
}

fn real_time() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs_f64()
}

/// The seconds from the wall clock's time to the end of a unit's lease, where that clock is so far ahead of the
/// real one.
fn left(client: &mut Client, unit: &str, ahead: f64) -> f64 {
    let status = client.status("ws", unit);
    assert_eq!(status.status, PENDING, "{unit}");
    status.expiration.expect("a lease") - real_time() - ahead
}

#[test]
fn leases_follow_a_wall_clock_that_is_set_forward_or_back_and_keep_what_they_had_left() {
    for ahead in [HOURS, -HOURS] {
        let server = start();
        let mut client = server.connect();
        client.set_spec("{'name': 'ws'}");
        client.add("ws", "['before', {}], ['later', {}]");
        let lease = "{'lease_time': 900}";
        client.value("get_work", &format!("'w1', {lease}"));
        set_ahead(&server, ahead);
        wait_until("the daemon's clock has followed", || {
            let info = client.call("server_info", "");
            (info.at("now").number().expect("a time") - real_time() - ahead).abs() < 60.0
        });
        client.value("get_work", &format!("'w2', {lease}"));
        for unit in ["before", "later"] {
            let left = left(&mut client, unit, ahead);
            assert!((700.0..=901.5).contains(&left), "{unit}: {left}");
        }
        let started = client
            .call("server_info", "")
            .at("started")
            .number()
            .expect("a time");
        let age = real_time() + ahead - started;
        assert!((-1.5..600.0).contains(&age), "it has run for {age} s");
        let log = server.log();
        assert!(log.contains("the wall clock jumped"), "{log}");
        client.updated("ws", "before", "{'status': 4}");
        let end = client.status("ws", "before");
        let since = real_time() + ahead - end.expiration.expect("its end");
        assert_eq!(end.status, FINISHED);
        assert!((-1.5..600.0).contains(&since), "finished {since} s ago");
    }
}

#[test]
fn a_clock_that_can_not_be_followed_for_want_of_room_is_followed_once_there_is_some() {
    let server = start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['u', {}]");
    client.value("get_work", "'w', {'lease_time': 900}");
    super::daemon::break_by(&server, "full");
    set_ahead(&server, HOURS);
    let mut now = || {
        client
            .call("server_info", "")
            .at("now")
            .number()
            .expect("a time")
            - real_time()
    };
    wait_until("the daemon has tried", || {
        now();
        server.log().contains("times could not be moved yet")
    });
    assert!(now() < 60.0);
    super::daemon::repair(&server, "full");
    wait_until("it has followed", || now() > HOURS - 60.0);
    let left = left(&mut client, "u", HOURS);
    assert!((700.0..=901.5).contains(&left), "{left}");
}
