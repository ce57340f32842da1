//! Workers and the daemon are killed at random while units run.
//!
//! COORDINATED_STORM_UNITS=5000 makes it a long one; COORDINATED_STORM_SEED repeats one, as far as processes can be
//! repeated.

use super::{Running, contents, work_on_all};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;
use test_support::{FINISHED, Server};

const UNITS: u64 = 500;
const WORKERS: usize = 2;

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// Starts a worker whose name will not come again.
fn start(server: &Server, name: &str) -> Running {
    let script = "sleep 0.01; echo \"$1\" >> ran";
    let worker = [
        "--worker",
        name,
        "--lease",
        "5s",
        "-j",
        "2",
        "--spec",
        "ws",
        "--until-empty",
    ];
    let command = ["--", "sh", "-c", script, "sh", "{key}"];
    Running::start(server, &[&worker[..], &command].concat())
}

#[test]
fn whatever_is_killed_all_units_are_finished_and_the_undisturbed_ones_are_run_once() {
    let seed = from_environment("COORDINATED_STORM_SEED").unwrap_or_else(rand::random);
    let units = from_environment("COORDINATED_STORM_UNITS").unwrap_or(UNITS);
    println!("COORDINATED_STORM_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::start_with(&["--lease-grace", "1s"]);
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    let keys: BTreeSet<String> = (0..units).map(|n| format!("{n:05}")).collect();
    let items: Vec<String> = keys.iter().map(|key| format!("['{key}', {{}}]")).collect();
    client.add("ws", &items.join(","));

    let mut killed = BTreeSet::new();
    let mut kills_of_daemon = 0;
    let mut started = 0;
    let mut name = || {
        started += 1;
        format!("worker-{started}")
    };
    let mut workers: Vec<(String, Running)> = Vec::new();
    for _ in 0..WORKERS {
        let name = name();
        workers.push((name.clone(), start(&server, &name)));
    }
    // Before the last ones the storm is over, so that something can be waited for.
    while contents(&server, "ran").lines().count() < (units * 9 / 10) as usize {
        thread::sleep(Duration::from_millis(random.random_range(50..500)));
        if random.random_bool(0.3) {
            server.kill();
            thread::sleep(Duration::from_millis(random.random_range(0..200)));
            server.start_again();
            kills_of_daemon += 1;
        } else {
            let chosen = random.random_range(0..WORKERS);
            let (old, mut worker) = workers.swap_remove(chosen);
            if !worker.has_ended() {
                worker.signal(libc::SIGKILL);
                worker.end();
                killed.insert(old);
            }
            let name = name();
            workers.push((name.clone(), start(&server, &name)));
        }
    }
    for (name, mut worker) in workers {
        let status = worker.end();
        assert_eq!(status.code(), Some(0), "{name}: {}", worker.said());
    }
    // There may have been none at the very end.
    work_on_all(&server, &[], &["exit 0"]);

    assert_eq!(server.connect().counts("ws"), [(FINISHED, units)].into());
    let mut runs: BTreeMap<&str, u64> = BTreeMap::new();
    let ran = contents(&server, "ran");
    for key in ran.lines() {
        *runs.entry(key).or_default() += 1;
    }
    let unfinished = unfinished_attempts(&server);
    let mut disturbed = 0;
    for key in &keys {
        let count = runs.get(key.as_str()).copied().unwrap_or(0);
        let workers = unfinished.get(key).map_or(&[][..], Vec::as_slice);
        assert!(count >= 1, "{key} was never run: {workers:?}");
        // If the daemon was killed, the answer to a get_work may have gone with it: then nobody ran the unit.
        if workers.iter().any(|worker| killed.contains(worker)) {
            disturbed += 1;
        } else {
            assert_eq!(count, 1, "{key} was not disturbed: {workers:?}");
        }
    }
    println!(
        "{} workers and {kills_of_daemon} daemons were killed; {disturbed} of {units} units were disturbed, {} run \
         again",
        killed.len(),
        runs.values().filter(|count| **count > 1).count()
    );
}

/// By unit, the workers that had it and did not finish it.
fn unfinished_attempts(server: &Server) -> BTreeMap<String, Vec<String>> {
    let file = rusqlite::Connection::open(server.db()).expect("open");
    let query = "SELECT CAST(unit AS TEXT), CAST(worker AS TEXT) FROM attempts_log WHERE status <> 'finished'";
    let mut statement = file.prepare(query).expect("prepare");
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)));
    let mut attempts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows.expect("query") {
        let (unit, worker) = row.expect("a row");
        attempts.entry(unit).or_default().push(worker);
    }
    attempts
}
