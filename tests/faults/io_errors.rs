//! Every call that the script makes fails once, in turn.

use super::disk::{Call, Disk, Failure, Fault};
use super::script::{Do, Run, Step, large_script, old_database, open_world, script, try_to_open};
use coordinated::coordinate::storage::Storage;
use coordinated::coordinate::{Error, LEASE_DEFAULT, StorageError};
use coordinated::store::SqliteStore;
use serde_json::json;
use test_support::world::nobody;

/// No more room.
const FULL: Fault = Fault {
    call: Call::Write,
    of: "",
    nth: 0,
    failure: Failure::Full,
    lasting: true,
};

/// Lets each call of a kind fail, the first one, the second one, ... until there is no such call any
/// more; gives the errors that were answered.
fn fail_each(call: Call, failure: Failure, lasting: bool) -> Vec<StorageError> {
    let script = script();
    let (known, _) = Run::undisturbed(&Disk::new(), &script);
    let mut errors = Vec::new();
    for nth in 0.. {
        let disk = Disk::new();
        disk.break_by(Fault {
            call,
            of: "",
            nth,
            failure,
            lasting,
        });
        errors.extend(Run::disturbed(&disk, &script, &known));
        if disk.calls(call) <= nth {
            eprintln!(
                "{call:?} {failure:?}: {nth} calls, {} answered with an error",
                errors.len()
            );
            break;
        }
    }
    errors
}

fn all(errors: &[StorageError], is_right: impl Fn(&StorageError) -> bool) {
    assert!(!errors.is_empty(), "it was met");
    for error in errors {
        assert!(is_right(error), "{error}");
    }
}

fn is_unknown(error: &StorageError) -> bool {
    matches!(error, StorageError::Unknown(_))
}

#[test]
fn a_read_that_fails_undoes_its_batch_and_the_next_one_succeeds() {
    let errors = fail_each(Call::Read, Failure::Error, false);
    all(&errors, |error| matches!(error, StorageError::Other(_)));
}

#[test]
fn a_write_that_fails_is_whole_or_not_at_all() {
    all(&fail_each(Call::Write, Failure::Error, false), is_unknown);
}

#[test]
fn a_write_that_is_torn_is_whole_or_not_at_all() {
    all(&fail_each(Call::Write, Failure::Torn, false), is_unknown);
}

#[test]
fn a_disk_that_is_full_undoes_the_batch_and_once_there_is_room_it_goes_on() {
    let errors = fail_each(Call::Write, Failure::Full, true);
    all(&errors, |error| matches!(error, StorageError::Full(_)));
}

#[test]
fn a_sync_that_fails_is_whole_or_not_at_all() {
    all(&fail_each(Call::Sync, Failure::Error, false), is_unknown);
}

#[test]
fn calls_that_are_rare_may_fail_too() {
    for call in [Call::Truncate, Call::Open, Call::Delete, Call::MapShared] {
        fail_each(call, Failure::Error, false);
    }
}

#[test]
fn a_write_that_fails_in_the_middle_of_a_large_commit_undoes_the_whole_batch() {
    let script = &large_script()[..3];
    let (known, _) = Run::undisturbed(&Disk::new(), script);
    for (failure, nth) in [
        (Failure::Full, 1_000),
        (Failure::Full, 5_001),
        (Failure::Quota, 1_001),
        (Failure::Quota, 8_000),
        (Failure::Torn, 3_000),
        (Failure::Error, 6_001),
    ] {
        let disk = Disk::new();
        disk.break_by(Fault {
            call: Call::Write,
            of: "-wal",
            nth,
            failure,
            lasting: matches!(failure, Failure::Full | Failure::Quota),
        });
        let errors = Run::disturbed(&disk, script, &known);
        all(&errors, |error| match failure {
            Failure::Full | Failure::Quota => matches!(error, StorageError::Full(_)),
            _ => is_unknown(error),
        });
    }
}

#[test]
fn an_old_database_is_brought_up_to_date_whole_or_not_at_all() {
    let image = old_database();
    let script = [Step::Batch(vec![Do::Heartbeat("new")])];
    let (known, _) = Run::undisturbed(&Disk::with(&image), &script);
    for (call, failure) in [
        (Call::Read, Failure::Error),
        (Call::Write, Failure::Torn),
        (Call::Write, Failure::Full),
        (Call::Sync, Failure::Error),
    ] {
        for nth in 0.. {
            let disk = Disk::with(&image);
            disk.break_by(Fault {
                call,
                of: "",
                nth,
                failure,
                lasting: false,
            });
            Run::disturbed(&disk, &script, &known);
            if disk.calls(call) <= nth {
                break;
            }
        }
    }
}

#[test]
fn what_ended_in_a_batch_that_was_undone_ends_in_the_next_one() {
    let disk = Disk::new();
    let mut world = open_world(&disk);
    world.set_spec(&json!({"name": "spec"}));
    world.add("spec", &[json!(["a", {}])]);
    assert!(world.get_one("w", &mut nobody()).is_some());
    world.pass(LEASE_DEFAULT.as_secs_f64() + 1.0);
    disk.break_by(FULL);
    world
        .operation(|op| op.expire())
        .expect("it fails at its commit");
    let full = world.store.commit();
    assert!(matches!(full, Err(StorageError::Full(_))), "{full:?}");
    assert!(
        world.store.due().is_some_and(|due| due <= world.now),
        "it is due still"
    );
    disk.repair();
    assert_eq!(world.get_one("w2", &mut nobody()).as_deref(), Some("a"));
}

#[test]
fn a_database_can_be_opened_and_read_while_the_disk_is_full() {
    let disk = Disk::new();
    let mut world = open_world(&disk);
    world.set_spec(&json!({"name": "spec"}));
    for end in [SqliteStore::abandon, |store: SqliteStore| {
        store.close().expect("a clean stop")
    }] {
        end(world.store);
        disk.break_by(FULL);
        world = try_to_open(&disk, 0).expect("nothing has to be written");
        assert_eq!(world.counts("spec").total(), 0);
        disk.repair();
    }
}

/// A unit with 40 to 160 kB of data, so that a statement which stores some of them writes pages of the batch to the
/// log, and reads them again, long before the commit.
fn large_units() -> Vec<serde_json::Value> {
    (0..750)
        .map(|n| json!([format!("large{n:03}"), {"text": "x".repeat(40_000 + n * 163)}]))
        .collect()
}

/// A VFS that gathered the pages of a commit once lost some of them here: a read that could not write them first
/// failed, SQLite undid only that statement, and the commit of the rest left a corrupt file.
#[test]
fn a_full_disk_in_the_middle_of_a_batch_undoes_all_of_it_and_each_operation_says_so() {
    let one_more = |n: usize| Do::Add("spec", vec![json!([format!("small{n}"), {}])]);
    let large = Do::Add("spec", large_units());
    for nth in [0, 1, 2, 30, 31, 500, 2_000] {
        let disk = Disk::new();
        let mut world = open_world(&disk);
        world.set_spec(&json!({"name": "spec"}));
        let before = disk.look();
        disk.break_by(Fault {
            of: "-wal",
            nth,
            ..FULL
        });
        one_more(0).run(&mut world).expect("nothing is written yet");
        let refused = large.run(&mut world);
        assert!(disk.failed() > 0, "it fails before the commit");
        let later = one_more(1).run(&mut world);
        for result in [refused, later] {
            assert!(
                matches!(result, Err(Error::Storage(StorageError::Full(_)))),
                "write {nth}: {result:?}"
            );
        }
        let committed = world.store.commit();
        assert!(
            matches!(committed, Err(StorageError::Full(_))),
            "write {nth}: {committed:?}"
        );
        assert_eq!(disk.look(), before, "write {nth}");
        disk.repair();
        large.run(&mut world).expect("there is room");
        world.store.commit().expect("there is room");
        assert_eq!(world.counts("spec").available, 750);
        world.store.close().expect("a clean stop");
        disk.look();
    }
}
