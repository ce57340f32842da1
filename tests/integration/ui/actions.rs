//! Forms, and what they change.

use super::{Browser, start};
use test_support::{Client, Server, wait_until};

fn server_with_units(names: &[&str]) -> (Server, Client, Browser) {
    let server = start(&[]);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    for name in names {
        client.add("s", &format!("['{name}', {{}}]"));
    }
    let browser = Browser::of(&server);
    (server, client, browser)
}

fn fail(client: &mut Client, unit: &str, message: &str) {
    client.take_key("w", unit);
    client.updated(
        "s",
        unit,
        &format!("{{'status': 5, 'data': {{'traceback': '{message}'}}}}"),
    );
}

#[test]
fn a_work_spec_is_paused_with_a_reason_and_resumed() {
    let (_server, mut client, browser) = server_with_units(&["u"]);
    let page = browser.submit("/ui/spec/s/pause", &[("reason", " disk full ")]);
    page.has(&["paused", "<bdi>disk full</bdi>", "web page"]);
    assert!(client.take("w").is_none());
    browser.submit("/ui/spec/s/resume", &[]).has_no("disk full");
    assert!(client.take("w").is_some());
    let long = "x".repeat(2_000);
    assert_eq!(
        browser
            .send("/ui/spec/s/pause", &[("reason", &long)])
            .status,
        400
    );
}

#[test]
fn weight_priority_and_limits_are_set_and_nonsense_is_refused() {
    let (_server, mut client, browser) = server_with_units(&["u"]);
    let set = |weight, priority, max_running| {
        let fields = [
            ("weight", weight),
            ("priority", priority),
            ("max_running", max_running),
        ];
        browser.send("/ui/spec/s/settings", &fields)
    };
    assert_eq!(set("7", "2.5", "3").status, 303);
    let page = browser.get("/ui/spec/s");
    page.has(&[
        "name=\"weight\" type=\"number\" step=\"1\" value=\"7\"",
        "value=\"2.5\"",
        "value=\"3\"",
    ]);
    let meta = client.value("get_work_spec_meta", "'s'").to_string();
    assert!(
        meta.contains("'max_running': 3") && meta.contains("'weight': 7"),
        "{meta}"
    );
    assert_eq!(set("7", "2.5", "").status, 303);
    let meta = client.value("get_work_spec_meta", "'s'").to_string();
    assert!(meta.contains("'max_running': null"), "{meta}");
    for (weight, priority, max_running, named) in [
        ("x", "1", "", "weight"),
        ("1", "NaN", "", "priority"),
        ("1", "1", "-1", "max_running"),
    ] {
        let page = set(weight, priority, max_running);
        assert_eq!(page.status, 400);
        assert!(page.html.contains(named), "{}", page.html);
    }
    assert!(browser.get("/ui/spec/s").html.contains("value=\"2.5\""));
}

#[test]
fn a_failed_unit_is_retried_and_a_pending_one_is_taken_from_its_worker() {
    let (_server, mut client, browser) = server_with_units(&["a", "b"]);
    fail(&mut client, "a", "no");
    browser
        .submit("/ui/spec/s/unit/a/retry", &[])
        .has(&["<span class=\"status available\">"]);
    client.take_key("w", "a");
    browser.submit("/ui/spec/s/unit/a/retry", &[]);
    assert_eq!(client.state("s", "a"), 1);
}

#[test]
fn units_and_work_specs_are_deleted_only_if_the_name_is_typed() {
    let (_server, mut client, browser) = server_with_units(&["a", "b"]);
    for typed in ["", "a", "S"] {
        let page = browser.send("/ui/spec/s/unit/a/delete", &[("typed", typed)]);
        assert_eq!(page.status, 400, "{typed}");
        assert!(page.html.contains("nothing was deleted"), "{}", page.html);
        assert_eq!(
            browser
                .send("/ui/spec/s/delete", &[("typed", typed)])
                .status,
            400
        );
    }
    assert_eq!(client.keys("s", "{}"), ["a", "b"]);
    browser.submit("/ui/spec/s/unit/a/delete", &[("typed", "s")]);
    assert_eq!(client.keys("s", "{}"), ["b"]);
    browser
        .submit("/ui/spec/s/delete", &[("typed", "s ")])
        .has(&["coordinated load"]);
    assert!(client.spec_names().is_empty());
}

#[test]
fn a_lock_is_broken_and_only_that_one() {
    let (_server, mut client, browser) = server_with_units(&[]);
    client.call("lock", "'o', 1000, [['a', 'b'], ['a', 'c']]");
    let page = browser.get("/ui/locks");
    let fields = page.hidden_fields();
    assert_eq!(fields.len(), 2);
    let (name, key) = &fields[0];
    browser
        .submit("/ui/locks/break", &[(name, key)])
        .has_no("title=\"a/b\"");
    assert_eq!(
        client
            .call("readlock", "[['a', 'b'], ['a', 'c']]")
            .to_string(),
        "[null, 'o']"
    );
    let again = browser.send("/ui/locks/break", &[(name, key)]);
    assert_eq!(again.status, 409);
}

#[test]
fn a_form_that_another_site_sends_changes_nothing() {
    let (_server, mut client, browser) = server_with_units(&["u"]);
    for headers in [
        [
            ("origin", "http://evil.example.org"),
            ("sec-fetch-site", "cross-site"),
        ],
        [
            ("origin", "http://127.0.0.1:1"),
            ("sec-fetch-site", "same-site"),
        ],
    ] {
        for path in [
            "/ui/spec/s/pause",
            "/ui/spec/s/delete",
            "/ui/spec/s/unit/u/delete",
        ] {
            let mut request = browser.agent.post(format!("{}{path}", browser.root));
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = request.send_form([("typed", "s")]).expect("an answer");
            assert_eq!(answer.status(), 403, "{path}");
        }
    }
    // A form that is none.
    let json = browser
        .agent
        .post(format!("{}/ui/spec/s/pause", browser.root));
    let answer = json
        .header("content-type", "application/json")
        .send("{}")
        .expect("an answer");
    assert_eq!(answer.status(), 400);
    assert!(client.take("w").is_some());
}

/// Applies what a preview shows, with more fields, and waits for the end. Returns the page of the operation.
fn apply(browser: &Browser, preview: &super::Page, more: &[(&str, &str)]) -> super::Page {
    let fields = preview.hidden_fields();
    let mut fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    fields.extend_from_slice(more);
    let answer = browser.send("/ui/spec/s/bulk/apply", &fields);
    assert_eq!(answer.status, 303, "{}", answer.html);
    let url = answer.header("location").to_owned();
    let mut page = browser.get(&url);
    wait_until("the operation ends", || {
        page = browser.get(&url);
        !page.html.contains("<bdi>running</bdi>")
    });
    page
}

#[test]
fn retrying_the_failures_of_a_message_retries_exactly_those_that_were_shown() {
    let (_server, mut client, browser) = server_with_units(&["a", "b", "c", "d"]);
    for unit in ["a", "b", "c"] {
        fail(&mut client, unit, "KeyError: x");
    }
    fail(&mut client, "d", "ValueError: y");
    let failures = browser.get("/ui/failures");
    let links = failures.attributes("href");
    let retry = links
        .iter()
        .find(|link| link.contains("action=retry") && link.contains("KeyError"));
    let preview = browser.get(retry.expect("a link"));
    preview.has(&["Retry 3 units?", ">a<", ">b<", ">c<", "message KeyError: x"]);
    // One is attempted in between and fails in the same way, and one is new.
    client.call("update_work_unit", "'s', 'b', {'status': 1}");
    fail(&mut client, "b", "KeyError: x");
    client.add("s", "['bb', {}]");
    fail(&mut client, "bb", "KeyError: x");
    let page = apply(&browser, &preview, &[]);
    page.has(&["<bdi>done</bdi>", "<dd>2</dd>"]);
    let states: Vec<u64> = ["a", "b", "bb", "c", "d"]
        .map(|unit| client.state("s", unit))
        .into();
    assert_eq!(states, [1, 5, 5, 1, 5]);
    browser
        .get("/ui/operations")
        .has(&["Retry 3 units", "KeyError: x"]);
}

#[test]
fn many_units_are_deleted_in_steps_once_the_name_is_typed() {
    let (_server, mut client, browser) = server_with_units(&[]);
    let units: Vec<String> = (0..1_050).map(|n| format!("['x{n}', {{}}]")).collect();
    client.add("s", &units.join(", "));
    client.add("s", "['y', {}]");
    let preview = browser.get("/ui/spec/s/bulk?action=delete&prefix=x&status=available");
    preview.has(&["Delete 1,050 units?", "name begins with x"]);
    let fields = preview.hidden_fields();
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    assert_eq!(browser.send("/ui/spec/s/bulk/apply", &fields).status, 400);
    let page = apply(&browser, &preview, &[("typed", "s")]);
    page.has(&["<bdi>done</bdi>", "<dd>1,050</dd>"]);
    assert_eq!(client.keys("s", "{}"), ["y"]);
}

#[test]
fn selected_units_get_another_priority() {
    let (_server, mut client, browser) = server_with_units(&["a", "b", "c"]);
    let selection = [("unit", "b"), ("unit", "c"), ("action", "priority")];
    let preview = browser.send("/ui/spec/s/bulk", &selection);
    preview.has(&["Set the priority of 2 units?", ">b<", ">c<"]);
    apply(&browser, &preview, &[("priority", "5")]).has(&["<dd>2</dd>"]);
    let taken: Vec<String> = (0..3)
        .map(|_| client.take("w").expect("work").key.to_string())
        .collect();
    assert_eq!(taken, ["'b'", "'c'", "'a'"]);
    let nothing = browser.send("/ui/spec/s/bulk", &[("action", "delete")]);
    assert_eq!(nothing.status, 400);
}
