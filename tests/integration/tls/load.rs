//! TLS carries the same as a plain connection, and ends in order.

use super::{Authority, start};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use test_support::{PATIENCE, Server, diag, frame};

/// Sends all bytes, and reads until there are as many answers as requests, on another thread meanwhile.
fn exchange(
    server: &Server,
    authority: Option<&Authority>,
    requests: &[u8],
    answers: usize,
) -> Vec<u8> {
    let address = server.address();
    let address = address.strip_prefix("tls:").unwrap_or(address);
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
    let mut received = Vec::new();
    let count = |received: &[u8]| {
        let mut rest = received;
        let mut count = 0;
        while let Some(length) = whole_frame(rest) {
            rest = &rest[length..];
            count += 1;
        }
        count
    };
    std::thread::scope(|scope| match authority {
        None => {
            let mut writer = stream.try_clone().expect("clone");
            scope.spawn(move || writer.write_all(requests).expect("write"));
            let mut reader = &stream;
            let mut piece = vec![0; 1 << 16];
            while count(&received) < answers {
                let read = reader.read(&mut piece).expect("read");
                assert!(read > 0, "the end came too early");
                received.extend_from_slice(&piece[..read]);
            }
        }
        Some(authority) => {
            let mut session = authority.tls().session("127.0.0.1").expect("a session");
            let mut socket = &stream;
            session.complete_io(&mut socket).expect("the handshake");
            stream.set_nonblocking(true).expect("non-blocking");
            let mut unsent = requests;
            while count(&received) < answers {
                let taken = session.writer().write(unsent).expect("write");
                unsent = &unsent[taken..];
                let mut moved = taken > 0;
                for result in [
                    session.write_tls(&mut socket).map(|_| ()),
                    session.read_tls(&mut socket).map(|_| ()),
                ] {
                    match result {
                        Ok(()) => moved = true,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
                    }
                }
                session.process_new_packets().expect("good records");
                match session.reader().read_to_end(&mut received) {
                    Ok(_) => panic!("the end came too early"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
                }
                if !moved {
                    std::thread::yield_now();
                }
            }
        }
    });
    received
}

/// The length of the frame at the start, if it is whole: tag 24 and a byte string.
fn whole_frame(bytes: &[u8]) -> Option<usize> {
    let (head, length) = match *bytes.get(2)? {
        byte @ 0x40..=0x57 => (3, usize::from(byte - 0x40)),
        0x58 => (4, usize::from(*bytes.get(3)?)),
        0x59 => (
            5,
            u16::from_be_bytes([*bytes.get(3)?, *bytes.get(4)?]).into(),
        ),
        0x5a => {
            let four = bytes.get(3..7)?.try_into().expect("four bytes");
            (7, u32::from_be_bytes(four) as usize)
        }
        other => panic!("{other:x}"),
    };
    (bytes.len() >= head + length).then_some(head + length)
}

#[test]
fn many_large_pipelined_requests_get_the_same_answers_as_without_tls() {
    let mut requests = Vec::new();
    let mut count = 0;
    let mut ask = |method: &str, params: &str| {
        let request = format!("{{'id': {count}, 'method': '{method}', 'params': [{params}]}}");
        requests.extend(frame(&diag(&request)));
        count += 1;
    };
    ask("set_work_spec", "{'name': 'ws'}");
    for batch in 0..40 {
        let text = char::from(b'a' + batch % 26).to_string().repeat(40_000);
        let units: Vec<String> = (0..10)
            .map(|unit| format!("['{batch:02}-{unit}', {{'text': '{text}'}}]"))
            .collect();
        ask("add_work_units", &format!("'ws', [{}]", units.join(", ")));
        ask("get_work_units", "'ws', {'limit': 5}");
        ask("count_work_units", "'ws'");
    }
    let plain = exchange(&Server::start(), None, &requests, count);
    let (server, authority) = start(&[]);
    let encrypted = exchange(&server, Some(&authority), &requests, count);
    assert!(plain.len() > 5_000_000, "{}", plain.len());
    assert!(
        plain == encrypted,
        "{} and {} bytes",
        plain.len(),
        encrypted.len()
    );
}

#[test]
fn a_daemon_that_stops_answers_what_it_has_and_closes_the_session() {
    let (mut server, authority) = start(&[]);
    let address = server
        .address()
        .strip_prefix("tls:")
        .expect("tls")
        .to_owned();
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    // The request is to be there before the signal.
    stream.set_nodelay(true).expect("no delay");
    let mut session = authority.tls().session("127.0.0.1").expect("a session");
    session.complete_io(&mut stream).expect("the handshake");
    let request = "{'id': 1, 'method': 'set_work_spec', 'params': [{'name': 'ws'}]}";
    session
        .writer()
        .write_all(&frame(&diag(request)))
        .expect("write");
    session.complete_io(&mut stream).expect("sent");
    server.signal(libc::SIGTERM);
    let mut received = Vec::new();
    let mut is_closed = false;
    while !is_closed {
        assert!(
            session
                .read_tls(&mut stream)
                .expect("no reset before the end of the session")
                > 0
        );
        is_closed = session
            .process_new_packets()
            .expect("records")
            .peer_has_closed();
        match session.reader().read_to_end(&mut received) {
            Ok(_) => assert!(is_closed),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
    assert_eq!(
        whole_frame(&received),
        Some(received.len()),
        "the answer came"
    );
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn a_client_that_ends_its_session_gets_its_answers_and_the_end_of_the_session() {
    let (server, authority) = start(&[]);
    let address = server
        .address()
        .strip_prefix("tls:")
        .expect("tls")
        .to_owned();
    for by_alert in [true, false] {
        let mut stream = TcpStream::connect(&address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let mut session = authority.tls().session("127.0.0.1").expect("a session");
        session.complete_io(&mut stream).expect("the handshake");
        let request = frame(&diag(
            "{'id': 1, 'method': 'list_work_specs', 'params': [{}]}",
        ));
        session
            .writer()
            .write_all(&request.repeat(3))
            .expect("write");
        if by_alert {
            session.send_close_notify();
        }
        while session.wants_write() {
            session.write_tls(&mut stream).expect("write");
        }
        if !by_alert {
            stream
                .shutdown(std::net::Shutdown::Write)
                .expect("shut down");
        }
        let mut received = Vec::new();
        while session.read_tls(&mut stream).expect("read") > 0 {
            session.process_new_packets().expect("records");
            // WouldBlock, or the end.
            let _ = session.reader().read_to_end(&mut received);
        }
        let mut rest = received.as_slice();
        for _ in 0..3 {
            rest = &rest[whole_frame(rest).expect("an answer")..];
        }
        assert!(rest.is_empty());
        let state = session.process_new_packets().expect("records");
        assert!(state.peer_has_closed(), "close_notify came");
    }
}

#[test]
fn many_connections_share_a_daemon_over_tls() {
    let (server, authority) = start(&[]);
    let tls = Arc::new(authority.tls());
    std::thread::scope(|scope| {
        for _ in 0..40 {
            let (tls, address) = (Arc::clone(&tls), server.address());
            scope.spawn(move || super::call(address, (*tls).clone()).expect("an answer"));
        }
    });
}
