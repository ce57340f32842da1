//! `GET /metrics`, read by a parser that takes nothing but the formats as they are specified.

use super::{Client, start};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use test_support::{Server, wait_until};

/// The labels of a series.
type Labels = BTreeMap<String, String>;

/// What an answer shows.
#[derive(Debug, Default)]
struct Page {
    /// The type of each family, by its name in the text.
    types: BTreeMap<String, String>,
    series: BTreeMap<(String, Labels), f64>,
}

impl Page {
    fn parse(text: &str) -> Page {
        let mut page = Page::default();
        let mut family = String::new();
        assert!(text.ends_with('\n'), "the last line has no end");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help");
                assert!(!help.is_empty(), "{line}");
                family = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(name, family, "the help comes before the type");
                let before = page.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} is there twice");
            } else if line != "# EOF" {
                let (name, labels, value) = sample(line);
                assert!(name.starts_with(&*family), "{name} is not of {family}");
                let before = page.series.insert((name, labels), value);
                assert_eq!(before, None, "{line} is there twice");
            }
        }
        page
    }

    /// The value of a series, with its labels as `name=value`.
    fn get(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let labels = labels.iter().map(|label| {
            let (name, value) = label.split_once('=').expect("a label");
            (name.to_owned(), value.to_owned())
        });
        let key = (name.to_owned(), labels.collect());
        self.series.get(&key).copied()
    }

    /// The same for a series of a work spec.
    fn of(&self, name: &str, work_spec: &str, labels: &[&str]) -> Option<f64> {
        let work_spec = format!("work_spec={work_spec}");
        self.get(name, &[&["namespace=", &*work_spec], labels].concat())
    }

    fn work_specs(&self, name: &str) -> BTreeSet<&str> {
        let of_name = self.series.keys().filter(|(of, _)| of == name);
        of_name.map(|(_, labels)| &*labels["work_spec"]).collect()
    }
}

/// A line with a value: its name, its labels, the value.
fn sample(line: &str) -> (String, Labels, f64) {
    let is_name = |text: &str| {
        let mut chars = text.chars();
        chars
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic())
            && chars.all(|char| char.is_ascii_alphanumeric() || char == '_')
    };
    let name_end = line.find(['{', ' ']).expect("a name");
    let (name, mut rest) = line.split_at(name_end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(after) = rest.strip_prefix('{') {
        rest = after;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().expect("the end of a label") {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match chars.next().expect("an escape").1 {
                        'n' => '\n',
                        char @ ('"' | '\\') => char,
                        char => panic!("\\{char} in {line}"),
                    }),
                    (_, char) => value.push(char),
                }
            };
            let before = labels.insert(label.to_owned(), value);
            assert_eq!(before, None, "{line}");
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(after) => rest = after,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect("the end of the labels");
    }
    let value = rest.strip_prefix(' ').expect("a value");
    let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
    (name.to_owned(), labels, value)
}

fn scrape(server: &Server, query: &str) -> Page {
    let answer = Client::of(server).get(&format!("/metrics{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.content_type,
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert!(!answer.body.contains("# EOF"));
    Page::parse(&answer.body)
}

#[test]
fn known_work_gives_known_values() {
    let server = start(&[]);
    let mut client = server.connect();
    client.set_spec("{'name': 's', 'retries': 1}");
    client.set_spec("{'name': 'paused', 'disabled': true}");
    client.add("s", "['a', {}], ['b', {}], ['c', {}], ['d', {}]");
    client.add("s", "['d', {}]");
    for (key, options) in [
        ("a", "{'status': 4}"),
        ("b", "{'status': 5, 'final': true}"),
        ("c", "{'status': 1}"),
    ] {
        client.take_key("w", key);
        client.updated("s", key, options);
    }
    client.take_key("w", "c");
    client.call("worker_heartbeat", "'w', 'RUN', 60, {}, null");
    client.call("worker_heartbeat", "'v', 'IDLE', 60, {}, null");
    client.call("worker_heartbeat", "'u', 'resting', 60, {}, null");
    client.call("lock", "'w', 60, [['a'], ['b']]");
    client.denied("del_work_spec", "'nonesuch'");
    client.refused("nonesuch", "");
    let http = Client::of(&server);
    http.call("now", "");
    http.get("/rpc/now");
    http.get("/nowhere");

    let page = scrape(&server, "");
    for (status, count) in [
        ("available", 1.0),
        ("delayed", 0.0),
        ("pending", 1.0),
        ("finished", 1.0),
        ("failed", 1.0),
    ] {
        let status = format!("status={status}");
        let value = page.of("coordinate_work_units", "s", &[&status]);
        assert_eq!(value, Some(count), "{status}");
        let value = page.of("coordinate_work_units", "paused", &[&status]);
        assert_eq!(value, Some(0.0), "{status}");
    }
    assert_eq!(page.of("coordinated_work_spec_paused", "s", &[]), Some(0.0));
    assert_eq!(
        page.of("coordinated_work_spec_paused", "paused", &[]),
        Some(1.0)
    );
    let since = "coordinated_available_since_timestamp_seconds";
    let started = "coordinated_last_attempt_started_timestamp_seconds";
    let now = page.get("process_start_time_seconds", &[]).expect("a time");
    for name in [since, started] {
        let age = page.of(name, "s", &[]).expect("a time") - now;
        assert!((-100.0..100.0).contains(&age), "{name}: {age}");
        assert_eq!(page.of(name, "paused", &[]), None, "{name}");
    }
    assert_eq!(
        page.of("coordinated_units_added_total", "s", &[]),
        Some(5.0)
    );
    assert_eq!(
        page.of("coordinated_attempts_started_total", "s", &[]),
        Some(4.0)
    );
    for (outcome, count) in [
        ("finished", 1.0),
        ("failed", 1.0),
        ("released", 1.0),
        ("expired", 0.0),
    ] {
        let outcome = format!("outcome={outcome}");
        for value in [
            page.of("coordinated_attempts_ended_total", "s", &[&outcome]),
            page.get("coordinated_all_attempts_ended_total", &[&outcome]),
        ] {
            assert_eq!(value, Some(count), "{outcome}");
        }
    }
    assert_eq!(
        page.of("coordinated_wait_seconds_count", "s", &[]),
        Some(4.0)
    );
    assert_eq!(
        page.of("coordinated_run_seconds_count", "s", &[]),
        Some(3.0)
    );
    assert_eq!(
        page.of("coordinated_run_seconds_bucket", "s", &["le=+Inf"]),
        Some(3.0)
    );
    for (mode, count) in [
        ("run", 1.0),
        ("idle", 1.0),
        ("terminate", 0.0),
        ("other", 1.0),
    ] {
        let mode = format!("mode={mode}");
        let value = page.get("coordinated_workers", &["namespace=", &mode]);
        assert_eq!(value, Some(count), "{mode}");
    }
    assert_eq!(page.get("coordinated_locks", &[]), Some(2.0));
    for (interface, method, outcome, count) in [
        ("cborrpc", "set_work_spec", "ok", 2.0),
        ("cborrpc", "get_work", "ok", 4.0),
        ("cborrpc", "del_work_spec", "failed", 1.0),
        ("cborrpc", "del_work_spec", "ok", 0.0),
        ("cborrpc", "(unknown)", "failed", 1.0),
        ("http", "now", "ok", 1.0),
        ("http", "get_work", "ok", 0.0),
    ] {
        let labels = [
            format!("interface={interface}"),
            format!("method={method}"),
            format!("outcome={outcome}"),
        ];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let value = page.get("coordinated_requests_total", &labels);
        assert_eq!(value, Some(count), "{labels:?}");
    }
    let messages = page.get("coordinated_request_seconds_count", &["interface=cborrpc"]);
    assert!(messages >= Some(17.0), "{messages:?}");
    let batches = page.get("coordinated_batches_total", &["outcome=committed"]);
    assert!(batches >= Some(10.0), "{batches:?}");
    assert_eq!(
        page.get("coordinated_batches_total", &["outcome=unknown"]),
        Some(0.0)
    );
    let sum = page.get("coordinated_commit_seconds_sum", &[]);
    assert!(sum > Some(0.0), "{sum:?}");
    assert_eq!(
        page.get("coordinated_connections", &["interface=cborrpc"]),
        Some(1.0)
    );
    for name in [
        "coordinated_received_bytes_total",
        "coordinated_sent_bytes_total",
        "coordinated_loop_busy_seconds_total",
        "coordinated_database_bytes",
        "coordinated_disk_free_bytes",
        "process_cpu_seconds_total",
    ] {
        assert!(page.get(name, &[]) > Some(0.0), "{name}");
    }
    for (route, code) in [
        ("/rpc/{method}", 200),
        ("/rpc/{method}", 405),
        ("(none)", 404),
    ] {
        let labels = [format!("route={route}"), format!("code={code}")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let value = page.get("coordinated_http_requests_total", &labels);
        assert_eq!(value, Some(1.0), "{labels:?}");
    }
    assert_eq!(
        page.get("coordinated_http_problems_total", &["type=not-found"]),
        Some(1.0)
    );
    assert_eq!(
        page.get("coordinated_http_problems_total", &["type=busy"]),
        Some(0.0)
    );
}

#[test]
fn a_lost_lease_and_a_late_report_are_counted() {
    let server = start(&[]);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    client.add("s", "['a', {}]");
    client.take_with("w", "{'lease_time': 1}").expect("a unit");
    let expired = || {
        let page = scrape(&server, "");
        page.of(
            "coordinated_attempts_ended_total",
            "s",
            &["outcome=expired"],
        )
    };
    wait_until("the lease has run out", || expired() == Some(1.0));
    let mut other = server.connect();
    other.take_key("v", "a");
    client.not_updated("s", "a", "{'status': 4}");
    let page = scrape(&server, "");
    let reports = "coordinated_late_reports_total";
    assert_eq!(page.get(reports, &["outcome=refused"]), Some(1.0));
    assert_eq!(page.get(reports, &["outcome=accepted"]), Some(0.0));
    let overdue = page.get("coordinated_overdue_seconds", &[]);
    assert!(overdue < Some(5.0), "{overdue:?}");
}

#[test]
fn a_deleted_work_spec_vanishes_and_the_totals_stay() {
    let server = start(&[]);
    let mut client = server.connect();
    for spec in ["gone", "stays"] {
        client.set_spec(&format!("{{'name': '{spec}'}}"));
        client.add(spec, "['a', {}]");
        client.take_key("w", "a");
        client.updated(spec, "a", "{'status': 4}");
    }
    client.done("del_work_spec", "'gone'");
    let page = scrape(&server, "");
    let left = BTreeSet::from(["stays"]);
    for (name, labels) in page.series.keys() {
        if let Some(work_spec) = labels.get("work_spec") {
            assert_eq!(work_spec, "stays", "{name}");
        }
    }
    assert_eq!(page.work_specs("coordinate_work_units"), left);
    assert_eq!(page.get("coordinated_work_specs", &[]), Some(1.0));
    assert_eq!(
        page.get("coordinated_all_units_added_total", &[]),
        Some(2.0)
    );
    let ended = "coordinated_all_attempts_ended_total";
    assert_eq!(page.get(ended, &["outcome=finished"]), Some(2.0));
}

#[test]
fn no_name_of_a_work_spec_breaks_the_text_in_either_format() {
    let server = start(&[]);
    let mut client = server.connect();
    let names = [
        ("'quote\"s'", "quote\"s"),
        ("'line\\nup 1'", "line\nup 1"),
        ("'back\\\\slash'", "back\\slash"),
        ("'(other)'", "(other)"),
        ("'\"} 1\\n# TYPE x gauge'", "\"} 1\n# TYPE x gauge"),
        ("'carriage\\rreturn, wörld'", "carriage\rreturn, wörld"),
    ];
    for (written, _) in names {
        client.set_spec(&format!("{{'name': {written}}}"));
    }
    let page = scrape(&server, "");
    let shown: BTreeSet<&str> = names.iter().map(|(_, label)| *label).collect();
    assert_eq!(page.work_specs("coordinate_work_units"), shown);
    assert_eq!(
        page.get("coordinated_work_specs", &[]),
        Some(names.len() as f64)
    );

    let agent = Client::of(&server);
    let url = format!("{}/metrics", agent.root);
    let accept =
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let answer = agent.agent.get(url).header("accept", accept).call();
    let answer = super::answer_of(answer.expect("an answer"));
    assert_eq!(
        answer.content_type,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(answer.body.ends_with("\n# EOF\n"));
    let page = Page::parse(&answer.body);
    assert_eq!(page.work_specs("coordinate_work_units"), shown);
    assert_eq!(page.types["coordinated_units_added"], "counter");
    assert!(
        page.get(
            "coordinated_build_info",
            &[&format!("version={}", env!("CARGO_PKG_VERSION"))]
        )
        .is_some()
    );
}

#[test]
fn work_specs_beyond_the_limit_are_summed_and_can_be_asked_for() {
    let server = start(&["--metrics-work-specs", "2"]);
    let mut client = server.connect();
    // The oldest ones have their own series, whatever their names are.
    for spec in ["d", "c", "b", "a"] {
        client.set_spec(&format!("{{'name': '{spec}'}}"));
        client.add(spec, "['x', {}], ['y', {}]");
        client.take_key("w", "x");
        client.updated(spec, "x", "{'status': 4}");
        client.done("control_work_spec", &format!("'{spec}', {{'status': 2}}"));
    }
    let page = scrape(&server, "");
    let units = "coordinate_work_units";
    assert_eq!(
        page.work_specs(units),
        BTreeSet::from(["(other)", "c", "d"])
    );
    assert_eq!(page.of(units, "d", &["status=finished"]), Some(1.0));
    assert_eq!(page.of(units, "(other)", &["status=finished"]), Some(2.0));
    assert_eq!(page.of(units, "(other)", &["status=available"]), Some(2.0));
    assert_eq!(
        page.of("coordinated_run_seconds_count", "(other)", &[]),
        Some(2.0)
    );
    assert_eq!(
        page.of("coordinated_work_spec_paused", "(other)", &[]),
        Some(1.0)
    );
    assert_eq!(page.get("coordinated_work_specs", &[]), Some(4.0));

    let page = scrape(&server, "?namespace=&work_spec=a");
    assert_eq!(page.work_specs(units), BTreeSet::from(["a"]));
    assert_eq!(page.of(units, "a", &["status=finished"]), Some(1.0));
    assert_eq!(page.get("coordinated_work_specs", &[]), None);
    assert_eq!(scrape(&server, "?namespace=").work_specs(units).len(), 3);
    for nothing in ["?namespace=other", "?work_spec=nonesuch"] {
        let page = scrape(&server, nothing);
        assert!(page.series.is_empty(), "{nothing}: {page:?}");
    }
    let answer = Client::of(&server).get("/metrics?spec=a");
    assert_eq!((answer.status, &*answer.problem()), (400, "invalid"));
    assert!(answer.body.contains("work_spec"), "{answer:?}");
}

#[test]
fn histograms_are_shown_for_the_first_hundred_work_specs_and_the_sum_of_the_others() {
    let server = start(&[]);
    let http = Client::of(&server);
    let calls: Vec<_> = (0..150)
        .map(|n| json!({"method": "set_work_spec", "params": [{"name": format!("s{n:03}")}]}))
        .collect();
    http.post("/rpc", &json!(calls).to_string());
    let page = scrape(&server, "");
    assert_eq!(page.work_specs("coordinate_work_units").len(), 150);
    let with_histograms = page.work_specs("coordinated_run_seconds_count");
    assert_eq!(with_histograms.len(), 101);
    assert!(with_histograms.contains("s099") && with_histograms.contains("(other)"));
    assert_eq!(
        page.work_specs("coordinated_wait_seconds_count"),
        with_histograms
    );
}

#[test]
fn a_change_that_was_refused_is_not_counted() {
    let server = start(&[]);
    let http = Client::of(&server);
    http.call("set_work_spec", r#"[{"name": "s"}]"#);
    http.call("add_work_units", r#"["s", [["a", {}]]]"#);
    let answer = http.post(
        "/rpc/add_work_units",
        r#"["s", [["b", {}], ["a", {}]], {"if_exists": "error"}]"#,
    );
    assert_eq!(answer.status, 409, "{answer:?}");
    let page = scrape(&server, "");
    let added = page.of("coordinated_units_added_total", "s", &[]);
    assert_eq!(added, Some(1.0));
    let refused = ["interface=http", "method=add_work_units", "outcome=failed"];
    assert_eq!(page.get("coordinated_requests_total", &refused), Some(1.0));
}

#[test]
fn every_metric_is_in_the_document_and_every_one_of_the_document_is_there() {
    let backups = tempfile::tempdir().unwrap();
    let folder = backups.path().display().to_string();
    let server = start(&["--backup-dir", &folder]);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    client.add("s", "['a', {}], ['b', {}]");
    client.take_key("w", "a");
    Client::of(&server).call("now", "");
    let newest = "coordinated_backup_last_success_timestamp_seconds";
    wait_until("a backup was made", || {
        scrape(&server, "").get(newest, &[]).is_some()
    });
    let page = scrape(&server, "");
    let document = include_str!("../../../docs/metrics.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let mut documented = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, name, kind, labels, meaning, _] = cells[..] else {
            panic!("{row}");
        };
        assert!(!meaning.is_empty(), "{row}");
        let mut labels: Vec<&str> = labels.split(", ").filter(|it| !it.is_empty()).collect();
        labels.sort_unstable();
        let name = name.trim_matches('`').to_owned();
        let before = documented.insert(name, (kind.to_owned(), labels.join(", ")));
        assert_eq!(before, None, "{row}");
    }
    let mut shown = BTreeMap::new();
    for (name, kind) in &page.types {
        let of_family = page.series.keys().filter(|(series, labels)| match &**kind {
            "histogram" => *series == format!("{name}_bucket") && labels.contains_key("le"),
            _ => series == name,
        });
        let mut labels: BTreeSet<&str> = BTreeSet::new();
        let mut count = 0;
        for (_, of_series) in of_family {
            labels.extend(of_series.keys().map(String::as_str));
            count += 1;
        }
        assert!(count > 0, "{name} has no value");
        labels.remove("le");
        let labels: Vec<&str> = labels.into_iter().collect();
        shown.insert(name.clone(), (kind.clone(), labels.join(", ")));
    }
    assert_eq!(shown, documented);
}
