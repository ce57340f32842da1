//! Names, data and tracebacks that want to be more than text.

use super::{Browser, start};
use test_support::Value;

const SCRIPT: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn map(entries: &[(&str, Value)]) -> Value {
    let entries = entries
        .iter()
        .map(|(key, value)| (text(key), value.clone()));
    Value::Map(entries.collect())
}

fn list(items: &[Value]) -> Value {
    Value::Array(items.to_vec())
}

#[test]
fn html_in_names_data_tracebacks_reasons_and_workers_is_text_on_every_page() {
    let server = start(&[]);
    let mut client = server.connect();
    let mut call = |method: &str, params: Vec<Value>| client.call_with(method, params);
    call(
        "set_work_spec",
        vec![map(&[("name", text(SCRIPT)), ("note", text(SCRIPT))])],
    );
    let unit = list(&[text(SCRIPT), map(&[(SCRIPT, text(SCRIPT))])]);
    call("add_work_units", vec![text(SCRIPT), list(&[unit])]);
    call("get_work", vec![text(SCRIPT), map(&[])]);
    call(
        "update_work_unit",
        vec![
            text(SCRIPT),
            text(SCRIPT),
            map(&[
                ("status", Value::Unsigned(5)),
                ("data", map(&[("traceback", text(SCRIPT))])),
            ]),
        ],
    );
    call(
        "worker_heartbeat",
        vec![
            text(SCRIPT),
            text(SCRIPT),
            Value::Unsigned(600),
            map(&[(SCRIPT, text(SCRIPT))]),
            text(SCRIPT),
        ],
    );
    call(
        "lock",
        vec![
            text(SCRIPT),
            Value::Unsigned(600),
            list(&[list(&[text(SCRIPT)])]),
        ],
    );
    let pause = [
        ("status", Value::Unsigned(2)),
        ("reason", text(SCRIPT)),
        ("by", text(SCRIPT)),
    ];
    call("control_work_spec", vec![text(SCRIPT), map(&pause)]);
    let browser = Browser::of(&server);
    let mut paths = vec!["/ui/".to_owned()];
    let mut at = 0;
    // Every page that a link leads to.
    while let Some(path) = paths.get(at).cloned() {
        at += 1;
        let page = browser.get(&path);
        assert!(page.status == 200, "{path}: {page:?}");
        if page.header("content-type").starts_with("text/html") {
            for evil in ["<script>alert", "<img", "onerror=alert(1)>", "\"'>"] {
                assert!(!page.html.contains(evil), "{path}: {}", page.html);
            }
            for link in page.attributes("href") {
                let is_page = link.starts_with("/ui/") && !link.contains("/assets/");
                if is_page && !paths.contains(&link) {
                    paths.push(link);
                }
            }
        }
    }
    let unit = paths.iter().any(|path| path.contains("/unit/"));
    let worker = paths.iter().any(|path| path.contains("/worker/"));
    assert!(unit && worker && at > 15, "{paths:?}");
}

#[test]
fn names_that_are_no_text_or_turn_the_text_around_them_are_escaped_and_lead_to_their_pages() {
    let server = start(&[]);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    let names = [
        Value::Bytes(vec![0xff, 0, b'<']),
        text("\u{202e}evil"),
        text("a/b?c#d%41"),
        text(".."),
        text("two\nlines"),
        text("-dash"),
    ];
    for name in &names {
        let unit = list(&[
            name.clone(),
            map(&[("raw", Value::Bytes(vec![0xfe, 0xff]))]),
        ]);
        client.call_with("add_work_units", vec![text("s"), list(&[unit])]);
    }
    let browser = Browser::of(&server);
    let page = browser.get("/ui/spec/s/units");
    page.has(&[
        "\\xff\\x00&#60;",
        "\\u{202e}evil",
        "a/b?c#d%41",
        "two\\nlines",
    ]);
    page.has_no("\u{202e}");
    let links = page.attributes("href");
    let links: Vec<_> = links
        .iter()
        .filter(|link| link.contains("/unit/"))
        .collect();
    assert_eq!(links.len(), names.len());
    for link in links {
        browser.get(link).has(&["\\\\xfe\\\\xff"]);
    }
}

#[test]
fn a_megabyte_in_a_traceback_or_in_data_is_cut_and_there_on_request() {
    let server = start(&["--max-message", "16MiB"]);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    client.add("s", "['u', {}]");
    client.take_key("w", "u");
    let long = "\u{e9}".repeat(1 << 20);
    let data = map(&[("traceback", text(&long)), ("b", text(&long))]);
    let update = map(&[("status", Value::Unsigned(5)), ("data", data)]);
    client.call_with("update_work_unit", vec![text("s"), text("u"), update]);
    let browser = Browser::of(&server);
    for path in [
        "/ui/spec/s",
        "/ui/spec/s/units?status=failed",
        "/ui/failures",
        "/ui/spec/s/unit/u",
    ] {
        let page = browser.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert!(page.html.len() < 300 << 10, "{path}: {}", page.html.len());
    }
    browser
        .get("/ui/spec/s/unit/u")
        .has(&["more bytes are not shown"]);
    let all = browser.get("/ui/spec/s/unit/u/data");
    assert!(all.html.len() > 4 << 20, "{}", all.html.len());
}
