//! `coordinated bench` against a real daemon, in small sizes: what it counts must be right, however
//! long it takes. And against servers that do wrong: it must notice.

use crate::tokens::create;
use coordinated_client::cbor::{Item, Writer};
use coordinated_client::cborrpc::envelope::{
    Message, Request, begin_success, write_failure, write_frame,
};
use coordinated_client::cborrpc::framing::{Frame, FrameLimits, Framer};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use test_support::{Exit, Server, run_to_end};

/// Runs the benchmark to its end.
fn bench(address: &str, arguments: &[&str]) -> Exit {
    let mut all = vec!["bench", "--server", address];
    all.extend_from_slice(arguments);
    run_to_end(Path::new("."), &all, &[])
}

/// Runs a benchmark that goes well; its JSON object.
fn figures(address: &str, arguments: &[&str]) -> Value {
    let exit = bench(address, &[arguments, &["--json"]].concat());
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    assert_eq!(exit.stderr, "", "no progress where there is no terminal");
    let figures: Value = serde_json::from_str(&exit.stdout).expect("one JSON object");
    assert_eq!(figures["format"], 1);
    assert_eq!(figures["ok"], true);
    assert_eq!(figures["scenario"], arguments[0]);
    figures
}

/// The figures of one call.
fn call<'a>(figures: &'a Value, name: &str) -> &'a Value {
    let mut calls = figures["calls"].as_array().expect("calls").iter();
    calls
        .find(|call| call["call"] == name)
        .unwrap_or_else(|| panic!("no {name} in {figures}"))
}

fn count(figures: &Value, name: &str) -> u64 {
    call(figures, name)["count"].as_u64().expect("a count")
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

fn assert_times_are_plausible(figures: &Value) {
    for call in figures["calls"].as_array().expect("calls") {
        let times = ["p50_us", "p99_us", "p999_us", "max_us"].map(|name| number(&call[name]));
        assert!(times[0] > 0.0 && times.is_sorted(), "{call}");
        let seconds = number(&figures["seconds"]);
        assert!(times[0] <= seconds * 1.01e6, "{call} within {seconds} s");
    }
}

fn spec_is_there(server: &Server, spec: &str) -> bool {
    let mut client = server.connect();
    client.call("get_work_spec", &format!("'{spec}'")) != test_support::diag("null")
}

#[test]
fn add_adds_all_units_in_batches_and_deletes_them() {
    let server = Server::start();
    for names in ["ordered", "random"] {
        let figures = figures(
            server.address(),
            &[
                "add",
                "--units",
                "2500",
                "--batch",
                "100",
                "--names",
                names,
                "--depth",
                "2",
                "--connections",
                "3",
                "--data-bytes",
                "10",
            ],
        );
        assert_eq!(figures["added"], 2500);
        assert_eq!(count(&figures, "add_work_units"), 25);
        assert_eq!(figures["rpcs"], 25);
        assert_eq!(figures["units"]["names"], names);
        assert_eq!(figures["options"]["connections"], 3);
        assert_times_are_plausible(&figures);
        assert!(!spec_is_there(&server, "bench"));
    }
}

#[test]
fn the_local_server_is_found_and_measured() {
    let server = Server::start();
    let found = figures(server.address(), &["add", "--units", "10"]);
    assert_eq!(found["server"]["pid"], server.pid());
    assert_eq!(found["server"]["address"], server.address());
    let name = found["server"]["name"].as_str().expect("a name");
    assert!(name.starts_with("coordinated "), "{name}");
    let memory = number(&found["server_process"]["rss_bytes"]);
    assert!(memory > 1e6 && memory < 1e9, "{memory}");
    assert!(number(&found["server_process"]["cpu_us_per_rpc"]) >= 0.0);
    assert!(number(&found["bench_process"]["cpu_seconds"]) > 0.0);

    let address = ("COORDINATED_SERVER", server.address());
    let arguments = ["bench", "add", "--units", "10"];
    let by_environment = run_to_end(Path::new("."), &arguments, &[address]);
    assert_eq!(by_environment.code, Some(0), "{}", by_environment.stderr);

    let pid = std::process::id().to_string();
    let told = figures(
        server.address(),
        &["add", "--units", "10", "--server-pid", &pid],
    );
    assert_eq!(told["server"]["pid"].to_string(), pid);
}

#[test]
fn a_unix_socket_serves_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = format!("unix:{}", folder.path().join("socket").display());
    let server = Server::start_with(&["--listen", &address]);
    let figures = figures(&address, &["work", "--prepare", "50", "--connections", "2"]);
    assert_eq!(figures["finished"], 50);
    assert_eq!(figures["server"]["pid"], server.pid());
}

#[test]
fn work_ends_when_all_units_are_finished_however_they_are_reported() {
    let server = Server::start();
    for (finish, reports, call) in [
        ("single", 300, "update_work_unit"),
        ("pipelined", 300, "update_work_unit"),
        ("together", 60, "update_work_units"),
    ] {
        let figures = figures(
            server.address(),
            &[
                "work",
                "--prepare",
                "300",
                "--connections",
                "4",
                "--jobs",
                "5",
                "--finish",
                finish,
                "--names",
                "random",
            ],
        );
        assert_eq!(figures["finished"], 300, "{finish}");
        assert_eq!(figures["cycles"], 60, "{finish}");
        assert_eq!(count(&figures, call), reports);
        assert_eq!(figures["empty_answers"], 4, "each worker learns of the end");
        assert_eq!(count(&figures, "get_work"), 64);
        assert_eq!(figures["added"], 0, "preparing is not measured");
        assert_times_are_plausible(&figures);
    }
}

#[test]
fn work_goes_over_http_however_units_are_reported() {
    let server = Server::start_with(&["--http", "127.0.0.1:0"]);
    let address = server.http().replace("http://", "");
    let http = format!("--http={address}");
    for (finish, reports, call) in [
        ("single", 100, "update_work_unit"),
        ("pipelined", 100, "update_work_unit"),
        ("together", 20, "update_work_units"),
    ] {
        let mut arguments = vec!["work", &http, "--prepare", "100", "--connections", "4"];
        arguments.extend(["--jobs", "5", "--finish", finish]);
        let figures = figures(server.address(), &arguments);
        assert_eq!(figures["finished"], 100, "{finish}");
        assert_eq!(figures["options"]["http"], address);
        assert_eq!(count(&figures, call), reports);
        assert_eq!(count(&figures, "get_work"), 24);
        assert_times_are_plausible(&figures);
    }
    let client = server.http();
    let metrics = ureq::get(format!("{client}/metrics")).call();
    let metrics = metrics
        .expect("an answer")
        .body_mut()
        .read_to_string()
        .expect("a text");
    let over_http = metrics.lines().find(|line| {
        line.contains("interface=\"http\"") && line.contains("method=\"update_work_unit\"")
    });
    assert!(
        over_http.is_some_and(|line| line.ends_with(" 200")),
        "{over_http:?}"
    );
}

#[test]
fn the_token_of_the_environment_is_shown_on_each_connection() {
    let mut server = Server::start_with(&["--http", "127.0.0.1:0"]);
    let token = create(&mut server.connect(), "bench", "'admin'", "");
    let run = |server: &Server, scenario: &[&str], environment: &[(&str, &str)]| {
        let mut arguments = vec!["bench", "--server", server.address(), "--json"];
        arguments.extend(scenario);
        run_to_end(Path::new("."), &arguments, environment)
    };
    let token = [("COORDINATED_TOKEN", &*token)];
    let http = server.http().replace("http://", "--http=");
    let over_http = ["work", &http, "--prepare", "10"];
    let without = run(&server, &over_http, &[]);
    assert_eq!(without.code, Some(1), "{without:?}");
    assert!(without.stderr.contains("status 401"), "{}", without.stderr);

    server.stop();
    server.start_again_with(&["--http", "127.0.0.1:0", "--cborrpc-auth", "required"]);
    let http = server.http().replace("http://", "--http=");
    let without = run(&server, &["work", "--prepare", "10"], &[]);
    assert_eq!(without.code, Some(1), "{without:?}");
    assert!(
        without.stderr.contains("a token is needed"),
        "{}",
        without.stderr
    );
    for scenario in [
        &["work", "--prepare", "10", "--connections", "3"][..],
        &["work", &http, "--prepare", "10"],
        &["mixed", "--seconds", "1"],
        &["idle", "--connections", "5", "--seconds", "1"],
    ] {
        let with = run(&server, scenario, &token);
        assert_eq!(with.code, Some(0), "{scenario:?}: {}", with.stderr);
        let figures: Value = serde_json::from_str(&with.stdout).expect("one JSON object");
        let mut calls = figures["calls"].as_array().expect("calls").iter();
        assert!(
            calls.all(|call| call["call"] != "authenticate"),
            "{figures}"
        );
        if scenario[0] == "work" {
            assert_eq!(figures["finished"], 10);
        }
    }
}

#[test]
fn work_says_what_to_do_if_nothing_serves_http_there() {
    let server = Server::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let http = format!("--http={}", free.local_addr().expect("an address"));
    drop(free);
    let exit = bench(server.address(), &["work", &http, "--prepare", "1"]);
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr.contains("nothing answers HTTP"),
        "{}",
        exit.stderr
    );
}

#[test]
fn work_ends_after_its_time() {
    let server = Server::start();
    let figures = figures(
        server.address(),
        &[
            "work",
            "--prepare",
            "40k",
            "--seconds",
            "1",
            "--data-bytes",
            "1",
        ],
    );
    let finished = figures["finished"].as_u64().expect("a count");
    assert!((1..40_000).contains(&finished), "{finished}");
    assert_eq!(figures["cycles"], finished);
    assert_eq!(figures["rpcs"], 2 * finished);
}

#[test]
fn mixed_measures_workers_an_adder_and_two_pagers() {
    let server = Server::start();
    let figures = figures(
        server.address(),
        &[
            "mixed",
            "--connections",
            "3",
            "--units",
            "3000",
            "--prepare",
            "1500",
            "--batch",
            "50",
        ],
    );
    assert_eq!(figures["added"], 3000);
    assert_eq!(count(&figures, "add_work_units"), 60);
    assert!(count(&figures, "get_work_units/1000") >= 1);
    assert!(count(&figures, "get_work_units/10000") >= 1);
    assert_eq!(figures["finished"], count(&figures, "update_work_unit"));
    assert!(count(&figures, "get_work") >= 3);
    assert_times_are_plausible(&figures);
}

#[test]
fn scale_measures_each_size_and_compares_with_the_first() {
    let server = Server::start();
    for (finished, behind) in [(&["--finished"][..], 1000), (&[], 0)] {
        let arguments = ["scale", "--max-units", "10k", "--rounds", "7"];
        let figures = figures(server.address(), &[&arguments, finished].concat());
        let sizes = figures["sizes"].as_array().expect("sizes");
        assert_eq!(sizes.len(), 2);
        for (size, units) in sizes.iter().zip([1_000, 10_000]) {
            assert_eq!(size["units"], units);
            for name in [
                "get_work",
                "update_work_unit",
                "count_work_units",
                "get_work_units/1000",
                "get_work_unit_status",
            ] {
                assert_eq!(count(&size["probing"], name), 7, "{name}");
                assert!(number(&size["p50_ratios"][name]) > 0.0, "{name}");
            }
        }
        assert_eq!(sizes[0]["p50_ratios"]["get_work"], 1.0);
        assert_eq!(sizes[0]["adding"]["added"], 1000);
        assert_eq!(sizes[1]["adding"]["added"], 9000 - behind);
    }
}

#[test]
fn idle_measures_a_worker_beside_connections_that_heartbeat() {
    let server = Server::start();
    let figures = figures(
        server.address(),
        &[
            "idle",
            "--connections",
            "20",
            "--heartbeat",
            "200ms",
            "--seconds",
            "1",
            "--prepare",
            "40k",
            "--data-bytes",
            "1",
        ],
    );
    let beats = count(&figures, "worker_heartbeat");
    assert!((20..=100).contains(&beats), "{beats}");
    assert_eq!(figures["finished"], figures["cycles"]);
    assert!(count(&figures, "get_work") >= 1);
    assert!(figures["rss_bytes_per_connection"].is_u64());
}

#[test]
fn abuse_measures_a_worker_beside_peers_that_break_off() {
    let server = Server::start();
    let figures = figures(
        server.address(),
        &[
            "abuse",
            "--connections",
            "20",
            "--seconds",
            "1",
            "--prepare",
            "40k",
            "--data-bytes",
            "1",
            "--peers",
            "left,slow-sender,pipeliner,claimer,resetter",
        ],
    );
    assert!(count(&figures, "get_work") >= 1);
    assert_eq!(figures["abuse"]["left"], 20);
    for peer in ["slow-sender", "pipeliner", "claimer", "resetter"] {
        let deeds = figures["abuse"][peer].as_u64().expect("a count");
        assert!(deeds > 0, "{peer} did nothing");
    }
}

#[test]
fn people_get_a_table() {
    let server = Server::start();
    let exit = bench(server.address(), &["work", "--prepare", "20"]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    for part in [
        "units finished/s",
        "p99.9",
        "get_work  ",
        "server: ",
        "checked: ",
    ] {
        assert!(exit.stdout.contains(part), "{part} in {}", exit.stdout);
    }
}

#[test]
fn an_existing_work_spec_is_left_alone_unless_forced() {
    let server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'mine'}");
    let arguments = ["add", "--units", "5", "--spec", "mine"];
    let exit = bench(server.address(), &arguments);
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr.contains("'mine' is there already"),
        "{}",
        exit.stderr
    );
    assert!(exit.stderr.contains("--force"), "{}", exit.stderr);
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    assert!(spec_is_there(&server, "mine"));

    figures(server.address(), &[&arguments[..], &["--force"]].concat());
    assert!(!spec_is_there(&server, "mine"));
    figures(server.address(), &[&arguments[..], &["--keep"]].concat());
    assert!(spec_is_there(&server, "mine"));
}

#[test]
fn no_server_is_said_in_one_line_with_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    drop(listener);
    let exit = bench(&address, &["add"]);
    assert_eq!(exit.code, Some(1));
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    let hint = format!("start one with `coordinated serve --listen {address}`");
    assert!(exit.stderr.contains(&hint), "{}", exit.stderr);
}

/// What a server does wrong.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// It hands out its first unit again and again.
    Doubles,
    /// It hands out its first unit twice in one answer.
    DoublesAtOnce,
    /// It has no work, although it counts some.
    Loses,
    /// It closes the connection instead of handing out work.
    Breaks,
    /// It closes the connection at the report on its second unit.
    BreaksLater,
    /// It says what no client can understand.
    Babbles,
    /// It is one of the originals.
    LacksUpdateWorkUnits,
}

/// Starts a server that knows just enough to be loaded, and does one thing wrong.
fn faulty_server(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve_wrongly(stream, fault));
        }
    });
    address
}

fn serve_wrongly(mut stream: TcpStream, fault: Fault) {
    let limits = FrameLimits {
        message_bytes_max: 1 << 20,
        depth_max: 10,
    };
    let mut framer = Framer::new(limits);
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = stream.read(&mut piece) {
        received.extend_from_slice(&piece[..len]);
        while let Ok(Frame::Complete { message, consumed }) = framer.next(&received) {
            let Some(answer) = answer_wrongly(&received[message], fault) else {
                return;
            };
            received.drain(..consumed);
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }
}

/// The frame that answers a request, or nothing if the connection is to be closed.
fn answer_wrongly(message: &[u8], fault: Fault) -> Option<Vec<u8>> {
    let Ok(Message::Single(request)) = Message::parse(message, 10) else {
        return None;
    };
    let request = Request::from_map(request);
    let method = request.method.and_then(Item::as_string_bytes)?;
    let mut response = Vec::new();
    let (mut frame, id) = (Vec::new(), request.id_bytes());
    match &*method {
        b"get_work" if fault == Fault::Breaks => return None,
        b"update_work_unit" if fault == Fault::BreaksLater && is_about(message, FIRST) => {
            return None;
        }
        b"get_work" if fault == Fault::Babbles => return Some(b"\xd8\x18\x41\x05".to_vec()),
        b"server_info" | b"update_work_units" => {
            write_failure(&mut response, id, "no such method", None)
        }
        _ => {
            begin_success(&mut response, id);
            write_result(&mut Writer::new(&mut response), &method, fault);
        }
    }
    write_frame(&mut frame, &response);
    Some(frame)
}

fn is_about(message: &[u8], name: &[u8]) -> bool {
    message.windows(name.len()).any(|part| part == name)
}

fn write_result(writer: &mut Writer<'_>, method: &[u8], fault: Fault) {
    match method {
        b"get_work_spec" => writer.null(),
        b"count_work_units" => {
            writer.tuple(2);
            writer.map(1);
            writer.unsigned(1);
            writer.unsigned(10);
            writer.null();
        }
        b"get_work" if fault == Fault::Loses => {
            writer.tuple(2);
            writer.tuple(3);
            (0..4).for_each(|_| writer.null());
        }
        b"get_work" => {
            writer.tuple(2);
            if fault == Fault::DoublesAtOnce {
                writer.array(2);
                write_unit(writer, FIRST);
            }
            if fault == Fault::BreaksLater {
                writer.array(2);
                write_unit(writer, SECOND);
            }
            write_unit(writer, FIRST);
            writer.null();
        }
        _ => {
            writer.tuple(2);
            writer.boolean(true);
            writer.null();
        }
    }
}

const FIRST: &[u8] = b"0000000000000000";
const SECOND: &[u8] = b"0000000000000001";

fn write_unit(writer: &mut Writer<'_>, name: &[u8]) {
    writer.tuple(3);
    writer.bytes(b"bench");
    writer.bytes(name);
    writer.map(0);
}

fn failure(fault: Fault, arguments: &[&str]) -> String {
    let address = faulty_server(fault);
    let exit = bench(
        &address,
        &[&["work", "--prepare", "10"], arguments].concat(),
    );
    assert_eq!(exit.code, Some(1), "{}", exit.stdout);
    assert_eq!(exit.stderr.lines().count(), 1, "{}", exit.stderr);
    exit.stderr
}

#[test]
fn a_unit_that_comes_twice_is_noticed() {
    let message = failure(Fault::Doubles, &[]);
    assert!(
        message.contains("came again after it was finished"),
        "{message}"
    );
}

#[test]
fn a_failed_check_is_in_the_json_object_too() {
    let address = faulty_server(Fault::Doubles);
    let exit = bench(&address, &["work", "--prepare", "10", "--json"]);
    assert_eq!(exit.code, Some(1));
    let object: Value = serde_json::from_str(&exit.stdout).expect("one JSON object");
    assert_eq!(object["ok"], false);
    assert!(
        object["problem"]
            .as_str()
            .is_some_and(|problem| problem.contains("came again"))
    );
}

#[test]
fn a_unit_that_is_out_twice_is_noticed() {
    let message = failure(Fault::DoublesAtOnce, &["--jobs", "2"]);
    assert!(
        message.contains("handed out twice while its lease runs"),
        "{message}"
    );
}

#[test]
fn lost_units_are_noticed() {
    let message = failure(Fault::Loses, &[]);
    assert!(
        message.contains("no work") && message.contains("10 available"),
        "{message}"
    );
}

#[test]
fn a_connection_that_breaks_is_said_with_what_was_asked() {
    let message = failure(Fault::Breaks, &[]);
    assert!(
        message.contains("broke while get_work was unanswered"),
        "{message}"
    );
}

#[test]
fn a_connection_that_ends_right_behind_an_answer_is_noticed() {
    let pipelined = ["--jobs", "2", "--finish", "pipelined"];
    let message = failure(Fault::BreaksLater, &pipelined);
    let expected = "broke while update_work_unit was unanswered: the server closed it";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn an_answer_that_makes_no_sense_is_said() {
    let message = failure(Fault::Babbles, &[]);
    assert!(
        message.contains("get_work can't be understood"),
        "{message}"
    );
}

#[test]
fn a_server_without_update_work_units_is_told_from_one_that_fails() {
    let message = failure(Fault::LacksUpdateWorkUnits, &["--finish", "together"]);
    assert!(message.contains("has no update_work_units"), "{message}");
    assert!(message.contains("--finish pipelined"), "{message}");
}

#[test]
fn the_help_has_the_shape_of_the_json_object() {
    let exit = run_to_end(Path::new("."), &["bench", "--help"], &[]);
    for field in [
        "cpu_us_per_rpc",
        "empty_answers",
        "p999_us",
        "rss_peak_bytes",
    ] {
        assert!(exit.stdout.contains(field), "{field}");
    }
}
