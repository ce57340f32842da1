//! Peers that take more than their share: the limits.

use super::*;
use crate::server::limits::IDLE_BUFFER_BYTES;

const MIB: usize = 1 << 20;

/// Far more answers than the buffers of two systems and the server hold together.
const MANY: usize = 200;

fn small_limits() -> Limits {
    Limits {
        unsent_bytes_max: MIB,
        ..Limits::default()
    }
}

/// Lets a client ask for `MANY` MiB without reading, then another one be served: at each of its
/// answers the slow one could have been given another four. Gives the slow one back when it has
/// taken everything after all.
fn one_is_slow(server: &Running) -> Client<TcpStream> {
    let mut slow = server.connect();
    let ask = message(&format!("big {MIB}"));
    slow.send_bytes(&ask.repeat(MANY));
    let mut quick = server.connect();
    for number in 1..=MANY {
        assert_eq!(quick.ask("quick"), format!("{number} quick"));
    }
    let big = server
        .handled_by_now()
        .iter()
        .filter(|text| text.starts_with("big"))
        .count();
    assert!(
        big < MANY / 2,
        "{big} MiB were made for a peer that reads nothing"
    );
    for _ in 0..MANY {
        assert_eq!(slow.receive().len(), MIB);
    }
    slow
}

#[test]
fn who_takes_no_answers_is_not_read_from_while_others_go_on_and_nothing_is_lost() {
    let server = start_with(small_limits(), |puppet| puppet.batch_max = 4);
    let mut slow = one_is_slow(&server);
    assert_eq!(slow.ask("now"), format!("{} now", MANY + 1));
    server.stop().unwrap();
}

#[test]
fn the_sum_of_unsent_bytes_holds_up_those_who_have_some_and_no_others() {
    let limits = Limits {
        unsent_total_bytes_max: 16 * MIB,
        ..Limits::default()
    };
    let server = start_with(limits, |puppet| puppet.batch_max = 4);
    let mut slow = one_is_slow(&server);
    assert_eq!(slow.ask("now"), format!("{} now", MANY + 1));
    server.stop().unwrap();
}

#[test]
fn who_was_held_up_by_another_s_unsent_bytes_goes_on_when_those_are_gone() {
    // Of each answer of 20 MiB some 4 go to the system, so two are beyond half the limit and one is not.
    let limits = Limits {
        unsent_total_bytes_max: 48 * MIB,
        ..Limits::default()
    };
    let server = start(limits);
    let big = format!("big {}", 20 * MIB);
    let mut has_paused = server.connect_with_small_buffer();
    has_paused.send(&big);
    server.wait_for(&big);
    let mut other = server.connect_with_small_buffer();
    other.send(&big);
    server.wait_for(&big);
    let mut quick = server.connect();
    quick.ask("look");
    has_paused.send("then");
    for _ in 0..10 {
        quick.ask("look");
    }
    assert!(!server.handled_by_now().contains(&"then".to_owned()));
    assert_eq!(other.receive().len(), 20 * MIB);
    server.wait_for("then");
    drop(has_paused);
    server.stop().unwrap();
}

#[test]
fn a_request_is_read_to_its_end_though_earlier_answers_are_not_taken() {
    let server = start(Limits::default());
    let mut client = server.connect();
    client.send(&format!("big {}", 20 * MIB));
    server.wait_for(&format!("big {}", 20 * MIB));
    // More than the system's buffers hold: if the server did not read, this would not return.
    let long = "z".repeat(20 * MIB);
    client.send(&long);
    assert_eq!(client.receive().len(), 20 * MIB);
    assert_eq!(client.receive(), format!("2 {long}"));
    server.stop().unwrap();
}

#[test]
fn connections_beyond_the_limit_are_reset_and_there_is_room_again_when_one_closes() {
    let server = start(Limits {
        connections_max: 2,
        ..Limits::default()
    });
    let mut first = server.connect();
    let mut second = server.connect();
    assert_eq!(first.ask("a"), "1 a");
    assert_eq!(second.ask("b"), "1 b");
    assert_eq!(server.connect().end(), Err(io::ErrorKind::ConnectionReset));
    drop(second);
    // The close of the second is dealt with before this message, or in the same turn.
    assert_eq!(first.ask("a"), "2 a");
    assert_eq!(server.connect().ask("c"), "1 c");
    server.stop().unwrap();
}

#[test]
fn half_a_message_without_progress_is_reset_and_an_idle_connection_is_not() {
    let server = start(Limits {
        stall_max: Duration::from_millis(100),
        ..Limits::default()
    });
    let mut idle = server.connect();
    assert_eq!(idle.ask("hello"), "1 hello");
    let mut halved = server.connect();
    halved.send_bytes(&message("never whole")[..10]);
    assert_eq!(halved.end(), Err(io::ErrorKind::ConnectionReset));
    assert_eq!(idle.ask("still here"), "2 still here");
    server.stop().unwrap();
}

#[test]
fn answers_that_nobody_takes_are_given_up() {
    let server = start(Limits {
        stall_max: Duration::from_millis(100),
        ..Limits::default()
    });
    let mut client = server.connect();
    client.send(&format!("big {}", 50 * MIB));
    server.wait_for(&format!("big {}", 50 * MIB));
    // Its reset shows when the client sends, which it does without ever reading.
    let more = message("more");
    let error = (0..).find_map(|_| client.0.write_all(&more).err()).unwrap();
    assert!(
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ),
        "{error}"
    );
    server.stop().unwrap();
}

#[test]
fn a_connection_costs_little_when_it_is_idle() {
    let connection = size_of::<crate::server::connection::Connection<()>>();
    assert!(
        connection + 2 * IDLE_BUFFER_BYTES < 10 << 10,
        "{connection} bytes"
    );
}

/// Lets the server take all turns that it needs to read what has been sent.
fn let_it_read(quick: &mut Client<TcpStream>) {
    for _ in 0..50 {
        quick.ask("look");
    }
}

#[test]
fn beyond_the_sum_of_unread_bytes_who_has_sent_most_is_refused_and_the_others_come_through() {
    let server = start(Limits {
        unread_total_bytes_max: MIB,
        ..Limits::default()
    });
    let mut quick = server.connect();
    let whole = message(&"x".repeat(900 << 10));
    let begin = |length: usize| {
        let mut client = server.connect();
        client.send_bytes(&whole[..length]);
        client
    };
    let mut small = begin(100);
    let mut largest = begin(700 << 10);
    let_it_read(&mut quick);
    let mut second = begin(600 << 10);
    let refusal = largest.receive();
    assert!(
        refusal.contains("too many requests that are incomplete")
            && refusal.contains("max-unread-total"),
        "{refusal}"
    );
    assert_eq!(largest.end(), Ok(()));
    for (client, sent) in [(&mut second, 600 << 10), (&mut small, 100)] {
        client.send_bytes(&whole[sent..]);
        assert_eq!(client.receive().len(), (900 << 10) + 2);
    }
    server.stop().unwrap();
}

#[test]
fn messages_that_are_handled_do_not_add_up_to_the_sum_of_unread_bytes() {
    let server = start(Limits {
        unread_total_bytes_max: MIB,
        ..Limits::default()
    });
    let mut client = server.connect();
    let half = "x".repeat(500 << 10);
    for number in 1..=20 {
        assert_eq!(client.ask(&half), format!("{number} {half}"));
        // One that goes away within a message leaves nothing of it.
        server.connect().send_bytes(&message(&half)[..400 << 10]);
    }
    server.stop().unwrap();
}

#[test]
fn who_waits_for_a_long_read_and_sends_too_much_meanwhile_is_reset() {
    let server = start(Limits {
        unread_total_bytes_max: 1000,
        ..Limits::default()
    });
    let mut client = server.connect();
    client.send_bytes(&[message("later"), message(&"x".repeat(2000))].concat());
    assert_eq!(client.end(), Err(io::ErrorKind::ConnectionReset));
    server.gate.send(()).unwrap();
    assert_eq!(server.connect().ask("next"), "1 next");
    server.stop().unwrap();
}

/// Room for two answers of 20 MiB, after which it is crowded.
fn room_for_two() -> Limits {
    Limits {
        unsent_total_bytes_max: 60 * MIB,
        ..Limits::default()
    }
}

/// Lets a client ask for 20 MiB that it won't read.
fn ask_and_do_not_read(server: &Running, method: &str) -> Client<TcpStream> {
    let mut client = server.connect_with_small_buffer();
    let ask = format!("{method} {}", 20 * MIB);
    client.send(&ask);
    server.wait_for(&ask);
    client
}

/// Waits for the end of a connection, whatever comes before it.
fn is_reset(client: &mut Client<TcpStream>) -> bool {
    let error = io::copy(&mut client.0, &mut io::sink()).map_err(|error| error.kind());
    error == Err(io::ErrorKind::ConnectionReset)
}

#[test]
fn long_reads_wait_for_room_which_those_who_take_nothing_have_to_make() {
    let server = start(room_for_two());
    let mut lazy: Vec<_> = (0..6)
        .map(|_| ask_and_do_not_read(&server, "list"))
        .collect();
    let mut quick = server.connect();
    assert_eq!(quick.ask("short"), "1 short");
    let mut reader = server.connect();
    assert_eq!(reader.ask(&format!("list {}", 20 * MIB)).len(), 20 * MIB);
    assert_eq!(quick.ask("short"), "2 short");
    assert!(is_reset(&mut lazy[0]) && is_reset(&mut lazy[1]));
    drop(lazy);
    server.stop().unwrap();
}

#[test]
fn who_has_taken_nothing_for_longest_is_reset_when_all_answers_are_too_much() {
    let server = start(room_for_two());
    let mut lazy: Vec<_> = (0..6)
        .map(|_| ask_and_do_not_read(&server, "big"))
        .collect();
    let mut reader = server.connect();
    for _ in 0..3 {
        assert_eq!(reader.ask(&format!("big {}", 20 * MIB)).len(), 20 * MIB);
    }
    for client in &mut lazy[..3] {
        assert!(is_reset(client));
    }
    assert!(!is_over(&lazy[5]), "there was room for the last one");
    drop(lazy);
    server.stop().unwrap();
}

/// True if the system knows that the peer has closed or reset the connection.
fn is_over(client: &Client<TcpStream>) -> bool {
    client.0.take_error().unwrap().is_some()
}

#[test]
fn answers_in_the_making_count_as_unsent() {
    let server = start(Limits {
        unsent_total_bytes_max: 10 * MIB,
        ..Limits::default()
    });
    let hoard = format!("hoard {}", 6 * MIB);
    let mut clients = [server.connect(), server.connect()];
    for client in &mut clients {
        client.send(&hoard);
        server.wait_for(&hoard);
    }
    let lost = loop {
        assert_eq!(server.next_handled(), hoard);
        if let Some(lost) = clients.iter().position(is_over) {
            break lost;
        }
    };
    server.gate.send(()).unwrap();
    assert_eq!(clients[1 - lost].receive(), hoard);
    server.stop().unwrap();
}

#[test]
fn the_message_that_a_long_read_answers_counts_as_unread() {
    let server = start(Limits {
        unread_total_bytes_max: 4 * MIB,
        ..Limits::default()
    });
    let long = format!("later {}", "x".repeat(3 * MIB));
    let mut waiting = server.connect();
    waiting.send(&long);
    server.wait_for(&long);
    let whole = message(&"x".repeat(2 * MIB));
    let mut other = server.connect();
    other.send_bytes(&whole[..MIB + 200_000]);
    assert_eq!(waiting.end(), Err(io::ErrorKind::ConnectionReset));
    other.send_bytes(&whole[MIB + 200_000..]);
    assert_eq!(other.receive().len(), 2 * MIB + 2);
    server.gate.send(()).unwrap();
    server.stop().unwrap();
}
