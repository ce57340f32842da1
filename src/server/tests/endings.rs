//! How connections and the server end.

use super::super::ServiceManager;
use super::*;
use std::net::Shutdown;

#[test]
fn what_can_t_be_read_is_refused_after_the_answers_before_it() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(&[&message("one")[..], b"\x01", &message("unseen")].concat());
    assert_eq!(client.receive(), "1 one");
    assert!(client.receive().starts_with("refused: expected a request"));
    assert_eq!(client.end(), Ok(()));
    assert!(!server.handled_by_now().contains(&"unseen".to_owned()));
    server.stop().unwrap();
}

#[test]
fn what_the_service_can_t_read_is_refused_after_the_answers_before_it() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(&[message("one"), message("nonsense"), message("unseen")].concat());
    assert_eq!(client.receive(), "1 one");
    assert!(client.receive().starts_with("refused: expected a request"));
    assert_eq!(client.end(), Ok(()));
    assert!(!server.handled_by_now().contains(&"unseen".to_owned()));
    server.stop().unwrap();
}

#[test]
fn a_message_that_is_too_large_is_refused_though_the_peer_is_still_sending_it() {
    let mut limits = Limits::default();
    limits.frame.message_bytes_max = 1000;
    let server = start(limits);
    let mut client = server.connect();
    // More than the systems' buffers hold: the server has to take it for the refusal to be read.
    client.send(&"w".repeat(30 << 20));
    assert!(
        client
            .receive()
            .starts_with("refused: message of more than 1000 bytes")
    );
    assert_eq!(client.end(), Ok(()));
    server.stop().unwrap();
}

#[test]
fn a_claimed_length_is_refused_before_it_has_come() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(b"\xd8\x18\x5b\x40\0\0\0\0\0\0\0");
    assert!(client.receive().starts_with("refused"));
    server.stop().unwrap();
}

#[test]
fn a_refused_peer_that_goes_on_sending_is_closed_all_the_same() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(b"\x01");
    assert!(client.receive().starts_with("refused"));
    assert_eq!(client.end(), Ok(()));
    let error = (0..).find_map(|_| {
        thread::yield_now();
        client.0.write_all(&[0; 1000]).err()
    });
    assert!(error.is_some());
    server.stop().unwrap();
}

#[test]
fn who_asks_for_the_end_gets_it_after_the_answers() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(&[message("one"), message("close"), message("unseen")].concat());
    assert_eq!(client.receive(), "1 one");
    assert_eq!(client.end(), Ok(()));
    assert!(!server.handled_by_now().contains(&"unseen".to_owned()));
    server.stop().unwrap();
}

#[test]
fn half_a_message_at_the_end_is_dropped_without_an_answer() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(&message("half")[..10]);
    client.0.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.end(), Ok(()));
    assert_eq!(server.handled_by_now(), Vec::<String>::new());
    server.stop().unwrap();
}

#[test]
fn messages_that_came_whole_before_a_reset_are_handled() {
    let server = start(Limits::default());
    let mut client = server.connect();
    assert_eq!(client.ask("hello"), "1 hello");
    client.send_bytes(&[message("one"), message("two"), message("three")].concat());
    super::reset(client);
    server.wait_for("three");
    server.stop().unwrap();
}

#[test]
fn a_stop_answers_what_was_received_and_then_resets_everybody() {
    let server = start(Limits::default());
    let mut idle = server.connect();
    assert_eq!(idle.ask("hello"), "1 hello");
    let mut busy = server.connect();
    busy.send_bytes(&[message("one"), message("later two"), message("three")].concat());
    assert_eq!(busy.receive(), "1 one");
    server.begin_to_stop();
    server.gate.send(()).unwrap();
    server.stop().unwrap();
    assert_eq!(busy.receive(), "later two");
    assert_eq!(busy.receive(), "3 three");
    for client in [&mut idle, &mut busy] {
        assert_eq!(client.end(), Err(io::ErrorKind::ConnectionReset));
    }
}

#[test]
fn a_stop_reads_and_answers_what_has_come_since_the_last_turn() {
    let server = start(Limits::default());
    let mut client = server.connect();
    assert_eq!(client.ask("one"), "1 one");
    let mut holder = server.connect();
    holder.send("hold on");
    server.wait_for("hold on");
    // A loopback write is in the server's receive buffer when it returns.
    client.send_bytes(&[&message("two")[..], &message("half")[..9]].concat());
    server.stopper.stop().unwrap();
    server.gate.send(()).unwrap();
    server.stop().unwrap();
    assert_eq!(holder.receive(), "hold on");
    assert_eq!(client.receive(), "2 two");
    assert_eq!(client.end(), Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn a_stop_resets_nobody_before_the_answer_has_arrived() {
    let server = start(Limits::default());
    let mut client = server.connect_with_small_buffer();
    // The server's system takes this at once, the client's can't yet.
    client.send("big 200000");
    server.wait_for("big 200000");
    server.begin_to_stop();
    assert_eq!(client.receive().len(), 200_000);
    assert_eq!(client.end(), Err(io::ErrorKind::ConnectionReset));
    server.stop().unwrap();
}

#[test]
fn a_stop_sends_an_answer_whole_to_who_is_reading_it() {
    let server = start(Limits::default());
    let mut client = server.connect();
    let size = 40 << 20;
    client.send(&format!("big {size}"));
    server.wait_for(&format!("big {size}"));
    server.stopper.stop().unwrap();
    assert_eq!(client.receive().len(), size);
    assert_eq!(client.end(), Err(io::ErrorKind::ConnectionReset));
    server.stop().unwrap();
}

#[test]
fn a_commit_with_an_unknown_outcome_is_answered_and_ends_the_server_with_an_error() {
    let mut server = start(Limits::default());
    let mut client = server.connect();
    let mut idle = server.connect();
    assert_eq!(idle.ask("hello"), "1 hello");
    client.send_bytes(&[message("one"), message("break"), message("two")].concat());
    assert_eq!(client.receive(), "1 one: outcome unknown: broken");
    assert_eq!(client.receive(), "break: outcome unknown: broken");
    assert_eq!(client.receive(), "3 two: outcome unknown: broken");
    assert!(matches!(
        server.ended(),
        Err(ServerError::OutcomeUnknown(_))
    ));
    assert_eq!(client.end(), Err(io::ErrorKind::ConnectionReset));
    assert_eq!(idle.end(), Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn a_tick_with_an_unknown_outcome_ends_the_server_with_an_error() {
    let mut server = start_with(Limits::default(), |puppet| {
        puppet.tick_pause = Duration::from_millis(1);
    });
    assert_eq!(server.connect().ask("doom"), "doom");
    assert!(matches!(
        server.ended(),
        Err(ServerError::OutcomeUnknown(_))
    ));
}

#[test]
fn a_stop_before_the_start_ends_at_once() {
    let server = Server::bind(
        &["127.0.0.1:0".parse().unwrap()],
        Admission::default(),
        Limits::default(),
        None,
    )
    .unwrap();
    server.stopper().stop().unwrap();
    run(server, |_| {}).ended().unwrap();
}

#[test]
fn a_signal_to_stop_is_a_clean_stop_and_a_hang_up_is_nothing() {
    let mut server = Server::bind(
        &["127.0.0.1:0".parse().unwrap()],
        Admission::default(),
        Limits::default(),
        None,
    )
    .unwrap();
    server.handle_signals().unwrap();
    let mut server = run(server, |_| {});
    let mut client = server.connect();
    signal_hook::low_level::raise(signal_hook::consts::SIGHUP).unwrap();
    assert_eq!(client.ask("hello"), "1 hello");
    signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
    server.ended().unwrap();
    assert_eq!(client.end(), Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn a_loop_that_hangs_is_not_heard_from() {
    let (manager, socket) = std::os::unix::net::UnixDatagram::pair().unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let mut server =
        Server::bind(&[listen], Admission::default(), Limits::default(), None).unwrap();
    let interval = Duration::from_millis(10);
    server.notify(ServiceManager::at(socket, interval));
    let server = run(server, |_| {});
    let next = || {
        let mut message = [0; 100];
        let length = manager.recv(&mut message)?;
        io::Result::Ok(String::from_utf8_lossy(&message[..length]).into_owned())
    };
    assert!(next().unwrap().starts_with("READY=1"));
    assert_eq!(next().unwrap(), "WATCHDOG=1\n");
    let mut client = server.connect();
    client.send("hold on");
    server.wait_for("hold on");
    // What was told before it hung.
    manager.set_nonblocking(true).unwrap();
    while next().is_ok() {}
    manager.set_nonblocking(false).unwrap();
    manager.set_read_timeout(Some(25 * interval)).unwrap();
    assert!(next().is_err(), "nothing else may speak for it");
    server.gate.send(()).unwrap();
    assert_eq!(client.receive(), "hold on");
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(next().unwrap(), "WATCHDOG=1\n");
}
