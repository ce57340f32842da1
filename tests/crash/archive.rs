//! The same promise while completed units are archived: each unit is counted once, be it there or not.

use crate::file;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use test_support::{Client, Reply, Server, diag, frame, reply, unframe, wait_until};

const PARTIES: usize = 3;
const UNITS_AT_ONCE: u64 = 20;
/// What the daemon keeps of each work spec.
const KEPT: u64 = 30;

/// A connection with a work spec of its own, to which it adds units and has them finished.
struct Party {
    spec: String,
    /// The number in the next unit's key.
    next: u64,
    /// Units whose finish was answered.
    finished: u64,
    /// Units that were to be added and finished, which was not answered yet.
    unanswered: u64,
}

impl Party {
    /// Goes on until the connection ends.
    fn work(&mut self, server: &Server, rounds: &AtomicU64) {
        let mut client = server.connect();
        while self.finish_some(&mut client).is_some() {
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends three requests at once, and takes their answers. `None` if the connection ended.
    fn finish_some(&mut self, client: &mut Client) -> Option<()> {
        let numbers = self.next..self.next + UNITS_AT_ONCE;
        self.next = numbers.end;
        let list = |form: &dyn Fn(u64) -> String| -> String {
            let items: Vec<String> = numbers.clone().map(form).collect();
            format!("['{}', [{}]]", self.spec, items.join(", "))
        };
        let add = list(&|n| format!("['u{n}', {{'n': {n}}}]"));
        let update = list(&|n| format!("['u{n}', {{'status': 4, 'data': {{'done': {n}}}}}]"));
        let mut bytes = Vec::new();
        for (method, params) in [
            ("add_work_units", add.as_str()),
            ("update_work_units", &update),
            ("archive", "[{}]"),
        ] {
            bytes.extend(frame(&client.envelope(method, diag(params))));
        }
        self.unanswered = UNITS_AT_ONCE;
        client.try_send(&bytes).ok()?;
        for request in 0..3 {
            let answer = unframe(&client.next_frame().ok().flatten()?);
            assert!(matches!(reply(&answer), Reply::Result(_)), "{answer}");
            if request == 1 {
                self.finished += std::mem::take(&mut self.unanswered);
            }
        }
        Some(())
    }
}

#[test]
fn kill_9_while_units_are_archived_leaves_each_of_them_counted_once() {
    let mut random = SmallRng::seed_from_u64(super::seed());
    let kept = KEPT.to_string();
    let mut server = Server::start_with(&["--limit-completed-count", &kept]);
    let mut parties: Vec<Party> = (0..PARTIES)
        .map(|number| Party {
            spec: format!("own-{number}"),
            next: 0,
            finished: 0,
            unanswered: 0,
        })
        .collect();
    for party in &parties {
        let definition = format!("{{'name': '{}'}}", party.spec);
        server.connect().set_spec(&definition);
    }
    let rounds = AtomicU64::new(0);
    for _ in 0..super::from_environment("COORDINATED_CRASH_KILLS").unwrap_or(10) {
        let enough = rounds.load(Ordering::Relaxed) + random.random_range(5..40);
        std::thread::scope(|scope| {
            for party in &mut parties {
                scope.spawn(|| party.work(&server, &rounds));
            }
            wait_until("there was load enough", || {
                rounds.load(Ordering::Relaxed) >= enough
            });
            std::thread::sleep(Duration::from_micros(random.random_range(0..5_000)));
            server.signal(libc::SIGKILL);
        });
        server.wait();
        server.start_again();
        let mut client = server.connect();
        for party in &mut parties {
            let counts = client.counts(&party.spec);
            let of = |status| counts.get(&status).copied().unwrap_or(0);
            let (available, finished) = (of(1), of(4));
            let (spec, answered, unanswered) = (&party.spec, party.finished, party.unanswered);
            let possible = [
                (0, answered),
                (unanswered, answered),
                (0, answered + unanswered),
            ];
            assert!(
                possible.contains(&(available, finished)),
                "{spec}: {available} available, {finished} finished, not one of {possible:?}"
            );
            // What was added and not finished is finished now, so that all are again.
            for key in client.keys(spec, "{'state': 1, 'limit': 1000}") {
                client.updated(spec, &key, "{'status': 4}");
            }
            (party.finished, party.unanswered) = (finished + available, 0);
        }
        client.call("archive", "");
        let file = file::open(&server.db());
        file::check(&file, &mut client);
        for party in &parties {
            let archived = file::archived(&file, &party.spec).get(&4).copied();
            assert_eq!(
                client.keys(&party.spec, "{'limit': 1000}").len() as u64,
                KEPT.min(party.finished),
                "what is left of {}",
                party.spec
            );
            let expected = party.finished.saturating_sub(KEPT);
            assert_eq!(
                archived.unwrap_or(0),
                expected,
                "archived of {}",
                party.spec
            );
        }
    }
}
