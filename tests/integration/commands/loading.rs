//! Units from files: their forms, what is wrong in them, and what happens when a load is disturbed.

use super::cutter::{Cut, Cutter};
use super::{bad, good, run};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use test_support::{
    AVAILABLE, Exit, FINISHED, Running, Server, Value, run_with_input, server_with_spec, wait_until,
};

/// Runs `addwork ws` with this on its standard input, and further arguments.
fn add(server: &str, arguments: &[&str], input: impl Into<Vec<u8>>) -> Exit {
    let arguments = [&["addwork", "ws", "-u", "-"], arguments].concat();
    run_with_input(&arguments, &[("COORDINATED_SERVER", server)], input)
}

/// The same, where it goes well: what it printed.
fn added(server: &Server, arguments: &[&str], input: impl Into<Vec<u8>>) -> String {
    let exit = add(server.address(), arguments, input);
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(0), ""));
    exit.stdout
}

/// The same, where it does not: the last line of what it said.
fn not_added(server: &str, arguments: &[&str], input: impl Into<Vec<u8>>) -> String {
    let exit = add(server, arguments, input);
    assert_eq!(exit.code, Some(1), "{}", exit.stdout);
    exit.stderr.lines().last().unwrap_or_default().to_owned()
}

fn file(server: &Server, name: &str, content: impl AsRef<[u8]>) -> String {
    let path: PathBuf = server.folder().join(name);
    std::fs::write(&path, content).expect("write");
    path.display().to_string()
}

/// Lines with a unit each, with names of four digits.
fn lines(numbers: std::ops::Range<u32>) -> String {
    let mut lines = String::new();
    for number in numbers {
        writeln!(lines, "{{\"{number:04}\": {{\"n\": {number}}}}}").expect("a String takes all");
    }
    lines
}

fn compressed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("compress");
    encoder.finish().expect("compress")
}

#[test]
fn load_sets_a_work_spec_and_adds_its_units() {
    let server = Server::start();
    let mut client = server.connect();
    let spec = file(&server, "spec.yaml", "name: new\nmin_gb: 1\nmodule: jobs\n");
    let units = file(
        &server,
        "units.json",
        "{\"a\": {\"n\": 1}}\n# a comment\n\n{\"b\": {\"raw\": {\"$bytes\": \"\\\\xff\"}}, \"c\": null}\n",
    );
    let load = ["load", "-w", &spec, "-u", &units, "-n", "5"];
    assert_eq!(good(&server, &load), "Set new. Added 3 work units.\n");
    assert_eq!(client.keys("new", "{}"), ["a", "b", "c"]);
    assert_eq!(client.data("new", "b").at("raw"), &Value::bytes([0xff]));
    let definition = client.call("get_work_spec", "'new'");
    // As the Python command sends it.
    assert_eq!(definition.at("module"), &Value::bytes("jobs"));
    assert_eq!(definition.at("nice").number(), Some(5.0));

    let again = good(&server, &["load", "-w", &spec, "--no-work"]);
    assert_eq!(again, "Set new. Added 0 work units.\n");
    let load = ["load", "-w", &spec, "-u", &units];
    let again = good(&server, &load);
    assert_eq!(again, "Set new. Added 0, skipped 3 existing work units.\n");
    let again = good(&server, &[&load[..], &["--reset"]].concat());
    assert_eq!(again, "Set new. Added 0, reset 3 existing work units.\n");
    assert_eq!(client.counts("new").get(&AVAILABLE), Some(&3));
}

/// A load resumed a paused work spec, and dropped the rest that control had set, without a word.
#[test]
fn load_keeps_what_control_has_set_unless_the_file_has_a_key_for_it() {
    let server = Server::start();
    let mut client = server.connect();
    let spec = file(
        &server,
        "spec.yaml",
        "name: ws\nmin_gb: 1\nmax_running: 5\n",
    );
    let load = ["load", "-w", &spec, "--no-work"];
    assert_eq!(run(server.address(), &load).stderr, "");
    assert_eq!(run(server.address(), &load).stderr, "");
    good(&server, &["pause", "ws"]);
    let limits = ["--weight", "7", "--max-running", "2", "--interval", "1.5"];
    good(&server, &[&["control", "ws"], &limits[..]].concat());
    let exit = run(server.address(), &load);
    assert_eq!(
        (exit.code, exit.stderr.as_str()),
        (
            Some(0),
            "coordinated: ws keeps what `control` has set: status paused, weight 7, interval 1.5\n\
             coordinated: ws changes: max_running from 2 to 5\n"
        )
    );
    client.add("ws", "'a'");
    assert!(client.take("w").is_none());

    // Also when it is set once more, though the old definition says nothing of it either.
    let units = file(&server, "units", lines(0..1));
    let exit = run(
        server.address(),
        &["load", "-w", &spec, "-u", &units, "-n", "5"],
    );
    assert_eq!(
        exit.stderr,
        "coordinated: ws keeps what `control` has set: status paused, interval 1.5\n\
         coordinated: ws changes: weight from 7 to 15\n\
         coordinated: ws is paused: its units will be handed out after `coordinated resume ws`\n"
    );
    let spec = file(
        &server,
        "spec.yaml",
        "name: ws\ndisabled: false\ninterval: 2\n",
    );
    let exit = run(server.address(), &["load", "-w", &spec, "--no-work"]);
    assert_eq!(
        exit.stderr,
        "coordinated: ws changes: status from paused to runnable, weight from 15 to 20, \
         interval from 1.5 to 2, max_running from 5 to none\n"
    );
    assert!(client.take("w").is_some());
}

#[test]
fn load_checks_that_the_successor_is_there() {
    let server = Server::start();
    server.connect().set_spec("{'name': 'there'}");
    let spec = file(&server, "spec.yaml", "name: x\nthen: ther\n");
    let load = ["load", "-w", &spec, "--no-work"];
    let message = bad(server.address(), &load);
    let problem = format!(
        "{spec}, line 2: x: then names \"ther\", which is neither in the file nor on the daemon \
         (did you mean \"there\"?)"
    );
    assert!(message.ends_with(&problem), "{message}");
    assert_eq!(good(&server, &["work_specs"]), "there\n");
    for successor in ["there", "x"] {
        file(
            &server,
            "spec.yaml",
            format!("name: x\nthen: {successor}\n"),
        );
        good(&server, &load);
    }
}

#[test]
fn a_work_spec_that_no_server_takes_is_told_with_file_and_line() {
    let server = Server::start();
    for (content, problem) in [
        (
            "name: x\nmin_gb: 1\ninterval: [1]\n",
            ", line 3: x: work spec key \"interval\": expected a number, got a list",
        ),
        (
            "name: x\nweight: heavy\n",
            ", line 2: x: work spec key \"weight\": expected an integer, got a text string",
        ),
        ("name: x\nlist: [1,\nother: 2\n", ", line 2: invalid YAML: "),
        (
            "name: x\nmin_gb: 1\nmin_gb: 2\n",
            ", line 3: invalid YAML: duplicate key \"min_gb\"",
        ),
        (
            "{\"name\": \"x\",\n \"then\": 5}",
            ", line 2: x: work spec key \"then\"",
        ),
        ("min_gb: 1\n", ": the work spec has no name"),
        (
            "min_gb: 1\nname: 5\n",
            ", line 2: the name must be a non-empty string",
        ),
        ("- name\n", ", line 1: expected a work spec"),
    ] {
        let spec = file(&server, "spec.yaml", content);
        let message = bad(server.address(), &["load", "-w", &spec, "--no-work"]);
        assert!(message.contains(&format!("{spec}{problem}")), "{message}");
    }
    assert!(bad(server.address(), &["load", "-w", "/none", "--no-work"]).contains("/none"));
    let spec = file(&server, "spec.yaml", "name: x\nmax_runing: 3\n");
    let exit = run(server.address(), &["load", "-w", &spec, "-u", "/none"]);
    assert!(
        exit.code == Some(1) && exit.stderr.contains("can't read /none"),
        "{exit:?}"
    );
    assert_eq!(good(&server, &["work_specs"]), "");
    let exit = run(server.address(), &["load", "-w", &spec, "--no-work"]);
    let warning =
        format!("{spec}, line 2: x: unknown key \"max_runing\" (did you mean \"max_running\"?)\n");
    assert!(
        exit.code == Some(0) && exit.stderr.ends_with(&warning),
        "{exit:?}"
    );
}

#[test]
fn values_in_a_work_spec_are_what_the_python_command_makes_of_them() {
    let server = Server::start();
    let spec = file(
        &server,
        "spec.yaml",
        "name: ws\ndisabled: yes\nrun_params: [{x: 1.5, 'ü': ü}]\nconfig: &c {a: ~}\nother: *c\n",
    );
    run(server.address(), &["load", "-w", &spec, "--no-work"]);
    let definition = server.connect().call("get_work_spec", "'ws'");
    let expected = test_support::diag(
        "{'name': 'ws', 'disabled': true, 'run_params': [{'x': 1.5, \"ü\": \"ü\"}], \
         'config': {'a': null}, 'other': {'a': null}}",
    );
    assert_eq!(definition, expected);
}

#[test]
fn what_is_wrong_in_a_line_is_told_with_its_place_and_all_before_it_is_added() {
    let (server, mut client) = server_with_spec();
    for (number, (line, problem)) in [
        ("{\"x\": {\"n\": }}", "column 13: not JSON: expected value"),
        (
            "{\"x\": 1}",
            "column 8: the data of \"x\" must be an object, got an integer",
        ),
        ("[1]", "expected a JSON object that maps names of units"),
        ("nonsense", "use --lines"),
        ("{\"x\": {}", "not JSON: EOF"),
        ("{\"x\": {}} {}", "not JSON: trailing characters"),
        ("{\"x\": {\"$int\": 5}}", "\"$int\" must be"),
        ("{\"ok\": {}, \"\\ud800\": {}}", "not JSON"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{number:04}");
        let content = format!("{{\"{name}\": {{}}}}\n\n{line}\n{{\"behind\": {{}}}}\n");
        let units = file(&server, "units.json", content);
        let message = bad(server.address(), &["addwork", "-W", "ws", "-u", &units]);
        assert!(
            message.contains(&format!("{units}, line 3")) && message.contains(problem),
            "{message}"
        );
        assert!(
            message.ends_with("added 1 work unit; continue with --from-line 3"),
            "{message}"
        );
        assert_eq!(client.state("ws", &name), AVAILABLE);
    }
    assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&8));
    assert!(bad(server.address(), &["addwork", "-W", "ws", "-u", "/none"]).contains("/none"));
    assert!(not_added(server.address(), &[], *b"{\"\xff\": {}}").contains("line 1"));
}

#[test]
fn a_load_goes_on_from_a_line() {
    let (server, mut client) = server_with_spec();
    let broken = format!("{}nonsense\n{}", lines(0..5), lines(5..8));
    let message = not_added(server.address(), &["--batch", "2"], broken);
    assert!(message.contains("line 6: expected"), "{message}");
    assert!(
        message.ends_with("added 5 work units; continue with --from-line 6"),
        "{message}"
    );
    let mended = lines(0..8);
    assert_eq!(
        added(&server, &["--from-line", "6"], mended),
        "Added 3 work units.\n"
    );
    assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&8));
}

#[test]
fn lines_and_names_ended_by_nul_are_names_of_any_bytes() {
    let (server, mut client) = server_with_spec();
    let names = *b"# a\nwith \\ and {\n\n\xff\xfe\ncr\r\nlast";
    assert_eq!(added(&server, &["--lines"], names), "Added 5 work units.\n");
    let keys: Vec<Value> = client
        .units("ws", "{}")
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    let expected = ["# a", "cr", "last", "with \\ and {"].map(Value::text);
    assert_eq!(keys[..4], expected);
    assert_eq!(keys[4], Value::bytes([0xff, 0xfe]));

    let names = *b"new\nline\0\0cr\r\0";
    assert_eq!(added(&server, &["-0"], names), "Added 2 work units.\n");
    assert_eq!(
        client.keys("ws", "{'start': 'cr\\r', 'limit': 1}"),
        ["cr\r"]
    );
    assert_eq!(
        client.keys("ws", "{'start': 'n', 'limit': 1}"),
        ["new\nline"]
    );
    let both = run(
        server.address(),
        &["addwork", "ws", "-u", "-", "-0", "--lines"],
    );
    assert_eq!(both.code, Some(2));
}

/// It became a part of the first name, and no JSON was read behind it.
#[test]
fn a_byte_order_mark_at_the_beginning_of_text_is_passed_over() {
    let (server, mut client) = server_with_spec();
    added(&server, &["--lines"], "\u{feff}a\n\u{feff}b\n");
    added(&server, &[], "\u{feff}{\"c\": {}}\n");
    added(&server, &["-0"], "\u{feff}d\0");
    let keys = ["a", "c", "\u{feff}b", "\u{feff}d"];
    assert_eq!(client.keys("ws", "{}"), keys);
}

#[test]
fn what_gzip_has_compressed_is_known_by_its_first_bytes() {
    let (server, mut client) = server_with_spec();
    let units = file(&server, "units", compressed(&lines(0..3)));
    assert_eq!(
        good(&server, &["addwork", "ws", "-u", &units]),
        "Added 3 work units.\n"
    );
    // Several behind one another are one.
    let parts = [compressed(&lines(3..4)), compressed(&lines(4..6))].concat();
    assert_eq!(added(&server, &[], parts), "Added 3 work units.\n");
    assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&6));

    // So are zeros behind it, with which some tools fill up blocks.
    let padded = [compressed(&lines(6..7)), vec![0; 100_000]].concat();
    assert_eq!(added(&server, &[], padded), "Added 1 work unit.\n");
    let garbage = [compressed(&lines(7..8)), b"\0\0garbage".to_vec()].concat();
    assert!(not_added(server.address(), &[], garbage).contains("line 2"));

    let whole = compressed(&lines(0..2000));
    let cut = &whole[..whole.len() / 2];
    let units = file(&server, "units", cut);
    let message = bad(server.address(), &["addwork", "ws", "-u", &units]);
    assert!(message.contains(&format!("{units}, line ")), "{message}");
    assert!(added(&server, &[], []).contains("Added 0 work units."));
}

#[test]
fn a_line_that_does_not_end_is_refused_before_memory_is() {
    let (server, _client) = server_with_spec();
    let endless = format!(
        "{{\"a\": {{}}}}\n{{\"b\": {{\"x\": \"{}\n",
        "x".repeat(17 << 20)
    );
    let message = not_added(server.address(), &[], endless);
    assert!(
        message.contains("line 2: longer than the limit of 16 MiB"),
        "{message}"
    );
    assert!(message.contains("added 1 work unit"), "{message}");
}

#[test]
fn a_line_of_many_units_is_sent_in_batches() {
    let (server, mut client) = server_with_spec();
    let units: Vec<String> = (0..1005)
        .map(|number| format!("\"{number:04}\": {{}}"))
        .collect();
    let line = format!("{{{}}}\n", units.join(", "));
    assert_eq!(
        added(&server, &["--batch", "100"], line),
        "Added 1005 work units.\n"
    );
    assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&1005));
    let calls = client.call("server_info", "");
    assert_eq!(calls.at("calls").at("add_work_units").number(), Some(11.0));
}

#[test]
fn units_get_a_priority_and_a_delay() {
    let (server, mut client) = server_with_spec();
    added(&server, &[], "{\"a\": {}}");
    added(&server, &["--priority", "2.5"], "{\"b\": {}}");
    added(
        &server,
        &["--lines", "--delay", "1h", "--priority", "9"],
        "c",
    );
    assert_eq!(client.take("w").expect("work").key, Value::text("b"));
    assert_eq!(client.take("w").expect("work").key, Value::text("a"));
    assert!(client.take("w").is_none());
}

#[test]
fn a_batch_that_the_server_refuses_is_told_with_its_lines() {
    let (server, mut client) = server_with_spec();
    let long = "x".repeat(70_000);
    let input = format!("{}{{\"{long}\": {{}}}}\n{}", lines(0..3), lines(3..6));
    let message = not_added(server.address(), &["--batch", "2"], input);
    assert!(
        message.contains("standard input, lines 3 to 4: "),
        "{message}"
    );
    // Those behind it may have been on their way.
    assert!(
        message.ends_with("continue with --from-line 3"),
        "{message}"
    );
    assert_eq!(client.state("ws", "0001"), AVAILABLE);
    let exit = run(server.address(), &["addwork", "none", "-u", "/dev/null"]);
    assert_eq!(exit.code, Some(0), "there was nothing to add");
    let none = file(&server, "units", lines(0..1));
    assert!(bad(server.address(), &["addwork", "none", "-u", &none]).contains("none"));
}

#[test]
fn an_interrupted_load_says_how_far_it_got_and_can_be_repeated() {
    let (server, mut client) = server_with_spec();
    let arguments = ["addwork", "ws", "-u", "-", "--batch", "10"];
    let mut load = Running::start(&arguments, &[("COORDINATED_SERVER", server.address())]);
    load.write(lines(0..25));
    wait_until("two batches are there", || {
        client.counts("ws").get(&AVAILABLE) == Some(&20)
    });
    load.signal(libc::SIGINT);
    let exit = load.wait();
    let message = exit.stderr.lines().last().unwrap_or_default();
    assert_eq!(exit.code, Some(1));
    assert!(
        message.contains("interrupted; added 25 work units; continue with --from-line 26"),
        "{message}"
    );
    assert_eq!(
        added(&server, &[], lines(0..30)),
        "Added 5, skipped 25 existing work units.\n"
    );
    assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&30));
    assert_eq!(
        added(&server, &["--from-line", "26"], lines(0..31)),
        "Added 1, skipped 5 existing work units.\n"
    );
}

#[test]
fn a_load_goes_on_when_the_daemon_was_restarted() {
    let (mut server, mut client) = server_with_spec();
    let arguments = ["addwork", "ws", "-u", "-", "--batch", "10"];
    let address = server.address().to_owned();
    let mut load = Running::start(&arguments, &[("COORDINATED_SERVER", &address)]);
    load.write(lines(0..10));
    wait_until("a batch is there", || {
        client.counts("ws").get(&AVAILABLE) == Some(&10)
    });
    server.kill();
    server.start_again();
    load.write(lines(10..35));
    load.input = None;
    let exit = load.wait();
    assert_eq!(
        (exit.code, exit.stdout.as_str()),
        (Some(0), "Added 35 work units.\n")
    );
    assert_eq!(server.connect().counts("ws").get(&AVAILABLE), Some(&35));
}

#[test]
fn a_load_ends_when_the_daemon_gives_no_sign_of_life_any_more() {
    let (server, mut client) = server_with_spec();
    let arguments = [
        "addwork",
        "ws",
        "-u",
        "-",
        "--batch",
        "10",
        "--timeout",
        "500ms",
    ];
    let mut load = Running::start(&arguments, &[("COORDINATED_SERVER", server.address())]);
    load.write(lines(0..10));
    wait_until("a batch is there", || {
        client.counts("ws").get(&AVAILABLE) == Some(&10)
    });
    server.signal(libc::SIGSTOP);
    load.write(lines(10..35));
    load.input = None;
    let exit = load.wait();
    server.signal(libc::SIGCONT);
    let message = exit.stderr.lines().last().unwrap_or_default();
    assert_eq!(exit.code, Some(1), "{message}");
    assert!(
        message.contains("has not answered add_work_units within 500ms")
            && message.ends_with("continue with --from-line 11"),
        "{message}"
    );
}

#[test]
fn a_batch_in_doubt_is_sent_again_where_that_does_no_harm() {
    for cut in [Cut::Request, Cut::Answer] {
        let (server, mut client) = server_with_spec();
        let between = Cutter::start(server.address(), cut, 2, || {});
        let exit = add(&between.address, &["--batch", "10"], lines(0..55));
        assert_eq!(exit.stdout, "Added 55 work units.\n", "{}", exit.stderr);
        assert!(exit.stderr.contains("broke"), "{}", exit.stderr);
        assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&55));
    }
}

#[test]
fn a_batch_that_is_being_worked_on_is_not_sent_again() {
    let (server, mut client) = server_with_spec();
    let mut worker = server.connect();
    let finish = move || {
        worker.take("w").expect("work");
        worker.updated("ws", "0000", "{'status': 4}");
    };
    let between = Cutter::start(server.address(), Cut::Answer, 1, finish);
    let arguments = ["--batch", "10", "--reset"];
    let message = not_added(&between.address, &arguments, lines(0..30));
    assert!(
        message.contains("standard input, lines 1 to 10: the connection broke"),
        "{message}"
    );
    assert!(
        message.contains("added 0 work units and possibly"),
        "{message}"
    );
    assert!(
        message.ends_with("continue with --from-line 1"),
        "{message}"
    );
    assert_eq!(client.state("ws", "0000"), FINISHED);
}

#[test]
fn units_that_exist_are_skipped_unless_they_are_to_be_reset() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "['0000', {}, null, 9]");
    client.take_key("w", "0000");
    client.updated("ws", "0000", "{'status': 4, 'data': {'out': 1}}");
    assert_eq!(
        added(&server, &["--batch", "2"], lines(0..5)),
        "Added 4, skipped 1 existing work unit.\n"
    );
    assert_eq!(client.data("ws", "0000"), test_support::diag("{'out': 1}"));
    assert_eq!(
        added(&server, &["--batch", "2"], lines(0..8)),
        "Added 3, skipped 5 existing work units.\n"
    );
    assert_eq!(client.state("ws", "0000"), FINISHED);
    let broken = format!("{}nonsense\n", lines(6..10));
    let message = not_added(server.address(), &[], broken);
    assert!(
        message.ends_with("added 2, skipped 2 existing work units; continue with --from-line 5"),
        "{message}"
    );
    assert_eq!(
        added(&server, &["--reset"], lines(0..11)),
        "Added 1, reset 10 existing work units.\n"
    );
    assert_eq!(client.data("ws", "0000").at("n").number(), Some(0.0));
    assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&11));
}

/// Whether a batch was added before the connection broke is unknown. It is sent again, and leaves alone what workers have
/// done with its units in the meantime.
#[test]
fn a_batch_in_doubt_that_skips_units_is_sent_again_whatever_became_of_them() {
    let (server, mut client) = server_with_spec();
    client.add("ws", "'0015', '0016'");
    let mut worker = server.connect();
    let finish = move || {
        worker.take("w").expect("work");
        worker.updated("ws", "0000", "{'status': 4}");
    };
    let between = Cutter::start(server.address(), Cut::Answer, 1, finish);
    let exit = add(&between.address, &["--batch", "10"], lines(0..30));
    assert_eq!(
        (exit.code, exit.stdout.as_str()),
        (Some(0), "Added 28, skipped 2 existing work units.\n"),
        "{}",
        exit.stderr
    );
    assert_eq!(client.state("ws", "0000"), FINISHED);
    assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&29));
}

#[test]
fn a_load_is_larger_than_the_memory_that_it_takes() {
    let (server, mut client) = server_with_spec();
    let arguments = ["addwork", "ws", "-u", "-"];
    let mut load = Running::start(&arguments, &[("COORDINATED_SERVER", server.address())]);
    let data = "x".repeat(8 << 10);
    for number in 0..10_000 {
        load.write(format!("{{\"{number:05}\": {{\"x\": \"{data}\"}}}}\n"));
    }
    // It waits for more input, so it is there to be looked at; its last batch is not full.
    wait_until("most is there", || {
        client
            .counts("ws")
            .get(&AVAILABLE)
            .is_some_and(|count| *count >= 9_800)
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", load.pid())).expect("status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak
        .and_then(|peak| peak.trim().strip_suffix(" kB"))
        .expect("a size");
    let peak: u64 = peak.parse().expect("a number");
    assert!(peak < 50 << 10, "{peak} KiB");
    load.input = None;
    assert_eq!(load.wait().stdout, "Added 10000 work units.\n");
}

#[test]
fn a_load_is_done_though_nobody_reads_what_it_says() {
    let (server, mut client) = server_with_spec();
    let units = file(&server, "units", lines(0..3));
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_coordinated"))
        .args(["addwork", "ws", "-u", &units, "--server", server.address()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("end").code(), Some(0));
    assert_eq!(client.counts("ws").get(&AVAILABLE), Some(&3));
}
