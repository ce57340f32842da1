//! Lists of units for people, and acting on the units that a list has shown.

use coordinated::coordinate::{
    LEASE_DEFAULT, ListedUnit, Name, PriorityChange, ReportKind, UnitAction, UnitFilter,
    UnitStatus, UnitsListed, count_units, list_units,
};
use serde_json::json;
use test_support::world::{World, cbor, name, nobody, report_of};

/// A world with one unit in each status, and `b` and `bb` failed with a message.
fn world() -> World {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &["a", "b", "bb", "c"].map(|unit| json!([unit, {}])));
    world.get_work("w", 4, LEASE_DEFAULT);
    let finished = report_of(ReportKind::Finished);
    world.report(&nobody(), "spec", "a", &finished).unwrap();
    for unit in ["b", "bb"] {
        fail(&mut world, unit, "Error: x");
    }
    world.add(
        "spec",
        &[json!(["d", {}]), json!(["e", {}, {"delay": 1_000}])],
    );
    world
}

fn fail(world: &mut World, unit: &str, message: &str) {
    let data = cbor(&json!({"traceback": message}));
    let mut failed = report_of(ReportKind::Failed);
    failed.data = Some(&data);
    world.report(&nobody(), "spec", unit, &failed).unwrap();
}

fn list(world: &mut World, filter: &UnitFilter, after: Option<&str>, limit: usize) -> UnitsListed {
    let (namespace, after) = (world.namespace, after.map(name));
    let after = after.as_ref();
    list_units(
        &mut world.store,
        namespace,
        &name("spec"),
        filter,
        after,
        limit,
    )
    .unwrap()
}

fn names(units: &[ListedUnit]) -> String {
    let names = units
        .iter()
        .map(|unit| String::from_utf8_lossy(unit.name.bytes()));
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn units_are_listed_by_status_by_the_beginning_of_their_names_and_by_message() {
    let mut world = world();
    let filter = |status, prefix: &str, message: Option<&str>| UnitFilter {
        status,
        prefix: prefix.into(),
        message: message.map(str::to_owned),
    };
    for (status, found) in [
        (None, "a b bb c d e"),
        (Some(UnitStatus::Available), "d"),
        (Some(UnitStatus::Delayed), "e"),
        (Some(UnitStatus::Pending), "c"),
        (Some(UnitStatus::Finished), "a"),
        (Some(UnitStatus::Failed), "b bb"),
    ] {
        let listed = list(&mut world, &filter(status, "", None), None, 10);
        assert_eq!(names(&listed.units), found, "{status:?}");
        assert_eq!(listed.next, None);
    }
    for (prefix, found) in [("b", "b bb"), ("bb", "bb"), ("bbb", ""), ("e", "e")] {
        let listed = list(&mut world, &filter(None, prefix, None), None, 10);
        assert_eq!(names(&listed.units), found, "{prefix}");
    }
    let failed = Some(UnitStatus::Failed);
    let listed = list(&mut world, &filter(failed, "", Some("Error: x")), None, 10);
    assert_eq!(names(&listed.units), "b bb");
    let unit = &listed.units[0];
    assert_eq!(unit.message.as_deref(), Some("Error: x"));
    let attempt = unit.attempt.as_ref().expect("an attempt");
    assert_eq!(attempt.worker, Some(name("w")));
    assert!(attempt.end.is_some());
    let listed = list(&mut world, &filter(failed, "", Some("other")), None, 10);
    assert!(listed.units.is_empty() && listed.next.is_none());
}

#[test]
fn the_parts_of_a_list_have_each_unit_once_and_the_last_one_says_so() {
    let mut world = world();
    let mut found = Vec::new();
    let mut after: Option<Name> = None;
    for _ in 0..3 {
        let text = after
            .as_ref()
            .map(|name| String::from_utf8_lossy(name.bytes()).into_owned());
        let listed = list(&mut world, &UnitFilter::default(), text.as_deref(), 2);
        found.push(names(&listed.units));
        after = listed.next;
    }
    assert_eq!(found, ["a b", "bb c", "d e"]);
    assert_eq!(after, None);
    let namespace = world.namespace;
    let all = UnitFilter::default();
    let counted = count_units(&mut world.store, namespace, &name("spec"), &all, 3).unwrap();
    assert_eq!((counted.count, counted.is_all), (6, true));
    assert_eq!(names(&counted.samples), "a b bb");
}

#[test]
fn units_that_have_changed_since_they_were_shown_are_left_alone() {
    let mut world = world();
    let as_of = world.run(|op| Ok(op.as_of_now())).unwrap();
    // One of them is attempted again and fails in the same way, one is deleted and added again, and one is new.
    let all: Vec<Name> = ["a", "b", "bb", "c", "d", "new"].map(name).into();
    let again = ["b", "d"].map(name);
    world
        .run(|op| op.clear_active_attempt(&name("spec"), &again[0]))
        .unwrap();
    world.get_work("w", 1, LEASE_DEFAULT);
    fail(&mut world, "b", "Error: x");
    let gone = [again[1].clone()];
    let deletion = coordinated::coordinate::Deletion::Named(&gone, None);
    world
        .run(|op| op.delete_work_units(&name("spec"), &deletion))
        .unwrap();
    world.add("spec", &[json!(["d", {}]), json!(["new", {}])]);
    let mut take = |status, action| {
        let taken = world.run(|op| op.take_units_as_of(&name("spec"), &all, status, as_of, action));
        taken.unwrap()
    };
    assert_eq!(take(Some(UnitStatus::Failed), UnitAction::Retry), 1);
    // It waits already.
    assert_eq!(take(Some(UnitStatus::Available), UnitAction::Retry), 0);
    let priority = UnitAction::Prioritize(PriorityChange::Set(1.0));
    assert_eq!(take(None, priority), 3, "a, bb and c");
    assert_eq!(take(Some(UnitStatus::Finished), UnitAction::Delete), 1);
    let counts = world.counts("spec");
    assert_eq!(
        (counts.failed, counts.finished, counts.available),
        (1, 0, 3)
    );
}
