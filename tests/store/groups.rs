//! Groups that are taken in turn: `fair` and `max_running_per_group`.

use coordinated::coordinate::storage::{QueueStore, WorkSpecStore};
use coordinated::coordinate::{
    Assignment, Deletion, HandedOut, LEASE_DEFAULT, Outcome, Reason, ReportKind, UnitStatus,
};
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use test_support::state;
use test_support::world::{START, World, name, report_of};

fn unit(name: &str, group: &str) -> Value {
    json!([name, {}, {"group": group}])
}

/// Units `a0`, `a1` ... of group `a`.
fn units(group: &str, count: usize) -> Vec<Value> {
    (0..count)
        .map(|number| unit(&format!("{group}{number:04}"), group))
        .collect()
}

fn name_of(given: &Assignment) -> String {
    String::from_utf8(given.name.bytes().to_vec()).unwrap()
}

fn take(world: &mut World, count: usize) -> Vec<String> {
    let given = world.get_work("w", count, LEASE_DEFAULT);
    given.iter().map(name_of).collect()
}

/// Takes units one by one.
fn take_each(world: &mut World, count: usize) -> Vec<String> {
    let given = (0..count).flat_map(|_| take(world, 1));
    given.collect()
}

fn finish(world: &mut World, unit: &str) {
    let handed_out = HandedOut::new(9);
    let report = report_of(ReportKind::Finished);
    world.report(&handed_out, "spec", unit, &report).unwrap();
}

fn codes(world: &mut World, unit: Option<&str>) -> Vec<String> {
    let unit = unit.map(name);
    let reasons = world
        .run(|op| op.explain_work(&name("spec"), unit.as_ref()))
        .unwrap();
    let code = |reason: &Reason| reason.code().to_owned();
    reasons.iter().map(code).collect()
}

/// Moves all units to where their work specs want them, in small steps.
fn requeue_all(world: &mut World) -> usize {
    let mut steps = 0;
    while let Some(spec) = world.store.next_to_requeue() {
        world.run(|op| Ok(op.store.requeue(spec, 100)?)).unwrap();
        steps += 1;
    }
    steps
}

fn groups_in(path: &Path) -> Vec<(String, u64, u64)> {
    let connection = Connection::open(path).unwrap();
    connection
        .prepare("SELECT unit_group, available, pending FROM unit_groups ORDER BY 1")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn a_group_with_few_units_does_not_wait_for_one_with_many() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "fair": true}));
    world.add("spec", &units("a", 1_000));
    world.add("spec", &units("z", 3));
    assert_eq!(
        take_each(&mut world, 8),
        [
            "a0000", "z0000", "a0001", "z0001", "a0002", "z0002", "a0003", "a0004"
        ]
    );
}

#[test]
fn one_call_for_many_units_takes_the_groups_in_turn() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "fair": true}));
    for group in ["a", "b", "c"] {
        world.add("spec", &units(group, 5));
    }
    assert_eq!(
        take(&mut world, 7),
        [
            "a0000", "b0000", "c0000", "a0001", "b0001", "c0001", "a0002"
        ]
    );
}

#[test]
fn a_group_that_has_units_running_waits_for_those_with_fewer() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "fair": true}));
    world.add("spec", &units("a", 9));
    assert_eq!(take_each(&mut world, 3).len(), 3);
    world.add("spec", &units("b", 9));
    // b catches up first.
    assert_eq!(
        take_each(&mut world, 4),
        ["b0000", "b0001", "b0002", "a0003"]
    );
    finish(&mut world, "a0000");
    finish(&mut world, "a0001");
    assert_eq!(take_each(&mut world, 1), ["a0004"]);
}

/// A group that is emptied and filled again begins to wait anew: otherwise one whose units come singly would always be the
/// next one.
#[test]
fn a_group_that_comes_back_waits_for_its_turn() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "fair": true}));
    for group in ["a", "b", "c"] {
        world.add("spec", &units(group, 9));
    }
    world.add("spec", &[unit("single", "z")]);
    let mut order = Vec::new();
    for _ in 0..12 {
        let taken = take_each(&mut world, 1).remove(0);
        finish(&mut world, &taken);
        if taken == "single" {
            world.add("spec", &[unit("single", "z")]);
        }
        order.push(taken.chars().next().unwrap());
    }
    assert_eq!(order.into_iter().collect::<String>(), "abcsabcsabcs");
}

#[test]
fn within_a_group_priority_and_the_order_of_the_work_spec_decide() {
    for (order, expected) in [
        ("name", ["b urgent", "a", "b", "c"]),
        ("added", ["b urgent", "c", "a", "b"]),
    ] {
        let mut world = World::in_memory();
        world.set_spec(&json!({"name": "spec", "fair": true, "order": order}));
        world.add("spec", &["c", "a", "b"].map(|name| unit(name, "g")));
        world.add(
            "spec",
            &[json!(["b urgent", {}, {"group": "g", "priority": 5}])],
        );
        assert_eq!(take_each(&mut world, 9), expected, "by {order}");
    }
}

#[test]
fn units_without_a_group_are_one_group() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "max_running_per_group": 1}));
    world.add(
        "spec",
        &[json!(["a", {}]), json!(["b", {}]), unit("c", "g")],
    );
    assert_eq!(take_each(&mut world, 9), ["a", "c"]);
    finish(&mut world, "a");
    assert_eq!(take_each(&mut world, 9), ["b"]);
}

#[test]
fn no_group_has_more_units_running_than_allowed_and_other_work_goes_on() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "max_running_per_group": 2, "priority": 9}));
    world.set_spec(&json!({"name": "other"}));
    world.add("spec", &units("a", 5));
    world.add("spec", &units("b", 1));
    world.add("other", &[json!(["else", {}])]);
    assert_eq!(take(&mut world, 9), ["a0000", "b0000", "a0001"]);
    // The work spec with the higher priority has units, and can't give them.
    assert_eq!(codes(&mut world, None), ["groups_full"]);
    assert_eq!(codes(&mut world, Some("a0002")), ["group_full"]);
    assert_eq!(take(&mut world, 9), ["else"]);
    assert_eq!(take(&mut world, 9), [""; 0]);
    world.add("spec", &units("c", 1));
    assert_eq!(take(&mut world, 9), ["c0000"]);
    finish(&mut world, "a0001");
    assert_eq!(take(&mut world, 9), ["a0002"]);
    // Lost leases make room, too.
    world.pass(LEASE_DEFAULT.as_secs_f64() + 1.0);
    let again = take(&mut world, 9);
    assert_eq!(again, ["b0000", "c0000", "a0000", "a0002"]);
    world.set_spec(&json!({"name": "spec", "max_running_per_group": 3, "priority": 9}));
    assert_eq!(take(&mut world, 9), ["a0003"]);
}

#[test]
fn a_unit_that_its_worker_takes_up_again_counts_in_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, START);
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &units("a", 2));
    let mut handed_out = HandedOut::new(9);
    let unit = world.get_one("w", &mut handed_out).unwrap();
    // Another client gives it back to wait, so that it is not among those that are moved.
    let mut given_back = report_of(ReportKind::Available);
    given_back.delay = Some(Duration::from_secs(60));
    let outcome = world.report(&HandedOut::new(9), "spec", &unit, &given_back);
    assert_eq!(outcome.unwrap(), Outcome::Accepted);
    world.set_spec(&json!({"name": "spec", "max_running_per_group": 1}));
    requeue_all(&mut world);
    let renewal = report_of(ReportKind::Renew);
    let outcome = world.report(&handed_out, "spec", &unit, &renewal);
    assert_eq!(outcome.unwrap(), Outcome::Accepted);
    assert_eq!(groups_in(&path), [("a".to_owned(), 1, 1)]);
    assert!(take(&mut world, 1).is_empty());
}

#[test]
fn why_tells_that_other_groups_come_first() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "fair": true}));
    for group in ["a", "b", "c", "d"] {
        world.add("spec", &units(group, 3));
    }
    take_each(&mut world, 1);
    let reasons = world
        .run(|op| op.explain_work(&name("spec"), Some(&name("a0002"))))
        .unwrap();
    let texts: Vec<String> = reasons
        .iter()
        .map(|reason| reason.text(world.now))
        .collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].starts_with("1 units of its group"), "{texts:?}");
    assert!(texts[1].starts_with("3 other groups"), "{texts:?}");
    assert_eq!(codes(&mut world, Some("b0000")), ["next"]);
}

#[test]
fn counts_of_groups_are_kept_whatever_happens_to_units_and_go_with_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, START);
    world.set_spec(&json!({"name": "spec", "fair": true}));
    world.add("spec", &units("a", 3));
    world.add("spec", &units("b", 2));
    let row = |group: &str, available, pending| (group.to_owned(), available, pending);
    assert_eq!(take(&mut world, 2), ["a0000", "b0000"]);
    assert_eq!(groups_in(&path), [row("a", 2, 1), row("b", 1, 1)]);
    // A unit that is added again may come into another group.
    world.add("spec", &[unit("a0000", "c"), json!(["b0001", {}])]);
    assert_eq!(
        groups_in(&path),
        [
            row("", 1, 0),
            row("a", 2, 0),
            row("b", 0, 1),
            row("c", 1, 0)
        ]
    );
    finish(&mut world, "b0000");
    world
        .delete_in_status("spec", &[UnitStatus::Finished])
        .unwrap();
    let names = ["a0001", "a0002"].map(name);
    world
        .run(|op| op.delete_work_units(&name("spec"), &Deletion::Named(&names, None)))
        .unwrap();
    assert_eq!(groups_in(&path), [row("", 1, 0), row("c", 1, 0)]);
    state::look_at(&path);
    world
        .run(|op| op.delete_work_units(&name("spec"), &Deletion::All))
        .unwrap();
    assert_eq!(groups_in(&path), []);
    while world.store.has_deleted() {
        world.run(|op| Ok(op.store.purge(1)?)).unwrap();
    }
    let left = "SELECT count(*) FROM unit_group";
    let left: u64 = Connection::open(&path)
        .unwrap()
        .query_row(left, [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0, "rows of a deleted work spec");
}

#[test]
fn an_operation_that_fails_leaves_turns_and_counts_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, START);
    world.set_spec(&json!({"name": "spec", "max_running_per_group": 1}));
    world.add("spec", &units("a", 2));
    let before = groups_in(&path);
    let failed = world.run(|op| {
        let request = coordinated::coordinate::WorkRequest {
            max_units: 5,
            lease: Duration::from_secs(9),
            work_specs: &[],
            runtimes: &[String::new()],
        };
        let given = op.get_work(&name("w"), &request)?;
        assert_eq!(given.map(|given| given.len()), Some(1));
        Err::<(), _>(coordinated::coordinate::Error::Refused(
            "on purpose".to_owned(),
        ))
    });
    assert!(failed.is_err());
    assert_eq!(groups_in(&path), before);
    // It is not taken for full.
    assert_eq!(take_each(&mut world, 2), ["a0000"]);
}

/// A work spec with 2,500 units of a, which are found by name, and 300 of b with a priority, which are queued.
fn with_units_out_of_turn(path: &Path) -> World {
    let mut world = World::open_unsynced(path, START);
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &units("a", 2_500));
    let urgent: Vec<Value> = (0..300)
        .map(|number| json!([format!("b{number:04}"), {}, {"group": "b", "priority": 1}]))
        .collect();
    world.add("spec", &urgent);
    world
}

#[test]
fn a_work_spec_with_units_begins_and_ends_to_take_groups_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = with_units_out_of_turn(&path);
    world.set_spec(&json!({"name": "spec", "fair": true}));
    assert!(requeue_all(&mut world) >= 28, "in steps");
    assert_eq!(groups_in(&path).len(), 2);
    let taken = take_each(&mut world, 6);
    assert_eq!(
        taken,
        ["a0000", "b0000", "a0001", "b0001", "a0002", "b0002"]
    );
    state::look_at(&path);
    world.set_spec(&json!({"name": "spec"}));
    assert!(requeue_all(&mut world) >= 28, "in steps");
    // What runs still counts in its group until it ends.
    assert_eq!(
        groups_in(&path),
        [("a".to_owned(), 0, 3), ("b".to_owned(), 0, 3)]
    );
    finish(&mut world, "a0000");
    assert_eq!(take_each(&mut world, 2), ["b0003", "b0004"]);
    state::look_at(&path);
}

/// The daemon moves units between two requests. Here it never gets to that.
#[test]
fn every_unit_is_handed_out_once_while_units_are_moved() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = with_units_out_of_turn(&path);
    let mut taken = BTreeSet::new();
    let mut specs = [
        json!({"name": "spec", "fair": true}),
        json!({"name": "spec", "order": "added"}),
        json!({"name": "spec", "max_running_per_group": 100_000}),
        json!({"name": "spec"}),
    ]
    .into_iter()
    .cycle();
    loop {
        world.set_spec(&specs.next().unwrap());
        let given = take(&mut world, 70);
        if given.is_empty() {
            break;
        }
        for unit in given {
            assert!(taken.insert(unit.clone()), "{unit} was handed out twice");
        }
        state::look_at(&path);
    }
    assert_eq!(taken.len(), 2_800);
}

#[test]
fn a_limit_that_comes_later_counts_what_is_handed_out_from_then_on() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &units("a", 5));
    assert_eq!(take(&mut world, 2).len(), 2);
    world.set_spec(&json!({"name": "spec", "max_running_per_group": 1}));
    assert_eq!(take(&mut world, 9), ["a0002"]);
    assert_eq!(take(&mut world, 9), [""; 0]);
    finish(&mut world, "a0000");
    assert_eq!(take(&mut world, 9), [""; 0]);
    finish(&mut world, "a0002");
    assert_eq!(take(&mut world, 9), ["a0003"]);
}

#[test]
fn counts_of_groups_that_another_program_has_spoiled_are_counted_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, START);
    world.set_spec(&json!({"name": "spec", "fair": true}));
    world.add("spec", &units("a", 2));
    let by_hand = Connection::open(&path).unwrap();
    by_hand.execute("DELETE FROM unit_group", []).unwrap();
    assert_eq!(take_each(&mut world, 1), [""; 0]);
    assert_eq!(take_each(&mut world, 2), ["a0000", "a0001"]);
    state::look_at(&path);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// And so it goes on: as long as all groups have units, no group is a turn ahead of another.
    #[test]
    fn the_first_units_are_of_as_many_groups(
        sizes in prop::collection::btree_map("[a-f]{1,3}", 1..30_usize, 1..20),
        at_once in 1..9_usize,
    ) {
        let mut world = World::in_memory();
        world.set_spec(&json!({"name": "spec", "fair": true}));
        let all: Vec<Value> = sizes.iter().flat_map(|(group, size)| {
            (0..*size).map(move |number| unit(&format!("{group} {number:02}"), group))
        }).collect();
        world.add("spec", &all);
        let smallest = sizes.values().min().unwrap();
        let mut order = Vec::new();
        loop {
            let given = take(&mut world, at_once);
            if given.is_empty() {
                break;
            }
            order.extend(given);
        }
        prop_assert_eq!(order.len(), all.len());
        for round in order.chunks(sizes.len()).take(*smallest) {
            let groups: BTreeMap<&str, usize> =
                round.iter().filter_map(|unit| Some((unit.split_once(' ')?.0, 1))).collect();
            prop_assert_eq!(groups.len(), sizes.len());
        }
    }
}
