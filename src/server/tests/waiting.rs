//! Messages that wait until the service can write.

use super::*;

/// A server that can't write while the flag is set, which it is.
fn start_locked(write_wait_max: Duration) -> (Running, Arc<AtomicBool>) {
    let is_locked = Arc::new(AtomicBool::new(true));
    let of_puppet = Arc::clone(&is_locked);
    let limits = Limits {
        write_wait_max,
        ..Limits::default()
    };
    let server = start_with(limits, |puppet| puppet.is_locked = of_puppet);
    (server, is_locked)
}

#[test]
fn a_message_that_waits_keeps_its_place_and_holds_nobody_else_up() {
    let (server, is_locked) = start_locked(PATIENCE);
    let mut client = server.connect();
    client.send_bytes(&[message("one"), message("write two"), message("three")].concat());
    assert_eq!(client.receive(), "1 one");
    server.wait_for("write two");
    let mut other = server.connect();
    for number in 1..=10 {
        assert_eq!(other.ask("meanwhile"), format!("{number} meanwhile"));
        // Neither does what comes on its own connection let it be handled before its time.
        client.send("behind");
    }
    assert_eq!(server.handled_by_now(), vec!["meanwhile"; 10]);
    is_locked.store(false, Ordering::SeqCst);
    assert_eq!(client.receive(), "3 write two");
    assert_eq!(client.receive(), "4 three");
    assert_eq!(client.receive(), "5 behind");
    server.stop().unwrap();
}

#[test]
fn all_that_wait_fail_in_one_turn_when_the_first_has_waited_for_long_enough() {
    let (server, _) = start_locked(Duration::from_millis(50));
    let mut holder = server.connect();
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    holder.send("hold on");
    server.wait_for("hold on");
    for client in &mut clients {
        client.send("write");
    }
    server.gate.send(()).unwrap();
    for client in &mut clients {
        assert_eq!(client.receive(), "locked");
    }
    let told: Vec<Told> = server.told.try_iter().collect();
    let write = || Told::Handled("write".to_owned());
    let turns: Vec<_> = told
        .split(|told| *told != write())
        .map(<[Told]>::len)
        .filter(|handled| *handled > 0)
        .collect();
    assert_eq!(turns, [8, 8], "each is handled twice: {told:?}");
    // Who comes later has time of its own.
    assert_eq!(clients[0].ask("write"), "locked");
    let told: Vec<Told> = server.told.try_iter().collect();
    let handled = told.iter().filter(|told| **told == write()).count();
    assert_eq!(handled, 2, "{told:?}");
    server.stop().unwrap();
}

#[test]
fn a_peer_that_goes_away_while_its_message_waits_does_no_harm() {
    let (server, is_locked) = start_locked(PATIENCE);
    let mut client = server.connect();
    client.send("write for nobody");
    server.wait_for("write for nobody");
    super::reset(client);
    let mut other = server.connect();
    other.send("write");
    server.wait_for("write");
    is_locked.store(false, Ordering::SeqCst);
    assert!(other.receive().ends_with(" write"));
    server.stop().unwrap();
}

#[test]
fn a_stop_lets_no_message_wait_for_long_and_answers_it() {
    let (server, _) = start_locked(PATIENCE);
    let mut client = server.connect();
    client.send("write");
    server.wait_for("write");
    server.stop().unwrap();
    assert_eq!(client.receive(), "locked");
    assert_eq!(client.end(), Err(io::ErrorKind::ConnectionReset));
}
