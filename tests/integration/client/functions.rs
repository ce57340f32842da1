//! Each typed function does what its method does.

use coordinated_client::cbor::Value;
use coordinated_client::{
    Added, Address, BegunAttempt, Cancel, Cancelled, Control, Coordinate, Deletion, Error, GetWork,
    Heartbeat, IfExists, ListSpecs, Name, NewUnit, Pause, Priority, Request, Status, UnitQuery,
    Update,
};
use std::time::{Duration, Instant};
use test_support::Server;

fn connect(server: &Server) -> Coordinate {
    let address: Address = server.address().parse().expect("an address");
    Coordinate::connect(&address).expect("connect")
}

fn spec(name: &str) -> Value {
    Value::map([("name", Value::from(name))])
}

/// A daemon with a work spec `ws`, a client, and the work spec's name.
fn start() -> (Server, Coordinate, Name) {
    let server = Server::start();
    let mut client = connect(&server);
    client.set_work_spec(&spec("ws")).expect("set");
    (server, client, "ws".into())
}

fn add(client: &mut Coordinate, keys: &[&str]) {
    let units = keys.iter().map(|key| NewUnit::new(*key, Value::EMPTY_MAP));
    client.add_work_units(&"ws".into(), units).expect("add");
}

fn refusal(outcome: Result<impl std::fmt::Debug, Error>) -> String {
    match outcome {
        Err(Error::Refused { message, .. }) => message,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn work_specs_are_set_listed_controlled_and_deleted() {
    let (_server, mut client, ws) = start();
    client.set_work_spec(&spec("other")).expect("set");
    assert_eq!(client.get_work_spec(&ws).expect("get"), Some(spec("ws")));
    assert_eq!(client.get_work_spec(&"none".into()).expect("get"), None);
    assert_eq!(
        client.work_spec_names().expect("names"),
        ["other".into(), "ws".into()]
    );
    let first = ListSpecs {
        limit: Some(1),
        ..ListSpecs::default()
    };
    let (page, next) = client.list_work_specs(&first).expect("list");
    assert_eq!((page, next), (vec![spec("other")], Some("ws".into())));

    let control = Control {
        paused: Some(true),
        weight: Some(7),
        interval: Some(Some(1.5)),
        max_running: Some(Some(3)),
        ..Control::default()
    };
    client.control_work_spec(&ws, &control).expect("control");
    let meta = client.get_work_spec_meta(&ws).expect("meta");
    assert!(meta.paused && !meta.continuous);
    assert_eq!(
        (meta.weight, meta.interval, meta.max_running),
        (Some(7), Some(1.5), Some(3))
    );
    let control = Control {
        max_running: Some(None),
        ..Control::default()
    };
    client.control_work_spec(&ws, &control).expect("control");
    assert_eq!(
        client.get_work_spec_meta(&ws).expect("meta").max_running,
        None
    );

    let definition = Value::map([("name", Value::from("ws"))]);
    client
        .set_and_control_work_spec(&ws, &definition, &control)
        .expect("set and control");
    let meta = client.get_work_spec_meta(&ws).expect("meta");
    assert_eq!((meta.paused, meta.weight), (false, Some(20)));
    let other: Name = "none".into();
    let outcome = client.set_and_control_work_spec(&other, &definition, &control);
    assert!(refusal(outcome).contains("none"));
    let outcome = client.set_and_control_work_spec(&ws, &Value::EMPTY_MAP, &control);
    match outcome {
        Err(Error::Failed { message, .. }) => assert!(message.contains("name"), "{message}"),
        other => panic!("{other:?}"),
    }

    client.archive().expect("archive");
    client.del_work_spec(&ws).expect("delete");
    assert!(refusal(client.del_work_spec(&ws)).contains("ws"));
    assert_eq!(client.clear().expect("clear"), 1);
}

#[test]
fn a_work_spec_is_paused_with_a_reason() {
    let (_server, mut client, ws) = start();
    client.set_work_spec(&spec("other")).expect("set");
    let names = [ws.clone(), "other".into(), "none".into()];
    assert_eq!(
        client.get_pauses(&names).expect("pauses"),
        [None, None, None]
    );
    let pause = Pause {
        reason: Some("disk full".to_owned()),
        by: Some("me@host".to_owned()),
        since: Some(1_000_000_000.5),
    };
    let control = Control {
        paused: Some(true),
        pause: pause.clone(),
        ..Control::default()
    };
    client.control_work_spec(&ws, &control).expect("pause");
    let pauses = client.get_pauses(&names).expect("pauses");
    assert_eq!(pauses, [Some(pause), None, None]);
}

#[test]
fn the_runs_of_a_schedule_are_told() {
    let (_server, mut client, ws) = start();
    let definition = Value::map([
        ("name", Value::from("yearly")),
        ("schedule", "0 0 1 1 *".into()),
        ("timezone", "Europe/Berlin".into()),
    ]);
    client.set_work_spec(&definition).expect("set");
    let names = [ws, "yearly".into(), "none".into()];
    let schedules = client.get_schedules(&names).expect("schedules");
    let [None, Some(schedule), None] = &schedules[..] else {
        panic!("{schedules:?}");
    };
    assert_eq!(schedule.timezone, "Europe/Berlin");
    assert_eq!((schedule.last, schedule.skipped), (None, None));
    assert_eq!(schedule.next.len(), 3);
    // It begins an hour before the year of UTC.
    let hours = (schedule.next[1] - schedule.next[0]) / 3_600.0;
    assert!([365.0 * 24.0, 366.0 * 24.0].contains(&hours), "{hours}");
    assert_eq!(schedule.next[0] % 86_400.0, 82_800.0);
}

#[test]
fn a_definition_that_makes_no_sense_fails_with_what_the_server_says() {
    let (_server, mut client, _) = start();
    match client.set_work_spec(&Value::EMPTY_MAP) {
        Err(error @ Error::Failed { .. }) => assert!(error.to_string().contains("name"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_server_does_not_take_fails_with_the_reason_and_the_next_request_is_answered() {
    let server = Server::start_with(&["--max-message", "64KiB"]);
    let mut client = connect(&server);
    client.set_work_spec(&spec("ws")).expect("set");
    let data = Value::map([("x", Value::from("x".repeat(100_000)))]);
    match client.add_work_units(&"ws".into(), [NewUnit::new("a", data)]) {
        Err(Error::Failed { message, .. }) => {
            assert!(message.contains("max-message"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    add(&mut client, &["b"]);
    assert_eq!(
        client
            .count_work_units(&"ws".into())
            .expect("count")
            .available,
        1
    );
}

#[test]
fn units_that_exist_are_skipped_reset_or_refused() {
    let (_server, mut client, ws) = start();
    add(&mut client, &["a"]);
    let units = || ["a", "b"].map(|key| NewUnit::new(key, Value::EMPTY_MAP));
    let outcome = client.add_work_units_if(&ws, units(), IfExists::Refuse);
    assert!(refusal(outcome).contains("exists already"));
    for (if_exists, new, reset, skipped) in [
        (IfExists::Skip, 1, 0, 1),
        (IfExists::Skip, 0, 0, 2),
        (IfExists::Reset, 0, 2, 0),
    ] {
        let added = client.add_work_units_if(&ws, units(), if_exists);
        let expected = Added {
            new,
            reset,
            skipped,
        };
        assert_eq!(added.expect("added"), expected);
    }
    let none = "none".into();
    let outcome = client.add_work_units_if(&none, units(), IfExists::Skip);
    assert!(refusal(outcome).contains("none"));
}

#[test]
fn a_unit_is_added_to_a_group_and_its_status_has_it() {
    let (_server, mut client, ws) = start();
    let grouped = NewUnit {
        group: Some("acme".to_owned()),
        ..NewUnit::new("a", Value::EMPTY_MAP)
    };
    let alone = NewUnit::new("b", Value::EMPTY_MAP);
    client.add_work_units(&ws, [grouped, alone]).expect("add");
    let keys = ["a".into(), "b".into()];
    let statuses = client.get_work_unit_status(&ws, &keys).expect("statuses");
    let groups: Vec<Option<String>> = statuses
        .into_iter()
        .map(|status| status.expect("the unit is there").group)
        .collect();
    assert_eq!(groups, [Some("acme".to_owned()), None]);
}

#[test]
fn units_are_added_listed_prioritized_and_deleted() {
    let (_server, mut client, ws) = start();
    let raw = Name::from_bytes(b"raw\xff".to_vec());
    let data = Value::map([("x", Value::Bytes(vec![0, 0xff]))]);
    let urgent = NewUnit {
        priority: Some(2.0),
        delay: Some(Duration::from_secs(1_000)),
        ..NewUnit::new(raw.clone(), data.clone())
    };
    client.add_work_units(&ws, [urgent]).expect("add");
    add(&mut client, &["a", "b", "c"]);
    assert_eq!(client.count_work_units(&ws).expect("count").available, 4);

    let query = UnitQuery {
        start: Some("b".into()),
        limit: Some(2),
        statuses: vec![Status::Available],
        ..UnitQuery::default()
    };
    let keys: Vec<Name> = client
        .get_work_units(&ws, &query)
        .expect("list")
        .into_iter()
        .map(|unit| unit.key)
        .collect();
    assert_eq!(keys, ["b".into(), "c".into()]);
    let query = UnitQuery {
        keys: vec![raw.clone(), "unknown".into()],
        ..UnitQuery::default()
    };
    let units = client.get_work_units(&ws, &query).expect("by name");
    assert_eq!(units[0].key.as_text(), None);
    assert_eq!((&units[0].data, &units[1].data), (&Some(data), &None));

    client
        .prioritize_work_units(&ws, &["c".into()], Priority::Set(5.0))
        .expect("set");
    client
        .prioritize_work_units(&ws, &["b".into()], Priority::Adjust(6.0))
        .expect("adjust");
    let wanted = GetWork {
        max_units: Some(2),
        ..GetWork::default()
    };
    let work = client.get_work(&"w".into(), &wanted).expect("work");
    let keys: Vec<&Name> = work.iter().map(|unit| &unit.key).collect();
    assert_eq!(keys, [&"b".into(), &"c".into()]);

    let statuses = client
        .get_work_unit_status(&ws, &["a".into(), "b".into(), "unknown".into()])
        .expect("status");
    assert_eq!(
        statuses[0].as_ref().map(|unit| unit.status),
        Some(Status::Available)
    );
    let pending = statuses[1].as_ref().expect("it is there");
    assert_eq!(
        (pending.status, &pending.worker),
        (Status::Pending, &Some("w".into()))
    );
    assert!(pending.expiration.is_some() && statuses[2].is_none());

    let named = Deletion::Named(vec!["a".into(), "b".into()], Some(Status::Pending));
    assert_eq!(client.del_work_units(&ws, &named).expect("delete"), 1);
    let pending = Deletion::InStatus(Status::Pending);
    assert_eq!(client.del_work_units(&ws, &pending).expect("delete"), 1);
    assert_eq!(
        client.del_work_units(&ws, &Deletion::All).expect("delete"),
        2
    );
    assert!(refusal(client.del_work_units(&"none".into(), &Deletion::All)).contains("none"));
    assert!(refusal(client.get_work_units(&"none".into(), &UnitQuery::default())).contains("none"));
}

#[test]
fn an_update_counts_for_its_attempt() {
    let (server, mut client, ws) = start();
    add(&mut client, &["a", "b"]);
    let worker: Name = "w".into();
    for max_units in [None, Some(2)] {
        let wanted = GetWork {
            max_units,
            attempts: true,
            ..GetWork::default()
        };
        let work = client.get_work(&worker, &wanted).expect("work");
        let first = work[0].attempt.expect("it is told");
        assert!(first.expires > 0.0, "{first:?}");
        let key = work[0].key.clone();
        client
            .update_work_unit(&ws, &key, &Update::given_back().of_attempt(first.id))
            .expect("give back");
        let again = client.get_work(&worker, &wanted).expect("work");
        let second = again[0].attempt.expect("it is told");
        assert_eq!((&again[0].key, second.number), (&key, first.number + 1));
        assert!(second.id > first.id);
        let mut other = connect(&server);
        let finish = |attempt: BegunAttempt| Update::finished().of_attempt(attempt.id);
        let lost = other.update_work_unit(&ws, &key, &finish(first));
        assert!(refusal(lost).contains("lost"));
        let updates = [first, second].map(|attempt| (key.clone(), finish(attempt)));
        let outcomes = other.update_work_units(&ws, &updates).expect("together");
        assert_eq!(
            outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [false, true]
        );
    }
    let wanted = GetWork {
        attempts: true,
        ..GetWork::default()
    };
    assert_eq!(client.get_work(&worker, &wanted).expect("none"), []);
}

#[test]
fn a_client_waits_for_work_and_for_units_longer_than_an_answer_may_take() {
    let (server, mut client, ws) = start();
    for timeouts in [(Some(100), None), (None, Some(100))] {
        let millis = |time: Option<u64>| time.map(Duration::from_millis);
        let options = client.connection().options();
        (options.answer_timeout, options.silence_timeout) =
            (millis(timeouts.0), millis(timeouts.1));
        let wanted = GetWork {
            wait: Some(Duration::from_millis(300)),
            ..GetWork::default()
        };
        let began = Instant::now();
        assert_eq!(client.get_work(&"w".into(), &wanted).expect("none"), []);
        assert!(began.elapsed() >= Duration::from_millis(300));
        add(&mut client, &["a"]);
        let wait = Duration::from_millis(200);
        let began = Instant::now();
        let statuses = client.wait_for_work_units(&ws, &["a".into()], wait);
        let status = statuses.expect("statuses")[0]
            .as_ref()
            .map(|unit| unit.status);
        assert_eq!(status, Some(Status::Available));
        assert!(began.elapsed() >= wait);
        client
            .update_work_unit(&ws, &"a".into(), &Update::finished())
            .expect("finish");
        let long = Duration::from_secs(60);
        let statuses = client.wait_for_work_units(&ws, &["a".into()], long);
        let status = statuses.expect("statuses")[0]
            .as_ref()
            .map(|unit| unit.status);
        assert_eq!(status, Some(Status::Finished));
    }
    drop(server);
}

#[test]
fn work_is_handed_out_and_reported_on() {
    let (_server, mut client, ws) = start();
    let worker: Name = "w".into();
    assert_eq!(
        client.get_work(&worker, &GetWork::default()).expect("none"),
        []
    );
    add(&mut client, &["a", "b", "c", "d"]);
    let wanted = GetWork {
        lease: Some(Duration::from_secs(100)),
        work_specs: vec![ws.clone()],
        ..GetWork::default()
    };
    let one = client.get_work(&worker, &wanted).expect("one");
    assert_eq!((one.len(), &one[0].key), (1, &"a".into()));
    let long = Update::renewed(Duration::from_secs(500));
    client
        .update_work_unit(&ws, &one[0].key, &long)
        .expect("renew");
    let data = Value::map([("traceback", "boom")].map(|(k, v)| (k, v.into())));
    let failed = Update::failed().with_data(data).by_worker(worker.clone());
    client
        .update_work_unit(&ws, &one[0].key, &failed)
        .expect("fail");
    let statuses = client
        .get_work_unit_status(&ws, &["a".into()])
        .expect("status");
    let unit = statuses[0].as_ref().expect("it is there");
    assert_eq!(
        (unit.status, &unit.traceback),
        (Status::Failed, &Some("boom".into()))
    );
    client
        .update_work_unit(&ws, &"a".into(), &Update::available())
        .expect("retry");

    let many = GetWork {
        max_units: Some(10),
        ..GetWork::default()
    };
    assert_eq!(one[0].attempt, None, "it was not asked for");
    assert_eq!(client.get_work(&worker, &many).expect("many").len(), 4);
    client
        .update_work_unit(&ws, &"b".into(), &Update::given_back())
        .expect("give back");
    let updates = [
        ("a".into(), Update::finished()),
        ("unknown".into(), Update::finished()),
        (
            "c".into(),
            Update::available_after(Duration::from_secs(1_000)),
        ),
    ];
    let outcomes = client.update_work_units(&ws, &updates).expect("together");
    assert_eq!(
        (
            outcomes[0].clone(),
            outcomes[1].is_err(),
            outcomes[2].clone()
        ),
        (Ok(()), true, Ok(()))
    );
    let counts = client.count_work_units(&ws).expect("count");
    assert_eq!(
        (counts.finished, counts.available, counts.pending),
        (1, 2, 1)
    );
    assert_eq!(counts.total(), 4);
}

#[test]
fn a_late_report_is_refused_with_the_reason() {
    let (server, mut client, ws) = start();
    add(&mut client, &["a"]);
    let mut other = connect(&server);
    client
        .get_work(&"late".into(), &GetWork::default())
        .expect("work");
    // Given back by somebody else, as the end of its lease would have it.
    other
        .update_work_unit(&ws, &"a".into(), &Update::given_back())
        .expect("give back");
    assert_eq!(
        other
            .get_work(&"other".into(), &GetWork::default())
            .expect("work")
            .len(),
        1
    );
    let message = refusal(client.update_work_unit(&ws, &"a".into(), &Update::finished()));
    assert!(message.contains("other"), "{message}");
}

#[test]
fn workers_register_and_are_listed_with_what_they_do() {
    let (_server, mut client, ws) = start();
    add(&mut client, &["a"]);
    let parent = Heartbeat {
        mode: Some("RUN".into()),
        environment: Some(Value::map([("pid", Value::from(17))])),
        ..Heartbeat::new("parent".into())
    };
    assert_eq!(client.worker_heartbeat(&parent).expect("beat"), None);
    let child = Heartbeat {
        parent: Some("parent".into()),
        lifetime: Duration::from_secs(100_000),
        ..Heartbeat::new("child".into())
    };
    assert!(
        client.worker_heartbeat(&child).expect("beat").is_some(),
        "a remark"
    );
    client
        .get_work(&"child".into(), &GetWork::default())
        .expect("work");

    let modes = client.list_worker_modes().expect("modes");
    assert_eq!(
        modes,
        [
            ("child".into(), None),
            ("parent".into(), Some("RUN".into()))
        ]
    );
    assert_eq!(
        client.mode_counts().expect("counts"),
        [(None, 1), (Some("RUN".into()), 1)]
    );
    let info = client
        .get_worker_info(&"parent".into())
        .expect("info")
        .expect("it is there");
    assert_eq!(info.get("pid"), Some(&Value::from(17)));
    assert!(info.get("age_seconds").and_then(Value::as_f64).is_some());
    assert_eq!(client.get_worker_info(&"none".into()).expect("info"), None);
    let stats = client.worker_stats().expect("stats");
    assert_eq!((stats.workers, stats.children, stats.expirable), (2, 1, 2));
    let children = client
        .get_child_work_units(&"parent".into())
        .expect("children");
    let (child, held) = &children[0];
    assert_eq!(
        (child, &held[0].key, &held[0].work_spec),
        (&"child".into(), &"a".into(), &ws)
    );
    assert_eq!(held[0].worker, Some("child".into()));
    client
        .worker_unregister(&"child".into())
        .expect("unregister");
    assert!(refusal(client.worker_unregister(&"child".into())).contains("child"));
}

#[test]
fn locks_are_taken_renewed_read_and_given_back() {
    let (_server, mut client, _) = start();
    let path = |labels: &[&str]| {
        labels
            .iter()
            .map(|label| Value::from(*label))
            .collect::<Vec<_>>()
    };
    let (a, below, b) = (path(&["a"]), path(&["a", "x"]), path(&["b"]));
    let (me, minute) = ("me".into(), Duration::from_secs(60));
    client
        .lock(&me, minute, std::slice::from_ref(&a))
        .expect("lock");
    assert!(refusal(client.lock(&me, minute, std::slice::from_ref(&below))).contains("a"));
    let locked = client
        .locksome(&me, minute, &[below, b.clone()])
        .expect("locksome");
    assert_eq!(locked, std::slice::from_ref(&b));
    client
        .renew(&me, minute, &[a.clone(), b.clone()])
        .expect("renew");
    let owners = client
        .readlock(&[a.clone(), path(&["c"])])
        .expect("readlock");
    assert_eq!(owners, [Some(me.clone()), None]);
    client.unlock(&me, &[a]).expect("unlock");
    client.delete_namespace(&"b".into()).expect("delete");
    assert_eq!(client.readlock(&[b]).expect("readlock"), [None]);
}

#[test]
fn the_daemon_tells_about_itself() {
    let (_server, mut client, ws) = start();
    let info = client.server_info().expect("info").expect("it is ours");
    assert_eq!((info.server.as_str(), info.protocol), ("coordinated", 1));
    assert!(info.has("update_work_units") && !info.has("unheard of"));
    assert!(client.now().expect("now").abs_diff(info.now as i64) < 3_600);
    assert_eq!(client.get_config().expect("config"), Value::EMPTY_MAP);
    let request = Request::new("count_work_units", [Value::from(&ws)]);
    let pair = client.connection().call(&request).expect("call");
    assert_eq!(pair.as_list().map(<[Value]>::len), Some(2));
}

#[test]
fn addresses_of_all_kinds_are_connected_to() {
    let folder = tempfile::TempDir::new().expect("folder");
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let server = Server::start_with(&["--listen", "[::1]:0", "--listen", &socket]);
    for address in server.addresses() {
        let mut client = Coordinate::connect(&address.parse().expect("an address")).expect(address);
        client.now().expect(address);
    }
    assert_eq!(server.addresses().len(), 3);
}

#[test]
fn a_failed_unit_shows_its_retries_and_can_be_failed_for_good() {
    let (_server, mut client, ws) = start();
    let definition = [("name", Value::from("ws")), ("retries", 3.into())];
    client.set_work_spec(&Value::map(definition)).expect("set");
    add(&mut client, &["a"]);
    let keys = ["a".into()];
    let failed = Update::failed().retried_after(Duration::from_secs(1_000));
    for update in [&failed, &failed.clone().for_good()] {
        let updated = client.update_work_unit(&ws, &keys[0], update);
        updated.expect("an update");
        let summary = client.summary().expect("a summary").remove(0);
        let unit = client
            .get_work_unit_status(&ws, &keys)
            .expect("a status")
            .remove(0);
        let unit = unit.expect("the unit");
        assert_eq!((unit.retries, unit.lost), (3, 0));
        let is_waiting = unit.status == Status::Available;
        assert_eq!(
            (is_waiting, summary.retrying),
            (unit.failures == 1, unit.retry_at.map_or(0, |_| 1))
        );
    }
    let unit = client
        .get_work_unit_status(&ws, &keys)
        .expect("a status")
        .remove(0);
    assert_eq!(
        unit.map(|unit| (unit.status, unit.failures)),
        Some((Status::Failed, 2))
    );
}

#[test]
fn units_are_cancelled_and_the_cancellation_is_told() {
    let (_server, mut client, ws) = start();
    add(&mut client, &["a", "b", "c"]);
    let worker = "w".into();
    client
        .get_work(&worker, &GetWork::default())
        .expect("a unit");
    let how = Cancel {
        reason: Some("too old".to_owned()),
        by: Some("me".to_owned()),
        grace: Some(Duration::from_secs(900)),
    };
    let keys = ["a".into(), "b".into()];
    let cancelled = client.cancel_work_units(&ws, Some(&keys), &[Status::Pending], &how);
    let counts = |failed, running| Cancelled { failed, running };
    assert_eq!(cancelled.expect("cancel"), counts(0, 1));
    let rest = client.cancel_work_units(&ws, None, &[Status::Available], &Cancel::default());
    assert_eq!(rest.expect("cancel"), counts(2, 0));
    let all = client.cancel_work_units(&ws, None, &[], &Cancel::default());
    assert_eq!(all.expect("cancel"), counts(0, 1));
    let none = client.cancel_work_units(&ws, Some(&[]), &[], &Cancel::default());
    assert_eq!(none.expect("cancel"), counts(0, 0));
    let units = client.get_work_unit_status(&ws, &keys).expect("statuses");
    let told = |index: usize| units[index].clone().and_then(|unit| unit.cancelled);
    let of_a = told(0).expect("it was cancelled");
    assert_eq!((of_a.reason, of_a.by), (how.reason, how.by));
    assert!(of_a.at.is_some());
    assert_eq!(told(1).expect("it was cancelled").reason, None);
    let renewal = Update::renewed(Duration::from_secs(60));
    let refused = client.update_work_unit(&ws, &keys[0], &renewal);
    assert_eq!(refusal(refused), "cancelled: too old");
}
