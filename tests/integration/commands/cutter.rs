//! Stands between a command and a daemon, and cuts the connection at the wrong moment.

use coordinated_client::cborrpc::framing::{Frame, FrameLimits, Framer};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use test_support::unframe;

/// When to cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The request does not arrive.
    Request,
    /// It arrives, and is carried out, but the answer does not come back.
    Answer,
}

pub(crate) struct Cutter {
    pub(crate) address: String,
}

impl Cutter {
    /// Goes between, and cuts once: with the add_work_units of this number, from 1 on. Then `meanwhile` happens.
    pub(crate) fn start(
        server: &str,
        cut: Cut,
        number: u32,
        mut meanwhile: impl FnMut() + Send + 'static,
    ) -> Cutter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address").to_string();
        let server = server.to_owned();
        // It ends with the test program.
        thread::spawn(move || {
            let mut seen = 0;
            for client in listener.incoming() {
                let mut client = Messages::new(client.expect("a connection"));
                let mut daemon = Messages::new(TcpStream::connect(&server).expect("connect"));
                while let Some(request) = client.next() {
                    let method = unframe(&request).at("method").name();
                    let is_add = method.as_deref() == Some("add_work_units");
                    seen += u32::from(is_add);
                    let is_cut = is_add && seen == number;
                    if is_cut && cut == Cut::Request {
                        meanwhile();
                        break;
                    }
                    daemon.stream.write_all(&request).expect("send");
                    let answer = daemon.next().expect("an answer");
                    if is_cut {
                        meanwhile();
                        break;
                    }
                    if client.stream.write_all(&answer).is_err() {
                        break;
                    }
                }
            }
        });
        Cutter { address }
    }
}

/// A connection from which whole messages are read.
struct Messages {
    stream: TcpStream,
    framer: Framer,
    received: Vec<u8>,
}

impl Messages {
    fn new(stream: TcpStream) -> Messages {
        let limits = FrameLimits {
            message_bytes_max: 64 << 20,
            depth_max: 100,
        };
        Messages {
            stream,
            framer: Framer::new(limits),
            received: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut piece = [0; 4096];
        loop {
            if let Frame::Complete { consumed, .. } =
                self.framer.next(&self.received).expect("a message")
            {
                return Some(self.received.drain(..consumed).collect());
            }
            match self.stream.read(&mut piece) {
                Ok(count @ 1..) => self.received.extend_from_slice(&piece[..count]),
                _ => return None,
            }
        }
    }
}
