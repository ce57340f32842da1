//! The bodies of HTTP requests: a daemon with HTTP in this process, on a database in memory, gets them over a socket.

use super::shaper::Shaper;
use coordinated::clock::{Clock, SystemClock};
use coordinated::engine::{self, Engine};
use coordinated::http::{self, Http};
use coordinated::jobserver::{Anonymous, JobServer, Settings, Submitter};
use coordinated::server::{self, Admission, BoundSocket, Server};
use coordinated::store::{Options, SqliteStore};
use coordinated_client::cbor::Item;
use coordinated_client::cbor::json::AsJson;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

/// Everything of REST that takes a body, in a namespace that has the work spec `ws` and its unit `a`.
const REST: [(&str, &str); 19] = [
    ("POST", "/work_spec"),
    ("PUT", "/work_spec/ws"),
    ("PUT", "/work_spec/ws/meta"),
    ("POST", "/work_spec/ws/change"),
    ("POST", "/work_spec/ws/adjust"),
    ("POST", "/work_spec/ws/change?name=a"),
    ("POST", "/work_spec/ws/work_unit"),
    ("PUT", "/work_spec/ws/work_unit/a"),
    ("POST", "/work_spec/ws/work_unit/a/attempt/w/1/renew"),
    ("POST", "/work_spec/ws/work_unit/a/attempt/w/1/expire"),
    ("POST", "/work_spec/ws/work_unit/a/attempt/w/1/finish"),
    ("POST", "/work_spec/ws/work_unit/a/attempt/w/1/fail"),
    ("POST", "/work_spec/ws/work_unit/a/attempt/w/1/retry"),
    ("PUT", "/worker/w"),
    ("PUT", "/worker/a"),
    ("POST", "/worker/w/request_attempts"),
    ("POST", "/worker/w/make_attempt"),
    ("DELETE", "/work_spec/ws/work_unit?name=a"),
    ("GET", "/work_spec/ws/work_unit/a"),
];

/// Everything else that takes a body, beside the calls of single methods.
const OTHERS: [(&str, &str, &str); 3] = [
    ("POST", "/rpc", ""),
    ("POST", "/units/ws?if_exists=skip", ""),
    (
        "POST",
        "/units/ws",
        "Content-Encoding: gzip\r\nUpload-Id: u\r\n",
    ),
];

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a body, made of the bytes or shaped after what the route wants. Whatever it is, the daemon answers in JSON, the
/// failure is the client's, and the next request is answered.
pub fn bodies(bytes: &[u8]) {
    let mut shaper = Shaper::new(bytes);
    let mut method_params: &[&str] = &[];
    let methods: Vec<_> = JobServer::<SqliteStore>::methods().collect();
    let (method, path, headers) = match shaper.choose(3) {
        0 => {
            let method = methods[shaper.choose(methods.len())];
            method_params = method.params;
            ("POST", format!("/rpc/{}", method.name), "")
        }
        1 => {
            let (method, path) = REST[shaper.choose(REST.len())];
            (method, format!("/namespace/-{path}"), "")
        }
        _ => {
            let (method, path, headers) = OTHERS[shaper.choose(OTHERS.len())];
            (method, path.to_owned(), headers)
        }
    };
    let body = match shaper.choose(2) {
        0 => bytes.get(3..).unwrap_or_default().to_vec(),
        _ => {
            let mut params = Vec::new();
            shaper.params(method_params, &mut params);
            AsJson(Item::from_checked(&params)).to_text().into_bytes()
        }
    };
    // Not to wait for work that nobody adds.
    if [&b"wait"[..], b"\\u"]
        .iter()
        .any(|word| body.windows(word.len()).any(|part| part == *word))
    {
        return;
    }
    let mut stream = TcpStream::connect(daemon()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let requests = [
        request("POST", "/rpc/clear", "", b""),
        request("POST", "/rpc/set_work_spec", "", br#"[{"name": "ws"}]"#),
        request("POST", "/rpc/add_work_units", "", br#"["ws", [["a", {}]]]"#),
        request(method, &path, headers, &body),
        request("POST", "/rpc/now", "Connection: close\r\n", b""),
    ];
    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
    for (number, request) in requests.iter().enumerate() {
        stream.write_all(request).expect("it is sent");
        let (status, keeps) = answer(&mut reader);
        let is_case = number == 3;
        assert!(
            status < 500 && (is_case || status == 200),
            "{status}: {method} {path}"
        );
        if !keeps {
            // What is left of an upload that failed is not read.
            assert!(number >= 3, "{method} {path}");
            break;
        }
    }
}

fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Reads an answer: its status, and whether the connection goes on.
fn answer(reader: &mut impl BufRead) -> (u16, bool) {
    let (mut status, mut length, mut is_json, mut keeps) = (None, 0, false, true);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head in UTF-8");
        let line = line.trim_end().to_ascii_lowercase();
        if status.is_none() {
            let code = line
                .strip_prefix("http/1.1 ")
                .and_then(|rest| rest.get(..3));
            status = code.and_then(|code| code.parse().ok());
            assert!(status.is_some(), "{line}");
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        } else if let Some(value) = line.strip_prefix("content-type: ") {
            is_json = value.contains("json");
        } else if line == "connection: close" {
            keeps = false;
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    if is_json && !body.is_empty() {
        serde_json::from_slice::<serde_json::Value>(&body).expect("JSON");
    }
    (status.unwrap_or_default(), keeps)
}

/// Where the daemon is. It is started once, and runs until the process ends.
fn daemon() -> SocketAddr {
    static DAEMON: OnceLock<SocketAddr> = OnceLock::new();
    *DAEMON.get_or_init(|| {
        let any = "127.0.0.1:0".parse().expect("an address");
        let admission = Admission::default();
        let sockets = BoundSocket::bind(&any, &admission, None).expect("a port");
        let Some(BoundSocket::Tcp(listener)) = sockets.first() else {
            panic!("no TCP socket");
        };
        let address = listener.local_addr().expect("an address");
        let limits = server::Limits::default();
        let server = Server::bind(&[any], admission, limits, None).expect("a port");
        let (inbox, tasks) = server.inbox(100);
        let stopper = server.stopper();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut clock = SystemClock::start();
            let now = clock.now();
            let store = SqliteStore::open(Path::new(":memory:"), &Options::default(), now);
            let random = Box::new(SmallRng::seed_from_u64(1));
            let settings = engine::Settings::default();
            let engine = Engine::new(store.expect("it opens"), settings, random, now);
            let settings = Settings {
                config: vec![0xa0],
                depth_max: 100,
                anonymous: Anonymous::default(),
            };
            let mut service = JobServer::new(engine.expect("it starts"), settings);
            sender.send(service.doorkeeper()).expect("it is awaited");
            server.run_with(&mut service, &mut clock, tasks)
        });
        let doorkeeper = receiver.recv().expect("the service starts");
        Http::start(
            sockets,
            http::Settings::default(),
            Submitter::new(inbox, doorkeeper),
            stopper,
        )
        .expect("it starts");
        address
    })
}
