//! Messages and their answers.

use super::*;
use std::net::Shutdown;
use std::time::Instant;

#[test]
fn a_message_is_answered_when_its_last_byte_has_come_in_whatever_pieces() {
    let server = start(Limits::default());
    let mut client = server.connect();
    let bytes = message("hello");
    for cut in 0..bytes.len() {
        client.send_bytes(&bytes[..cut]);
        // Another connection's answer shows that the first piece has been looked at.
        server.connect().ask("look");
        client.send_bytes(&bytes[cut..]);
        assert_eq!(client.receive(), format!("{} hello", cut + 1));
    }
    server.stop().unwrap();
}

#[test]
fn messages_that_come_a_byte_at_a_time_are_answered_in_order() {
    let server = start(Limits::default());
    let mut client = server.connect();
    for text in ["one", "two"] {
        for byte in message(text) {
            client.send_bytes(&[byte]);
        }
    }
    assert_eq!(client.receive(), "1 one");
    assert_eq!(client.receive(), "2 two");
    server.stop().unwrap();
}

#[test]
fn pipelined_messages_are_answered_in_order_also_beyond_a_turn() {
    let server = start(Limits::default());
    let mut client = server.connect();
    let count = 20 * crate::server::limits::MESSAGES_PER_TURN;
    let bytes: Vec<u8> = (1..=count)
        .flat_map(|number| message(&number.to_string()))
        .collect();
    client.send_bytes(&bytes);
    for number in 1..=count {
        assert_eq!(client.receive(), format!("{number} {number}"));
    }
    server.stop().unwrap();
}

#[test]
fn a_message_larger_than_what_a_turn_reads_comes_through_between_others() {
    let server = start(Limits::default());
    let mut client = server.connect();
    let long = "y".repeat(5 * crate::server::limits::READ_BYTES_PER_TURN + 7);
    client.send_bytes(&[message("before"), message(&long), message("after")].concat());
    assert_eq!(client.receive(), "1 before");
    assert_eq!(client.receive(), format!("2 {long}"));
    assert_eq!(client.receive(), "3 after");
    server.stop().unwrap();
}

#[test]
fn a_peer_that_closes_its_side_still_gets_every_answer_and_then_the_end() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(&[message("one"), message("later two"), message("three")].concat());
    client.send_bytes(&message("half")[..9]);
    client.0.shutdown(Shutdown::Write).unwrap();
    server.gate.send(()).unwrap();
    assert_eq!(client.receive(), "1 one");
    assert_eq!(client.receive(), "later two");
    assert_eq!(client.receive(), "3 three");
    assert_eq!(client.end(), Ok(()));
    server.stop().unwrap();
}

#[test]
fn a_long_read_keeps_its_place_and_does_not_hold_up_other_connections() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(&[message("one"), message("later two"), message("three")].concat());
    assert_eq!(client.receive(), "1 one");
    let mut other = server.connect();
    for number in 1..=10 {
        assert_eq!(other.ask("meanwhile"), format!("{number} meanwhile"));
    }
    assert!(!server.handled_by_now().contains(&"three".to_owned()));
    server.gate.send(()).unwrap();
    assert_eq!(client.receive(), "later two");
    assert_eq!(client.receive(), "3 three");
    server.stop().unwrap();
}

#[test]
fn a_long_read_of_a_connection_that_has_closed_is_answered_to_nobody() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send("later for nobody");
    server.wait_for("later for nobody");
    super::reset(client);
    // The next ones may be given the same place in the table.
    let mut others: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for other in &mut others {
        assert_eq!(other.ask("hello"), "1 hello");
    }
    server.gate.send(()).unwrap();
    for other in &mut others {
        assert_eq!(other.ask("again"), "2 again");
    }
    server.stop().unwrap();
}

#[test]
fn a_long_read_that_panics_ends_its_connection_and_nothing_else() {
    let server = start(Limits::default());
    let mut client = server.connect();
    for _ in 0..5 {
        let mut unlucky = server.connect();
        unlucky.send("panic");
        assert_eq!(unlucky.end(), Err(io::ErrorKind::ConnectionReset));
    }
    server.gate.send(()).unwrap();
    assert_eq!(client.ask("later all is well"), "later all is well");
    server.stop().unwrap();
}

#[test]
fn messages_that_are_there_together_share_a_commit() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(&[message("one"), message("two"), message("three")].concat());
    server.wait_for("three");
    assert_eq!(server.next_told(), Told::Committed(3));
    server.stop().unwrap();
}

#[test]
fn a_full_batch_commits_before_the_next_message_is_handled() {
    let server = start_with(Limits::default(), |puppet| puppet.batch_max = 2);
    let mut client = server.connect();
    client.send_bytes(&[message("1"), message("2"), message("3")].concat());
    server.wait_for("2");
    assert_eq!(server.next_told(), Told::Committed(2));
    assert_eq!(server.next_told(), Told::Handled("3".to_owned()));
    assert_eq!(server.next_told(), Told::Committed(1));
    server.stop().unwrap();
}

#[test]
fn a_batch_that_was_rolled_back_answers_errors_and_the_next_one_stands() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send_bytes(&[message("good"), message("fail")].concat());
    assert_eq!(client.receive(), "1 good: nothing was changed: full");
    assert_eq!(client.receive(), "fail: nothing was changed: full");
    assert_eq!(client.ask("next"), "3 next");
    server.stop().unwrap();
}

#[test]
fn who_pipelines_a_thousand_messages_does_not_starve_who_sends_one() {
    let server = start_with(Limits::default(), |puppet| puppet.batch_max = 4);
    let mut greedy = server.connect();
    let mut modest = server.connect();
    assert_eq!(greedy.ask("hello"), "1 hello");
    assert_eq!(modest.ask("hello"), "1 hello");
    let mut holder = server.connect();
    holder.send("hold on");
    server.wait_for("hold on");
    greedy.send_bytes(&message("more").repeat(1000));
    modest.send("and I");
    server.gate.send(()).unwrap();
    assert_eq!(modest.receive(), "2 and I");
    server.wait_for("more");
    for _ in 0..10 {
        if server.next_told() == Told::Handled("and I".to_owned()) {
            server.stop().unwrap();
            return;
        }
    }
    panic!("not among the first to be handled");
}

#[test]
fn what_is_due_is_done_when_it_is_due_though_nobody_sends_anything() {
    let server = start_with(Limits::default(), |puppet| {
        puppet.tick_pause = Duration::from_millis(1);
    });
    for _ in 0..5 {
        assert_eq!(server.told.recv_timeout(PATIENCE), Ok(Told::Ticked));
    }
    server.stop().unwrap();
}

/// What has failed is still due, so the loop could try it again without a pause.
#[test]
fn what_is_due_and_fails_is_tried_again_after_a_second() {
    let begin = Instant::now();
    let server = start_with(Limits::default(), |puppet| {
        puppet.due = Some(Timestamp(0));
        puppet.tick_failure = Some(BatchError::RolledBack("full".to_owned()));
    });
    let tick = || while server.told.recv_timeout(PATIENCE).unwrap() != Told::Ticked {};
    tick();
    // Nor is it tried earlier because of a message.
    server.connect().ask("hello");
    tick();
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(900), "{took:?}");
    server.stop().unwrap();
}

#[test]
fn each_connection_has_a_session_of_its_own() {
    let server = start(Limits::default());
    let (mut first, mut second) = (server.connect(), server.connect());
    assert_eq!(first.ask("a"), "1 a");
    assert_eq!(first.ask("a"), "2 a");
    assert_eq!(second.ask("b"), "1 b");
    server.stop().unwrap();
}

#[test]
fn a_unix_socket_serves_like_a_port_and_its_file_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listen = format!("unix:{}", path.display()).parse().unwrap();
    let server = run(
        Server::bind(&[listen], Admission::default(), Limits::default(), None).unwrap(),
        |_| {},
    );
    let mut client = unix_client(&path);
    assert_eq!(client.ask("hello"), "1 hello");
    client.send("later on");
    server.wait_for("later on");
    server.gate.send(()).unwrap();
    server.stop().unwrap();
    assert_eq!(client.receive(), "later on");
    assert_eq!(client.end(), Ok(()));
    assert!(!path.exists());
}

#[test]
fn between_the_steps_of_a_message_each_is_committed_and_others_are_answered() {
    let server = start(Limits::default());
    let mut other = server.connect();
    let mut client = server.connect();
    client.ask("both are there");
    other.ask("both are there");
    // What comes while the loop is held up waits for its turn together.
    let mut holder = server.connect();
    holder.send_bytes(&message("hold"));
    server.wait_for("hold");
    client.send_bytes(&[message("steps 3"), message("behind")].concat());
    let count = 2 * crate::server::limits::MESSAGES_PER_TURN;
    let many: Vec<u8> = (0..count).flat_map(|_| message("other")).collect();
    other.send_bytes(&many);
    server.gate.send(()).unwrap();
    assert_eq!(client.receive(), "steps 3");
    assert_eq!(
        client.receive(),
        "6 behind",
        "it was handled once, after the fourth step"
    );
    let mut steps_in_batches = vec![0];
    for told in server.told.try_iter() {
        match told {
            Told::Handled(text) if text == "steps 3" => *steps_in_batches.last_mut().unwrap() += 1,
            Told::Committed(_) => steps_in_batches.push(0),
            _ => {}
        }
    }
    steps_in_batches.retain(|steps| *steps > 0);
    assert_eq!(steps_in_batches, [1; 4]);
    server.stop().unwrap();
}
