//! Tokens: who may do what, over HTTP and CBOR-RPC, and by which commands that is managed.

mod audit;
mod cborrpc;
mod commands;
mod http;
mod scopes;

use serde_json::Value as Json;
use std::path::Path;
use test_support::{Client, Exit, Server, Value, run_to_end};

/// Makes a token over CBOR-RPC, with these scopes and options; returns its secret.
pub fn create(client: &mut Client, name: &str, scopes: &str, options: &str) -> String {
    let token = client.value(
        "create_token",
        &format!("'{name}', {{'scopes': [{scopes}], {options}}}"),
    );
    match token.at("token") {
        Value::Text(secret) => secret.clone(),
        other => panic!("{other}"),
    }
}

/// Runs a command against a daemon, with more of the environment.
fn run(server: &Server, arguments: &[&str], environment: &[(&str, &str)]) -> Exit {
    let environment = [&[("COORDINATED_SERVER", server.address())], environment].concat();
    run_to_end(server.folder(), arguments, &environment)
}

/// Runs `coordinated token` with the database of a daemon that does not run.
fn on_file(folder: &Path, arguments: &[&str]) -> Exit {
    let arguments = [&["token"], arguments, &["--db", "test.db"]].concat();
    run_to_end(folder, &arguments, &[])
}

/// The secret that a command has printed, which went well.
fn secret(exit: &Exit) -> String {
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    let secret = exit.stdout.trim_end().to_owned();
    assert!(
        secret.starts_with("cdt_") && secret.len() == 40,
        "{secret:?}"
    );
    secret
}

/// What `token list` prints as JSON.
fn list(server: &Server, arguments: &[&str]) -> Vec<Json> {
    let arguments = [&["token", "list", "--json"], arguments].concat();
    let exit = run(server, &arguments, &[]);
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
    serde_json::from_str(&exit.stdout).unwrap_or_else(|error| panic!("{error}: {}", exit.stdout))
}
