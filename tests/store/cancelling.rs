//! Cancelling units, on a store with a hand-set clock.

use coordinated::coordinate::storage::{CancellationStore, Storage, WorkSpecStore};
use coordinated::coordinate::{
    Cancellation, Cancelled, Deletion, Error, LEASE_DEFAULT, Lease, Outcome, Report, ReportKind,
    StorageError,
};
use coordinated::store::check;
use serde_json::json;
use std::time::Duration;
use test_support::world::{START, World, name, nobody, report_of};

const GRACE: Duration = Duration::from_secs(30);

/// Cancels a unit of `spec`; the number that failed at once, and of those that run.
fn cancel(world: &mut World, unit: &str) -> (u64, u64) {
    let cancellation = Cancellation {
        reason: Some("why".to_owned()),
        by: None,
        at: world.now,
    };
    let names = [name(unit)];
    let cancelled = world
        .run(|op| op.cancel_work_units(&name("spec"), &names, None, &cancellation, GRACE))
        .expect("it is cancelled");
    let Cancelled { failed, running } = cancelled;
    (failed, running)
}

fn world_with(units: &[&str]) -> World {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let units: Vec<_> = units.iter().map(|unit| json!([unit, {}])).collect();
    world.add("spec", &units);
    world
}

fn renew(world: &mut World, unit: &str) -> Outcome {
    let renewal = Report {
        lease: Some(Lease::For(LEASE_DEFAULT)),
        ..report_of(ReportKind::Renew)
    };
    let outcome = world.report(&nobody(), "spec", unit, &renewal);
    outcome.expect("an outcome")
}

fn refused() -> Outcome {
    Outcome::Refused("cancelled: why".to_owned())
}

#[test]
fn the_grace_lasts_as_long_as_it_says_also_if_the_clock_is_set() {
    for step in [0, 100_000, -100_000] {
        let mut world = world_with(&["a"]);
        world.get_work("w", 1, LEASE_DEFAULT);
        assert_eq!(cancel(&mut world, "a"), (0, 1));
        world.pass(10.0);
        world.set_clock(step);
        world.pass(19.999_999);
        assert_eq!(renew(&mut world, "a"), refused(), "{step}");
        assert_eq!(world.counts("spec").pending, 1, "{step}");
        world.pass(0.000_001);
        assert_eq!(world.counts("spec").failed, 1, "{step}");
    }
}

#[test]
fn a_lease_that_would_have_ended_during_the_grace_lasts_until_its_end() {
    let mut world = world_with(&["a"]);
    world.get_work("w", 1, Duration::from_secs(5));
    cancel(&mut world, "a");
    world.pass(29.0);
    assert_eq!(world.counts("spec").pending, 1);
    world.pass(1.0);
    assert_eq!(world.counts("spec").failed, 1);
}

#[test]
fn a_cancellation_that_is_lifted_in_an_operation_that_fails_or_in_a_lost_batch_stays() {
    let mut world = world_with(&["a"]);
    world.get_work("w", 1, LEASE_DEFAULT);
    cancel(&mut world, "a");
    let retry = report_of(ReportKind::Available);
    for error in [
        Error::Refused("on purpose".to_owned()),
        StorageError::Full("on purpose".to_owned()).into(),
    ] {
        let mut error = Some(error);
        // So that what fails is not the first of its batch.
        world.operation(|_| Ok(())).expect("nothing fails");
        let undone = world.operation(|op| {
            op.report(&nobody(), &name("spec"), &name("a"), &retry)?;
            assert!(!op.store.has_cancellations());
            Err::<(), _>(error.take().expect("it runs once"))
        });
        assert!(undone.is_err());
        let _ = world.store.commit();
        assert_eq!(renew(&mut world, "a"), refused());
    }
    let outcome = world.report(&nobody(), "spec", "a", &retry);
    assert_eq!(outcome.expect("an outcome"), Outcome::Accepted);
    assert!(!world.store.has_cancellations());
}

/// Its attempts are removed in steps, and until then it is one of a work spec that was deleted.
#[test]
fn a_cancelled_unit_of_very_many_attempts_leaves_no_cancellation_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("jobs.db");
    let mut world = World::open_unsynced(&path, START);
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &[json!(["a", {}])]);
    for _ in 0..150 {
        world.get_work("w", 1, LEASE_DEFAULT);
        let give_back = report_of(ReportKind::Available);
        let outcome = world.report(&nobody(), "spec", "a", &give_back);
        assert_eq!(outcome.expect("an outcome"), Outcome::Accepted);
    }
    assert_eq!(cancel(&mut world, "a"), (1, 0));
    let which = [name("a")];
    let deleted =
        world.run(|op| op.delete_work_units(&name("spec"), &Deletion::Named(&which, None)));
    assert_eq!(deleted.expect("it is deleted"), 1);
    assert!(world.store.has_deleted() && !world.store.has_cancellations());
    let report = check::check(&path, &|_| {}).expect("a report");
    assert!(report.faults.is_empty(), "{:?}", report.faults);
}
