//! Commands that look.

use super::{bad, good, json, lines, run, server_with_units, words};
use serde_json::{Value as Json, json};
use test_support::{Server, wait_until};

#[test]
fn summary_counts_the_units_of_all_work_specs() {
    let (server, mut client) = server_with_units();
    client.set_spec("{'name': 'empty'}");
    let printed = good(&server, &["summary"]);
    let table = words(&printed);
    assert_eq!(
        table[0][..7],
        [
            "Work", "spec", "Avail", "Pending", "Failed", "Finished", "Total"
        ]
    );
    assert_eq!(table[1][..6], ["empty", "0", "0", "0", "0", "0"]);
    assert_eq!(table[2][..6], ["ws", "2", "1", "1", "1", "5"]);
    // Whatever work specs are called, they stand beside nothing else.
    client.set_spec("{'name': '_NOW'}");
    let object = json(&server, &["summary"]);
    assert!(object["now"].as_f64().is_some_and(|now| now > 1e9));
    let specs = &object["work_specs"];
    assert_eq!(specs["ws"]["num_available"], 2);
    assert_eq!(specs["ws"]["num_tasks"], 5);
    assert_eq!(specs["empty"]["num_tasks"], 0);
    assert_eq!(specs["_NOW"]["num_tasks"], 0);
    assert_eq!(specs.as_object().map(serde_json::Map::len), Some(3));
}

#[test]
fn status_counts_the_units_of_one_however_it_is_named() {
    let (server, mut client) = server_with_units();
    let folder = server.folder().join("spec.yaml");
    std::fs::write(&folder, "name: ws\nmin_gb: 1\n").expect("write");
    let file = folder.display().to_string();
    let expected = [
        ("num_available", 2),
        ("num_pending", 1),
        ("num_blocked", 0),
        ("num_finished", 1),
        ("num_failed", 1),
        ("num_tasks", 5),
    ];
    for arguments in [
        &["status", "ws"][..],
        &["status", "-W", "ws"],
        &["status", "-w", &file],
    ] {
        let status = json(&server, arguments);
        for (name, count) in expected {
            assert_eq!(status[name], count, "{name}");
        }
    }
    let printed = good(&server, &["status", "ws"]);
    assert_eq!(words(&printed)[5], ["total", "5"]);
    client.done("control_work_spec", "'ws', {'status': 2}");
    assert!(good(&server, &["status", "ws"]).contains("paused"));
    assert!(bad(server.address(), &["status", "none"]).contains("none"));
}

#[test]
fn a_rate_is_measured_between_two_looks() {
    let (server, _client) = server_with_units();
    let status = json(&server, &["status", "ws", "--rate", "10ms"]);
    assert_eq!(
        (&status["done_per_second"], &status["remaining_seconds"]),
        (&json!(0.0), &Json::Null)
    );
    let printed = good(&server, &["summary", "--rate", "10ms"]);
    // Nothing gets done, so nobody can tell how long the rest takes.
    assert!(lines(&printed)[1].ends_with("0.0/s     -"), "{printed}");
}

#[test]
fn work_specs_and_their_definitions_are_shown() {
    let (server, mut client) = server_with_units();
    client.set_spec("{'name': 'other', \"text\": 'bytes', 'run_params': {1: 128([2, 2.0])}}");
    assert_eq!(lines(&good(&server, &["work_specs"])), ["other", "ws"]);
    assert_eq!(json(&server, &["work-specs"]), json!(["other", "ws"]));
    let definition =
        json!({"name": "other", "text": "bytes", "run_params": {"$map": [[1, [2, 2.0]]]}});
    assert_eq!(json(&server, &["work_spec", "other"]), definition);
    let yaml = good(&server, &["work_spec", "-W", "other"]);
    assert_eq!(
        serde_saphyr::from_str::<Json>(&yaml).expect("YAML"),
        definition
    );
    let meta = json(&server, &["work_spec", "ws", "--meta"]);
    assert_eq!(
        (&meta["status"], &meta["weight"]),
        (&json!("runnable"), &json!(20))
    );
    assert!(bad(server.address(), &["work_spec", "none"]).contains("\"none\""));
}

#[test]
fn units_are_listed_by_status_prefix_and_limit() {
    let (server, mut client) = server_with_units();
    assert_eq!(
        lines(&good(&server, &["work_units", "ws"])),
        ["a", "b", "broken", "busy", "done"]
    );
    assert_eq!(
        lines(&good(&server, &["work_units", "ws", "-n", "2"])),
        ["a", "b"]
    );
    assert_eq!(
        lines(&good(&server, &["work_units", "-W", "ws", "-s", "failed"])),
        ["broken"]
    );
    assert_eq!(good(&server, &["work_units", "ws", "-s", "blocked"]), "");
    assert_eq!(
        lines(&good(
            &server,
            &["work_units", "ws", "--prefix", "b", "-n", "2"]
        )),
        ["b", "broken"]
    );
    let details = good(&server, &["work_units", "ws", "--details"]);
    let details = lines(&details);
    assert_eq!(details[0], r#"a  {"x":[1,"two"]}"#);
    assert_eq!(
        details[2..6],
        [
            r#"broken  {"n":2}"#,
            "    Traceback:",
            "      line 1",
            "    ValueError: no such thing",
        ]
    );
    let printed = good(&server, &["work_units", "ws", "-s", "finished", "--json"]);
    assert_eq!(printed, "{\"key\":\"done\",\"data\":{\"n\":1}}\n");
    let yaml = good(&server, &["work_units", "ws", "--yaml", "-n", "2"]);
    let listed: Json = serde_saphyr::from_str(&yaml).expect("one YAML document");
    assert_eq!(listed[1], json!({"key": "b", "data": {}}));
    // More than a page, to which the limits of a page do not matter.
    let many: Vec<String> = (0..2_500).map(|n| format!("'p{n:04}'")).collect();
    client.add("ws", &many.join(", "));
    for (arguments, count) in [
        (&["work_units", "ws"][..], 2_505),
        (&["work_units", "ws", "--prefix", "p"], 2_500),
        (
            &["work_units", "ws", "-s", "available", "-n", "1500"],
            1_500,
        ),
    ] {
        let printed = good(&server, arguments);
        let keys = lines(&printed);
        assert_eq!(keys.len(), count);
        assert!(keys.is_sorted());
    }
    assert!(bad(server.address(), &["work_units", "none"]).contains("none"));
}

#[test]
fn single_units_are_shown_with_who_has_them_and_what_went_wrong() {
    let (server, mut client) = server_with_units();
    client.done(
        "worker_heartbeat",
        "'worker-1', 'RUN', 100, {'fqdn': 'host.example'}, null",
    );
    let printed = good(&server, &["work_unit", "ws", "busy", "broken", "a"]);
    assert!(
        printed.starts_with("busy  pending\n  Expires: 2"),
        "{printed}"
    );
    assert!(
        printed.contains("  Worker: worker-1 on host.example\n"),
        "{printed}"
    );
    assert!(printed.contains("broken  failed\n  Ended: 2"), "{printed}");
    assert!(
        printed.contains("  Traceback:\n    Traceback:\n      line 1\n    ValueError: no"),
        "{printed}"
    );
    assert!(
        printed.contains("a  available\n  Data: {\"x\":[1,\"two\"]}\n"),
        "{printed}"
    );
    let units = json(&server, &["work_unit", "-W", "ws", "busy", "a"]);
    assert_eq!(
        (&units[0]["key"], &units[0]["status"]),
        (&json!("busy"), &json!("pending"))
    );
    assert_eq!(
        (&units[0]["worker"], &units[1]["worker"]),
        (&json!("worker-1"), &Json::Null)
    );
    assert!(units[0]["expiration"].as_f64().is_some_and(|at| at > 1e9));

    let exit = run(server.address(), &["work_unit", "ws", "a", "none"]);
    assert_eq!(exit.code, Some(1));
    assert!(exit.stdout.starts_with("a  available"), "{}", exit.stdout);
    assert!(exit.stderr.contains("\"none\""), "{}", exit.stderr);
}

#[test]
fn names_that_are_no_text_are_shown_escaped_and_taken_escaped() {
    let (server, mut client) = server_with_units();
    client.add("ws", r"[h'ff0a5c', {'raw': h'fe'}], ['ü', {}]");
    let printed = good(&server, &["work_units", "ws"]);
    assert_eq!(lines(&printed)[5..], ["ü", r"\xff\n\\"]);
    let unit = json(&server, &["work_unit", "ws", r"\xff\n\\"]);
    assert_eq!(unit[0]["key"], json!({"$bytes": r"\xff\n\\"}));
    assert_eq!(unit[0]["data"], json!({"raw": {"$bytes": r"\xfe"}}));
    good(&server, &["clear", "ws", r"\xff\n\\", "ü", "--yes"]);
    assert_eq!(lines(&good(&server, &["work_units", "ws"])).len(), 5);
    let exit = run(server.address(), &["work_unit", "ws", r"a\b"]);
    assert_eq!(exit.code, Some(2));
    assert!(
        exit.stderr.contains(r"write a backslash itself as \\"),
        "{}",
        exit.stderr
    );
}

#[test]
fn what_a_traceback_has_can_not_act_on_the_terminal() {
    let (server, mut client) = server_with_units();
    client.add("ws", r"['evil', {}, {'priority': 9}]");
    client.take_key("w", "evil");
    client.updated(
        "ws",
        "evil",
        r"{'status': 5, 'data': {'traceback': h'1b5b324a0a6c617374'}}",
    );
    for arguments in [
        &["work_unit", "ws", "evil"][..],
        &["work_units", "ws", "--details"],
        &["failed", "ws"],
        &["work_units", "ws", "--details", "-s", "failed"],
    ] {
        let printed = good(&server, arguments);
        assert!(
            !printed.contains('\u{1b}') && printed.contains("last"),
            "{printed:?}"
        );
    }
}

#[test]
fn failures_are_grouped_by_their_last_line() {
    let (server, mut client) = server_with_units();
    client.add(
        "ws",
        "['c', {}, {'priority': 9}], ['d', {}, {'priority': 8}]",
    );
    for key in ["c", "d"] {
        client.take_key("w", key);
        let data = r"{'traceback': 'x\nKeyError: 1\n'}";
        client.updated("ws", key, &format!("{{'status': 5, 'data': {data}}}"));
    }
    let groups = json(&server, &["failed", "ws"]);
    assert_eq!(
        (&groups[0]["message"], &groups[0]["count"]),
        (&json!("KeyError: 1"), &json!(2))
    );
    assert_eq!(groups[1]["message"], "ValueError: no such thing");
    assert_eq!(groups[1]["first_key"], "broken");
    assert_eq!(
        json(&server, &["failed", "ws", "-n", "1"])
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    let printed = good(&server, &["failed", "ws"]);
    assert!(lines(&printed)[1].ends_with("KeyError: 1"), "{printed}");
    client.set_spec("{'name': 'empty'}");
    assert_eq!(good(&server, &["failed", "empty"]), "No unit has failed.\n");
    assert!(bad(server.address(), &["failed", "none"]).contains("none"));
}

#[test]
fn why_says_why_nothing_runs() {
    let (server, mut client) = server_with_units();
    client.done("control_work_spec", "'ws', {'status': 2}");
    let reasons = json(&server, &["why", "ws"]);
    assert_eq!(reasons[0]["code"], "paused");
    assert!(good(&server, &["why", "ws", "a"]).contains("paused"));
    let reasons = json(&server, &["why", "ws", "busy"]);
    assert_eq!(reasons[0]["code"], "running");
    assert!(
        reasons[0]["text"]
            .as_str()
            .is_some_and(|text| text.contains("worker-1"))
    );
    assert_eq!(json(&server, &["why", "ws", "broken"])[0]["code"], "failed");
    assert!(bad(server.address(), &["why", "none"]).contains("none"));
}

#[test]
fn workers_are_listed_and_counted() {
    let (server, mut client) = server_with_units();
    client.done(
        "worker_heartbeat",
        "'parent', 'RUN', 100, {'pid': 17, 'ips': 128(['x'])}, null",
    );
    client.done("worker_heartbeat", "'child', null, 100, null, 'parent'");
    assert_eq!(
        words(&good(&server, &["workers"])),
        [["Worker", "Mode"], ["child", "-"], ["parent", "RUN"]]
    );
    let printed = good(&server, &["workers", "--details", "--all"]);
    assert!(
        printed.contains("parent (RUN)\n  pid: 17\n  ips: [\"x\"]\n  age_seconds: "),
        "{printed}"
    );
    let workers = json(&server, &["workers", "--details"]);
    assert_eq!(
        (&workers[0]["worker"], &workers[0]["mode"]),
        (&json!("child"), &Json::Null)
    );
    assert_eq!(workers[1]["environment"]["pid"], 17);
    let stats = json(&server, &["worker_stats"]);
    assert_eq!(
        stats,
        json!({"num_workers": 2, "num_children": 1, "num_expirable": 2})
    );
    assert_eq!(words(&good(&server, &["worker_stats"]))[1], ["alive", "2"]);
}

#[test]
fn the_configuration_is_shown_and_written() {
    let folder = tempfile::TempDir::new().expect("folder");
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, "a: {b: [1, x]}\n").expect("write");
    let server = test_support::Server::start_with(&["--config", &file.display().to_string()]);
    let expected = json!({"a": {"b": [1, "x"]}});
    assert_eq!(json(&server, &["config"]), expected);
    let printed = good(&server, &["config"]);
    assert_eq!(
        serde_saphyr::from_str::<Json>(&printed).expect("YAML"),
        expected
    );
    let out = folder.path().join("out");
    assert_eq!(
        good(&server, &["config", "-o", &out.display().to_string()]),
        ""
    );
    assert_eq!(std::fs::read_to_string(&out).expect("written"), printed);
    let nowhere = folder.path().join("none/out").display().to_string();
    assert!(bad(server.address(), &["config", "-o", &nowhere]).contains(&nowhere));
}

#[test]
fn any_method_can_be_called() {
    let (server, _client) = server_with_units();
    let result = json(&server, &["rpc", "count_work_units", "ws"]);
    assert_eq!(
        result,
        json!([{"$map": [[1, 2], [3, 1], [4, 1], [5, 1]]}, null])
    );
    // YAML and JSON, numbers, and what JSON has no word for.
    let unit = r#"[[{"$bytes": "\\xff"}, {n: 1.5}, null, -2]]"#;
    assert_eq!(
        json(&server, &["rpc", "add_work_units", "ws", unit]),
        json!([true, null])
    );
    let listed = json(
        &server,
        &["rpc", "get_work_units", "ws", "{start: c, limit: 10}"],
    );
    assert_eq!(listed[0][1], json!([{"$bytes": "\\xff"}, {"n": 1.5}]));
    assert_eq!(good(&server, &["rpc", "get_work_spec", "none"]), "null\n");
    let message = bad(server.address(), &["rpc", "no_such_method", "1"]);
    assert!(message.contains("no_such_method"), "{message}");
    let message = bad(server.address(), &["rpc", "now", "ok", "[1"]);
    assert!(message.contains("parameter 2"), "{message}");
}

#[test]
fn watching_goes_on_until_nobody_looks_any_more() {
    use std::io::{BufRead, BufReader};
    let (server, mut client) = server_with_units();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_coordinated"))
        .args([
            "status",
            "ws",
            "--watch=10ms",
            "--json",
            "--server",
            server.address(),
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("start");
    let mut looks = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut look = || {
        let line = looks.next().expect("a look").expect("text");
        serde_json::from_str::<Json>(&line).expect("JSON")
    };
    assert_eq!(look()["num_finished"], 1);
    client.updated("ws", "busy", "{'status': 4}");
    let mut last = Json::Null;
    wait_until("the finished unit is seen", || {
        last = look();
        last["num_finished"] == 2
    });
    wait_until("the rate is seen", || {
        look()["done_per_second"].as_f64().is_some()
    });
    drop(looks);
    // It ends by itself, since nobody reads it.
    assert!(child.wait().expect("end").success());
}

#[test]
fn units_that_will_be_retried_are_told_from_those_that_have_failed_for_good() {
    let server = Server::start();
    let mut client = server.connect();
    assert!(!good(&server, &["summary"]).contains("Retrying"));
    client.set_spec("{'name': 'ws', 'retries': 2, 'retry_delay': 1000}");
    client.add("ws", "['a', {'n': 1}], ['b', {}]");
    for (key, options) in [("a", "'delay': 1000"), ("b", "'final': true")] {
        client.take_key("w", key);
        let data = "'data': {'traceback': 'line\nno luck'}";
        client.updated("ws", key, &format!("{{'status': 5, {data}, {options}}}"));
    }
    let status = good(&server, &["status", "ws"]);
    assert!(
        status.contains("1 of them delayed, 1 failed and will be retried"),
        "{status}"
    );
    let counts = json(&server, &["status", "ws"]);
    assert_eq!(
        (&counts["num_retrying"], &counts["num_failed"]),
        (&json!(1), &json!(1))
    );
    assert!(good(&server, &["summary"]).contains("Retrying"));
    let unit = good(&server, &["work_unit", "ws", "a"]);
    assert!(unit.starts_with("a  available\n"), "{unit}");
    assert!(
        unit.contains("  Failures: 1 (retries: 2), tried again at 2"),
        "{unit}"
    );
    assert!(
        unit.contains("Message") && unit.contains("no luck"),
        "{unit}"
    );
    let unit = json(&server, &["work_unit", "ws", "a"]);
    assert_eq!(
        (&unit[0]["failures"], &unit[0]["lost"]),
        (&json!(1), &json!(0))
    );
    assert!(unit[0]["retry_at"].as_f64().is_some_and(|at| at > 1e9));
    let exit = run(server.address(), &["failed", "ws"]);
    assert!(exit.stdout.contains("no luck"), "{exit:?}");
    assert!(
        exit.stderr
            .contains("1 work unit failed and will be retried"),
        "{exit:?}"
    );
}
