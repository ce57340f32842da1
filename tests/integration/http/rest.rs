//! REST: each row of the table in docs/rest.md, the names of its errors, and what its clients rely on.

use super::{Answer, Client, Raw, start};
use serde_json::{Value as Json, json};
use std::time::Duration;
use test_support::{Server, run_to_end, wait_until};

const V1: &str = "application/vnd.diffeo.coordinate.v1+json";
const NO_TIME: &str = "0001-01-01T00:00:00Z";
const MINUTE: u64 = 60_000_000_000;

/// A client that sends and takes what the original client does.
struct Rest {
    http: Client,
}

impl Rest {
    fn of(server: &Server) -> Rest {
        Rest {
            http: Client::of(server),
        }
    }

    fn send(&self, method: &str, url: &str, body: &str) -> Answer {
        let headers = [("Content-Type", V1), ("Accept", V1)];
        let answer = self.http.send(method, url, &headers, body);
        assert_eq!(answer.content_type, V1, "{method} {url}: {answer:?}");
        answer
    }

    /// A request that succeeds with this status.
    fn expect(&self, status: u16, method: &str, url: &str, body: &Json) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.send(method, url, &body);
        assert_eq!(answer.status, status, "{method} {url} {body}: {answer:?}");
        answer
    }

    fn get(&self, url: &str) -> Json {
        self.expect(200, "GET", url, &Json::Null).json()
    }

    fn post(&self, url: &str, body: &Json) -> Json {
        self.expect(200, "POST", url, body).json()
    }

    fn put(&self, url: &str, body: &Json) {
        assert_eq!(self.expect(204, "PUT", url, body).body, "");
    }

    fn act(&self, url: &str, body: &Json) {
        assert_eq!(self.expect(204, "POST", url, body).body, "");
    }

    /// Makes something, and returns its document.
    fn make(&self, url: &str, body: &Json) -> Json {
        let answer = self.expect(201, "POST", url, body);
        let document = answer.json();
        assert_eq!(answer.location.as_deref(), document["url"].as_str());
        document
    }

    /// The status and the error of a request that fails.
    fn error(&self, method: &str, url: &str, body: &str) -> (u16, String, Json) {
        let answer = self.send(method, url, body);
        let error = answer.json();
        assert!(answer.status >= 400, "{method} {url}: {answer:?}");
        assert!(error["message"].as_str().is_some_and(|it| !it.is_empty()));
        let name = error["error"].as_str().expect("an error").to_owned();
        (answer.status, name, error["value"].clone())
    }

    /// A namespace with a work spec, and the URLs of the two.
    fn spec(&self, namespace: &str, data: &Json) -> String {
        let specs = format!("/namespace/{namespace}/work_spec");
        let made = self.make(&specs, &json!({"data": data}));
        made["url"].as_str().expect("a URL").to_owned()
    }

    fn unit(&self, spec: &str, body: &Json) -> String {
        let made = self.make(&format!("{spec}/work_unit"), body);
        made["url"].as_str().expect("a URL").to_owned()
    }

    /// The attempts that a worker is given.
    fn request(&self, worker: &str, body: &Json) -> Vec<Json> {
        let given = self.post(&format!("{worker}/request_attempts"), body);
        given["attempts"].as_array().expect("a list").clone()
    }
}

fn text<'a>(document: &'a Json, key: &str) -> &'a str {
    let value = document[key].as_str();
    value.unwrap_or_else(|| panic!("{key} in {document}"))
}

fn names(list: &Json) -> Vec<&str> {
    let list = list.as_array().expect("a list");
    list.iter().map(|item| text(item, "name")).collect()
}

#[test]
fn the_root_and_the_namespaces_name_each_other_and_a_namespace_is_made_by_its_name() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    assert_eq!(
        rest.get("/"),
        json!({"url": "", "namespaces_url": "/namespace", "namespace_url": "/namespace/{namespace}",
               "summary_url": "/summary"})
    );
    assert_eq!(
        rest.get("/namespace"),
        json!({"namespaces": [{"name": "", "url": "/namespace/-"}]})
    );
    assert_eq!(
        rest.get("/namespace/ns1"),
        json!({"name": "ns1", "url": "/namespace/ns1", "summary_url": "/namespace/ns1/summary",
               "work_specs_url": "/namespace/ns1/work_spec",
               "work_spec_url": "/namespace/ns1/work_spec/{spec}",
               "workers_url": "/namespace/ns1/worker", "worker_url": "/namespace/ns1/worker/{worker}"})
    );
    let made = rest.make("/namespace", &json!({"name": "caf\u{e9}"}));
    assert_eq!(text(&made, "url"), "/namespace/-Y2Fmw6k");
    assert_eq!(rest.make("/namespace", &json!({}))["url"], "/namespace/-");
    let listed = rest.get("/namespace");
    assert_eq!(names(&listed["namespaces"]), ["", "caf\u{e9}", "ns1"]);
    rest.spec("ns1", &json!({"name": "s"}));
    rest.get("/namespace/ns1/worker/w");
    rest.expect(204, "DELETE", "/namespace/ns1", &Json::Null);
    assert_eq!(
        names(&rest.get("/namespace")["namespaces"]),
        ["", "caf\u{e9}"]
    );
    assert_eq!(
        rest.get("/namespace/ns1/work_spec"),
        json!({"work_specs": []})
    );
}

#[test]
fn the_namespace_of_cbor_rpc_is_the_one_with_its_name_and_others_are_apart() {
    let server = start(&["--namespace", "main"]);
    let rest = Rest::of(&server);
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's'}");
    cborrpc.add("s", "['u', {'k': 1}]");
    let spec = "/namespace/main/work_spec/s";
    assert_eq!(rest.get(&format!("{spec}/counts")), json!({"available": 1}));
    let other = rest.spec("other", &json!({"name": "s"}));
    rest.unit(&other, &json!({"name": "v"}));
    let given = rest.request("/namespace/other/worker/w", &json!({}));
    assert_eq!(given.len(), 1);
    assert!(text(&given[0], "url").starts_with("/namespace/other/work_spec/s/work_unit/v/"));
    // What one leaves in its namespace, the other does not see.
    assert!(
        rest.request("/namespace/other/worker/w", &json!({}))
            .is_empty()
    );
    let given = rest.request("/namespace/main/worker/w", &json!({}));
    assert_eq!(given[0]["data"], json!({"k": 1}));
    // The namespace of CBOR-RPC stays when it is emptied.
    rest.expect(204, "DELETE", "/namespace/main", &Json::Null);
    assert!(cborrpc.spec_names().is_empty());
    cborrpc.set_spec("{'name': 't'}");
    assert_eq!(
        names(&rest.get("/namespace/main/work_spec")["work_specs"]),
        ["t"]
    );
}

#[test]
fn units_that_rest_adds_wake_a_worker_that_waits_over_cbor_rpc() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = rest.spec("-", &json!({"name": "s"}));
    let other = rest.spec("other", &json!({"name": "s"}));
    let http = Client::of(&server);
    let waiting = std::thread::spawn(move || http.call("get_work", r#"["w", {"wait": 60}]"#));
    let mut cborrpc = server.connect();
    wait_until("it waits", || {
        let info = cborrpc.call("server_info", "");
        let calls = info.at("calls").get("get_work");
        calls.and_then(test_support::Value::number) == Some(1.0)
    });
    rest.unit(&other, &json!({"name": "not this one"}));
    rest.unit(&spec, &json!({"name": "u"}));
    assert_eq!(waiting.join().expect("it ends")[1], "u");
}

#[test]
fn work_specs_are_made_shown_changed_and_deleted() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let data = json!({"name": "spec", "continuous": true, "interval": 60, "max_getwork": 4,
                      "min_gb": 1, "priority": 2, "weight": 30, "own": [1.0, null]});
    let url = rest.spec("ns1", &data);
    assert_eq!(url, "/namespace/ns1/work_spec/spec");
    let query = "{?name*,status*,previous,limit}";
    assert_eq!(
        rest.get(&url),
        json!({"name": "spec", "url": url, "data": data, "meta": format!("{url}/meta{{?counts}}"),
               "summary_url": format!("{url}/summary"), "work_units_url": format!("{url}/work_unit"),
               "work_unit_counts_url": format!("{url}/counts"),
               "work_unit_url": format!("{url}/work_unit/{{unit}}"),
               "work_unit_query_url": format!("{url}/work_unit{query}"),
               "work_unit_change_url": format!("{url}/change{query}"),
               "work_unit_adjust_url": format!("{url}/adjust{query}")})
    );
    assert_eq!(
        rest.get("/namespace/ns1/work_spec"),
        json!({"work_specs": [{"name": "spec", "url": url}]})
    );
    let meta = format!("{url}/meta");
    let mut expected = json!({"priority": 2, "weight": 30, "paused": false, "continuous": true,
        "can_be_continuous": true, "min_memory_gb": 1.0, "interval": MINUTE, "next_continuous": NO_TIME,
        "max_running": 0, "max_attempts_returned": 4, "max_retries": 0, "next_work_spec_name": "",
        "runtime": ""});
    assert_eq!(rest.get(&meta), expected);
    assert_eq!(rest.get(&format!("{meta}?counts=no")), expected);
    expected["available_count"] = json!(0);
    expected["pending_count"] = json!(0);
    assert_eq!(rest.get(&format!("{meta}?counts=true")), expected);

    rest.put(
        &meta,
        &json!({"priority": 3, "weight": 5, "paused": true, "continuous": true, "max_running": 7,
                "max_retries": 2, "max_attempts_returned": 1, "interval": 2 * MINUTE, "min_memory_gb": 0.5,
                "next_continuous": "2035-01-01T01:00:00.25+01:00", "runtime": "ignored", "name": "x"}),
    );
    let changed = rest.get(&meta);
    for (key, value) in [
        ("priority", json!(3)),
        ("weight", json!(5)),
        ("paused", json!(true)),
        ("continuous", json!(true)),
        ("max_running", json!(7)),
        ("max_retries", json!(2)),
        ("max_attempts_returned", json!(1)),
        ("interval", json!(2 * MINUTE)),
        ("min_memory_gb", json!(0.5)),
        ("next_continuous", json!("2035-01-01T00:00:00.25Z")),
        ("runtime", json!("")),
    ] {
        assert_eq!(changed[key], value, "{key}");
    }
    // PUT without data changes nothing; with data it sets all but the next continuous unit.
    rest.put(&url, &json!({}));
    assert_eq!(rest.get(&meta), changed);
    rest.put(&url, &json!({"data": {"name": "spec", "then": "next"}}));
    let reset = rest.get(&meta);
    assert_eq!(
        (&reset["weight"], &reset["paused"]),
        (&json!(20), &json!(false))
    );
    assert_eq!(reset["next_work_spec_name"], "next");
    assert_eq!(reset["next_continuous"], changed["next_continuous"]);
    assert_eq!(reset.get("min_memory_gb"), None);
    // A spec that does not say continuous can't be made so, which is no error.
    rest.put(&meta, &json!({"continuous": true}));
    assert_eq!(rest.get(&meta)["continuous"], false);

    rest.expect(204, "DELETE", &url, &Json::Null);
    let gone = (404, "ErrNoSuchWorkSpec".to_owned(), json!("spec"));
    for (method, url) in [
        ("DELETE", url.clone()),
        ("GET", url.clone()),
        ("GET", meta.clone()),
        ("GET", format!("{url}/counts")),
        ("GET", format!("{url}/summary")),
        ("GET", format!("{url}/work_unit")),
        ("GET", format!("{url}/work_unit?name=a")),
        ("GET", format!("{url}/work_unit/u")),
        ("DELETE", format!("{url}/work_unit")),
        ("DELETE", format!("{url}/work_unit?name=a")),
    ] {
        assert_eq!(rest.error(method, &url, ""), gone, "{method} {url}");
    }
    for (method, url) in [
        ("PUT", url.clone()),
        ("PUT", meta),
        ("POST", format!("{url}/work_unit")),
        ("POST", format!("{url}/change")),
        ("POST", format!("{url}/adjust")),
    ] {
        assert_eq!(rest.error(method, &url, "{}"), gone, "{method} {url}");
    }
}

#[test]
fn a_work_spec_without_a_proper_name_is_refused_by_the_name_of_the_error() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let specs = "/namespace/n/work_spec";
    for (body, name) in [
        (r#"{"data": {}}"#, "ErrNoWorkSpecName"),
        (r#"{"data": {"name": ""}}"#, "ErrNoWorkSpecName"),
        (r#"{"data": {"name": null}}"#, "ErrNoWorkSpecName"),
        (r#"{"data": {"name": 4}}"#, "ErrBadWorkSpecName"),
        ("{}", "error"),
        (r#"{"data": {"name": "s", "weight": "heavy"}}"#, "error"),
        (r#"{"data": "!"}"#, "error"),
        (r#"{"data": 5}"#, "error"),
        ("", "error"),
        ("null", "error"),
        ("[", "error"),
    ] {
        let (status, error, _) = rest.error("POST", specs, body);
        assert_eq!((status, &*error), (400, name), "{body}");
    }
    let url = rest.spec("n", &json!({"name": "s"}));
    for (body, name) in [
        (r#"{"data": {"name": "t"}}"#, "ErrChangedName"),
        (r#"{"data": {}}"#, "ErrNoWorkSpecName"),
    ] {
        assert_eq!(rest.error("PUT", &url, body).1, name, "{body}");
    }
}

#[test]
fn units_are_added_shown_and_changed() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = rest.spec("ns1", &json!({"name": "spec"}));
    let data =
        json!({"x": 1, "f": 1.5, "s": "str", "n": null, "l": [1, "a", []], "m": {"k": true}});
    let meta = json!({"priority": 3, "not_before": NO_TIME});
    let url = rest.unit(&spec, &json!({"name": "u1", "data": data, "meta": meta}));
    assert_eq!(
        rest.get(&url),
        json!({"name": "u1", "url": url, "work_spec_url": spec, "attempts_url": format!("{url}/attempts"),
               "data": data, "meta": {"priority": 3.0, "not_before": NO_TIME}, "status": "available"})
    );
    // Without anything: the empty name, no data, no delay.
    let empty = rest.unit(
        &spec,
        &json!({"status": "any", "attempts_url": "", "meta": null}),
    );
    assert!(empty.ends_with("/work_unit/-"));
    let shown = rest.get(&empty);
    assert_eq!((shown.get("data"), &shown["name"]), (None, &json!("")));
    assert_eq!(
        shown["meta"],
        json!({"priority": 0.0, "not_before": NO_TIME})
    );
    let later = "2035-01-01T00:00:00.5Z";
    let delayed = json!({"name": "d", "meta": {"not_before": later}});
    let delayed = rest.get(&rest.unit(&spec, &delayed));
    assert_eq!(delayed["status"], "delayed");
    let not_before = text(&delayed["meta"], "not_before");
    assert_eq!(&not_before[..19], &later[..19]);
    // PUT sets both parts of the meta, and no data.
    rest.put(
        &url,
        &json!({"meta": {"priority": 7, "not_before": later}, "data": {"no": 1}}),
    );
    let shown = rest.get(&url);
    assert_eq!(
        (&shown["data"], &shown["status"]),
        (&data, &json!("delayed"))
    );
    assert_eq!(shown["meta"], json!({"priority": 7.0, "not_before": later}));
    rest.put(&url, &json!({"meta": null}));
    assert_eq!(rest.get(&url)["meta"]["priority"], 7.0);
    rest.put(&url, &json!({"meta": {"priority": 1}}));
    assert_eq!(rest.get(&url)["status"], "available");

    let missing = format!("{spec}/work_unit/missing");
    let error = (404, "ErrNoSuchWorkUnit".to_owned(), json!("missing"));
    assert_eq!(rest.error("GET", &missing, ""), error);
    assert_eq!(rest.error("PUT", &missing, "{}"), error);
    assert_eq!(rest.error("GET", &format!("{missing}/attempts"), ""), error);
    assert_eq!(
        rest.error("GET", &format!("{missing}/num-attempts"), ""),
        error
    );
    assert_eq!(
        rest.error("GET", &format!("{missing}/attempt/w/1"), ""),
        error
    );
    let made = r#"{"work_spec": "spec", "work_unit": "missing"}"#;
    assert_eq!(
        rest.error("POST", "/namespace/ns1/worker/w/make_attempt", made),
        error
    );
}

#[test]
fn a_unit_that_is_added_again_is_available_again_unless_it_is_pending() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = rest.spec("n", &json!({"name": "s"}));
    let worker = "/namespace/n/worker/w";
    for (action, after) in [
        (None, "pending"),
        (Some("finish"), "available"),
        (Some("fail"), "available"),
        (Some("expire"), "available"),
        (Some("retry"), "available"),
    ] {
        let unit = rest.unit(&spec, &json!({"name": "u", "data": {"v": 1}}));
        let make = json!({"work_spec": "s", "work_unit": "u", "lifetime": 0});
        let attempt = rest.post(&format!("{worker}/make_attempt"), &make);
        if let Some(action) = action {
            rest.act(text(&attempt, &format!("{action}_url")), &json!({}));
        }
        rest.unit(
            &spec,
            &json!({"name": "u", "data": {"v": 2}, "meta": {"priority": 5}}),
        );
        let shown = rest.get(&unit);
        assert_eq!(shown["status"], after, "{action:?}");
        assert_eq!(shown["data"], json!({"v": 2}), "{action:?}");
        assert_eq!(shown["meta"]["priority"], 5.0);
        let has_attempt = shown.get("active_attempt_url").is_some();
        assert_eq!(has_attempt, after == "pending", "{action:?}");
        rest.expect(200, "DELETE", &format!("{spec}/work_unit"), &Json::Null);
    }
}

/// A spec with a unit in each status, named by it, and two more that are available.
fn units_in_all_statuses(rest: &Rest, namespace: &str) -> String {
    let spec = rest.spec(namespace, &json!({"name": "spec"}));
    for (name, action) in [
        ("available", None),
        ("pending", Some("")),
        ("finished", Some("finish")),
        ("failed", Some("fail")),
        ("expired", Some("expire")),
        ("retryable", Some("retry")),
    ] {
        rest.unit(&spec, &json!({"name": name}));
        let make = json!({"work_spec": "spec", "work_unit": name});
        let worker = format!("/namespace/{namespace}/worker/w");
        if let Some(action) = action {
            let attempt = rest.post(&format!("{worker}/make_attempt"), &make);
            if !action.is_empty() {
                rest.act(
                    text(&attempt, &format!("{action}_url")),
                    &json!({"delay": 0}),
                );
            }
        }
    }
    spec
}

#[test]
fn queries_find_units_by_name_status_and_order_together() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = units_in_all_statuses(&rest, "n");
    for (query, expected) in [
        (
            "",
            &[
                "available",
                "expired",
                "failed",
                "finished",
                "pending",
                "retryable",
            ][..],
        ),
        ("?limit=4", &["available", "expired", "failed", "finished"]),
        ("?limit=4&previous=finished", &["pending", "retryable"]),
        ("?limit=0&previous=pending", &["retryable"]),
        ("?previous=retryable", &[]),
        ("?status=available", &["available", "expired", "retryable"]),
        ("?status=pending", &["pending"]),
        ("?status=failed", &["failed"]),
        ("?status=failed&status=finished", &["failed", "finished"]),
        ("?status=delayed", &[]),
        ("?status=any", &[]),
        (
            "?name=failed&name=available&name=missing&name=failed",
            &["available", "failed"],
        ),
        (
            "?name=available&name=finished&status=finished",
            &["finished"],
        ),
        (
            "?name=available&name=failed&name=pending&limit=2",
            &["available", "failed"],
        ),
        (
            "?name=available&name=failed&previous=available",
            &["failed"],
        ),
        (
            "?other=1",
            &[
                "available",
                "expired",
                "failed",
                "finished",
                "pending",
                "retryable",
            ],
        ),
    ] {
        let found = rest.get(&format!("{spec}/work_unit{query}"));
        assert_eq!(names(&found["work_units"]), expected, "{query}");
    }
    for query in ["?limit=x", "?status=bogus", "?previous=-!"] {
        let url = format!("{spec}/work_unit{query}");
        assert_eq!(rest.error("GET", &url, "").0, 400, "{query}");
    }
    assert_eq!(
        rest.get(&format!("{spec}/counts")),
        json!({"available": 3, "pending": 1, "finished": 1, "failed": 1})
    );
    let record = |status, count| json!({"Namespace": "n", "WorkSpec": "spec", "Status": status, "Count": count});
    let summary = json!([
        record("available", 3),
        record("pending", 1),
        record("finished", 1),
        record("failed", 1)
    ]);
    for url in [
        "/summary",
        "/namespace/n/summary",
        "/namespace/n/work_spec/spec/summary",
    ] {
        assert_eq!(rest.get(url), summary, "{url}");
    }
    assert_eq!(rest.get("/namespace/-/summary"), json!([]));
}

#[test]
fn queries_delete_units_and_change_their_priorities() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = units_in_all_statuses(&rest, "n");
    let priority = |name: &str| {
        let unit = rest.get(&format!("{spec}/work_unit/{name}"));
        unit["meta"]["priority"].as_f64().expect("a number")
    };
    let change = json!({"meta": {"priority": 4}});
    rest.act(&format!("{spec}/change?name=failed&name=missing"), &change);
    rest.act(
        &format!("{spec}/adjust?status=failed"),
        &json!({"meta": {"priority": -1.5}}),
    );
    rest.act(&format!("{spec}/adjust"), &json!({"meta": {"priority": 1}}));
    rest.act(&format!("{spec}/change"), &json!({}));
    assert_eq!((priority("failed"), priority("pending")), (3.5, 1.0));
    rest.act(&format!("{spec}/change?previous=finished&limit=1"), &change);
    assert_eq!((priority("pending"), priority("retryable")), (4.0, 1.0));

    let delete = |query: &str| {
        let url = format!("{spec}/work_unit{query}");
        rest.expect(200, "DELETE", &url, &Json::Null).json()["Deleted"].clone()
    };
    assert_eq!(delete("?name=retryable"), 1);
    assert_eq!(delete("?name=retryable"), 0);
    assert_eq!(delete("?status=failed&status=finished"), 2);
    assert_eq!(delete("?status=available&limit=1"), 1);
    let left = rest.get(&format!("{spec}/work_unit"));
    assert_eq!(names(&left["work_units"]), ["expired", "pending"]);
    assert_eq!(delete(""), 2);
    assert_eq!(rest.get(&format!("{spec}/counts")), json!({}));
}

#[test]
fn a_long_queue_is_listed_and_deleted_in_steps() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's'}");
    for thousand in 0..12 {
        let units: Vec<_> = (0..1000)
            .map(|n| format!("['u{thousand:02}{n:03}', {{}}]"))
            .collect();
        cborrpc.add("s", &units.join(", "));
    }
    let spec = "/namespace/-/work_spec/s";
    let found = rest.get(&format!("{spec}/work_unit"));
    let found = names(&found["work_units"]);
    assert_eq!(
        (found.len(), found[0], found[11_999]),
        (12_000, "u00000", "u11999")
    );
    assert!(found.is_sorted());
    let found = rest.get(&format!("{spec}/work_unit?limit=10500&previous=u00999"));
    assert_eq!(names(&found["work_units"]).len(), 10_500);
    let url = format!("{spec}/work_unit?previous=u00999&status=available");
    let deleted = rest.expect(200, "DELETE", &url, &Json::Null).json();
    assert_eq!(deleted, json!({"Deleted": 11_000}));
    assert_eq!(
        rest.get(&format!("{spec}/counts")),
        json!({"available": 1000})
    );
}

#[test]
fn a_worker_gets_attempts_renews_them_and_finishes_them() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = rest.spec("ns1", &json!({"name": "spec"}));
    let unit = rest.unit(&spec, &json!({"name": "u1", "data": {"from": "unit"}}));
    let worker = "/namespace/ns1/worker/w1";
    rest.get(worker);
    let body = json!({"available_gb": 0, "lifetime": 0, "number_of_work_units": 2, "work_specs": ["spec"],
                      "runtimes": null});
    let given = rest.post(&format!("{worker}/request_attempts"), &body);
    assert_eq!(given["work_spec_url"], *spec);
    let attempt = given["attempts"][0].clone();
    assert_eq!(given["attempts"].as_array().map(Vec::len), Some(1));
    let url = text(&attempt, "url").to_owned();
    assert!(url.starts_with(&format!("{unit}/attempt/w1/")));
    for (key, value) in [
        ("status", json!("pending")),
        ("data", json!({"from": "unit"})),
        ("end_time", json!(NO_TIME)),
        ("work_unit_url", json!(unit)),
        ("worker_url", json!(worker)),
        ("renew_url", json!(format!("{url}/renew"))),
        ("expire_url", json!(format!("{url}/expire"))),
        ("finish_url", json!(format!("{url}/finish"))),
        ("fail_url", json!(format!("{url}/fail"))),
        ("retry_url", json!(format!("{url}/retry"))),
    ] {
        assert_eq!(attempt[key], value, "{key}");
    }
    assert_eq!(lease_of(&attempt), Duration::from_secs(900));
    assert_eq!(rest.get(&url), attempt);
    let pending = rest.get(&unit);
    assert_eq!(
        (&pending["status"], &pending["active_attempt_url"]),
        (&json!("pending"), &json!(url))
    );
    let short = json!({"attempts": [{"url": url, "work_unit_url": unit, "worker_url": worker,
                                     "start_time": attempt["start_time"]}]});
    for list in ["active_attempts", "all_attempts"] {
        assert_eq!(rest.get(&format!("{worker}/{list}")), short, "{list}");
    }
    assert_eq!(rest.get(&format!("{unit}/attempts")), short);
    assert_eq!(rest.get(&format!("{unit}/num-attempts")), 1);

    let renew = json!({"delay": 0, "extend_duration": 5 * MINUTE, "data": {"from": "renewal"}});
    rest.act(&format!("{url}/renew"), &renew);
    let renewed = rest.get(&url);
    assert_eq!(renewed["data"], json!({"from": "renewal"}));
    let extended = lease_of(&renewed).as_secs();
    assert!((300..310).contains(&extended), "{extended}");
    rest.act(
        &format!("{url}/finish"),
        &json!({"delay": 0, "extend_duration": 0}),
    );
    let finished = rest.get(&url);
    assert_eq!(
        (&finished["status"], &finished["data"]),
        (&json!("finished"), &json!({"from": "renewal"}))
    );
    assert_ne!(finished["end_time"], NO_TIME);
    let done = rest.get(&unit);
    assert_eq!(
        (&done["status"], &done["data"]),
        (&json!("finished"), &json!({"from": "renewal"}))
    );
    assert_eq!(done["active_attempt_url"], *url);
    assert_eq!(
        rest.get(&format!("{worker}/active_attempts")),
        json!({"attempts": []})
    );
    assert_eq!(rest.get(&format!("{worker}/all_attempts")), short);
    assert_eq!(rest.request(worker, &json!({})), [] as [Json; 0]);

    // Clearing the attempt gives the unit its own data back, and keeps the history.
    rest.put(&unit, &json!({"active_attempt_url": "-", "meta": null}));
    let cleared = rest.get(&unit);
    assert_eq!(
        (&cleared["status"], &cleared["data"]),
        (&json!("available"), &json!({"from": "unit"}))
    );
    assert_eq!(cleared.get("active_attempt_url"), None);
    assert_eq!(rest.get(&format!("{unit}/attempts")), short);
    rest.put(&unit, &json!({"active_attempt_url": "-"}));
}

fn lease_of(attempt: &Json) -> Duration {
    let times = ["start_time", "expiration_time"]
        .map(|key| humantime::parse_rfc3339(text(attempt, key)).expect("a time"));
    times[1].duration_since(times[0]).expect("it ends later")
}

#[test]
fn an_attempt_that_has_ended_can_be_changed_only_as_the_table_says() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = rest.spec("n", &json!({"name": "s"}));
    let make = json!({"work_spec": "s", "work_unit": "u", "lifetime": MINUTE});
    let actions = ["renew", "expire", "finish", "fail", "retry"];
    // For each end of an attempt, what each of the actions does then.
    let lost = Some("ErrLostLease");
    let ended = Some("ErrNotPending");
    for (first, outcomes, status) in [
        ("expire", [lost, None, ended, ended, ended], "expired"),
        ("finish", [ended, ended, ended, ended, ended], "finished"),
        ("fail", [ended, ended, None, ended, ended], "finished"),
        ("retry", [ended, ended, ended, ended, ended], "retryable"),
    ] {
        let unit = rest.unit(&spec, &json!({"name": "u"}));
        let attempt = rest.post("/namespace/n/worker/w/make_attempt", &make);
        let url = text(&attempt, "url");
        rest.act(&format!("{url}/{first}"), &json!({}));
        for (action, outcome) in actions.iter().zip(outcomes) {
            let url = format!("{url}/{action}");
            match outcome {
                None => rest.act(&url, &json!({})),
                Some(name) => {
                    let (status, error, _) = rest.error("POST", &url, "{}");
                    assert_eq!((status, &*error), (409, name), "{first}, {action}");
                }
            }
        }
        assert_eq!(rest.get(url)["status"], status, "{first}");
        assert_eq!(rest.get(&format!("{unit}/num-attempts")), 1);
        rest.expect(200, "DELETE", &format!("{spec}/work_unit"), &Json::Null);
        assert_eq!(rest.error("GET", url, "").1, "ErrNoSuchWorkUnit");
    }
}

#[test]
fn a_worker_whose_unit_was_taken_away_may_report_but_changes_only_the_history() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = rest.spec("n", &json!({"name": "one", "then": "two"}));
    let two = rest.spec("n", &json!({"name": "two", "disabled": true}));
    let unit = rest.unit(&spec, &json!({"name": "a"}));
    let worker = "/namespace/n/worker/w";
    let first = rest.request(worker, &json!({})).remove(0);
    rest.put(&unit, &json!({"active_attempt_url": "-"}));
    let second = rest.request(worker, &json!({})).remove(0);
    assert_ne!(first["url"], second["url"]);
    let output = json!({"data": {"output": ["x"]}});
    rest.act(text(&first, "finish_url"), &output);
    assert_eq!(rest.get(text(&first, "url"))["status"], "finished");
    assert_eq!(rest.get(&unit)["status"], "pending");
    assert_eq!(rest.get(&unit)["active_attempt_url"], second["url"]);
    assert_eq!(rest.get(&format!("{two}/counts")), json!({}));
    // Renewing a lost lease tells the worker so, and keeps its data in the history.
    let make = json!({"work_spec": "one", "work_unit": "a"});
    let third = rest.post(&format!("{worker}/make_attempt"), &make);
    let url = text(&second, "renew_url");
    let late = r#"{"data": {"late": true}}"#;
    assert_eq!(rest.error("POST", url, late).1, "ErrLostLease");
    let second = rest.get(text(&second, "url"));
    assert_eq!(
        (&second["status"], &second["data"]),
        (&json!("expired"), &json!({"late": true}))
    );
    rest.act(text(&third, "finish_url"), &output);
    let added = rest.get(&format!("{two}/work_unit"));
    assert_eq!(names(&added["work_units"]), ["x"]);
    assert_eq!(
        rest.get(&format!("{unit}/attempts"))["attempts"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );
}

#[test]
fn a_long_output_is_added_before_the_finish_is_answered() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = rest.spec("n", &json!({"name": "one", "then": "two"}));
    let two = rest.spec("n", &json!({"name": "two"}));
    rest.unit(&spec, &json!({"name": "a"}));
    let attempt = rest.request("/namespace/n/worker/w", &json!({})).remove(0);
    let output: Vec<String> = (0..5_000).map(|n| format!("u{n}")).collect();
    rest.act(
        text(&attempt, "finish_url"),
        &json!({"data": {"output": output}}),
    );
    assert_eq!(
        rest.get(&format!("{two}/counts")),
        json!({"available": 5_000})
    );
}

#[test]
fn a_retried_unit_is_delayed_and_requests_choose_work_specs_and_runtimes() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let worker = "/namespace/n/worker/w";
    let go = rest.spec("n", &json!({"name": "go", "runtime": "go"}));
    let plain = rest.spec("n", &json!({"name": "plain", "max_retries": 1}));
    let unit = rest.unit(&go, &json!({"name": "g"}));
    rest.unit(&plain, &json!({"name": "p"}));
    assert!(
        rest.request(worker, &json!({"runtimes": ["other"]}))
            .is_empty()
    );
    assert!(
        rest.request(worker, &json!({"work_specs": ["nonesuch"]}))
            .is_empty()
    );
    let none = rest.post(
        &format!("{worker}/request_attempts"),
        &json!({"runtimes": ["other"]}),
    );
    assert_eq!(none, json!({"attempts": []}));
    let given = rest.request(
        worker,
        &json!({"runtimes": ["go", "other"], "lifetime": MINUTE}),
    );
    assert_eq!(lease_of(&given[0]), Duration::from_secs(60));
    rest.act(text(&given[0], "retry_url"), &json!({"delay": 60 * MINUTE}));
    let shown = rest.get(&unit);
    assert_eq!(shown["status"], "delayed");
    assert_ne!(shown["meta"]["not_before"], NO_TIME);
    assert_eq!(rest.get(text(&given[0], "url"))["status"], "retryable");
    // The empty runtime is one as well; no runtimes mean any.
    let given = rest.request(
        worker,
        &json!({"runtimes": [""], "work_specs": ["go", "plain"]}),
    );
    assert!(text(&given[0], "url").contains("/plain/"));
    rest.act(text(&given[0], "retry_url"), &json!({}));
    // It has had all its retries.
    assert!(rest.request(worker, &json!({})).is_empty());
    let failed = rest.get(&format!("{plain}/work_unit/p"));
    assert_eq!(
        (&failed["status"], &failed["data"]["traceback"]),
        (&json!("failed"), &json!("too many retries"))
    );
    rest.put(&unit, &json!({"meta": {"priority": 0}}));
    assert_eq!(rest.request(worker, &json!({})).len(), 1);
}

#[test]
fn workers_have_parents_and_children_say_what_they_do_and_are_deactivated() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let url = |name: &str| format!("/namespace/n/worker/{name}");
    let new = rest.get(&url("w"));
    for (key, value) in [
        ("name", json!("w")),
        ("url", json!(url("w"))),
        ("active", json!(true)),
        ("mode", json!("")),
        ("data", json!(null)),
        ("request_attempts_url", json!(url("w/request_attempts"))),
        ("make_attempt_url", json!(url("w/make_attempt"))),
        ("active_attempts_url", json!(url("w/active_attempts"))),
        ("all_attempts_url", json!(url("w/all_attempts"))),
        ("child_attempts_url", json!(url("w/child_attempts"))),
    ] {
        assert_eq!(new[key], value, "{key}");
    }
    for key in ["parent", "parent_url", "child_urls"] {
        assert_eq!(new.get(key), None, "{key}");
    }
    // As the client sends it: all keys, with zero values.
    let zero = json!({"name": "", "url": "", "active": false, "mode": "", "data": null,
                      "expiration": NO_TIME, "last_update": NO_TIME});
    let with = |key: &str, value: Json| {
        let mut body = zero.clone();
        body[key] = value;
        body
    };
    rest.put(&url("w"), &with("parent", json!("old")));
    rest.put(&url("w"), &with("parent", json!("new p")));
    let child = rest.get(&url("w"));
    assert_eq!(
        (&child["parent"], &child["parent_url"]),
        (&json!("new p"), &json!(url("-bmV3IHA")))
    );
    assert_eq!(child["active"], true);
    assert_eq!(rest.get(&url("-bmV3IHA"))["child_urls"], json!([url("w")]));
    assert_eq!(rest.get(&url("old")).get("child_urls"), None);

    let update = json!({"active": true, "mode": "RUN", "data": {"host": "h"},
                        "last_update": "2026-01-01T00:00:00Z", "expiration": NO_TIME});
    rest.put(&url("w"), &update);
    let updated = rest.get(&url("w"));
    for (key, value) in [
        ("mode", json!("RUN")),
        ("data", json!({"host": "h"})),
        ("last_update", json!("2026-01-01T00:00:00Z")),
        ("parent", json!("new p")),
    ] {
        assert_eq!(updated[key], value, "{key}");
    }
    // The work of a child is shown with its parent.
    let spec = rest.spec("n", &json!({"name": "s"}));
    rest.unit(&spec, &json!({"name": "u"}));
    let given = rest.request(&url("w"), &json!({}));
    let listed = rest.get(&url("-bmV3IHA/child_attempts"));
    assert_eq!(listed["attempts"][0]["url"], given[0]["url"]);
    assert_eq!(rest.get(&url("w/child_attempts")), json!({"attempts": []}));

    rest.put(&url("w"), &zero);
    let idle = rest.get(&url("w"));
    assert_eq!(
        (&idle["active"], &idle["data"]),
        (&json!(false), &json!({"host": "h"}))
    );
    rest.put(&url("w"), &update);
    assert_eq!(rest.get(&url("w"))["active"], true);
    rest.put(&url("w"), &with("parent", json!("")));
    assert_eq!(rest.get(&url("w")).get("parent"), None);
}

#[test]
fn a_deactivated_worker_is_in_no_list_of_cbor_rpc_until_it_speaks() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let mut cborrpc = server.connect();
    rest.get("/namespace/-/worker/w");
    let listed = |cborrpc: &mut test_support::Client| {
        cborrpc
            .call("list_worker_modes", "")
            .to_string()
            .contains('w')
    };
    assert!(listed(&mut cborrpc));
    rest.put("/namespace/-/worker/w", &json!({"active": false}));
    assert!(!listed(&mut cborrpc));
    rest.put("/namespace/-/worker/w", &json!({"active": true}));
    assert!(listed(&mut cborrpc));
}

#[test]
fn names_of_any_kind_are_found_by_the_urls_that_are_given_out() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    for name in [
        "a b/\u{e9}",
        "-",
        "-dash",
        "..",
        ".",
        "a%2Fb",
        "x?y#z",
        "\u{1}\u{2}",
    ] {
        let made = rest.make("/namespace", &json!({"name": name}));
        let specs = text(&made, "work_specs_url");
        let spec = rest.make(specs, &json!({"data": {"name": name}}));
        let spec = rest.get(text(&spec, "url"));
        assert_eq!(spec["name"], name);
        let unit = rest.unit(text(&spec, "url"), &json!({"name": name}));
        let shown = rest.get(&unit);
        assert_eq!(
            (&shown["name"], &shown["work_spec_url"]),
            (&json!(name), &spec["url"])
        );
        let worker = rest
            .get(&text(&made, "worker_url").replace("{worker}", unit.rsplit('/').next().unwrap()));
        assert_eq!(worker["name"], name);
        let given = rest.request(text(&worker, "url"), &json!({}));
        let attempt = rest.get(text(&given[0], "url"));
        assert_eq!(
            (&attempt["work_unit_url"], &attempt["worker_url"]),
            (&shown["url"], &worker["url"])
        );
        rest.act(text(&attempt, "finish_url"), &json!({}));
    }
    let spec = rest.spec("n", &json!({"name": "s"}));
    rest.unit(&spec, &json!({"name": "a b"}));
    assert_eq!(rest.get(&format!("{spec}/work_unit/a%20b"))["name"], "a b");
    assert_eq!(
        rest.error("GET", &format!("{spec}/work_unit/-!"), "").0,
        400
    );
}

#[test]
fn data_that_json_does_not_carry_come_back_as_cbor_in_base64() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let spec = rest.spec("n", &json!({"name": "s"}));
    // {"t": (1, "x"), "id": UUID(01234567-89ab-cdef-0123-456789abcdef)}
    let encoded = "omF02ICCAWF4Ymlk2CVQASNFZ4mrze8BI0VniavN7w==";
    let unit = rest.unit(&spec, &json!({"name": "cb", "data": encoded}));
    assert_eq!(rest.get(&unit)["data"], encoded);
    // What can be JSON is, however it came: {"a": 1, "f": 2.0}
    let unit = rest.unit(&spec, &json!({"name": "j", "data": "omFhAWFm+0AAAAAAAAAA"}));
    let shown = rest.send("GET", &unit, "").body;
    assert!(shown.contains(r#""data":{"a":1,"f":2.0}"#), "{shown}");
    // Numbers keep their kind and are exact.
    let body = r#"{"name":"n","data":{"i":9007199254740993,"f":1e3,"big":18446744073709551615,"$int":"7"}}"#;
    let made = rest.send("POST", &format!("{spec}/work_unit"), body);
    assert_eq!(made.status, 201);
    let shown = rest.send("GET", &format!("{spec}/work_unit/n"), "").body;
    let data = r#""data":{"i":9007199254740993,"f":1000.0,"big":18446744073709551615,"$int":"7"}"#;
    assert!(shown.contains(data), "{shown}");
    for data in ["!", "AQ==", "oWE=", "9"] {
        let body = json!({"name": "bad", "data": data}).to_string();
        let error = rest.error("POST", &format!("{spec}/work_unit"), &body);
        assert_eq!(error.0, 400, "{data}");
    }
}

#[test]
fn byte_strings_of_python_are_kept_and_a_definition_of_python_is_readable() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    let mut cborrpc = server.connect();
    cborrpc.set_spec("{'name': 's', 'then': 't'}");
    let spec = rest.get("/namespace/-/work_spec/s");
    assert_eq!(spec["data"], json!({"name": "s", "then": "t"}));
    cborrpc.add("s", "['u', {'k': 'bytes'}], ['v', {'n': 1}]");
    // {b"k": b"bytes"}
    assert_eq!(
        rest.get("/namespace/-/work_spec/s/work_unit/u")["data"],
        "oUFrRWJ5dGVz"
    );
    assert_eq!(
        rest.get("/namespace/-/work_spec/s/work_unit/v")["data"],
        json!({"n": 1})
    );
}

#[test]
fn media_types_are_negotiated_and_checked() {
    let server = start(&[]);
    let http = Client::of(&server);
    let get = |accept: &str| http.send("GET", "/namespace", &[("Accept", accept)], "");
    for (accept, media) in [
        ("*/*", V1),
        ("application/json", "application/json"),
        ("text/*;q=0.5, image/png", "text/json"),
    ] {
        let answer = get(accept);
        assert_eq!(
            (answer.status, &*answer.content_type),
            (200, media),
            "{accept}"
        );
    }
    for (accept, status) in [("text/html", 406), ("*/*;q=7", 400), ("json", 400)] {
        let answer = get(accept);
        assert_eq!(
            (answer.status, &*answer.content_type),
            (status, V1),
            "{accept}"
        );
        assert_eq!(answer.json()["error"], "error");
    }
    let post = |media: &str| {
        http.send(
            "POST",
            "/namespace",
            &[("Content-Type", media)],
            r#"{"name":"n"}"#,
        )
    };
    for media in [
        V1,
        "application/vnd.diffeo.coordinate+json",
        "application/json; charset=utf-8",
        "text/json",
    ] {
        assert_eq!(post(media).status, 201, "{media}");
    }
    for (media, status) in [
        ("text/plain", 415),
        ("application/xml", 415),
        ("nonsense", 400),
    ] {
        assert_eq!(post(media).status, status, "{media}");
    }
    assert_eq!(
        http.send("PUT", "/namespace/n/worker/w", &[], "{}").status,
        415
    );
}

#[test]
fn methods_that_a_url_does_not_take_are_refused_and_unknown_paths_are_not_found() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    rest.spec("n", &json!({"name": "s"}));
    for (method, url) in [
        ("DELETE", "/"),
        ("POST", "/summary"),
        ("DELETE", "/namespace"),
        ("PUT", "/namespace/n"),
        ("DELETE", "/namespace/n/work_spec"),
        ("POST", "/namespace/n/work_spec/s"),
        ("DELETE", "/namespace/n/work_spec/s/meta"),
        ("GET", "/namespace/n/work_spec/s/change"),
        ("DELETE", "/namespace/n/work_spec/s/work_unit/u"),
        ("GET", "/namespace/n/work_spec/s/work_unit/u/attempt"),
        (
            "GET",
            "/namespace/n/work_spec/s/work_unit/u/attempt/w/1/renew",
        ),
        ("GET", "/namespace/n/worker"),
        ("DELETE", "/namespace/n/worker/w"),
        ("GET", "/namespace/n/worker/w/request_attempts"),
        ("PATCH", "/namespace/n"),
    ] {
        let answer = rest.send(method, url, "{}");
        assert_eq!(answer.status, 405, "{method} {url}");
        let error = json!({"error": "error", "message": format!("Method {method} not allowed")});
        assert_eq!(answer.json(), error);
    }
    for url in [
        "/namespace/",
        "/namespace/n/",
        "/namespace/n/nonesuch",
        "/namespace/n/work_spec/s/nonesuch",
        "/namespace/n/work_spec/s/work_unit/u/nonesuch",
        "/namespace/n/worker/w/nonesuch",
    ] {
        let answer = rest.http.get(url);
        assert_eq!(answer.status, 404, "{url}: {answer:?}");
    }
    let unit = rest.unit("/namespace/n/work_spec/s", &json!({"name": "u"}));
    for id in ["999", "x"] {
        let answer = rest.error("GET", &format!("{unit}/attempt/w/{id}"), "");
        assert_eq!((answer.0, &*answer.1), (404, "error"), "{id}");
    }
    let head = rest.http.send("HEAD", "/namespace/n", &[], "");
    assert_eq!((head.status, &*head.body), (200, ""));
}

#[test]
fn a_body_that_comes_in_many_small_chunks_is_read() {
    let server = start(&[]);
    let mut raw = Raw::connect(&server);
    raw.send(format!(
        "POST /namespace/n/work_spec HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Type: {V1}\r\n\r\n"
    ));
    for byte in r#"{"data":{"name":"s"}}"#.chars() {
        raw.send(format!("1\r\n{byte}\r\n"));
    }
    raw.send("0\r\n\r\n");
    let answer = raw.some();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(
        answer.contains("location: /namespace/n/work_spec/s\r\n"),
        "{answer}"
    );
}

#[test]
fn urls_have_the_base_path_of_the_daemon() {
    let server = start(&["--http-base-path", "/jobs"]);
    let rest = Rest {
        http: Client::at(server.http().trim_end_matches("/jobs")),
    };
    assert_eq!(
        rest.get("/jobs")["namespace_url"],
        "/jobs/namespace/{namespace}"
    );
    let made = rest.make("/jobs/namespace", &json!({"name": "n"}));
    let spec = rest.make(
        text(&made, "work_specs_url"),
        &json!({"data": {"name": "s"}}),
    );
    assert_eq!(spec["url"], "/jobs/namespace/n/work_spec/s");
    assert_eq!(rest.get(text(&spec, "url"))["name"], "s");
}

#[test]
fn a_page_of_another_site_can_make_no_namespaces_or_workers_by_get() {
    let server = start(&[]);
    let rest = Rest::of(&server);
    for site in ["cross-site", "same-site"] {
        let answer = rest
            .http
            .send("GET", "/namespace/evil", &[("Sec-Fetch-Site", site)], "");
        assert_eq!(answer.status, 403, "{site}: {answer:?}");
    }
    for site in ["none", "same-origin"] {
        let answer = rest
            .http
            .send("GET", "/namespace/good", &[("Sec-Fetch-Site", site)], "");
        assert_eq!(answer.status, 200, "{site}: {answer:?}");
    }
    assert_eq!(names(&rest.get("/namespace")["namespaces"]), ["", "good"]);
}

#[test]
fn what_rest_has_answered_survives_a_kill_and_the_file_stays_sound() {
    let mut server = start(&[]);
    let rest = Rest::of(&server);
    let spec = units_in_all_statuses(&rest, "n");
    rest.put("/namespace/n/worker/w", &json!({"active": false}));
    rest.put(
        &format!("{spec}/work_unit/pending"),
        &json!({"active_attempt_url": "-"}),
    );
    rest.spec("gone", &json!({"name": "s"}));
    rest.expect(204, "DELETE", "/namespace/gone", &Json::Null);
    let counts = rest.get(&format!("{spec}/counts"));
    server.kill();
    server.start_again();
    let rest = Rest::of(&server);
    assert_eq!(rest.get(&format!("{spec}/counts")), counts);
    assert_eq!(rest.get("/namespace/n/worker/w")["active"], false);
    server.stop();
    let db = server.db().display().to_string();
    let checked = run_to_end(server.folder(), &["check", &db], &[]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
}
