//! The commands: those about tokens, and that all others show one.

use super::{create, list, on_file, run, secret};
use coordinated_client::{Connection, Coordinate, Error, Options, Token};
use serde_json::json;
use std::fs;
use test_support::Server;

#[test]
fn a_token_is_made_shown_once_listed_replaced_and_revoked() {
    let server = Server::start();
    let made = run(
        &server,
        &[
            "token", "create", "grafana", "--scope", "metrics", "--scope", "read",
        ],
        &[],
    );
    let first = secret(&made);
    assert!(made.stderr.contains("not shown again"), "{}", made.stderr);
    let tokens = list(&server, &[]);
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0]["name"], "grafana");
    assert_eq!(tokens[0]["prefix"], first[..10]);
    assert_eq!(tokens[0]["scopes"], json!(["metrics", "read"]));
    assert_eq!(tokens[0]["namespace"], json!(null));
    let made_by = tokens[0]["created_by"].as_str().unwrap();
    assert!(made_by.contains('@'), "{made_by}");
    let lifetime = tokens[0]["expires"].as_f64().unwrap() - tokens[0]["created"].as_f64().unwrap();
    assert!((lifetime - 90.0 * 86_400.0).abs() < 1.0, "{lifetime}");
    let table = run(&server, &["token", "list"], &[]).stdout;
    assert!(
        table.contains("grafana") && !table.contains(&first),
        "{table}"
    );

    let second = secret(&run(&server, &["token", "rotate", "grafana"], &[]));
    assert_ne!(first, second);
    let tokens = list(&server, &[]);
    assert_eq!(
        (tokens.len(), &tokens[0]["prefix"]),
        (1, &json!(second[..10]))
    );
    assert_eq!(
        run(&server, &["token", "revoke", "grafana"], &[]).code,
        Some(0)
    );
    assert!(list(&server, &[]).is_empty());
    assert_eq!(list(&server, &["--all"]).len(), 2);
    let again = run(&server, &["token", "revoke", "grafana"], &[]);
    assert_eq!(again.code, Some(1));
    assert!(
        again.stderr.contains("no token \"grafana\""),
        "{}",
        again.stderr
    );
}

#[test]
fn a_token_lasts_as_long_as_it_is_told_and_forever_only_if_that_is_said() {
    let server = Server::start();
    for (name, expires) in [("a", "never"), ("b", "1d"), ("c", "2100-01-01T00:00:00Z")] {
        let arguments = [
            "token",
            "create",
            name,
            "--scope",
            "read",
            "--expires",
            expires,
        ];
        secret(&run(&server, &arguments, &[]));
    }
    let tokens = list(&server, &[]);
    let expires: Vec<_> = tokens
        .iter()
        .map(|token| token["expires"].clone())
        .collect();
    assert_eq!(
        (&expires[0], &expires[2]),
        (&json!(null), &json!(4_102_444_800.0))
    );
    let lifetime = expires[1].as_f64().unwrap() - tokens[1]["created"].as_f64().unwrap();
    assert!((lifetime - 86_400.0).abs() < 60.0, "{lifetime}");
}

#[test]
fn tokens_can_be_managed_in_the_file_while_no_daemon_runs_and_only_then() {
    let mut server = Server::start();
    let arguments = ["create", "root", "--scope", "admin"];
    let refused = on_file(server.folder(), &arguments);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("in use"), "{}", refused.stderr);
    server.stop();
    let token = secret(&on_file(server.folder(), &arguments));
    let listed = on_file(server.folder(), &["list"]);
    assert!(listed.stdout.contains("root"), "{}", listed.stdout);
    let nowhere = run(&server, &["token", "list", "--db", "nonesuch.db"], &[]);
    assert!(
        nowhere.stderr.contains("there is no database"),
        "{}",
        nowhere.stderr
    );
    assert!(!server.folder().join("nonesuch.db").exists());
    // The first token can be made before the first start.
    let first = ["token", "create", "first", "--scope", "admin"];
    secret(&run(
        &server,
        &[&first[..], &["--db", "first.db"]].concat(),
        &[],
    ));
    let listed = run(&server, &["token", "list", "--db", "first.db"], &[]);
    assert!(listed.stdout.contains("first"), "{}", listed.stdout);

    server.start_again_with(&["--cborrpc-auth", "required"]);
    server
        .connect()
        .value("authenticate", &format!("'{token}'"));
}

#[test]
fn commands_and_workers_show_the_token_in_the_environment_or_in_a_file() {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'ws'}");
    client.add("ws", "['a', {}], ['b', {}]");
    let root = create(&mut client, "root", "'admin'", "");
    let work = create(&mut client, "worker", "'work'", "");
    server.stop();
    server.start_again_with(&["--cborrpc-auth", "required"]);

    let refused = run(&server, &["summary"], &[]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("a token is needed")
            && refused.stderr.contains("COORDINATED_TOKEN"),
        "{}",
        refused.stderr
    );
    let wrong = run(&server, &["summary"], &[("COORDINATED_TOKEN", "cdt_wrong")]);
    assert!(
        wrong.stderr.contains("the token is not known"),
        "{}",
        wrong.stderr
    );
    let right = run(&server, &["summary"], &[("COORDINATED_TOKEN", &root)]);
    assert_eq!(right.code, Some(0), "{}", right.stderr);
    let file = server.folder().join("token");
    fs::write(&file, format!("{root}\n")).unwrap();
    let file = file.display().to_string();
    let by_file = run(&server, &["summary", "--token-file", &file], &[]);
    assert_eq!(by_file.code, Some(0), "{}", by_file.stderr);

    let arguments = ["work", "--spec", "ws", "--until-empty", "--", "true"];
    let worked = run(&server, &arguments, &[("COORDINATED_TOKEN", &work)]);
    assert_eq!(worked.code, Some(0), "{}{}", worked.stdout, worked.stderr);
    let status = run(
        &server,
        &["status", "ws", "--json"],
        &[("COORDINATED_TOKEN", &root)],
    );
    assert!(
        status.stdout.contains("\"num_finished\": 2"),
        "{}",
        status.stdout
    );
}

#[test]
fn a_client_shows_its_token_again_after_each_reconnect() {
    let mut server = Server::start();
    let token = create(&mut server.connect(), "reader", "'read'", "");
    let required = ["--cborrpc-auth", "required"];
    server.stop();
    server.start_again_with(&required);
    let options = Options {
        token: Some(Token::from(token.as_str())),
        ..Options::default()
    };
    let address = server.address().parse().unwrap();
    let mut daemon = Coordinate::new(Connection::open(address, options).unwrap());
    daemon.worker_stats().unwrap();
    server.stop();
    server.start_again_with(&required);
    daemon.worker_stats().unwrap();
    server.stop();
    server.start_again_with(&required);
    daemon.connection().options().token = None;
    let refused = daemon.worker_stats();
    assert!(
        matches!(&refused, Err(Error::Failed { message, .. }) if message.contains("a token is needed")),
        "{refused:?}"
    );
}
