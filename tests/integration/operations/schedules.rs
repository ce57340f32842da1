//! Work specs that make units by themselves, over the wire.

use super::get_work::clock;
use std::time::Duration;
use test_support::{FINISHED, Server, Value, run_to_end};

fn time(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::number)
}

#[test]
fn a_unit_is_made_at_its_time_and_a_worker_that_waits_gets_it_at_once() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'schedule': '* * * * * *', 'timezone': 'Asia/Tokyo'}");
    let unit = client.value("get_work", "'w', {'wait': 30}");
    let now = clock();
    let key = unit.item(1).name().expect("a key");
    let scheduled = unit.item(2).at("scheduled").name().expect("its time");
    assert!(key.ends_with('Z'), "{key}");
    assert!(scheduled.ends_with("+09:00"), "{scheduled}");
    let planned: jiff::Timestamp = key.parse().expect("a time");
    assert_eq!(
        scheduled.parse::<jiff::Timestamp>().expect("a time"),
        planned
    );
    let late = now - planned.as_second() as f64;
    assert!((0.0..5.0).contains(&late), "{late}");
    // It is not done, so the next ones are skipped.
    test_support::wait_until("a run is skipped", || {
        let meta = client.value("get_work_spec_meta", "'ws', {'schedule': true}");
        time(meta.at("schedule"), "skipped").is_some()
    });
    assert_eq!(client.keys("ws", "{}"), std::slice::from_ref(&key));
    client.updated("ws", &key, &format!("{{'status': {FINISHED}}}"));
    let next = client.value("get_work", "'w', {'wait': 30}");
    assert!(next.item(1).name().expect("a key") > key);
}

#[test]
fn runs_that_a_daemon_missed_have_one_unit_after_the_next_start() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'schedule': '* * * * * *', 'overlap': 'queue'}");
    server.kill();
    std::thread::sleep(Duration::from_millis(3_100));
    server.start_again();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let keys = client.keys("ws", "{}");
    let times: Vec<i64> = keys
        .iter()
        .map(|key| key.parse::<jiff::Timestamp>().expect("a time").as_second())
        .collect();
    let gap = times.windows(2).map(|two| two[1] - two[0]).max();
    assert!(gap.is_none_or(|gap| gap >= 3), "{keys:?}");
    assert!((1..5).contains(&keys.len()), "{keys:?}");
}

#[test]
fn the_runs_of_a_schedule_are_told_to_those_who_ask_and_in_a_view() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws', 'schedule': '0 3 * * *', 'timezone': 'Europe/Berlin'}");
    client.set_spec("{'name': 'plain'}");
    let old = client.value("get_work_spec_meta", "'ws'");
    assert_eq!(old.get("schedule"), None);
    let plain = client.value("get_work_spec_meta", "'plain', {'schedule': true}");
    assert!(plain.at("schedule").is_null(), "{plain}");
    let meta = client.value("get_work_spec_meta", "'ws', {'schedule': true}");
    let schedule = meta.at("schedule");
    let next: Vec<f64> = schedule
        .at("next")
        .items()
        .iter()
        .filter_map(Value::number)
        .collect();
    assert_eq!(next.len(), 3, "{schedule}");
    assert!(next[0] > clock() && next[0] < clock() + 25.0 * 3_600.0);
    assert!(next.is_sorted_by(|a, b| a < b), "{schedule}");
    assert_eq!(time(schedule, "last"), None);
    let reasons = client.value("explain_work", "'ws', null");
    assert_eq!(
        reasons.item(0).at("code").name().as_deref(),
        Some("scheduled")
    );
    let db = server.db().display().to_string();
    let query = "SELECT schedule, timezone, overlap, missed, next_run, last_run FROM work_specs WHERE work_spec = 'ws'";
    let exit = run_to_end(server.folder(), &["sql", "--json", "--db", &db, query], &[]);
    let row: serde_json::Value = serde_json::from_str(&exit.stdout).expect("a row");
    assert_eq!(row["schedule"], "0 3 * * *");
    assert_eq!(row["timezone"], "Europe/Berlin");
    assert_eq!(
        (&row["overlap"], &row["missed"]),
        (&"skip".into(), &"run-once".into())
    );
    let shown: jiff::civil::DateTime = row["next_run"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("a time");
    let shown = shown.to_zoned(jiff::tz::TimeZone::UTC).expect("a time");
    assert_eq!(shown.timestamp().as_second() as f64, next[0]);
    assert!(row["last_run"].is_null());
}
