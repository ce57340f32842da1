//! The promise: "What an operation answers, and what it leaves behind, is what the rules say". Tries to
//! break it with random sequences of all operations, which run on the store and on a model of the same
//! rules that is too simple to be wrong (`model.rs`, `scheduling.rs`, `reports.rs`): every answer, the
//! counts after every step and the whole state at the end must agree. Time passes at random, operations
//! share batches, some are undone alone and some with their batch, and the daemon is started anew. Requests for work
//! wait, and are answered exactly when the model says that there is a unit for them, in order of arrival, and requests for
//! statuses when a unit of theirs is completed or gone (`waits.rs`).
//!
//! COORDINATED_MODEL_SEQUENCES says how many sequences are played instead of a thousand, and
//! COORDINATED_MODEL_SEED which ones.

mod answer;
mod groups;
mod limits;
mod locks;
mod model;
mod on_model;
mod on_store;
mod operations;
mod play;
mod reports;
mod scheduling;
mod strategies;
mod waits;
mod workers;

use operations::Step;
use play::{Place, play};
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestCaseError, TestError, TestRunner};
use std::fmt::Write;

const SEQUENCES: u32 = 1_000;

/// How long a failing sequence is made shorter, in milliseconds.
const SHRINK_MS_MAX: u32 = 120_000;

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    let Ok(number) = value.parse() else {
        panic!("{name}: expected a number, got {value:?}");
    };
    Some(number)
}

/// Plays half of the sequences, since two tests do so beside each other.
fn play_sequences(place: Place) {
    let sequences = variable("COORDINATED_MODEL_SEQUENCES").unwrap_or(SEQUENCES);
    let seed: u64 = variable("COORDINATED_MODEL_SEED").unwrap_or_else(rand::random);
    let mut runner = TestRunner::new(Config {
        cases: sequences.div_ceil(2),
        // The default one takes a third of the whole time.
        rng_algorithm: RngAlgorithm::XorShift,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_time: SHRINK_MS_MAX,
        ..Config::default()
    });
    let played = runner.run(&strategies::sequences(), |steps| {
        play(place, &steps).map_err(TestCaseError::fail)
    });
    match played {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => {
            panic!("{}", describe(seed, reason.message(), &steps))
        }
        Err(error) => panic!("{error}"),
    }
}

fn describe(seed: u64, reason: &str, steps: &[Step]) -> String {
    let mut text =
        format!("the store and the model differ (COORDINATED_MODEL_SEED={seed} repeats it)\n");
    for (number, step) in steps.iter().enumerate() {
        writeln!(text, "{number:4}  {step:?}").expect("text can be written");
    }
    text + reason
}

#[test]
fn the_store_in_memory_does_what_the_model_does() {
    play_sequences(Place::Memory);
}

#[test]
fn the_store_on_a_file_does_what_the_model_does_also_after_restarts() {
    play_sequences(Place::File);
}
