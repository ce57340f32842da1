//! Each method with each scope over both interfaces, and each route with each scope.

use super::create;
use crate::http::{Client as Http, start};
use coordinated::coordinate::Scope;
use coordinated::jobserver::JobServer;
use coordinated::store::SqliteStore;
use serde_json::Value as Json;
use test_support::{Reply, Value};

/// Who may call which methods, written down once more. `admin` may call all of them, and everybody may call the last ones.
const ALLOWED: &[(&str, &[&str])] = &[
    (
        "metrics read operate",
        &["mode_counts", "worker_stats", "summary"],
    ),
    ("metrics read operate work", &["count_work_units"]),
    (
        "read operate",
        &[
            "get_work_units",
            "list_worker_modes",
            "get_worker_info",
            "list_locks",
            "list_failures",
            "explain_work",
        ],
    ),
    (
        "read operate work",
        &[
            "get_work_spec",
            "list_work_specs",
            "get_work_spec_meta",
            "get_child_work_units",
            "readlock",
            "get_attempts",
        ],
    ),
    (
        "read operate submit work",
        &["get_work_unit_status", "get_config"],
    ),
    (
        "operate",
        &[
            "set_work_spec",
            "control_work_spec",
            "del_work_spec",
            "clear",
            "archive",
            "prioritize_work_units",
            "del_work_units",
            "cancel_work_units",
            "delete_namespace",
        ],
    ),
    ("metrics read operate submit work", &["now"]),
    ("read operate", &["create_sign_in_code"]),
    ("submit", &["add_work_units"]),
    // Retrying, and work.
    ("operate work", &["update_work_unit", "update_work_units"]),
    (
        "work",
        &[
            "get_work",
            "worker_heartbeat",
            "worker_unregister",
            "lock",
            "locksome",
            "renew",
            "unlock",
        ],
    ),
    (
        "",
        &[
            "create_token",
            "list_tokens",
            "revoke_token",
            "rotate_token",
            "list_audit",
        ],
    ),
    (EVERYBODY, &["server_info", "authenticate"]),
];

/// The same for the routes of HTTP, but for `/rpc/{method}`: which methods they take, for a token of which scopes, which must
/// count in all namespaces if that is said. A test compares them with the routes that there are.
const ROUTES: &[(&str, &str, &str, Counts)] = &[
    ("GET", "/rpc", KNOWN, Counts::Anywhere),
    ("POST", "/rpc", KNOWN, Counts::Anywhere),
    ("GET", "/openapi.json", KNOWN, Counts::Anywhere),
    (
        "GET",
        "/units/{work_spec}",
        "read operate submit",
        Counts::There,
    ),
    ("POST", "/units/{work_spec}", "submit", Counts::There),
    ("GET", "/healthz", EVERYBODY, Counts::Anywhere),
    ("GET", "/readyz", EVERYBODY, Counts::Anywhere),
    (
        "GET",
        "/metrics",
        "metrics read operate",
        Counts::Everywhere,
    ),
];

/// The same for the pages.
const PAGES: &[(&str, &str, &str, Counts)] = &[
    ("GET", "/ui/", "read operate", Counts::AtHome),
    ("GET", "/ui/audit", "", Counts::AtHome),
    ("POST", "/ui/daemon/tokens", "", Counts::AtHome),
    ("POST", "/ui/daemon/tokens/rotate", "", Counts::AtHome),
    ("POST", "/ui/daemon/tokens/revoke", "", Counts::AtHome),
    ("GET", "/ui/sign-in", EVERYBODY, Counts::Anywhere),
    ("POST", "/ui/sign-in", EVERYBODY, Counts::Anywhere),
    ("POST", "/ui/sign-out", EVERYBODY, Counts::Anywhere),
    ("GET", "/ui/spec/{spec}", "read operate", Counts::AtHome),
    ("POST", "/ui/spec/{spec}/pause", "operate", Counts::AtHome),
    ("POST", "/ui/spec/{spec}/resume", "operate", Counts::AtHome),
    (
        "POST",
        "/ui/spec/{spec}/settings",
        "operate",
        Counts::AtHome,
    ),
    ("POST", "/ui/spec/{spec}/delete", "operate", Counts::AtHome),
    (
        "GET",
        "/ui/spec/{spec}/units",
        "read operate",
        Counts::AtHome,
    ),
    (
        "GET",
        "/ui/spec/{spec}/bulk",
        "read operate",
        Counts::AtHome,
    ),
    (
        "POST",
        "/ui/spec/{spec}/bulk",
        "read operate",
        Counts::AtHome,
    ),
    (
        "POST",
        "/ui/spec/{spec}/bulk/apply",
        "operate",
        Counts::AtHome,
    ),
    (
        "GET",
        "/ui/spec/{spec}/unit/{unit}",
        "read operate",
        Counts::AtHome,
    ),
    (
        "GET",
        "/ui/spec/{spec}/unit/{unit}/data",
        "read operate",
        Counts::AtHome,
    ),
    (
        "POST",
        "/ui/spec/{spec}/unit/{unit}/retry",
        "operate",
        Counts::AtHome,
    ),
    (
        "POST",
        "/ui/spec/{spec}/unit/{unit}/delete",
        "operate",
        Counts::AtHome,
    ),
    ("GET", "/ui/failures", "read operate", Counts::AtHome),
    ("GET", "/ui/workers", "read operate", Counts::AtHome),
    ("GET", "/ui/worker/{worker}", "read operate", Counts::AtHome),
    ("GET", "/ui/locks", "read operate", Counts::AtHome),
    ("GET", "/ui/operations", "read operate", Counts::AtHome),
    ("GET", "/ui/operations/{id}", "read operate", Counts::AtHome),
    ("GET", "/ui/daemon", "read operate", Counts::Everywhere),
    ("POST", "/ui/locks/break", "operate", Counts::AtHome),
    (
        "POST",
        "/ui/operations/{id}/stop",
        "operate",
        Counts::AtHome,
    ),
    ("GET", "/ui/assets/{name}", EVERYBODY, Counts::Anywhere),
    ("GET", "/ui/{*path}", "read operate", Counts::AtHome),
];

/// The same for REST: each row of the table in docs/rest.md with each of its methods.
const REST: &[(&str, &str, &str, Counts)] = &[
    ("GET", "/", KNOWN, Counts::Anywhere),
    (
        "GET",
        "/summary",
        "metrics read operate",
        Counts::Everywhere,
    ),
    ("GET", "/namespace", "read operate", Counts::Everywhere),
    ("POST", "/namespace", KNOWN, Counts::There),
    ("GET", "/namespace/N", KNOWN, Counts::There),
    ("DELETE", "/namespace/N", "", Counts::There),
    (
        "GET",
        "/namespace/N/summary",
        "metrics read operate",
        Counts::There,
    ),
    (
        "GET",
        "/namespace/N/work_spec",
        "read operate work",
        Counts::There,
    ),
    ("POST", "/namespace/N/work_spec", "operate", Counts::There),
    (
        "GET",
        "/namespace/N/work_spec/S",
        "read operate submit work",
        Counts::There,
    ),
    ("PUT", "/namespace/N/work_spec/S", "operate", Counts::There),
    (
        "DELETE",
        "/namespace/N/work_spec/S",
        "operate",
        Counts::There,
    ),
    ("GET", ".../S/meta", "read operate work", Counts::There),
    ("PUT", ".../S/meta", "operate", Counts::There),
    ("GET", ".../S/counts", "metrics read operate", Counts::There),
    (
        "GET",
        ".../S/summary",
        "metrics read operate",
        Counts::There,
    ),
    ("GET", ".../S/work_unit", "read operate", Counts::There),
    ("POST", ".../S/work_unit", "submit", Counts::There),
    ("DELETE", ".../S/work_unit", "operate", Counts::There),
    ("POST", ".../S/change", "operate", Counts::There),
    ("POST", ".../S/adjust", "operate", Counts::There),
    (
        "GET",
        ".../S/work_unit/U",
        "read operate submit work",
        Counts::There,
    ),
    ("PUT", ".../S/work_unit/U", "operate", Counts::There),
    ("GET", ".../U/attempts", "read operate work", Counts::There),
    (
        "GET",
        ".../U/num-attempts",
        "read operate work",
        Counts::There,
    ),
    ("GET", "A", "read operate work", Counts::There),
    ("POST", "A/renew", "work", Counts::There),
    ("POST", "A/expire", "work", Counts::There),
    ("POST", "A/finish", "work", Counts::There),
    ("POST", "A/fail", "work", Counts::There),
    ("POST", "A/retry", "work", Counts::There),
    (
        "GET",
        "/namespace/N/worker/W",
        "read operate work",
        Counts::There,
    ),
    ("PUT", "/namespace/N/worker/W", "work", Counts::There),
    ("POST", ".../W/request_attempts", "work", Counts::There),
    ("POST", ".../W/make_attempt", "work", Counts::There),
    (
        "GET",
        ".../W/active_attempts",
        "read operate work",
        Counts::There,
    ),
    (
        "GET",
        ".../W/child_attempts",
        "read operate work",
        Counts::There,
    ),
    (
        "GET",
        ".../W/all_attempts",
        "read operate work",
        Counts::There,
    ),
];

/// Where a token that is limited to a namespace has to count.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Counts {
    Anywhere,
    There,
    Everywhere,
    /// In the namespace of CBOR-RPC clients, which is neither of the two of the test.
    AtHome,
}

const KNOWN: &str = "metrics read operate submit work";
const EVERYBODY: &str = "metrics read operate submit work nobody";

fn may(scope: &str, method: &str) -> bool {
    let allowed = ALLOWED
        .iter()
        .find(|(_, methods)| methods.contains(&method));
    let (scopes, _) = allowed.unwrap_or_else(|| panic!("say in ALLOWED who may call {method}"));
    scope == "admin" || scopes.split(' ').any(|one| one == scope)
}

#[test]
fn each_scope_allows_just_its_methods_over_both_interfaces() {
    let mut server = start(&[]);
    let tokens = Scope::ALL.map(|scope| {
        let scope = scope.name();
        let token = create(&mut server.connect(), scope, &format!("'{scope}'"), "");
        (scope, token)
    });
    server.stop();
    server.start_again_with(&["--cborrpc-auth", "required"]);
    let http = Http::of(&server);
    for (scope, token) in &tokens {
        let mut cborrpc = server.connect();
        cborrpc.value("authenticate", &format!("'{token}'"));
        let authorization = format!("Bearer {token}");
        for method in JobServer::<SqliteStore>::methods() {
            // With a parameter too many, the method itself answers.
            let count = method.params.len() + 1;
            let body = Json::Array(vec![Json::Null; count]).to_string();
            let path = format!("/rpc/{}", method.name);
            let answer = http.post_with(&path, &body, &[("Authorization", &authorization)]);
            let list = format!(r#"[{{"method": "{}", "params": {body}}}]"#, method.name);
            let in_list = http.post_with("/rpc", &list, &[("Authorization", &authorization)]);
            let in_list = in_list.json()[0]["error"]["status"].clone();
            let params = Value::Array(vec![Value::Null; count]);
            let Reply::Error(message) = cborrpc.request(method.name, params) else {
                panic!("{} takes {count} parameters", method.name);
            };
            let what = format!("{scope} calls {}: {answer:?}; {message}", method.name);
            match may(scope, method.name) {
                true => {
                    assert_eq!(
                        (answer.status, &*answer.problem()),
                        (400, "invalid"),
                        "{what}"
                    );
                    assert_eq!(in_list, 400, "{what}");
                    assert!(message.contains("too many parameters"), "{what}");
                }
                false => {
                    assert_eq!(
                        (answer.status, &*answer.problem()),
                        (403, "forbidden"),
                        "{what}"
                    );
                    assert_eq!(in_list, 403, "{what}");
                    for text in [&*answer.body, &message] {
                        assert!(text.contains("the scope "), "{what}");
                        assert!(text.contains(&format!("has {scope}")), "{what}");
                    }
                }
            }
        }
    }
    // Without a token.
    let mut nobody = server.connect();
    for method in JobServer::<SqliteStore>::methods() {
        let params = Value::Array(vec![Value::Null; method.params.len() + 1]);
        let Reply::Error(message) = nobody.request(method.name, params) else {
            panic!("{} takes too many parameters", method.name);
        };
        let expected = match may("nobody", method.name) {
            true => "too many parameters",
            false => "a token is needed",
        };
        assert!(message.contains(expected), "{}: {message}", method.name);
    }
}

#[test]
fn a_token_with_several_scopes_may_do_what_each_of_them_allows() {
    let server = start(&[]);
    let http = Http::of(&server);
    let mut client = server.connect();
    client.set_spec("{'name': 's'}");
    let token = create(&mut client, "both", "'submit', 'metrics'", "");
    let authorization = format!("Bearer {token}");
    let call = |method: &str, params: &str| {
        let headers = [("Authorization", &*authorization)];
        http.post_with(&format!("/rpc/{method}"), params, &headers)
            .status
    };
    assert_eq!(call("add_work_units", r#"["s", [["a", {}]]]"#), 200);
    assert_eq!(call("count_work_units", r#"["s"]"#), 200);
    assert_eq!(call("get_work_units", r#"["s", {}]"#), 403);
    assert_eq!(call("get_work", r#"["w", {}]"#), 403);
    assert_eq!(client.counts("s").into_iter().collect::<Vec<_>>(), [(1, 1)]);
}

/// The rows of the table in docs/rest.md: each method with each path.
fn documented_places() -> Vec<(String, String)> {
    let document = include_str!("../../../docs/rest.md");
    let table = document
        .split("| path | methods |")
        .nth(1)
        .expect("a table");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut places = Vec::new();
    for row in rows {
        let mut cells = row.split('|').skip(1);
        let (paths, methods) = (cells.next().unwrap(), cells.next().unwrap());
        for path in paths.split(',').map(|path| path.trim().trim_matches('`')) {
            for method in methods.split(',').map(str::trim) {
                places.push((method.to_owned(), path.to_owned()));
            }
        }
    }
    places
}

/// A path of docs/rest.md in a namespace.
fn path_in(namespace: &str, path: &str) -> String {
    let spec = "/namespace/N/work_spec/s";
    let unit = format!("{spec}/work_unit/u");
    let path = path
        .replace(".../S", spec)
        .replace(".../U", &unit)
        .replace(".../W", "/namespace/N/worker/w");
    let path = match path.strip_prefix('A') {
        Some(rest) => format!("{unit}/attempt/w/1{rest}"),
        None => path,
    };
    let path = path
        .replace("/S", "/s")
        .replace("/U", "/u")
        .replace("/W", "/w");
    path.replace("/N", &format!("/{namespace}")).replace(
        "/units/{work_spec}",
        &format!("/units/s?namespace={namespace}"),
    )
}

#[test]
fn each_route_is_in_the_tables_of_who_may_use_it() {
    let routes: Vec<&str> = coordinated::http::paths::<SqliteStore>().collect();
    for path in &routes {
        let of_rest = *path == "/"
            || ["/summary", "/namespace"]
                .iter()
                .any(|it| path.starts_with(it));
        // One only leads to the first page, and the other has no end: tests/integration/ui/sign_in.rs asks for it.
        let is_special = ["/ui", "/ui/events"].contains(path);
        let is_listed = [ROUTES, PAGES]
            .concat()
            .iter()
            .any(|(_, listed, ..)| listed == path);
        assert!(
            is_listed || is_special || of_rest || *path == "/rpc/{method}",
            "say in ROUTES who may use {path}"
        );
    }
    let mut documented = documented_places();
    documented.sort();
    let mut listed: Vec<(String, String)> = REST
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    listed.sort();
    assert_eq!(documented, listed);
}

#[test]
fn each_scope_allows_just_its_routes_and_a_token_of_a_namespace_only_those_in_it() {
    let server = start(&[]);
    let http = Http::of(&server);
    let mut client = server.connect();
    let mut tokens = Vec::new();
    for scope in Scope::ALL.map(Scope::name) {
        for limit in [None, Some("here")] {
            let name = format!("{scope} {limit:?}").replace('"', "");
            let options = limit.map_or_else(String::new, |it| format!("'namespace': '{it}'"));
            let secret = create(&mut client, &name, &format!("'{scope}'"), &options);
            tokens.push((scope, limit, secret));
        }
    }
    let all = [ROUTES, PAGES, REST].concat();
    for (method, path, scopes, counts) in all {
        for namespace in ["here", "there"] {
            let url = path_in(namespace, path);
            // What has the right form would do something: this has not, and is refused only after the token.
            let body = match (method, path) {
                ("GET" | "DELETE", _) => String::new(),
                (_, "/namespace") => format!(r#"{{"name": "{namespace}"}}"#),
                _ => "]".to_owned(),
            };
            let send = |authorization: Option<&str>| {
                let mut headers = vec![("Content-Type", "application/json")];
                headers.extend(authorization.map(|it| ("Authorization", it)));
                http.send(method, &url, &headers, &body)
            };
            let without = send(None);
            match scopes {
                EVERYBODY => assert!(![401, 403].contains(&without.status), "{url}"),
                _ => assert_eq!(without.status, 401, "{method} {url}: {without:?}"),
            }
            for (scope, limit, secret) in &tokens {
                let answer = send(Some(&format!("Bearer {secret}")));
                let has_scope = *scope == "admin" || scopes.split(' ').any(|one| one == *scope);
                let counts_there = match (limit, counts) {
                    (None, _) | (_, Counts::Anywhere) => true,
                    (Some(limit), Counts::There) => *limit == namespace,
                    (Some(_), Counts::Everywhere | Counts::AtHome) => false,
                };
                let may = scopes == EVERYBODY || has_scope && counts_there;
                assert_eq!(
                    answer.status != 403,
                    may,
                    "{scope} in {limit:?}: {method} {url}: {answer:?}"
                );
                assert!(
                    ![401, 405, 429].contains(&answer.status),
                    "{url}: {answer:?}"
                );
            }
        }
    }
}
