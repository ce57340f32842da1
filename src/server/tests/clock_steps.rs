//! How the loop follows a wall clock that is set.

use super::*;

const TWO_HOURS_BACK: ClockStep = ClockStep(-7_200_000_000);

impl Running {
    fn set_clock(&self, step: ClockStep) {
        self.clock_set_by.store(step.0, Ordering::Release);
    }

    /// How often times were to be moved by now, and by how much.
    fn moves_by_now(&self) -> Vec<ClockStep> {
        let moves = |told| match told {
            Told::Moved(step) => Some(step),
            _ => None,
        };
        self.told.try_iter().filter_map(moves).collect()
    }
}

fn time(client: &mut Client<TcpStream>) -> f64 {
    client.ask("when").parse().unwrap()
}

#[test]
fn when_the_clock_is_set_times_are_moved_once_and_messages_see_the_new_time() {
    let server = start(Limits::default());
    let mut client = server.connect();
    let before = time(&mut client);
    server.set_clock(TWO_HOURS_BACK);
    for _ in 0..3 {
        let since = time(&mut client) - before;
        assert!((-7_200.0..-7_100.0).contains(&since), "{since}");
    }
    assert_eq!(server.moves_by_now(), [TWO_HOURS_BACK]);
    server.stop().unwrap();
}

#[test]
fn what_is_due_is_done_as_often_as_before_after_the_clock_was_set_back() {
    let server = start_with(Limits::default(), |puppet| {
        puppet.tick_pause = Duration::from_millis(20);
    });
    server.set_clock(TWO_HOURS_BACK);
    while server.told.recv_timeout(PATIENCE).unwrap() != Told::Moved(TWO_HOURS_BACK) {}
    for _ in 0..3 {
        let told = server.told.recv_timeout(PATIENCE);
        assert_eq!(told, Ok(Told::Ticked));
    }
    server.stop().unwrap();
}

#[test]
fn a_clock_whose_times_could_not_be_moved_is_not_set_until_they_can() {
    let server = start_with(Limits::default(), |puppet| {
        puppet.move_failure = Some(BatchError::RolledBack("full".to_owned()));
    });
    let mut client = server.connect();
    let before = time(&mut client);
    server.set_clock(TWO_HOURS_BACK);
    let unmoved = (0..3).map(|_| time(&mut client) - before);
    let unmoved: Vec<f64> = unmoved.collect();
    assert!(unmoved[0] >= 0.0, "{unmoved:?}");
    while time(&mut client) > before {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.moves_by_now(), [TWO_HOURS_BACK; 2]);
    server.stop().unwrap();
}

#[test]
fn an_unknown_outcome_of_moving_times_ends_the_loop() {
    let mut server = start_with(Limits::default(), |puppet| {
        puppet.move_failure = Some(BatchError::Unknown("broken".to_owned()));
    });
    let mut client = server.connect();
    server.set_clock(TWO_HOURS_BACK);
    // Only to wake the loop: awake for another reason, it has ended before this arrives.
    let _ = client.0.write_all(&message("wake up"));
    assert!(matches!(
        server.ended(),
        Err(ServerError::OutcomeUnknown(reason)) if reason == "broken"
    ));
}
