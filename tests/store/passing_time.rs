//! What happens when time passes, on a store with a hand-set clock.

use coordinated::coordinate::{
    Control, Counts, Deletion, Error, HandedOut, Heartbeat, LEASE_DEFAULT, LockPath, Operation,
    Outcome, Pause, PriorityChange, ReportKind, UnitReport, UnitStatus, WorkRequest,
};
use coordinated::store::SqliteStore;
use coordinated_client::cbor::Item;
use serde_json::json;
use std::time::Duration;
use test_support::world::{self, World, cbor, name, nobody, report_of};

fn world_with_units(units: &[&str]) -> World {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let units: Vec<_> = units.iter().map(|unit| json!([unit, {}])).collect();
    world.add("spec", &units);
    world
}

#[test]
fn an_expired_lease_makes_the_unit_available_again_at_its_very_microsecond() {
    let mut world = world_with_units(&["a"]);
    world.get_work("w", 1, Duration::from_millis(1500));
    world.pass(1.499_999);
    assert_eq!(
        world.counts("spec"),
        Counts {
            pending: 1,
            ..Counts::default()
        }
    );
    world.pass(0.000_001);
    assert_eq!(
        world.counts("spec"),
        Counts {
            available: 1,
            ..Counts::default()
        }
    );
    assert_eq!(world.get_work("v", 1, Duration::from_secs(9)).len(), 1);
}

#[test]
fn very_many_leases_that_end_at_once_end_in_steps() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let units: Vec<_> = (0..1_100).map(|n| json!([format!("{n:05}"), {}])).collect();
    world.add("spec", &units);
    assert_eq!(
        world.get_work("w", 10_000, Duration::from_secs(9)).len(),
        1_100
    );
    world.pass(9.0);
    assert_eq!(world.counts("spec").pending, 100);
    assert_eq!(world.counts("spec").pending, 0);
}

#[test]
fn a_renewed_lease_runs_from_the_renewal() {
    let mut world = world_with_units(&["a"]);
    world.get_work("w", 1, Duration::from_secs(10));
    world.pass(9.0);
    let renewal = coordinated::coordinate::Report {
        lease: Some(coordinated::coordinate::Lease::For(Duration::from_secs(10))),
        ..report_of(ReportKind::Renew)
    };
    assert_eq!(
        world.report(&nobody(), "spec", "a", &renewal).unwrap(),
        Outcome::Accepted
    );
    world.pass(9.5);
    assert_eq!(world.counts("spec").pending, 1);
    world.pass(0.5);
    assert_eq!(world.counts("spec").available, 1);
}

#[test]
fn a_delayed_unit_is_not_handed_out_before_its_time_and_then_in_its_place() {
    let mut world = world_with_units(&["b"]);
    world.add("spec", &[json!(["a", {}, {"delay": 60, "priority": 5}])]);
    assert_eq!(
        world.counts("spec"),
        Counts {
            available: 1,
            delayed: 1,
            ..Counts::default()
        }
    );
    world.pass(59.0);
    assert_eq!(world.get_one("w", &mut nobody()).as_deref(), Some("b"));
    assert_eq!(world.get_one("w", &mut nobody()), None);
    world.pass(1.0);
    assert_eq!(world.get_one("w", &mut nobody()).as_deref(), Some("a"));
}

#[test]
fn a_delay_ends_after_a_hundred_years_at_the_latest() {
    const HUNDRED_YEARS: f64 = 100.0 * 365.25 * 86_400.0;
    for longer in [HUNDRED_YEARS + 1.0, 1e300] {
        let mut world = world_with_units(&[]);
        world.add("spec", &[json!(["a", {}, {"delay": longer}])]);
        world.pass(HUNDRED_YEARS - 1.0);
        assert_eq!(world.counts("spec").delayed, 1, "{longer}");
        world.pass(1.0);
        assert_eq!(world.counts("spec").available, 1, "{longer}");
    }
}

#[test]
fn a_unit_given_back_with_a_delay_waits_for_so_long() {
    let mut world = world_with_units(&["a"]);
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    let give_back = coordinated::coordinate::Report {
        delay: Some(Duration::from_secs(30)),
        ..report_of(ReportKind::Available)
    };
    world.report(&handed_out, "spec", "a", &give_back).unwrap();
    assert_eq!(world.get_one("w", &mut handed_out), None);
    world.pass(30.0);
    assert_eq!(world.get_one("w", &mut handed_out).as_deref(), Some("a"));
}

#[test]
fn a_continuous_spec_makes_a_unit_when_it_has_none_and_its_interval_has_passed() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "continuous": true, "interval": 10.5}));
    let first = world.get_work("w", 5, Duration::from_secs(100));
    assert_eq!(first.len(), 1, "exactly one, whatever was asked for");
    let mut key = first[0].name.bytes().split(|byte| *byte == b'.');
    assert!(key.all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit)));

    world.pass(20.0);
    assert!(
        world.get_work("w", 1, Duration::from_secs(100)).is_empty(),
        "one is pending"
    );
    let unit = String::from_utf8_lossy(first[0].name.bytes()).into_owned();
    world
        .report(&nobody(), "spec", &unit, &report_of(ReportKind::Finished))
        .unwrap();
    assert_eq!(world.get_work("w", 1, Duration::from_secs(1)).len(), 1);
    // Its lease runs out, and it is handed out again; the interval counts from when it was made.
    world.pass(10.0);
    let again = world.get_work("w", 1, Duration::from_secs(100));
    let unit = String::from_utf8_lossy(again[0].name.bytes()).into_owned();
    world
        .report(&nobody(), "spec", &unit, &report_of(ReportKind::Finished))
        .unwrap();
    assert!(world.get_work("w", 1, Duration::from_secs(100)).is_empty());
    world.pass(0.5);
    assert_eq!(world.get_work("w", 1, Duration::from_secs(100)).len(), 1);
}

#[test]
fn continuous_units_of_the_same_moment_do_not_overwrite_each_other() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "continuous": true}));
    for finished in 1..=3 {
        let unit = world
            .get_one("w", &mut nobody())
            .expect("a continuous unit");
        world
            .report(&nobody(), "spec", &unit, &report_of(ReportKind::Finished))
            .unwrap();
        assert_eq!(
            world.counts("spec"),
            Counts {
                finished,
                ..Counts::default()
            }
        );
    }
}

#[test]
fn setting_a_spec_again_keeps_the_time_of_its_next_continuous_unit() {
    let mut world = World::in_memory();
    let definition = json!({"name": "spec", "continuous": true, "interval": 60});
    world.set_spec(&definition);
    let unit = world.get_one("w", &mut nobody()).unwrap();
    world
        .report(&nobody(), "spec", &unit, &report_of(ReportKind::Finished))
        .unwrap();
    world.set_spec(&definition);
    assert_eq!(world.get_one("w", &mut nobody()), None);
    world.pass(60.0);
    assert!(world.get_one("w", &mut nobody()).is_some());
}

#[test]
fn after_so_many_retries_a_unit_fails_and_the_next_one_is_given() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "max_retries": 2}));
    world.add("spec", &[json!(["a", {}]), json!(["b", {}])]);
    for _ in 0..2 {
        let given = world.get_work("w", 1, Duration::from_secs(1));
        assert_eq!(given[0].name, name("a"));
        world.pass(1.0);
    }
    let given = world.get_work("w", 1, Duration::from_secs(1));
    assert_eq!(given[0].name, name("b"));
    assert_eq!(
        world.counts("spec"),
        Counts {
            pending: 1,
            failed: 1,
            ..Counts::default()
        }
    );
    let report = world
        .run(|op| {
            let spec = op.work_spec(&name("spec"))?.id;
            op.work_unit_report(spec, &name("a"))
        })
        .unwrap()
        .unwrap();
    assert_eq!(
        report.traceback.as_deref(),
        Some(&b"\x70too many retries"[..])
    );
    assert_eq!(report.worker, Some(name("w")));
}

#[test]
fn a_unit_that_is_added_again_or_retried_gets_its_tries_anew() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "max_retries": 1}));
    world.add("spec", &[json!(["a", {}])]);
    let lose_it = |world: &mut World| {
        assert_eq!(world.get_work("w", 1, Duration::from_secs(1)).len(), 1);
        world.pass(1.0);
        assert!(world.get_work("w", 1, Duration::from_secs(1)).is_empty());
        assert_eq!(world.counts("spec").failed, 1);
    };
    lose_it(&mut world);
    world
        .report(&nobody(), "spec", "a", &report_of(ReportKind::Available))
        .unwrap();
    lose_it(&mut world);
    world.add("spec", &[json!(["a", {}])]);
    lose_it(&mut world);
}

#[test]
fn a_unit_given_back_with_a_delay_after_its_lease_ran_out_waits_all_the_same() {
    let mut world = world_with_units(&["a"]);
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    world.pass(301.0);
    let give_back = coordinated::coordinate::Report {
        delay: Some(Duration::from_secs(30)),
        ..report_of(ReportKind::Available)
    };
    let outcome = world.report(&handed_out, "spec", "a", &give_back).unwrap();
    assert_eq!(outcome, Outcome::Accepted);
    assert_eq!(world.get_one("w", &mut handed_out), None);
    world.pass(30.0);
    assert!(world.get_one("w", &mut handed_out).is_some());
}

#[test]
fn a_late_report_about_a_deleted_unit_does_not_end_the_attempt_at_its_namesake() {
    let mut world = world_with_units(&["a"]);
    let mut first = nobody();
    world.get_one("w", &mut first);
    let all = coordinated::coordinate::Deletion::All;
    world
        .run(|op| op.delete_work_units(&name("spec"), &all))
        .unwrap();
    world.add("spec", &[json!(["a", {}])]);
    let mut second = nobody();
    world.get_one("v", &mut second);
    let late = world
        .report(&first, "spec", "a", &report_of(ReportKind::Finished))
        .unwrap();
    assert!(matches!(late, Outcome::Refused(_)));
    assert_eq!(world.counts("spec").pending, 1);
    world
        .report(&second, "spec", "a", &report_of(ReportKind::Finished))
        .unwrap();
    assert_eq!(world.counts("spec").finished, 1);
}

fn heartbeat(world: &mut World, worker: &str, parent: Option<&str>, lifetime: u64) {
    let environment = cbor(&json!({"pid": 1}));
    world
        .run(|op| {
            op.heartbeat(Heartbeat {
                worker: &name(worker),
                mode: Some(name("RUN")),
                lifetime: Duration::from_secs(lifetime),
                environment: Some(&environment),
                parent: parent.map(name),
            })
        })
        .unwrap();
}

#[test]
fn a_worker_that_is_not_heard_of_is_gone_and_a_heartbeat_brings_it_back() {
    let mut world = World::in_memory();
    heartbeat(&mut world, "parent", None, 100);
    heartbeat(&mut world, "child", Some("parent"), 10);
    world.pass(9.0);
    assert_eq!(world.run(|op| op.workers()).unwrap().len(), 2);
    world.pass(1.0);
    assert_eq!(world.run(|op| op.workers()).unwrap().len(), 1);
    assert!(world.run(|op| op.worker(&name("child"))).unwrap().is_none());
    assert!(
        world
            .run(|op| op.children(&name("parent")))
            .unwrap()
            .is_empty()
    );
    heartbeat(&mut world, "child", Some("parent"), 10);
    assert_eq!(
        world.run(|op| op.children(&name("parent"))).unwrap().len(),
        1
    );
}

#[test]
fn a_unit_whose_lease_a_child_lost_stays_in_its_list_with_the_present_owner() {
    let mut world = world_with_units(&["a", "b"]);
    heartbeat(&mut world, "child", Some("parent"), 1000);
    world.get_work("child", 1, Duration::from_secs(5));
    let owner_and_time = |world: &mut World| {
        world
            .run(|op| {
                assert_eq!(op.children(&name("parent"))?, [name("child")]);
                let held = op.held_units(&name("child"))?;
                held.into_iter()
                    .map(|unit| op.held_unit(unit))
                    .collect::<Result<Vec<_>, _>>()
            })
            .unwrap()
            .iter()
            .map(|unit| (unit.owner.clone(), unit.expiration.is_some()))
            .collect::<Vec<_>>()
    };
    assert_eq!(owner_and_time(&mut world), [(Some(name("child")), true)]);
    world.pass(5.0);
    assert_eq!(owner_and_time(&mut world), [(None, false)], "nobody has it");
    world.get_work("other", 1, Duration::from_secs(500));
    assert_eq!(owner_and_time(&mut world), [(Some(name("other")), true)]);
    // Other work: the child has let go of what it lost.
    world.get_work("child", 1, Duration::from_secs(500));
    assert_eq!(owner_and_time(&mut world), [(Some(name("child")), true)]);
    world
        .report(&nobody(), "spec", "b", &report_of(ReportKind::Finished))
        .unwrap();
    assert_eq!(owner_and_time(&mut world), []);
}

#[test]
fn a_lock_is_free_again_when_its_time_is_over() {
    let mut world = World::in_memory();
    let path = cbor(&json!(["a", "b"]));
    let limits = world.limits;
    let path = LockPath::from_item(Item::from_checked(&path), &limits).unwrap();
    let paths = [path];
    let minute = Duration::from_secs(60);
    world
        .run(|op| op.lock(&name("me"), minute, &paths))
        .unwrap();
    world.pass(59.0);
    assert!(
        world
            .run(|op| op.lock(&name("you"), minute, &paths))
            .is_err()
    );
    world.pass(1.0);
    assert_eq!(world.run(|op| op.read_locks(&paths)).unwrap(), [None]);
    world
        .run(|op| op.lock(&name("you"), minute, &paths))
        .unwrap();
}

#[test]
fn leases_that_ran_out_while_the_daemon_was_down_get_a_grace_at_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &[json!(["a", {}])]);
    world.get_work("w", 1, Duration::from_secs(300));
    world.store.close().unwrap();

    let much_later = world::START.plus(Duration::from_secs(10_000));
    let mut world = World::open(&path, much_later);
    assert_eq!(world.counts("spec").pending, 1);
    world.pass(29.0);
    assert_eq!(world.counts("spec").pending, 1);
    world.pass(1.0);
    assert_eq!(world.counts("spec").available, 1);
}

#[test]
fn leases_do_not_outlast_a_day_though_the_clock_was_once_years_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let years_ahead = world::START.plus(Duration::from_secs(100_000_000));
    let mut world = World::open(&path, years_ahead);
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &[json!(["a", {}])]);
    world.get_work("w", 1, Duration::from_secs(300));
    world.store.close().unwrap();

    let mut world = World::open(&path, world::START);
    world.pass(86_399.0);
    assert_eq!(world.counts("spec").pending, 1);
    world.pass(1.0);
    assert_eq!(world.counts("spec").available, 1);
}

const HOURS: i64 = 2 * 3_600;

fn lock_path(label: &str) -> [LockPath; 1] {
    let path = cbor(&json!([label]));
    let limits = coordinated::limits::RequestLimits::default();
    [LockPath::from_item(Item::from_checked(&path), &limits).unwrap()]
}

fn locked(world: &mut World, paths: &[LockPath]) -> bool {
    world.run(|op| op.read_locks(paths)).unwrap() != [None]
}

#[test]
fn when_the_clock_is_set_everything_keeps_the_time_that_it_had_left() {
    for set_by in [HOURS, -HOURS] {
        let mut world = world_with_units(&["leased", "waiting"]);
        let unit = world.get_work("w", 1, Duration::from_secs(900));
        assert_eq!(unit.len(), 1);
        world.set_spec(&json!({"name": "again", "continuous": true, "interval": 60}));
        world.add("spec", &[json!(["delayed", {}, {"delay": 60}])]);
        heartbeat(&mut world, "w", None, 60);
        let paths = lock_path("a");
        let minute = Duration::from_secs(60);
        let lock = |op: &mut Operation<'_, SqliteStore>| op.lock(&name("me"), minute, &paths);
        world.run(lock).unwrap();
        world
            .run(|op| op.control_work_spec(&name("spec"), &paused(true)))
            .unwrap();
        let made = world
            .get_one("w", &mut nobody())
            .expect("a continuous unit");
        world
            .report(&nobody(), "again", &made, &report_of(ReportKind::Finished))
            .unwrap();

        world.pass(50.0);
        world.set_clock(set_by);
        world.pass(9.0);
        assert_eq!(world.counts("spec").delayed, 1, "{set_by}");
        assert!(locked(&mut world, &paths), "{set_by}");
        let worker = world.run(|op| op.worker(&name("w"))).unwrap();
        let (worker, _) = worker.expect("it is alive");
        assert_eq!(world.now.since(worker.heartbeat).as_secs(), 59, "{set_by}");
        let waiting = world.run(|op| op.work_spec(&name("spec")).map(|spec| spec.waiting_since));
        assert_eq!(world.now.since(waiting.unwrap().unwrap()).as_secs(), 59);
        assert_eq!(world.get_one("v", &mut nobody()), None, "{set_by}");
        let status = unit_report(&mut world, "leased");
        assert_eq!(
            status.expiration.map(|end| end.since(world.now).as_secs()),
            Some(841),
            "{set_by}"
        );
        world.pass(1.0);
        assert_eq!(world.counts("spec").delayed, 0, "{set_by}");
        assert!(!locked(&mut world, &paths), "{set_by}");
        assert!(world.run(|op| op.worker(&name("w"))).unwrap().is_none());
        assert!(world.get_one("v", &mut nobody()).is_some(), "{set_by}");
        world.pass(839.0);
        assert_eq!(world.counts("spec").pending, 1, "{set_by}");
        world.pass(1.0);
        assert_eq!(world.counts("spec").pending, 0, "{set_by}");
    }
}

fn paused(paused: bool) -> Control {
    Control {
        paused: Some(paused.then(Pause::default)),
        ..Control::default()
    }
}

fn unit_report(world: &mut World, unit: &str) -> UnitReport {
    let report = world.run(|op| {
        let spec = op.work_spec(&name("spec"))?.id;
        op.work_unit_report(spec, &name(unit))
    });
    report.unwrap().expect("the unit is there")
}

#[test]
fn what_has_ended_keeps_the_time_that_the_clock_told_then() {
    let mut world = world_with_units(&["a"]);
    world.get_one("w", &mut nobody());
    world
        .report(&nobody(), "spec", "a", &report_of(ReportKind::Finished))
        .unwrap();
    world.set_clock(-HOURS);
    let ended = unit_report(&mut world, "a").expiration;
    assert_eq!(ended, Some(world::START));
}

#[test]
fn a_delay_that_is_over_does_not_begin_anew_when_the_clock_is_set_back() {
    let mut world = world_with_units(&[]);
    world.add("spec", &[json!(["a", {}, {"delay": 60}])]);
    world.pass(60.0);
    assert_eq!(world.counts("spec").available, 1);
    world.set_clock(-HOURS);
    assert!(world.get_one("w", &mut nobody()).is_some());
    world
        .report(&nobody(), "spec", "a", &report_of(ReportKind::Available))
        .unwrap();
    assert_eq!(world.counts("spec").available, 1);
}

#[test]
fn a_delayed_unit_that_somebody_took_waits_no_longer_for_the_clock_when_it_is_given_back() {
    let mut world = world_with_units(&[]);
    world.add("spec", &[json!(["a", {}, {"delay": 60}])]);
    world
        .report(&nobody(), "spec", "a", &report_of(ReportKind::Pending))
        .unwrap();
    world.set_clock(-HOURS);
    world
        .report(&nobody(), "spec", "a", &report_of(ReportKind::Available))
        .unwrap();
    assert_eq!(world.counts("spec").delayed, 1);
    world.pass(60.0);
    assert_eq!(world.counts("spec").available, 1);
}

#[test]
fn a_unit_taken_back_after_the_clock_was_set_back_is_leased_for_a_day_at_the_most() {
    let mut world = world_with_units(&["a"]);
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    world
        .report(&nobody(), "spec", "a", &report_of(ReportKind::Available))
        .unwrap();
    world.set_clock(-100 * 86_400);
    world
        .report(&handed_out, "spec", "a", &report_of(ReportKind::Renew))
        .unwrap();
    assert_eq!(world.counts("spec").pending, 1);
    world.pass(86_400.0);
    assert_eq!(world.counts("spec").available, 1);
}

/// A world that was years ahead, and starts anew with the right time once `fill` has had its way.
fn set_right_by_a_restart(fill: impl FnOnce(&mut World)) -> (tempfile::TempDir, World) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let years_ahead = world::START.plus(Duration::from_secs(100_000_000));
    let mut world = World::open(&path, years_ahead);
    world.set_spec(&json!({"name": "spec"}));
    fill(&mut world);
    world.store.close().unwrap();
    (dir, World::open(&path, world::START))
}

#[test]
fn if_a_worker_was_heard_of_in_the_future_all_times_go_back_at_the_start() {
    let (_dir, mut world) = set_right_by_a_restart(|world| {
        world.add("spec", &[json!(["delayed", {}, {"delay": 60}])]);
        let paths = lock_path("a");
        world
            .run(|op| op.lock(&name("me"), Duration::from_secs(60), &paths))
            .unwrap();
        world.pass(10.0);
        heartbeat(world, "w", None, 6_000);
    });
    world.pass(49.0);
    assert_eq!(world.counts("spec").delayed, 1);
    assert!(locked(&mut world, &lock_path("a")));
    world.pass(1.0);
    assert_eq!(world.counts("spec").delayed, 0);
    assert!(!locked(&mut world, &lock_path("a")));
}

#[test]
fn units_have_not_waited_since_the_future_though_the_clock_was_years_ahead() {
    let (_dir, mut world) = set_right_by_a_restart(|world| world.add("spec", &[json!(["a", {}])]));
    world.pass(10.0);
    assert_eq!(waiting_since(&mut world), Some(0.0));
}

#[test]
fn a_lock_does_not_outlast_the_longest_timeout_though_the_clock_was_once_years_ahead() {
    let (_dir, mut world) = set_right_by_a_restart(|world| {
        let paths = lock_path("a");
        world
            .run(|op| op.lock(&name("me"), Duration::from_secs(60), &paths))
            .unwrap();
    });
    world.pass(999_999.0);
    assert!(locked(&mut world, &lock_path("a")));
    world.pass(1.0);
    assert!(!locked(&mut world, &lock_path("a")));
}

#[test]
fn a_continuous_unit_is_not_waited_for_longer_than_the_interval_though_the_clock_was_years_ahead() {
    let (_dir, mut world) = set_right_by_a_restart(|world| {
        world.set_spec(&json!({"name": "spec", "continuous": true, "interval": 60}));
        let unit = world
            .get_one("w", &mut nobody())
            .expect("a continuous unit");
        world
            .report(&nobody(), "spec", &unit, &report_of(ReportKind::Finished))
            .unwrap();
    });
    world.pass(59.0);
    assert_eq!(world.get_one("w", &mut nobody()), None);
    world.pass(1.0);
    assert!(world.get_one("w", &mut nobody()).is_some());
}

#[test]
fn a_worker_of_one_namespace_that_goes_takes_nothing_from_its_namesake_in_another() {
    use coordinated::coordinate::storage::WorkSpecStore;
    let mut world = world_with_units(&["a"]);
    heartbeat(&mut world, "w", Some("parent"), 1000);
    world.get_work("w", 1, Duration::from_secs(500));
    let home = world.namespace;
    world.namespace = world
        .run(|op| Ok(op.store.namespace("elsewhere")?))
        .unwrap();
    heartbeat(&mut world, "w", None, 1000);
    world.run(|op| op.unregister_worker(&name("w"))).unwrap();
    world.namespace = home;
    assert_eq!(world.run(|op| op.held_units(&name("w"))).unwrap().len(), 1);
    assert_eq!(world.run(|op| op.workers()).unwrap().len(), 1);
}

// As the tests of the Go daemons have it: in a call for two, a unit without a retry left takes the place of another, but a call
// that would give nothing goes on.
#[test]
fn units_without_a_retry_left_take_the_places_of_others_unless_none_would_be_given() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "max_retries": 1, "max_getwork": 2}));
    let units: Vec<_> = ["a", "b", "c", "d", "e"]
        .map(|unit| json!([unit, {}]))
        .into();
    world.add("spec", &units);
    let take = |world: &mut World| -> Vec<String> {
        let given = world.get_work("w", 10, Duration::from_secs(60));
        let names = given
            .iter()
            .map(|unit| String::from_utf8_lossy(unit.name.bytes()).into_owned());
        names.collect()
    };
    assert_eq!(take(&mut world), ["a", "b"]);
    world
        .report(&nobody(), "spec", "a", &report_of(ReportKind::Finished))
        .unwrap();
    world.pass(100.0);
    assert_eq!(take(&mut world), ["c"], "b has failed");
    assert_eq!(take(&mut world), ["d", "e"]);
    world.add("spec", &[json!(["f", {}])]);
    world.pass(100.0);
    assert_eq!(take(&mut world), ["f"], "c, d and e have failed");
    let counts = world.counts("spec");
    assert_eq!((counts.failed, counts.pending), (4, 1));
}

/// Since when a unit is available, in seconds from the start of the world.
fn available_since(world: &mut World, unit: &str) -> Option<f64> {
    let details = world.run(|op| op.unit_details(&name("spec"), &name(unit)));
    let since = details.unwrap().unit.available_since;
    since.map(|since| since.since(world::START).as_secs_f64())
}

#[test]
fn a_unit_remembers_since_when_it_is_available_until_it_is_not() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec", "retries": 1, "retry_delay": 10}));
    world.pass(1.0);
    world.add(
        "spec",
        &[json!(["a", {}]), json!(["late", {}, {"delay": 50}])],
    );
    assert_eq!(available_since(&mut world, "a"), Some(1.0));
    assert_eq!(available_since(&mut world, "late"), None, "it is delayed");
    world.pass(1.0);
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    assert_eq!(available_since(&mut world, "a"), None, "it is pending");
    world.pass(1.0);
    let failed = report_of(ReportKind::Failed);
    world.report(&handed_out, "spec", "a", &failed).unwrap();
    assert_eq!(
        available_since(&mut world, "a"),
        None,
        "it waits for a retry"
    );
    world.pass(100.0);
    assert_eq!(available_since(&mut world, "a"), Some(103.0));
    assert_eq!(available_since(&mut world, "late"), Some(103.0));
    // Neither another priority nor other data make it available anew.
    world.pass(1.0);
    let change = PriorityChange::Set(5.0);
    world
        .run(|op| op.prioritize_work_units(&name("spec"), &[name("a")], change))
        .unwrap();
    assert_eq!(available_since(&mut world, "a"), Some(103.0));
    world.get_work("w", 1, Duration::from_secs(5));
    world.pass(6.0);
    assert_eq!(
        available_since(&mut world, "a"),
        Some(110.0),
        "its lease was lost"
    );
}

/// Since when the work spec has had available units, in seconds from the start of the world.
fn waiting_since(world: &mut World) -> Option<f64> {
    let since = world.run(|op| op.work_spec(&name("spec")).map(|spec| spec.waiting_since));
    let since = since.unwrap();
    since.map(|since| since.since(world::START).as_secs_f64())
}

#[test]
fn a_work_spec_remembers_since_when_it_has_had_available_units_without_a_break() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jobs.db");
    let mut world = World::open(&path, world::START);
    world.set_spec(&json!({"name": "spec"}));
    assert_eq!(waiting_since(&mut world), None);
    world.pass(1.0);
    world.add(
        "spec",
        &[json!(["a", {}]), json!(["late", {}, {"delay": 50}])],
    );
    world.pass(1.0);
    world.add("spec", &[json!(["b", {}])]);
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    assert_eq!(waiting_since(&mut world), Some(1.0), "there always was one");
    // A restart makes no difference, nor does another definition.
    world.store.close().unwrap();
    let mut world = World::open(&path, world::START.plus(Duration::from_secs(3)));
    world.set_spec(&json!({"name": "spec", "weight": 3}));
    assert_eq!(waiting_since(&mut world), Some(1.0));
    world.get_work("w", 1, Duration::from_secs(40));
    assert_eq!(waiting_since(&mut world), None, "both are handed out");
    world.pass(2.0);
    let released = world.report(&nobody(), "spec", "a", &report_of(ReportKind::Available));
    assert_eq!(released.unwrap(), Outcome::Accepted);
    assert_eq!(waiting_since(&mut world), Some(5.0), "one was given back");
    let gone = [name("a")];
    world
        .run(|op| {
            let which = Deletion::Named(&gone, None);
            op.delete_work_units(&name("spec"), &which)
        })
        .unwrap();
    assert_eq!(waiting_since(&mut world), None);
    world.pass(50.0);
    assert_eq!(
        waiting_since(&mut world),
        Some(55.0),
        "a lease and a delay are over"
    );
}

#[test]
fn since_when_units_wait_is_undone_with_what_made_them_wait() {
    let mut world = world_with_units(&["a"]);
    world.pass(1.0);
    let undone = world.run(|op| {
        op.delete_work_units(&name("spec"), &Deletion::Named(&[name("a")], None))?;
        assert_eq!(op.work_spec(&name("spec"))?.waiting_since, None);
        Err::<(), _>(Error::Refused("for a test".to_owned()))
    });
    assert!(undone.is_err());
    assert_eq!(waiting_since(&mut world), Some(0.0));
}

#[test]
fn that_nobody_asks_for_work_is_told_after_some_minutes() {
    let mut world = world_with_units(&["a"]);
    let explain = |world: &mut World, at: Option<u64>, now: u64| {
        let at = at.map(|at| world::START.plus(Duration::from_secs(at)));
        world.memory.asked_for_work = at;
        world.now = world::START.plus(Duration::from_secs(now));
        let now = world.now;
        let reasons = world.run(|op| op.explain_work(&name("spec"), None));
        let first = reasons.unwrap().remove(0);
        (first.code(), first.text(now))
    };
    // A worker that never registers is known by its asking alone.
    let (code, text) = explain(&mut world, Some(0), 59);
    assert_eq!(code, "next");
    assert!(
        text.contains("no worker is alive, and work was last asked for 59s ago"),
        "{text}"
    );
    let (code, text) = explain(&mut world, Some(0), 60);
    assert_eq!(
        (code, &*text),
        (
            "no_worker",
            "no worker is alive: nobody has asked for work for 1m"
        )
    );
    let (code, text) = explain(&mut world, None, 301);
    assert_eq!(code, "no_worker");
    assert!(
        text.contains("since the daemon was started 5m 1s ago"),
        "{text}"
    );

    // One that is alive may be busy.
    let worker = name("worker");
    let heartbeat = world.run(|op| {
        op.heartbeat(Heartbeat {
            worker: &worker,
            mode: None,
            lifetime: Duration::from_secs(6_000),
            environment: None,
            parent: None,
        })
    });
    heartbeat.expect("heartbeat");
    let (code, text) = explain(&mut world, Some(0), 299);
    assert_eq!(code, "next");
    assert!(text.contains("1 worker is alive"), "{text}");
    let (code, text) = explain(&mut world, Some(0), 300);
    assert_eq!(
        (code, &*text),
        (
            "no_worker",
            "1 worker is alive: nobody has asked for work for 5m"
        )
    );
}

#[test]
fn workers_that_are_over_at_the_same_time_let_go_of_so_many_attempts_in_a_step() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let units: Vec<_> = (0..1_800).map(|n| json!([format!("{n:05}"), {}])).collect();
    world.add("spec", &units);
    for worker in ["a", "b", "c"] {
        world.get_work(worker, 600, Duration::from_secs(50_000));
        let worker = name(worker);
        let heartbeat = |op: &mut Operation<'_, SqliteStore>| {
            op.heartbeat(Heartbeat {
                worker: &worker,
                mode: None,
                lifetime: Duration::from_secs(10),
                environment: None,
                parent: None,
            })
        };
        world.run(heartbeat).unwrap();
    }
    world.pass(11.0);
    let mut left = Vec::new();
    loop {
        let more = world.operation(|op| op.expire()).unwrap();
        left.push(world.operation(|op| op.worker_stats()).unwrap().workers);
        if !more {
            break;
        }
    }
    assert_eq!(left, [1, 0]);
}

#[test]
fn one_call_for_work_fails_so_many_units_without_a_retry_left_in_a_step() {
    let mut world = World::in_memory();
    world.set_spec(&json!({"name": "spec"}));
    let units: Vec<_> = (0..1_200).map(|n| json!([format!("{n:05}"), {}])).collect();
    world.add("spec", &units);
    world.get_work("lost", 1_200, Duration::from_secs(10));
    world.pass(11.0);
    while world.operation(|op| op.expire()).unwrap() {}
    world.set_spec(&json!({"name": "spec", "max_retries": 1}));
    world.add("spec", &[json!(["last", {}])]);
    let runtimes = [String::new()];
    let request = WorkRequest {
        max_units: 2,
        lease: LEASE_DEFAULT,
        work_specs: &[name("spec"), name("unknown")],
        runtimes: &runtimes,
    };
    let mut failed = Vec::new();
    let given = loop {
        let given = world.run(|op| op.get_work(&name("w"), &request)).unwrap();
        failed.push(world.counts("spec").failed);
        if let Some(given) = given {
            break given;
        }
    };
    assert_eq!(failed, [500, 1_000, 1_200]);
    assert_eq!(given.len(), 1);
}

// --- failures that are retried, and lost leases ---

/// A store with one unit, of a work spec that says this in addition.
fn world_with_one_unit(definition: serde_json::Value) -> World {
    let mut world = World::in_memory();
    let mut whole = json!({"name": "spec"});
    let entries = definition.as_object().expect("a map").clone();
    whole.as_object_mut().expect("a map").extend(entries);
    world.set_spec(&whole);
    world.add("spec", &[json!(["a", {"n": 1}])]);
    world
}

fn fail(world: &mut World, handed_out: &HandedOut) -> UnitReport {
    let report = report_of(ReportKind::Failed);
    let outcome = world.report(handed_out, "spec", "a", &report).unwrap();
    assert_eq!(outcome, Outcome::Accepted);
    unit_report(world, "a")
}

#[test]
fn a_failed_unit_waits_longer_after_each_failure_until_it_has_no_retries_left() {
    let mut world = world_with_one_unit(
        json!({"retries": 3, "retry_delay": 10, "retry_backoff": 3, "retry_delay_max": 40}),
    );
    let mut handed_out = nobody();
    for (failures, delay) in [(1, 10.0), (2, 30.0), (3, 40.0)] {
        assert!(world.get_one("w", &mut handed_out).is_some());
        let failed = fail(&mut world, &handed_out);
        assert_eq!(
            (failed.status, failed.failures),
            (UnitStatus::Delayed, failures)
        );
        assert_eq!(
            failed.retry_at,
            Some(world.now.plus(Duration::from_secs_f64(delay)))
        );
        assert_eq!(world.counts("spec").retrying, 1);
        world.pass(delay - 0.000_001);
        assert_eq!(world.get_one("w", &mut handed_out), None);
        world.pass(0.000_001);
        // It counts as one that is retried until somebody has it.
        assert_eq!(world.counts("spec").retrying, 1);
    }
    assert!(world.get_one("w", &mut handed_out).is_some());
    assert_eq!(world.counts("spec").retrying, 0);
    let failed = fail(&mut world, &handed_out);
    assert_eq!((failed.status, failed.failures), (UnitStatus::Failed, 4));
    assert_eq!(failed.retry_at, None);
    // Retried by hand, it has all of its retries again.
    world
        .report(&nobody(), "spec", "a", &report_of(ReportKind::Available))
        .unwrap();
    assert_eq!(unit_report(&mut world, "a").failures, 0);
    assert!(world.get_one("w", &mut handed_out).is_some());
    assert_eq!(fail(&mut world, &handed_out).failures, 1);
    world.add("spec", &[json!(["a", {}])]);
    assert_eq!(unit_report(&mut world, "a").failures, 0);
    assert_eq!(world.counts("spec").retrying, 0);
}

#[test]
fn the_time_of_the_next_try_moves_with_the_clock() {
    let mut world = world_with_one_unit(json!({"retries": 1, "retry_delay": 60}));
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    fail(&mut world, &handed_out);
    world.set_clock(-100_000);
    let until = world.now.plus(Duration::from_secs(60));
    assert_eq!(unit_report(&mut world, "a").retry_at, Some(until));
}

#[test]
fn a_unit_that_has_cost_its_last_worker_the_lease_fails_and_says_so() {
    let mut world = world_with_one_unit(json!({"max_lost": 2, "retries": 9}));
    let lose = |world: &mut World| {
        assert_eq!(world.get_work("w", 1, Duration::from_secs(5)).len(), 1);
        world.pass(5.0);
        unit_report(world, "a")
    };
    let lost = lose(&mut world);
    assert_eq!(
        (lost.status, lost.lost, lost.failures),
        (UnitStatus::Available, 1, 0)
    );
    let lost = lose(&mut world);
    assert_eq!((lost.status, lost.lost), (UnitStatus::Failed, 2));
    assert_eq!(lost.traceback.as_deref(), Some(&b"\x6dlost 2 leases"[..]));
    // Retried by hand, it may cost as many again.
    world
        .report(&nobody(), "spec", "a", &report_of(ReportKind::Available))
        .unwrap();
    assert_eq!(lose(&mut world).status, UnitStatus::Available);
}

#[test]
fn a_lease_that_its_worker_takes_back_or_gives_up_is_not_lost() {
    let mut world = world_with_one_unit(json!({"max_lost": 2}));
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    world
        .report(&handed_out, "spec", "a", &report_of(ReportKind::Available))
        .unwrap();
    assert_eq!(unit_report(&mut world, "a").lost, 0);
    world.get_one("w", &mut handed_out);
    world.pass(LEASE_DEFAULT.as_secs_f64());
    assert_eq!(unit_report(&mut world, "a").lost, 1);
    world
        .report(&handed_out, "spec", "a", &report_of(ReportKind::Renew))
        .unwrap();
    let renewed = unit_report(&mut world, "a");
    assert_eq!((renewed.status, renewed.lost), (UnitStatus::Pending, 0));
}

#[test]
fn a_worker_that_was_only_slow_can_finish_a_unit_that_failed_for_lost_leases() {
    let mut world = world_with_one_unit(json!({"max_lost": 1}));
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    world.pass(LEASE_DEFAULT.as_secs_f64());
    assert_eq!(unit_report(&mut world, "a").status, UnitStatus::Failed);
    world
        .report(&handed_out, "spec", "a", &report_of(ReportKind::Finished))
        .unwrap();
    assert_eq!(unit_report(&mut world, "a").status, UnitStatus::Finished);
}

/// Nothing about them is counted then, so that clients of the originals see what they always saw.
#[test]
fn without_the_keys_neither_failures_nor_lost_leases_are_counted() {
    let mut world = world_with_one_unit(json!({}));
    let mut handed_out = nobody();
    world.get_one("w", &mut handed_out);
    world.pass(LEASE_DEFAULT.as_secs_f64());
    assert_eq!(unit_report(&mut world, "a").lost, 0);
    world.get_one("w", &mut handed_out);
    let failed = fail(&mut world, &handed_out);
    assert_eq!((failed.status, failed.failures), (UnitStatus::Failed, 0));
}
