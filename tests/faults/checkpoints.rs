//! Moving the WAL into the file fails, beside batches that succeed.

use super::disk::{Call, Disk, Failure, Fault};
use super::script::{Do, open_world, units};
use coordinated::coordinate::StorageError;
use coordinated::coordinate::storage::Storage;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::json;
use std::time::Instant;
use test_support::world::World;
use test_support::{PATIENCE, wait_until};

/// Power cuts after each failure.
const CUTS: u64 = 3;

/// Runs one operation in a batch of its own.
fn batch(world: &mut World, operation: &Do) -> Result<(), StorageError> {
    operation
        .run(world)
        .expect("it fails at its commit, or not");
    world.store.commit()
}

/// A store with a WAL that is worth moving.
fn with_long_log(disk: &Disk) -> World {
    let mut world = open_world(disk);
    batch(&mut world, &Do::SetSpec(json!({"name": "spec"}))).expect("room");
    batch(&mut world, &Do::Add("spec", units("large", 18, 1 << 20))).expect("room");
    world
}

/// Adds unit after unit; gives how many, and why no more.
fn add_until_it_fails(world: &mut World) -> (usize, StorageError) {
    let begin = Instant::now();
    for added in 0.. {
        assert!(begin.elapsed() < PATIENCE, "nothing fails");
        if let Err(error) = batch(
            world,
            &Do::Add("spec", vec![json!([format!("u{added}"), {}])]),
        ) {
            return (added, error);
        }
    }
    unreachable!("it goes on until something fails");
}

#[test]
fn after_a_write_or_sync_of_the_file_has_failed_nothing_is_answered_any_more() {
    for (call, nth) in [(Call::Sync, 0), (Call::Write, 2_000)] {
        let disk = Disk::new();
        let mut world = with_long_log(&disk);
        disk.break_by(Fault {
            call,
            of: ".db",
            nth,
            failure: Failure::Torn,
            lasting: false,
        });
        let (added, error) = add_until_it_fails(&mut world);
        assert!(matches!(error, StorageError::Unknown(_)), "{error}");
        assert!(disk.failed() > 0);
        disk.repair();
        let again = batch(&mut world, &Do::Expire);
        assert!(matches!(again, Err(StorageError::Unknown(_))), "{again:?}");
        let before = disk.look();
        let units = before.lines().filter(|line| line.starts_with("spec|u"));
        assert_eq!(units.count(), added, "{before}");
        world.store.abandon();
        for seed in 0..CUTS {
            let mut random = SmallRng::seed_from_u64(seed);
            let image = disk.after_power_cut(disk.time(), &mut random);
            let cut = Disk::with(&image);
            drop(open_world(&cut));
            assert!(cut.look() == before, "power cut with seed {seed}");
        }
        drop(open_world(&disk));
        assert!(disk.look() == before);
    }
}

#[test]
fn a_full_disk_puts_off_moving_the_wal_and_holds_nothing_up() {
    let disk = Disk::new();
    let mut world = with_long_log(&disk);
    disk.break_by(Fault {
        call: Call::Write,
        of: ".db",
        nth: 1_000,
        failure: Failure::Full,
        lasting: true,
    });
    let mut added = 0;
    let mut add_until = |what: &str, condition: &dyn Fn() -> bool| {
        wait_until(what, || {
            added += 1;
            let unit = json!([format!("u{added}"), {}]);
            batch(&mut world, &Do::Add("spec", vec![unit])).expect("there is room in the WAL");
            condition()
        });
    };
    add_until("moving the WAL fails twice", &|| disk.failed() >= 2);
    disk.repair();
    // Calls count from here on.
    disk.break_by(Fault {
        call: Call::Sync,
        of: ".db",
        nth: usize::MAX,
        failure: Failure::Error,
        lasting: false,
    });
    add_until("the WAL is moved", &|| disk.calls(Call::Sync) > 0);
    let before = disk.look();
    world.store.close().expect("a clean stop");
    assert!(disk.look() == before);
}
