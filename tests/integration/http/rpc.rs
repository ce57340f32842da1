//! The methods as JSON.

use super::{Client, start};
use coordinated::jobserver::JobServer;
use coordinated::store::SqliteStore;
use serde_json::{Value as Json, json};
use std::thread;
use std::time::Duration;
use test_support::{Value, diag, wait_until};

#[test]
fn a_method_takes_its_parameters_by_name_by_position_or_none_at_all() {
    let server = start(&[]);
    let http = Client::of(&server);
    let spec = r#"{"work_spec": {"name": "s", "min_gb": 1}}"#;
    assert_eq!(http.call("set_work_spec", spec), json!(true));
    assert_eq!(
        http.call("add_work_units", r#"["s", [["a", {"n": 1}], ["b", {}]]]"#),
        json!(true)
    );
    assert_eq!(http.call("count_work_units", r#"["s"]"#), json!({"1": 2}));
    assert_eq!(
        http.call(
            "get_work_units",
            r#"{"work_spec_name": "s", "options": {}}"#
        ),
        json!([["a", {"n": 1}], ["b", {}]])
    );
    for nothing in ["", " \n", "[]", "{}"] {
        assert!(http.call("now", nothing).is_u64(), "{nothing:?}");
    }
    let definition = http.call("get_work_spec", r#"["s"]"#);
    assert_eq!(definition, json!({"name": "s", "min_gb": 1}));
    assert_eq!(
        server.connect().counts("s").into_iter().collect::<Vec<_>>(),
        [(1, 2)]
    );
}

#[test]
fn every_method_of_the_table_is_listed_and_can_be_called() {
    let server = start(&[]);
    let http = Client::of(&server);
    let answer = http.get("/rpc");
    assert_eq!(
        (answer.status, &*answer.content_type),
        (200, "application/json")
    );
    let listed = answer.json();
    let methods: Vec<_> = JobServer::<SqliteStore>::methods().collect();
    assert_eq!(listed.as_array().expect("a list").len(), methods.len());
    for (listed, method) in listed.as_array().unwrap().iter().zip(methods) {
        assert_eq!(listed["name"], method.name);
        assert_eq!(listed["params"], json!(method.params));
        assert_eq!(listed["required"], method.required);
        // With a parameter too many, the method itself answers.
        let params = Json::Array(vec![Json::Null; method.params.len() + 1]);
        let answer = http.post(&format!("/rpc/{}", method.name), &params.to_string());
        assert_eq!(
            (answer.status, &*answer.problem()),
            (400, "invalid"),
            "{answer:?}"
        );
        assert_eq!(answer.json()["method"], method.name);
    }
}

#[test]
fn values_that_json_lacks_have_a_form_in_it_and_are_stored_exactly() {
    let server = start(&[]);
    let http = Client::of(&server);
    let mut cborrpc = server.connect();
    http.call("set_work_spec", r#"[{"name": "s"}]"#);
    for (json, stored) in [
        (
            r#"{"$int": "18446744073709551616"}"#,
            "2(h'010000000000000000')",
        ),
        (r#"{"$bytes": "\\xff"}"#, "h'ff'"),
        (r#"{"$float": "-inf"}"#, "-Infinity"),
        (r#"{"$tag": [37, {"$bytes": "\\xff"}]}"#, "37(h'ff')"),
        (r#"{"$map": [[1, "one"]]}"#, r#"{1: "one"}"#),
        ("9007199254740993", "9007199254740993"),
        ("2.0", "2.0"),
        (r#""wörld""#, r#""wörld""#),
        ("null", "null"),
    ] {
        let unit = format!(r#"["s", [["k", {{"v": {json}}}]]]"#);
        http.call("add_work_units", &unit);
        assert_eq!(
            cborrpc.data("s", "k"),
            diag(&format!(r#"{{"v": {stored}}}"#)),
            "{json}"
        );
        let units = http.call("get_work_units", r#"["s", {"work_unit_keys": ["k"]}]"#);
        let expected: Json = serde_json::from_str(json).unwrap();
        assert_eq!(units, json!([["k", {"v": expected}]]), "{json}");
    }
    // What came as bytes is text if it can be.
    cborrpc.add("s", "['bytes', {'k': 'v'}]");
    let units = http.call("get_work_units", r#"["s", {"work_unit_keys": ["bytes"]}]"#);
    assert_eq!(units, json!([["bytes", {"k": "v"}]]));
}

#[test]
fn failures_are_problem_details_that_tell_whose_fault_they_are() {
    let server = start(&["--max-depth", "20"]);
    let http = Client::of(&server);
    http.call("set_work_spec", r#"[{"name": "s"}]"#);
    let deep = format!(
        r#"["s", [["k", {{"v": {}1{}}}]]]"#,
        "[".repeat(30),
        "]".repeat(30)
    );
    for (path, body, status, problem, says) in [
        ("nonesuch", "", 404, "no-such-method", "GET /rpc"),
        (
            "count_work_units",
            r#"["t"]"#,
            404,
            "no-such-work-spec",
            r#"no such work spec "t""#,
        ),
        ("get_work_spec", r#"["t"]"#, 404, "no-such-work-spec", "t"),
        ("del_work_spec", r#"["t"]"#, 404, "no-such-work-spec", "t"),
        (
            "get_attempts",
            r#"["s", "u", {}]"#,
            404,
            "no-such-work-unit",
            "u",
        ),
        (
            "update_work_unit",
            r#"["s", "u", {"status": 4}]"#,
            404,
            "no-such-work-unit",
            "u",
        ),
        (
            "del_work_units",
            r#"["s", {}]"#,
            409,
            "refused",
            "no usable options",
        ),
        (
            "prioritize_work_units",
            r#"["s", {}]"#,
            409,
            "refused",
            "work_unit_keys",
        ),
        (
            "count_work_units",
            "[]",
            400,
            "invalid",
            "parameter work_spec_name: missing",
        ),
        (
            "count_work_units",
            r#"{"name": "s"}"#,
            400,
            "invalid",
            "expected work_spec_name",
        ),
        ("count_work_units", "5", 400, "invalid", "params"),
        (
            "set_work_spec",
            r#"[{"name": "s", "weight": -1}]"#,
            400,
            "invalid",
            "weight",
        ),
        ("now", "{nonsense", 400, "invalid", "not JSON"),
        ("now", "[] []", 400, "invalid", "not JSON"),
        ("now", "\u{feff}[]", 400, "invalid", "not JSON"),
        ("now", r#"{"$bytes": 5}"#, 400, "invalid", "$bytes"),
        ("add_work_units", &deep, 400, "invalid", "20"),
    ] {
        let answer = http.post(&format!("/rpc/{path}"), body);
        assert_eq!(answer.status, status, "{path} {body}: {answer:?}");
        assert_eq!(answer.problem(), problem, "{path} {body}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(says), "{path} {body}: {detail}");
    }
    let answer = http
        .post("/rpc/get_work", r#"["w", {"lease_time": "long"}]"#)
        .json();
    assert_eq!(answer["method"], "get_work");
    assert_eq!(answer["parameter"], "lease_time");
    assert_eq!(http.call("count_work_units", r#"["s"]"#), json!({}));
}

#[test]
fn a_list_of_calls_is_run_in_order_and_a_failed_one_does_not_affect_the_others() {
    let server = start(&["--max-batch", "5"]);
    let http = Client::of(&server);
    let calls = json!([
        {"id": 1, "method": "set_work_spec", "params": [{"name": "s"}]},
        {"id": "two", "method": "add_work_units", "params": ["s", [["a", {}]]]},
        {"method": "count_work_units", "params": {"work_spec_name": "t"}},
        {"method": "nonesuch", "params": []},
        {"id": 5, "method": "count_work_units", "params": ["s"]},
    ]);
    let answer = http.post("/rpc", &calls.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    let answers = answer.json();
    assert_eq!(answers[0], json!({"id": 1, "result": true}));
    assert_eq!(answers[1], json!({"id": "two", "result": true}));
    assert_eq!(
        answers[2]["error"]["type"],
        "urn:coordinated:problem:no-such-work-spec"
    );
    assert_eq!(answers[2]["error"]["method"], "count_work_units");
    assert_eq!(answers[3]["error"]["status"], 400);
    assert_eq!(answers[4], json!({"id": 5, "result": {"1": 1}}));

    let too_many = Json::Array(vec![json!({"method": "now", "params": []}); 6]);
    let answer = http.post("/rpc", &too_many.to_string());
    assert_eq!((answer.status, &*answer.problem()), (400, "invalid"));
    for body in ["", "{}", "null"] {
        let answer = http.post("/rpc", body);
        assert_eq!(
            (answer.status, &*answer.problem()),
            (400, "invalid"),
            "{body}"
        );
    }
    assert_eq!(http.post("/rpc", "[]").json(), json!([]));
}

#[test]
fn workers_without_a_connection_are_fenced_by_the_ids_of_their_attempts() {
    let server = start(&[]);
    let http = Client::of(&server);
    http.call("set_work_spec", r#"[{"name": "s"}]"#);
    http.call("add_work_units", r#"["s", [["a", {"n": 1}]]]"#);
    let get = |worker: &str, lease: f64| {
        let options = json!({"attempts": true, "lease_time": lease, "wait": 10});
        http.call("get_work", &json!([worker, options]).to_string())
    };
    let first = get("one", 1.0);
    assert_eq!(
        (&first[0], &first[1], &first[2]),
        (&json!("s"), &json!("a"), &json!({"n": 1}))
    );
    // The lease of the first one runs out meanwhile.
    let second = get("two", 100.0);
    assert_eq!(second[1], "a");
    assert_eq!(second[3]["number"], 2);
    let finish = |given: &Json| {
        let options = json!({"status": 4, "attempt": given[3]["attempt"]});
        http.post(
            "/rpc/update_work_unit",
            &json!(["s", "a", options]).to_string(),
        )
    };
    let late = finish(&first);
    assert_eq!((late.status, &*late.problem()), (409, "refused"));
    let detail = late.json()["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("lease") && detail.contains("was lost"),
        "{detail}"
    );
    assert_eq!(finish(&second).status, 200);
    assert_eq!(http.call("count_work_units", r#"["s"]"#), json!({"4": 1}));
}

#[test]
fn a_request_that_waits_gets_the_unit_that_is_added_and_one_whose_client_is_gone_gets_none() {
    let server = start(&[]);
    let http = Client::of(&server);
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's'}");
    let get = r#"["w", {"wait": 60, "work_spec_names": ["s"]}]"#;
    // This one is gone before there is a unit.
    let mut gone = super::Raw::connect(&server);
    let head = "POST /rpc/get_work HTTP/1.1\r\nHost: localhost\r\nContent-Length";
    gone.send(format!("{head}: {}\r\n\r\n{get}", get.len()));
    wait_until("it waits", || {
        cborrpc
            .call("server_info", "")
            .at("calls")
            .get("get_work")
            .is_some()
    });
    assert!(gone.is_silent());
    drop(gone);
    let waiting = {
        let http = http.clone();
        thread::spawn(move || http.call("get_work", get))
    };
    wait_until("both have asked", || {
        let info = cborrpc.call("server_info", "");
        info.at("calls").at("get_work") == &Value::Unsigned(2)
    });
    thread::sleep(Duration::from_millis(50));
    cborrpc.add("s", "['a', {'n': 1}]");
    assert_eq!(waiting.join().unwrap(), json!(["s", "a", {"n": 1}]));
    // A wait that ends without a unit.
    let empty = http.call("get_work", r#"["w", {"wait": 0.1}]"#);
    assert_eq!(empty, json!([null, null, null]));
}

#[test]
fn long_lists_and_calls_in_steps_are_answered_whole() {
    let server = start(&[]);
    let http = Client::of(&server);
    http.call("set_work_spec", r#"[{"name": "s"}]"#);
    let units: Vec<Json> = (0..8_000)
        .map(|n| json!([format!("u{n:05}"), {"n": n}]))
        .collect();
    let options = json!({"counts": true});
    let added = http.call("add_work_units", &json!(["s", units, options]).to_string());
    assert_eq!(added, json!({"new": 8_000, "reset": 0, "skipped": 0}));
    let listed = http.call("get_work_units", r#"["s", {"limit": 8000}]"#);
    assert!(
        listed == json!(units),
        "{} units",
        listed.as_array().unwrap().len()
    );
    let keys: Vec<String> = (0..2_000).map(|n| format!("u{n:05}")).collect();
    let statuses = http.call("get_work_unit_status", &json!(["s", keys]).to_string());
    assert_eq!(statuses.as_array().unwrap().len(), 2_000);
    assert_eq!(statuses[1_999]["status"], 1);
}
