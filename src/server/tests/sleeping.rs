//! Messages that sleep until something happens in the service.

use super::*;
use std::net::Shutdown;

/// Waits until this many messages sleep.
fn wait_for_sleepers(server: &Running, count: usize) {
    for _ in 0..count {
        while !server.next_handled().starts_with("sleep") {}
    }
}

#[test]
fn a_message_that_sleeps_keeps_its_place_and_holds_nobody_else_up() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(&[message("one"), message("sleep"), message("three")].concat());
    assert_eq!(client.receive(), "1 one");
    wait_for_sleepers(&server, 1);
    let mut other = server.connect();
    for number in 1..=10 {
        assert_eq!(other.ask("meanwhile"), format!("{number} meanwhile"));
        client.send("behind");
    }
    assert_eq!(server.handled_by_now(), vec!["meanwhile"; 10]);
    other.send("wake 1");
    assert_eq!(client.receive(), "3 sleep");
    assert_eq!(client.receive(), "4 three");
    assert_eq!(client.receive(), "5 behind");
    server.stop().unwrap();
}

#[test]
fn those_that_are_woken_come_next_in_the_order_of_the_service_and_in_the_same_batch() {
    let server = start(Limits::default());
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("sleep");
        wait_for_sleepers(&server, 1);
    }
    while server.next_told() != Told::Committed(1) {}
    let mut other = server.connect();
    other.send_bytes(&[message("wake 2"), message("behind")].concat());
    let mut told = Vec::new();
    while told.last() != Some(&Told::Handled("behind".to_owned())) {
        told.push(server.next_told());
    }
    let handled = |text: &str| Told::Handled(text.to_owned());
    let expected = [
        handled("wake 2"),
        handled("sleep"),
        handled("sleep"),
        handled("behind"),
    ];
    assert!(told.ends_with(&expected), "{told:?}");
    for client in &mut clients[..2] {
        assert_eq!(client.receive(), "2 sleep");
    }
    // One that sleeps again keeps sleeping.
    assert_eq!(server.next_told(), Told::Committed(4));
    server.stop().unwrap();
    assert_eq!(clients[2].receive(), "over");
}

#[test]
fn a_peer_that_closes_its_side_gets_its_answer_and_one_that_goes_away_is_forgotten() {
    let server = start(Limits::default());
    let mut half_closed = server.connect();
    let mut gone = server.connect();
    half_closed.send("sleep");
    wait_for_sleepers(&server, 1);
    gone.send("sleep for nobody");
    wait_for_sleepers(&server, 1);
    half_closed.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(half_closed.receive(), "over");
    half_closed.end().unwrap();
    super::reset(gone);
    while server.next_told() != Told::Handled("sleep for nobody".to_owned()) {}
    let mut other = server.connect();
    assert_eq!(other.ask("wake 9"), "1 wake 9");
    server.stop().unwrap();
}

#[test]
fn a_peer_that_has_closed_its_side_before_does_not_sleep_at_all() {
    let server = start(Limits::default());
    let mut holder = server.connect();
    holder.send("hold on");
    server.wait_for("hold on");
    let mut client = server.connect();
    client.send("sleep");
    client.0.shutdown(Shutdown::Write).unwrap();
    server.gate.send(()).unwrap();
    assert_eq!(client.receive(), "over");
    client.end().unwrap();
    server.stop().unwrap();
}

#[test]
fn a_message_wakes_up_at_its_time() {
    let server = start(Limits::default());
    let mut client = server.connect();
    let began = std::time::Instant::now();
    assert_eq!(client.ask("sleep 200"), "2 sleep 200");
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(200) && took < PATIENCE,
        "{took:?}"
    );
    server.stop().unwrap();
}

#[test]
fn a_stop_lets_no_message_sleep_and_answers_it() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send("sleep");
    wait_for_sleepers(&server, 1);
    client.send("sleep too");
    server.stop().unwrap();
    assert_eq!(client.receive(), "over");
    assert_eq!(client.receive(), "over");
    assert_eq!(client.end(), Err(io::ErrorKind::ConnectionReset));
}
