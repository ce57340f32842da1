//! Each method with each scope, over both interfaces.

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
    ("metrics read operate submit work", &["now"]),
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
            "delete_namespace",
        ],
    ),
    ("submit", &["add_work_units"]),
    (
        "work",
        &[
            "get_work",
            "update_work_unit",
            "update_work_units",
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
