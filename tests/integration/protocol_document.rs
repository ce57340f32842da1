//! docs/protocol.md tells the truth: it has every method, and its examples are what the daemon answers.

use coordinated::jobserver::JobServer;
use coordinated::store::SqliteStore;
use std::collections::HashSet;
use test_support::cbor::unhex;
use test_support::{Server, Value, diag};

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// Opens a block of requests and responses in diagnostic notation.
const EXAMPLES: &str = "cbor-rpc";

/// Opens a block of requests and responses as they are on the wire, in hexadecimal digits.
const BYTES: &str = "cbor-rpc-bytes";

/// Stands for `...` in what is compared: a tag that is registered as invalid, so no data have it.
const ANY: &str = "65535(null)";
const ANY_TAG: u64 = 65_535;

/// What the document has beside text.
enum Part {
    Heading(String),
    Exchange(Exchange),
}

/// A request and its response, as they are written.
struct Exchange {
    /// What the block is marked with.
    kind: String,
    /// The number of the request's line, for messages.
    line: usize,
    request: String,
    response: String,
}

fn parts() -> Vec<Part> {
    let mut parts = Vec::new();
    let mut block: Option<String> = None;
    for (index, line) in DOCUMENT.lines().enumerate() {
        match (&block, line.strip_prefix("```")) {
            (None, Some(kind)) => block = Some(kind.to_owned()),
            (Some(_), Some(_)) => block = None,
            (Some(kind), None) if kind == EXAMPLES || kind == BYTES => {
                add_example_line(&mut parts, kind, index + 1, line);
            }
            (Some(_), None) => {}
            (None, None) if line.starts_with('#') => {
                let heading = line.trim_start_matches('#').trim();
                parts.push(Part::Heading(heading.to_owned()));
            }
            (None, None) => {}
        }
    }
    assert!(block.is_none(), "the last block has no end");
    parts
}

/// A request begins an exchange, a response belongs to the last one, and an indented line goes on
/// with what is above it.
fn add_example_line(parts: &mut Vec<Part>, kind: &str, line: usize, text: &str) {
    if let Some(request) = text.strip_prefix("-> ") {
        parts.push(Part::Exchange(Exchange {
            kind: kind.to_owned(),
            line,
            request: request.to_owned(),
            response: String::new(),
        }));
        return;
    }
    let Some(Part::Exchange(exchange)) = parts.last_mut() else {
        panic!("line {line}: no request before {text:?}");
    };
    if let Some(response) = text.strip_prefix("<- ") {
        assert!(
            exchange.response.is_empty(),
            "line {line}: a second response"
        );
        exchange.response.push_str(response);
        return;
    }
    assert!(
        text.starts_with(' '),
        "line {line}: neither request nor response: {text:?}"
    );
    let last = if exchange.response.is_empty() {
        &mut exchange.request
    } else {
        &mut exchange.response
    };
    last.push(' ');
    last.push_str(text.trim());
}

fn exchanges() -> impl Iterator<Item = Exchange> {
    parts().into_iter().filter_map(|part| match part {
        Part::Exchange(exchange) => Some(exchange),
        Part::Heading(_) => None,
    })
}

fn headings() -> impl Iterator<Item = String> {
    parts().into_iter().filter_map(|part| match part {
        Part::Heading(heading) => Some(heading),
        Part::Exchange(_) => None,
    })
}

/// Replaces `...` outside of strings.
fn with_any(notation: &str) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut rest = notation.chars();
    while let Some(c) = rest.next() {
        match quote {
            None if c == '.' && rest.as_str().starts_with("..") => {
                rest.by_ref().take(2).for_each(drop);
                out.push_str(ANY);
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(_) if c == '\\' => {
                out.push(c);
                out.extend(rest.next());
                continue;
            }
            Some(end) if c == end => quote = None,
            _ => {}
        }
        out.push(c);
    }
    out
}

/// True if a value is as expected, where in some places anything is expected.
fn fits(expected: &Value, actual: &Value) -> bool {
    match (expected, actual) {
        (Value::Tag(ANY_TAG, _), _) => true,
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fits(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            let is_there =
                |key: &Value, value: &Value| b.iter().any(|(k, v)| k == key && fits(value, v));
            a.len() == b.len() && a.iter().all(|(key, value)| is_there(key, value))
        }
        (Value::Tag(a, x), Value::Tag(b, y)) => a == b && fits(x, y),
        _ => expected == actual,
    }
}

fn heading_of(name: &str, params: &[&str]) -> String {
    format!("`{name}({})`", params.join(", "))
}

#[test]
fn every_method_has_a_heading_with_its_parameters_and_an_example_below_it() {
    let parts = parts();
    for method in JobServer::<SqliteStore>::methods() {
        let expected = heading_of(method.name, method.params);
        let called = format!("'method': '{}'", method.name);
        let has_example = parts
            .iter()
            .skip_while(|part| !matches!(part, Part::Heading(heading) if *heading == expected))
            .skip(1)
            .map_while(|part| match part {
                Part::Exchange(exchange) => Some(exchange),
                Part::Heading(_) => None,
            })
            .any(|exchange| exchange.kind == EXAMPLES && exchange.request.contains(&called));
        assert!(
            has_example,
            "docs/protocol.md needs a heading {expected}, and an example below it"
        );
    }
}

#[test]
fn every_heading_that_looks_like_a_method_is_one() {
    let methods: HashSet<String> = JobServer::<SqliteStore>::methods()
        .map(|method| heading_of(method.name, method.params))
        .collect();
    for heading in headings().filter(|heading| heading.starts_with('`')) {
        assert!(methods.contains(&heading), "there is no method {heading}");
    }
}

#[test]
fn links_within_the_document_lead_to_its_headings() {
    let anchors: HashSet<String> = headings()
        .map(|heading| heading.to_lowercase().replace(' ', "-"))
        .collect();
    for link in DOCUMENT.split("](#").skip(1) {
        let target = link.split(')').next().unwrap_or_default();
        assert!(
            anchors.contains(target),
            "no heading for the link #{target}"
        );
    }
}

#[test]
fn the_examples_are_what_a_fresh_daemon_answers() {
    let server = Server::start();
    let mut client = server.connect();
    let mut wrong = Vec::new();
    for exchange in exchanges() {
        let Exchange {
            kind,
            line,
            request,
            response,
        } = exchange;
        assert!(
            !response.is_empty(),
            "line {line}: a request without a response"
        );
        if kind == BYTES {
            let bytes = |digits: &str| unhex(&digits.replace(' ', ""));
            client.send(&bytes(&request));
            let frame = client
                .next_frame()
                .expect("an answer")
                .expect("an open connection");
            assert_eq!(
                frame,
                bytes(&response),
                "line {line}: the bytes of the answer"
            );
            continue;
        }
        let expected = diag(&with_any(&response));
        let actual = client.exchange(&diag(&request));
        if !fits(&expected, &actual) {
            wrong.push(format!(
                "line {line}\n-> {request}\n<- {response}\nbut the daemon answered\n<- {actual}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "docs/protocol.md is wrong:\n\n{}",
        wrong.join("\n\n")
    );
}

#[test]
fn dots_stand_for_anything_outside_of_strings_only() {
    assert_eq!(
        with_any(r#"['...', "a\"...", ...]"#),
        format!(r#"['...', "a\"...", {ANY}]"#)
    );
    let expected = diag(&with_any("{'a': [..., 1]}"));
    assert!(fits(&expected, &diag("{'a': [null, 1]}")));
    assert!(!fits(&expected, &diag("{'a': [null, 2]}")));
    assert!(!fits(&diag("[1]"), &diag("128([1])")));
}
