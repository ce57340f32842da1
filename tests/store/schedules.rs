//! Schedules on a store with a hand-set clock.

use coordinated::clock::{ClockStep, Timestamp};
use coordinated::coordinate::{
    Control, Error, HandedOut, LEASE_DEFAULT, Pause, Reason, ReportKind, Schedule,
};
use coordinated_client::cbor::Item;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use test_support::world::{World, cbor, name, nobody, report_of};

fn at(time: &str) -> Timestamp {
    let time: jiff::Timestamp = time.parse().expect("a time");
    Timestamp(time.as_microsecond())
}

fn world_at(time: &str) -> World {
    World::open(Path::new(":memory:"), at(time))
}

/// Sets a work spec with a schedule and some more keys.
fn set(world: &mut World, schedule: &str, more: Value) {
    let mut definition = json!({"name": "spec", "schedule": schedule});
    for (key, value) in more.as_object().expect("keys") {
        definition[key] = value.clone();
    }
    world.set_spec(&definition);
}

fn schedule(world: &mut World) -> Schedule {
    let schedule = world.run(|op| Ok(op.work_spec(&name("spec"))?.meta.schedule.clone()));
    *schedule.expect("the work spec").expect("its schedule")
}

/// Sets the clock of the world to a later time, step by step, as a daemon that runs would see it pass.
fn run_until(world: &mut World, time: &str) {
    let end = at(time);
    while world.now < end {
        let due = world.store_due().filter(|due| *due < end).unwrap_or(end);
        world.now = due.max(world.now);
        world.counts("spec");
    }
}

/// The names and data of the available units, which are taken.
fn take_all(world: &mut World) -> Vec<(String, String)> {
    let given = world.get_work("w", 100, LEASE_DEFAULT);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    given
        .iter()
        .map(|given| {
            let scheduled = Item::from_checked(&given.data).get_some("scheduled");
            let scheduled = scheduled.and_then(|time| time.as_string_bytes());
            (
                text(given.name.bytes()),
                text(&scheduled.expect("its time")),
            )
        })
        .collect()
}

fn names(world: &mut World) -> Vec<String> {
    take_all(world).into_iter().map(|(name, _)| name).collect()
}

fn finish_one(world: &mut World, handed_out: &mut HandedOut) {
    let unit = world.get_one("w", handed_out).expect("a unit");
    world
        .report(handed_out, "spec", &unit, &report_of(ReportKind::Finished))
        .expect("it is reported");
}

#[test]
fn a_unit_is_made_at_each_time_whether_or_not_a_worker_asks() {
    let mut world = world_at("2026-11-30T12:00:00Z");
    set(
        &mut world,
        "0 3 * * 1-5",
        json!({"timezone": "Europe/Berlin", "overlap": "queue"}),
    );
    assert_eq!(schedule(&mut world).next, Some(at("2026-12-01T02:00:00Z")));
    run_until(&mut world, "2026-12-01T01:59:59.999999Z");
    assert_eq!(world.counts("spec").available, 0);
    run_until(&mut world, "2026-12-07T01:00:00Z");
    let expected = [1, 2, 3, 4].map(|day| {
        (
            format!("2026-12-0{day}T02:00:00Z"),
            format!("2026-12-0{day}T03:00:00+01:00"),
        )
    });
    assert_eq!(take_all(&mut world), expected);
    let schedule = schedule(&mut world);
    assert_eq!(schedule.next, Some(at("2026-12-07T02:00:00Z")));
    assert_eq!(schedule.last, Some(at("2026-12-04T02:00:00Z")));
    assert_eq!(schedule.skipped, None);
}

#[test]
fn in_spring_and_autumn_each_day_has_one_unit() {
    for (zone, expression, start, end, days) in [
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2027-03-26T12:00:00Z",
            "2027-03-30T12:00:00Z",
            4,
        ),
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-10-23T12:00:00Z",
            "2026-10-27T12:00:00Z",
            4,
        ),
        (
            "America/New_York",
            "30 1,2 * * *",
            "2026-10-30T12:00:00Z",
            "2026-11-03T12:00:00Z",
            8,
        ),
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2027-10-01T12:00:00Z",
            "2027-10-05T12:00:00Z",
            4,
        ),
        (
            "Australia/Sydney",
            "30 2 * * *",
            "2027-04-01T12:00:00Z",
            "2027-04-05T12:00:00Z",
            4,
        ),
    ] {
        let mut world = world_at(start);
        let more = json!({"timezone": zone, "overlap": "queue"});
        set(&mut world, expression, more);
        run_until(&mut world, end);
        let made = take_all(&mut world);
        assert_eq!(made.len(), days, "{zone} {made:?}");
    }
}

#[test]
fn the_repeated_hour_of_autumn_has_units_of_its_own_for_an_interval() {
    let mut world = world_at("2026-10-24T23:59:00Z");
    let more = json!({"timezone": "Europe/Berlin", "overlap": "queue"});
    set(&mut world, "*/30 * * * *", more);
    run_until(&mut world, "2026-10-25T02:00:00Z");
    let expected = [
        ("2026-10-25T00:00:00Z", "2026-10-25T02:00:00+02:00"),
        ("2026-10-25T00:30:00Z", "2026-10-25T02:30:00+02:00"),
        ("2026-10-25T01:00:00Z", "2026-10-25T02:00:00+01:00"),
        ("2026-10-25T01:30:00Z", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25T02:00:00Z", "2026-10-25T03:00:00+01:00"),
    ];
    let expected = expected.map(|(name, time)| (name.to_owned(), time.to_owned()));
    assert_eq!(take_all(&mut world), expected);
}

#[test]
fn a_run_is_skipped_while_the_unit_of_the_last_one_is_not_done() {
    let mut world = world_at("2026-11-30T12:00:30Z");
    set(&mut world, "* * * * *", json!({}));
    run_until(&mut world, "2026-11-30T12:01:00Z");
    assert_eq!(world.counts("spec").available, 1);
    run_until(&mut world, "2026-11-30T12:02:00Z");
    assert_eq!(world.counts("spec").available, 1, "the first one waits");
    assert_eq!(
        schedule(&mut world).skipped,
        Some(at("2026-11-30T12:02:00Z"))
    );
    let mut handed_out = nobody();
    let unit = world.get_one("w", &mut handed_out).expect("a unit");
    run_until(&mut world, "2026-11-30T12:03:00Z");
    assert_eq!(world.counts("spec").available, 0, "the first one runs");
    let give_back = coordinated::coordinate::Report {
        delay: Some(Duration::from_secs(90)),
        ..report_of(ReportKind::Available)
    };
    world
        .report(&handed_out, "spec", &unit, &give_back)
        .unwrap();
    run_until(&mut world, "2026-11-30T12:04:00Z");
    assert_eq!(world.counts("spec").delayed, 1, "the first one is delayed");
    assert_eq!(world.counts("spec").available, 0);
    run_until(&mut world, "2026-11-30T12:04:59Z");
    finish_one(&mut world, &mut handed_out);
    run_until(&mut world, "2026-11-30T12:05:00Z");
    assert_eq!(names(&mut world), ["2026-11-30T12:05:00Z"]);
    let schedule = schedule(&mut world);
    assert_eq!(schedule.last, Some(at("2026-11-30T12:05:00Z")));
    assert_eq!(schedule.skipped, Some(at("2026-11-30T12:04:00Z")));
}

#[test]
fn other_units_of_the_work_spec_do_not_hold_a_run_back() {
    let mut world = world_at("2026-11-30T12:00:30Z");
    set(&mut world, "* * * * *", json!({}));
    world.add("spec", &[json!(["by hand", {}])]);
    run_until(&mut world, "2026-11-30T12:01:00Z");
    assert_eq!(world.counts("spec").available, 2);
}

#[test]
fn after_a_time_down_there_is_one_unit_for_all_runs_that_were_missed_or_none() {
    for (missed, expected) in [("run-once", 1), ("skip", 0)] {
        let mut world = world_at("2026-11-30T12:30:00Z");
        let more = json!({"missed": missed, "overlap": "queue"});
        set(&mut world, "0 * * * *", more);
        world.now = at("2026-11-30T18:15:00Z");
        assert_eq!(world.counts("spec").available, expected, "{missed}");
        let schedule = schedule(&mut world);
        let last = Some(at("2026-11-30T18:00:00Z"));
        assert_eq!(schedule.next, Some(at("2026-11-30T19:00:00Z")));
        match missed {
            "skip" => assert_eq!((schedule.last, schedule.skipped), (None, last)),
            _ => assert_eq!((schedule.last, schedule.skipped), (last, None)),
        }
        // A run that is only a little late is not missed.
        world.get_work("w", 1, Duration::from_secs(1));
        world.now = at("2026-11-30T20:00:59Z");
        assert_eq!(names(&mut world).last().unwrap(), "2026-11-30T20:00:00Z");
    }
}

#[test]
fn a_paused_work_spec_makes_no_unit_and_does_not_catch_up() {
    let mut world = world_at("2026-11-30T12:30:00Z");
    set(&mut world, "0 * * * *", json!({"overlap": "queue"}));
    let control = |world: &mut World, paused: Option<Pause>| {
        let control = Control {
            paused: Some(paused),
            ..Control::default()
        };
        let controlled = world.run(|op| op.control_work_spec(&name("spec"), &control));
        controlled.expect("it is controlled");
    };
    control(&mut world, Some(Pause::default()));
    run_until(&mut world, "2026-11-30T15:30:00Z");
    control(&mut world, None);
    assert_eq!(world.counts("spec").available, 0);
    assert_eq!(
        schedule(&mut world).skipped,
        Some(at("2026-11-30T15:00:00Z"))
    );
    run_until(&mut world, "2026-11-30T16:00:00Z");
    assert_eq!(names(&mut world), ["2026-11-30T16:00:00Z"]);
}

#[test]
fn the_same_schedule_set_again_keeps_its_next_run_and_another_is_planned_anew() {
    let mut world = world_at("2026-11-30T12:30:00Z");
    set(&mut world, "0 * * * *", json!({}));
    run_until(&mut world, "2026-11-30T13:10:00Z");
    let before = schedule(&mut world);
    set(
        &mut world,
        "0 * * * *",
        json!({"missed": "skip", "weight": 5}),
    );
    let after = schedule(&mut world);
    assert_eq!((after.next, after.last), (before.next, before.last));
    set(&mut world, "30 * * * *", json!({}));
    let after = schedule(&mut world);
    assert_eq!(after.next, Some(at("2026-11-30T13:30:00Z")));
    // The unit of the last run counts, although the schedule was another one.
    run_until(&mut world, "2026-11-30T13:40:00Z");
    assert_eq!(world.counts("spec").available, 1);
    world.set_spec(&json!({"name": "spec"}));
    run_until(&mut world, "2026-11-30T20:00:00Z");
    assert_eq!(world.counts("spec").available, 1);
    assert_eq!(world.store_due(), None);
}

#[test]
fn when_the_clock_is_set_forward_what_was_passed_is_missed_once() {
    let mut world = world_at("2026-11-30T12:30:00Z");
    set(&mut world, "0 * * * *", json!({}));
    world.set_clock(5 * 3_600);
    assert_eq!(names(&mut world), ["2026-11-30T17:00:00Z"]);
    assert_eq!(schedule(&mut world).next, Some(at("2026-11-30T18:00:00Z")));
}

#[test]
fn when_the_clock_is_set_back_the_next_run_is_planned_by_it_and_none_is_made_twice() {
    let mut world = world_at("2026-11-30T12:30:00Z");
    set(&mut world, "0 3 * * *", json!({}));
    let mut handed_out = nobody();
    run_until(&mut world, "2026-12-01T03:00:10Z");
    finish_one(&mut world, &mut handed_out);
    // By an hour: the run of 3:00 has been.
    world.set_clock(-3_600);
    assert_eq!(schedule(&mut world).next, Some(at("2026-12-01T03:00:00Z")));
    run_until(&mut world, "2026-12-01T03:00:10Z");
    assert_eq!(world.counts("spec").available, 0);
    assert_eq!(world.counts("spec").finished, 1);
    // By two days, after it was wrong.
    world.set_clock(-2 * 86_400);
    assert_eq!(schedule(&mut world).next, Some(at("2026-11-30T03:00:00Z")));
    run_until(&mut world, "2026-11-30T03:00:00Z");
    assert_eq!(names(&mut world), ["2026-11-30T03:00:00Z"]);
}

#[test]
fn a_clock_that_was_set_back_while_no_daemon_ran_is_followed_at_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, at("2026-11-30T12:30:00Z"));
    set(&mut world, "0 3 * * *", json!({}));
    world.store.close().expect("it closes");
    let mut world = World::open(&path, at("2026-11-29T12:30:00Z"));
    assert_eq!(schedule(&mut world).next, Some(at("2026-11-30T03:00:00Z")));
    let step = ClockStep(3_600_000_000);
    world.now = world.now.moved(step);
    world.store.close().expect("it closes");
    // A later start finds what was missed.
    let mut world = World::open(&path, at("2026-12-01T12:00:00Z"));
    assert_eq!(names(&mut world), ["2026-12-01T03:00:00Z"]);
}

#[test]
fn very_many_schedules_that_come_at_once_run_in_steps() {
    let mut world = world_at("2026-11-30T12:30:00Z");
    for number in 0..250 {
        world.set_spec(&json!({"name": format!("{number:03}"), "schedule": "@hourly"}));
    }
    set(&mut world, "1 * * * *", json!({}));
    world.now = at("2026-11-30T13:00:00Z");
    let mut made = Vec::new();
    for _ in 0..4 {
        let specs = world.run(|op| {
            Ok(op
                .work_specs()
                .filter(|spec| spec.counts.available > 0)
                .count())
        });
        made.push(specs.expect("the work specs"));
    }
    assert_eq!(made, [100, 200, 250, 250]);
    assert_eq!(world.store_due(), Some(at("2026-11-30T13:01:00Z")));
}

#[test]
fn a_deleted_work_spec_has_no_runs_any_more() {
    let mut world = world_at("2026-11-30T12:30:00Z");
    set(&mut world, "0 * * * *", json!({}));
    world.run(|op| op.delete_work_spec(&name("spec"))).unwrap();
    world.run(|_| Ok(())).unwrap();
    world.now = at("2026-11-30T14:00:00Z");
    assert_eq!(world.run(|op| Ok(op.work_specs().count())).unwrap(), 0);
}

#[test]
fn a_work_spec_without_units_says_when_its_schedule_makes_the_next_one() {
    let mut world = world_at("2026-11-30T12:30:00Z");
    set(&mut world, "0 13 * * *", json!({}));
    let reasons = |world: &mut World| world.run(|op| op.explain_work(&name("spec"), None));
    let until = at("2026-11-30T13:00:00Z");
    let found = reasons(&mut world).expect("reasons");
    assert_eq!(found[0], Reason::Scheduled { until });
    let text = "the work spec has no available unit, and its schedule makes the next one in 30m";
    assert_eq!(found[0].text(world.now), text);
    run_until(&mut world, "2026-11-30T13:00:00Z");
    let found = reasons(&mut world).expect("reasons");
    assert!(!found.iter().any(|reason| reason.code() == "scheduled"));
}

#[test]
fn what_is_wrong_with_a_schedule_is_told_with_its_key() {
    let mut world = world_at("2026-11-30T12:30:00Z");
    for (keys, expected) in [
        (
            json!({"schedule": "0 25 * * *"}),
            "work spec key \"schedule\": expected for the hour: 0-23; lists (1,2), ranges (1-5), steps (*/2), or * for all",
        ),
        (
            json!({"schedule": "0 0 30 2 *"}),
            "work spec key \"schedule\": no day within 50 years matches; check the day of the month and the month",
        ),
        (
            json!({"schedule": 5}),
            "work spec key \"schedule\": expected a text string, got 5",
        ),
        (
            json!({"schedule": "@daily", "continuous": true}),
            "work spec key \"schedule\": not allowed with continuous, which makes units by itself, too",
        ),
        (
            json!({"schedule": "@daily", "timezone": "Europe/Belrin"}),
            "work spec key \"timezone\": expected a time zone of the IANA database, such as \"Europe/Berlin\" or \"UTC\"",
        ),
        (
            json!({"schedule": "@daily", "overlap": "run-once"}),
            "work spec key \"overlap\": expected \"skip\" or \"queue\", got a text string",
        ),
        (
            json!({"schedule": "@daily", "missed": true}),
            "work spec key \"missed\": expected \"run-once\" or \"skip\", got a boolean",
        ),
    ] {
        let mut definition = keys;
        definition["name"] = json!("spec");
        let encoded = cbor(&definition);
        let set = world.run(|op| op.set_work_spec(Item::from_checked(&encoded)));
        match set {
            Err(Error::Invalid(message)) => assert_eq!(message, expected),
            other => panic!("{definition}: {other:?}"),
        }
    }
    // Without a schedule these keys belong to the workers.
    let definition = json!({"name": "spec", "timezone": "local", "overlap": 5, "missed": []});
    world.set_spec(&definition);
}
