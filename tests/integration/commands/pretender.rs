//! A server that answers what a test says.

use coordinated_client::cborrpc::framing::{Frame, FrameLimits, Framer};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use test_support::{Value, diag, frame, unframe};

/// Answers by method, in diagnostic notation; what is not there is an unknown method.
pub(crate) struct Pretender {
    pub(crate) address: String,
}

impl Pretender {
    pub(crate) fn start(answers: &'static [(&'static str, &'static str)]) -> Pretender {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        // It ends with the test program.
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.expect("a connection"), answers);
            }
        });
        Pretender { address }
    }
}

fn serve(mut stream: TcpStream, answers: &[(&str, &str)]) {
    let limits = FrameLimits {
        message_bytes_max: 1 << 20,
        depth_max: 100,
    };
    let (mut framer, mut received) = (Framer::new(limits), Vec::new());
    let mut piece = [0; 4096];
    loop {
        while let Ok(Frame::Complete { consumed, .. }) = framer.next(&received) {
            let request = unframe(&received[..consumed]);
            received.drain(..consumed);
            let answer = answer(&request, answers);
            stream.write_all(&frame(&answer)).expect("send");
        }
        match stream.read(&mut piece) {
            Ok(count @ 1..) => received.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
}

fn answer(request: &Value, answers: &[(&str, &str)]) -> Value {
    let method = request.at("method").name().expect("a method");
    let id = request.at("id");
    let known = answers.iter().find(|(name, _)| *name == method);
    diag(&match known {
        Some((_, result)) => format!("{{'id': {id}, 'result': {result}}}"),
        None => {
            format!("{{'id': {id}, 'error': {{'message': 'no method {method}\\n  traceback'}}}}")
        }
    })
}
