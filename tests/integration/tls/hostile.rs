//! Peers that do not do what TLS asks of them.

use super::{start, text};
use coordinated_client::{Address, Connection, Options, Request};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use test_support::{Client, PATIENCE, Reply, Server, frame, reply, unframe, wait_until};

/// Where the listener with TLS is, as a socket address.
fn tcp_address(server: &Server) -> &str {
    server.address().strip_prefix("tls:").expect("tls")
}

fn socket(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(tcp_address(server)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
    stream
}

/// The beginning of a handshake: a hello of this many bytes, of which only the heads are there.
fn hello(length: u16) -> Vec<u8> {
    let mut bytes = vec![22, 3, 1];
    bytes.extend((length + 4).to_be_bytes());
    bytes.extend([1, 0]);
    bytes.extend(length.to_be_bytes());
    bytes
}

/// Waits for the end of a connection, however it comes.
fn ends(mut stream: TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
}

/// The log has a line like this.
fn is_logged(server: &Server, words: &str) {
    wait_until(words, || server.log().contains(words));
}

#[test]
fn a_peer_that_stops_within_the_handshake_is_cut_off_and_an_idle_one_behind_it_is_not() {
    let (server, authority) = start(&["--stall-timeout", "300ms"]);
    let options = Options {
        tls: authority.tls(),
        ..Options::default()
    };
    let address: Address = server.address().parse().expect("an address");
    let mut idle = Connection::open(address, options).expect("connect");
    let ask = Request::new("server_info", []);
    idle.call(&ask).expect("an answer");

    let silent = socket(&server);
    let mut half = socket(&server);
    half.write_all(&hello(500)).expect("write");
    half.write_all(&[3, 3]).expect("write");
    for stream in [silent, half] {
        ends(stream);
    }
    is_logged(&server, "has not finished the TLS handshake");
    idle.call(&ask).expect("the same connection");
    assert!(
        !server.log().contains("connection broke"),
        "{}",
        server.log()
    );
}

#[test]
fn a_peer_that_trickles_its_handshake_is_cut_off() {
    let (server, _authority) = start(&["--stall-timeout", "300ms"]);
    let mut trickling = socket(&server);
    trickling.write_all(&hello(16_000)).expect("write");
    // Far fewer bytes than the hello has.
    wait_until("it is cut off", || trickling.write_all(&[0]).is_err());
    is_logged(&server, "has not finished the TLS handshake");
}

#[test]
fn a_peer_that_stops_within_a_record_is_cut_off() {
    let (server, authority) = start(&["--stall-timeout", "300ms"]);
    let mut stream = socket(&server);
    let mut session = authority.tls().session("127.0.0.1").expect("a session");
    session.complete_io(&mut stream).expect("the handshake");
    session.writer().write_all(&[0xd8; 5000]).expect("write");
    let mut record = Vec::new();
    session.write_tls(&mut record).expect("write");
    stream.write_all(&record[..4000]).expect("write");
    ends(stream);
    is_logged(&server, "only a part of a message");
}

#[test]
fn floods_of_broken_handshakes_are_ended_and_others_are_served_meanwhile() {
    let (server, _authority) = start(&[]);
    let mut client = Client::connect(&server.addresses()[1]);
    client.set_spec("{'name': 'ws'}");
    let mut garbage = hello(2000);
    garbage.extend([0xff; 2000]);
    // A hello that never ends, longer than any may be.
    let endless: Vec<u8> = [
        vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff],
        vec![0; 16_380],
    ]
    .concat();
    for round in 0..50 {
        let mut streams: Vec<TcpStream> = (0..20).map(|_| socket(&server)).collect();
        for (index, stream) in streams.iter_mut().enumerate() {
            let bytes = if index % 2 == 0 { &garbage } else { &endless };
            // It may have been ended before all was sent.
            let _ = stream.write_all(bytes);
        }
        client.add("ws", &format!("['{round}', {{}}]"));
        streams.into_iter().for_each(ends);
    }
    assert_eq!(client.counts("ws")[&1], 50);
    is_logged(&server, "TLS failed");
    let log = server.log();
    assert!(log.matches("TLS failed").count() < 50, "throttled: {log}");
}

#[test]
fn a_client_without_tls_on_a_port_with_tls_is_told_so() {
    let (server, _authority) = start(&[]);
    let mut stream = socket(&server);
    let request = "{'id': 1, 'method': 'list_work_specs', 'params': [{}]}";
    let bytes = frame(&test_support::diag(request));
    stream.write_all(&bytes).expect("write");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .expect("an answer and the end");
    match reply(&unframe(&answer)) {
        Reply::Error(message) => assert!(message.contains("tls:HOST:PORT"), "{message}"),
        other => panic!("{other:?}"),
    }
    is_logged(&server, "this address is for TLS only");
    // Our client says the same.
    let plain: Address = tcp_address(&server).parse().expect("an address");
    let mut client = Connection::open(plain, Options::default()).expect("connect");
    let error = client
        .call(&Request::new("server_info", []))
        .expect_err("refused");
    assert!(error.to_string().contains("tls:HOST:PORT"), "{error}");
    // A browser or curl gets HTTP.
    let mut stream = socket(&server);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("write");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer and the end");
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
}

#[test]
fn a_client_with_tls_on_a_port_without_is_told_so() {
    let (server, authority) = start(&[]);
    let address = format!("tls:{}", server.addresses()[1]);
    let problem = super::problem(&address, authority.tls());
    assert!(problem.contains("does not speak TLS"), "{problem}");
    is_logged(&server, "begins like one of TLS");
}

#[test]
fn http_within_tls_on_a_cborrpc_port_is_told_where_http_is() {
    let (server, authority) = start(&[]);
    let address = tcp_address(&server).replace("127.0.0.1", "https://127.0.0.1");
    let output = std::process::Command::new("curl")
        .args(["-sS", "--cacert", text(&authority.path()), &address])
        .output()
        .expect("curl");
    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(
        answer.contains("this address is for CBOR-RPC"),
        "{output:?}"
    );
}

#[test]
fn a_peer_that_floods_and_does_not_read_is_paused_within_its_limits() {
    let limits = ["--max-unsent", "1MiB", "--stall-timeout", "500ms"];
    let (server, authority) = start(&limits);
    let mut setup = Client::connect(&server.addresses()[1]);
    setup.set_spec(&format!(
        "{{'name': 'ws', 'text': '{}'}}",
        "x".repeat(50_000)
    ));
    let mut stream = socket(&server);
    stream
        .set_write_timeout(Some(Duration::from_secs(2)))
        .expect("timeout");
    let mut session = authority.tls().session("127.0.0.1").expect("a session");
    session.complete_io(&mut stream).expect("the handshake");
    let request = "{'id': 1, 'method': 'get_work_spec', 'params': ['ws']}";
    let requests = frame(&test_support::diag(request)).repeat(100);
    // The daemon stops to read, and ends the connection when nothing moves.
    let is_over = |session: &mut rustls::ClientConnection, stream: &mut TcpStream| {
        session.writer().write_all(&requests).expect("buffered");
        while session.wants_write() {
            if session.write_tls(stream).is_err() {
                return true;
            }
        }
        false
    };
    session.set_buffer_limit(None);
    wait_until("it is cut off", || is_over(&mut session, &mut stream));
    is_logged(&server, "limit of unsent bytes per connection");
    is_logged(&server, "the peer does not read its answers");
    assert_eq!(setup.spec_names(), ["ws"]);
}
