//! `GET /openapi.json`: it describes what is there, and programs made from it work.

use super::{Client, start};
use crate::tokens::create;
use coordinated::jobserver::JobServer;
use coordinated::store::SqliteStore;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::process::Command;
use test_support::Server;

fn document(http: &Client) -> Json {
    let answer = http.get("/openapi.json");
    assert_eq!(
        (answer.status, &*answer.content_type),
        (200, "application/json")
    );
    answer.json()
}

/// All paths with their operations.
fn paths(document: &Json) -> impl Iterator<Item = (&String, &serde_json::Map<String, Json>)> {
    let paths = document["paths"].as_object().expect("paths").iter();
    paths.map(|(path, operations)| (path, operations.as_object().expect("operations")))
}

#[test]
fn each_method_has_a_path_with_its_parameters_and_what_the_protocol_says_of_it() {
    let server = start(&[]);
    let document = document(&Client::of(&server));
    assert_eq!(document["openapi"], "3.1.0");
    let methods: Vec<_> = JobServer::<SqliteStore>::methods().collect();
    for method in &methods {
        let call = &document["paths"][format!("/rpc/{}", method.name)]["post"];
        assert_eq!(call["operationId"], method.name);
        let description = call["description"].as_str().expect("a description");
        assert!(description.contains("- Result: "), "{description}");
        let schema = &call["requestBody"]["content"]["application/json"]["schema"];
        let properties = schema["properties"].as_object();
        let properties: Vec<&String> = properties.into_iter().flat_map(|it| it.keys()).collect();
        assert_eq!(properties, method.params, "{}", method.name);
        if !method.params.is_empty() {
            let required = json!(method.params[..method.required]);
            assert_eq!(schema["required"], required, "{}", method.name);
        }
    }
    let calls = paths(&document).filter(|(path, _)| path.starts_with("/rpc/"));
    assert_eq!(calls.count(), methods.len());
}

#[test]
fn each_path_takes_the_http_methods_that_are_described_and_no_others() {
    let server = start(&[]);
    let http = Client::of(&server);
    let json = [("Content-Type", "application/json")];
    for (path, operations) in paths(&document(&http)) {
        // An id of an attempt is a number, and so may all names be.
        let mut concrete = String::new();
        for (index, part) in path.split(['{', '}']).enumerate() {
            concrete += if index % 2 == 0 { part } else { "1" };
        }
        for method in ["get", "put", "post", "delete"] {
            let status = http
                .send(&method.to_uppercase(), &concrete, &json, "")
                .status;
            let is_described = operations.contains_key(method);
            assert_eq!(status != 405, is_described, "{method} {path}: {status}");
        }
    }
}

#[test]
fn the_document_says_which_operations_need_a_token_and_how_it_is_sent() {
    let server = start(&[]);
    let http = Client::of(&server);
    let document = document(&http);
    let schemes = &document["components"]["securitySchemes"];
    for (name, scheme) in [("bearer", "bearer"), ("basic", "basic")] {
        assert_eq!(schemes[name]["type"], "http");
        assert_eq!(schemes[name]["scheme"], scheme);
    }
    let by_default = json!([{"bearer": []}, {"basic": []}, {}]);
    assert_eq!(document["security"], by_default, "a token may be needed");
    create(&mut server.connect(), "t", "'read'", "");
    for (path, operations) in paths(&document) {
        for (method, operation) in operations {
            let path = path.replace(['{', '}'], "");
            let status = http.send(&method.to_uppercase(), &path, &[], "").status;
            match operation.get("security") {
                Some(none) => assert_eq!((none, status), (&json!([]), 200), "{method} {path}"),
                None => assert_eq!(status, 401, "{method} {path}"),
            }
        }
    }
}

#[test]
fn each_problem_and_each_reference_is_defined() {
    let server = start(&[]);
    let http = Client::of(&server);
    let document = document(&http);
    let types = &document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
    for (path, body) in [
        ("/rpc/nope", ""),
        ("/rpc/get_work", "{"),
        ("/rpc/get_work", "[1]"),
    ] {
        let problem = http.post(path, body).json();
        let types = types.as_array().expect("types");
        assert!(types.contains(&problem["type"]), "{problem}");
    }
    fn check(value: &Json, document: &Json) {
        match value {
            Json::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Json::as_str) {
                    let pointer = reference.strip_prefix('#').expect("a local reference");
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                fields.values().for_each(|value| check(value, document));
            }
            Json::Array(items) => items.iter().for_each(|item| check(item, document)),
            _ => {}
        }
    }
    check(&document, &document);
}

#[test]
fn the_document_names_the_base_path_as_its_server() {
    let server = start(&["--http-base-path", "/jobs"]);
    assert!(server.http().ends_with("/jobs"));
    assert_eq!(
        document(&Client::of(&server))["servers"],
        json!([{"url": "/jobs"}])
    );
    let server = start(&[]);
    assert_eq!(document(&Client::of(&server))["servers"], Json::Null);
}

/// A program of openapi-spec-validator or openapi-python-client, from the folder of programs of a Python environment. `None` if
/// there is none here.
fn program(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("COORDINATED_TEST_OPENAPI_TOOLS") else {
        eprintln!("not run: COORDINATED_TEST_OPENAPI_TOOLS names no folder with {name}");
        return None;
    };
    Some(PathBuf::from(folder).join(name))
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = [output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .into();
    assert!(output.status.success(), "{command:?}\n{stdout}\n{stderr}");
}

fn write_document(server: &Server) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("openapi.json");
    let answer = Client::of(server).get("/openapi.json");
    std::fs::write(&path, answer.body).expect("it is written");
    (folder, path)
}

#[test]
fn a_validator_finds_no_fault_with_it() {
    let Some(validator) = program("openapi-spec-validator") else {
        return;
    };
    let server = start(&[]);
    let (_folder, path) = write_document(&server);
    run(Command::new(validator).arg(&path));
}

#[test]
fn a_client_generated_from_it_adds_work_and_does_it() {
    let (Some(generator), Some(python)) = (program("openapi-python-client"), program("python"))
    else {
        return;
    };
    let server = start(&[]);
    let (folder, path) = write_document(&server);
    let config = folder.path().join("config.json");
    let settings = r#"{"package_name_override": "generated", "post_hooks": [],
        "content_type_overrides": {"application/x-ndjson": "application/octet-stream"}}"#;
    std::fs::write(&config, settings).expect("it is written");
    let client = folder.path().join("client");
    run(Command::new(generator)
        .args(["generate", "--fail-on-warning", "--meta", "none"])
        .arg("--path")
        .arg(&path)
        .arg("--config")
        .arg(&config)
        .arg("--output-path")
        .arg(client.join("generated")));
    let program = folder.path().join("program.py");
    std::fs::write(&program, include_str!("generated_client.py")).expect("it is written");
    run(Command::new(python)
        .arg(&program)
        .env("PYTHONPATH", &client)
        .env("COORDINATED_URL", server.http()));
    assert_eq!(server.connect().counts("s").get(&4), Some(&1));
}
