//! docs/sql.md: each query in it runs, and returns something where there is something.

use std::path::PathBuf;
use test_support::{Server, run_to_end};

/// A daemon with what the document's queries look for.
fn furnished() -> Server {
    let mut server = Server::start();
    let mut client = server.connect();
    client.set_spec("{'name': 'cubes'}");
    client.add("cubes", "['n004', {}]");
    client.value(
        "cancel_work_units",
        "'cubes', {'all': true, 'reason': 'not needed', 'by': 'me'}",
    );
    client.set_spec("{'name': 'squares'}");
    client.add(
        "squares",
        "['n001', {'n': 1}], ['n002', {'n': 2}], ['n003', {'n': 3}]",
    );
    client.done(
        "worker_heartbeat",
        "'worker-1', 'RUN', 900, {'hostname': 'host'}, null",
    );
    client.take_key("worker-1", "n001");
    client.updated("squares", "n001", "{'status': 1}");
    client.take_key("worker-1", "n001");
    client.updated(
        "squares",
        "n001",
        "{'status': 4, 'data': {'n': 1, 'square': 1}}",
    );
    client.take_key("worker-1", "n002");
    client.updated(
        "squares",
        "n002",
        "{'status': 5, 'data': {'n': 2, 'traceback': 'Oh'}}",
    );
    client.take_key("worker-1", "n003");
    client.set_spec("{'name': 'visits', 'retries': 3, 'retry_delay': 900}");
    client.add("visits", "['home', {}]");
    client.take_key("worker-1", "home");
    client.updated("visits", "home", "{'status': 5}");
    client.set_spec("{'name': 'reports', 'fair': true}");
    client.add("reports", "['r1', {}, {'group': 'acme'}]");
    // When it stops, it writes what has happened.
    server.stop();
    server.start_again_with(&[]);
    server
}

#[test]
fn each_query_of_the_document_runs_and_returns_something() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/sql.md");
    let document = std::fs::read_to_string(path).expect("docs/sql.md");
    let blocks = document.split("```sql\n").skip(1);
    let queries: Vec<&str> = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    assert!(queries.len() >= 10, "{} queries", queries.len());
    let server = furnished();
    let db = server.db().display().to_string();
    for query in queries {
        let exit = run_to_end(server.folder(), &["sql", "--json", "--db", &db, query], &[]);
        assert_eq!(exit.code, Some(0), "{query}: {}", exit.stderr);
        let first = exit.stdout.lines().next().unwrap_or_default();
        let row: serde_json::Value = serde_json::from_str(first)
            .unwrap_or_else(|error| panic!("{query}: {error}: {}", exit.stdout));
        let row = row.as_object().expect("an object");
        assert!(
            row.values().all(|value| !value.is_null()),
            "{query}: {first}"
        );
    }
}
