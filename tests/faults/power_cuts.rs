//! The power is cut, at a random moment, and of what was not synced some is there and some is not.

use super::disk::{Disk, Image};
use super::script::{Do, Run, Step, large_script, old_database, script};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How many power cuts, unless `COORDINATED_POWER_CUTS` says otherwise.
const CUTS: u64 = 300;

/// The seeds of so many cuts, the first one of them at random. It is printed.
pub fn seeds(default: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse().expect("a number"))
    };
    let first =
        number("COORDINATED_POWER_CUT_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    let count = number("COORDINATED_POWER_CUTS").unwrap_or(default);
    eprintln!("{count} power cuts from COORDINATED_POWER_CUT_SEED={first} on");
    first..first + count
}

/// Cuts the power so often while a script runs on a disk that holds this.
fn cut_power(image: &Image, script: &[Step], cuts: u64) {
    let disk = Disk::with(image);
    let begin = disk.time();
    let (known, answered) = Run::undisturbed(&disk, script);
    for seed in seeds(cuts) {
        let mut random = SmallRng::seed_from_u64(seed);
        let time = random.random_range(begin..=disk.time());
        let steps = answered.iter().filter(|at| **at <= time).count();
        eprintln!("seed {seed}: {steps} steps answered");
        let disk = Disk::with(&disk.after_power_cut(time, &mut random));
        let (run, next) = Run::after_power_cut(&disk, script, &known, steps);
        // Mostly to open it is enough.
        if random.random_bool(0.2) {
            run.finish(next);
        }
    }
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_answered() {
    cut_power(&Image::new(), &script(), CUTS);
}

#[test]
fn a_power_cut_while_the_wal_is_moved_into_the_file_loses_nothing() {
    cut_power(&Image::new(), &large_script(), CUTS / 20);
}

#[test]
fn a_power_cut_while_an_old_database_is_brought_up_to_date_loses_nothing() {
    let script = [Step::Batch(vec![Do::Heartbeat("new")])];
    cut_power(&old_database(), &script, CUTS / 10);
}
