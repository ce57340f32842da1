//! How fast units are handed out, and work specs that pause when their units fail, on a store with a hand-set clock.

use coordinated::clock::Timestamp;
use coordinated::coordinate::{Control, Pause, Report, ReportKind};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use test_support::world::{self, World, cbor, name, nobody, report_of};

/// A world with a work spec of 90 units that has more entries.
fn furnish(world: &mut World, entries: &Value) {
    let mut definition = json!({"name": "spec"});
    let more = entries.as_object().expect("an object");
    definition
        .as_object_mut()
        .expect("an object")
        .extend(more.clone());
    world.set_spec(&definition);
    let units: Vec<_> = (10..100).map(|n| json!([format!("u{n}"), {}])).collect();
    world.add("spec", &units);
}

fn world_with(entries: &Value) -> World {
    let mut world = World::in_memory();
    furnish(&mut world, entries);
    world
}

/// How many units a worker gets that asks for very many.
fn given(world: &mut World) -> usize {
    world.get_work("w", 50, Duration::from_secs(3_600)).len()
}

/// Closes a file and opens it again at a time.
fn reopened(world: World, path: &Path, now: Timestamp) -> World {
    world.store.close().expect("it closes");
    World::open(path, now)
}

fn later(seconds: u64) -> Timestamp {
    world::START.plus(Duration::from_secs(seconds))
}

#[test]
fn a_burst_is_handed_out_at_once_and_then_a_unit_at_a_time() {
    let mut world = world_with(&json!({"max_rate": "30/m", "max_rate_burst": 3}));
    assert_eq!(given(&mut world), 3);
    assert_eq!(given(&mut world), 0);
    world.pass(1.999_999);
    assert_eq!(given(&mut world), 0);
    world.pass(0.000_001);
    assert_eq!(given(&mut world), 1);
    assert_eq!(given(&mut world), 0);
    world.pass(5.0);
    assert_eq!(given(&mut world), 2);
    world.pass(1_000.0);
    assert_eq!(
        given(&mut world),
        3,
        "the bucket holds no more than a burst"
    );
}

#[test]
fn units_that_are_given_back_or_lost_return_no_tokens() {
    let mut world = world_with(&json!({"max_rate": "1/h"}));
    let unit = world.get_one("w", &mut nobody()).expect("a unit");
    let back = report_of(ReportKind::Available);
    world
        .report(&nobody(), "spec", &unit, &back)
        .expect("it is given back");
    assert_eq!(given(&mut world), 0);
    world.pass(3_600.0);
    assert_eq!(given(&mut world), 1);
}

#[test]
fn what_was_undone_takes_no_tokens() {
    use coordinated::coordinate::{Error, WorkRequest};
    let mut world = world_with(&json!({"max_rate": "1/h"}));
    let request = WorkRequest {
        max_units: 1,
        lease: Duration::from_secs(60),
        work_specs: &[],
        runtimes: &[String::new()],
    };
    let undone = world.run(|op| {
        let given = op.get_work(&name("w"), &request)?;
        assert_eq!(given.map(|given| given.len()), Some(1));
        Err::<(), _>(Error::Refused("for a test".to_owned()))
    });
    assert!(undone.is_err());
    assert_eq!(given(&mut world), 1);
}

#[test]
fn a_bucket_is_no_fuller_after_a_restart_or_another_definition_or_without_units() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    let slow = json!({"max_rate": "1/m"});
    furnish(&mut world, &slow);
    assert_eq!(given(&mut world), 1);
    let mut world = reopened(world, &path, later(59));
    assert_eq!(given(&mut world), 0);
    furnish(&mut world, &slow);
    assert_eq!(given(&mut world), 0);
    let all = coordinated::coordinate::Deletion::All;
    world
        .run(|op| op.delete_work_units(&name("spec"), &all))
        .expect("all are deleted");
    furnish(&mut world, &slow);
    assert_eq!(given(&mut world), 0);
    world.pass(1.0);
    assert_eq!(given(&mut world), 1);
    // A faster rate counts from now on, and not from when the slower one would allow a unit.
    furnish(&mut world, &json!({"max_rate": "1/d"}));
    world.pass(60.0);
    assert_eq!(given(&mut world), 1);
    furnish(&mut world, &json!({"max_rate": "1/s"}));
    world.pass(1.0);
    assert_eq!(given(&mut world), 1);
}

#[test]
fn a_rate_goes_on_when_the_clock_is_set() {
    for step in [-1_000_000, 1_000_000] {
        let mut world = world_with(&json!({"max_rate": "1/m"}));
        assert_eq!(given(&mut world), 1);
        world.set_clock(step);
        world.pass(59.0);
        assert_eq!(given(&mut world), 0);
        world.pass(1.0);
        assert_eq!(given(&mut world), 1);
    }
}

#[test]
fn nobody_waits_for_longer_than_an_empty_bucket_takes_though_the_clock_was_years_ahead() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, later(100_000_000));
    furnish(&mut world, &json!({"max_rate": "1/m"}));
    assert_eq!(given(&mut world), 1);
    let mut world = reopened(world, &path, world::START);
    assert_eq!(given(&mut world), 0);
    world.pass(60.0);
    assert_eq!(given(&mut world), 1);
}

#[test]
fn why_no_unit_is_handed_out_tells_when_the_next_one_can_be_had() {
    let mut world = world_with(&json!({"max_rate": "4/h"}));
    assert_eq!(given(&mut world), 1);
    world.pass(60.0);
    for unit in [None, Some(name("u50"))] {
        let now = world.now;
        let reasons = world.run(|op| op.explain_work(&name("spec"), unit.as_ref()));
        let first = reasons.expect("reasons").remove(0);
        assert_eq!(
            (first.code(), first.text(now).as_str()),
            (
                "max_rate",
                "the work spec has handed out as many units as its max_rate allows, 4/h: the next one can be had in 14m"
            )
        );
    }
}

// --- halt_after ---

/// Takes a unit and reports how it ended, with a traceback for a failure.
fn end(world: &mut World, kind: ReportKind, traceback: &str) {
    let mut handed_out = nobody();
    let unit = world.get_one("w", &mut handed_out).expect("a unit");
    let data = cbor(&json!({ "traceback": traceback }));
    let report = Report {
        data: (kind == ReportKind::Failed).then_some(&data),
        ..report_of(kind)
    };
    world
        .report(&handed_out, "spec", &unit, &report)
        .expect("it is reported");
}

fn fail(world: &mut World) {
    end(world, ReportKind::Failed, "Traceback:\n  x\nboom");
}

fn finish(world: &mut World) {
    end(world, ReportKind::Finished, "");
}

fn pause(world: &mut World) -> Option<Pause> {
    let meta = world.run(|op| Ok(op.work_spec(&name("spec"))?.meta.clone()));
    meta.expect("a work spec").paused
}

fn resume(world: &mut World) {
    let control = Control {
        paused: Some(None),
        ..Control::default()
    };
    world
        .run(|op| op.control_work_spec(&name("spec"), &control))
        .expect("it is resumed");
}

#[test]
fn failures_in_a_row_pause_a_work_spec_and_say_why_also_over_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    furnish(
        &mut world,
        &json!({"halt_after": {"failures": 3}, "retries": 5}),
    );
    fail(&mut world);
    fail(&mut world);
    finish(&mut world);
    fail(&mut world);
    fail(&mut world);
    assert_eq!(pause(&mut world), None);
    let mut world = reopened(world, &path, later(10));
    fail(&mut world);
    let expected = Pause {
        reason: Some("3 attempts in a row have failed; the last one: boom".to_owned()),
        by: Some("halt_after".to_owned()),
        since: Some(later(10)),
    };
    assert_eq!(pause(&mut world), Some(expected.clone()));
    assert_eq!(given(&mut world), 0);
    let mut world = reopened(world, &path, later(20));
    assert_eq!(pause(&mut world), Some(expected));
    resume(&mut world);
    fail(&mut world);
    fail(&mut world);
    assert_eq!(pause(&mut world), None, "the count has begun anew");
    fail(&mut world);
    assert!(pause(&mut world).is_some());
}

#[test]
fn a_share_of_failures_pauses_a_work_spec_when_there_were_enough_attempts() {
    let mut world = world_with(&json!({"halt_after": {"rate": 0.5, "min": 4}}));
    for _ in 0..3 {
        fail(&mut world);
    }
    finish(&mut world);
    assert_eq!(pause(&mut world), None, "a finished attempt pauses nothing");
    fail(&mut world);
    let reason = pause(&mut world).and_then(|pause| pause.reason);
    let reason = reason.expect("it is paused");
    assert!(
        reason.ends_with("% of the last attempts have failed; the last one: boom"),
        "{reason}"
    );
}

#[test]
fn the_count_is_kept_over_the_same_definition_and_begins_anew_with_another_halt_after() {
    let halting = json!({"halt_after": {"failures": 3}});
    let mut world = world_with(&halting);
    fail(&mut world);
    furnish(&mut world, &halting);
    fail(&mut world);
    furnish(
        &mut world,
        &json!({"halt_after": {"failures": 3, "rate": 1, "min": 9}}),
    );
    fail(&mut world);
    fail(&mut world);
    assert_eq!(pause(&mut world), None);
    fail(&mut world);
    assert!(pause(&mut world).is_some());
}

#[test]
fn what_ends_while_a_work_spec_is_paused_does_not_count() {
    let mut world = world_with(&json!({"halt_after": {"failures": 2}}));
    let mut handed_out = nobody();
    let units: Vec<String> = (0..4)
        .map(|_| world.get_one("w", &mut handed_out).expect("a unit"))
        .collect();
    for unit in &units[..3] {
        let failed = report_of(ReportKind::Failed);
        world
            .report(&handed_out, "spec", unit, &failed)
            .expect("it is reported");
    }
    let reason = pause(&mut world).and_then(|pause| pause.reason);
    assert_eq!(reason.as_deref(), Some("2 attempts in a row have failed"));
    resume(&mut world);
    let failed = report_of(ReportKind::Failed);
    world
        .report(&handed_out, "spec", &units[3], &failed)
        .expect("it is reported");
    assert_eq!(pause(&mut world), None);
}

#[test]
fn lost_leases_and_units_that_are_given_back_do_not_count_unless_max_lost_fails_the_unit() {
    let mut world = world_with(&json!({"halt_after": {"failures": 1}}));
    end(&mut world, ReportKind::Available, "");
    world.get_one("w", &mut nobody()).expect("a unit");
    world.pass(100_000.0);
    assert_eq!(pause(&mut world), None);
    let mut world = world_with(&json!({"halt_after": {"failures": 1}, "max_lost": 1}));
    world.get_one("w", &mut nobody()).expect("a unit");
    world.pass(100_000.0);
    assert_eq!(world.counts("spec").failed, 1);
    let reason = pause(&mut world).and_then(|pause| pause.reason);
    assert_eq!(
        reason.as_deref(),
        Some("an attempt has failed; the last one: lost 1 lease")
    );
}

#[test]
fn a_result_that_is_reported_again_counts_once() {
    let mut world = world_with(&json!({"halt_after": {"failures": 2}, "retries": 1}));
    let mut handed_out = nobody();
    let unit = world.get_one("w", &mut handed_out).expect("a unit");
    let failed = report_of(ReportKind::Failed);
    for _ in 0..3 {
        world
            .report(&handed_out, "spec", &unit, &failed)
            .expect("it is reported");
    }
    assert_eq!(pause(&mut world), None);
}

/// Reasons of pauses have a limit on the wire, by which `load` keeps them over a new definition.
#[test]
fn a_long_message_is_cut_so_that_the_reason_can_be_sent_again() {
    let mut world = world_with(&json!({"halt_after": {"failures": 1}}));
    end(&mut world, ReportKind::Failed, &"\u{1f980}".repeat(2_000));
    let reason = pause(&mut world).and_then(|pause| pause.reason);
    let bytes = reason.expect("it is paused").len();
    assert!((1_000..=1_024).contains(&bytes), "{bytes}");
}
