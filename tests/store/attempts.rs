//! Attempts that are changed by their ids, and workers that say what they do, on a store with a hand-set clock.

use coordinated::coordinate::{
    AttemptChange, AttemptDetails, AttemptId, AttemptOutcome, AttemptStatus, LEASE_DEFAULT,
    UnitDetails, UnitStatus, WorkerChange,
};
use serde_json::{Value, json};
use std::time::Duration;
use test_support::world::{World, cbor, name, nobody};

const MINUTE: Duration = Duration::from_secs(60);

fn world_with_unit(definition: &Value) -> World {
    let mut world = World::in_memory();
    world.set_spec(definition);
    world.add("s", &[json!(["u", {"from": "unit"}])]);
    world
}

fn change(
    world: &mut World,
    id: AttemptId,
    change: AttemptChange,
    data: Option<&[u8]>,
) -> AttemptOutcome {
    let outcome =
        world.run(|operation| operation.change_attempt(&name("s"), &name("u"), id, change, data));
    outcome.expect("there is such an attempt")
}

fn attempt(world: &mut World, id: AttemptId) -> AttemptDetails {
    let details = world.run(|operation| operation.attempt_details(&name("s"), &name("u"), id));
    details.expect("there is such an attempt")
}

fn unit(world: &mut World) -> UnitDetails {
    let details = world.run(|operation| operation.unit_details(&name("s"), &name("u")));
    details.expect("there is such a unit")
}

fn make(world: &mut World, worker: &str) -> AttemptId {
    let made = world
        .run(|operation| operation.make_attempt(&name(worker), &name("s"), &name("u"), MINUTE));
    made.expect("it is made").attempt.id
}

#[test]
fn a_renewed_lease_lasts_from_the_renewal_and_one_that_ran_out_is_lost() {
    let mut world = world_with_unit(&json!({"name": "s"}));
    let id = world.get_work("w", 1, MINUTE)[0].attempt;
    world.pass(50.0);
    let renewed = change(&mut world, id, AttemptChange::Renew(MINUTE), None);
    assert_eq!(renewed, AttemptOutcome::Done);
    world.pass(59.0);
    assert_eq!(unit(&mut world).unit.status, UnitStatus::Pending);
    world.pass(1.0);
    assert_eq!(unit(&mut world).unit.status, UnitStatus::Available);
    let data = cbor(&json!({"late": true}));
    let late = change(&mut world, id, AttemptChange::Renew(MINUTE), Some(&data));
    assert_eq!(late, AttemptOutcome::LostLease);
    let late = attempt(&mut world, id);
    assert_eq!(late.attempt.status, AttemptStatus::Expired);
    assert_eq!(late.data, data);
    for to in [
        AttemptChange::Finish,
        AttemptChange::Fail,
        AttemptChange::Retry(MINUTE),
    ] {
        assert_eq!(change(&mut world, id, to, None), AttemptOutcome::NotPending);
    }
    assert_eq!(
        change(&mut world, id, AttemptChange::Expire, None),
        AttemptOutcome::Done
    );
    let unit = unit(&mut world);
    assert_eq!(unit.unit.status, UnitStatus::Available);
    assert_eq!(unit.data, cbor(&json!({"from": "unit"})));
}

#[test]
fn a_retried_unit_waits_for_its_delay_and_one_whose_spec_retries_failures_is_tried_again() {
    let mut world = world_with_unit(&json!({"name": "s", "retries": 1, "retry_delay": 30}));
    let id = make(&mut world, "w");
    assert_eq!(
        change(&mut world, id, AttemptChange::Retry(2 * MINUTE), None),
        AttemptOutcome::Done
    );
    world.pass(119.0);
    assert_eq!(unit(&mut world).unit.status, UnitStatus::Delayed);
    world.pass(1.0);
    assert_eq!(unit(&mut world).unit.status, UnitStatus::Available);
    for status in [UnitStatus::Delayed, UnitStatus::Failed] {
        let id = make(&mut world, "w");
        change(&mut world, id, AttemptChange::Fail, None);
        assert_eq!(unit(&mut world).unit.status, status);
    }
}

#[test]
fn a_unit_can_be_given_to_a_worker_in_any_status_and_is_then_lost_by_another_one() {
    let mut world = world_with_unit(&json!({"name": "s"}));
    let first = make(&mut world, "first");
    let second = make(&mut world, "second");
    assert_eq!(
        attempt(&mut world, first).attempt.status,
        AttemptStatus::Expired
    );
    let active = unit(&mut world).active.expect("an active attempt");
    assert_eq!((active.id, active.number), (second, 2));
    // The first worker does not know that: its report is kept, once.
    let done = cbor(&json!({"by": "first"}));
    let outcome = change(&mut world, first, AttemptChange::Finish, Some(&done));
    assert_eq!(outcome, AttemptOutcome::Done);
    assert_eq!(attempt(&mut world, first).data, done);
    assert_eq!(unit(&mut world).unit.status, UnitStatus::Pending);
    let again = change(&mut world, first, AttemptChange::Finish, None);
    assert_eq!(again, AttemptOutcome::NotPending);
    change(&mut world, second, AttemptChange::Finish, None);
    assert_eq!(unit(&mut world).unit.status, UnitStatus::Finished);
    make(&mut world, "third");
    assert_eq!(unit(&mut world).unit.status, UnitStatus::Pending);
    assert_eq!(world.counts("s").pending, 1);
}

#[test]
fn a_failed_attempt_may_still_be_finished_also_when_its_unit_was_given_to_another_worker() {
    let mut world = world_with_unit(&json!({"name": "s"}));
    let first = make(&mut world, "first");
    change(&mut world, first, AttemptChange::Fail, None);
    let second = make(&mut world, "second");
    let outcome = change(&mut world, first, AttemptChange::Finish, None);
    assert_eq!(outcome, AttemptOutcome::Done);
    assert_eq!(
        attempt(&mut world, first).attempt.status,
        AttemptStatus::Finished
    );
    assert_eq!(
        unit(&mut world).active.map(|attempt| attempt.id),
        Some(second)
    );
    change(&mut world, second, AttemptChange::Fail, None);
    change(&mut world, second, AttemptChange::Finish, None);
    let counts = world.counts("s");
    assert_eq!((counts.finished, counts.failed), (1, 0));
}

#[test]
fn a_completed_unit_whose_attempt_is_cleared_may_have_all_its_retries_again() {
    let mut world = world_with_unit(&json!({"name": "s", "max_retries": 1}));
    let mut handed_out = nobody();
    for _ in 0..3 {
        assert_eq!(world.get_one("w", &mut handed_out).as_deref(), Some("u"));
        let id = unit(&mut world).active.expect("an attempt").id;
        change(&mut world, id, AttemptChange::Finish, None);
        let clear = |world: &mut World| {
            world.run(|operation| operation.clear_active_attempt(&name("s"), &name("u")))
        };
        clear(&mut world).expect("it is cleared");
        clear(&mut world).expect("that can be repeated");
        assert_eq!(unit(&mut world).unit.status, UnitStatus::Available);
    }
}

#[test]
fn an_inactive_worker_is_known_until_it_expires_and_is_in_no_list() {
    let mut world = World::in_memory();
    let say = |world: &mut World, change: &WorkerChange<'_>| {
        let said = world.run(|operation| operation.change_worker(&name("w"), change));
        said.expect("it is known");
    };
    let data = cbor(&json!({"host": "h"}));
    let (now, day) = (world.now, Duration::from_secs(86_400));
    let update = WorkerChange::Update {
        mode: Some(name("RUN")),
        environment: Some(&data),
        heartbeat: Some(now.plus(day)),
        expiration: Some(now.plus(10 * day)),
    };
    say(&mut world, &update);
    say(&mut world, &WorkerChange::Parent(Some(name("p"))));
    let known = |world: &mut World| {
        let known = world.run(|operation| operation.known_worker(&name("w")));
        known.expect("it is read")
    };
    let (worker, environment) = known(&mut world).expect("it is known");
    assert_eq!(environment.as_ref(), Some(&data));
    // It can't have spoken in the future, nor live longer than a day.
    assert_eq!((worker.heartbeat, worker.expiration), (now, now.plus(day)));
    let children = |world: &mut World| {
        let children = world.run(|operation| operation.children(&name("p")));
        children.expect("they are read").len()
    };
    assert_eq!(children(&mut world), 1);
    say(&mut world, &WorkerChange::Deactivate);
    assert_eq!(children(&mut world), 0);
    let alive = world.run(|operation| {
        let alive = operation.worker(&name("w"))?.is_some();
        Ok((
            alive,
            operation.workers()?.len(),
            operation.worker_stats()?.workers,
        ))
    });
    // The parent was made.
    assert_eq!(alive.expect("it is read"), (false, 1, 1));
    let (worker, environment) = known(&mut world).expect("it is known");
    assert!(!worker.is_active && environment.as_ref() == Some(&data));
    world.pass(86_401.0);
    assert!(known(&mut world).is_none());
}

#[test]
fn a_heartbeat_makes_an_inactive_worker_active() {
    let mut world = World::in_memory();
    let said = world.run(|operation| {
        operation.change_worker(&name("w"), &WorkerChange::Deactivate)?;
        operation.heartbeat(coordinated::coordinate::Heartbeat {
            worker: &name("w"),
            mode: None,
            lifetime: LEASE_DEFAULT,
            environment: None,
            parent: None,
        })?;
        Ok(operation.worker(&name("w"))?.is_some())
    });
    assert!(said.expect("it is said"));
}
