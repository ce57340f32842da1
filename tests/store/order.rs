//! `order: added`: first in, first out.

use coordinated::coordinate::storage::QueueStore;
use coordinated::coordinate::{
    HandedOut, LEASE_DEFAULT, PriorityChange, Reason, ReportKind, UnitsAhead,
};
use serde_json::{Value, json};
use std::time::Duration;
use test_support::state;
use test_support::world::{START, World, name, nobody, report_of};

fn added(world: &mut World, units: &[&str]) {
    let units: Vec<Value> = units.iter().map(|unit| json!([unit, {}])).collect();
    world.add("spec", &units);
}

/// All available units in the order in which they are handed out.
fn all(world: &mut World) -> Vec<String> {
    taken(world, usize::MAX)
}

fn taken(world: &mut World, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    while names.len() < count {
        let given = world.get_work("w", count - names.len(), LEASE_DEFAULT);
        if given.is_empty() {
            break;
        }
        let given = given.iter().map(|given| given.name.bytes().to_vec());
        names.extend(given.map(|name| String::from_utf8(name).unwrap()));
    }
    names
}

#[test]
fn units_are_handed_out_in_the_order_in_which_they_were_added_within_a_priority() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "order": "added"}));
    added(&mut world, &["m", "z", "a"]);
    world.add("spec", &[json!(["urgent", {}, {"priority": 1}])]);
    added(&mut world, &["b"]);
    world.add("spec", &[json!(["more urgent", {}, {"priority": 1}])]);
    assert_eq!(
        all(&mut world),
        ["urgent", "more urgent", "m", "z", "a", "b"]
    );
}

#[test]
fn a_unit_that_comes_back_keeps_its_place_and_one_that_is_added_again_goes_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, START);
    world.set_spec(&json!({"name": "spec", "order": "added", "retries": 2}));
    added(&mut world, &["d", "c", "b", "a"]);
    world.add("spec", &[json!(["late", {}, {"delay": 5}])]);
    added(&mut world, &["later"]);
    // One is given back, one fails and is tried again, one loses its lease, and one is added again.
    let mut handed_out = HandedOut::new(9);
    for kind in [ReportKind::Available, ReportKind::Failed] {
        let unit = world.get_one("w", &mut handed_out).unwrap();
        world
            .report(&handed_out, "spec", &unit, &report_of(kind))
            .unwrap();
        world.pass(1.0);
    }
    world.get_work("w", 3, Duration::from_secs(2));
    added(&mut world, &["c"]);
    world.pass(9.0);
    let now = world.now;
    world.store.close().unwrap();
    let mut world = World::open(&path, now);
    world.pass(100.0);
    // A new unit after the restart comes last, too.
    added(&mut world, &["0"]);
    assert_eq!(all(&mut world), ["d", "b", "a", "late", "later", "c", "0"]);
    state::look_at(&path);
}

#[test]
fn a_priority_that_changes_keeps_the_order_of_adding() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "order": "added"}));
    added(&mut world, &["c", "b", "a", "0"]);
    let names = ["0", "b"].map(name);
    world
        .run(|op| op.prioritize_work_units(&name("spec"), &names, PriorityChange::Set(2.0)))
        .unwrap();
    assert_eq!(all(&mut world), ["b", "0", "c", "a"]);
}

#[test]
fn units_that_are_there_when_the_order_becomes_that_of_adding_come_first_by_name() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    added(&mut world, &["n", "m", "q", "p"]);
    assert_eq!(taken(&mut world, 1), ["m"]);
    // "a" is behind what was passed, and so in another place than the others.
    added(&mut world, &["a"]);
    world.set_spec(&json!({"name": "spec", "order": "added"}));
    added(&mut world, &["z", "b"]);
    // Before the others are moved, in the middle of it, and afterwards.
    assert_eq!(taken(&mut world, 2), ["a", "n"]);
    let spec = world.store.next_to_requeue().expect("units to move");
    world.run(|op| Ok(op.store.requeue(spec, 1)?)).unwrap();
    assert_eq!(taken(&mut world, 1), ["p"]);
    while let Some(spec) = world.store.next_to_requeue() {
        world.run(|op| Ok(op.store.requeue(spec, 1)?)).unwrap();
    }
    assert_eq!(all(&mut world), ["q", "z", "b"]);
}

#[test]
fn units_with_a_place_come_behind_those_by_name_when_the_order_becomes_that_of_names() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "order": "added"}));
    added(&mut world, &["d", "c"]);
    world.set_spec(&json!({"name": "spec"}));
    added(&mut world, &["z", "y"]);
    assert_eq!(all(&mut world), ["y", "z", "d", "c"]);
}

#[test]
fn why_counts_the_units_that_were_added_before() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "order": "added"}));
    added(&mut world, &["c", "b", "a"]);
    world.add("spec", &[json!(["urgent", {}, {"priority": 1}])]);
    // Somebody asks, so that no reason is that nobody does.
    assert_eq!(taken(&mut world, 1), ["urgent"]);
    world.add("spec", &[json!(["urgent", {}, {"priority": 1}])]);
    let reasons = world
        .run(|op| op.explain_work(&name("spec"), Some(&name("a"))))
        .unwrap();
    let [
        Reason::UnitsAhead(
            UnitsAhead {
                count: 3,
                is_all: true,
            },
            _,
        ),
    ] = reasons[..]
    else {
        panic!("{reasons:?}");
    };
    let text = reasons[0].text(world.now);
    assert!(text.contains("in which they were added"), "{text}");
    let first = world.get_one("w", &mut nobody());
    assert_eq!(first.as_deref(), Some("urgent"));
}
