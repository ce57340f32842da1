//! What each page says of a real daemon.

use super::{Browser, Page, start};
use test_support::{Client, PATIENCE, Server};

/// A daemon whose work spec `s` has a unit in each status; a worker has the pending one.
fn busy(arguments: &[&str]) -> (Server, Client) {
    let server = start(arguments);
    let mut client = server.connect();
    client.set_spec("{'name': 's', 'max_running': 7, 'disk': 'large'}");
    for unit in ["done", "bad", "mine"] {
        client.add("s", &format!("['{unit}', {{'n': 18446744073709551615}}]"));
        client.take_key("w1", unit);
    }
    client.updated("s", "done", "{'status': 4}");
    client.updated(
        "s",
        "bad",
        "{'status': 5, 'data': {'password': 'hunter2', 'traceback': 'File x\\nValueError: no'}}",
    );
    client.add("s", "['later', {}, {'delay': 1000}]");
    client.add("s", "['next', {'n': 1}]");
    client.call(
        "worker_heartbeat",
        "'w1', 'RUN', 600, {'host': 'h1', 'password': 'hunter2'}, 'parent'",
    );
    client.call("worker_heartbeat", "'parent', 'IDLE', 600, {}, null");
    client.call("lock", "'owner', 1000, [['a', 'b'], ['c']]");
    (server, client)
}

#[test]
fn an_empty_daemon_has_pages_that_say_which_command_fills_them() {
    let server = start(&[]);
    let browser = Browser::of(&server);
    browser
        .get("/ui/")
        .has(&["coordinated load", "coordinated work"]);
    browser.get("/ui/workers").has(&["coordinated work"]);
    browser.get("/ui/locks").has(&["Nothing is locked"]);
    browser.get("/ui/failures").has(&["No unit has failed"]);
    browser.get("/ui/operations").has(&["coordinated retry"]);
    server.connect().set_spec("{'name': 's'}");
    browser.get("/ui/spec/s").has(&["coordinated add s UNIT"]);
    browser
        .get("/ui/spec/s/units")
        .has(&["coordinated add s UNIT"]);
}

#[test]
fn rates_and_their_charts_outlive_a_restart_and_show_where_something_is_missing() {
    let (mut server, _client) = busy(&[]);
    server.stop();
    server.start_again();
    let browser = Browser::of(&server);
    browser
        .get("/ui/")
        .has(&["Last 30 minutes: 5 added, 1 finished, 1 failed"]);
    let spec = browser.get("/ui/spec/s");
    spec.has(&[
        "Last hour: 5 added, 1 finished, 1 failed",
        "Last day: 5 added, 1 finished, 1 failed",
        "Last 90 days: 5 added, 1 finished, 1 failed",
        "<dt>Added</dt><dd>5</dd>",
        "up to 5 a minute",
        "<path class=\"failed\"",
    ]);
    spec.has_no("<path class=\"gap\"");
    server
        .connect()
        .updated("s", "mine", "{'status': 4, 'worker_id': 'w1'}");
    server.kill();
    server.start_again();
    let browser = Browser::of(&server);
    let spec = browser.get("/ui/spec/s");
    spec.has(&[
        "<path class=\"gap\"",
        "Last hour: 5 added, 1 finished, 1 failed",
    ]);
}

#[test]
fn the_overview_has_the_counts_of_each_work_spec_the_workers_and_the_daemon() {
    let (server, mut client) = busy(&[]);
    client.set_spec("{'name': 'other'}");
    client.call(
        "control_work_spec",
        "'other', {'status': 2, 'reason': 'why not'}",
    );
    let page = Browser::of(&server).get("/ui/");
    page.has(&[
        "href=\"/ui/spec/s\"",
        "href=\"/ui/spec/other\"",
        "paused</span>",
        "units?status=failed\" class=\"bad\">1</a>",
        "All 2",
        "99% of commits take",
        "not scheduled",
    ]);
    // Two workers: one runs, and one is idle.
    page.has(&["<dt>running</dt><dd>1</dd>", "<dt>idle</dt><dd>1</dd>"]);
}

#[test]
fn the_page_of_a_work_spec_explains_why_nothing_runs_and_shows_failures_and_the_definition() {
    let (server, mut client) = busy(&[]);
    client.call(
        "control_work_spec",
        "'s', {'status': 2, 'reason': 'disk full', 'by': 'me'}",
    );
    let page = Browser::of(&server).get("/ui/spec/s");
    page.has(&[
        "paused",
        "disk full",
        "<bdi>me</bdi>",
        "<b>1</b> available",
        "<b>1</b> delayed",
        "<b>1</b> pending",
        "<b>1</b> finished",
        "ValueError: no",
        "Retry these",
        "value=\"7\"",
        "&#34;disk&#34;: &#34;large&#34;",
    ]);
    let reasons = client.value("explain_work", "'s', null").to_string();
    assert!(reasons.contains("disk full"), "{reasons}");
    client.set_spec("{'name': 'nightly', 'schedule': '0 3 * * *', 'timezone': 'Europe/Berlin'}");
    let page = Browser::of(&server).get("/ui/spec/nightly");
    page.has(&["0 3 * * *", "Europe/Berlin", "Next run"]);
}

#[test]
fn units_are_listed_by_status_with_exact_counts_and_by_the_beginning_of_their_names() {
    let (server, _) = busy(&[]);
    let browser = Browser::of(&server);
    let page = browser.get("/ui/spec/s/units");
    page.has(&[
        "<b>5</b> All",
        "<b>1</b> Failed",
        ">done<",
        ">bad<",
        ">mine<",
        ">later<",
        ">next<",
    ]);
    for (status, unit) in [
        ("available", "next"),
        ("delayed", "later"),
        ("pending", "mine"),
        ("finished", "done"),
        ("failed", "bad"),
    ] {
        let page = browser.get(&format!("/ui/spec/s/units?status={status}"));
        page.has(&[&format!("<bdi>{unit}</bdi>")]);
        assert_eq!(page.html.matches("<tr id=\"unit-").count(), 1, "{status}");
    }
    let page = browser.get("/ui/spec/s/units?prefix=ne");
    page.has(&["<bdi>next</bdi>", "value=\"ne\""]);
    page.has_no("<bdi>done</bdi>");
    let page = browser.get("/ui/spec/s/units?message=ValueError%3A+no");
    page.has(&["<bdi>bad</bdi>", "ValueError: no"]);
    browser
        .get("/ui/spec/s/units?message=other")
        .has(&["There are no such units"]);
    assert_eq!(browser.get("/ui/spec/s/units?status=nonsense").status, 400);
}

#[test]
fn long_lists_of_units_have_pages_of_a_hundred_that_together_have_each_unit_once() {
    let server = start(&[]);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    let units: Vec<String> = (0..250).map(|n| format!("['u{n:03}', {{}}]")).collect();
    client.add("s", &units.join(", "));
    let browser = Browser::of(&server);
    let mut seen = Vec::new();
    let mut url = "/ui/spec/s/units?status=available".to_owned();
    for expected in [100, 100, 50] {
        let page = browser.get(&url);
        let rows = page.attributes("id");
        let rows: Vec<String> = rows
            .into_iter()
            .filter(|id| id.starts_with("unit-"))
            .collect();
        assert_eq!(rows.len(), expected, "{url}");
        seen.extend(rows);
        let next = page.html.split("\" rel=\"next\"").next().unwrap();
        url = next.rsplit("href=\"").next().unwrap().replace("&#38;", "&");
        assert_eq!(page.html.contains("rel=\"next\""), expected == 100);
    }
    let all: Vec<String> = (0..250).map(|n| format!("unit-u{n:03}")).collect();
    assert_eq!(seen, all);
}

#[test]
fn the_page_of_a_unit_tells_where_it_stands_and_what_each_attempt_did() {
    let (server, mut client) = busy(&[]);
    let browser = Browser::of(&server);
    let page = browser.get("/ui/spec/s/unit/bad");
    page.has(&[
        "it failed",
        "href=\"/ui/worker/w1\"",
        "File x\nValueError: no",
        "<rect class=\"failed\"",
        ">Retry</button>",
    ]);
    // An integer that no JavaScript number can be, as it is.
    browser
        .get("/ui/spec/s/unit/mine")
        .has(&["18446744073709551615", "has it, with a lease"]);
    let data = browser.get("/ui/spec/s/unit/mine/data");
    assert_eq!(data.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(data.html, "{\n  \"n\": 18446744073709551615\n}");
    client.updated("s", "mine", "{'status': 1}");
    client.take_key("w2", "mine");
    let page = browser.get("/ui/spec/s/unit/mine");
    page.has(&["id=\"attempt-1\"", "id=\"attempt-2\"", "/ui/worker/w2"]);
    let page = browser.get("/ui/spec/s/unit/nonesuch");
    assert_eq!(page.status, 404);
    assert!(
        page.html.contains("There is no such work unit"),
        "{}",
        page.html
    );
}

#[test]
fn failures_of_all_work_specs_are_grouped_by_message() {
    let (server, mut client) = busy(&[]);
    client.set_spec("{'name': 't'}");
    for unit in ["a", "b"] {
        client.add("t", &format!("['{unit}', {{}}]"));
        let work = client.take_with("w", "{'work_spec_names': ['t']}");
        assert!(work.is_some());
        client.updated(
            "t",
            unit,
            "{'status': 5, 'data': {'traceback': 'KeyError: x'}}",
        );
    }
    let page = Browser::of(&server).get("/ui/failures");
    page.has(&[
        "ValueError: no",
        "KeyError: x",
        "<td class=\"number\">2</td>",
        "/ui/spec/t/unit/a",
    ]);
}

#[test]
fn workers_are_listed_with_what_each_has() {
    let (server, _) = busy(&[]);
    let browser = Browser::of(&server);
    let page = browser.get("/ui/workers");
    page.has(&[
        "<bdi>w1</bdi>",
        "<bdi>parent</bdi>",
        "<bdi>RUN</bdi>",
        "<td class=\"number\">1</td>",
    ]);
    browser
        .get("/ui/worker/w1")
        .has(&["/ui/spec/s/unit/mine", "h1", "href=\"/ui/worker/parent\""]);
    browser
        .get("/ui/worker/parent")
        .has(&["Its children", "href=\"/ui/worker/w1\""]);
    assert_eq!(browser.get("/ui/worker/nobody").status, 404);
}

/// The workers of a page, with how deep each is.
fn tree_of(page: &Page) -> Vec<(usize, String)> {
    let rows = page.html.split("class=\"depth-").skip(1);
    let rows = rows.filter(|row| !row.contains("All children of"));
    let row = |row: &str| {
        let depth = row.split('"').next().expect("a depth");
        let name = row
            .split("<bdi>")
            .nth(1)
            .and_then(|row| row.split('<').next());
        (
            depth.parse().expect("a number"),
            name.expect("a name").to_owned(),
        )
    };
    rows.map(row).collect()
}

#[test]
fn workers_are_below_their_parents_and_those_of_many_are_on_pages_of_their_own() {
    let server = start(&[]);
    let mut client = server.connect();
    let mut beat = |name: &str, parent: &str| {
        let parent = match parent {
            "" => "null".to_owned(),
            parent => format!("'{parent}'"),
        };
        client.call(
            "worker_heartbeat",
            &format!("'{name}', 'RUN', 600, {{}}, {parent}"),
        );
    };
    for (name, parent) in [
        ("host", ""),
        ("b-lonely", ""),
        ("a-orphan", "gone"),
        ("own", "own"),
        ("child", "host"),
        ("grandchild", "child"),
        // Nobody is above these.
        ("round", "trip"),
        ("trip", "round"),
    ] {
        beat(name, parent);
    }
    let browser = Browser::of(&server);
    let named = |tree: &[(usize, &str)]| -> Vec<(usize, String)> {
        let tree = tree.iter();
        tree.map(|(depth, name)| (*depth, (*name).to_owned()))
            .collect()
    };
    let tree = tree_of(&browser.get("/ui/workers"));
    let expected = [
        (0, "a-orphan"),
        (0, "b-lonely"),
        (0, "host"),
        (1, "child"),
        (2, "grandchild"),
        (0, "own"),
    ];
    assert_eq!(tree, named(&expected));
    assert_eq!(tree_of(&browser.get("/ui/workers?as=list")).len(), 8);

    for n in 0..150 {
        beat(&format!("w{n:03}"), "host");
    }
    let page = browser.get("/ui/workers");
    page.has(&[
        "All children of <bdi>host</bdi>",
        "href=\"/ui/workers?parent=host\"",
    ]);
    assert_eq!(tree_of(&page).len(), 6 + 19);
    let children = browser.get("/ui/workers?parent=host");
    children.has(&[
        "Its children",
        "href=\"/ui/workers?parent=host&#38;after=w097\"",
    ]);
    assert_eq!(tree_of(&children).len(), 100);
    let rest = tree_of(&browser.get("/ui/workers?parent=host&after=w097"));
    assert_eq!(rest.first(), Some(&(0, "w098".to_owned())));
    assert_eq!(rest.len(), 52);
}

#[test]
fn many_workers_are_listed_in_pages() {
    let server = start(&[]);
    let mut client = server.connect();
    for n in 0..150 {
        client.call(
            "worker_heartbeat",
            &format!("'w{n:03}', 'RUN', 600, {{}}, null"),
        );
    }
    let browser = Browser::of(&server);
    let page = browser.get("/ui/workers");
    page.has(&[
        "<bdi>w000</bdi>",
        "<bdi>w099</bdi>",
        "href=\"/ui/workers?after=w099\"",
    ]);
    page.has_no("<bdi>w100</bdi>");
    let page = browser.get("/ui/workers?after=w099");
    page.has(&["<bdi>w100</bdi>", "<bdi>w149</bdi>"]);
    page.has_no("rel=\"next\"");
}

#[test]
fn locks_and_the_daemon_have_pages() {
    let (server, _) = busy(&[]);
    let browser = Browser::of(&server);
    browser.get("/ui/locks").has(&[
        "title=\"a/b\"><bdi>b</bdi>",
        "<bdi>c</bdi>",
        "<bdi>owner</bdi>",
    ]);
    browser.get("/ui/daemon").has(&[
        env!("CARGO_PKG_VERSION"),
        "<code>get_work</code>",
        "--http-max-requests",
        "Started",
    ]);
}

#[test]
fn values_of_redacted_keys_are_on_no_page() {
    let (server, _) = busy(&["--redact", "password,other"]);
    let browser = Browser::of(&server);
    for path in [
        "/ui/spec/s/unit/bad",
        "/ui/spec/s/unit/bad/data",
        "/ui/worker/w1",
    ] {
        let page = browser.get(path);
        page.has(&["(redacted)"]);
        page.has_no("hunter2");
    }
}

#[test]
fn an_open_page_is_told_when_something_changes_and_a_stop_does_not_wait_for_it() {
    use std::io::{BufRead, BufReader};
    let (mut server, mut client) = busy(&[]);
    let browser = Browser::of(&server);
    let answer = browser
        .agent
        .get(format!("{}/ui/events", browser.root))
        .call();
    let answer = answer.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let lines = BufReader::new(answer.into_body().into_reader()).lines();
    let (sender, changed) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if line == "event: changed" {
                sender.send(()).expect("somebody waits");
            }
        }
    });
    // It is told once at the beginning, and then of each change.
    for n in 0..3 {
        changed.recv_timeout(PATIENCE).expect("it is told");
        client.add("s", &format!("['more{n}', {{}}]"));
    }
    assert_eq!(server.stop().code, Some(0));
    reader.join().expect("the stream ends");
}
