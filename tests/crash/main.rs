//! Tries to break the promise that `kill -9` at any moment loses nothing that was answered.
//!
//! The real binary works for several connections at once, over CBOR-RPC and over HTTP, and is killed at
//! random moments, again and again on the same file. Each time, what is found must be explained by what was asked and answered:
//! every answered change is there, every unanswered one is there whole or not at all, no unit is handed
//! out twice, and the kept counts are those of the rows.
//!
//! `COORDINATED_CRASH_KILLS` says how many kills (10), `COORDINATED_CRASH_SEED` which ones.

mod archive;
mod file;
mod model;
mod over_http;
mod party;

use party::{Common, Party};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use test_support::{Server, run_and_kill, wait_until};

const PARTIES: usize = 4;

/// When the daemon is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    UnderLoad,
    /// While the WAL is moved into the file.
    InCheckpoint,
    /// After SIGTERM.
    InStop,
    /// Under load, and again in the next start.
    InRecovery,
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: not a number")),
    )
}

fn seed() -> u64 {
    let seed = from_environment("COORDINATED_CRASH_SEED").unwrap_or_else(rand::random);
    eprintln!("COORDINATED_CRASH_SEED={seed}");
    seed
}

#[test]
fn kill_9_at_any_moment_loses_nothing_that_was_answered() {
    let kills = from_environment("COORDINATED_CRASH_KILLS").unwrap_or(10);
    let mut random = SmallRng::seed_from_u64(seed());
    let mut server = Server::start_with(&["--http", "127.0.0.1:0"]);
    let mut client = server.connect();
    client.set_spec(model::SHARED);
    client.set_spec("{'name': 'next'}");
    client.set_spec(model::TICKS);
    for party in 0..PARTIES {
        client.set_spec(&model::definition(party, 0).to_string());
        client.set_spec(&model::halting_definition(party).to_string());
    }
    let common = Common::default();
    let mut parties: Vec<Party> = (0..PARTIES)
        .map(|number| Party::new(number, SmallRng::seed_from_u64(random.random())))
        .collect();
    let mut moments = BTreeMap::<Moment, u64>::new();
    let (mut done, mut sent, mut checkpoints) = (0, 0, 0);
    for kill in 0..kills {
        let moment = match random.random_range(0..8) {
            0 | 1 => Moment::InCheckpoint,
            2 => Moment::InStop,
            3 => Moment::InRecovery,
            _ => Moment::UnderLoad,
        };
        *moments.entry(moment).or_default() += 1;
        let enough = common.answers.load(Ordering::Relaxed) + random.random_range(0..1_000);
        std::thread::scope(|scope| {
            let threads: Vec<_> = parties
                .iter_mut()
                .map(|party| scope.spawn(|| party.work(&server, &common)))
                .collect();
            let is_time = || common.answers.load(Ordering::Relaxed) >= enough;
            let written = || modified(&server.db());
            // A thread ends before the kill only if it saw something wrong.
            let failed = || threads.iter().any(|thread| thread.is_finished());
            wait_until("there was load enough", || is_time() || failed());
            let (before, patience) = (written(), enough + 10_000);
            if moment == Moment::InCheckpoint {
                wait_until("the file is written to", || {
                    let is_late = common.answers.load(Ordering::Relaxed) >= patience;
                    written() != before || is_late || failed()
                });
                checkpoints += u64::from(written() != before);
            }
            if moment == Moment::InStop {
                server.signal(libc::SIGTERM);
            }
            std::thread::sleep(Duration::from_micros(random.random_range(0..10_000)));
            server.signal(libc::SIGKILL);
        });
        server.wait();
        if moment == Moment::InRecovery {
            let after = Duration::from_micros(random.random_range(0..40_000));
            server.start_again_and_kill(after);
        }
        server.start_again();
        eprintln!("kill {} {moment:?} at {} answers", kill + 1, enough);
        let file = file::open(&server.db());
        for (party, found) in parties.iter_mut().zip(file::states(&file, PARTIES)) {
            let (of_it_done, of_it_sent) = party.explain(found, &common);
            (done, sent) = (done + of_it_done, sent + of_it_sent);
        }
        file::check(&file, &mut server.connect());
    }
    eprintln!(
        "{kills} kills {moments:?}, {checkpoints} of them in a checkpoint: {} requests were answered; of \
         {sent} that were not, {done} had been carried out",
        common.answers.load(Ordering::Relaxed)
    );
    let tried = moments.get(&Moment::InCheckpoint).copied().unwrap_or(0);
    assert_eq!(checkpoints, tried, "kills in a checkpoint");
}

/// When the file itself was last written to, which is what a checkpoint does.
fn modified(db: &Path) -> SystemTime {
    let metadata = std::fs::metadata(db).expect("the file");
    metadata.modified().expect("a time")
}

#[test]
fn a_kill_while_the_file_is_made_leaves_one_that_opens() {
    let mut random = SmallRng::seed_from_u64(seed());
    for _ in 0..10 {
        let folder = TempDir::new().expect("a temporary folder");
        let db = folder.path().join("test.db").display().to_string();
        let arguments = ["serve", "--db", &db, "--listen", "127.0.0.1:0"];
        let after = Duration::from_micros(random.random_range(0..40_000));
        run_and_kill(folder.path(), &arguments, after);
        let server = Server::start_in(folder, &arguments, &[]);
        let mut client = server.connect();
        client.set_spec("{'name': 'ws'}");
        client.add("ws", "['a', {}]");
        file::check(&file::open(&server.db()), &mut client);
    }
}
