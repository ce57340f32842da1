//! Over CBOR-RPC.

use super::create;
use std::fs;
use test_support::{Client, Server, diag};

/// A daemon whose CBOR-RPC clients need a token, except some, and the secret of an admin's token.
fn requiring_tokens(arguments: &[&str]) -> (Server, String) {
    let mut server = Server::start();
    let token = create(&mut server.connect(), "root", "'admin'", "");
    server.stop();
    server.start_again_with(&[&["--cborrpc-auth", "required"], arguments].concat());
    (server, token)
}

#[test]
fn tokens_change_nothing_for_cbor_rpc_unless_the_daemon_requires_them() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "root", "'admin'", "");
    client.set_spec("{'name': 's'}");
    assert_eq!(server.connect().spec_names(), ["s"]);
}

#[test]
fn a_connection_without_a_token_may_only_ask_who_is_there_if_tokens_are_required() {
    let (server, token) = requiring_tokens(&[]);
    let mut client = server.connect();
    let message = client.refused("clear", "");
    assert!(
        message.starts_with("clear: a token is needed") && message.contains("authenticate"),
        "{message}"
    );
    let list = "[{'id': 1, 'method': 'clear', 'params': []}, {'id': 2, 'method': 'server_info', 'params': []}]";
    let answers = client.exchange(&diag(list)).to_string();
    assert!(answers.contains("a token is needed"), "{answers}");
    assert!(answers.contains("coordinated"), "{answers}");

    let message = client.refused("authenticate", "'cdt_wrong'");
    assert!(message.contains("not known"), "{message}");
    client.refused("now", "");
    let who = client.value("authenticate", &format!("'{token}'"));
    assert_eq!(who.at("name"), &diag("\"root\""));
    assert_eq!(who.at("scopes"), &diag("[\"admin\"]"));
    client.call("clear", "");
    // It is the connection that has shown it.
    server.connect().refused("now", "");
}

#[test]
fn a_token_narrows_what_a_connection_may_do_also_if_none_is_required() {
    let server = Server::start();
    let token = create(&mut server.connect(), "reader", "'read'", "");
    let mut client = server.connect();
    client.value("authenticate", &format!("'{token}'"));
    let message = client.refused("clear", "");
    assert_eq!(
        message,
        "clear: the scope operate is needed, and the token \"reader\" has read"
    );
    client.value("summary", "");
}

#[test]
fn revoking_a_token_ends_what_its_open_connections_may_do() {
    let (server, root) = requiring_tokens(&[]);
    let mut admin = server.connect();
    admin.value("authenticate", &format!("'{root}'"));
    let token = create(&mut admin, "worker", "'work'", "");
    let mut worker = server.connect();
    worker.value("authenticate", &format!("'{token}'"));
    worker.value("get_work", "'w', {}");
    // One that waits for work when its token is revoked gets none.
    worker.send(&test_support::frame(&diag(
        "{'id': 7, 'method': 'get_work', 'params': ['w', {'wait': 30}]}",
    )));
    admin.done("revoke_token", "'worker'");
    admin.set_spec("{'name': 's'}");
    create(&mut admin, "adder", "'submit'", "");
    admin.add("s", "['a', {}]");
    let answer = worker.next_answer().to_string();
    assert!(answer.contains("was revoked"), "{answer}");
    let message = worker.refused("get_work", "'w', {}");
    assert!(message.contains("was revoked"), "{message}");
    assert_eq!(admin.counts("s").into_iter().collect::<Vec<_>>(), [(1, 1)]);
}

#[test]
fn clients_of_a_unix_socket_and_of_networks_that_are_named_need_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("s").display());
    let (server, _) = requiring_tokens(&["--listen", &socket]);
    Client::connect(&socket).call("clear", "");
    server.connect().refused("clear", "");

    let (server, _) = requiring_tokens(&["--allow-anonymous", "10.0.0.0/8,127.0.0.0/8"]);
    server.connect().call("clear", "");
    let (server, _) = requiring_tokens(&["--allow-anonymous", "10.0.0.0/8"]);
    server.connect().refused("clear", "");
}

#[test]
fn a_name_is_used_once_and_what_makes_no_sense_is_refused() {
    let server = Server::start();
    let mut client = server.connect();
    create(&mut client, "t", "'read'", "");
    let (_, message) = client.denied("create_token", "'t', {'scopes': ['read']}");
    assert!(message.contains("already"), "{message}");
    client.done("revoke_token", "'t'");
    let (_, message) = client.denied("revoke_token", "'t'");
    assert!(message.contains("no token \"t\""), "{message}");
    create(&mut client, "t", "'read'", "");
    for (params, says) in [
        ("'', {'scopes': ['read']}", "parameter name"),
        ("'x', {}", "at least one scope"),
        (
            "'x', {'scopes': ['root']}",
            "option scopes: there is no scope 'root'",
        ),
        ("'x', {'scopes': ['read'], 'expires': 5}", "expired already"),
        (
            "'x', {'scopes': ['read'], 'expires': 'soon'}",
            "option expires",
        ),
    ] {
        let message = client.refused("create_token", params);
        assert!(message.contains(says), "{params}: {message}");
    }
}

#[test]
fn secrets_are_neither_in_the_database_nor_in_the_log() {
    let mut server = Server::start_with(&["--log", "debug"]);
    let mut client = server.connect();
    let token = create(&mut client, "t", "'read'", "");
    client.value("authenticate", &format!("'{token}'"));
    server.stop();
    let log = server.log();
    assert!(
        log.contains("create_token") && log.contains("authenticate"),
        "{log}"
    );
    let secret = &token[10..];
    assert!(!log.contains(secret));
    for file in fs::read_dir(server.folder()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        let has_secret = bytes
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        assert!(!has_secret);
    }
}
