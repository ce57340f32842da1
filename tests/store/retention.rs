//! Promise: completed units beyond the limits go, the oldest first, with all that is theirs; they stay in
//! the counts; and nothing else goes. Tries to break it on a store with a hand-set clock, with units that
//! took longer than others, that come back, and that are more than one step takes.

use coordinated::coordinate::storage::{Lister, Storage, UnitQuery};
use coordinated::coordinate::{
    Counts, Deletion, Error, HandedOut, Report, ReportKind, Retention, UnitStatus,
};
use coordinated::limits;
use rusqlite::Connection;
use serde_json::json;
use std::time::Duration;
use test_support::world::{ROWS_A_STEP, START, World, name, nobody, report_of};

fn count(count: u64) -> Retention {
    Retention {
        count: Some(count),
        age: None,
    }
}

fn age(seconds: u64) -> Retention {
    Retention {
        count: None,
        age: Some(Duration::from_secs(seconds)),
    }
}

fn world_with_units(units: &[&str]) -> World {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let units: Vec<_> = units.iter().map(|unit| json!([unit, {}])).collect();
    world.add("spec", &units);
    world
}

/// Hands out the next unit, and reports on it when `seconds` have passed.
fn complete_next(world: &mut World, status: ReportKind, seconds: f64) -> String {
    let mut handed_out = nobody();
    let unit = world.get_one("w", &mut handed_out).expect("a unit");
    world.pass(seconds);
    world
        .report(&handed_out, "spec", &unit, &report_of(status))
        .expect("it counts");
    unit
}

fn units_of(world: &mut World, spec: &str) -> Vec<String> {
    let query = UnitQuery {
        statuses: None,
        start: None,
        limit: 10_000,
    };
    let namespace = world.namespace;
    world
        .operation(|op| {
            let mut names = Vec::new();
            op.store
                .list_work_units(namespace, &name(spec), &query, &mut |unit, _| {
                    names.push(String::from_utf8_lossy(unit.bytes()).into_owned());
                    Ok(())
                })?;
            Ok(names)
        })
        .expect("a list")
}

fn total(steps: &[u64]) -> u64 {
    steps.iter().sum()
}

#[test]
fn beyond_the_count_the_oldest_go_and_stay_in_the_counts() {
    let mut world = world_with_units(&["a", "b", "c", "d"]);
    for _ in 0..3 {
        complete_next(&mut world, ReportKind::Finished, 1.0);
    }
    assert_eq!(total(&world.archive(&count(3))), 0);
    assert_eq!(total(&world.archive(&count(2))), 1);
    assert_eq!(units_of(&mut world, "spec"), ["b", "c", "d"]);
    let expected = Counts {
        available: 1,
        finished: 2,
        archived_finished: 1,
        ..Counts::default()
    };
    assert_eq!(world.counts("spec"), expected);
    assert_eq!(expected.total(), 4);
    assert_eq!(total(&world.archive(&count(2))), 0);
    assert_eq!(total(&world.archive(&count(0))), 2);
    assert_eq!(units_of(&mut world, "spec"), ["d"]);
}

#[test]
fn what_was_completed_longer_ago_than_the_age_goes() {
    let mut world = world_with_units(&["a", "b", "c"]);
    // The last one is completed now, the others 10 s and 20 s ago.
    for _ in 0..3 {
        complete_next(&mut world, ReportKind::Failed, 10.0);
    }
    for left in [&["b", "c"][..], &["c"], &[]] {
        assert_eq!(total(&world.archive(&age(15))), 1);
        assert_eq!(units_of(&mut world, "spec"), left);
        assert_eq!(total(&world.archive(&age(15))), 0);
        world.pass(10.0);
    }
    assert_eq!(world.counts("spec").archived_failed, 3);
}

#[test]
fn the_age_counts_from_completion_and_is_kept_to_the_microsecond() {
    let mut world = world_with_units(&["a"]);
    complete_next(&mut world, ReportKind::Finished, 100.0);
    world.pass(15.0);
    assert_eq!(total(&world.archive(&age(15))), 0);
    world.pass(0.000_001);
    assert_eq!(total(&world.archive(&age(15))), 1);
}

#[test]
fn a_unit_that_took_long_stays_while_later_ones_go_and_goes_in_its_time() {
    let mut world = world_with_units(&["long", "m", "n", "o", "p"]);
    let mut first = nobody();
    assert_eq!(world.get_one("w", &mut first).as_deref(), Some("long"));
    for _ in 0..3 {
        complete_next(&mut world, ReportKind::Finished, 1.0);
    }
    world.pass(20.0);
    // Goes past the one that is being worked on.
    assert_eq!(total(&world.archive(&count(1))), 2);
    world
        .report(&first, "spec", "long", &report_of(ReportKind::Finished))
        .unwrap();
    complete_next(&mut world, ReportKind::Finished, 5.0);
    assert_eq!(units_of(&mut world, "spec"), ["long", "o", "p"]);
    // It was completed 5 s ago, "o" 25 s ago.
    assert_eq!(total(&world.archive(&age(10))), 1);
    assert_eq!(units_of(&mut world, "spec"), ["long", "p"]);
    world.pass(6.0);
    assert_eq!(total(&world.archive(&age(10))), 1);
    assert_eq!(units_of(&mut world, "spec"), ["p"]);
}

#[test]
fn finished_and_failed_units_are_limited_each_for_itself_and_each_work_spec_too() {
    let mut world = world_with_units(&["a", "b", "c", "d", "e", "f"]);
    for status in [ReportKind::Finished, ReportKind::Failed] {
        for _ in 0..3 {
            complete_next(&mut world, status, 1.0);
        }
    }
    world.set_spec(&json!({"name": "other"}));
    world.add("other", &[json!(["x", {}])]);
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    world
        .report(&handed_out, "other", "x", &report_of(ReportKind::Finished))
        .unwrap();
    assert_eq!(total(&world.archive(&count(1))), 4);
    assert_eq!(units_of(&mut world, "spec"), ["c", "f"]);
    assert_eq!(units_of(&mut world, "other"), ["x"]);
}

#[test]
fn only_the_named_work_specs_are_archived_and_unknown_ones_are_passed_over() {
    let mut world = world_with_units(&["a"]);
    complete_next(&mut world, ReportKind::Finished, 1.0);
    for (names, archived) in [(&["nope", "other"][..], 0), (&["nope", "spec"], 1)] {
        let names: Vec<_> = names.iter().map(|text| name(text)).collect();
        let pass = world.run(|op| Ok(op.begin_archive_pass(Some(&names))));
        let pass = pass.unwrap();
        let pass = world.run(|op| op.archive_some(&count(0), &pass, ROWS_A_STEP));
        let pass = pass.unwrap();
        assert_eq!(pass.archived(), archived, "{names:?}");
        assert!(pass.is_over());
    }
}

#[test]
fn what_is_not_completed_stays_and_so_does_what_is_completed_no_longer() {
    let mut world = world_with_units(&["a", "b", "c"]);
    world.add("spec", &[json!(["late", {}, {"delay": 1_000}])]);
    complete_next(&mut world, ReportKind::Finished, 1.0);
    complete_next(&mut world, ReportKind::Failed, 1.0);
    // Both come back: one by being added again, the other by a retry, and is handed out.
    world.add("spec", &[json!(["a", {}, {}, 5])]);
    world
        .report(&nobody(), "spec", "b", &report_of(ReportKind::Available))
        .unwrap();
    assert_eq!(world.get_one("w", &mut nobody()).as_deref(), Some("a"));
    world.pass(100.0);
    assert_eq!(total(&world.archive(&age(1))), 0);
    assert_eq!(total(&world.archive(&count(0))), 0);
    let expected = Counts {
        available: 2,
        delayed: 1,
        pending: 1,
        ..Counts::default()
    };
    assert_eq!(world.counts("spec"), expected);
}

#[test]
fn an_archived_unit_that_is_added_again_is_a_new_one() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "max_retries": 1}));
    for round in 1..=3 {
        world.add("spec", &[json!(["a", {"round": round}])]);
        // Had it kept its attempts, it would have had all its retries.
        complete_next(&mut world, ReportKind::Finished, 1.0);
        assert_eq!(total(&world.archive(&count(0))), 1);
        let counts = world.counts("spec");
        assert_eq!((counts.finished, counts.archived_finished), (0, round));
    }
}

#[test]
fn a_report_on_an_archived_unit_is_one_on_an_unknown_unit() {
    let mut world = world_with_units(&["a"]);
    // Its lease runs out, and another worker finishes it.
    let mut slow: HandedOut = nobody();
    world.get_one("slow", &mut slow);
    world.pass(1_000.0);
    complete_next(&mut world, ReportKind::Finished, 1.0);
    world.archive(&count(0));
    for wanted in [
        ReportKind::Finished,
        ReportKind::Available,
        ReportKind::Renew,
    ] {
        let outcome = world.report(&slow, "spec", "a", &report_of(wanted));
        assert!(
            matches!(outcome, Err(Error::NoSuchWorkUnit { .. })),
            "{wanted:?}: {outcome:?}"
        );
    }
    let held = world.run(|op| op.held_units(&name("slow"))).unwrap();
    assert!(held.is_empty(), "its attempts are gone, too");
    let spec = world.run(|op| Ok(op.work_spec(&name("spec"))?.id)).unwrap();
    let report = world.run(|op| op.work_unit_report(spec, &name("a")));
    assert!(report.unwrap().is_none());
}

#[test]
fn deleting_by_status_takes_archived_units_out_of_the_counts_and_deleting_by_name_does_not() {
    let mut world = world_with_units(&["a", "b", "c", "d"]);
    for status in [
        ReportKind::Finished,
        ReportKind::Finished,
        ReportKind::Failed,
        ReportKind::Failed,
    ] {
        complete_next(&mut world, status, 1.0);
    }
    world.archive(&count(1));
    let delete = |world: &mut World, which: &Deletion<'_>| {
        let deleted = world.run(|op| op.delete_work_units(&name("spec"), which));
        (deleted.unwrap(), world.counts("spec").total())
    };
    let names = [name("a"), name("b")];
    let named = Deletion::Named(&names, Some(&[UnitStatus::Finished]));
    assert_eq!(delete(&mut world, &named), (1, 3), "the one that is there");
    let finished = [UnitStatus::Finished, UnitStatus::Available];
    assert_eq!(
        world.delete_in_status("spec", &finished).unwrap(),
        1,
        "the archived one"
    );
    assert_eq!(world.counts("spec").total(), 2);
    assert_eq!(delete(&mut world, &Deletion::All), (2, 0));
    assert_eq!(delete(&mut world, &Deletion::All), (0, 0));
}

#[test]
fn units_that_a_continuous_spec_makes_for_ever_stay_few() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "continuous": true}));
    for _ in 0..50 {
        complete_next(&mut world, ReportKind::Finished, 1.0);
        world.archive(&count(3));
        assert!(units_of(&mut world, "spec").len() <= 3);
    }
    assert_eq!(world.counts("spec").total(), 50);
}

/// Adds so many units, hands them out and has them finished.
fn finish_many(world: &mut World, units: usize, data: &str) {
    let items: Vec<_> = (0..units)
        .map(|n| json!([format!("{n:05}"), {"data": data}]))
        .collect();
    world.add("spec", &items);
    for given in world.get_work("w", units, Duration::from_secs(60)) {
        world
            .run(|op| {
                let done = report_of(ReportKind::Finished);
                op.report(&nobody(), &given.work_spec, &given.name, &done)
            })
            .unwrap();
    }
}

#[test]
fn many_units_go_in_steps_of_few_rows() {
    let mut world = world_with_units(&[]);
    finish_many(&mut world, 1_200, "");
    let steps = world.archive(&count(100));
    // Each takes its attempt along.
    let units_max = ROWS_A_STEP as u64 / 2;
    assert!(steps.iter().all(|units| *units <= units_max), "{steps:?}");
    assert_eq!(total(&steps), 1_100);
    let left = units_of(&mut world, "spec");
    assert_eq!((left.len(), left[0].as_str()), (100, "01100"));
}

#[test]
fn large_units_go_in_steps_of_few_bytes() {
    let mut world = world_with_units(&[]);
    let bytes = limits::SWEEP_BYTES / 3;
    finish_many(&mut world, 10, &"x".repeat(bytes));
    let steps = world.archive(&count(0));
    assert!(steps.iter().all(|units| *units <= 3), "{steps:?}");
    assert_eq!(total(&steps), 10);
}

#[test]
fn a_unit_with_many_attempts_counts_as_many() {
    let mut world = world_with_units(&["a", "b"]);
    let give_back = Report {
        worker: Some(name("w")),
        ..report_of(ReportKind::Available)
    };
    for unit in ["a", "b"] {
        for _ in 0..ROWS_A_STEP {
            let mut handed_out = nobody();
            assert_eq!(world.get_one("w", &mut handed_out).as_deref(), Some(unit));
            world.report(&handed_out, "spec", unit, &give_back).unwrap();
        }
        complete_next(&mut world, ReportKind::Finished, 1.0);
    }
    assert_eq!(world.archive(&count(0))[..2], [1, 1]);
}

#[test]
fn units_far_behind_others_attempts_are_found_in_steps_and_those_are_looked_at_once() {
    let mut world = world_with_units(&[]);
    // Attempts of units that are available again lie before the one that failed.
    let units: Vec<_> = (0..limits::SWEEP_LOOKED_AT + 10)
        .map(|n| json!([format!("{n:05}"), {}]))
        .collect();
    world.add("spec", &units);
    world.get_work("w", units.len(), Duration::from_secs(1));
    world.pass(2.0);
    world.add("spec", &[json!(["failed", {}, {}, 1])]);
    complete_next(&mut world, ReportKind::Failed, 1.0);
    assert_eq!(world.archive(&count(0)), [0, 1]);
    world.add("spec", &[json!(["failed", {}, {}, 1])]);
    complete_next(&mut world, ReportKind::Failed, 1.0);
    assert_eq!(world.archive(&count(0)), [1]);
}

#[test]
fn archiving_ends_though_units_are_completed_as_fast() {
    let mut world = world_with_units(&[]);
    finish_many(&mut world, 600, "");
    let limits = count(0);
    let mut pass = world.run(|op| Ok(op.begin_archive_pass(None))).unwrap();
    for round in 0..20 {
        let units: Vec<_> = (0..300)
            .map(|n| json!([format!("{round}-{n}"), {}]))
            .collect();
        world.add("spec", &units);
        for _ in 0..300 {
            complete_next(&mut world, ReportKind::Finished, 0.001);
        }
        pass = world
            .run(|op| op.archive_some(&limits, &pass, ROWS_A_STEP))
            .unwrap();
    }
    assert!(pass.is_over());
    assert_eq!(pass.archived(), 600, "those that were there when it began");
}

#[test]
fn what_a_lost_batch_archived_is_there_and_is_archived_later() {
    let mut world = world_with_units(&["a", "b"]);
    complete_next(&mut world, ReportKind::Finished, 1.0);
    let pass = world.run(|op| Ok(op.begin_archive_pass(None))).unwrap();
    let undone = world.operation(|op| {
        let pass = op.archive_some(&count(0), &pass, ROWS_A_STEP)?;
        assert_eq!(pass.archived(), 1);
        Err::<(), _>(Error::Refused("for a test".to_owned()))
    });
    assert!(undone.is_err());
    world.store.commit().unwrap();
    assert_eq!(units_of(&mut world, "spec"), ["a", "b"]);
    assert_eq!(world.counts("spec").archived_finished, 0);
    assert_eq!(total(&world.archive(&count(0))), 1);
}

#[test]
fn what_was_passed_is_known_after_a_restart_and_so_is_what_was_archived() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, START);
    world.set_spec(&json!({"name": "spec"}));
    finish_many(&mut world, 20, "");
    assert_eq!(total(&world.archive(&count(5))), 15);
    // The look for this one finds that all before it are gone.
    assert_eq!(total(&world.archive(&count(4))), 1);
    let counts = world.counts("spec");
    let now = world.now;
    world.store.close().unwrap();
    let passed: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT finished_after_id FROM work_unit_count", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(passed, 15);
    let mut world = World::open(&path, now);
    assert_eq!(world.counts("spec"), counts);
    assert_eq!(total(&world.archive(&count(0))), 4);
    // With nothing left, attempts are numbered from 1 again.
    let now = world.now;
    world.store.close().unwrap();
    let mut world = World::open(&path, now);
    world.add("spec", &[json!(["a", {}])]);
    complete_next(&mut world, ReportKind::Finished, 1.0);
    assert_eq!(total(&world.archive(&count(0))), 1);
    assert_eq!(world.counts("spec").archived_finished, 21);
}

#[test]
fn the_pages_of_archived_units_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open_unsynced(&path, START);
    world.set_spec(&json!({"name": "spec"}));
    let pages = || {
        let connection = Connection::open(&path).unwrap();
        let pages = connection.query_row("PRAGMA page_count", [], |row| row.get::<_, u64>(0));
        pages.unwrap()
    };
    let data = "x".repeat(2_000);
    finish_many(&mut world, 300, &data);
    world.archive(&count(0));
    let before = pages();
    for _ in 0..5 {
        finish_many(&mut world, 300, &data);
        world.archive(&count(0));
    }
    let after = pages();
    assert!(after < before + before / 4, "{before} pages, then {after}");
    assert_eq!(world.counts("spec").archived_finished, 1_800);
}
